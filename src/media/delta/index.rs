//! Finds blocks by their sums. Most windows of a file match nothing, so a bitmap that fits into
//! the cache answers for them; what passes it is looked up in a sorted table, where many blocks
//! with one weak sum cost no more than few.

use rayon::prelude::*;

/// Bits of the bitmap for each block: about one window in 64 passes in vain. Measured: fewer cost
/// more in look-ups than the smaller bitmap saves.
const FILTER_BITS_PER_BLOCK: usize = 64;

pub(super) struct Index {
    filter: Vec<u64>,
    /// Where the blocks of each group of weak sums begin in `entries`.
    groups: Vec<u32>,
    entries: Vec<Entry>,
    filter_shift: u32,
    group_shift: u32,
}

/// Sorted by mixed weak sum, strong sum, number.
#[derive(Clone, Copy, Debug)]
struct Entry {
    mixed: u32,
    block: u32,
    strong: u64,
}

/// Spreads weak sums, whose bits are not equally likely, over all numbers. One to one.
#[inline]
fn mix(weak: u32) -> u32 {
    (weak ^ weak >> 15).wrapping_mul(0x9e37_79b1)
}

impl Index {
    /// Of blocks with these weak and strong sums, in order.
    pub fn new(sums: impl Iterator<Item = (u32, u64)>) -> Self {
        let numbered = sums.zip(0_u32..);
        let entry = |((weak, strong), block)| Entry { mixed: mix(weak), block, strong };
        let mut entries: Vec<Entry> = numbered.map(entry).collect();
        entries.par_sort_unstable_by_key(|entry| (entry.mixed, entry.strong, entry.block));
        let filter_bits = (entries.len() * FILTER_BITS_PER_BLOCK).next_power_of_two().max(64);
        let group_bits = entries.len().next_power_of_two().max(2).ilog2();
        let mut index = Index {
            filter: vec![0; filter_bits / 64],
            groups: vec![0; (1 << group_bits) + 1],
            filter_shift: u32::BITS - filter_bits.ilog2(),
            group_shift: u32::BITS - group_bits,
            entries,
        };
        for entry in &index.entries {
            let bit = (entry.mixed >> index.filter_shift) as usize;
            index.filter[bit / 64] |= 1 << (bit % 64);
            index.groups[(entry.mixed >> index.group_shift) as usize + 1] += 1;
        }
        let mut end = 0;
        for group in &mut index.groups {
            end += *group;
            *group = end;
        }
        index
    }

    /// Whether a block with the sum `weak` is likely: whether to look it up.
    #[inline]
    pub fn may_have(&self, weak: u32) -> bool {
        let bit = (mix(weak) >> self.filter_shift) as usize;
        self.filter[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// The first block with both sums; the strong one is made only if it is needed. `Err` if it
    /// was made in vain.
    pub fn find(&self, weak: u32, strong: impl FnOnce() -> u64) -> Result<Option<usize>, InVain> {
        let mixed = mix(weak);
        let group = (mixed >> self.group_shift) as usize;
        let entries = &self.entries[self.groups[group] as usize..self.groups[group + 1] as usize];
        let from = entries.partition_point(|entry| entry.mixed < mixed);
        if entries.get(from).is_none_or(|entry| entry.mixed != mixed) {
            return Ok(None);
        }
        let strong = strong();
        let at = entries.partition_point(|entry| (entry.mixed, entry.strong) < (mixed, strong));
        match entries.get(at) {
            Some(entry) if (entry.mixed, entry.strong) == (mixed, strong) => {
                Ok(Some(entry.block as usize))
            }
            Some(_) | None => Err(InVain),
        }
    }
}

/// A strong sum was made and matched nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InVain;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_blocks_is_found_and_strong_sums_are_made_only_where_they_may_decide() {
        let sums = [(7, 70), (9, 90), (7, 71), (7, 70), (9, 12)];
        let index = Index::new(sums.into_iter());
        assert_eq!(index.find(7, || 71), Ok(Some(2)));
        assert_eq!(index.find(7, || 70), Ok(Some(0)));
        assert_eq!(index.find(9, || 12), Ok(Some(4)));
        assert_eq!(index.find(9, || 70), Err(InVain));
        assert_eq!(index.find(8, || panic!("made for nothing")), Ok(None));
        assert!(index.may_have(7) && index.may_have(9));
        let empty = Index::new(std::iter::empty());
        assert!(!empty.may_have(7));
        assert_eq!(empty.find(7, || panic!("made for nothing")), Ok(None));
    }
}
