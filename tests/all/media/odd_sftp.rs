//! SFTP servers that are not what they look like: OpenSSH's program, with somebody in between who
//! tells other handles, mixes up replies, or has requests fail.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use transhume::host::{Address, Command, Host, HostError, Process, Stream};
use transhume::media::{MediaError, Options};

use super::faults::{nothing_half, small_disk};
use super::fixture::{Near, Pair, Way, deleting, leftovers};
use super::tree::{fill, noise};

const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const OPEN: u8 = 3;
const OPENDIR: u8 = 11;
const WITH_HANDLE: [u8; 6] = [CLOSE, READ, WRITE, 8, 10, 12];
const HANDLE: u8 = 102;
const POISON: &[u8] = b"poison";

/// What is odd about a server.
#[derive(Clone, Copy, Debug, Default)]
struct Quirk {
    /// From this handle on (counted on each channel) others are told.
    other_handles_from: Option<usize>,
    /// This reply, and each as many later, is told behind the one that follows it.
    late_reply: Option<usize>,
    /// This OPEN finds no directory, and each as many later.
    failing_open: Option<usize>,
    /// WRITEs of content that begins with [`POISON`] fail.
    refuses_poison: bool,
}

/// A near machine with a quirk.
#[derive(Clone, Debug)]
struct Odd {
    quirk: Quirk,
    /// WRITEs with a handle that had not been told yet.
    bursts: Arc<AtomicUsize>,
}

#[async_trait]
impl Host for Odd {
    fn name(&self) -> &str {
        "odd.example"
    }

    async fn spawn(&self, command: &Command) -> Result<Process, HostError> {
        Near(None).spawn(command).await
    }

    async fn connect(&self, _: &Address) -> Result<Stream, HostError> {
        unreachable!("the file engine forwards nothing")
    }

    async fn subsystem(&self, name: &str) -> Result<Stream, HostError> {
        let real = Near(None).subsystem(name).await?;
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let (real_out, real_in) = tokio::io::split(real);
        let (our_out, our_in) = tokio::io::split(theirs);
        let between = Arc::new(Mutex::new(Between::default()));
        let (odd, seen) = (self.clone(), between.clone());
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(carry(our_out, sender, move |packet| {
            odd.request(&mut seen.lock().unwrap(), packet)
        }));
        tokio::spawn(late(requests, real_in, None));
        let odd = self.clone();
        let (sender, replies) = mpsc::unbounded_channel();
        tokio::spawn(carry(real_out, sender, move |mut packet| {
            odd.reply(&mut between.lock().unwrap(), &mut packet);
            packet
        }));
        tokio::spawn(late(replies, our_in, self.quirk.late_reply));
        Ok(Box::new(ours))
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        Ok(Arc::new(self.clone()))
    }
}

/// What whoever is in between knows of a channel.
#[derive(Default)]
struct Between {
    opens: usize,
    /// OPENs and OPENDIRs, and the ids of those that are told other handles.
    handles: usize,
    others: HashSet<[u8; 4]>,
    /// Handles that were told and not given back.
    open: HashSet<Vec<u8>>,
    /// Handles that were given back so often before they were told.
    closed_early: HashMap<Vec<u8>, usize>,
    /// Handles as told, and as they are.
    told: HashMap<Vec<u8>, Vec<u8>>,
}

impl Odd {
    fn request(&self, between: &mut Between, mut packet: Vec<u8>) -> Vec<u8> {
        let kind = packet[4];
        if kind == OPEN {
            between.opens += 1;
            if self.quirk.failing_open.is_some_and(|number| between.opens.is_multiple_of(number)) {
                let name = packet.windows(2).rposition(|pair| pair == b"/.").unwrap();
                packet[name + 1] = b'/';
                packet[name - 1] ^= 0x40;
            }
        }
        if matches!(kind, OPEN | OPENDIR) {
            between.handles += 1;
            if self.has_other_handles(between) {
                between.others.insert(packet[5..9].try_into().unwrap());
            }
        }
        if WITH_HANDLE.contains(&kind) {
            let (from, to) = string(&packet, 9);
            let untold = !between.open.contains(&packet[from..to]);
            if kind == WRITE && untold {
                self.bursts.fetch_add(1, Ordering::Relaxed);
            }
            if kind == CLOSE && !between.open.remove(&packet[from..to]) {
                *between.closed_early.entry(packet[from..to].to_vec()).or_default() += 1;
            }
            let real = between.told.get(&packet[from..to]).cloned();
            let (data, _) = if kind == WRITE { string(&packet, to + 8) } else { (to, to) };
            let poisoned = kind == WRITE && packet[data..].starts_with(POISON);
            if poisoned && self.quirk.refuses_poison || untold && self.has_other_handles(between) {
                packet[from..to].fill(0xee);
            } else if let Some(real) = real {
                packet
                    .splice(from - 4..to, [&(real.len() as u32).to_be_bytes()[..], &real].concat());
            }
        }
        sized(packet)
    }

