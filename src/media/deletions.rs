//! What is to be removed at the end of a pass: a list that is written in the order of the walk
//! and read backwards, so that what is in a directory goes before it. Kept as bytes in one
//! buffer, which is bounded.

use super::compare::Deletion;

/// The longest list. What does not fit is left for the next pass.
const BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Default)]
pub(crate) struct Deletions {
    bytes: Vec<u8>,
    /// How many files and directories are on the list or were left off it.
    pub entries: u64,
    /// How many of them were left off.
    pub left: u64,
}

impl Deletions {
    pub fn push(&mut self, deletion: &Deletion) -> Result<(), postcard::Error> {
        let counts = matches!(deletion, Deletion::File(_) | Deletion::Dir(_));
        self.entries += u64::from(counts);
        if self.bytes.len() >= BYTES_MAX {
            self.left += u64::from(counts);
            return Ok(());
        }
        let record = postcard::to_stdvec(deletion)?;
        self.bytes.extend_from_slice(&record);
        self.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        Ok(())
    }

    /// The list from its end to its beginning.
    pub fn backwards(&self) -> impl Iterator<Item = Deletion> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (before, length) = rest.split_last_chunk::<4>()?;
            let start = before.len().checked_sub(u32::from_le_bytes(*length) as usize)?;
            let record = &before[start..];
            rest = &before[..start];
            postcard::from_bytes(record).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::path::RelPath;

    #[test]
    fn what_was_written_last_is_read_first() {
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let list = [
            Deletion::Restore(RelPath::root(), Default::default()),
            Deletion::Dir(path("a")),
            Deletion::File(path("a/b")),
        ];
        let mut deletions = Deletions::default();
        for deletion in &list {
            deletions.push(deletion).unwrap();
        }
        let mut read: Vec<Deletion> = deletions.backwards().collect();
        read.reverse();
        assert_eq!(read, list);
        assert_eq!(deletions.entries, 2);
    }
}
