//! The machines under both Mastodons, and the Mastodons themselves.

use super::{Finding, Look};
use crate::instance::layout::{self, Layout};
use crate::instance::nginx;
use crate::units::Bytes;

/// Clocks further apart than this make signatures fail and tokens expire.
const CLOCK_SECS_MAX: f64 = 30.0;
/// Further apart than this is worth a word.
const CLOCK_SECS_NOTED: f64 = 2.0;

impl Look<'_> {
    /// Both machines; whether both could be looked at.
    pub(super) async fn machines(&mut self) -> bool {
        let world = self.world;
        let (source, target) = tokio::join!(
            layout::machine(world.source.host()),
            layout::machine(world.target.host())
        );
        let source = self.keep("source", source);
        let target = self.keep("target", target);
        let (Some(source), Some(target)) = (source, target) else { return false };
        for (subject, machine, facts) in
            [("source", &world.source, &source), ("target", &world.target, &target)]
        {
            let os = facts.os.as_deref().unwrap_or("an unknown system");
            self.ok(
                subject,
                format!(
                    "{}: {os}, {}, {} cores, {} memory",
                    facts.hostname,
                    facts.arch,
                    facts.cores,
                    Bytes(facts.memory_bytes)
                ),
            );
            if !facts.can_be_root {
                self.refuse(
                    &format!("rights on the {subject}"),
                    &format!(
                        "{} on {} may not run commands as root",
                        facts.login,
                        machine.host.name()
                    ),
                    Some("log in as root, or give it `sudo -n` (a NOPASSWD rule)".into()),
                );
            }
        }
        self.clocks(source.clock.surely_off_secs(&target.clock));
        source.can_be_root && target.can_be_root
    }

    fn clocks(&mut self, off: f64) {
        let text = format!("the clocks differ by {:.1} s", off.abs());
        let remedy = "set both by NTP: `timedatectl set-ntp true`";
        if off.abs() > CLOCK_SECS_MAX {
            self.refuse("clocks", &text, Some(remedy.into()));
        } else if off.abs() > CLOCK_SECS_NOTED {
            self.warn("clocks", text, remedy);
        } else {
            self.ok("clocks", "they agree");
        }
    }

    /// Mastodon's directories, and that both are the same code; that of the source.
    pub(super) async fn layouts(&mut self) -> Option<Layout> {
        let world = self.world;
        let source = layout::look(world.source.host(), &world.source.side).await;
        let source = self.keep("Mastodon on the source", source);
        let target = layout::look(world.target.host(), &world.target.side).await;
        let target = self.keep("Mastodon on the target", target);
        if let (Some(source), Some(target)) = (&source, &target) {
            self.same_code(source, target);
        }
        for (subject, layout) in [("source", &source), ("target", &target)] {
            for dir in layout.iter().flat_map(|layout| &layout.closed_to_web) {
                self.warn(
                    &format!("nginx on the {subject}"),
                    format!("its user cannot enter {dir}, so static files would be 403 or 404"),
                    "chmod o+x that directory",
                );
            }
        }
        source
    }

    fn same_code(&mut self, source: &Layout, target: &Layout) {
        let told = |layout: &Layout| {
            let version = layout.version.as_ref().map_or("?".into(), ToString::to_string);
            let commit = layout.commit.as_ref().map_or("no git", |commit| &commit.id);
            format!("{version} ({commit})")
        };
        let (ours, theirs) = (told(source), told(target));
        let id = |layout: &Layout| layout.commit.as_ref().map(|commit| commit.id.clone());
        let differ = source.version != target.version
            || matches!((id(source), id(target)), (Some(ours), Some(theirs)) if ours != theirs);
        if differ {
            let text = format!("the source is {ours}, the target {theirs}");
            let remedy = "check out the source's commit on the target; upgrade before or after the \
                          move, never during it";
            self.refuse("Mastodon's version", &text, Some(remedy.into()));
        } else {
            self.ok("Mastodon's version", ours);
        }
        for (subject, layout) in [("source", source), ("target", target)] {
            let modified = layout.commit.as_ref().map_or(0, |commit| commit.modified);
            if modified > 0 {
                self.warn(
                    &format!("code on the {subject}"),
                    format!("{modified} files differ from the commit"),
                    "make sure that both sides have the same changes",
                );
            }
        }
    }

    pub(super) async fn nginx(&mut self) {
        let world = self.world;
        for (subject, machine) in [("source", &world.source), ("target", &world.target)] {
            let subject = format!("nginx on the {subject}");
            let site = nginx::read_site(machine.host(), &machine.side.nginx).await;
            match self.keep(&subject, site) {
                Some(Some(_)) => match nginx::test(machine.host(), &machine.side.nginx).await {
                    Ok(Ok(())) => self.ok(&subject, machine.side.nginx.site.clone()),
                    Ok(Err(complaint)) => self.refuse(
                        &subject,
                        &format!("its configuration is broken: {}", complaint.trim()),
                        Some("mend it until `nginx -t` is content".into()),
                    ),
                    Err(error) => drop(self.keep::<(), _>(&subject, Err(error))),
                },
                Some(None) => self.no_site(&subject, &machine.side.nginx.site),
                None => {}
            }
        }
    }

    fn no_site(&mut self, subject: &str, path: &str) {
        if subject.ends_with("target") && self.world.config.copy.nginx {
            return;
        }
        let remedy = if subject.ends_with("target") {
            "install the site there, or set `copy.nginx = true`"
        } else {
            "set `source.nginx.site`; without it there is no maintenance page, and requests get 502"
        };
        self.findings.push(Finding::refusal(
            subject,
            format!("there is no {path}"),
            Some(remedy.into()),
        ));
    }
}
