//! The media directories of both sides, and whether the target has room.

use std::time::Duration;

use super::{Finding, Look, Machine, MediaPaths};
use crate::host::RunAs;
use crate::instance::env_file::EnvFile;
use crate::instance::environment::Environment;
use crate::instance::layout::{self, MediaRoot, MediaSize, Obstacle, SpaceFacts};
use crate::instance::stores::{MediaStore, media_store};
use crate::instance::variables::Variables;
use crate::units::{Bytes, counted};

/// How long the media are counted for; what is not seen by then is not needed to begin.
const COUNT_LIMIT: Duration = Duration::from_secs(20);

impl Look<'_> {
    /// `Some(None)` where uploads are in object storage.
    pub(super) async fn media(
        &mut self,
        environment: &Environment,
        target_env: &EnvFile,
    ) -> Option<Option<MediaPaths>> {
        if let MediaStore::Remote { kind, bucket } = media_store(environment) {
            let bucket = bucket.unwrap_or_else(|| "its bucket".into());
            self.ok("media", format!("kept in {kind:?} ({bucket}): they stay where they are"));
            return Some(None);
        }
        let world = self.world;
        if self.to_undo {
            return Some(None);
        }
        let source = media_root(&world.source, environment).await;
        let target = media_root(&world.target, target_env).await;
        let source = self.keep("media on the source", source);
        let target = self.keep("media on the target", target);
        let (source, target) = (source?, target?);
        self.source_media(&source)?;
        if let Some(obstacle) = &target.obstacle {
            let remedy = "make it a directory of Mastodon's user there, or set \
                          PAPERCLIP_ROOT_PATH under `[target.env]`";
            let text = told(&target.path, obstacle, &world.target.side.user);
            self.refuse("media on the target", &text, Some(remedy.into()));
            return None;
        }
        self.room_for_media(&source, &target).await;
        Some(Some(MediaPaths { source, target }))
    }

    /// A source without media is more likely a disk that is not mounted than an empty instance.
    fn source_media(&mut self, root: &MediaRoot) -> Option<()> {
        let (path, user) = (&root.path, &self.world.source.side.user);
        let mount = "mount it, or set PAPERCLIP_ROOT_PATH to where the media are";
        let (text, remedy) = match (&root.there, &root.obstacle) {
            (Some(dir), _) if dir.empty == Some(true) => {
                (format!("{} is empty", dir.real), mount.to_owned())
            }
            (Some(dir), _) if dir.empty.is_none() => {
                let text = format!("{user} cannot list {}", dir.real);
                let remedy = format!("mend its owner and mode: `ls -ld {}`", dir.real);
                self.refuse("media", &text, Some(remedy));
                // A run that goes on may have to do without.
                return Some(());
            }
            (Some(_), _) => return Some(()),
            (None, Some(obstacle)) => {
                let remedy = match obstacle {
                    Obstacle::Dangling { .. } => mount.to_owned(),
                    Obstacle::NotDirectory => {
                        "set PAPERCLIP_ROOT_PATH to the directory that holds the media".to_owned()
                    }
                    Obstacle::Closed { .. } => {
                        format!("`namei -l {path}`: {user} needs x on every directory")
                    }
                };
                (told(path, obstacle, user), remedy)
            }
            (None, None) => (format!("there is no {path}"), mount.to_owned()),
        };
        self.refuse("media", &text, Some(remedy));
        None
    }

    async fn room_for_media(&mut self, source: &MediaRoot, target: &MediaRoot) {
        let world = self.world;
        let Some(size) = self.media_size(&world.source, "media on the source", source).await else {
            return;
        };
        let space = layout::space(world.target.host(), &RunAs::Root, &target.path).await;
        let Some(space) = self.keep("disk on the target", space) else { return };
        // What an earlier pass brought needs no room.
        let there = match &target.there {
            None => Some(MediaSize { complete: true, ..MediaSize::default() }),
            Some(_) => self.media_size(&world.target, "media on the target", target).await,
        };
        let Some(there) = there else { return };
        if !world.config.media.delete {
            self.warn(
                "deleted media",
                "what is deleted on the source between two passes stays on the target".into(),
                "set `media.delete = true` if the target's media directory is the move's alone",
            );
        }
        let least = if size.complete { "" } else { "at least " };
        let files = counted(size.files, "file");
        let text = format!("{least}{files}, {}, in {}", Bytes(size.bytes), source.path);
        self.ok("media", text);
        if size.unreadable > 0 {
            self.warn(
                "media",
                format!("{} places cannot be read", size.unreadable),
                "run transhume as root, or mend their modes",
            );
        }
        let all_of_it = world.config.media.exclude.is_empty();
        self.findings.extend(room(&size, &there, &space, all_of_it));
    }

    async fn media_size(
        &mut self,
        machine: &Machine,
        subject: &str,
        root: &MediaRoot,
    ) -> Option<MediaSize> {
        let path = root.there.as_ref().map_or(&root.path, |dir| &dir.real);
        let size = layout::media_size(machine.host(), &machine.mastodon(), path, COUNT_LIMIT).await;
        self.keep(subject, size)
    }
}

