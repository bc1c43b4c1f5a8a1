//! PostgreSQL's own programs on a machine: how they are named, logged in and asked for their
//! version. Passwords reach them through a password file alone.

use crate::host::{Command, HostError, run};

use super::held::HeldFile;
use super::quote::{conninfo_value, passfile_field};
use super::{DatabaseError, Server, Version};

/// A program of PostgreSQL on the server's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Dump,
    Restore,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Dump => "pg_dump",
            Tool::Restore => "pg_restore",
        }
    }
}

/// The version of `tool` on the server's machine.
pub async fn version(server: &Server, tool: Tool) -> Result<Version, DatabaseError> {
    let command = program(server, tool).arg("--version");
    let output = run(&*server.host, &command).await?;
    if !output.success() {
        return Err(crate::host::failure(&*server.host, &command, output).into());
    }
    let text = output.text();
    Version::parse(&text).ok_or_else(|| {
        HostError::Output {
            host: server.host.name().to_owned(),
            command: command.to_string(),
            problem: format!("something that is not a version: {text:?}"),
        }
        .into()
    })
}

/// The command that lists what the archive at `path` holds.
pub(super) fn contents(server: &Server, path: &str) -> Command {
    program(server, Tool::Restore).args(["--list", path])
}

fn program(server: &Server, tool: Tool) -> Command {
    let path = match &server.bin_dir {
        Some(dir) => format!("{}/{}", dir.trim_end_matches('/'), tool.name()),
        None => tool.name().to_owned(),
    };
    // Messages in English: we look for some of them.
    Command::new([path]).run_as(server.os_user.clone()).env("LC_ALL", "C")
}

/// The login of PostgreSQL's programs at one server: a password file, if there is a password.
pub(super) struct Credentials {
    file: Option<HeldFile>,
}

impl Credentials {
    pub async fn place(server: &Server) -> Result<Credentials, DatabaseError> {
        let Some(password) = &server.password else { return Ok(Credentials { file: None }) };
        let line = format!(
            "*:*:*:{}:{}\n",
            passfile_field(&server.user),
            passfile_field(password.expose())
        );
        let line = zeroize::Zeroizing::new(line);
        let file = HeldFile::create(&*server.host, &server.os_user, line.as_bytes()).await?;
        Ok(Credentials { file: Some(file) })
    }

    /// `tool`, connecting to the database of `server`, with `settings` (name, value) for its
    /// session.
    pub fn command(&self, server: &Server, tool: Tool, settings: &[(&str, &str)]) -> Command {
        let options: Vec<String> =
            settings.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
        let mut command = program(server, tool)
            .env("PGOPTIONS", options.join(" "))
            .env("PGAPPNAME", format!("transhume {}", tool.name()))
            .env("PGCONNECT_TIMEOUT", "30");
        if let Some(file) = &self.file {
            command = command.env("PGPASSFILE", file.path());
        }
        command.arg("--no-password").arg(format!("--dbname={}", conninfo(server)))
    }

    pub async fn release(self) -> Result<(), DatabaseError> {
        match self.file {
            Some(file) => Ok(file.release().await?),
            None => Ok(()),
        }
    }
}

/// The connection string without the password.
fn conninfo(server: &Server) -> String {
    let (host, port) = server.libpq_address();
    format!(
        "host={} port={port} user={} dbname={} sslmode=disable",
        conninfo_value(&host),
        conninfo_value(&server.user),
        conninfo_value(&server.database)
    )
}
