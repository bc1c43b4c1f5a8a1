//! Where a tree is: on this machine, or on another, behind a helper or an SFTP server.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::MediaError;
use super::helper::client::Helper;
use super::helper::stream::Opening;
use super::options::Owner;
use super::session::local::{Local, Tree, Workers};
use super::session::{Link, Session, Terms};
use super::sftp::Sftp;
use crate::config::Transport;
use crate::error::one_line;
use crate::event::{Event, Monitor};
use crate::host::{Command, Host, RunAs, local, run};
use crate::wire::WireError;
use crate::wire::message::Side;
use crate::wire::tree::OwnerRule;

/// One end of a pass.
#[derive(Clone, Debug)]
pub struct Endpoint {
    root: Vec<u8>,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Here {
        /// Where it is remembered what scans find.
        manifests: Option<PathBuf>,
    },
    There {
        host: Arc<dyn Host>,
        way: Way,
        connections: usize,
        /// Where it is remembered what was sent there, if it is sent by SFTP.
        sent: Option<PathBuf>,
    },
}

#[derive(Clone, Debug)]
enum Way {
    Helper(Command),
    Sftp,
    /// The helper if it runs, else SFTP.
    Either(Command),
    /// SFTP as a makeshift: no helper could be had.
    OnlySftp,
}

impl Endpoint {
    /// A directory of this machine.
    pub fn local(root: impl AsRef<Path>) -> Self {
        let root = root.as_ref().as_os_str().as_bytes().to_vec();
        Endpoint { root, place: Place::Here { manifests: None } }
    }

    /// The same; what a scan finds is remembered in `manifests`, so that the next one costs less.
    pub fn remembered(root: impl AsRef<Path>, manifests: Option<PathBuf>) -> Self {
        Endpoint { place: Place::Here { manifests }, ..Endpoint::local(root) }
    }

    /// A directory of `host` through the helper that `command` starts (`transhume helper files`),
    /// over `connections` SSH connections.
    pub fn helper(
        host: Arc<dyn Host>,
        command: Command,
        root: impl Into<Vec<u8>>,
        connections: usize,
    ) -> Self {
        Endpoint::there(host, root.into(), Way::Helper(command), connections)
    }

    /// A directory of `host` through its SFTP server, as the login user.
    pub fn sftp(host: Arc<dyn Host>, root: impl Into<Vec<u8>>, connections: usize) -> Self {
        Endpoint::there(host, root.into(), Way::Sftp, connections)
    }

    /// A directory of `host` in the way that `transport` asks for. `helper` is the command that
    /// starts the helper, if one was installed; it runs as `user`. With [`Transport::Auto`], SFTP
    /// stands in for a helper that is not there or does not run, and a note says why.
    pub fn remote(
        host: Arc<dyn Host>,
        root: impl Into<Vec<u8>>,
        transport: Transport,
        helper: Option<Command>,
        user: RunAs,
        connections: usize,
    ) -> Result<Self, MediaError> {
        let name = host.name().to_owned();
        let sftp_user = match &user {
            RunAs::Login => None,
            RunAs::Root => Some("root"),
            RunAs::User(user) => Some(user.as_str()),
        };
        let no_sftp =
            |user: &str| MediaError::SftpUser { host: name.clone(), user: user.to_owned() };
        let way = match (transport, helper, sftp_user) {
            (Transport::Helper, None, _) => return Err(MediaError::NoHelper { host: name }),
            (Transport::Sftp, _, Some(user)) | (Transport::Auto, None, Some(user)) => {
                return Err(no_sftp(user));
            }
            (Transport::Helper, Some(command), _) | (Transport::Auto, Some(command), Some(_)) => {
                Way::Helper(command.run_as(user))
            }
            (Transport::Auto, Some(command), None) => Way::Either(command),
            (Transport::Auto, None, None) => Way::OnlySftp,
            (Transport::Sftp, _, None) => Way::Sftp,
        };
        Ok(Endpoint::there(host, root.into(), way, connections))
    }

    fn there(host: Arc<dyn Host>, root: Vec<u8>, way: Way, connections: usize) -> Self {
        let connections = connections.clamp(1, CONNECTIONS_MAX);
        Endpoint { root, place: Place::There { host, way, connections, sent: None } }
    }

    /// The same; if files go there by SFTP, their blocks are remembered in `dir` on this machine, so
    /// that of a long one only what changed has to be sent the next time.
    pub fn remembering(mut self, dir: Option<PathBuf>) -> Self {
        if let Place::There { sent, .. } = &mut self.place {
            *sent = dir;
        }
        self
    }

    fn host_name(&self) -> &str {
        match &self.place {
            Place::Here { .. } => "this server",
            Place::There { host, .. } => host.name(),
        }
    }

    pub(crate) fn root_text(&self) -> String {
        self.root.escape_ascii().to_string()
    }

