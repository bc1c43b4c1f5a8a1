//! The delta of a new file against a basis. The file is read in stretches; while one is compared,
//! in segments side by side, it is also hashed, and the next one is read. Memory: two stretches.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;

use super::encode;
use super::matching::{Copy, Matcher};
use super::signature::Basis;

/// How much of a file is read at a time.
const STRETCH_BYTES: usize = 8 << 20;
/// How much of it one task compares.
const SEGMENT_BYTES: usize = 2 << 20;
/// Shorter files are compared without looking first whether that makes sense.
const SAMPLED_BYTES_MIN: u64 = 2 << 20;
const SAMPLES: u64 = 32;

/// What came of a try to send a delta.
#[derive(Debug, PartialEq, Eq)]
pub enum Diffed {
    /// All of the file was given on, as a delta.
    Whole { read_bytes: u64 },
    /// The files have nothing in common, or nobody wants the rest; what was given on is to be
    /// forgotten.
    Unrelated,
}

/// Reads `file` and gives its delta against `basis` to `emit`, piece by piece; `see` is given the
/// content itself. `emit` says whether to go on.
pub fn diff(
    basis: &Basis,
    file: &File,
    file_bytes: u64,
    mut see: impl FnMut(&[u8]) + Send,
    mut emit: impl FnMut(Vec<u8>) -> bool,
) -> io::Result<Diffed> {
    // Searching content that has nothing in common is slower than sending it.
    if file_bytes >= SAMPLED_BYTES_MIN && !related(basis, file, file_bytes)? {
        return Ok(Diffed::Unrelated);
    }
    let room = basis.shape.block_bytes as usize;
    let stretch =
        STRETCH_BYTES.max(2 * room).min(usize::try_from(file_bytes).unwrap_or(usize::MAX));
    let mut now = Stretch::new(room, stretch);
    let mut next = Stretch::new(room, stretch);
    let mut differ = Differ { basis, shift: 0 };
    now.read(file, 0, file_bytes)?;
    loop {
        let end = now.offset + now.content().len() as u64;
        let last = now.content().is_empty() || end >= file_bytes;
        let (read, delta) = rayon::join(
            || if last { Ok(()) } else { next.read(file, end, file_bytes) },
            || rayon::join(|| see(now.content()), || differ.delta(&now, last)).1,
        );
        read?;
        let (delta, left) = delta;
        if !emit(delta) {
            return Ok(Diffed::Unrelated);
        }
        if last {
            return Ok(Diffed::Whole { read_bytes: end });
        }
        next.carry(&now, left);
        mem::swap(&mut now, &mut next);
    }
}

/// A part of the file, and in front of it what is still undecided of the one before.
struct Stretch {
    buffer: Vec<u8>,
    room: usize,
    /// Where in `buffer` the undecided begins and the content ends.
    begin: usize,
    end: usize,
    /// Where in the file the content begins.
    offset: u64,
}

impl Stretch {
    fn new(room: usize, length: usize) -> Self {
        Stretch { buffer: vec![0; room + length], room, begin: room, end: room, offset: 0 }
    }

    fn content(&self) -> &[u8] {
        &self.buffer[self.room..self.end]
    }

    fn window(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }

    fn read(&mut self, file: &File, offset: u64, file_bytes: u64) -> io::Result<()> {
        let wanted = (self.buffer.len() - self.room).min((file_bytes - offset) as usize);
        let read = read_full_at(file, &mut self.buffer[self.room..self.room + wanted], offset)?;
        (self.begin, self.end, self.offset) = (self.room, self.room + read, offset);
        Ok(())
    }

    /// Takes over the last `left` bytes of `before`.
    fn carry(&mut self, before: &Stretch, left: usize) {
        self.begin = self.room - left;
        let tail = &before.buffer[before.end - left..before.end];
        self.buffer[self.begin..self.room].copy_from_slice(tail);
    }
}

struct Differ<'a> {
    basis: &'a Basis,
    /// How far the old file was ahead of the new one at the last match.
    shift: i64,
}

impl Differ<'_> {
    /// The delta of a stretch, and how many bytes at its end are left for the next one.
    fn delta(&mut self, stretch: &Stretch, last: bool) -> (Vec<u8>, usize) {
        let window = stretch.window();
        let begin = stretch.offset - (stretch.room - stretch.begin) as u64;
        // A block that begins behind this may not be here as a whole.
        let undecided = if last { 0 } else { self.basis.shape.block_bytes as usize - 1 };
        let decided = window.len().saturating_sub(undecided);
        let segments: Vec<usize> = (0..decided).step_by(SEGMENT_BYTES).collect();
        let shift = self.shift;
        let found: Vec<Vec<Copy>> = segments
            .into_par_iter()
            .map(|from| {
                let expected = (begin + from as u64).saturating_add_signed(shift);
                let to = (from + SEGMENT_BYTES).min(decided);
                Matcher::new(self.basis, window).run(from, to, expected)
            })
            .collect();
        let mut copies: Vec<Copy> = Vec::new();
        for copy in found.into_iter().flatten() {
            let from = copies.last().map_or(0, Copy::end);
            copies.extend(copy.cut_front(from));
        }
        if self.basis.in_place {
            // What is before has been overwritten when it would be copied.
            copies.retain(|copy| copy.old >= begin + copy.at as u64);
        }
        join_neighbours(&mut copies);
        let mut end = decided;
        if let Some(copy) = copies.last() {
            end = end.max(copy.end());
            self.shift = (copy.old as i64).wrapping_sub((begin + copy.at as u64) as i64);
        }
        (encode::delta(&window[..end], &copies), window.len() - end)
    }
}

fn join_neighbours(copies: &mut Vec<Copy>) {
    copies.dedup_by(|copy, last| {
        let follows = last.end() == copy.at && last.old + last.length as u64 == copy.old;
        if follows {
            last.length += copy.length;
        }
        follows
    });
}

/// Whether any of some samples of `file` is in the basis.
fn related(basis: &Basis, file: &File, file_bytes: u64) -> io::Result<bool> {
    let block_bytes = basis.shape.block_bytes as usize;
    let step = file_bytes / SAMPLES;
    (0..SAMPLES)
        .into_par_iter()
        .map(|sample| sample * step)
        .map(|offset| {
            // Wherever it begins, a whole block is in it if its surroundings are unchanged.
            let mut window = vec![0; 2 * block_bytes];
            let read = read_full_at(file, &mut window, offset)?;
            let found = Matcher::new(basis, &window[..read]).run(0, read.min(block_bytes), offset);
            Ok(!found.is_empty())
        })
        .try_reduce(|| false, |one, other| Ok(one || other))
}

/// Fills `buffer` from `offset`; less only at the end of the file.
fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
