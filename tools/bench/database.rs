//! The database engine beside its peers: a Mastodon-shaped database with its indexes, copied from one
//! cluster to another, both as PostgreSQL comes, through the same sshd. pgcopydb knows no SSH: it
//! talks to both servers directly. Ours also analyzes every table, pgcopydb too; the others do not.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Wanted;
use super::clock;
use super::harness::postgres::{Options, Postgres};
use super::harness::sandbox::{DATABASE, ROLE};
use super::harness::seed;
use super::server::Server;
use super::table::Results;

const STATUSES: f64 = 2_000_000.0;
/// What each copies at a time.
const JOBS: &str = "2";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Stream,
    Parallel,
    Pipe,
    File,
    Pgcopydb,
}

impl Tool {
    const ALL: [Tool; 5] = [Tool::Stream, Tool::Parallel, Tool::Pipe, Tool::File, Tool::Pgcopydb];

    fn name(self) -> &'static str {
        match self {
            Tool::Stream => "transhume stream",
            Tool::Parallel => "transhume parallel",
            Tool::Pipe => "dump | ssh restore",
            Tool::File => "dump, rsync, restore",
            Tool::Pgcopydb => "pgcopydb",
        }
    }

    fn is_there(self) -> bool {
        match self {
            Tool::Stream | Tool::Parallel | Tool::Pipe => true,
            Tool::File => runs("rsync"),
            Tool::Pgcopydb => runs("pgcopydb"),
        }
    }
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub fn run(wanted: &Wanted, server: &Server, dir: &Path) -> Result<Results, String> {
    let kept = wanted.keep.as_deref().unwrap_or(dir);
    let (source, target) = (cluster(kept, "db-source"), cluster(dir, "db-target"));
    let statuses = (STATUSES * wanted.scale).max(1.0) as u32;
    fill(&source, statuses, &kept.join("db-source.statuses"));
    let size = format!("SELECT pg_size_pretty(pg_database_size('{DATABASE}'))");
    println!("\n{statuses} statuses, {}, {} runs", source.sql(DATABASE, &size), wanted.runs);
    let expected = portrait(&source);
    let bench = Bench { wanted, server, dir, source, target };
    let mut results = Results::beside(Tool::Pipe.name());
    for tool in Tool::ALL.into_iter().filter(|tool| bench.wants(*tool) && !tool.is_there()) {
        println!("{:22} left out: it is not installed", tool.name());
    }
    for _ in 0..wanted.runs {
        for tool in Tool::ALL.into_iter().filter(|tool| bench.wants(*tool) && tool.is_there()) {
            let cost = match wanted.timeline {
                false => clock::run(&mut bench.command(tool))?,
                true => {
                    let (cost, rates) = clock::timeline(&mut bench.command(tool))?;
                    println!("{} {:?} {rates:?}", tool.name(), cost.wall);
                    cost
                }
            };
            results.add(tool.name(), cost);
            difference(&expected, &portrait(&bench.target))
                .map_or(Ok(()), |line| Err(format!("{}: differs at {line}", tool.name())))?;
            bench.target.sql("postgres", &format!("DROP DATABASE {DATABASE}"));
            bench.target.sql("postgres", "CHECKPOINT");
        }
    }
    Ok(results)
}

/// Makes the database, unless a run before has left one of the same size, which `note` tells.
fn fill(source: &Postgres, statuses: u32, note: &Path) {
    if std::fs::read_to_string(note).is_ok_and(|text| text == statuses.to_string()) {
        return;
    }
    source.sql("postgres", &format!("DROP DATABASE IF EXISTS {DATABASE}"));
    seed::database(source, statuses, statuses / 10);
    source.sql("postgres", "CHECKPOINT");
    std::fs::write(note, statuses.to_string()).expect("write what is there");
}

/// A cluster with the settings that PostgreSQL comes with.
fn cluster(dir: &Path, name: &str) -> Postgres {
    let defaults = [
        "shared_buffers = 128MB",
        "fsync = on",
        "full_page_writes = on",
        "synchronous_commit = on",
    ];
    let conf = defaults.map(str::to_owned).to_vec();
    let options = Options { dir: Some(dir.join(name)), conf, ..Options::default() };
    let cluster = Postgres::start_with(&options);
    let there = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{ROLE}'");
    if cluster.sql("postgres", &there) == "0" {
        cluster.create_role(ROLE, "bench", "CREATEDB");
    }
    cluster
}

