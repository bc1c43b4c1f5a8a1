//! What a server is like, and what our login may do there.

use crate::host::{Command, RunAs, run};

use super::super::session::is_on_host;
use super::super::{DatabaseError, Server, Session};
use super::{AvailableExtension, Login, ServerFacts, names};

/// Facts about the server that `session` is with. `server` tells where its disk is.
pub async fn inspect_server(
    server: &Server,
    session: &Session,
) -> Result<ServerFacts, DatabaseError> {
    let login = login(session).await?;
    // Role and database may have limits of their own.
    let slots = "SELECT least(current_setting('max_connections')::bigint
                - current_setting('superuser_reserved_connections')::bigint
                - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
            CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit
                - (SELECT count(*) FROM pg_stat_activity WHERE usename = r.rolname) END,
            CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper THEN d.datconnlimit
                - (SELECT count(*) FROM pg_stat_activity WHERE datname = d.datname) END)
        FROM pg_roles r, pg_database d
        WHERE r.rolname = current_user AND d.datname = current_database()";
    let wal = "SELECT pg_size_bytes(current_setting('max_wal_size'))";
    let wal: i64 = session.value("read max_wal_size", wal, &[]).await?;
    Ok(ServerFacts {
        label: session.server().to_owned(),
        version: session.version(),
        wal_level: session
            .value("read wal_level", "SELECT current_setting('wal_level')", &[])
            .await?,
        free_connections: session.value("count the connections", slots, &[]).await?,
        long_transactions: long_transactions(session).await?,
        roles: names(
            session,
            "list the roles",
            "SELECT rolname::text FROM pg_roles WHERE rolcanlogin ORDER BY 1",
        )
        .await?,
        roles_all: names(session, "list the roles", "SELECT rolname::text FROM pg_roles").await?,
        databases: names(
            session,
            "list the databases",
            "SELECT datname::text FROM pg_database WHERE NOT datistemplate ORDER BY 1",
        )
        .await?,
        available_extensions: available_extensions(session).await?,
        locales: locales(server, session).await?,
        has_icu: session
            .value(
                "look for ICU",
                "SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')",
                &[],
            )
            .await?,
        collations: names(
            session,
            "list the collations",
            "SELECT DISTINCT quote_ident(collname) FROM pg_collation
             WHERE collnamespace = 'pg_catalog'::regnamespace",
        )
        .await?,
        wal_bytes_max: wal.unsigned_abs(),
        disk_free_bytes: disk_free(server, session, &login).await?,
        login,
    })
}

async fn login(session: &Session) -> Result<Login, DatabaseError> {
    let action = "read the rights of the login";
    let sql = "SELECT rolname::text, rolsuper, rolcreatedb OR rolsuper, rolcreaterole OR rolsuper
               FROM pg_roles WHERE rolname = current_user";
    let row = session.row(action, sql, &[]).await?;
    Ok(Login {
        name: session.get(action, &row, 0)?,
        is_superuser: session.get(action, &row, 1)?,
        can_create_databases: session.get(action, &row, 2)?,
        can_create_roles: session.get(action, &row, 3)?,
    })
}

async fn long_transactions(session: &Session) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT format('%s, %s s, %s, process %s', usename,
                   extract(epoch FROM now() - xact_start)::bigint, coalesce(state, '?'), pid)
               FROM pg_stat_activity
               WHERE xact_start < now() - interval '1 minute' AND pid <> pg_backend_pid()
                 AND backend_type = 'client backend'
               ORDER BY xact_start LIMIT 10";
    names(session, "look for long transactions", sql).await
}

async fn available_extensions(session: &Session) -> Result<Vec<AvailableExtension>, DatabaseError> {
    let action = "list the available extensions";
    // Trusted extensions came with PostgreSQL 13.
    let trusted = if session.version().major() >= 13 { "bool_or(trusted)" } else { "false" };
    let sql = format!(
        "SELECT name::text, {trusted} FROM pg_available_extension_versions GROUP BY 1 ORDER BY 1"
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(AvailableExtension {
                name: session.get(action, row, 0)?,
                trusted: session.get(action, row, 1)?,
            })
        })
        .collect()
}

/// What `CREATE DATABASE` would accept. The catalogs know what was there at initdb, `locale -a`
/// what is there now, where the server is on the machine that we are on.
async fn locales(server: &Server, session: &Session) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT collcollate::text FROM pg_collation
                   WHERE collprovider = 'c' AND collcollate <> ''
               UNION SELECT datcollate::text FROM pg_database
               UNION SELECT datctype::text FROM pg_database";
    let mut found = names(session, "list the locales", sql).await?;
    found.extend(["C".to_owned(), "POSIX".to_owned()]);
    if is_on_host(&server.address) {
        let output =
            run(&*server.host, &Command::script("locale -a 2>/dev/null || true", &[])).await?;
        found.extend(output.text().lines().map(str::to_owned));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Free bytes of the file system that holds the data directory; `None` where we may not know.
/// The server tells superusers alone where that is; but its processes stand in it.
async fn disk_free(
    server: &Server,
    session: &Session,
    login: &Login,
) -> Result<Option<u64>, DatabaseError> {
    if !is_on_host(&server.address) {
        return Ok(None);
    }
    let command = if login.is_superuser {
        let sql = "SELECT current_setting('data_directory')";
        let dir: String = session.value("find the data directory", sql, &[]).await?;
        // A file system can be asked about a directory above, which we can reach.
        let script = r#"d="$1"; while ! df -B1 --output=avail -- "$d" 2>/dev/null; do
            [ "$d" = / ] && exit 1; d=$(dirname -- "$d"); done"#;
        Command::script(script, &[&dir])
    } else {
        let sql = "SELECT pg_catalog.pg_backend_pid()";
        let pid: i32 = session.value("find the server's process", sql, &[]).await?;
        // Nobody may look at another user's process. Where programs run as other users than the
        // login, that is allowed to change to them; else it is not tempted to use sudo.
        let user = match server.os_user {
            RunAs::Login => RunAs::Login,
            RunAs::Root | RunAs::User(_) => RunAs::Root,
        };
        // In a container processes have other numbers; no other program stands in such a place.
        let script = r#"d=$(readlink -e -- "/proc/$1/cwd") && [ -f "$d/PG_VERSION" ] &&
            df -B1 --output=avail -- "$d""#;
        Command::script(script, &[&pid.to_string()]).run_as(user)
    };
    let output = run(&*server.host, &command).await?;
    Ok(output.text().lines().last().and_then(|line| line.trim().parse().ok()))
}
