//! Whether the target has the extensions, and who may make them there.

use super::super::inspect::{self, ServerFacts};
use super::Facts;
use crate::event::Finding;

pub(super) fn extensions(facts: &Facts, found: &mut Vec<Finding>) {
    for extension in &facts.database.extensions {
        let subject = format!("extension {}", extension.name);
        match extension_plan(extension, &facts.target, facts.owner_is_superuser) {
            ExtensionPlan::WithArchive => {}
            ExtensionPlan::Beforehand if facts.target.login.is_superuser => {
                if extension.has_settings {
                    found.push(Finding::warning(
                        &subject,
                        "it is created by the administrator; the rows in its own tables are not \
                         copied",
                        Some("copy them by hand after the move".into()),
                    ));
                }
            }
            ExtensionPlan::Beforehand => found.push(Finding::refusal(
                &subject,
                "only a superuser can create it on the target",
                Some("name an administrator's login for the target".into()),
            )),
            ExtensionPlan::Missing => found.push(Finding::refusal(
                &subject,
                "the target does not have it",
                Some("install its package on the target".into()),
            )),
        }
    }
}

/// Who creates an extension on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ExtensionPlan {
    /// The restore, as the owner.
    WithArchive,
    /// A superuser, before the restore.
    Beforehand,
    Missing,
}

pub(in super::super) fn extension_plan(
    extension: &inspect::Extension,
    target: &ServerFacts,
    owner_is_superuser: bool,
) -> ExtensionPlan {
    let available = target.available_extensions.iter().find(|found| found.name == extension.name);
    match available {
        None => ExtensionPlan::Missing,
        Some(found) if found.trusted || owner_is_superuser => ExtensionPlan::WithArchive,
        Some(_) => ExtensionPlan::Beforehand,
    }
}
