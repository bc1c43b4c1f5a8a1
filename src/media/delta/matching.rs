//! Finds what a stretch of a new file has in common with an old one. What is expected is tried
//! first: the block that continues the last match. Only where that fails is the window rolled from
//! byte to byte.

use super::signature::Basis;
use super::sums::Weak;

/// Strong sums made in vain may cost so many times the stretch itself; then the rest of it is
/// taken as it is. Content can be made (or be dull enough) to meet the weak sum everywhere.
const VAIN_FACTOR: usize = 8;

/// So many bytes of the new file, at `at` in the window, are in the old one at `old`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub at: usize,
    pub length: usize,
    pub old: u64,
}

impl Copy {
    pub fn end(&self) -> usize {
        self.at + self.length
    }

    /// What is left of it from `from` on.
    pub fn cut_front(mut self, from: usize) -> Option<Self> {
        let gone = from.saturating_sub(self.at);
        self.length = self.length.checked_sub(gone).filter(|left| *left > 0)?;
        self.at += gone;
        self.old += gone as u64;
        Some(self)
    }
}

/// Looks for matches in one window.
pub(super) struct Matcher<'a> {
    basis: &'a Basis,
    window: &'a [u8],
    copies: Vec<Copy>,
    /// Bytes that may still be summed in vain.
    patience: usize,
}

impl<'a> Matcher<'a> {
    pub fn new(basis: &'a Basis, window: &'a [u8]) -> Self {
        Matcher { basis, window, copies: Vec::new(), patience: 0 }
    }

    /// The matches that begin in `from..to`; the last one may end behind it. `expected` is where
    /// in the old file `from` is likely to be.
    pub fn run(mut self, from: usize, to: usize, expected: u64) -> Vec<Copy> {
        let block_bytes = self.basis.shape.block_bytes as usize;
        self.patience = VAIN_FACTOR * (to - from) + 16 * block_bytes;
        let begin = expected.next_multiple_of(block_bytes as u64);
        let mut next = (begin / block_bytes as u64) as usize;
        let mut at = from + (begin - expected) as usize;
        if at >= to || !self.follow(&mut next, &mut at) {
            at = from;
        }
        while at < to {
            if self.follow(&mut next, &mut at) {
                continue;
            }
            let Some((found, block)) = self.roll(at, to) else { break };
            self.take(found, block);
            (next, at) = (block + 1, found + block_bytes);
        }
        self.copies
    }

    /// Takes the block that should be here, or, if it was rewritten, the one behind it; whether
    /// one of them is there.
    fn follow(&mut self, next: &mut usize, at: &mut usize) -> bool {
        let block_bytes = self.basis.shape.block_bytes as usize;
        for skipped in [0, 1] {
            let (block, place) = (*next + skipped, *at + skipped * block_bytes);
            if self.is_at(block, place) {
                self.take(place, block);
                (*next, *at) = (block + 1, place + self.basis.shape.length(block));
                return true;
            }
        }
        false
    }

    fn is_at(&self, block: usize, at: usize) -> bool {
        let Some(strong) = self.basis.strongs.get(block) else { return false };
        let shape = &self.basis.shape;
        let here = self.window.get(at..at + shape.length(block));
        here.is_some_and(|here| shape.strong.of(here) == *strong)
    }

    fn take(&mut self, at: usize, block: usize) {
        let shape = &self.basis.shape;
        let copy = Copy { at, length: shape.length(block), old: shape.offset(block) };
        match self.copies.last_mut() {
            Some(last) if last.end() == at && last.old + last.length as u64 == copy.old => {
                last.length += copy.length;
            }
            Some(_) | None => self.copies.push(copy),
        }
    }

    /// The first place in `from..to` where a whole block begins, and which.
    fn roll(&mut self, from: usize, to: usize) -> Option<(usize, usize)> {
        let (basis, window) = (self.basis, self.window);
        let block_bytes = basis.shape.block_bytes as usize;
        let mut weak = Weak::of(window.get(from..from + block_bytes)?);
        let pairs = window[from..].iter().zip(&window[from + block_bytes..]);
        let mut at = from;
        let mut look = |at: usize, weak: u32| {
            let strong = || basis.shape.strong.of(&window[at..at + block_bytes]);
            match basis.index.find(weak, strong) {
                Ok(block) => Some(block),
                Err(super::index::InVain) => {
                    self.patience = self.patience.saturating_sub(block_bytes);
                    (self.patience > 0).then_some(None)
                }
            }
        };
        for (gone, new) in pairs.take(to - from) {
            if basis.index.may_have(weak.value())
                && let Some(block) = look(at, weak.value())?
            {
                return Some((at, block));
            }
            weak.roll(*gone, *new);
            at += 1;
        }
        // The last window has nothing behind it to roll to.
        let last = at < to && basis.index.may_have(weak.value());
        last.then(|| look(at, weak.value())).flatten().flatten().map(|block| (at, block))
    }
}

#[cfg(test)]
mod tests {
    use super::super::signature;
    use super::*;
    use std::io::Write;

    #[test]
    fn content_made_to_meet_the_weak_sum_everywhere_is_not_summed_without_end() {
        // One up, two down, one up: both sums of a block stay what they are.
        let mut old = vec![10; 1 << 20];
        old.chunks_mut(2048).for_each(|block| block[1000..1003].copy_from_slice(&[11, 8, 11]));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&old).unwrap();
        let basis = Basis::new(&signature(&file, 1 << 20, 1).unwrap()).unwrap();
        let new = vec![10; 1 << 20];
        let mut matcher = Matcher::new(&basis, &new);
        matcher.patience = 100 * 2048;
        assert_eq!(matcher.roll(0, new.len()), None);
        assert_eq!(matcher.patience, 0);
    }

    #[test]
    fn a_copy_is_cut_where_another_one_ends() {
        let copy = Copy { at: 10, length: 20, old: 1000 };
        assert_eq!(copy.cut_front(5), Some(copy));
        assert_eq!(copy.cut_front(12), Some(Copy { at: 12, length: 18, old: 1002 }));
        assert_eq!(copy.cut_front(30), None);
        assert_eq!(copy.cut_front(99), None);
    }
}
