//! Which directories a pass over a list is about as a whole, asked in the order of the walk. Memory
//! is that of its depth, and of the listed names in the directories that it is in.

use super::{Listed, Visit};
use crate::wire::names::At;
use crate::wire::path::{Name, RelPath};

/// Follows a list along with a walk.
#[derive(Debug)]
pub(crate) struct Coverage {
    listed: Listed,
    /// From the root to where the walk is.
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    path: RelPath,
    visit: Visit,
    /// The listed names in it that the walk has not passed; it comes to the last one first.
    names: Vec<At>,
}

impl Coverage {
    pub fn new(listed: Listed) -> Self {
        let root = listed.root();
        let mut coverage = Coverage { listed, steps: Vec::new() };
        coverage.push(RelPath::root(), root);
        coverage
    }

    pub fn sets_root(&self) -> bool {
        self.listed.sets_root()
    }

    /// Whether all that is directly in the directory at `path` belongs to the pass, and whether it
    /// is itself there for that reason. `path` comes after all that was asked for before.
    pub fn holds_all(&mut self, path: &RelPath) -> (bool, bool) {
        let within = |step: &Step| path.is_within(&step.path);
        while self.steps.len() > 1 && !self.steps.last().is_some_and(within) {
            self.steps.pop();
        }
        let mut of_parent = false;
        let depth = self.steps.len() - 1;
        for part in path.parts().skip(depth) {
            let Ok(name) = Name::new(part) else { return (false, false) };
            of_parent = self.steps.last().is_some_and(|step| step.visit.content);
            self.step(&name);
        }
        if depth > 0 && path.depth() == depth {
            of_parent = self.steps[depth - 1].visit.content;
        }
        (self.steps.last().is_some_and(|step| step.visit.content), of_parent)
    }

    fn step(&mut self, name: &Name) {
        let names = &self.listed.names;
        let Some(step) = self.steps.last_mut() else { return };
        let Ok(path) = step.path.join(name) else { return };
        while step.names.pop_if(|at| names.name(*at) > name.as_bytes()).is_some() {}
        let at = step.names.pop_if(|at| names.name(*at) == name.as_bytes());
        let visit = self.listed.visit(at, step.visit.whole);
        self.push(path, visit);
    }

    fn push(&mut self, path: RelPath, visit: Visit) {
        let names = visit.at.into_iter().flat_map(|at| self.listed.names.below(at)).collect();
        self.steps.push(Step { path, visit, names });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::filter::Filter;

    #[test]
    fn only_what_is_listed_with_its_content_is_held_as_a_whole() {
        let text = "d/one\nd/sub/\nd/whole\ne/\n";
        for (recursive, expected) in [
            (false, ["", "d", "d/sub+", "d/sub/x<", "d/whole", "e+", "e/f<", "e/f/g"]),
            (true, ["", "d", "d/sub+", "d/sub/x+<", "d/whole+", "e+", "e/f+<", "e/f/g+<"]),
        ] {
            let listed = Listed::read(text.as_bytes(), false, recursive, &Filter::default());
            let listed = listed.unwrap();
            let mut coverage = Coverage::new(listed);
            for path in ["", "e", "e/f", "e/f/g", "d", "d/whole", "d/sub", "d/sub/x"] {
                let (all, of_parent) = coverage.holds_all(&RelPath::new(path.as_bytes()).unwrap());
                let told = format!(
                    "{path}{}{}",
                    if all { "+" } else { "" },
                    if of_parent { "<" } else { "" }
                );
                assert!(expected.contains(&&told[..]), "{recursive}: {told}");
            }
        }
    }
}
