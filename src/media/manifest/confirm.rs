//! Looks whether what a manifest remembers is still so, block by block, on several threads, and
//! gives the blocks in their order.
//!
//! A directory is looked at by its path, which costs a sixth of opening and listing it. If number,
//! change time, mode and owner are as they were, nobody has put a name into it or taken one out,
//! and its entries are as remembered; files and symlinks are then looked at by their paths.
//!
//! A path may lead astray where somebody has put a symlink into it. That is harmless. To put it
//! there a directory above had to be changed, which shows in its change time: it is listed anew,
//! the name is found to be a symlink, and what is remembered below is passed over. If it happens
//! between the looks at the two, the scan tells how things were a moment ago, like any scan, and
//! the next one sees it. Nothing new is ever learnt by such a look: it confirms what was found by
//! listing through safe handles, or it leads to listing anew. And contents are read and written
//! through safe handles alone.

use std::ffi::CStr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::vec;

use super::format::{Block, Known, Record};
use super::mark::{Mark, Time};
use super::place::Reader;
use crate::media::gentle::{self, Gentle};
use crate::media::root::{Root, StatKind};

/// A thread takes blocks until it has so many bytes: waking one up costs as much as some looks.
const TAKEN_BYTES: usize = 64 * 1024;
/// So often ahead of whoever uses them.
const AHEAD_MAX: usize = 8;
const THREADS_MAX: usize = 8;

/// A block and what of it is still so.
#[derive(Debug)]
pub(crate) struct Confirmed {
    pub block: Block,
    /// For each directory.
    pub as_it_was: Vec<bool>,
}

impl Confirmed {
    pub fn is_whole(&self) -> bool {
        self.as_it_was.iter().all(|same| *same)
    }
}

/// How to look.
pub(crate) struct Look<'a> {
    pub root: &'a Root,
    /// Only directories of this file system are trusted.
    pub device: u64,
    /// Files that had not changed since then are not looked at.
    pub quiet_since: Option<Time>,
    /// Slows it down, and leaves it one thread.
    pub gentle: Option<&'a Gentle>,
}

enum Coming {
    /// Nothing comes of them if one is damaged.
    Blocks(Receiver<Vec<Confirmed>>),
    End,
}

/// What is remembered, in order, as it comes.
pub(crate) struct Remembered {
    coming: Option<Receiver<Coming>>,
    blocks: vec::IntoIter<Confirmed>,
}

/// What came.
pub(crate) enum Next {
    Block(Confirmed),
    End,
    /// The rest is damaged: nothing is known of it.
    Broken,
}

impl Remembered {
    pub fn nothing() -> Self {
        Remembered { coming: None, blocks: Vec::new().into_iter() }
    }

    /// The next block. After the end, and after damage, nothing comes any more.
    pub fn next(&mut self) -> Next {
        loop {
            if let Some(block) = self.blocks.next() {
                return Next::Block(block);
            }
            let Some(coming) = &self.coming else { return Next::End };
            match coming.recv() {
                Ok(Coming::Blocks(blocks)) => match blocks.recv() {
                    Ok(blocks) => {
                        self.blocks = blocks.into_iter();
                        continue;
                    }
                    Err(_) => self.coming = None,
                },
                Ok(Coming::End) => {
                    self.coming = None;
                    return Next::End;
                }
                Err(_) => self.coming = None,
            }
            return Next::Broken;
        }
    }
}

/// Lets `work` use what `reader` gives, while threads look at it ahead.
pub(crate) fn remembered<T>(
    reader: Option<Reader>,
    look: &Look<'_>,
    work: impl FnOnce(Remembered) -> T,
) -> T {
    let Some(reader) = reader else { return work(Remembered::nothing()) };
    let threads = match look.gentle {
        Some(_) => 1,
        None => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
    };
    let (sender, coming) = sync_channel(AHEAD_MAX);
    // The threads alone hold it: without any of them the rest is damaged, not awaited for ever.
    let source = Arc::new(Mutex::new(Some((reader, sender))));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let source = source.clone();
            let builder = std::thread::Builder::new().name("look".to_owned());
            // With fewer threads it takes longer.
            let _ = builder.spawn_scoped(scope, move || {
                if look.gentle.is_some() {
                    gentle::yield_to_others();
                }
                while serve(&source, look).is_some() {}
            });
        }
        drop(source);
        work(Remembered { coming: Some(coming), ..Remembered::nothing() })
    })
}

