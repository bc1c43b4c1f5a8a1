//! Which parts of a large file an earlier run has brought to the target: each is told by the hash
//! that it had then, and the source need not send one that still has it. The target itself decides
//! in the end what it takes for granted; this only spares the way.

use bytes::{BufMut, Bytes, BytesMut};

const MAGIC: [u8; 8] = *b"tskept1\0";
const HASH_BYTES: usize = 32;
/// Whether the part is there, and its hash.
const PART_BYTES: usize = 1 + HASH_BYTES;

/// The chaining values of parts, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept(Vec<Option<[u8; HASH_BYTES]>>);

impl Kept {
    /// `None` if there is nothing.
    pub fn new(parts: Vec<Option<[u8; HASH_BYTES]>>) -> Option<Self> {
        parts.iter().any(Option::is_some).then_some(Kept(parts))
    }

    pub fn get(&self, index: u32) -> Option<[u8; HASH_BYTES]> {
        self.0.get(index as usize).copied().flatten()
    }

    /// As an answer to whoever asks for the signature of what is left of the file.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(MAGIC.len() + self.0.len() * PART_BYTES);
        bytes.put_slice(&MAGIC);
        for part in &self.0 {
            bytes.put_u8(part.is_some().into());
            bytes.put_slice(&part.unwrap_or_default());
        }
        bytes.freeze()
    }

    /// `None` if it is something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let parts = bytes.strip_prefix(&MAGIC[..])?.chunks(PART_BYTES);
        let part = |part: &[u8]| {
            let (there, hash) = part.split_first()?;
            let hash = hash.try_into().ok()?;
            Some((*there == 1).then_some(hash))
        };
        Kept::new(parts.map(part).collect::<Option<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_told_and_nothing_else_is_taken_for_it() {
        let kept = Kept::new(vec![Some([7; 32]), None, Some([9; 32])]).unwrap();
        let bytes = kept.encode();
        assert_eq!(Kept::decode(&bytes), Some(kept.clone()));
        assert_eq!((kept.get(0), kept.get(1), kept.get(3)), (Some([7; 32]), None, None));
        assert_eq!(Kept::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Kept::decode(b"a signature"), None);
        assert_eq!(Kept::new(vec![None, None]), None);
    }
}
