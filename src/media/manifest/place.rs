//! The directory in which manifests lie, one file each, and how one is read and replaced: written
//! beside the old one and renamed at the end of a complete walk. Nothing here is durable or has to
//! be: what a crash leaves behind is found damaged. Whatever cannot be had or done is `None`.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::format::{
    BLOCK_BYTES_MAX, Block, FRAME_BYTES, HEAD_BYTES, Head, KEY_BYTES, frame, framed,
};
use crate::media::root::{Root, native};

const ENDING: &str = ".manifest";
const ENDING_NEW: &str = ".new";
/// What SFTP remembers of long files, see `media::sftp::known`.
pub(crate) const ENDING_BLOCKS: &str = ".blocks";
/// And which parts of a large one are there, see `media::sftp::record`.
pub(crate) const ENDING_PARTS: &str = ".parts";
/// What a killed scan began is swept after so long, and a manifest that nobody used for so long.
const NEW_KEPT: Duration = Duration::from_secs(24 * 3600);
const KEPT: Duration = Duration::from_secs(180 * 24 * 3600);
const BUFFER_BYTES: usize = 256 * 1024;

/// Where one manifest is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    dir: Arc<OwnedFd>,
    name: String,
}

impl Place {
    /// The place in `dir` of the manifest with `key`. `dir` is made if need be; one that somebody
    /// else could write to is not used, and neither is one that lies in the tree itself.
    pub fn open(dir: &Path, root: &Root, key: &[u8; KEY_BYTES]) -> Option<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).ok()?;
        if dir.canonicalize().ok()?.starts_with(native(root.path())) {
            return None;
        }
        let dir = open_own(dir)?;
        let name = key[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Place { dir: Arc::new(dir), name })
    }

    /// The manifest that is there.
    pub fn read(&self, key: &[u8; KEY_BYTES]) -> Option<Reader> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = format!("{}{ENDING}", self.name);
        let file = File::from(rustix::fs::openat(&self.dir, name, flags, Mode::empty()).ok()?);
        Reader::new(file, key)
    }

    /// Begins another one. `run` keeps two that are written at once apart.
    fn create(&self, run: u64) -> io::Result<Writer> {
        self.sweep();
        let name = format!("{}-{run:016x}{ENDING_NEW}", self.name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, &name, flags, Mode::from_raw_mode(0o600))?;
        let out = BufWriter::with_capacity(BUFFER_BYTES, File::from(file));
        Ok(Writer { place: self.clone(), name, out, done: false })
    }

    fn sweep(&self) {
        let Ok(list) = rustix::fs::Dir::read_from(&self.dir) else { return };
        for entry in list.flatten() {
            let name = entry.file_name().to_bytes();
            let kept = match () {
                () if name.ends_with(ENDING_NEW.as_bytes()) => NEW_KEPT,
                () if name.ends_with(ENDING.as_bytes()) => KEPT,
                () if name.ends_with(ENDING_BLOCKS.as_bytes()) => KEPT,
                () if name.ends_with(ENDING_PARTS.as_bytes()) => KEPT,
                () => continue,
            };
            let Ok(stat) = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let age_secs = crate::event::now().as_second().saturating_sub(stat.st_mtime);
            if age_secs > kept.as_secs() as i64 {
                // It may be gone already; if it cannot be removed, it stays.
                let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
            }
        }
    }
}

/// Opens a directory that only we can write to.
pub(crate) fn open_own(dir: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = File::from(rustix::fs::open(dir, flags, Mode::empty()).ok()?);
    let ours = |stat: &Metadata| {
        stat.uid() == rustix::process::geteuid().as_raw() && stat.mode() & 0o022 == 0
    };
    dir.metadata().ok().filter(ours)?;
    Some(dir.into())
}

/// Removes all manifests in `dir`, and the directory if nothing else is in it.
pub(super) fn forget(dir: &Path) -> io::Result<()> {
    let Some(fd) = open_own(dir) else { return Ok(()) };
    for entry in rustix::fs::Dir::read_from(&fd)?.flatten() {
        let name = entry.file_name().to_bytes();
        let ours = |ending: &str| name.ends_with(ending.as_bytes());
        if [ENDING, ENDING_NEW, ENDING_BLOCKS, ENDING_PARTS].into_iter().any(ours) {
            rustix::fs::unlinkat(&fd, name, AtFlags::empty())?;
        }
    }
    for dir in [Some(dir), dir.parent()].into_iter().flatten() {
        // What is not empty stays.
        let _ = std::fs::remove_dir(dir);
    }
    Ok(())
}

/// A manifest being read.
#[derive(Debug)]
pub(crate) struct Reader {
    pub head: Head,
    input: BufReader<File>,
    at: u64,
    bytes: u64,
}

