//! The signature of a file: a head and the two sums of each of its blocks, which are of one size.
//! It is made in parallel, of pieces that are read on their own; block size and sums are chosen so
//! that signature and delta together are small.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use rayon::prelude::*;

use super::index::Index;
use super::sums::{Strong, Weak};

const MAGIC: [u8; 4] = *b"tsd1";
const WEAK_BYTES: usize = 4;
pub(super) const HEAD_BYTES: usize = MAGIC.len() + 4 + 1 + 8 + 8;
const BLOCK_BYTES_MIN: u32 = 2 * 1024;
pub(super) const BLOCK_BYTES_MAX: u32 = 4 << 20;
/// Bounds the memory of whoever compares; larger files get larger blocks.
pub(super) const BLOCKS_MAX: u64 = 1 << 21;
const STRONG_BYTES_MIN: usize = 3;
pub(super) const STRONG_BYTES_MAX: usize = 8;
/// Of the chance that a file is sent in vain because a sum lied: 2^-16.
const SPARE_BITS: u32 = 16;
/// How many of the weak sum's bits tell blocks apart.
const WEAK_BITS: u32 = 28;
/// About how much one task reads at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What a new file is compared with: the blocks of the old one.
pub struct Basis {
    pub(super) shape: Shape,
    /// Of each block, in order.
    pub(super) strongs: Vec<u64>,
    pub(super) index: Index,
    /// The new file is written into the old one: what lies before where it goes is gone by then.
    pub in_place: bool,
}

/// A signature that does not hold together.
#[derive(Debug, thiserror::Error)]
#[error("the signature is damaged")]
pub struct BadSignature;

/// How a file is cut into blocks and summed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub file_bytes: u64,
    pub block_bytes: u32,
    pub strong: Strong,
}

impl Shape {
    /// A quarter of the root of the size: smaller blocks than rsync's, since a change costs a
    /// block of literal bytes, and a block of signature only a few.
    fn of(file_bytes: u64, seed: u64) -> io::Result<Self> {
        let root = (file_bytes.isqrt() / 4).max(file_bytes.div_ceil(BLOCKS_MAX));
        let block_bytes = root.next_multiple_of(1024).max(u64::from(BLOCK_BYTES_MIN));
        if block_bytes > u64::from(BLOCK_BYTES_MAX) {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let blocks = file_bytes.div_ceil(block_bytes);
        // Any window of the new file may meet any block of the old one.
        let chances = file_bytes.max(2).ilog2() + blocks.max(2).ilog2() + 2;
        let bits = (chances + SPARE_BITS).saturating_sub(WEAK_BITS);
        let bytes = (bits.div_ceil(8) as usize).clamp(STRONG_BYTES_MIN, STRONG_BYTES_MAX);
        let strong = Strong { seed, bytes };
        Ok(Shape { file_bytes, block_bytes: block_bytes as u32, strong })
    }

    pub fn head(&self) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&self.block_bytes.to_be_bytes());
        head.push(self.strong.bytes as u8);
        head.extend_from_slice(&self.strong.seed.to_be_bytes());
        head.extend_from_slice(&self.file_bytes.to_be_bytes());
        head
    }

    /// The shape that `head` tells, if it is one that we would have chosen or could have.
    pub fn read(head: &[u8; HEAD_BYTES]) -> Result<Self, BadSignature> {
        let number =
            |from: usize, to: usize| head[from..to].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let block_bytes = u32::try_from(number(4, 8)).map_err(|_| BadSignature)?;
        let strong = Strong { bytes: usize::from(head[8]), seed: number(9, 17) };
        let shape = Shape { file_bytes: number(17, 25), block_bytes, strong };
        let plausible = head[..4] == MAGIC
            && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block_bytes)
            && (STRONG_BYTES_MIN..=STRONG_BYTES_MAX).contains(&strong.bytes)
            && shape.blocks() <= BLOCKS_MAX;
        if plausible { Ok(shape) } else { Err(BadSignature) }
    }

    pub fn sum_bytes(&self) -> usize {
        WEAK_BYTES + self.strong.bytes
    }

    pub fn blocks(&self) -> u64 {
        self.file_bytes.div_ceil(u64::from(self.block_bytes))
    }

    pub fn offset(&self, block: usize) -> u64 {
        block as u64 * u64::from(self.block_bytes)
    }

    /// How long a block is: the last one may be shorter.
    pub fn length(&self, block: usize) -> usize {
        (self.file_bytes - self.offset(block)).min(u64::from(self.block_bytes)) as usize
    }

    /// The sums of the blocks in `piece`, which begins with one.
    pub fn sums(&self, piece: &[u8]) -> Vec<u8> {
        let block_bytes = self.block_bytes as usize;
        let mut sums = Vec::with_capacity(piece.len().div_ceil(block_bytes) * self.sum_bytes());
        for block in piece.chunks(block_bytes) {
            sums.extend_from_slice(&Weak::of(block).value().to_be_bytes());
            let strong = self.strong.of(block).to_be_bytes();
            sums.extend_from_slice(&strong[strong.len() - self.strong.bytes..]);
        }
        sums
    }
}

/// The signature of the first `file_bytes` of `file`; `seed` should be one that nobody knows.
pub fn signature(file: &File, file_bytes: u64, seed: u64) -> io::Result<Bytes> {
    let shape = Shape::of(file_bytes, seed)?;
    let block_bytes = shape.block_bytes as usize;
    let step = PIECE_BYTES.next_multiple_of(block_bytes);
    let pieces: Vec<u64> = (0..file_bytes).step_by(step).collect();
    let parts: Vec<Vec<u8>> = pieces
        .into_par_iter()
        .map_init(Vec::new, |buffer: &mut Vec<u8>, offset| {
            buffer.resize(step, 0);
            let length = (file_bytes - offset).min(step as u64) as usize;
            file.read_exact_at(&mut buffer[..length], offset)?;
            Ok(shape.sums(&buffer[..length]))
        })
        .collect::<io::Result<_>>()?;
    let mut signature = shape.head();
    signature.reserve_exact(parts.iter().map(Vec::len).sum());
    parts.iter().for_each(|part| signature.extend_from_slice(part));
    Ok(signature.into())
}

impl Basis {
    /// Checks a signature that came from elsewhere, before anything is made of it.
    pub fn new(signature: &[u8]) -> Result<Self, BadSignature> {
        let (head, sums) = signature.split_first_chunk().ok_or(BadSignature)?;
        let shape = Shape::read(head)?;
        if shape.blocks() * shape.sum_bytes() as u64 != sums.len() as u64 {
            return Err(BadSignature);
        }
        let sums = sums.chunks_exact(shape.sum_bytes()).map(|sum| {
            let (weak, strong) = sum.split_at(WEAK_BYTES);
            (number(weak) as u32, number(strong))
        });
        let strongs: Vec<u64> = sums.clone().map(|(_, strong)| strong).collect();
        // A short last block is met only behind its neighbour, never by rolling.
        let whole = shape.file_bytes / u64::from(shape.block_bytes);
        let index = Index::new(sums.take(whole as usize));
        Ok(Basis { shape, strongs, index, in_place: false })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
