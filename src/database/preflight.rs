//! Whether a copy can work, said before anything is touched. Pure: facts in, findings out.

mod capacity;
mod existing;
mod extensions;
mod left_behind;
mod locale;
#[cfg(test)]
mod tests;
mod versions;

use crate::event::Finding;

use super::Version;
use super::inspect::{DatabaseFacts, ServerFacts};
use super::target::Existing;

pub use existing::contents;
pub(super) use extensions::{ExtensionPlan, extension_plan};

/// All that the answer depends on.
#[derive(Clone, Debug)]
pub struct Facts {
    pub source: ServerFacts,
    pub database: DatabaseFacts,
    /// `pg_dump` where the source's programs run.
    pub dump: Version,
    /// The target as its administrator sees it.
    pub target: ServerFacts,
    /// `pg_restore` where the target's programs run.
    pub restore: Version,
    /// The database to be written, and its owner to be.
    pub wanted: String,
    pub owner: String,
    pub owner_is_superuser: bool,
    pub existing: Existing,
    /// The operator allowed that the existing database is dropped.
    pub may_replace: bool,
    /// The owner may be created.
    pub may_create_role: bool,
    /// How many the copy is to do at the same time; 0 for one for each core.
    pub jobs: usize,
}

/// The subject of findings about the database to be written.
pub const TARGET: &str = "target database";

/// What there is to say about a copy under these facts, the worst first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    versions::versions(facts, &mut found);
    locale::locale(facts, &mut found);
    locale::collations(facts, &mut found);
    existing::existing(facts, &mut found);
    extensions::extensions(facts, &mut found);
    capacity::connections(facts, &mut found);
    capacity::disk(facts, &mut found);
    left_behind::left_behind(facts, &mut found);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}
