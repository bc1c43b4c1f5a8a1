//! The database of both sides: where PostgreSQL itself is, and whether a copy can work.

use super::{Look, Machine};
use crate::database::target::Destination;
use crate::database::{self, Looking, Server};
use crate::error::Advice;
use crate::event::{Finding, Level};
use crate::host::Address;
use crate::host::helper::Helper;
use crate::instance::database_address::{
    self, DatabaseAddress, DatabaseAddressError, PgBouncerRoute,
};
use crate::instance::env_file::EnvFile;
use crate::instance::environment::Environment;
use crate::instance::pgbouncer::INI_DEFAULT;
use crate::instance::stores::TABLES;
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
        let through = source.through.clone();
        let server = self.server(&world.source, source).await;
        let is_known = self.is_mastodon(&server, through.as_ref()).await;
        let target = self.server(&world.target, target).await;
        let destination = self.destination(target).await;
        // What it would say of another database leads astray.
        if is_known {
            let jobs = world.config.database.jobs;
            let tune_cluster = world.config.database.tune_cluster;
            let table_bytes_max = Some(LOOKED_AT_BYTES_MAX);
            let looking = Looking { table_bytes_max, jobs, tune_cluster };
            let checked = database::check_for(&server, &destination, looking).await;
            let findings = self.keep("database", checked).unwrap_or_default();
            self.findings.extend(findings.into_iter().map(|it| in_a_move(it, &destination)));
        }
        // A run that goes on needs the places, whatever can be said of them now.
        Some((server, destination))
    }

    /// The source's database, which need not be there.
    pub(super) async fn source_database(&mut self) -> Option<Server> {
        let environment = self.source_environment().await?;
        let source = address(&self.world.source, &environment).await;
        let source = self.keep("database on the source", source)?;
        Some(self.server(&self.world.source, source).await)
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
        let admin = world.target.side.database.admin_user.as_deref().unwrap_or("postgres");
        let mut destination = Destination::new(server);
        destination.replace = world.config.database.replace_target.clone();
        // Whoever may make the database may make the role: only then is a missing one no failure.
        destination.create_role = true;
        let mut destination = destination.with_admin(admin).await;
        destination.create_role = destination.admin.is_some();
        if let Some(admin) = &mut destination.admin {
            admin.helper = self.bridge(&world.target).await;
        } else if world.config.database.tune_cluster {
            // Its role may make a database, as Mastodon's guide has it, but not change settings.
            let mut tuner = destination.superuser(admin);
            tuner.helper = self.bridge(&world.target).await;
            destination.tuner = Some(tuner);
        }
        destination
    }

    /// Whether the source's database can be read and is Mastodon's: another one would be copied,
    /// and verified as a faithful copy of that.
    async fn is_mastodon(&mut self, server: &Server, through: Option<&PgBouncerRoute>) -> bool {
        const SUBJECT: &str = "database on the source";
        let tables = match database::tables(server).await {
            Ok(tables) => tables,
            Err(error) => {
                let way = through.map(|route| format!(" (where {} leads)", route.ini));
                let text = crate::error::one_line(&error) + &way.unwrap_or_default();
                self.refuse(SUBJECT, &text, error.hint());
                return false;
            }
        };
        let missing: Vec<&str> =
            TABLES.iter().copied().filter(|name| !tables.iter().any(|it| it == name)).collect();
        if !missing.is_empty() {
            let text = format!(
                "{} at {} is not Mastodon's: it has no {}",
                server.database,
                server.address,
                missing.join(", ")
            );
            let remedy = "correct DB_NAME, DB_HOST and DB_PORT in .env.production, or set \
                          `source.database.url`";
            self.refuse(SUBJECT, &text, Some(remedy.into()));
        }
        missing.is_empty()
    }
}

async fn address(
    machine: &Machine,
    variables: &dyn Variables,
) -> Result<DatabaseAddress, DatabaseAddressError> {
    let user = &machine.side.user;
    match &machine.side.database.url {
        Some(url) => database_address::from_url(url, user),
        None => {
            let ini = machine.side.database.pgbouncer_ini.as_deref().unwrap_or(INI_DEFAULT);
            database_address::resolve(machine.host(), variables, user, ini).await
        }
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
