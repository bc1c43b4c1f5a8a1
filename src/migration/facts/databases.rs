//! The database of both sides: where PostgreSQL itself is, and whether a copy can work.

use super::{Look, Machine};
use crate::database::target::Destination;
use crate::database::{self, Access, Server};
use crate::event::{Finding, Level};
use crate::host::helper::Helper;
use crate::host::{Address, RunAs};
use crate::instance::database_address::{self, DatabaseAddress, DatabaseAddressError};
use crate::instance::env_file::EnvFile;
use crate::instance::environment::Environment;
use crate::instance::pgbouncer::INI_DEFAULT;
use crate::instance::variables::Variables;

/// Tables above this size are not searched for rows that would trouble a copy: it would take long.
const LOOKED_AT_BYTES_MAX: u64 = 8 << 30;

impl Look<'_> {
    pub(super) async fn databases(
        &mut self,
        environment: &Environment,
        target_env: &EnvFile,
    ) -> Option<(Server, Destination)> {
        let world = self.world;
        let source = address(&world.source, environment).await;
        let mut target = address(&world.target, target_env).await;
        if self.to_undo && target.is_err() {
            // Without the target nobody can say whether a pooler is in between.
            target = database_address::from_variables(target_env, &world.target.side.user);
        }
        let source = self.keep("database on the source", source);
        let target = self.keep("database on the target", target);
        let (source, target) = (source?, target?);
        if source.through.is_some() {
            self.ok("PgBouncer", format!("bypassed: PostgreSQL is at {}", source.address));
        }
        let server = self.server(&world.source, source).await;
        let target = self.server(&world.target, target).await;
        let destination = self.destination(target).await;
        let checked = database::check(&server, &destination, LOOKED_AT_BYTES_MAX).await;
        for finding in self.keep("database", checked).into_iter().flatten() {
            self.findings.push(in_a_move(finding, &destination));
        }
        Some((server, destination))
    }

    async fn server(&mut self, machine: &Machine, found: DatabaseAddress) -> Server {
        let peer = matches!(found.address, Address::Unix { .. });
        let helper = if peer { self.bridge(machine).await } else { None };
        Server {
            host: machine.host.clone(),
            address: found.address,
            database: found.database,
            user: found.user,
            password: found.password,
            os_user: machine.mastodon(),
            bin_dir: machine.side.database.bin_dir.clone(),
            helper,
        }
    }

    /// A socket lets in who the operating system says it is: our helper goes there as that user.
    async fn bridge(&mut self, machine: &Machine) -> Option<Helper> {
        match machine.helper().await {
            Ok(helper) => Some(helper.clone()),
            Err(error) => {
                let subject = format!("helper on {}", machine.host.name());
                let remedy = "without it PostgreSQL's socket sees the login user: set \
                              `database.url` of that side to a TCP address with a password";
                self.warn(&subject, crate::error::one_line(&error), remedy);
                None
            }
        }
    }

    /// The target database, made by its own role where that may, else by the administrator.
    async fn destination(&mut self, server: Server) -> Destination {
        let world = self.world;
        let admin = &world.target.side.database.admin_user;
        let mut destination = Destination::new(server);
        destination.replace = world.config.database.replace_target.clone();
        if !creates_databases(&destination).await {
            let name = admin.clone().unwrap_or_else(|| "postgres".into());
            let helper = self.bridge(&world.target).await;
            destination.create_role = true;
            destination.admin = Some(Server {
                user: "postgres".into(),
                password: None,
                os_user: RunAs::User(name),
                helper,
                address: socket_of(&destination.server.address),
                ..destination.server.clone()
            });
        }
        destination
    }
}

async fn creates_databases(destination: &Destination) -> bool {
    let Ok(session) = destination.admin_session(Access::Read).await else { return false };
    let sql = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user";
    session.value::<bool>("read the rights of the role", sql, &[]).await.unwrap_or(false)
}

/// The administrator comes through the socket that is beside the port.
fn socket_of(address: &crate::host::Address) -> crate::host::Address {
    match address {
        crate::host::Address::Unix { .. } => address.clone(),
        crate::host::Address::Tcp { port, .. } => crate::host::Address::Unix {
            path: database::server::socket_path(database_address::SOCKET_DIR_DEFAULT, *port),
        },
    }
}

async fn address(
    machine: &Machine,
    variables: &dyn Variables,
) -> Result<DatabaseAddress, DatabaseAddressError> {
    let user = &machine.side.user;
    match &machine.side.database.url {
        Some(url) => database_address::from_url(url, user),
        None => database_address::resolve(machine.host(), variables, user, INI_DEFAULT).await,
    }
}

/// What the engine found, as a move tells it: its own verb takes options that a move does not.
fn in_a_move(mut finding: Finding, destination: &Destination) -> Finding {
    if finding.level == Level::Ok || !finding.subject.contains("database") {
        finding.subject = format!("database: {}", finding.subject);
    }
    let name = &destination.server.database;
    let option = format!("`--replace {name}`");
    let key = format!("set `database.replace_target = \"{name}\"`");
    finding.remedy = finding.remedy.map(|remedy| remedy.replace(&option, &key));
    finding
}