type Source = Mutex<Option<(Reader, SyncSender<Coming>)>>;

/// Reads the next blocks and looks at them; `None` if there is no more to do.
fn serve(source: &Source, look: &Look<'_>) -> Option<()> {
    let (blocks, more, result) = {
        let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
        let (reader, coming) = source.as_mut()?;
        let (blocks, more) = read(reader);
        let (sender, receiver) = sync_channel(1);
        // While this one waits for room the others wait for it.
        let mut told = coming.send(Coming::Blocks(receiver)).is_ok();
        if told && more == More::None {
            told = coming.send(Coming::End).is_ok();
        }
        if !told || more != More::Some {
            *source = None;
        }
        (blocks, more, sender)
    };
    let mut confirmed = Vec::with_capacity(blocks.len());
    for block in blocks {
        if let Some(gentle) = look.gentle {
            gentle.entries.pass_here(block.head.dirs.saturating_add(block.head.files));
        }
        match look.at(&block) {
            Some(as_it_was) => confirmed.push(Confirmed { block, as_it_was }),
            // It makes no sense: nothing is told of it, nor of what follows.
            None => return None,
        }
    }
    let _ = result.send(confirmed);
    (more == More::Some).then_some(())
}

/// What comes after some blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Some,
    None,
    /// The rest is damaged.
    Damage,
}

fn read(reader: &mut Reader) -> (Vec<Block>, More) {
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    while bytes < TAKEN_BYTES {
        match reader.next() {
            Some(Some(block)) => {
                bytes += block.bytes().len();
                blocks.push(block);
            }
            Some(None) => return (blocks, More::None),
            None => return (blocks, More::Damage),
        }
    }
    (blocks, More::Some)
}

impl Look<'_> {
    /// For each directory of `block` whether it is as it was; `None` if the block makes no sense.
    fn at(&self, block: &Block) -> Option<Vec<bool>> {
        let mut as_it_was = Vec::with_capacity(block.head.dirs.min(1 << 16) as usize);
        let mut buffer = Vec::with_capacity(256);
        let mut sensible = true;
        block.each(|path, record| {
            let same = self.is_as_it_was(path, &record, &mut buffer);
            sensible &= same.is_some();
            as_it_was.push(same == Some(true));
        })?;
        sensible.then_some(as_it_was)
    }

    fn is_as_it_was(&self, path: &[u8], record: &Record<'_>, buffer: &mut Vec<u8>) -> Option<bool> {
        buffer.clear();
        buffer.extend_from_slice(path);
        let Some(mark) = record.mark else { return Some(false) };
        if !self.has_mark(buffer, &mark) {
            return Some(false);
        }
        for known in record.entries() {
            let (name, mark) = match known? {
                Known::File(name, mark) => (name, mark),
                Known::Link(name, mark, _) => (name, mark),
                // Its own record tells the rest, or nothing can be told of it.
                Known::Dir(_) | Known::Special(_) => continue,
            };
            if self.quiet_since.is_some_and(|since| is_quiet(&mark, since)) {
                continue;
            }
            buffer.truncate(path.len());
            if !path.is_empty() {
                buffer.push(b'/');
            }
            buffer.extend_from_slice(name);
            if !self.has_mark(buffer, &mark) {
                return Some(false);
            }
        }
        Some(true)
    }

    fn has_mark(&self, path: &mut Vec<u8>, mark: &Mark) -> bool {
        path.push(0);
        let peeked = CStr::from_bytes_with_nul(path).ok().map(|path| self.root.peek(path));
        path.pop();
        let Some(Ok(stat)) = peeked else { return false };
        (stat.device == self.device || stat.kind != StatKind::Dir) && Mark::new(&stat) == *mark
    }
}

fn is_quiet(mark: &Mark, since: Time) -> bool {
    let mtime = mark.meta().mtime;
    mark.changed() < since && (mtime.secs, mtime.nanos) < since
}
