//! The trees that are copied: Mastodon's layout, with random names and content that does not
//! compress, as media is.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::harness::random;

/// Numbers that follow from a seed (splitmix64).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// The styles in which Mastodon keeps an attachment, each in a directory of its own.
const STYLES: [&str; 2] = ["original", "small"];

/// Where a row's files are: its snowflake id in groups of three digits.
fn row_dir(numbers: &mut Numbers) -> PathBuf {
    // Ids of some years, so that leading groups are shared and the last ones are not.
    let id = 108_000_000_000_000_000 + numbers.below(6_000_000_000_000_000);
    let digits = format!("{id:018}");
    let groups: Vec<&str> = (0..6).map(|group| &digits[group * 3..group * 3 + 3]).collect();
    let classes =
        ["cache/media_attachments/files", "media_attachments/files", "cache/accounts/avatars"];
    Path::new(classes[numbers.below(3) as usize]).join(groups.join("/"))
}

/// The paths of a row's files: the same random name in each style.
fn row_files(numbers: &mut Numbers) -> [PathBuf; 2] {
    let dir = row_dir(numbers);
    let name = format!("{:016x}.png", numbers.next());
    STYLES.map(|style| dir.join(style).join(&name))
}

/// Writes a new file with bytes that follow from its path.
pub fn write(path: &Path, bytes: usize, mtime_secs: u64) {
    fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make directories");
    let mut content = vec![0; bytes];
    random::fill(&format!("{} {mtime_secs}", path.display()), &mut content);
    let mut file = File::create(path).expect("create a file");
    file.write_all(&content).expect("write a file");
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(mtime_secs);
    file.set_times(FileTimes::new().set_modified(mtime)).expect("set the time of a file");
}

/// `files` media files of 2 to `bytes_max` bytes below `root`.
pub fn media(root: &Path, files: u64, bytes_max: u64) {
    let mut numbers = Numbers::new(files);
    for _ in 0..files.div_ceil(2) {
        for path in row_files(&mut numbers) {
            let bytes = 2 + numbers.below(bytes_max) as usize;
            write(&root.join(path), bytes, 1_650_000_000 + numbers.below(100_000_000));
        }
    }
}

/// Adds, rewrites and deletes a 500th of the files, a third each. `round` makes it another one
/// each time.
pub fn change(root: &Path, files: u64, round: u64) {
    let mut numbers = Numbers::new(round.wrapping_mul(7919));
    let mut paths = Vec::new();
    list(root, &mut paths);
    paths.sort();
    let count = (files / 1500).max(1);
    for _ in 0..count {
        let [added, _] = row_files(&mut numbers);
        write(&root.join(added), 9_000, 1_760_000_000 + round);
        let rewritten = numbers.below(paths.len() as u64) as usize;
        write(&paths.swap_remove(rewritten), 9_001, 1_760_000_000 + round);
        let deleted = numbers.below(paths.len() as u64) as usize;
        fs::remove_file(paths.swap_remove(deleted)).expect("delete a file");
    }
}

fn list(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("list a directory") {
        let entry = entry.expect("an entry");
        match entry.file_type().expect("a kind").is_dir() {
            true => list(&entry.path(), paths),
            false => paths.push(entry.path()),
        }
    }
}

/// One large file.
pub fn large(path: &Path, bytes: u64) {
    const BLOCK: usize = 1 << 20;
    fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make directories");
    let mut file = File::create(path).expect("create a file");
    let mut block = vec![0; BLOCK];
    for index in 0..bytes.div_ceil(BLOCK as u64) {
        random::fill(&format!("block {index}"), &mut block);
        file.write_all(&block).expect("write a file");
    }
    file.set_len(bytes).expect("cut a file");
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    file.set_times(FileTimes::new().set_modified(mtime)).expect("set the time of a file");
}

/// The same file with `edits` scattered rewrites of 4 KiB, and 1,000 bytes put in at a third.
pub fn edited(from: &Path, to: &Path, edits: u64) {
    let mut content = fs::read(from).expect("read a file");
    let mut numbers = Numbers::new(edits);
    for edit in 0..edits {
        let at = numbers.below(content.len() as u64 - 4096) as usize;
        random::fill(&format!("edit {edit}"), &mut content[at..at + 4096]);
    }
    let at = content.len() / 3;
    let mut inserted = vec![0; 1000];
    random::fill("inserted", &mut inserted);
    content.splice(at..at, inserted);
    fs::create_dir_all(to.parent().expect("a file has a parent")).expect("make directories");
    fs::write(to, content).expect("write a file");
}
