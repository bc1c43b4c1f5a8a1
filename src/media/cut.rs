//! A scan of a local tree from its walk to its shards: each is given away and remembered. What is
//! as remembered goes through untouched.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::gentle;
use super::listed;
use super::manifest::confirm::Remembered;
use super::manifest::format::{Block, Builder};
use super::manifest::{Fresh, Manifest, Memory, Recorder};
use super::root::Root;
use super::scan::{Scan, Step, walk};
use super::shard::{Cutter, Shard};
use crate::wire::tree::Directory;

/// Walks the tree and gives its shards to `send` while that takes them. The end is given as `None`,
/// and only if the walk came to it. Blocking.
pub(crate) fn cut(
    root: &Root,
    scan: &Arc<Scan>,
    memory: Option<&Memory>,
    send: impl FnMut(Option<Shard>) -> bool,
) {
    if scan.gentle.is_some() {
        gentle::yield_to_others();
    }
    if let Some(names) = &scan.listed {
        let mut scanning = Scanning::new(scan, send, None);
        let walked =
            listed::walk::walk(root, scan, names, |directory| scanning.add(directory, &[]));
        return scanning.finish(walked);
    }
    let manifest = memory.and_then(|memory| Manifest::open(memory, root, scan.side, scan.run));
    match manifest {
        Some(manifest) => {
            manifest.with(root, scan.gentle.as_ref(), |remembered, recorder, fresh| {
                Scanning::new(scan, send, Some(recorder)).run(root, Some(fresh), remembered);
            })
        }
        None => Scanning::new(scan, send, None).run(root, None, Remembered::nothing()),
    }
}

struct Scanning<'a, S> {
    scan: &'a Arc<Scan>,
    cutter: Cutter,
    builder: Builder,
    recorder: Option<Recorder>,
    /// A block that is as it was, if the walk ends with it; else its shard goes on.
    last: Option<Box<Block>>,
    send: S,
}

impl<'a, S: FnMut(Option<Shard>) -> bool> Scanning<'a, S> {
    fn new(scan: &'a Arc<Scan>, send: S, recorder: Option<Recorder>) -> Self {
        let cutter = Cutter::new(scan.side, scan.rule);
        Scanning { scan, cutter, builder: Builder::default(), recorder, last: None, send }
    }

    fn run(mut self, root: &Root, fresh: Option<Fresh>, remembered: Remembered) {
        let scan = self.scan;
        let walked = walk(root, scan, fresh, remembered, |step| match step {
            Step::Directory(directory, record) => {
                self.go_on()?;
                self.add(directory, &record)
            }
            Step::Block(block) => {
                self.go_on()?;
                self.add_block(block)
            }
        });
        self.finish(walked);
    }

    /// Ends what a walk to its end, or not, has left.
    fn finish(mut self, walked: ControlFlow<()>) {
        if walked.is_break() || self.end().is_break() {
            return;
        }
        // If nobody listens any more, nobody needs to know.
        let _ = (self.send)(None);
        if let Some(recorder) = self.recorder {
            recorder.finish();
        }
    }

    /// The walk did not end with the last block.
    fn go_on(&mut self) -> ControlFlow<()> {
        self.last.take().map_or(ControlFlow::Continue(()), |block| self.take_apart(&block))
    }

    fn end(&mut self) -> ControlFlow<()> {
        match (self.last.take(), self.cutter.end()) {
            (Some(block), _) => self.keep(block),
            (None, Some(shard)) => self.give(shard),
            (None, None) => ControlFlow::Continue(()),
        }
    }

    fn add(&mut self, directory: Directory, record: &[u8]) -> ControlFlow<()> {
        if self.recorder.is_some() {
            self.builder.push(&directory.path, record);
        }
        match self.cutter.push(directory) {
            Some(shard) => self.give(shard),
            None => ControlFlow::Continue(()),
        }
    }

    fn add_block(&mut self, block: Box<Block>) -> ControlFlow<()> {
        if !self.cutter.is_empty() {
            self.take_apart(&block)
        } else if Cutter::would_cut(&block.head) {
            self.keep(block)
        } else {
            self.last = Some(block);
            ControlFlow::Continue(())
        }
    }

    fn keep(&mut self, block: Box<Block>) -> ControlFlow<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.keep(&block);
        }
        let shard = self.cutter.keep(block, self.scan);
        self.send(shard)
    }

    fn take_apart(&mut self, block: &Block) -> ControlFlow<()> {
        for (_, known) in block.directories(self.scan) {
            if let Some((directory, record)) = known {
                self.add(directory, &record)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Remembers and sends a shard that was put together anew.
    fn give(&mut self, shard: Shard) -> ControlFlow<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.add(&self.builder.finish(&shard.head));
        }
        self.send(shard)
    }

    fn send(&mut self, shard: Shard) -> ControlFlow<()> {
        if (self.send)(Some(shard)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}
