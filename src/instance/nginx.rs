//! nginx in front of Mastodon: what its site file says, and careful changes to it.
//!
//! In flow a machine, the commands of [`config::Nginx`] and the passages to put in; out flow a
//! changed and reloaded nginx and a [`Record`] with which [`revert`] puts the file back byte for
//! byte. A configuration that nginx does not accept never stays. What the passages are for is
//! told by `maintenance` and `proxy`; nothing here knows a plan.

pub mod marked;
pub mod site;
pub mod syntax;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::{Advice, Retry};
use crate::host::{Command, Exit, Host, HostError, RunAs, files, run};
pub use marked::{Kind, Passage};
pub use site::{Server, Site, Upstream};
pub use syntax::SyntaxError;

/// The nginx to change.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub host: &'a dyn Host,
    pub nginx: &'a config::Nginx,
    /// A directory on that machine for the original bytes; made 0700, gone when it is empty.
    pub keep_dir: &'a str,
}

/// What [`revert`] needs. It holds no byte of the file: those may be a secret and lie in
/// `backup`, 0600.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub kind: Kind,
    /// The file itself, symlinks resolved.
    pub site: String,
    pub backup: String,
    pub original_digest: String,
    pub edited_digest: String,
}

/// The site file of one side, or `None` where there is none: nginx is not managed then.
pub async fn read_site(host: &dyn Host, nginx: &config::Nginx) -> Result<Option<Site>, NginxError> {
    let Some((path, bytes)) = read(host, &nginx.site).await? else { return Ok(None) };
    Site::parse(&bytes).map(Some).map_err(|source| NginxError::Syntax { path, source })
}

/// Asks nginx whether it accepts its configuration; `Ok(Err(…))` is its complaint.
pub async fn test(
    host: &dyn Host,
    nginx: &config::Nginx,
) -> Result<Result<(), String>, NginxError> {
    verdict(host, &nginx.test, "test the nginx configuration").await
}

/// Makes the running nginx read its configuration; `Ok(Err(…))` is why it did not. That the new
/// workers answer is for a request to show: see `maintenance::is_on` and `proxy::is_on`.
pub async fn reload(
    host: &dyn Host,
    nginx: &config::Nginx,
) -> Result<Result<(), String>, NginxError> {
    verdict(host, &nginx.reload, "reload nginx").await
}

/// Puts the passages that `compose` gives for the site into its file, tests, reloads. Passages of
/// `kind` and of `replaced` that are there already are taken out first, so it may be run again,
/// also after it was cut anywhere. If nginx says no, the file is as before.
pub async fn apply(
    place: &Place<'_>,
    kind: Kind,
    replaced: &[Kind],
    compose: impl FnOnce(&Site, &str) -> Result<Vec<Passage>, NginxError>,
) -> Result<Record, NginxError> {
    let Place { host, nginx, keep_dir } = *place;
    let found = read(host, &nginx.site).await?;
    let Some((path, current)) = found else {
        return Err(NginxError::NoSite { host: host.name().into(), path: nginx.site.clone() });
    };
    let original = [&[kind], replaced]
        .concat()
        .into_iter()
        .fold(current.clone(), |bytes, kind| marked::remove(&bytes, kind));
    let backup = format!("{keep_dir}/nginx-{}.original", kind.name());
    if marked::holds(&original, kind) {
        return Err(NginxError::Damaged { path, kind, backup });
    }
    let site = Site::parse(&original)
        .map_err(|source| NginxError::Syntax { path: path.clone(), source })?;
    let edited = marked::insert(&original, kind, compose(&site, &path)?);
    // After a cut the file may hold the passages already, not yet tested.
    let fallback = if edited == current { &original } else { &current };
    if edited != current {
        if let Err(output) = test(host, nginx).await? {
            return Err(NginxError::AlreadyBroken { host: host.name().into(), output });
        }
        keep(place, &backup, &original).await?;
        replace(host, &path, &edited).await?;
    }
    if let Err(output) = test(host, nginx).await? {
        replace(host, &path, fallback).await?;
        return Err(NginxError::Rejected { host: host.name().into(), path, output });
    }
    if let Err(output) = reload(host, nginx).await? {
        replace(host, &path, fallback).await?;
        return Err(NginxError::Reload { host: host.name().into(), path, output });
    }
    let (original_digest, edited_digest) = (digest(&original), digest(&edited));
    Ok(Record { kind, site: path, backup, original_digest, edited_digest })
}