/// Rows and a hash of them for each table, and what indexes and constraints there are.
fn portrait(cluster: &Postgres) -> String {
    let tables =
        "SELECT format('SELECT %L, count(*), sum(hashtextextended(t::text, 0)::numeric) FROM %s t',
                    oid::regclass, oid::regclass)
                  FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                  ORDER BY relname";
    let tables: Vec<String> = cluster.sql(DATABASE, tables).lines().map(str::to_owned).collect();
    let rows = cluster.sql(DATABASE, &tables.join(" UNION ALL "));
    let rest = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;
                SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
                WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2";
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    rows.join("\n") + &cluster.sql(DATABASE, rest)
}

/// The first line that only one of them has.
fn difference<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    let lacks = |text: &str, line: &&str| !text.lines().any(|other| other == *line);
    let missing = one.lines().find(|line| lacks(other, line));
    missing.or_else(|| other.lines().find(|line| lacks(one, line)))
}

struct Bench<'a> {
    wanted: &'a Wanted,
    server: &'a Server,
    dir: &'a Path,
    source: Postgres,
    target: Postgres,
}

impl Bench<'_> {
    fn wants(&self, tool: Tool) -> bool {
        let only = &self.wanted.only;
        // pgcopydb cannot get at a server behind the link.
        let reaches = tool != Tool::Pgcopydb || self.wanted.wan.is_none();
        reaches && (only.is_empty() || only.iter().any(|part| tool.name().contains(part)))
    }

    /// The command that copies the source's database to the target.
    fn command(&self, tool: Tool) -> Command {
        match tool {
            Tool::Stream => self.ours("stream"),
            Tool::Parallel => self.ours("parallel"),
            Tool::Pipe => self.shell(
                r#"pg_dump -Fc -d "$source" | "$@" "$login" "$make && $restore -e -d '$target'""#,
            ),
            Tool::File => self.shell(
                r#"pg_dump -Fc -f "$dir/here.dump" -d "$source"
                   rsync -e "$*" "$dir/here.dump" "$login:$dir/there.dump"
                   "$@" "$login" "$make && $restore -e -j 2 -d '$target' '$dir/there.dump'"
                   rm "$dir/here.dump" "$dir/there.dump""#,
            ),
            Tool::Pgcopydb => self.shell(
                r#"sh -c "$make"
                   pgcopydb clone --source "$source" --target "$target" --dir "$dir/pgcopydb" \
                       --restart --table-jobs 2 --index-jobs 2 --no-owner --no-acl
                   rm -r "$dir/pgcopydb""#,
            ),
        }
    }

    fn ours(&self, mode: &str) -> Command {
        let sshd = &self.server.sshd;
        let mut command = Command::new(&self.wanted.program);
        command.env("XDG_CACHE_HOME", sshd.dir().join("cache-here"));
        command.args(["db", "-q", "--verify", "none", "--mode", mode, "--jobs", JOBS]);
        command.arg("--identity").arg(sshd.client_key());
        let known = format!("UserKnownHostsFile={}", sshd.known_hosts().display());
        command.args(["-e", &known]).arg(self.source.socket_conninfo(ROLE, DATABASE));
        let (user, address, port) = (sshd.user(), self.server.address, sshd.port());
        let target = self.target.socket_conninfo(ROLE, DATABASE);
        command.arg(format!("ssh://{user}@{address}:{port}/{target}"));
        command
    }

    /// A script that finds all it needs in variables, and in its arguments the words of ssh.
    fn shell(&self, script: &str) -> Command {
        let sshd = &self.server.sshd;
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        let bin_dir = self.source.bin_dir().display();
        let (socket, port) = (self.target.socket_dir().display(), self.target.port());
        command
            .env("PATH", format!("{bin_dir}:{path}"))
            .env("source", self.source.socket_conninfo(ROLE, DATABASE))
            .env("target", self.target.socket_conninfo(ROLE, DATABASE))
            .env("login", format!("{}@{}", sshd.user(), self.server.address))
            .env("dir", self.dir)
            .env("restore", format!("{bin_dir}/pg_restore --no-owner --no-acl"))
            .env(
                "make",
                format!(
                    "{bin_dir}/createdb -h {socket} -p {port} -U {ROLE} -T template0 {DATABASE}"
                ),
            )
            .args(["-e", "-o", "pipefail", "-c", script, "bash"])
            .args(sshd.ssh_words());
        command
    }
}
