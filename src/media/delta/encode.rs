//! Writes deltas in the format of librsync: a head, literals and copies, an end.

use super::matching::Copy;

pub(super) const MAGIC: [u8; 4] = 0x7273_0236_u32.to_be_bytes();
const END: u8 = 0;
/// A literal with its length in 1, 2, 4 or 8 bytes.
const LITERAL: u8 = 0x41;
/// A copy with offset and length likewise.
const COPY: u8 = 0x45;

/// The delta that makes `new`: what `copies` have of it, in order, and the rest as it is.
pub(super) fn delta(new: &[u8], copies: &[Copy]) -> Vec<u8> {
    let copied: usize = copies.iter().map(|copy| copy.length).sum();
    let mut delta = Vec::with_capacity(new.len() - copied + 32 * copies.len() + 32);
    delta.extend_from_slice(&MAGIC);
    let mut at = 0;
    for copy in copies {
        literal(&mut delta, &new[at..copy.at]);
        let (offset, length) = (width(copy.old), width(copy.length as u64));
        delta.push(COPY + 4 * offset + length);
        number(&mut delta, copy.old, offset);
        number(&mut delta, copy.length as u64, length);
        at = copy.end();
    }
    literal(&mut delta, &new[at..]);
    delta.push(END);
    delta
}

fn literal(delta: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let width = width(bytes.len() as u64);
    delta.push(LITERAL + width);
    number(delta, bytes.len() as u64, width);
    delta.extend_from_slice(bytes);
}

/// The power of two of the bytes that `number` needs.
fn width(number: u64) -> u8 {
    match number {
        0..=0xff => 0,
        0x100..=0xffff => 1,
        0x1_0000..=0xffff_ffff => 2,
        0x1_0000_0000.. => 3,
    }
}

fn number(delta: &mut Vec<u8>, number: u64, width: u8) {
    delta.extend_from_slice(&number.to_be_bytes()[8 - (1 << width)..]);
}
