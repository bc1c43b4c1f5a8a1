//! What the kernel tells of changes (fanotify(7), with the handle of a directory and a name), as
//! values. Pure.

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told<'a> {
    /// Something became of `name` in the directory with this handle; `.` is the directory itself.
    Entry { handle: Handle<'a>, name: &'a [u8], names_moved: bool },
    /// Some events were lost.
    Overflow,
    /// One that makes no sense: as good as lost.
    Unknown,
}

/// A file handle, as open_by_handle_at(2) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handle<'a> {
    pub kind: i32,
    pub bytes: &'a [u8],
}

const VERSION: u8 = 3;
const HEAD_BYTES: usize = 24;
const OVERFLOW: u64 = libc::FAN_Q_OVERFLOW;
/// Events after which a handle may lead to another path, or to none.
const MOVES: u64 = libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO | libc::FAN_DELETE;
const DIRECTORY_AND_NAME: u8 = 2;
const DIRECTORY: u8 = 3;
/// In front of a handle: kind, a filler and length of the record, and the file system.
const RECORD_HEAD_BYTES: usize = 4 + 8;

/// The events in `bytes`, as they were read.
pub(super) fn events(mut bytes: &[u8]) -> Vec<Told<'_>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let length = number(bytes, 0).map_or(0, |length| length as usize);
        if length < HEAD_BYTES || length > bytes.len() {
            events.push(Told::Unknown);
            return events;
        }
        let (event, rest) = bytes.split_at(length);
        events.push(told(event).unwrap_or(Told::Unknown));
        bytes = rest;
    }
    events
}

fn told(event: &[u8]) -> Option<Told<'_>> {
    if event[4] != VERSION {
        return None;
    }
    let head_bytes = usize::from(u16::from_ne_bytes(*event.get(6..)?.first_chunk()?));
    let mask = u64::from_ne_bytes(*event.get(8..)?.first_chunk()?);
    if mask & OVERFLOW != 0 {
        return Some(Told::Overflow);
    }
    let mut records = event.get(head_bytes..)?;
    while !records.is_empty() {
        let length = usize::from(u16::from_ne_bytes(*records.get(2..)?.first_chunk()?));
        let record = records.get(..length).filter(|_| length >= RECORD_HEAD_BYTES)?;
        if matches!(record[0], DIRECTORY_AND_NAME | DIRECTORY) {
            let names_moved = mask & MOVES != 0;
            return entry(record, names_moved);
        }
        records = &records[length..];
    }
    None
}

fn entry(record: &[u8], names_moved: bool) -> Option<Told<'_>> {
    let handle = record.get(RECORD_HEAD_BYTES..)?;
    let length = number(handle, 0)? as usize;
    let kind = number(handle, 4)? as i32;
    let bytes = handle.get(8..8 + length)?;
    let name = match record[0] {
        DIRECTORY_AND_NAME => handle[8 + length..].split(|byte| *byte == 0).next()?,
        _ => b".",
    };
    Some(Told::Entry { handle: Handle { kind, bytes }, name, names_moved })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(mask: u64, record: &[u8]) -> Vec<u8> {
        let length = (HEAD_BYTES + record.len()) as u32;
        let head = [&length.to_ne_bytes()[..], &[VERSION, 0], &24_u16.to_ne_bytes()].concat();
        [&head[..], &mask.to_ne_bytes(), &(-1_i32).to_ne_bytes(), &7_i32.to_ne_bytes(), record]
            .concat()
    }

    /// The record of `name` in a directory, padded as the kernel pads it.
    fn record(name: &[u8]) -> Vec<u8> {
        let mut bytes =
            [&[0; 8][..], &8_u32.to_ne_bytes(), &1_i32.to_ne_bytes(), b"handle!!"].concat();
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let length = (bytes.len() + 4) as u16;
        [&[DIRECTORY_AND_NAME, 0][..], &length.to_ne_bytes(), &bytes].concat()
    }

    #[test]
    fn events_that_follow_each_other_are_told_apart() {
        let bytes = [
            event(libc::FAN_CREATE, &record(b"a")),
            event(libc::FAN_MOVED_TO | libc::FAN_ONDIR, &record(b"some name")),
            event(OVERFLOW, &[]),
        ]
        .concat();
        let handle = Handle { kind: 1, bytes: b"handle!!" };
        let expected = [
            Told::Entry { handle, name: b"a", names_moved: false },
            Told::Entry { handle, name: b"some name", names_moved: true },
            Told::Overflow,
        ];
        assert_eq!(events(&bytes), expected);
    }

    proptest! {
        /// The law: whatever comes is told or is unknown, and nothing is read beyond it.
        #[test]
        fn any_bytes_are_gone_through(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let count = events(&bytes).len();
            prop_assert!(count <= bytes.len() / HEAD_BYTES + 1);
        }

        #[test]
        fn a_spoilt_event_is_gone_through(at in 0_usize..60, byte in any::<u8>()) {
            let mut bytes = event(libc::FAN_CREATE, &record(b"some name"));
            let at = at % bytes.len();
            bytes[at] = byte;
            prop_assert!(!events(&bytes).is_empty());
        }
    }
}
