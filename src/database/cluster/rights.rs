//! Who may change the settings of the cluster, and read what stands in its file.

use super::super::session::{Access, Session};
use super::super::{DatabaseError, target::Destination};
use super::conf::{RECORD, Setting};

/// The first major version in which others than superusers can be allowed to.
const GRANTS: u32 = 15;

/// A session of the first who may: the administrator, or the one who was named for this alone.
pub async fn privileged(destination: &Destination) -> Result<Session, DatabaseError> {
    let admin = destination.admin_session(Access::Write).await?;
    if may(&admin).await? {
        return Ok(admin);
    }
    let source = match &destination.tuner {
        None => None,
        Some(tuner) => match destination.maintenance_session(tuner, Access::Write).await {
            Ok(session) if may(&session).await? => return Ok(session),
            Ok(session) => Some(refused(&session, None)),
            Err(error) => Some(error),
        },
    };
    Err(refused(&admin, source.map(Box::new)))
}

fn refused(session: &Session, source: Option<Box<DatabaseError>>) -> DatabaseError {
    let (server, user) = (session.server().to_owned(), session.user().to_owned());
    let grants = session.version().major() >= GRANTS;
    DatabaseError::NoTuneRight { server, user, grants, source }
}

async fn may(session: &Session) -> Result<bool, DatabaseError> {
    let action = "read the rights to change settings";
    // Since PostgreSQL 17 it can be switched off for all.
    let sql =
        "SELECT rolsuper AND coalesce(current_setting('allow_alter_system', true), 'on') = 'on'
               FROM pg_roles WHERE rolname = current_user";
    if session.value(action, sql, &[]).await? {
        return Ok(true);
    }
    if session.version().major() < GRANTS {
        return Ok(false);
    }
    let sql = format!(
        "SELECT bool_and(has_parameter_privilege(name, 'ALTER SYSTEM'))
             AND has_table_privilege('pg_file_settings', 'SELECT')
             AND has_function_privilege('pg_show_all_file_settings()', 'EXECUTE')
             AND has_function_privilege('pg_reload_conf()', 'EXECUTE')
             AND coalesce(current_setting('allow_alter_system', true), 'on') = 'on'
         FROM unnest(ARRAY[{}]) AS name",
        names().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
    );
    session.value(action, &sql, &[]).await
}

fn names() -> impl Iterator<Item = &'static str> {
    Setting::ALL.into_iter().map(Setting::name).chain([RECORD])
}

/// What to do about it.
pub fn remedy(error: &DatabaseError) -> String {
    let without = "do without cluster-wide settings";
    match error {
        DatabaseError::NoTuneRight { user, grants: true, .. } => format!(
            "{without}, name an administrator who may log in (`admin_user`), or as the superuser, in \
             the database postgres: GRANT ALTER SYSTEM ON PARAMETER {} TO \"{user}\"; GRANT SELECT \
             ON pg_file_settings TO \"{user}\"; GRANT EXECUTE ON FUNCTION pg_reload_conf(), \
             pg_show_all_file_settings() TO \"{user}\"",
            names().collect::<Vec<_>>().join(", ")
        ),
        _ => format!("{without}, or name an administrator who may log in (`admin_user`)"),
    }
}
