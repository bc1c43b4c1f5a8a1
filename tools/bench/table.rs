//! What came out: a table for people, a CSV for whoever wants to compute.

use std::fmt::Write;
use std::path::Path;

use super::clock::Cost;

/// All runs of a case, each with the name of its tool.
pub struct Results {
    /// The tool that the others are set beside.
    base: &'static str,
    runs: Vec<(&'static str, Cost)>,
}

impl Results {
    pub fn beside(base: &'static str) -> Self {
        Results { base, runs: Vec::new() }
    }

    pub fn add(&mut self, tool: &'static str, cost: Cost) {
        self.runs.push((tool, cost));
    }

    /// The middle one of the runs of `tool`, measured by `of`.
    fn median(&self, tool: &str, of: impl Fn(&Cost) -> f64) -> Option<f64> {
        let runs = self.runs.iter().filter(|(other, _)| *other == tool);
        let mut values: Vec<f64> = runs.map(|(_, cost)| of(cost)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// The tools in the order in which they ran first.
    fn tools(&self) -> Vec<&'static str> {
        let mut tools = Vec::new();
        for (tool, _) in &self.runs {
            if !tools.contains(tool) {
                tools.push(*tool);
            }
        }
        tools
    }

    /// Medians of each tool, and how many times as long the base took.
    pub fn table(&self, case: &str) -> String {
        let mut text = format!(
            "{case}\n{:22} {:>9} {:>9} {:>11}  {:>9}\n",
            "",
            "seconds",
            "cpu s",
            "wire MB",
            format!("x {}", self.base)
        );
        let wall = |tool| self.median(tool, |cost| cost.wall.as_secs_f64());
        for tool in self.tools() {
            let Some(seconds) = wall(tool) else { continue };
            let processor = self.median(tool, |cost| cost.processor.as_secs_f64()).unwrap_or(0.0);
            let wire = self.median(tool, |cost| cost.wire_bytes as f64 / 1e6).unwrap_or(0.0);
            let ratio =
                wall(self.base).map_or("".to_owned(), |base| format!("{:.2}", base / seconds));
            // Writing to a string does not fail.
            let _ =
                writeln!(text, "{tool:22} {seconds:9.2} {processor:9.2} {wire:11.2}  {ratio:>9}");
        }
        text
    }

    /// A line for each run.
    pub fn csv(&self, case: &str) -> String {
        let line = |(tool, cost): &(&str, Cost)| {
            format!(
                "{case},{tool},{:.4},{:.3},{}\n",
                cost.wall.as_secs_f64(),
                cost.processor.as_secs_f64(),
                cost.wire_bytes
            )
        };
        self.runs.iter().map(line).collect()
    }
}

pub const CSV_HEAD: &str = "case,tool,wall_seconds,client_cpu_seconds,wire_bytes\n";

pub fn write_csv(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
}
