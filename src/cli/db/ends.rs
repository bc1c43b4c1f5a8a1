//! From two connection strings to two servers that can be talked to.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::database::conninfo::Conninfo;
use crate::database::target::Destination;
use crate::database::{Server, passfile};
use crate::error::one_line;
use crate::event::{Event, Monitor};
use crate::host::helper::{Helper, Reach, install};
use crate::host::local::Local;
use crate::host::ssh;
use crate::host::{Address, Command, Host, RunAs, run};
use crate::secret::Secret;

use super::super::setup::prompt;
use super::super::{Exit, Failure};
use super::{Arguments, failure};

/// Where the helper lies when more than one user has to run it.
const HELPER_DIR: &str = "/var/lib/transhume/bin";

pub(super) struct Ends {
    pub source: Server,
    pub destination: Destination,
    /// Whether the copy goes through SSH.
    pub through_ssh: bool,
    /// Our helper on the target, where whoever runs pg_restore can run it.
    pub unpacker: Option<Helper>,
}

pub(super) async fn connect(arguments: &Arguments, monitor: &dyn Monitor) -> Result<Ends, Failure> {
    let mut source = server(&arguments.source, &arguments.source_bin_dir, arguments).await?;
    let mut target = server(&arguments.target, &arguments.target_bin_dir, arguments).await?;
    let through_ssh = [&arguments.source, &arguments.target].iter().any(|text| is_remote(text));
    if needs_bridge(&source) {
        source.helper = helper(arguments, &source, reach(&source.os_user), monitor).await;
    }
    if needs_bridge(&target) || through_ssh {
        target.helper = helper(arguments, &target, reach(&target.os_user), monitor).await;
    }
    let unpacker = target.helper.clone();
    let mut destination = Destination::new(target);
    if let Some(owner) = &arguments.owner {
        destination.owner.clone_from(owner);
    }
    destination.create_role = arguments.create_role;
    destination.replace.clone_from(&arguments.replace);
    let mut destination = destination.with_admin(&arguments.admin_user).await;
    if let Some(admin) = &mut destination.admin {
        admin.helper = helper(arguments, admin, reach(&admin.os_user), monitor).await;
    } else if arguments.tune_cluster {
        let mut tuner = destination.superuser(&arguments.admin_user);
        tuner.helper = helper(arguments, &tuner, reach(&tuner.os_user), monitor).await;
        destination.tuner = Some(tuner);
    }
    Ok(Ends { source, destination, through_ssh, unpacker })
}

/// Whether the login is through a socket that has to see another user than the one logged in.
fn needs_bridge(server: &Server) -> bool {
    matches!(server.address, Address::Unix { .. }) && server.os_user != RunAs::Login
}

fn reach(user: &RunAs) -> Reach {
    match user {
        RunAs::Login => Reach::Login,
        RunAs::Root | RunAs::User(_) => Reach::Everyone { base: HELPER_DIR.into() },
    }
}

/// Our helper on the machine of `server`; where there is none, why is told.
async fn helper(
    arguments: &Arguments,
    server: &Server,
    reach: Reach,
    monitor: &dyn Monitor,
) -> Option<Helper> {
    if arguments.no_helper {
        return None;
    }
    match install(&*server.host, reach).await {
        Ok(helper) => Some(helper),
        Err(error) => {
            let text = format!("no helper on {}: {}", server.host.name(), one_line(&error));
            monitor.emit(Event::Note { text });
            None
        }
    }
}

fn is_remote(text: &str) -> bool {
    text.starts_with("ssh://")
}

async fn server(
    text: &str,
    bin_dir: &Option<String>,
    arguments: &Arguments,
) -> Result<Server, Failure> {
    let info = Conninfo::parse(text).map_err(failure)?;
    let Some(user) = info.user else {
        return Err(Failure::message(
            Exit::Usage,
            "a connection string does not say which role to log in as",
            Some("add `user=mastodon`, or the like".into()),
        ));
    };
    if info.password.is_some() {
        return Err(Failure::message(
            Exit::Usage,
            "a connection string holds a password, which everybody on this machine could read",
            Some(format!(
                "leave it out, and write host:port:database:{user}:PASSWORD into ~/.pgpass (or \
                 the file that PGPASSFILE names), mode 0600"
            )),
        ));
    }
    let host = host(info.ssh.as_deref(), arguments).await?;
    let password = password(&info.address, &info.database, &user)?;
    let os_user = match (&info.address, &password) {
        (Address::Unix { .. }, None) if exists(&*host, &user).await? => RunAs::User(user.clone()),
        _ => RunAs::Login,
    };
    Ok(Server {
        host,
        address: info.address,
        database: info.database,
        user,
        password,
        os_user,
        bin_dir: bin_dir.clone(),
        helper: None,
    })
}

async fn host(machine: Option<&str>, arguments: &Arguments) -> Result<Arc<dyn Host>, Failure> {
    let Some(machine) = machine else { return Ok(Arc::new(Local::new())) };
    let destination: ssh::Destination = format!("ssh://{machine}").parse().map_err(|error| {
        let error: ssh::destination::NotADestination = error;
        Failure::message(Exit::Usage, error.to_string(), None)
    })?;
    let options = ssh::Options {
        identity: arguments.identity.clone(),
        options: ssh_options(&arguments.ssh_option)?,
        ..ssh::Options::default()
    };
    let host = ssh::connect(&destination, &options, prompt()).await;
    Ok(host.map_err(|error| Failure::new(Exit::Failed, error))?)
}

fn ssh_options(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let split = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(Failure::message(
            Exit::Usage,
            format!("`{text}` is not an SSH option: KEY=VALUE"),
            None,
        )),
    };
    texts.iter().map(split).collect()
}

/// From the operator's password file, if that has one. As with libpq, it is for its owner alone.
fn password(address: &Address, database: &str, user: &str) -> Result<Option<Secret>, Failure> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let usual = || std::env::home_dir().map(|home| home.join(".pgpass"));
    let path = named.or_else(usual).unwrap_or_default();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let found = passfile::find(&text, address, database, user);
    let mode = std::fs::metadata(&path).map_or(0, |metadata| metadata.permissions().mode());
    if found.is_some() && mode & 0o077 != 0 {
        let path = path.display();
        return Err(Failure::message(
            Exit::Usage,
            format!("{path} holds passwords and can be read by others (mode {:o})", mode & 0o777),
            Some(format!("chmod 600 {path}; libpq would not use it either")),
        ));
    }
    Ok(found)
}

/// Whether the machine has an operating system user of that name.
async fn exists(host: &dyn Host, user: &str) -> Result<bool, Failure> {
    let output = run(host, &Command::new(["id", "-u", "--", user])).await;
    Ok(output.map_err(|error| Failure::new(Exit::Failed, error))?.success())
}
