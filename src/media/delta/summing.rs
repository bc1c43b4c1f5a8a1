//! The signature of a file that goes by once, on its way to a place where it cannot be read back.
//! Its blocks are those that a server copies without lying about it (whole ones of 64 KiB or a
//! multiple), and its sums are as strong as they come, because no hash of the whole follows.

use bytes::Bytes;

use super::signature::{
    BLOCK_BYTES_MAX, BLOCKS_MAX, BadSignature, HEAD_BYTES, STRONG_BYTES_MAX, Shape,
};
use super::sums::Strong;

const BLOCK_BYTES: u64 = 64 * 1024;

/// A signature in the making.
pub(crate) struct Summing {
    shape: Shape,
    /// Of a block that is not whole yet.
    partial: Vec<u8>,
    sums: Vec<u8>,
}

/// The sums of an old file, to be taken over where it is copied.
pub(crate) struct Sums {
    shape: Shape,
    signature: Bytes,
}

impl Sums {
    pub fn new(signature: Bytes) -> Result<Self, BadSignature> {
        let head = signature.first_chunk().ok_or(BadSignature)?;
        let shape = Shape::read(head)?;
        let whole =
            (signature.len() - HEAD_BYTES) as u64 == shape.blocks() * shape.sum_bytes() as u64;
        let ours = u64::from(shape.block_bytes).is_multiple_of(BLOCK_BYTES)
            && shape.file_bytes.is_multiple_of(u64::from(shape.block_bytes));
        if whole && ours { Ok(Sums { shape, signature }) } else { Err(BadSignature) }
    }

    /// How long the blocks are, of which alone copies consist.
    pub fn block_bytes(&self) -> u64 {
        self.shape.block_bytes.into()
    }

    /// Up to where there are blocks.
    pub fn end(&self) -> u64 {
        self.shape.file_bytes
    }

    /// A signature for a file that is made of this one. `None` if it needs other blocks.
    pub fn summing(&self, file_bytes: u64) -> Option<Summing> {
        let summing = Summing::new(file_bytes, self.shape.strong.seed)?;
        (summing.shape.block_bytes == self.shape.block_bytes).then_some(summing)
    }
}

impl Summing {
    /// `None` for a file that is too long. `seed` should be one that nobody knows.
    pub fn new(file_bytes: u64, seed: u64) -> Option<Self> {
        let block_bytes = file_bytes.div_ceil(BLOCKS_MAX).max(1).next_multiple_of(BLOCK_BYTES);
        if block_bytes > u64::from(BLOCK_BYTES_MAX) {
            return None;
        }
        // A rest is never copied, so it has no sum.
        let file_bytes = file_bytes - file_bytes % block_bytes;
        let strong = Strong { seed, bytes: STRONG_BYTES_MAX };
        let shape = Shape { file_bytes, block_bytes: block_bytes as u32, strong };
        Some(Summing { shape, partial: Vec::new(), sums: Vec::new() })
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        let block_bytes = self.shape.block_bytes as usize;
        if !self.partial.is_empty() {
            let more = bytes.len().min(block_bytes - self.partial.len());
            self.partial.extend_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            if self.partial.len() < block_bytes {
                return;
            }
            self.sums.extend(self.shape.sums(&self.partial));
            self.partial.clear();
        }
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % block_bytes);
        self.sums.extend(self.shape.sums(whole));
        self.partial.extend_from_slice(rest);
    }

    /// Takes over blocks of the old file. Whether it could: a block that is part old and part new
    /// would have to be read.
    pub fn copy(&mut self, old: &Sums, offset: u64, length: u64) -> bool {
        let (block, sum_bytes) = (old.block_bytes(), old.shape.sum_bytes());
        let aligned = offset.is_multiple_of(block) && length.is_multiple_of(block);
        if !self.partial.is_empty() || !aligned {
            return false;
        }
        let from = HEAD_BYTES + (offset / block) as usize * sum_bytes;
        let sums = old.signature.get(from..from + (length / block) as usize * sum_bytes);
        self.sums.extend_from_slice(sums.unwrap_or_default());
        sums.is_some()
    }

    /// Of a part, the sums alone.
    pub fn into_sums(self) -> Vec<u8> {
        self.sums
    }

    /// `None` if it is not of as many bytes as were announced.
    pub fn finish(self) -> Option<Bytes> {
        let all = self.shape.blocks() as usize * self.shape.sum_bytes();
        (self.sums.len() == all).then(|| [self.shape.head(), self.sums].concat().into())
    }
}