/// Takes what [`apply`] put in out again: see [`take_out`].
pub async fn revert(place: &Place<'_>, record: &Record) -> Result<(), NginxError> {
    take_out(place, record.kind).await
}

/// Takes the passages of `kind` out again, tests, reloads, and removes the backup. The file is
/// then byte for byte the original; what an operator changed beside the passages is kept. May be
/// run again.
pub async fn take_out(place: &Place<'_>, kind: Kind) -> Result<(), NginxError> {
    let Place { host, nginx, keep_dir } = *place;
    let Some((path, current)) = read(host, &nginx.site).await? else {
        return Err(NginxError::NoSite { host: host.name().into(), path: nginx.site.clone() });
    };
    let original = marked::remove(&current, kind);
    let backup = format!("{keep_dir}/nginx-{}.original", kind.name());
    if marked::holds(&original, kind) {
        return Err(NginxError::Damaged { path, kind, backup });
    }
    if original != current {
        replace(host, &path, &original).await?;
    }
    if let Err(output) = test(host, nginx).await? {
        return Err(NginxError::AlreadyBroken { host: host.name().into(), output });
    }
    if let Err(output) = reload(host, nginx).await? {
        return Err(NginxError::NotReloaded { host: host.name().into(), output });
    }
    let script = r#"rm -f -- "$1"; rmdir -- "$2" 2>/dev/null || true"#;
    let tidy = Command::script(script, &[&backup, keep_dir]).run_as(RunAs::Root);
    run(host, &tidy).await.map_err(doing("remove the kept copy of the site file")).map(drop)
}

/// Why nginx could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NginxError {
    #[error("cannot {action}")]
    Host { action: &'static str, source: HostError },
    #[error("there is no nginx site {path} on {host}")]
    NoSite { host: String, path: String },
    #[error("cannot understand the nginx site {path}")]
    Syntax { path: String, source: SyntaxError },
    #[error("no server block in {path} serves {}", domains.join(" or "))]
    NoServer { path: String, domains: Vec<String> },
    #[error(
        "nginx on {host} does not accept its configuration, without any change of ours: {output}"
    )]
    AlreadyBroken { host: String, output: String },
    #[error("nginx on {host} did not accept the change to {path}, which is as before: {output}")]
    Rejected { host: String, path: String, output: String },
    #[error("nginx on {host} did not reload; {path} is as before: {output}")]
    Reload { host: String, path: String, output: String },
    #[error("nginx on {host} did not reload after its site was put back: {output}")]
    NotReloaded { host: String, output: String },
    #[error("the {} passage in {path} was changed by hand", kind.name())]
    Damaged { path: String, kind: Kind, backup: String },
    #[error("the site {path} takes client addresses from `{header}`, not from X-Forwarded-For")]
    OtherAddressHeader { path: String, header: String },
    #[error("passing requests on to {address} would send them back to where they came from")]
    Loop { address: String },
    #[error("{host} has no file of certificate authorities to check the new server with")]
    NoAuthorities { host: String },
    /// A value from the configuration that would break out of its place in the site file.
    #[error("{value:?} cannot be written into a site file as {what}")]
    Unwritable { what: &'static str, value: String },
}

impl Advice for NginxError {
    fn hint(&self) -> Option<String> {
        match self {
            NginxError::Host { source, .. } => source.hint(),
            NginxError::NoSite { .. } | NginxError::NoServer { .. } => Some(
                "name the file that holds Mastodon's server blocks as `nginx.site` in the \
                 configuration; `nginx -T` shows which file that is"
                    .into(),
            ),
            NginxError::Syntax { path, .. } => {
                Some(format!("check {path} with `nginx -t`, or name another file as `nginx.site`"))
            }
            NginxError::AlreadyBroken { .. } => {
                Some("run `nginx -t`, correct what it names, and run the same command again".into())
            }
            NginxError::Rejected { .. } => {
                Some("please report this with your site file: the change is transhume's".into())
            }
            NginxError::Reload { .. } | NginxError::NotReloaded { .. } => Some(
                "see `systemctl status nginx`; set `nginx.reload` if it is reloaded otherwise"
                    .into(),
            ),
            NginxError::Damaged { path, backup, .. } => Some(format!(
                "take the passage between the transhume comments out of {path} by hand; the file \
                 as it was before is {backup}, if that is there"
            )),
            NginxError::OtherAddressHeader { .. } => Some(
                "set `cutover.proxy = false`, or let the site take addresses from X-Forwarded-For"
                    .into(),
            ),
            NginxError::Loop { .. } => {
                Some("give the new server by its address in `target.public_addresses`".into())
            }
            NginxError::NoAuthorities { .. } => Some(
                "install the package `ca-certificates`, or name a file as `nginx.ca_file`".into(),
            ),
            NginxError::Unwritable { .. } => Some("correct it in the configuration".into()),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            NginxError::Host { source, .. } => source.retry(),
            NginxError::Reload { .. } | NginxError::NotReloaded { .. } => Retry::Safe,
            NginxError::NoSite { .. }
            | NginxError::Syntax { .. }
            | NginxError::NoServer { .. }
            | NginxError::AlreadyBroken { .. }
            | NginxError::Rejected { .. }
            | NginxError::Damaged { .. }
            | NginxError::OtherAddressHeader { .. }
            | NginxError::Loop { .. }
            | NginxError::NoAuthorities { .. }
            | NginxError::Unwritable { .. } => Retry::Never,
        }
    }
}

