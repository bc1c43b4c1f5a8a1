//! A directory of this machine: the workers run on threads of this process.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    Ability, Bunch, Calls, JOBS_AHEAD_MAX, Lanes, Link, PIECES_AHEAD_MAX, Session, SourceLane,
    TargetLane, calls_channel,
};
use crate::media::apply::Changer;
use crate::media::cut::cut;
use crate::media::error::MediaError;
use crate::media::failure::failure;
use crate::media::filter::{BadPattern, Filter};
use crate::media::gentle::Gentle;
use crate::media::group::{Heading, Scanner, channels, hold};
use crate::media::listed::Listed;
use crate::media::manifest::Memory;
use crate::media::read;
use crate::media::root::{Dirs, Root};
use crate::media::scan::Scan;
use crate::media::store::{self, Storer};
use crate::media::temp::TempNames;
use crate::media::throttle::Throttle;
use crate::wire::bounded::Blob;
use crate::wire::message::{Facts, Job, Manner, ScanSpec, Side, Store, Told};
use crate::wire::tree::{Failure, RunId};

const LOCAL_LANES: usize = 2;
/// Between the walk and who keeps them: enough that neither wakes the other up for each.
const SHARDS_ON_THEIR_WAY_MAX: usize = 16;
/// Stands for the lane of calls in the names of temporary files.
const CALLS_LANE: u32 = u32::MAX;

/// Names threads so that they can be told apart from outside.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), MediaError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop).map_err(MediaError::Thread)
}

/// A tree of this machine.
#[derive(Clone)]
pub(crate) struct Tree {
    pub root: Arc<Root>,
    pub side: Side,
    pub run: RunId,
    pub manner: Manner,
    /// What slows down whoever reads it.
    pub gentle: Option<Gentle>,
    /// Where it is remembered what scans find.
    manifests: Option<Arc<Path>>,
}

impl Tree {
    /// Opens the tree; `None` if there is none.
    pub fn open(
        path: &Path,
        side: Side,
        create: bool,
        run: RunId,
        manner: Manner,
    ) -> Result<Option<Self>, Failure> {
        let root = Root::open(path, create).map_err(|error| failure("open it", error))?;
        let root = root.map(Arc::new);
        Ok(root.map(|root| Tree { root, side, run, manner, gentle: None, manifests: None }))
    }

    /// The same tree, whose scans are remembered in `manifests`.
    pub fn remembering(self, manifests: Option<&Path>) -> Self {
        Tree { manifests: manifests.map(Arc::from), ..self }
    }

    /// The same tree, read gently or not.
    pub fn gently(self, gentle: bool) -> Self {
        Tree { gentle: gentle.then(Gentle::new), ..self }
    }

    pub fn facts(&self) -> Facts {
        Facts {
            exists: true,
            privileged: rustix::process::geteuid().is_root(),
            path: Blob(self.root.path().to_vec()),
        }
    }

    /// What a scan of it has to do.
    pub fn scan(&self, spec: &ScanSpec, listed: Option<Listed>) -> Result<Scan, BadPattern> {
        let patterns: Vec<&[u8]> = spec.exclude.0.iter().map(|blob| &blob.0[..]).collect();
        Ok(Scan {
            side: self.side,
            rule: spec.rule,
            checksum: spec.checksum,
            pace: Arc::new(Throttle::new(spec.checksum_rate)),
            filter: Filter::new(&patterns)?,
            listed,
            links: spec.hard_links.then(Arc::default),
            scope: spec.scope.clone().checked(),
            run: self.run,
            gentle: self.gentle.clone(),
        })
    }

    /// Where a scan of it remembers what it finds, if it does.
    pub fn memory(&self, spec: &ScanSpec) -> Option<Memory> {
        Memory::new(self.manifests.as_deref()?, spec)
    }

    pub fn storer(&self, lane: u32) -> Storer {
        Storer::new(self.root.clone(), TempNames::new(self.run, lane), self.manner)
    }

    /// What a thread needs that changes the tree.
    pub fn tools(&self) -> (Dirs, TempNames) {
        (Dirs::new(self.root.clone()), TempNames::new(self.run, CALLS_LANE))
    }
}

/// A tree and who works on it, on threads of this process.
pub(crate) struct Workers {
    tree: Tree,
    tasks: TaskTracker,
}

impl Workers {
    /// `tasks` tells when all that writes has ended.
    pub fn new(tree: Tree, tasks: TaskTracker) -> Self {
        Workers { tree, tasks }
    }