async fn media_root(
    machine: &Machine,
    variables: &dyn Variables,
) -> Result<MediaRoot, crate::host::HostError> {
    layout::media_root(machine.host(), &machine.mastodon(), variables, &machine.side.root).await
}

fn told(path: &str, obstacle: &Obstacle, user: &str) -> String {
    match obstacle {
        Obstacle::Dangling { target } => {
            format!("{path} is a symlink to {target}, where nothing is")
        }
        Obstacle::NotDirectory => format!("{path} is not a directory"),
        Obstacle::Closed { dir } => format!("{user} cannot enter {dir}, on the way to {path}"),
    }
}

/// Whether what is still missing on the target fits there. `all_of_it`: nothing is excluded.
fn room(size: &MediaSize, there: &MediaSize, space: &SpaceFacts, all_of_it: bool) -> Vec<Finding> {
    let (bytes, entries) = match there.complete {
        true => (
            size.bytes.saturating_sub(there.bytes),
            (size.files + size.dirs).saturating_sub(there.files + there.dirs),
        ),
        // Counting took too long: what is there may be everything.
        false => (0, 0),
    };
    let place = &space.mounted_on;
    let mut findings = Vec::new();
    let mut short = |subject: &str, text: String| {
        findings.push(match all_of_it {
            true => {
                let remedy = "give the target a larger disk, or make `cache/` smaller on the \
                              source first: `tootctl media remove --days=7`";
                Finding::refusal(subject, text, Some(remedy.into()))
            }
            false => {
                let remedy = "what `media.exclude` leaves out was counted too: see that the rest \
                              fits";
                Finding::warning(subject, text, Some(remedy.into()))
            }
        });
    };
    let free = Bytes(space.free_bytes);
    if space.free_bytes < bytes {
        let text = format!("{free} free on {place}, {} needed", Bytes(bytes));
        short("disk on the target", text);
    }
    if let Some(inodes) = space.inodes.filter(|inodes| inodes.free < entries) {
        let text = format!("{} inodes free on {place}, {entries} needed", inodes.free);
        short("inodes on the target", text);
    }
    if findings.is_empty() {
        findings.push(Finding::ok("disk on the target", format!("{free} free on {place}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Level;
    use crate::instance::layout::Inodes;

    fn size(files: u64, bytes: u64) -> MediaSize {
        MediaSize { files, dirs: 0, bytes, unreadable: 0, complete: true }
    }

    fn levels(there: MediaSize, free_bytes: u64, free: u64, all_of_it: bool) -> Vec<Level> {
        let space = SpaceFacts {
            asked: "/srv".into(),
            mounted_on: "/".into(),
            kind: "ext4".into(),
            total_bytes: 1 << 40,
            free_bytes,
            inodes: Some(Inodes { total: 1 << 20, free }),
        };
        let findings = room(&size(10, 1000), &there, &space, all_of_it);
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn what_an_earlier_pass_brought_needs_no_room() {
        assert_eq!(levels(size(0, 0), 1000, 10, true), [Level::Ok]);
        assert_eq!(levels(size(0, 0), 999, 10, true), [Level::Refusal]);
        assert_eq!(levels(size(0, 0), 999, 9, true), [Level::Refusal, Level::Refusal]);
        assert_eq!(levels(size(9, 900), 100, 1, true), [Level::Ok]);
        assert_eq!(levels(size(9, 900), 99, 1, true), [Level::Refusal]);
        assert_eq!(levels(size(20, 2000), 0, 0, true), [Level::Ok]);
    }

    #[test]
    fn what_is_not_known_is_no_reason_to_refuse() {
        assert_eq!(levels(size(0, 0), 999, 10, false), [Level::Warning]);
        let partial = MediaSize { complete: false, ..size(1, 1) };
        assert_eq!(levels(partial, 0, 0, true), [Level::Ok]);
    }
}
