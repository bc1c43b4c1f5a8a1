//! The remote half: frames in, frames out, and in between the same workers as for a local tree. It
//! does what it is asked below the root it was given and ends when its input does.
//!
//! One thread reads a request, does the work and writes the reply: the bytes of a file go from the
//! pipe to the disk without changing hands. Only a scan and the reading of files, whose replies
//! come by themselves, have a second thread.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::frames::{FrameReader, FrameWriter};
use crate::media::apply::Changer;
use crate::media::confine::confine;
use crate::media::cut::cut;
use crate::media::gentle;
use crate::media::group::{Ended, Held, Judged};
use crate::media::listed::Listed;
use crate::media::read;
use crate::media::root::{Dirs, native};
use crate::media::session::local::{Tree, missing};
use crate::media::session::{JOBS_AHEAD_MAX, PIECES_AHEAD_MAX};
use crate::media::shard::Shard;
use crate::media::store::Storer;
use crate::media::temp::TempNames;
use crate::wire::hello::Hello;
use crate::wire::message::{Extent, Facts, Job, Open, Reply, Request, ScanSpec, Store, Verdict};
use crate::wire::names::NAMES_BYTES_MAX;
use crate::wire::stream::{FrameQueue, RequestDecoder};
use crate::wire::tree::{Failure, FailureKind};
use crate::wire::{WireError, content};

/// Serves one stream until its input ends. Blocks. What scans find is remembered in `manifests`.
pub fn serve(
    input: impl Read,
    output: impl Write + Send + 'static,
    manifests: Option<&Path>,
) -> Result<(), WireError> {
    serve_stream(input, output, manifests, false)
}

/// The same in a process that does nothing else: once the root is open, this thread and what it
/// starts cannot reach anything outside of it and of `manifests`, where the kernel has Landlock.
pub fn serve_confined(
    input: impl Read,
    output: impl Write + Send + 'static,
    manifests: Option<&Path>,
) -> Result<(), WireError> {
    serve_stream(input, output, manifests, true)
}

fn serve_stream(
    input: impl Read,
    output: impl Write + Send + 'static,
    manifests: Option<&Path>,
    confined: bool,
) -> Result<(), WireError> {
    let mut input = FrameReader::new(input);
    let mut output = FrameWriter::new(output);
    output.write(Hello::ours().frame())?;
    output.flush()?;
    let greeting = input.next()?.ok_or(WireError::Truncated)?;
    Hello::accept(&greeting)?;
    let replies = Arc::new(Replies(Mutex::new(Writing { queue: FrameQueue::default(), output })));
    let manifests = manifests.map(Path::to_owned);
    let (names, work) = (Vec::new(), Work::None);
    let mut server = Server { replies, manifests, confined, tree: None, lane: 0, names, work };
    let served = server.serve(&mut input);
    server.end(served)
}

/// Where replies go, from both threads of a stream.
struct Replies<W: Write>(Mutex<Writing<W>>);

struct Writing<W: Write> {
    queue: FrameQueue,
    output: FrameWriter<W>,
}

impl<W: Write> Replies<W> {
    fn writing(&self) -> MutexGuard<'_, Writing<W>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds replies that need not go out at once.
    fn add(&self, replies: impl IntoIterator<Item = Reply>) -> Result<(), WireError> {
        let mut writing = self.writing();
        for reply in replies {
            writing.queue.reply(reply)?;
        }
        for frame in writing.queue.take(false) {
            writing.output.write(frame)?;
        }
        Ok(())
    }

    fn send(&self, reply: Reply) -> Result<(), WireError> {
        self.add([reply])?;
        self.flush()
    }

    fn flush(&self) -> Result<(), WireError> {
        let mut writing = self.writing();
        for frame in writing.queue.take(true) {
            writing.output.write(frame)?;
        }
        writing.output.flush()
    }
}

struct Server<W: Write> {
    replies: Arc<Replies<W>>,
    manifests: Option<PathBuf>,
    confined: bool,
    tree: Option<Tree>,
    lane: u32,
    /// The list for the scan, as far as it has come.
    names: Vec<u8>,
    work: Work,
}

