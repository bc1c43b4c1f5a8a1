//! The pipe between the two programs: through memory, with backpressure, compressed where the link
//! is worth it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::event::{Event, Monitor, Progress};
use crate::host::helper::Helper;
use crate::host::pipe::{PackOptions, pack};
use crate::host::{Command, Host, Reader, Writer};
use crate::units::Bytes;

use super::super::held::Leash;
use super::super::tools::Tool;
use super::super::{DatabaseError, Server};
use super::judge::{self, Ends};
use super::progress;

const BUFFER_BYTES: usize = 256 * 1024;
/// How long a program may take to end after the other one did.
const END_WAIT_MAX: Duration = Duration::from_secs(60);
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Who makes the stream smaller.
#[derive(Clone, Debug, Default)]
pub enum Compression {
    /// Nobody: both sides are on this machine or near it.
    #[default]
    None,
    /// pg_dump itself, at this level of gzip: works with nothing installed on the target.
    Archive { level: u32 },
    /// zstd on all cores, unpacked by our helper on the target. Anybody who runs pg_restore there
    /// must be able to run it.
    Helper { helper: Helper, level: Level },
}

/// How hard zstd works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Fixed(i32),
    /// As the link asks: it is measured when the copy begins.
    Fitting,
}

impl Level {
    /// For a link of which nothing is known.
    const DEFAULT: i32 = 3;

    fn number(self) -> i32 {
        match self {
            Level::Fixed(number) => number,
            Level::Fitting => Level::DEFAULT,
        }
    }
}

/// More bytes a second than one session reads from a server and writes to another, with indexes to
/// be built beside it. A link that takes as much of all of them is not what they wait for:
/// compressing would only take time from the processors.
const SESSION_TAKES: u64 = 50_000_000;
/// As how many sessions the pipe of mode `stream` counts: its programs take turns, and packing
/// between them does not slow that down.
pub const PIPE_SESSIONS: usize = 4;
/// From here on the fastest level is enough.
const FASTEST_FROM: u64 = 50_000_000;

/// A link, and what was made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What one connection takes; 0 where that could not be measured.
    pub bytes_a_second: u64,
    /// Of zstd; `None` if nothing was compressed.
    pub level: Option<i32>,
}

impl Link {
    /// The link to `host`, over which `sessions` are to be filled.
    pub async fn measure(host: &dyn Host, sessions: usize) -> Link {
        // What cannot be measured is taken for slow.
        let bytes_a_second = crate::host::throughput(host).await.unwrap_or(0);
        Link { bytes_a_second, level: fitting_level(bytes_a_second, sessions) }
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.bytes_a_second {
            0 => out.write_str("the link could not be measured: ")?,
            rate => write!(out, "the link took {}/s: ", Bytes(rate))?,
        }
        match self.level {
            Some(level) => write!(out, "compressed with level {level} of zstd"),
            None => out.write_str("not compressed"),
        }
    }
}

/// What fits a link that takes so many bytes a second from so many sessions; `None` is not to
/// compress at all.
fn fitting_level(bytes_a_second: u64, sessions: usize) -> Option<i32> {
    match bytes_a_second {
        rate if rate >= SESSION_TAKES.saturating_mul(sessions as u64) => None,
        FASTEST_FROM.. => Some(1),
        _ => Some(Level::DEFAULT),
    }
}

impl Compression {
    /// The same, fitted to the link to `host` over which `sessions` are filled, where that was left
    /// open; and what the link is like.
    pub async fn fitted(&self, host: &dyn Host, sessions: usize) -> (Compression, Option<Link>) {
        let Compression::Helper { helper, level: Level::Fitting } = self else {
            return (self.clone(), None);
        };
        let link = Link::measure(host, sessions).await;
        let compression = match link.level {
            Some(level) => {
                Compression::Helper { helper: helper.clone(), level: Level::Fixed(level) }
            }
            None => Compression::None,
        };
        (compression, Some(link))
    }

    /// The helper and its level, if it is to unpack.
    pub fn helper(&self) -> Option<(&Helper, i32)> {
        match self {
            Compression::Helper { helper, level } => Some((helper, level.number())),
            Compression::None | Compression::Archive { .. } => None,
        }
    }

    /// What pg_dump is to do.
    pub fn archive_level(&self) -> u32 {
        match self {
            Compression::None | Compression::Helper { .. } => 0,
            Compression::Archive { level } => *level,
        }
    }

    /// The command that takes what we send.
    fn receiver(&self, restore: Command) -> Command {
        match self {
            Compression::None | Compression::Archive { .. } => restore,
            Compression::Helper { helper, .. } => {
                restore.wrapped([helper.path(), "helper", "unpack", "--"])
            }
        }
    }
}