    fn has_other_handles(&self, between: &Between) -> bool {
        self.quirk.other_handles_from.is_some_and(|from| between.handles >= from)
    }

    fn reply(&self, between: &mut Between, packet: &mut Vec<u8>) {
        if packet[4] != HANDLE {
            return;
        }
        if between.others.remove(&packet[5..9]) {
            let (from, to) = string(packet, 9);
            let real = packet[from..to].to_vec();
            let told = format!("handle of {:?}", &packet[5..9]).into_bytes();
            packet.splice(from - 4..to, [&(told.len() as u32).to_be_bytes()[..], &told].concat());
            between.told.insert(told, real);
            *packet = sized(std::mem::take(packet));
        }
        let (from, to) = string(packet, 9);
        let handle = packet[from..to].to_vec();
        match between.closed_early.get_mut(&handle) {
            Some(early) if *early > 0 => *early -= 1,
            Some(_) | None => drop(between.open.insert(handle)),
        }
    }
}

/// Where a string begins and ends.
fn string(packet: &[u8], at: usize) -> (usize, usize) {
    let length = u32::from_be_bytes(packet[at..at + 4].try_into().unwrap()) as usize;
    (at + 4, at + 4 + length)
}

/// The packet with the length that it has.
fn sized(mut packet: Vec<u8>) -> Vec<u8> {
    let length = (packet.len() - 4) as u32;
    packet[..4].copy_from_slice(&length.to_be_bytes());
    packet
}

/// Takes packets, each as `change` gives it.
async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    to: mpsc::UnboundedSender<Vec<u8>>,
    mut change: impl FnMut(Vec<u8>) -> Vec<u8>,
) {
    let mut greeting = true;
    while let Ok(length) = from.read_u32().await {
        let mut packet = length.to_be_bytes().to_vec();
        packet.resize(4 + length as usize, 0);
        if from.read_exact(&mut packet[4..]).await.is_err() {
            break;
        }
        let packet = if std::mem::take(&mut greeting) { packet } else { change(packet) };
        if to.send(packet).is_err() {
            break;
        }
    }
}

