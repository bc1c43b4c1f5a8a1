//! The format of a packed stream, block by block, without I/O.

use std::io;

use zstd::stream::raw::{CParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

use super::{PackOptions, PackStats, UnpackError};

const MAGIC: [u8; 4] = *b"THP1";
const DIGEST_BYTES: usize = 32;
const TRAILER_BYTES: usize = DIGEST_BYTES + 8;
const OUT_BYTES: usize = 256 * 1024;

/// Takes a full buffer.
type Emit<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Plain bytes in, packed ones out.
pub(super) struct Packer {
    encoder: Encoder<'static>,
    digest: blake3::Hasher,
    out: Vec<u8>,
    filled: usize,
    stats: PackStats,
}

impl Packer {
    pub fn new(options: PackOptions) -> io::Result<Self> {
        let mut encoder = Encoder::new(options.level)?;
        encoder.set_parameter(CParameter::NbWorkers(options.workers))?;
        let mut out = vec![0; OUT_BYTES];
        out[..MAGIC.len()].copy_from_slice(&MAGIC);
        let filled = MAGIC.len();
        let (digest, stats) = (blake3::Hasher::new(), PackStats::default());
        Ok(Packer { encoder, digest, out, filled, stats })
    }

    pub fn push(&mut self, plain: &[u8], emit: &mut Emit<'_>) -> io::Result<()> {
        self.digest.update(plain);
        self.stats.plain_bytes += plain.len() as u64;
        let mut input = InBuffer::around(plain);
        while input.pos() < plain.len() {
            let mut output = OutBuffer::around_pos(self.out.as_mut_slice(), self.filled);
            self.encoder.run(&mut input, &mut output)?;
            self.filled = output.pos();
            self.emit_if_full(emit)?;
        }
        Ok(())
    }

    /// Ends the frame and adds the proof of the end.
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> io::Result<()> {
        loop {
            let mut output = OutBuffer::around_pos(self.out.as_mut_slice(), self.filled);
            let left = self.encoder.finish(&mut output, true)?;
            self.filled = output.pos();
            if left == 0 {
                break;
            }
            self.emit_if_full(emit)?;
        }
        self.emit_all(emit)?;
        self.out[..DIGEST_BYTES].copy_from_slice(self.digest.finalize().as_bytes());
        let length = self.stats.plain_bytes.to_le_bytes();
        self.out[DIGEST_BYTES..TRAILER_BYTES].copy_from_slice(&length);
        self.filled = TRAILER_BYTES;
        self.emit_all(emit)
    }

    pub fn stats(&self) -> PackStats {
        self.stats
    }

    fn emit_if_full(&mut self, emit: &mut Emit<'_>) -> io::Result<()> {
        if self.filled == self.out.len() { self.emit_all(emit) } else { Ok(()) }
    }

    fn emit_all(&mut self, emit: &mut Emit<'_>) -> io::Result<()> {
        if self.filled > 0 {
            emit(&self.out[..self.filled])?;
            self.stats.packed_bytes += self.filled as u64;
            self.filled = 0;
        }
        Ok(())
    }
}

/// Packed bytes in, plain ones out.
pub(super) struct Unpacker {
    decoder: Decoder<'static>,
    digest: blake3::Hasher,
    part: Part,
    /// The bytes of the magic or the trailer so far.
    fixed: Vec<u8>,
    out: Vec<u8>,
    plain_bytes: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Magic,
    Frame,
    Trailer,
}

impl Unpacker {
    pub fn new() -> io::Result<Self> {
        Ok(Unpacker {
            decoder: Decoder::new()?,
            digest: blake3::Hasher::new(),
            part: Part::Magic,
            fixed: Vec::with_capacity(TRAILER_BYTES),
            out: vec![0; OUT_BYTES],
            plain_bytes: 0,
        })
    }

    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    pub fn push(&mut self, mut packed: &[u8], emit: &mut Emit<'_>) -> Result<(), UnpackError> {
        while !packed.is_empty() {
            let used = match self.part {
                Part::Magic => self.push_magic(packed)?,
                Part::Frame => self.push_frame(packed, emit)?,
                Part::Trailer => self.push_trailer(packed)?,
            };
            packed = &packed[used..];
        }
        Ok(())
    }

    /// The number of plain bytes, if this is the proved end.
    pub fn finish(&self) -> Result<u64, UnpackError> {
        if self.part != Part::Trailer || self.fixed.len() < TRAILER_BYTES {
            return Err(UnpackError::Truncated { plain_bytes: self.plain_bytes });
        }
        let (digest, length) = self.fixed.split_at(DIGEST_BYTES);
        if length != self.plain_bytes.to_le_bytes() {
            return Err(corrupt("its length differs"));
        }
        if digest != self.digest.finalize().as_bytes() {
            return Err(corrupt("its digest differs"));
        }
        Ok(self.plain_bytes)
    }

    fn push_magic(&mut self, packed: &[u8]) -> Result<usize, UnpackError> {
        let used = packed.len().min(MAGIC.len() - self.fixed.len());
        self.fixed.extend_from_slice(&packed[..used]);
        if !MAGIC.starts_with(&self.fixed) {
            return Err(corrupt("it does not begin like one"));
        }
        if self.fixed.len() == MAGIC.len() {
            self.fixed.clear();
            self.part = Part::Frame;
        }
        Ok(used)
    }

    fn push_frame(&mut self, packed: &[u8], emit: &mut Emit<'_>) -> Result<usize, UnpackError> {
        let mut input = InBuffer::around(packed);
        loop {
            let mut output = OutBuffer::around(self.out.as_mut_slice());
            let hint = self.decoder.run(&mut input, &mut output);
            let hint = hint.map_err(|error| corrupt(&error.to_string()))?;
            let count = output.pos();
            let plain = &self.out[..count];
            self.digest.update(plain);
            self.plain_bytes += count as u64;
            if count > 0 {
                emit(plain)?;
            }
            if hint == 0 {
                self.part = Part::Trailer;
                return Ok(input.pos());
            }
            // More may come out without more going in as long as the output was full.
            if input.pos() == packed.len() && count < OUT_BYTES {
                return Ok(packed.len());
            }
        }
    }

    fn push_trailer(&mut self, packed: &[u8]) -> Result<usize, UnpackError> {
        let used = packed.len().min(TRAILER_BYTES - self.fixed.len());
        if used == 0 {
            return Err(corrupt("something follows its end"));
        }
        self.fixed.extend_from_slice(&packed[..used]);
        Ok(used)
    }
}

fn corrupt(problem: &str) -> UnpackError {
    UnpackError::Corrupt { problem: problem.to_owned() }
}
