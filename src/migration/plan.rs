//! A plan: stages in order, each of steps that may run at the same time. A value that can be
//! printed and has a digest; making one does nothing.

use super::step::{Segment, Step};

pub struct Plan {
    pub stages: Vec<Stage>,
    /// Which machines and instance the plan is for: a journal of another job is refused.
    pub job: String,
}

pub struct Stage {
    pub segment: Segment,
    pub mark: Option<Mark>,
    /// They do not depend on each other and run at the same time.
    pub steps: Vec<Box<dyn Step>>,
}

/// What beginning or completing a stage means for the move as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// When the stage begins, the old server stops taking writes.
    DowntimeStarts,
    /// Once the stage begins, the run only goes forward.
    NoReturn,
    /// When the stage is complete, the new server takes writes.
    DowntimeEnds,
}

impl Stage {
    pub fn new(segment: Segment, steps: Vec<Box<dyn Step>>) -> Self {
        Stage { segment, mark: None, steps }
    }

    pub fn marked(mut self, mark: Mark) -> Self {
        self.mark = Some(mark);
        self
    }
}

impl Plan {
    /// Every step in order.
    pub fn steps(&self) -> impl Iterator<Item = &dyn Step> {
        self.stages.iter().flat_map(|stage| stage.steps.iter().map(AsRef::as_ref))
    }

    pub fn step(&self, id: &str) -> Option<&dyn Step> {
        self.steps().find(|step| step.id() == id)
    }

    /// Identifies the shape of the plan: two plans with one digest do the same things in the same
    /// order to the same machines.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.job.as_bytes());
        for stage in &self.stages {
            hasher.update(format!("\n{} {:?}", stage.segment, stage.mark).as_bytes());
            for step in &stage.steps {
                hasher.update(format!(" {}", step.id()).as_bytes());
            }
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }
}
