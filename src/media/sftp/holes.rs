//! Content without its long runs of zeros, which need not be written to a new file.

use bytes::Bytes;

/// Shorter runs are written: each one costs a request that might have been one with its neighbours.
const RUN_BYTES: usize = 64 * 1024;

/// The parts of `content` to write, and where in it they begin. What is left out is zero.
pub(super) fn written(content: &Bytes) -> Vec<(usize, Bytes)> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (number, run) in content.chunks(RUN_BYTES).enumerate() {
        let at = number * RUN_BYTES;
        if run.len() == RUN_BYTES && run.iter().all(|byte| *byte == 0) {
            if begin < at {
                parts.push((begin, content.slice(begin..at)));
            }
            begin = at + RUN_BYTES;
        }
    }
    if begin < content.len() {
        parts.push((begin, content.slice(begin..)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_of_zeros_are_left_out() {
        let run = |byte: u8| vec![byte; RUN_BYTES];
        let content = Bytes::from([run(0), run(1), run(0), run(0), run(2), vec![0; 9]].concat());
        let parts = written(&content);
        let places: Vec<(usize, usize)> =
            parts.iter().map(|(at, part)| (*at, part.len())).collect();
        assert_eq!(places, [(RUN_BYTES, RUN_BYTES), (4 * RUN_BYTES, RUN_BYTES + 9)]);
        assert_eq!(written(&Bytes::from(run(0))), []);
        assert_eq!(written(&Bytes::new()), []);
    }
}