    /// The full path of a local root, also of one whose last part is still to be made.
    pub(crate) fn canonical(&self) -> Option<PathBuf> {
        let path = super::root::native(&self.root);
        path.canonicalize().ok().or_else(|| {
            let parent = match path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => return None,
            };
            Some(parent.canonicalize().ok()?.join(path.file_name()?))
        })
    }

    /// The root, if it is on this machine.
    pub(crate) fn here(&self) -> Option<&Path> {
        self.is_local().then(|| super::root::native(&self.root))
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self.place, Place::Here { .. })
    }

    /// Opens the root for a pass.
    pub(crate) async fn open(
        &self,
        terms: Terms,
        monitor: &dyn Monitor,
    ) -> Result<Box<dyn Session>, MediaError> {
        let link = Link::new(self.host_name());
        let opening = Opening { root: self.root.clone(), terms };
        let (host, way, connections, sent) = match &self.place {
            Place::Here { manifests } => {
                return self.open_here(link, &opening, manifests.as_deref()).await;
            }
            Place::There { host, way, connections, sent } => {
                (host, way, connections, sent.as_deref())
            }
        };
        match way {
            Way::Helper(command) => open_helper(link, host, command, opening, *connections).await,
            Way::Sftp => open_sftp(link, host, opening, *connections, sent).await,
            Way::OnlySftp => {
                let text = format!("{}: there is no helper, files go by SFTP", host.name());
                monitor.emit(Event::Note { text });
                open_sftp(link, host, opening, *connections, sent).await
            }
            Way::Either(command) => {
                let tried = open_helper(link, host, command, opening.clone(), *connections).await;
                match tried {
                    Err(error) if helper_does_not_run(&error) => {
                        let why = one_line(&error);
                        let text = format!("{}: files go by SFTP: {why}", host.name());
                        monitor.emit(Event::Note { text });
                        open_sftp(Link::new(host.name()), host, opening, *connections, sent).await
                    }
                    other => other,
                }
            }
        }
    }

    async fn open_here(
        &self,
        link: Arc<Link>,
        opening: &Opening,
        manifests: Option<&Path>,
    ) -> Result<Box<dyn Session>, MediaError> {
        let path: PathBuf = super::root::native(&self.root).to_owned();
        let Terms { side, create, run, gentle, manner, .. } = opening.terms;
        let tasks = link.tasks.clone();
        let opened =
            tokio::task::spawn_blocking(move || Tree::open(&path, side, create, run, manner));
        let opened = opened.await.map_err(|error| MediaError::Thread(error.into()))?;
        let tree = opened.map_err(|source| MediaError::Root {
            host: link.host.clone(),
            path: self.root_text(),
            role: if side == Side::Source { "source" } else { "target" },
            source,
        })?;
        let workers =
            tree.map(|tree| Workers::new(tree.remembering(manifests).gently(gentle), tasks));
        Ok(Box::new(Local::new(link, workers)))
    }

    /// Who `owner` is on this endpoint's machine. `privileged` tells whether owners can be set.
    pub(crate) async fn owner_rule(
        &self,
        owner: &Owner,
        privileged: bool,
    ) -> Result<OwnerRule, MediaError> {
        match owner {
            Owner::Writer => Ok(OwnerRule::Ignore),
            Owner::Numbers if privileged => Ok(OwnerRule::Keep),
            Owner::Numbers => Ok(OwnerRule::Ignore),
            Owner::Named { user, group } => {
                let uid = self.lookup(user, &["id", "-u", "--", user]).await?;
                let gid = match group {
                    Some(group) => self.lookup(group, &["getent", "group", "--", group]).await?,
                    None => self.lookup("", &["id", "-g", "--", user]).await?,
                };
                Ok(OwnerRule::Fixed { uid, gid })
            }
        }
    }

    /// The number of `name`: itself if it is one, else what `argv` prints.
    async fn lookup(&self, name: &str, argv: &[&str]) -> Result<u32, MediaError> {
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        let here = local::Local::new();
        let host: &dyn Host = match &self.place {
            Place::Here { .. } => &here,
            Place::There { host, .. } => &**host,
        };
        let unknown = || MediaError::UnknownOwner {
            host: host.name().to_owned(),
            name: argv[argv.len() - 1].to_owned(),
        };
        let output = run(host, &Command::new(argv.iter().copied())).await.map_err(|source| {
            MediaError::Host { host: host.name().to_owned(), source: Box::new(source) }
        })?;
        let text = output.text();
        // `id` prints the number alone, getent `name:password:number:members`.
        let number = text.split(':').nth(2).unwrap_or(&text);
        if output.success() { number.parse().map_err(|_| unknown()) } else { Err(unknown()) }
    }
}

/// A server takes only so many at a time (MaxStartups, MaxSessions).
pub const CONNECTIONS_MAX: usize = 16;

async fn open_helper(
    link: Arc<Link>,
    host: &Arc<dyn Host>,
    command: &Command,
    opening: Opening,
    connections: usize,
) -> Result<Box<dyn Session>, MediaError> {
    let opened = Helper::open(link, host.clone(), command.clone(), opening, connections).await?;
    Ok(Box::new(opened))
}

async fn open_sftp(
    link: Arc<Link>,
    host: &Arc<dyn Host>,
    opening: Opening,
    connections: usize,
    sent: Option<&Path>,
) -> Result<Box<dyn Session>, MediaError> {
    Ok(Box::new(Sftp::open(link, host.clone(), opening, connections, sent).await?))
}

/// Whether SFTP may work where the helper failed so.
fn helper_does_not_run(error: &MediaError) -> bool {
    use crate::host::HostError;
    match error {
        MediaError::HelperEnded { .. } | MediaError::Lost { .. } => true,
        MediaError::Wire { source, .. } => {
            matches!(source, WireError::NotOurs | WireError::Version { .. })
        }
        MediaError::Host { source, .. } => {
            matches!(**source, HostError::Start { .. } | HostError::Failed { .. })
        }
        MediaError::BrokenOff { .. }
        | MediaError::Root { .. }
        | MediaError::NoSource { .. }
        | MediaError::Overlap { .. }
        | MediaError::SourceEmpty
        | MediaError::TooManyDeletions { .. }
        | MediaError::TargetFull { .. }
        | MediaError::Pattern(_)
        | MediaError::Disorder { .. }
        | MediaError::Silent { .. }
        | MediaError::Lacking { .. }
        | MediaError::SftpUser { .. }
        | MediaError::NoLinks { .. }
        | MediaError::NoHelper { .. }
        | MediaError::UnknownOwner { .. }
        | MediaError::Thread(_) => false,
    }
}
