//! One side of a pass while it runs: what a coordinator can ask of it, the same for a local
//! directory ([`local`]), a helper ([`super::helper`]) and an SFTP server ([`super::sftp`]).
//!
//! Everything flows through bounded channels whose other ends are tasks or threads. Dropping a
//! channel ends what is behind it; a channel that closes by itself has failed, and the side's
//! [`Link`] knows why.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::error::MediaError;
use super::group::Scanner;
use super::listed::Listed;
use crate::host::Host;
use crate::wire::message::{Answer, Call, Facts, Job, Manner, Piece, ScanSpec, Side, Store, Told};
use crate::wire::tree::RunId;

pub(super) mod local;

/// Files that may be asked for ahead on one lane.
pub(crate) const JOBS_AHEAD_MAX: usize = 128;
/// Pieces, or bunches of them, under way between two stages; with chunks of 256 KiB a bound on memory.
pub(crate) const PIECES_AHEAD_MAX: usize = 8;
/// Pieces that are handed on together: a chunk, or small files of no more bytes than one.
pub(crate) type Bunch = Vec<Piece>;

/// What a side can do.
#[async_trait]
pub(crate) trait Session: Send + Sync {
    fn link(&self) -> &Arc<Link>;
    fn facts(&self) -> &Facts;
    fn ability(&self) -> Ability;
    /// Starts a scan, of what is listed if that is what `spec` says. Another one may follow when it
    /// has ended.
    async fn scan(&self, spec: ScanSpec, listed: Option<&Listed>) -> Result<Scanner, MediaError>;
    /// A way for files out of a source.
    async fn source_lane(&self, lane: u32) -> Result<SourceLane, MediaError>;
    /// A way for files into a target.
    async fn target_lane(&self, lane: u32) -> Result<TargetLane, MediaError>;
    /// A way for changes without content. They are done in order.
    async fn calls(&self) -> Result<Calls, MediaError>;
}

/// What a pass opens a side for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub side: Side,
    /// A target that is missing is made.
    pub create: bool,
    pub run: RunId,
    pub gentle: bool,
    /// Much will probably be copied.
    pub expectant: bool,
    pub manner: Manner,
}

/// What differs between the kinds of sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ability {
    /// It keeps times in whole seconds.
    pub whole_secs: bool,
    /// It can make signatures and deltas, and apply them.
    pub delta: bool,
    /// A new directory gets its owner and mode along with its time, when everything is in it.
    pub late_dirs: bool,
    /// Large files can come or go in parts, over several lanes.
    pub parts: bool,
    /// What it has of a large file is known to the next pass if it breaks off.
    pub keeps_parts: bool,
    /// It can make changes when what was stored before is published.
    pub settles: bool,
    /// It can tell which names are of the same file.
    pub tells_links: bool,
    /// It is another machine.
    pub remote: bool,
    pub lanes: Lanes,
}

/// How many lanes make sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes {
    pub max: usize,
    /// So many are opened as soon as there is work for them; further ones only for long work.
    pub at_once: usize,
}

/// A question and its answer take less on a short way.
const NEAR: Duration = Duration::from_millis(10);
/// Over a short way so many lanes keep both sides busy. They share one connection, which is not
/// what they wait for; another one costs as much as it may bring.
pub(super) const LANES_NEAR: usize = 2;

impl Lanes {
    /// To a machine that takes so many connections. Over a long way each lane waits for it, and all
    /// share the waiting; over a short one more of them than processors only cost.
    pub fn to(host: &dyn Host, connections: usize) -> Self {
        let near = host.round_trip().is_some_and(|round_trip| round_trip < NEAR);
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let max = if near { connections.min(processors.max(2)) } else { connections };
        Lanes { max, at_once: if near { LANES_NEAR.min(max) } else { max } }
    }

    /// Whether what is opened for `host` should be opened early.
    pub fn is_far(host: &dyn Host) -> bool {
        host.round_trip().is_some_and(|round_trip| round_trip >= NEAR)
    }

    /// Within this machine.
    pub fn here(max: usize) -> Self {
        Lanes { max, at_once: max }
    }
}

/// Pieces come in the order of the jobs.
pub(crate) struct SourceLane {
    pub jobs: mpsc::Sender<Job>,
    pub pieces: mpsc::Receiver<Bunch>,
}

/// Results of changes come in order, acknowledgements of files in any.
pub(crate) struct TargetLane {
    pub pieces: mpsc::Sender<Store>,
    pub told: mpsc::Receiver<Told>,
}

/// Calls that may wait to be taken.
pub(crate) const CALLS_AHEAD_MAX: usize = 8;

/// A call, and who waits for its answer.
pub(crate) type Asked = (Call, oneshot::Sender<Answer>);

pub(crate) type Calls = mpsc::Sender<Asked>;

/// A way for calls and its other end.
pub(crate) fn calls_channel() -> (Calls, mpsc::Receiver<Asked>) {
    mpsc::channel(CALLS_AHEAD_MAX)
}

/// What all channels to one side share: its name, why it failed, and how many bytes went by.
#[derive(Debug)]
pub(crate) struct Link {
    pub host: String,
    failed: Mutex<Option<MediaError>>,
    pub sent_bytes: AtomicU64,
    pub received_bytes: AtomicU64,
    /// Whatever may still write after its channels were dropped, and whoever may still tell why
    /// they closed.
    pub tasks: TaskTracker,
}

/// How long what is under way may take to end when nobody wants it any more.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

impl Link {
    pub fn new(host: &str) -> Arc<Self> {
        Arc::new(Link {
            host: host.to_owned(),
            failed: Mutex::new(None),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        })
    }

    /// Waits until nothing is written for this side any more. All channels must have been dropped.
    pub async fn settle(&self) {
        self.tasks.close();
        // What hangs on a dead disk or machine cannot be waited for.
        let _ = tokio::time::timeout(SETTLE_LIMIT, self.tasks.wait()).await;
    }

    /// Notes why a channel of this side is about to close. The first reason counts.
    pub fn fail(&self, error: MediaError) {
        let mut failed = self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failed.get_or_insert(error);
    }

    /// Why the side failed, if it told.
    pub fn take_failure(&self) -> Option<MediaError> {
        self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }

    pub fn count_sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn count_received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