    fn scan(&self, spec: &ScanSpec, listed: Option<&Listed>) -> Result<Scanner, MediaError> {
        let (tree, scan) = (self.tree.clone(), Arc::new(self.tree.scan(spec, listed.cloned())?));
        let memory = self.tree.memory(spec);
        let (scanner, ends) = channels();
        let (sender, shards) = mpsc::channel(SHARDS_ON_THEIR_WAY_MAX);
        tokio::spawn(hold(shards, ends));
        thread("scan", move || {
            cut(&tree.root, &scan, memory.as_ref(), |shard| sender.blocking_send(shard).is_ok());
        })?;
        Ok(scanner)
    }

    pub fn reader(&self) -> Result<(mpsc::Sender<Job>, mpsc::Receiver<Bunch>), MediaError> {
        let (jobs, job_receiver) = mpsc::channel(JOBS_AHEAD_MAX);
        let (piece_sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
        let tree = self.tree.clone();
        thread("read", move || read::run(&tree, job_receiver, piece_sender))?;
        Ok((jobs, pieces))
    }

    pub fn storer(
        &self,
        lane: u32,
    ) -> Result<(mpsc::Sender<Store>, mpsc::Receiver<Told>), MediaError> {
        let (pieces, piece_receiver) = mpsc::channel(PIECES_AHEAD_MAX);
        let (tells, told) = mpsc::channel(JOBS_AHEAD_MAX);
        let storer = self.tree.storer(lane);
        let token = self.tasks.token();
        thread("store", move || {
            store::run(storer, piece_receiver, tells);
            drop(token);
        })?;
        Ok((pieces, told))
    }

    pub fn calls(&self) -> Result<Calls, MediaError> {
        let (calls, mut receiver) = calls_channel();
        let (mut dirs, mut names) = self.tree.tools();
        let token = self.tasks.token();
        thread("change", move || {
            while let Some((call, answer)) = receiver.blocking_recv() {
                // Whoever asked may have given up, before or meanwhile.
                if !answer.is_closed() {
                    let mut changer = Changer { dirs: &mut dirs, names: &mut names };
                    let _ = answer.send(changer.answer(call));
                }
            }
            drop(token);
        })?;
        Ok(calls)
    }
}

/// The session of a local endpoint.
pub(crate) struct Local {
    link: Arc<Link>,
    facts: Facts,
    /// `None` for a target that a dry run leaves unmade.
    workers: Option<Workers>,
}

impl Local {
    pub fn new(link: Arc<Link>, workers: Option<Workers>) -> Self {
        let facts = workers.as_ref().map_or_else(missing, |workers| workers.tree.facts());
        Local { link, facts, workers }
    }

    fn workers(&self) -> Result<&Workers, MediaError> {
        self.workers.as_ref().ok_or_else(|| MediaError::Lost { host: self.link.host.clone() })
    }
}

/// The facts about a target that is not there.
pub(crate) fn missing() -> Facts {
    Facts { exists: false, privileged: false, path: Blob::default() }
}

/// The scan of a tree that is not there: nothing, and the end.
pub(crate) async fn scan_nothing() -> Scanner {
    let (scanner, ends) = channels();
    // The receiver is in our hand and has room.
    let _ = ends.heads.send(Heading::End).await;
    scanner
}

#[async_trait]
impl Session for Local {
    fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn ability(&self) -> Ability {
        Ability {
            whole_secs: false,
            delta: true,
            parts: true,
            keeps_parts: false,
            tells_links: true,
            settles: true,
            late_dirs: false,
            remote: false,
            lanes: Lanes::here(LOCAL_LANES),
        }
    }

    async fn scan(&self, spec: ScanSpec, listed: Option<&Listed>) -> Result<Scanner, MediaError> {
        match &self.workers {
            Some(workers) => workers.scan(&spec, listed),
            None => Ok(scan_nothing().await),
        }
    }

    async fn source_lane(&self, _lane: u32) -> Result<SourceLane, MediaError> {
        let (jobs, pieces) = self.workers()?.reader()?;
        Ok(SourceLane { jobs, pieces })
    }

    async fn target_lane(&self, lane: u32) -> Result<TargetLane, MediaError> {
        let (pieces, told) = self.workers()?.storer(lane)?;
        Ok(TargetLane { pieces, told })
    }

    async fn calls(&self) -> Result<Calls, MediaError> {
        self.workers()?.calls()
    }
}
