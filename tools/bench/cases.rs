//! The cases: each makes its trees, lets every tool copy them in turn, run after run, and compares
//! what arrived.

use std::fs;
use std::path::{Path, PathBuf};

use super::Wanted;
use super::census::Census;
use super::clock::{self, Cost};
use super::database;
use super::peers::Peer;
use super::server::Server;
use super::table::{CSV_HEAD, Results, write_csv};
use super::trees;
use super::wan::link::Link;

pub const NAMES: [&str; 6] = ["first", "idle", "change", "delta", "bulk", "database"];

/// What all cases work with.
struct Bench<'a> {
    wanted: &'a Wanted,
    server: Server,
    dir: PathBuf,
    peers: Vec<Peer>,
}

pub fn run(wanted: &Wanted) -> Result<(), String> {
    let temporary = tempfile::Builder::new().prefix("bench-").tempdir_in(&wanted.dir);
    let temporary = temporary.map_err(|error| error.to_string())?;
    let mut peers = Vec::new();
    for peer in Peer::ALL.into_iter().filter(|peer| wanted.wants(*peer)) {
        match peer.version(&wanted.program) {
            Some(version) => {
                println!("{:18} {version}", peer.name());
                peers.push(peer);
            }
            None => println!("{:18} left out: it is not installed", peer.name()),
        }
    }
    let dir = temporary.path().to_owned();
    // Declared before the server, whose sessions run over it.
    let link = wanted.wan.map(Link::start).transpose()?;
    let server = link.as_ref().map_or_else(|| Ok(Server::here()), Server::beyond)?;
    if let Some(spec) = wanted.wan {
        println!("over {spec:?}, congestion control {}", Link::congestion_control());
    }
    let bench = Bench { wanted, server, dir, peers };
    bench.warm_up()?;
    let mut csv = CSV_HEAD.to_owned();
    for case in &wanted.cases {
        let results = match case.as_str() {
            "first" => bench.first()?,
            "idle" => bench.again(|_, _| {})?,
            "change" => bench.again(|bench, round| {
                trees::change(&bench.source(), bench.many(), round);
            })?,
            "delta" => bench.delta()?,
            "database" => database::run(wanted, &bench.server, &bench.dir)?,
            _ => bench.bulk()?,
        };
        println!("\n{}", results.table(case));
        csv.push_str(&results.csv(case));
    }
    wanted.csv.as_ref().map_or(Ok(()), |path| write_csv(path, &csv))
}