/// How a file is summed whose parts go by in any order.
pub(crate) struct PartSums(Shape);

impl PartSums {
    /// `None` if a block would be of two parts, which all but the last are so long.
    pub fn new(file_bytes: u64, part_bytes: u64, seed: u64) -> Option<Self> {
        let Summing { shape, .. } = Summing::new(file_bytes, seed)?;
        part_bytes.is_multiple_of(shape.block_bytes.into()).then_some(PartSums(shape))
    }

    pub fn seed(&self) -> u64 {
        self.0.strong.seed
    }

    /// How long the sums of a part of so many bytes are.
    pub fn sums_bytes(&self, part_bytes: u64) -> usize {
        (part_bytes / u64::from(self.0.block_bytes)) as usize * self.0.sum_bytes()
    }

    /// For one part, of so many bytes.
    pub fn summing(&self, part_bytes: u64) -> Summing {
        let rest_bytes = part_bytes % u64::from(self.0.block_bytes);
        let shape = Shape { file_bytes: part_bytes - rest_bytes, ..self.0 };
        Summing { shape, partial: Vec::new(), sums: Vec::new() }
    }

    /// The signature of the file whose parts have these sums. `None` if some are missing.
    pub fn join<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> Option<Bytes> {
        let mut signature = self.0.head();
        parts.for_each(|sums| signature.extend_from_slice(sums));
        let all = self.0.blocks() as usize * self.0.sum_bytes();
        (signature.len() == HEAD_BYTES + all).then(|| signature.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn summed(content: &[u8], piece_bytes: usize) -> Bytes {
        let mut summing = Summing::new(content.len() as u64, 7).unwrap();
        content.chunks(piece_bytes).for_each(|piece| summing.push(piece));
        summing.finish().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_of_any_size_give_the_same_and_copies_take_over_the_sums(
            bytes in 1_usize..500_000,
            piece_bytes in 1_usize..200_000,
            copied in 0_u64..7,
        ) {
            let content: Vec<u8> = (0..bytes).map(|at| ((at * at) >> 7) as u8).collect();
            let whole = summed(&content, bytes);
            prop_assert_eq!(&summed(&content, piece_bytes), &whole);
            let old = Sums::new(whole.clone()).unwrap();
            let copied = (copied * BLOCK_BYTES).min(old.end());
            let mut again = old.summing(bytes as u64).unwrap();
            prop_assert!(copied == 0 || again.copy(&old, 0, copied));
            again.push(&content[copied as usize..]);
            prop_assert_eq!(again.finish().unwrap(), whole);
        }
    }

    #[test]
    fn sums_of_parts_make_the_signature_of_the_file() {
        let content: Vec<u8> = (0..500_000_usize).map(|at| ((at * at) >> 5) as u8).collect();
        let parts = PartSums::new(500_000, 2 * BLOCK_BYTES, 7).unwrap();
        let sums = |part: &[u8]| {
            let mut summing = parts.summing(part.len() as u64);
            part.chunks(30_000).for_each(|piece| summing.push(piece));
            let sums = summing.into_sums();
            assert_eq!(sums.len(), parts.sums_bytes(part.len() as u64));
            sums
        };
        let mut all: Vec<Vec<u8>> = content.chunks(2 * BLOCK_BYTES as usize).map(sums).collect();
        let joined = parts.join(all.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(joined, summed(&content, 500_000));
        all.pop();
        assert_eq!(parts.join(all.iter().map(Vec::as_slice)), None);
        assert!(PartSums::new(500_000, 2 * BLOCK_BYTES + 1, 7).is_none());
    }

    #[test]
    fn a_block_that_is_part_old_and_part_new_has_no_sum() {
        let old = Sums::new(summed(&[3; 200_000], 200_000)).unwrap();
        let mut summing = old.summing(200_000).unwrap();
        summing.push(b"shifted");
        assert!(!summing.copy(&old, 0, BLOCK_BYTES));
        assert!(summing.finish().is_none());
    }
}