/// What the stream is for. Its first request decides.
enum Work {
    None,
    Scan(Arc<Held>, JoinHandle<()>),
    Read(mpsc::Sender<Job>, JoinHandle<()>),
    Store(Box<Storer>),
    Change(Dirs, TempNames),
}

const OTHER_WORK: WireError = WireError::OutOfTurn("a request of another kind");

impl<W: Write + Send + 'static> Server<W> {
    fn serve(&mut self, input: &mut FrameReader<impl Read>) -> Result<(), WireError> {
        let mut decoder = RequestDecoder::default();
        while let Some(frame) = input.next()? {
            let mut requests = Vec::new();
            decoder.push(frame, &mut |request| requests.push(request))?;
            for request in requests {
                self.take(request)?;
            }
            if input.is_dry() {
                self.replies.flush()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, request: Request) -> Result<(), WireError> {
        match request {
            Request::Open(open) => {
                let opened = self.open(open);
                self.replies.add([Reply::Opened(opened)])
            }
            Request::Names(bytes) => self.add_names(&bytes.0),
            Request::Scan(spec) => self.scan(&spec),
            Request::Verdict(verdict) => self.judge(verdict),
            Request::Read(job) => self.read(job),
            Request::Store(piece) => self.store(piece),
            Request::Call(call) => {
                if matches!(self.work, Work::None) {
                    let (dirs, names) = self.tree()?.tools();
                    self.work = Work::Change(dirs, names);
                }
                let Work::Change(dirs, names) = &mut self.work else { return Err(OTHER_WORK) };
                let answer = Changer { dirs, names }.answer(call);
                self.replies.add([Reply::Answer(answer)])
            }
        }
    }

    fn open(&mut self, open: Open) -> Result<Facts, Failure> {
        if self.tree.is_some() {
            return Err(Failure::new(FailureKind::Other, "the root was opened already"));
        }
        let Open { root, side, create, run, lane, manner, gentle } = open;
        self.lane = lane;
        let tree = Tree::open(native(&root.0), side, create, run, manner)?;
        if let Some(tree) = tree.as_ref().filter(|_| self.confined) {
            let figures = if gentle { gentle::figures() } else { Vec::new() };
            confine(&tree.root, side, self.manifests.as_deref(), &figures);
        }
        self.tree = tree.map(|tree| tree.remembering(self.manifests.as_deref()).gently(gentle));
        Ok(self.tree.as_ref().map_or_else(missing, Tree::facts))
    }

    fn tree(&self) -> Result<&Tree, WireError> {
        self.tree.as_ref().ok_or(WireError::OutOfTurn("work before a root"))
    }

    fn add_names(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let Work::None = self.work else { return Err(OTHER_WORK) };
        if self.names.len() + bytes.len() > NAMES_BYTES_MAX {
            return Err(WireError::OutOfTurn("a list without end"));
        }
        self.names.extend_from_slice(bytes);
        Ok(())
    }

    /// What the scan is of, if it is not of the whole tree.
    fn listed(&mut self, extent: Extent) -> Result<Option<Listed>, WireError> {
        let bytes = std::mem::take(&mut self.names);
        match extent {
            Extent::Whole => Ok(None),
            Extent::Listed { recursive } => Listed::decode(bytes, recursive)
                .map(Some)
                .map_err(|_| WireError::OutOfTurn("a damaged list of names")),
        }
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<(), WireError> {
        let Work::None = self.work else { return Err(OTHER_WORK) };
        let tree = self.tree()?.clone();
        let memory = tree.memory(spec);
        let scan = match tree.scan(spec, self.listed(spec.extent)?) {
            Ok(scan) => scan,
            Err(bad) => return self.replies.send(fatal(bad.to_string())),
        };
        let (held, replies) = (Arc::new(Held::default()), self.replies.clone());
        let kept = held.clone();
        let walk = move || {
            cut(&tree.root, &Arc::new(scan), memory.as_ref(), |shard| {
                let end = shard.is_none().then_some(Reply::ScanEnd);
                // Kept before it is told: the verdict may be fast.
                let Ok(ended) = kept.keep(shard) else { return false };
                let told: Vec<Reply> =
                    ended.map_or_else(Vec::new, group).into_iter().chain(end).collect();
                told.is_empty() || replies.add(told).and_then(|()| replies.flush()).is_ok()
            });
        };
        self.work = Work::Scan(held, thread("scan", walk)?);
        Ok(())
    }

    fn judge(&self, verdict: Verdict) -> Result<(), WireError> {
        let Work::Scan(held, _) = &self.work else { return Err(OTHER_WORK) };
        match held.judge(verdict) {
            Judged::Nothing => Ok(()),
            Judged::Open(heads) => self.replies.add(heads.into_iter().map(Reply::Shard)),
            Judged::Content(index, dirs) => {
                let mut portions = content::split(index, dirs.into_vec()).into_iter();
                portions.try_for_each(|portion| self.replies.add([Reply::Content(portion)]))
            }
        }
    }

    fn read(&mut self, job: Job) -> Result<(), WireError> {
        if matches!(self.work, Work::None) {
            self.work = self.reading()?;
        }
        let Work::Read(jobs, _) = &self.work else { return Err(OTHER_WORK) };
        // A reader that is gone has had its output closed; so the input ends as well.
        let _ = jobs.blocking_send(job);
        Ok(())
    }

    /// Starts the threads that read files and write their pieces.
    fn reading(&self) -> Result<Work, WireError> {
        let (jobs, job_receiver) = mpsc::channel(JOBS_AHEAD_MAX);
        let (piece_sender, mut pieces) = mpsc::channel(PIECES_AHEAD_MAX);
        let (tree, replies) = (self.tree()?.clone(), self.replies.clone());
        thread("read", move || read::run(&tree, job_receiver, piece_sender))?;
        let write = move || {
            while let Some(bunch) = pieces.blocking_recv() {
                let idle = pieces.is_empty();
                let written = replies.add(bunch.into_iter().map(Reply::Piece));
                if written.and_then(|()| if idle { replies.flush() } else { Ok(()) }).is_err() {
                    return;
                }
            }
        };
        Ok(Work::Read(jobs, thread("write", write)?))
    }

    fn store(&mut self, piece: Store) -> Result<(), WireError> {
        if matches!(self.work, Work::None) {
            self.work = Work::Store(Box::new(self.tree()?.storer(self.lane)));
        }
        let Work::Store(storer) = &mut self.work else { return Err(OTHER_WORK) };
        storer.take(piece);
        self.replies.add(storer.told.drain(..).map(Reply::Told))
    }

    /// Brings the work to its end: all that was asked for before the input ended is done.
    fn end(self, served: Result<(), WireError>) -> Result<(), WireError> {
        match self.work {
            Work::Scan(held, walk) => {
                held.close();
                joined(walk);
            }
            Work::Read(jobs, write) => {
                drop(jobs);
                joined(write);
            }
            // Nobody is told any more what would become visible.
            Work::Store(mut storer) if served.is_err() => storer.discard(),
            Work::Store(storer) => self.replies.add(storer.finish().map(Reply::Told))?,
            Work::None | Work::Change(..) => {}
        }
        served?;
        self.replies.flush()
    }
}

/// What is told of a group before anybody asks.
fn group(Ended { head, told }: Ended) -> Vec<Reply> {
    let mut replies = vec![Reply::Group(head)];
    if let Some(Shard { head, dirs }) = told {
        let portions = content::split(head.index, dirs.into_vec());
        replies.push(Reply::Shard(head));
        replies.extend(portions.into_iter().map(Reply::Content));
    }
    replies
}

fn fatal(text: String) -> Reply {
    Reply::Fatal(Failure::new(FailureKind::Other, text))
}

/// A thread that panicked has said so on standard error.
fn joined(thread: JoinHandle<()>) {
    let _ = thread.join();
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, WireError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(WireError::Io)
}
