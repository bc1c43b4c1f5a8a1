//! What came out: a table for people, a CSV for whoever wants to compute.

use std::fmt::Write;
use std::path::Path;

use super::clock::Cost;
use super::peers::Peer;

/// All runs of a case.
#[derive(Default)]
pub struct Results(Vec<(Peer, Cost)>);

impl Results {
    pub fn add(&mut self, peer: Peer, cost: Cost) {
        self.0.push((peer, cost));
    }

    /// The middle one of the runs of `peer`, measured by `of`.
    fn median(&self, peer: Peer, of: impl Fn(&Cost) -> f64) -> Option<f64> {
        let mut values: Vec<f64> =
            self.0.iter().filter(|(other, _)| *other == peer).map(|(_, cost)| of(cost)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Medians of each tool, and how many times as long as ours rsync took.
    pub fn table(&self, case: &str) -> String {
        let mut text = format!(
            "{case}\n{:18} {:>9} {:>9} {:>11} {:>9}\n",
            "", "seconds", "cpu s", "wire MB", "x rsync"
        );
        let wall = |peer| self.median(peer, |cost| cost.wall.as_secs_f64());
        for peer in Peer::all() {
            let Some(seconds) = wall(peer) else { continue };
            let processor = self.median(peer, |cost| cost.processor.as_secs_f64()).unwrap_or(0.0);
            let wire = self.median(peer, |cost| cost.wire_bytes as f64 / 1e6).unwrap_or(0.0);
            let ratio =
                wall(Peer::Rsync).map_or("".to_owned(), |rsync| format!("{:.2}", rsync / seconds));
            let name = peer.name();
            // Writing to a string does not fail.
            let _ =
                writeln!(text, "{name:18} {seconds:9.2} {processor:9.2} {wire:11.2} {ratio:>9}");
        }
        text
    }

    /// A line for each run.
    pub fn csv(&self, case: &str) -> String {
        let line = |(peer, cost): &(Peer, Cost)| {
            format!(
                "{case},{},{:.4},{:.3},{}\n",
                peer.name(),
                cost.wall.as_secs_f64(),
                cost.processor.as_secs_f64(),
                cost.wire_bytes
            )
        };
        self.0.iter().map(line).collect()
    }
}

pub const CSV_HEAD: &str = "case,tool,wall_seconds,client_cpu_seconds,wire_bytes\n";

pub fn write_csv(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
}
