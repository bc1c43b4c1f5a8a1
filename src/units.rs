//! Sizes, rates and durations as people read them.

use std::fmt;
use std::time::Duration;

/// A number of bytes that prints in binary units: `3.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut size = self.0 as f64;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        let text = match unit {
            0 => format!("{} B", self.0),
            _ if size < 10.0 => format!("{size:.1} {}", UNITS[unit]),
            _ => format!("{size:.0} {}", UNITS[unit]),
        };
        out.pad(&text)
    }
}

/// A time span with the precision that matters at its size: `840 ms`, `12.4 s`, `3 min 20 s`.
pub fn duration(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0 => format!("{} ms", span.as_millis()),
        1..=59 => format!("{:.1} s", span.as_secs_f64()),
        60..=3599 => format!("{} min {} s", secs / 60, secs % 60),
        _ => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
    }
}

/// A count with thousands separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 file`, `2,000 files`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let texts: Vec<String> = [0, 1023, 1024, 10 * 1024, 3_758_096_384, u64::MAX]
            .map(|size| Bytes(size).to_string())
            .into();
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "10 KiB", "3.5 GiB", "16384 PiB"]);
    }

    #[test]
    fn spans_read_well() {
        let texts: Vec<String> = [840, 12_440, 200_000, 7_380_000]
            .map(|millis| duration(Duration::from_millis(millis)))
            .into();
        assert_eq!(texts, ["840 ms", "12.4 s", "3 min 20 s", "2 h 3 min"]);
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(100_000, "row"), "100,000 rows");
    }
}