impl Reader {
    fn new(file: File, key: &[u8; KEY_BYTES]) -> Option<Self> {
        let bytes = file.metadata().ok().filter(Metadata::is_file)?.len();
        let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut head = [0; HEAD_BYTES];
        input.read_exact(&mut head).ok()?;
        let head = Head::decode(&head).filter(|head| head.key == *key)?;
        Some(Reader { head, input, at: HEAD_BYTES as u64, bytes })
    }

    /// The same file, to copy from.
    pub fn original(&self) -> Option<Original> {
        let file = self.input.get_ref().try_clone().ok()?;
        Some(Original { file, bytes: self.bytes, started: self.head.started })
    }

    /// The next block; `Some(None)` at the end, `None` if the rest is damaged.
    pub fn next(&mut self) -> Option<Option<Block>> {
        let mut frame_bytes = [0; FRAME_BYTES];
        self.input.read_exact(&mut frame_bytes).ok()?;
        let length = framed(&frame_bytes)?;
        if length == 0 {
            return (frame_bytes == frame(&[])).then_some(None);
        }
        let at = self.at;
        self.at += (FRAME_BYTES + length) as u64;
        if self.at > self.bytes {
            return None;
        }
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes).ok()?;
        Block::decode(at, &frame_bytes, bytes).map(Some)
    }
}

/// The manifest that was there, of which the unchanged beginning is taken over.
#[derive(Debug)]
pub(crate) struct Original {
    file: File,
    bytes: u64,
    pub started: (i64, u32),
}

/// A manifest being written.
struct Writer {
    place: Place,
    name: String,
    out: BufWriter<File>,
    done: bool,
}

impl Writer {
    fn publish(mut self) -> io::Result<()> {
        self.out.write_all(&frame(&[]))?;
        self.out.flush()?;
        let name = format!("{}{ENDING}", self.place.name);
        rustix::fs::renameat(&self.place.dir, &self.name, &self.place.dir, name)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            // The next scan sweeps it otherwise.
            let _ = rustix::fs::unlinkat(&self.place.dir, &self.name, AtFlags::empty());
        }
    }
}

/// Writes the manifest of a scan: nothing as long as all is as it was.
pub(crate) struct Recorder {
    place: Place,
    head: Head,
    run: u64,
    original: Option<Original>,
    state: State,
}

enum State {
    /// So many bytes of the original still hold.
    AsBefore(u64),
    Writing(Writer),
    /// It cannot be written; the old one stays.
    Failed,
}

impl Recorder {
    pub fn new(place: Place, head: Head, run: u64, original: Option<Original>) -> Self {
        Recorder { place, head, run, original, state: State::AsBefore(HEAD_BYTES as u64) }
    }

    /// Takes over a block as it was.
    pub fn keep(&mut self, block: &Block) {
        match &mut self.state {
            State::AsBefore(until) if self.original.is_some() && *until == block.at => {
                *until += block.framed_bytes();
            }
            State::AsBefore(_) | State::Writing(_) | State::Failed => self.add(block.bytes()),
        }
    }

    pub fn add(&mut self, block: &[u8]) {
        self.begin();
        let State::Writing(writer) = &mut self.state else { return };
        // Too large a one is left out, and with it the manifest.
        let fits = block.len() <= BLOCK_BYTES_MAX;
        let written =
            writer.out.write_all(&frame(block)).and_then(|()| writer.out.write_all(block));
        if !fits || written.is_err() {
            self.state = State::Failed;
        }
    }

    /// Starts to write, with what still holds of the original.
    fn begin(&mut self) {
        let State::AsBefore(until) = self.state else { return };
        self.state = match self.beginning(until) {
            Ok(writer) => State::Writing(writer),
            Err(_) => State::Failed,
        };
    }

    fn beginning(&self, until: u64) -> io::Result<Writer> {
        let mut writer = self.place.create(self.run)?;
        writer.out.write_all(&self.head.encode())?;
        if let Some(Original { file, .. }) = &self.original {
            // By offset: the place of the handle is its reader's.
            let mut copied = Vec::new();
            let mut at = HEAD_BYTES as u64;
            while at < until {
                let count = (until - at).min(BUFFER_BYTES as u64);
                copied.resize(count as usize, 0);
                file.read_exact_at(&mut copied, at)?;
                writer.out.write_all(&copied)?;
                at += count;
            }
        }
        Ok(writer)
    }

    /// The walk came to its end: the manifest is published, if it is another one than before or
    /// so old that what it says of quiet files is out of date.
    pub fn finish(mut self) {
        if let (State::AsBefore(until), Some(original)) = (&self.state, &self.original) {
            let whole = until + FRAME_BYTES as u64 == original.bytes;
            let age_secs = self.head.started.0.saturating_sub(original.started.0);
            if whole && (0..NEW_KEPT.as_secs() as i64).contains(&age_secs) {
                return;
            }
        }
        self.begin();
        if let State::Writing(writer) = self.state {
            // Without it the next scan takes longer.
            let _ = writer.publish();
        }
    }
}