impl Bench<'_> {
    fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    fn target(&self, peer: Peer) -> PathBuf {
        self.dir.join(format!("target-{}", peer as u8))
    }

    fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.wanted.scale) as u64).max(1)
    }

    fn many(&self) -> u64 {
        self.scaled(200_000)
    }

    /// One file each, so that no case pays for installing our helper.
    fn warm_up(&self) -> Result<(), String> {
        trees::write(&self.source().join("file"), 1000, 1_700_000_000);
        let expected = Census::take(&self.source());
        for &peer in &self.peers {
            self.copy(peer, &expected)?;
            remove(&self.target(peer));
        }
        remove(&self.source());
        Ok(())
    }

    /// Lets `peer` copy once, and compares.
    fn copy(&self, peer: Peer, expected: &Census) -> Result<Cost, String> {
        let (source, target) = (self.source(), self.target(peer));
        if peer.carries() {
            fs::create_dir_all(&target).map_err(|error| error.to_string())?;
        }
        let mut command = peer.command(&self.wanted.program, &self.server, &source, &target);
        let cost = match self.wanted.timeline {
            false => clock::run(&mut command)?,
            true => {
                let (cost, rates) = clock::timeline(&mut command)?;
                println!("{} {:?} {rates:?}", peer.name(), cost.wall);
                cost
            }
        };
        if peer.carries() {
            // It carries bytes and nothing else; the comparison is about those.
            dress(&source.join("archive"), &target.join("archive"))?;
        }
        match expected.differences(&Census::take(&target)).as_slice() {
            [] => Ok(cost),
            found => Err(format!("{}: the trees differ: {}", peer.name(), found.join("; "))),
        }
    }

    /// Plain streams need somebody at the far end of a link who takes them.
    fn offers(&self, carrier: Peer) -> bool {
        match carrier {
            Peer::Streams => self.server.streams.is_some(),
            _ => self.wanted.wants(carrier),
        }
    }

    fn beginners(&self) -> Vec<Peer> {
        self.peers.iter().copied().filter(|peer| !peer.repeats()).collect()
    }

    /// Every run begins with nothing on the target.
    fn fresh(&self, peers: &[Peer]) -> Result<Results, String> {
        let expected = Census::take(&self.source());
        let (files, dirs) = expected.counts();
        println!("\n{files} files in {dirs} directories, {} runs", self.wanted.runs);
        let mut results = Results::beside(Peer::Rsync.name());
        for _ in 0..self.wanted.runs {
            for &peer in peers {
                results.add(peer.name(), self.copy(peer, &expected)?);
                remove(&self.target(peer));
            }
        }
        remove(&self.source());
        Ok(results)
    }

    fn first(&self) -> Result<Results, String> {
        trees::media(&self.source(), self.scaled(12_000), 45_000);
        self.fresh(&self.beginners())
    }

    fn bulk(&self) -> Result<Results, String> {
        trees::large(&self.source().join("archive"), self.scaled(1 << 30));
        let carriers = Peer::CARRIERS.into_iter().filter(|peer| self.offers(*peer));
        self.fresh(&self.beginners().into_iter().chain(carriers).collect::<Vec<_>>())
    }

    /// Every run finds what the one before left; `change` happens to the source in between.
    fn again(&self, change: impl Fn(&Self, u64)) -> Result<Results, String> {
        trees::media(&self.source(), self.many(), 60);
        let before = Census::take(&self.source());
        let peers: Vec<Peer> = self.peers.iter().copied().filter(|peer| peer.compares()).collect();
        // The second one is the first that finds what it could remember.
        for &peer in peers.iter().chain(&peers) {
            self.copy(peer, &before)?;
        }
        let (files, dirs) = before.counts();
        println!("\n{files} files in {dirs} directories, {} runs", self.wanted.runs);
        let mut results = Results::beside(Peer::Rsync.name());
        for round in 0..self.wanted.runs {
            change(self, round as u64);
            let expected = Census::take(&self.source());
            for &peer in &peers {
                results.add(peer.name(), self.copy(peer, &expected)?);
            }
        }
        peers.iter().for_each(|peer| remove(&self.target(*peer)));
        remove(&self.source());
        Ok(results)
    }

    fn delta(&self) -> Result<Results, String> {
        let (old, new) = (self.dir.join("old"), self.source().join("archive"));
        trees::large(&old, self.scaled(1 << 30));
        trees::edited(&old, &new, 100);
        let expected = Census::take(&self.source());
        let peers: Vec<Peer> =
            self.beginners().into_iter().filter(|peer| peer.compares()).collect();
        let mut results = Results::beside(Peer::Rsync.name());
        for _ in 0..self.wanted.runs {
            for &peer in &peers {
                let target = self.target(peer);
                fs::create_dir_all(&target).map_err(|error| error.to_string())?;
                fs::copy(&old, target.join("archive")).map_err(|error| error.to_string())?;
                results.add(peer.name(), self.copy(peer, &expected)?);
                remove(&target);
            }
        }
        remove(&self.source());
        Ok(results)
    }
}

/// Gives `to` the mode and the time of `from`.
fn dress(from: &Path, to: &Path) -> Result<(), String> {
    let dressed = fs::metadata(from).and_then(|found| {
        fs::set_permissions(to, found.permissions())?;
        let times = fs::FileTimes::new().set_modified(found.modified()?);
        fs::File::options().write(true).open(to)?.set_times(times)
    });
    dressed.map_err(|error| error.to_string())
}

fn remove(dir: &Path) {
    fs::remove_dir_all(dir).expect("remove what the bench made");
}
