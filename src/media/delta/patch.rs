//! Applies a delta that arrives in pieces: a sequence of librsync deltas, each with its own head.
//! Copies are read from the old file as they come, so neither file is in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::encode::MAGIC;

/// How much of the old file is read at a time.
const COPY_BUFFER_BYTES: u64 = 2 << 20;

/// What a delta consists of, in the order of the new file.
pub trait Sink {
    fn literal(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// So many bytes of the old file.
    fn copy(&mut self, offset: u64, length: u64) -> io::Result<()>;
}

/// Takes a delta apart. The sink bounds how much there may be.
pub struct Commands {
    /// The head of a command of which not all bytes are there yet.
    partial: Vec<u8>,
    state: State,
}

/// Turns a delta and an old file into a new one. The receiver of the output bounds how much there
/// may be.
pub struct Patcher {
    commands: Commands,
    basis: File,
    /// For copies; kept, since fresh memory costs more than the reading.
    buffer: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Between two deltas.
    Outside,
    Command,
    Literal {
        missing: u64,
    },
}

enum Command {
    End,
    Literal { length: u64 },
    Copy { offset: u64, length: u64 },
}

impl Patcher {
    pub fn new(basis: File) -> Self {
        Patcher { commands: Commands::default(), basis, buffer: Vec::new() }
    }

    /// Takes the next bytes of the delta and writes what follows from them.
    pub fn push(
        &mut self,
        delta: &[u8],
        write: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.push_from(delta, &mut |part: &[u8], _| write(part))
    }

    /// The same; of what is copied `write` is also told where in the old file it was.
    pub fn push_from(
        &mut self,
        delta: &[u8],
        write: &mut impl FnMut(&[u8], Option<u64>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Patcher { commands, basis, buffer } = self;
        commands.push(delta, &mut Patching { basis, buffer, write })
    }

    /// Whether the delta ended where one may end.
    pub fn finish(&self) -> io::Result<()> {
        self.commands.finish()
    }
}

struct Patching<'a, W> {
    basis: &'a File,
    buffer: &'a mut Vec<u8>,
    write: &'a mut W,
}

impl<W: FnMut(&[u8], Option<u64>) -> io::Result<()>> Sink for Patching<'_, W> {
    fn literal(&mut self, bytes: &[u8]) -> io::Result<()> {
        (self.write)(bytes, None)
    }

    fn copy(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or_else(damaged)?;
        self.buffer.resize(COPY_BUFFER_BYTES as usize, 0);
        let mut at = offset;
        while at < end {
            let part = &mut self.buffer[..(end - at).min(COPY_BUFFER_BYTES) as usize];
            self.basis.read_exact_at(part, at)?;
            (self.write)(part, Some(at))?;
            at += part.len() as u64;
        }
        Ok(())
    }
}

impl Default for Commands {
    fn default() -> Self {
        Commands { partial: Vec::new(), state: State::Outside }
    }
}

impl Commands {
    /// Takes the next bytes of the delta.
    pub fn push(&mut self, mut delta: &[u8], sink: &mut impl Sink) -> io::Result<()> {
        while !delta.is_empty() {
            if let State::Literal { missing } = &mut self.state {
                let length = delta.len().min(usize::try_from(*missing).unwrap_or(usize::MAX));
                let (literal, rest) = delta.split_at(length);
                sink.literal(literal)?;
                *missing -= length as u64;
                if *missing == 0 {
                    self.state = State::Command;
                }
                delta = rest;
                continue;
            }
            self.partial.push(delta[0]);
            delta = &delta[1..];
            if self.state == State::Outside {
                self.head()?;
            } else {
                self.command(sink)?;
            }
        }
        Ok(())
    }

    /// Whether the delta ended where one may end.
    pub fn finish(&self) -> io::Result<()> {
        if self.state == State::Outside && self.partial.is_empty() {
            Ok(())
        } else {
            Err(damaged())
        }
    }

    fn head(&mut self) -> io::Result<()> {
        if !MAGIC.starts_with(&self.partial) {
            return Err(damaged());
        }
        if self.partial.len() == MAGIC.len() {
            self.partial.clear();
            self.state = State::Command;
        }
        Ok(())
    }

    fn command(&mut self, sink: &mut impl Sink) -> io::Result<()> {
        let Some(command) = parse(&self.partial)? else { return Ok(()) };
        self.partial.clear();
        match command {
            Command::End => self.state = State::Outside,
            Command::Literal { length: 0 } | Command::Copy { length: 0, .. } => {
                return Err(damaged());
            }
            Command::Literal { length } => self.state = State::Literal { missing: length },
            Command::Copy { offset, length } => sink.copy(offset, length)?,
        }
        Ok(())
    }
}

/// The command at the beginning of `bytes`, once all of its bytes are there.
fn parse(bytes: &[u8]) -> io::Result<Option<Command>> {
    let (kind, rest) = (bytes[0], &bytes[1..]);
    match kind {
        0 => Ok(Some(Command::End)),
        1..=0x40 => Ok(Some(Command::Literal { length: kind.into() })),
        0x41..=0x44 => {
            let width = 1 << (kind - 0x41);
            Ok(number(rest, 0, width).map(|length| Command::Literal { length }))
        }
        0x45..=0x54 => {
            let (offset_width, length_width) = (1 << ((kind - 0x45) / 4), 1 << ((kind - 0x45) % 4));
            let offset = number(rest, 0, offset_width);
            let length = number(rest, offset_width, length_width);
            Ok(offset.zip(length).map(|(offset, length)| Command::Copy { offset, length }))
        }
        0x55.. => Err(damaged()),
    }
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the delta is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any bytes are a delta or an error; the output never outgrows what its receiver allows.
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), framed in any::<bool>()) {
            let delta = if framed { [&MAGIC[..], &bytes].concat() } else { bytes };
            let mut written = 0_usize;
            let mut write = |part: &[u8]| {
                written += part.len();
                if written > 1 << 20 { Err(io::Error::other("too much")) } else { Ok(()) }
            };
            let _ = Patcher::new(tempfile::tempfile().unwrap()).push(&delta, &mut write);
        }
    }
}