fn doing(action: &'static str) -> impl Fn(HostError) -> NginxError {
    move |source| NginxError::Host { action, source }
}

async fn verdict(
    host: &dyn Host,
    words: &[String],
    action: &'static str,
) -> Result<Result<(), String>, NginxError> {
    let command = Command::new(words.iter().cloned()).run_as(RunAs::Root);
    let output = run(host, &command).await.map_err(doing(action))?;
    if output.success() {
        return Ok(Ok(()));
    }
    match crate::host::failure(host, &command, output) {
        HostError::Failed { exit, stderr_tail, .. } => Ok(Err(complaint(&exit, &stderr_tail))),
        source => Err(NginxError::Host { action, source }),
    }
}

fn complaint(exit: &Exit, stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() { exit.to_string() } else { text.to_owned() }
}

/// The file's real path and its bytes.
async fn read(host: &dyn Host, path: &str) -> Result<Option<(String, Vec<u8>)>, NginxError> {
    let action = "read the nginx site file";
    let real = Command::new(["readlink", "-e", "--", path]).run_as(RunAs::Root);
    let output = run(host, &real).await.map_err(doing(action))?;
    let path = match &output.exit {
        Exit::Code(0) => output.text(),
        Exit::Code(1) if output.stderr_tail.trim().is_empty() => return Ok(None),
        Exit::Code(_) | Exit::Signal(_) => {
            return Err(doing(action)(crate::host::failure(host, &real, output)));
        }
    };
    let bytes = files::read(host, &RunAs::Root, &path).await.map_err(doing(action))?;
    Ok(bytes.map(|bytes| (path, bytes)))
}

/// Writes the site file anew, with the mode and the owner that it has.
async fn replace(host: &dyn Host, path: &str, bytes: &[u8]) -> Result<(), NginxError> {
    let action = doing("write the nginx site file");
    let stat = files::stat(host, &RunAs::Root, path).await.map_err(&action)?;
    let mode = stat.as_ref().map_or(0o644, |stat| stat.mode);
    files::write(host, &RunAs::Root, path, mode, bytes).await.map_err(&action)?;
    let Some(stat) = stat.filter(|stat| (&*stat.owner, &*stat.group) != ("root", "root")) else {
        return Ok(());
    };
    let owner = format!("{}:{}", stat.owner, stat.group);
    let chown = Command::new(["chown", "--", &owner, path]).run_as(RunAs::Root);
    crate::host::run_ok(host, &chown).await.map_err(&action).map(drop)
}

async fn keep(place: &Place<'_>, backup: &str, original: &[u8]) -> Result<(), NginxError> {
    let action = doing("keep a copy of the nginx site file");
    let (host, root) = (place.host, RunAs::Root);
    files::make_dir(host, &root, place.keep_dir, 0o700).await.map_err(&action)?;
    files::write(host, &root, backup, 0o600, original).await.map_err(&action)
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A value for a site file: nothing that could end its word or start a variable.
pub(super) fn plain<'a>(what: &'static str, value: &'a str) -> Result<&'a str, NginxError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-/[]*@+%,=~".contains(&byte);
    if !value.is_empty() && value.bytes().all(fine) {
        Ok(value)
    } else {
        Err(NginxError::Unwritable { what, value: value.to_owned() })
    }
}
