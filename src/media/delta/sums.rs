//! The two sums of a block. The weak one can be rolled from byte to byte; it only says where to
//! look. The strong one decides: XXH3 with a secret seed that the signature's maker draws anew for
//! each file, so that nobody who can upload a file can craft two blocks that pass for each other.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Columns that are summed side by side: so the compiler makes vector code of it.
const LANES: usize = 64;

/// The weak sum of a window of bytes: that of rsync, two sums modulo 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weak {
    plain: u16,
    weighted: u16,
    window_bytes: u16,
}

impl Weak {
    pub fn of(window: &[u8]) -> Self {
        // A byte counts once for each byte from it to the end. In rows of LANES bytes that is
        // what the sums of the columns so far add up to, less its place in the row.
        let (mut columns, mut heights) = ([0_u16; LANES], [0_u16; LANES]);
        let (rows, rest) = window.as_chunks::<LANES>();
        for row in rows {
            for lane in 0..LANES {
                columns[lane] = columns[lane].wrapping_add(u16::from(row[lane]));
                heights[lane] = heights[lane].wrapping_add(columns[lane]);
            }
        }
        let (mut plain, mut weighted) = (0_u16, 0_u16);
        for lane in 0..LANES {
            let inside = columns[lane].wrapping_mul(lane as u16);
            let whole = heights[lane].wrapping_mul(LANES as u16);
            weighted = weighted.wrapping_add(whole.wrapping_sub(inside));
            plain = plain.wrapping_add(columns[lane]);
        }
        for byte in rest {
            plain = plain.wrapping_add(u16::from(*byte));
            weighted = weighted.wrapping_add(plain);
        }
        Weak { plain, weighted, window_bytes: window.len() as u16 }
    }

    /// The sum of the window that begins one byte later.
    #[inline]
    pub fn roll(&mut self, gone: u8, new: u8) {
        let (gone, new) = (u16::from(gone), u16::from(new));
        self.plain = self.plain.wrapping_sub(gone).wrapping_add(new);
        let weighted = self.weighted.wrapping_sub(self.window_bytes.wrapping_mul(gone));
        self.weighted = weighted.wrapping_add(self.plain);
    }

    #[inline]
    pub fn value(self) -> u32 {
        u32::from(self.weighted) << 16 | u32::from(self.plain)
    }
}

/// How strong sums are made: with which seed, and how many of their bytes are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strong {
    pub seed: u64,
    pub bytes: usize,
}

impl Strong {
    pub fn of(self, block: &[u8]) -> u64 {
        let unused_bits = u64::BITS - 8 * self.bytes as u32;
        xxh3_64_with_seed(block, self.seed) << unused_bits >> unused_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The law: rolled to a window, the sum is that of the window.
        #[test]
        fn rolling_is_summing(
            bytes in prop::collection::vec(any::<u8>(), 300..700), window in 1_usize..300,
        ) {
            let mut rolled = Weak::of(&bytes[..window]);
            for start in 1..bytes.len() - window {
                rolled.roll(bytes[start - 1], bytes[start + window - 1]);
                prop_assert_eq!(rolled, Weak::of(&bytes[start..start + window]));
            }
        }
    }
}
