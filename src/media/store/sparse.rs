//! Writes a file with holes where it is all zeros, which then take no room.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Runs of zeros are looked for in blocks of this size, at its multiples: file systems keep no
/// smaller holes.
const BLOCK_BYTES: u64 = 4096;

/// Less is hashed and written by one thread: handing it over would cost more.
const APART_BYTES_MIN: usize = 512 * 1024;

/// Both at once where there is enough to do.
pub(super) fn hash_and_write(
    hasher: &mut blake3::Hasher,
    file: &mut File,
    sparse: &mut Option<Sparse>,
    part: &[u8],
) -> io::Result<()> {
    if part.len() < APART_BYTES_MIN {
        hasher.update(part);
        return write(file, sparse, part);
    }
    rayon::join(|| write(file, sparse, part), || hasher.update(part)).0
}

fn write(file: &mut File, sparse: &mut Option<Sparse>, part: &[u8]) -> io::Result<()> {
    match sparse {
        Some(sparse) => sparse.write(file, part),
        None => file.write_all(part),
    }
}

/// Where a file that is written front to back has come to.
#[derive(Debug)]
pub(super) struct Sparse {
    at: u64,
    /// Something may be there already, which a hole must not leave.
    used: bool,
    /// It ends with a hole, and may be shorter than it should be.
    open: bool,
}

impl Sparse {
    pub fn new(at: u64, used: bool) -> Self {
        Sparse { at, used, open: false }
    }

    /// Writes what comes next.
    pub fn write(&mut self, file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (length, zero) = run(self.at, bytes);
            let (part, rest) = bytes.split_at(length);
            if zero {
                self.hole(file, part)?;
            } else {
                file.write_all(part)?;
            }
            (self.at, self.open, bytes) = (self.at + length as u64, zero, rest);
        }
        Ok(())
    }

    /// Leaves what is there.
    pub fn pass(&mut self, bytes: usize) {
        (self.at, self.open) = (self.at + bytes as u64, false);
    }

    /// Gives the file the length it has come to.
    pub fn finish(&self, file: &File) -> io::Result<()> {
        if self.open { file.set_len(self.at) } else { Ok(()) }
    }

    /// Gives the file the length it has come to, at least: others may be making it longer at the
    /// same time.
    pub fn finish_part(&self, file: &File) -> io::Result<()> {
        if self.open { file.write_all_at(&[0], self.at - 1) } else { Ok(()) }
    }

    fn hole(&self, file: &mut File, zeros: &[u8]) -> io::Result<()> {
        if self.used {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&*file, flags, self.at, zeros.len() as u64) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return file.write_all(zeros),
                Err(error) => return Err(error.into()),
            }
        }
        file.seek(SeekFrom::Current(zeros.len() as i64)).map(drop)
    }
}

/// How far `bytes`, which come at `at`, are blocks of zeros or have no such block, and which.
fn run(at: u64, bytes: &[u8]) -> (usize, bool) {
    let mut length = 0;
    let mut zero = None;
    while length < bytes.len() {
        let here = at + length as u64;
        let to_next = (BLOCK_BYTES - here % BLOCK_BYTES) as usize;
        let block = &bytes[length..bytes.len().min(length + to_next)];
        let is_zero = is_zero(block);
        if *zero.get_or_insert(is_zero) != is_zero {
            break;
        }
        length += block.len();
    }
    (length, zero.unwrap_or(false))
}

fn is_zero(bytes: &[u8]) -> bool {
    // By the word: many times as fast as byte by byte.
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().fold(0, |all, word| all | u128::from_ne_bytes(*word)) == 0
        && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The law: what is written with holes reads like what is written without, whatever was
        /// there before and in whatever pieces it comes.
        #[test]
        fn holes_read_as_zeros(
            runs in prop::collection::vec((any::<bool>(), 1_usize..20_000), 0..8),
            piece in 1_usize..30_000,
            used in any::<bool>(),
        ) {
            let mut content = Vec::new();
            for (zero, length) in runs {
                content.extend(std::iter::repeat_n(if zero { 0 } else { 7 }, length));
            }
            let mut file = tempfile::tempfile().unwrap();
            if used {
                file.write_all(&vec![9; content.len() / 2]).unwrap();
                file.rewind().unwrap();
            }
            let mut sparse = Sparse::new(0, used);
            for piece in content.chunks(piece) {
                sparse.write(&mut file, piece).unwrap();
            }
            if used {
                sparse.finish_part(&file).unwrap();
            } else {
                sparse.finish(&file).unwrap();
            }
            let mut read = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut read).unwrap();
            prop_assert!(read == content);
        }
    }
}
