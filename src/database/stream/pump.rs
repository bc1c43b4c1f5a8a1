//! The pipe between the two programs: through memory, with backpressure, compressed where the link
//! is worth it.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::event::{Event, Monitor, Progress};
use crate::host::{Command, Reader, Writer};

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
}

impl Compression {
    /// What pg_dump is to do.
    pub(super) fn archive_level(&self) -> u32 {
        match self {
            Compression::None => 0,
            Compression::Archive { level } => *level,
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
    let link = target.host.dedicated().await?;
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
    let carried = async {
        match compression {
            Compression::None | Compression::Archive { .. } => plain(from, to, &tell).await,
        }
    };
    tokio::select! {
        () = carried => {}
        never = progress::tables(source, &table) => match never {},
    }
}

async fn plain(mut from: Reader, mut to: Writer, tell: &impl Fn(u64)) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut total, mut told) = (0, Instant::now());
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        total += count as u64;
        if told.elapsed() >= TELL_EVERY {
            tell(total);
            told = Instant::now();
        }
    }
    let _ = to.flush().await;
    let _ = to.shutdown().await;
    tell(total);
}
