//! Makes role, database and extensions on the target.

use tokio_postgres::error::SqlState;
use zeroize::Zeroizing;

use crate::event::Finding;

use super::super::inspect::{DatabaseFacts, Extension, Locale, Provider, ServerFacts};
use super::super::preflight::{ExtensionPlan, extension_plan};
use super::super::quote::{ident, literal};
use super::super::session::{self, Access};
use super::super::{DatabaseError, Session};
use super::{Destination, is_superuser};

pub(super) async fn make_role(
    destination: &Destination,
    admin: &Session,
    server: &ServerFacts,
) -> Result<(), DatabaseError> {
    if server.roles.contains(&destination.owner) || !destination.create_role {
        return Ok(());
    }
    let action = "create the role of the target";
    // The password must not get into the server's log. A statement is logged before it runs, so
    // this has to be a request of its own. Only a superuser may, and where others create roles the
    // log is not theirs either.
    let quiet = "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; \
                 SET LOCAL log_min_error_statement = 'panic'";
    admin.execute(action, "BEGIN").await?;
    if server.login.is_superuser {
        admin.execute(action, quiet).await?;
    }
    let password = match &destination.server.password {
        Some(password) => Zeroizing::new(format!(" PASSWORD {}", literal(password.expose()))),
        None => Zeroizing::default(),
    };
    let role = ident(&destination.owner);
    let sql = Zeroizing::new(format!("CREATE ROLE {role} LOGIN{}", *password));
    admin.execute(action, &sql).await?;
    admin.execute(action, "COMMIT").await
}

pub(super) async fn create(
    destination: &Destination,
    admin: &Session,
    locale: &Locale,
) -> Result<(), DatabaseError> {
    let name = &destination.server.database;
    let sql = create_statement(name, &destination.owner, locale, admin.version().major());
    let result = admin.execute("create the target database", &sql).await;
    result.map_err(|error| match error {
        DatabaseError::Sql { server, source, .. }
            if source.is(&SqlState::INSUFFICIENT_PRIVILEGE) =>
        {
            let user = admin.user().to_owned();
            DatabaseError::NoCreateRight { server, user, database: name.clone() }
        }
        DatabaseError::Sql { server, source, .. } if source.message.contains("locale name") => {
            DatabaseError::LocaleMissing { server, locale: locale.collate.clone(), source }
        }
        other => other,
    })
}

fn create_statement(name: &str, owner: &str, locale: &Locale, major: u32) -> String {
    let mut sql = format!(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        ident(name),
        ident(owner),
        literal(&locale.encoding),
        literal(&locale.collate),
        literal(&locale.ctype),
    );
    let name = locale.locale.as_deref().map(literal).unwrap_or_default();
    match locale.provider {
        // Before 15 there is no other provider, and no word for it.
        Provider::Libc if major < 15 => {}
        Provider::Libc => sql.push_str(" LOCALE_PROVIDER libc"),
        Provider::Icu => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {name}")),
        Provider::Builtin => {
            sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {name}"))
        }
    }
    if let Some(rules) = &locale.rules {
        sql.push_str(&format!(" ICU_RULES {}", literal(rules)));
    }
    sql
}

/// Creates what only a superuser can create; the archive brings the others.
pub(super) async fn make_extensions(
    destination: &Destination,
    source: &DatabaseFacts,
    server: &ServerFacts,
) -> Result<Vec<String>, DatabaseError> {
    let owner_is_superuser = is_superuser(destination).await?;
    let mut made = Vec::new();
    for extension in &source.extensions {
        match extension_plan(extension, server, owner_is_superuser) {
            ExtensionPlan::WithArchive => {}
            ExtensionPlan::Missing => {
                return Err(DatabaseError::Refused {
                    findings: vec![Finding::refusal(
                        &format!("extension {}", extension.name),
                        format!("it does not have the extension {}", extension.name),
                        Some("install its package on the target".into()),
                    )],
                });
            }
            ExtensionPlan::Beforehand => {
                make_extension(destination, extension).await?;
                made.push(extension.name.clone());
            }
        }
    }
    Ok(made)
}

async fn make_extension(
    destination: &Destination,
    extension: &Extension,
) -> Result<(), DatabaseError> {
    let login = destination.admin.as_ref().unwrap_or(&destination.server);
    let login = login.with_database(&destination.server.database);
    let session = session::connect(&login, Access::Write).await?;
    let name = ident(&extension.name);
    // Another schema is one that the extension brings along, or one that the archive will make.
    let place = match extension.schema.as_str() {
        "public" | "pg_catalog" => format!("SCHEMA {}", ident(&extension.schema)),
        _ => String::new(),
    };
    let sql =
        format!("SET search_path = public; CREATE EXTENSION IF NOT EXISTS {name} {place} CASCADE");
    session.execute("create an extension", &sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locale(provider: Provider, name: Option<&str>) -> Locale {
        Locale {
            encoding: "UTF8".into(),
            provider,
            collate: "en_US.UTF-8".into(),
            ctype: "C".into(),
            locale: name.map(str::to_owned),
            rules: None,
            version: None,
            version_now: None,
        }
    }

    #[test]
    fn a_database_is_created_like_its_source() {
        let start = "CREATE DATABASE \"my db\" OWNER \"m\" TEMPLATE template0 ENCODING E'UTF8' \
                     LC_COLLATE E'en_US.UTF-8' LC_CTYPE E'C'";
        assert_eq!(create_statement("my db", "m", &locale(Provider::Libc, None), 14), start);
        assert_eq!(
            create_statement("my db", "m", &locale(Provider::Libc, None), 15),
            format!("{start} LOCALE_PROVIDER libc")
        );
        assert_eq!(
            create_statement("my db", "m", &locale(Provider::Icu, Some("de-x-icu")), 15),
            format!("{start} LOCALE_PROVIDER icu ICU_LOCALE E'de-x-icu'")
        );
    }
}