/// Runs both commands with a pipe between them. Gives the bytes of the archive and what the
/// programs warned about.
pub(super) async fn flow(
    source: &Server,
    target: &Server,
    dump: Command,
    restore: Command,
    compression: &Compression,
    monitor: &dyn Monitor,
) -> Result<(u64, Vec<String>), DatabaseError> {
    let leash = Leash::tie(&*target.host, &target.os_user, Tool::Restore.name()).await?;
    let link = target.host.dedicated().await?;
    let restore = compression.receiver(leash.command(restore));
    let (restore_in, mut restore_out, restore_end) = link.spawn(&restore).await?.split();
    let (dump_in, dump_out, dump_end) = source.host.spawn(&dump).await?.split();
    let restore_end = async {
        let mut sink = tokio::io::sink();
        let (_, ended) = tokio::join!(tokio::io::copy(&mut restore_out, &mut sink), restore_end);
        ended
    };
    let mut restore_end = pin!(restore_end);
    let mut dump_end = pin!(dump_end);
    let bytes = Mutex::new(0);
    let pumped = {
        let copying = carry(source, dump_out, restore_in, compression, &bytes, monitor);
        tokio::select! {
            () = copying => None,
            ended = &mut restore_end => Some(ended),
        }
    };
    // The pipe is closed at both ends by now. If the restore went first, so must the dump.
    let ended_early = pumped.is_some();
    let dump_in = if ended_early { None } else { Some(dump_in) };
    let dump = tokio::time::timeout(END_WAIT_MAX, &mut dump_end).await.unwrap_or_else(|_| {
        Err(crate::host::HostError::TimedOut {
            host: source.host.name().to_owned(),
            command: dump.to_string(),
            secs: END_WAIT_MAX.as_secs(),
        })
    });
    drop(dump_in);
    let restore = match pumped {
        Some(ended) => ended,
        None => restore_end.await,
    };
    let warnings = judge::both(Ends { source, target, dump, restore })?;
    leash.release().await?;
    let bytes = bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((bytes, warnings))
}

/// Carries everything from `from` to `to`, and closes both. That one of them broke is told by the
/// end of its program.
async fn carry(
    source: &Server,
    from: Reader,
    to: Writer,
    compression: &Compression,
    bytes: &Mutex<u64>,
    monitor: &dyn Monitor,
) {
    let table = Mutex::new(None);
    let tell = |total: u64| {
        let table = table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *bytes.lock().unwrap_or_else(PoisonError::into_inner) = total;
        monitor.emit(Event::Progress(Progress {
            activity: "database".into(),
            detail: table,
            bytes_done: total,
            ..Progress::default()
        }));
    };
    let from = Told::new(from, &tell);
    let carried = async {
        match compression {
            Compression::None | Compression::Archive { .. } => plain(from, to).await,
            Compression::Helper { level, .. } => {
                let options = PackOptions { level: level.number(), workers: pack_workers() };
                drop(pack(from, to, options).await);
            }
        }
    };
    tokio::select! {
        () = carried => {}
        never = progress::tables(source, &table) => match never {},
    }
}

/// Threads that compress: the cores of this machine, but pg_dump needs one too.
fn pack_workers() -> u32 {
    const WORKERS_MAX: usize = 4;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(WORKERS_MAX) as u32
}

/// Writes what it reads; the end is passed on, and so is that it broke off: by how the programs
/// end.
async fn plain(mut from: impl AsyncRead + Unpin, mut to: Writer) {
    let mut from = tokio::io::BufReader::with_capacity(BUFFER_BYTES, &mut from);
    let _ = tokio::io::copy_buf(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// A reader that tells how many bytes came through, now and then and at the end.
struct Told<'a, F> {
    from: Reader,
    tell: &'a F,
    bytes: u64,
    told: Instant,
}

impl<'a, F: Fn(u64)> Told<'a, F> {
    fn new(from: Reader, tell: &'a F) -> Self {
        Told { from, tell, bytes: 0, told: Instant::now() }
    }
}

impl<F: Fn(u64)> AsyncRead for Told<'_, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(self.from.as_mut().poll_read(context, buffer));
        let count = buffer.filled().len() - before;
        self.bytes += count as u64;
        if count == 0 || self.told.elapsed() >= TELL_EVERY {
            (self.tell)(self.bytes);
            self.told = Instant::now();
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_the_link_the_harder_the_work() {
        let megabits = |number: u64| fitting_level(number * 125_000, 4);
        assert_eq!([megabits(100), megabits(940), megabits(9_000)], [Some(3), Some(1), None]);
        assert_eq!(fitting_level(0, 4), Some(3), "not measured");
    }

    #[test]
    fn few_sessions_do_not_fill_a_link_that_many_fill() {
        assert_eq!([2, 8].map(|many| fitting_level(117_000_000, many)), [None, Some(1)]);
    }
}