/// Gives packets on, each `late`th one behind the next, if one comes.
async fn late(
    mut packets: mpsc::UnboundedReceiver<Vec<u8>>,
    mut to: impl AsyncWriteExt + Unpin,
    late: Option<usize>,
) {
    let mut number = 0;
    while let Some(mut packet) = packets.recv().await {
        number += 1;
        if late.is_some_and(|late| number % late == 0) {
            let next = tokio::time::timeout(Duration::from_millis(20), packets.recv()).await;
            let next = next.ok().flatten().unwrap_or_default();
            packet = [next, packet].concat();
        }
        if to.write_all(&packet).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Two directories on a machine with a quirk, and the bursts that it has seen.
fn odd(quirk: Quirk) -> (Pair, Arc<AtomicUsize>) {
    let bursts = Arc::new(AtomicUsize::new(0));
    let host = Arc::new(Odd { quirk, bursts: bursts.clone() });
    (Pair::over(host, Command::new(["helper"]), None), bursts)
}

/// Small files in many directories, some long ones, and all else that there is.
fn a_tree(pair: &Pair) {
    fill(&pair.source);
    let source = pair.source();
    for number in 0..300_usize {
        let content = noise(number * 37, number as u8);
        source.file(format!("{:03}/{}/{number}", number % 50, number % 3), content, 0o640);
    }
    for number in 0..4 {
        source.file(format!("{number:03}/long"), noise(300_000 * number, number as u8), 0o600);
    }
}

async fn copies_all_the_same(quirk: Quirk) -> usize {
    let (pair, bursts) = odd(quirk);
    a_tree(&pair);
    pair.sync_well(Way::PushSftp, &Options::default()).await;
    pair.assert_same(Way::PushSftp);
    assert_eq!(leftovers(&pair.target), [""; 0], "{quirk:?}");
    let again = pair.sync_well(Way::PushSftp, &deleting()).await;
    assert_eq!((again.stats.transferred_files, again.stats.changed_entries), (0, 0), "{quirk:?}");
    // And out of it.
    std::fs::remove_dir_all(&pair.target).unwrap();
    pair.sync_well(Way::PullSftp, &Options::default()).await;
    pair.assert_same(Way::PullSftp);
    bursts.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_is_sent_files_in_bursts_and_a_server_with_other_handles_is_not() {
    let bursts = copies_all_the_same(Quirk::default()).await;
    assert!(bursts > 100, "{bursts} files in bursts");
    for from in [1, 2, 3, 4] {
        let quirk = Quirk { other_handles_from: Some(from), ..Quirk::default() };
        assert_eq!(copies_all_the_same(quirk).await, 0, "{quirk:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_begins_to_give_other_handles_gets_everything_once_more() {
    for from in [5, 6, 9, 40, 111] {
        let quirk = Quirk { other_handles_from: Some(from), ..Quirk::default() };
        copies_all_the_same(quirk).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_in_another_order_than_asked_gets_everything_once_more() {
    for late in [2, 7, 50, 301] {
        copies_all_the_same(Quirk { late_reply: Some(late), ..Quirk::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_opened_takes_no_other_with_it() {
    for number in [7, 60] {
        for other_handles_from in [None, Some(1), Some(30)] {
            let (failing_open, refuses_poison) = (Some(number), false);
            let quirk =
                Quirk { other_handles_from, failing_open, refuses_poison, late_reply: None };
            let (pair, _) = odd(quirk);
            a_tree(&pair);
            // Each is tried twice, and the second time may be another one's turn to fail.
            let mut outcome = pair.sync(Way::PushSftp, &Options::default()).await.unwrap();
            nothing_half(&pair.source, &pair.target);
            while outcome.problems_total > 0 {
                outcome = pair.sync(Way::PushSftp, &Options::default()).await.unwrap();
            }
            pair.assert_same(Way::PushSftp);
            assert_eq!(leftovers(&pair.target), [""; 0], "{quirk:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_which_a_write_fails_is_not_published_and_the_others_are() {
    for other_handles_from in [None, Some(1), Some(60)] {
        let quirk = Quirk { other_handles_from, refuses_poison: true, ..Quirk::default() };
        let (pair, _) = odd(quirk);
        a_tree(&pair);
        let poisoned = |bytes: usize, at: usize| {
            let mut content = noise(bytes, 1);
            content[at..at + POISON.len()].copy_from_slice(POISON);
            content
        };
        let bad = [
            ("000/small", 20_000, 0),
            ("001/middle", 100_000, 64 << 10),
            ("long", 900_000, 640 << 10),
        ];
        for (name, bytes, at) in bad {
            pair.source().file(name, poisoned(bytes, at), 0o644);
        }
        let outcome = pair.sync(Way::PushSftp, &Options::default()).await.unwrap();
        let mut paths: Vec<String> = outcome.problems.iter().map(|p| p.path.to_string()).collect();
        paths.sort();
        assert_eq!(paths, bad.map(|(name, ..)| name), "{quirk:?}");
        assert_eq!(leftovers(&pair.target), [""; 0], "{quirk:?}");
        for (name, bytes, _) in bad {
            assert!(!pair.target.join(name).exists(), "{quirk:?}");
            pair.source().file(name, noise(bytes, 2), 0o644);
        }
        pair.sync_well(Way::PushSftp, &Options::default()).await;
        pair.assert_same(Way::PushSftp);
    }
}

/// After a WRITE that found no room the CLOSE works, and so would the renaming.
#[tokio::test(flavor = "multi_thread")]
async fn small_files_that_fill_a_disk_are_whole_or_not_there() {
    let pair = Pair::near();
    let Some(disk) = small_disk(&pair.target, "2m") else { return };
    for number in 0..300_usize {
        pair.source().file(format!("{}/{number}", number % 7), noise(20_000, number as u8), 0o644);
    }
    let error = pair.sync(Way::PushSftp, &Options::default()).await.unwrap_err();
    assert!(matches!(error, MediaError::TargetFull { .. }), "{error:?}");
    assert_eq!(leftovers(&pair.target), [""; 0]);
    nothing_half(&pair.source, &pair.target);
    disk.grow();
    pair.sync_well(Way::PushSftp, &deleting()).await;
    pair.assert_same(Way::PushSftp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_arrives_whatever_handles_its_channels_give_and_when() {
    let handles =
        [5, 6, 7, 9].map(|from| Quirk { other_handles_from: Some(from), ..Quirk::default() });
    let late = [3, 50].map(|late| Quirk { late_reply: Some(late), ..Quirk::default() });
    for quirk in handles.into_iter().chain(late) {
        let (pair, _) = odd(quirk);
        a_tree(&pair);
        pair.source().file("large", noise(34 << 20, 1), 0o600);
        pair.sync_well(Way::PushSftp, &Options::default()).await;
        pair.assert_same(Way::PushSftp);
        assert_eq!(leftovers(&pair.target), [""; 0], "{quirk:?}");
    }
}
