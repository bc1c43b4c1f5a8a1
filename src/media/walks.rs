//! The walks of a pass, one after the other: each is a scan of the same part of both sides, in step.
//! The next one begins when the one before has come to its end; what that planned may still be
//! under way.

use std::collections::VecDeque;

use super::error::MediaError;
use super::listed::Listed;
use super::merge::Merge;
use super::options::Options;
use super::session::Session;
use crate::wire::bounded::{Blob, List};
use crate::wire::message::{Extent, ScanSpec, Trust};
use crate::wire::scope::Scope;
use crate::wire::tree::{MetaRule, OwnerRule};

pub(super) struct Walks<'a> {
    from: &'a dyn Session,
    to: &'a dyn Session,
    listed: Option<&'a Listed>,
    /// What is alike in all of them.
    spec: ScanSpec,
    scopes: VecDeque<Scope>,
}

impl<'a> Walks<'a> {
    pub fn new(
        from: &'a dyn Session,
        to: &'a dyn Session,
        options: &'a Options,
        rule: MetaRule,
    ) -> Self {
        let trust = match options.quiet {
            _ if options.hinted => Trust::Nothing,
            Some(quiet) => {
                Trust::QuietFiles { secs: quiet.as_secs().try_into().unwrap_or(u32::MAX) }
            }
            None => Trust::Names,
        };
        let listed = options.listed.as_ref();
        let spec = ScanSpec {
            rule,
            checksum: options.checksum,
            checksum_rate: options.checksum_rate,
            trust,
            exclude: List(options.exclude.iter().cloned().map(Blob).collect()),
            extent: listed.map_or(Extent::Whole, Listed::extent),
            hard_links: options.hard_links,
            scope: Scope::default(),
        };
        let whole = options.walks.is_empty().then(Scope::default);
        let scopes = options.walks.iter().cloned().chain(whole).collect();
        Walks { from, to, listed, spec, scopes }
    }

    /// Begins the next walk.
    pub async fn next(&mut self) -> Result<Option<Merge>, MediaError> {
        let Some(scope) = self.scopes.pop_front() else { return Ok(None) };
        let spec = ScanSpec { scope, ..self.spec.clone() };
        let of_source = self.from.scan(spec.clone(), self.listed).await?;
        // Owners are mapped on the way; what lies on the target is taken as it is.
        let owner = match spec.rule.owner {
            OwnerRule::Fixed { .. } => OwnerRule::Keep,
            OwnerRule::Keep | OwnerRule::Ignore => spec.rule.owner,
        };
        let spec = ScanSpec { rule: MetaRule { owner, ..spec.rule }, ..spec };
        Ok(Some(Merge::new(of_source, self.to.scan(spec, self.listed).await?)))
    }
}
