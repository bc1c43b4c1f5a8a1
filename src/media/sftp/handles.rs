//! Which handle an OpenSSH server gives to whoever opens something: the index of an entry in a
//! list, in 4 bytes, the one that was given back last first. Pure: what is opened and closed goes
//! in, handles come out; no reply is looked at here.
//!
//! This holds as long as everything opens. Where something may not, the next handle is still known
//! if it was asked for *in a closed run*: between an OPEN and its CLOSE nothing else is opened that
//! is not closed before. If the OPEN fails, what was meant for its handle fails too, because nothing
//! else has it, and behind the run the list is as it was in front of it.

use bytes::Bytes;

/// The entries of the server's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Handles {
    /// Given back, the latest last.
    free: Vec<u32>,
    /// Entries that were ever given out.
    known: u32,
}

impl Handles {
    /// The handle that the next OPEN or OPENDIR gives.
    pub fn open(&mut self) -> Bytes {
        let index = self.free.pop().unwrap_or_else(|| {
            self.known += 1;
            self.known - 1
        });
        Bytes::copy_from_slice(&index.to_be_bytes())
    }

    /// Those of a channel on which two were open at most and none is now.
    pub fn after_two() -> Self {
        Handles { free: vec![1, 0], known: 2 }
    }

    /// Gives back a handle that [`Handles::open`] gave.
    pub fn close(&mut self, handle: &[u8]) {
        if let Ok(index) = handle.try_into() {
            self.free.push(u32::from_be_bytes(index));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What sftp-server.c does, with failures.
    #[derive(Default)]
    struct Server {
        entries: Vec<(bool, Option<usize>)>,
        unused: Option<usize>,
    }

    impl Server {
        fn open(&mut self, works: bool) -> Option<u32> {
            if !works {
                return None;
            }
            let index = match self.unused {
                Some(index) => {
                    self.unused = self.entries[index].1;
                    index
                }
                None => {
                    self.entries.push((false, None));
                    self.entries.len() - 1
                }
            };
            self.entries[index].0 = true;
            Some(index as u32)
        }

        fn is_open(&self, handle: &[u8]) -> bool {
            let index = u32::from_be_bytes(handle.try_into().unwrap()) as usize;
            self.entries.get(index).is_some_and(|entry| entry.0)
        }

        fn close(&mut self, handle: &[u8]) -> bool {
            if !self.is_open(handle) {
                return false;
            }
            let index = u32::from_be_bytes(handle.try_into().unwrap()) as usize;
            self.entries[index] = (false, self.unused);
            self.unused = Some(index);
            true
        }
    }

    proptest! {
        #[test]
        fn what_opens_gets_the_handle_that_was_foretold(steps in prop::collection::vec(any::<u8>(), 0..80)) {
            let (mut server, mut handles, mut open) = (Server::default(), Handles::default(), Vec::new());
            for step in steps {
                if step % 2 == 0 || open.is_empty() {
                    let handle = handles.open();
                    prop_assert_eq!(&handle[..], server.open(true).unwrap().to_be_bytes());
                    open.push(handle);
                } else {
                    let handle = open.swap_remove(usize::from(step) % open.len());
                    handles.close(&handle);
                    prop_assert!(server.close(&handle));
                }
            }
        }

        /// Runs of one handle, or of two in each other, of which any may fail.
        #[test]
        fn a_closed_run_that_fails_reaches_nothing_else(
            runs in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..40),
        ) {
            let (mut server, mut handles) = (Server::default(), Handles::default());
            for (two, first_works, second_works) in runs {
                let before = handles.clone();
                let first = handles.open();
                let gave = server.open(first_works).map(|index| index.to_be_bytes());
                prop_assert!(gave.is_none_or(|gave| gave == first[..]));
                if two {
                    let second = handles.open();
                    let gave = server.open(second_works).map(|index| index.to_be_bytes());
                    // The inner one tells when it has taken the place of the outer one.
                    let as_foretold = gave.is_some_and(|gave| gave == second[..]);
                    prop_assert_eq!(server.is_open(&second), first_works && second_works);
                    prop_assert_eq!(as_foretold, first_works && second_works);
                    handles.close(&second);
                    server.close(&second);
                }
                handles.close(&first);
                server.close(&first);
                prop_assert!(server.entries.iter().all(|entry| !entry.0));
                let after: Vec<Bytes> = std::iter::repeat_with(|| handles.clone().open()).take(1).collect();
                prop_assert_eq!(&after[0], &before.clone().open());
            }
        }
    }
}
