//! A machine reached over SSH, with verified host keys and one login that is proved once.
//!
//! In flow a destination, options and the answers of a [`Prompt`]; out flows a [`Host`]. Commands
//! run in sessions of a few connections; a lost connection is replaced when something new is
//! asked for, while what was in flight on it is reported as lost, never repeated. Knows nothing
//! of what the commands are for.
//!
//! Dropping a process closes its channel, which ends its input and output but does not stop it on
//! the other side: what must not go on by itself has to watch its standard input.

mod ahead;
mod channel;
mod config_file;
pub mod destination;
mod hop;
mod identity;
mod include;
mod known_hosts;
mod link;
mod login;
mod pace;
mod pattern;
pub mod prompt;
mod quick;
pub mod route;

mod session;
mod settings;
mod shells;
pub mod surroundings;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Semaphore};

pub use destination::Destination;
pub use prompt::{NoPrompt, Prompt, TerminalPrompt};
pub use route::Options;

use super::{Address, Command, Ended, Host, HostError, Output, Process, Stream, shell_line};
use ahead::Ahead;
use channel::{Ends, Joined};
use hop::Hop;
use link::{Link, unreachable_error};
use session::{OpenError, Request};
use shells::{Shell, ShellError, Shells};

/// Connections of one [`Ssh`]: a server allows some ten sessions on each.
const LINKS_MAX: usize = 4;
/// How long to wait for a session to end when all connections are full.
const FULL_DEADLINE: Duration = Duration::from_secs(60);
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// A machine reached over SSH.
pub struct Ssh {
    route: Arc<Route>,
    links: Mutex<Vec<Arc<Link>>>,
    /// Many sessions are opened, one after the other.
    many: bool,
    /// For those who want one of their own.
    ahead: Ahead,
    shells: Shells,
}

/// Opening a connection before it is needed pays where a round trip takes this long.
const FAR: Duration = Duration::from_millis(10);

/// Connections being opened at a time; from ten on, sshd drops some by default (MaxStartups).
const OPENING_MAX: u32 = 4;

/// The way there, shared by all connections.
struct Route {
    name: String,
    login: String,
    hops: Vec<Arc<Hop>>,
    notes: Vec<String>,
    /// Servers drop what comes all at once.
    opening: Semaphore,
}

/// Connects and logs in.
pub async fn connect(
    destination: &Destination,
    options: &Options,
    prompt: Arc<dyn Prompt>,
) -> Result<Arc<Ssh>, HostError> {
    let plan = route::plan(destination, options).map_err(|error| {
        let hint = error.hint();
        unreachable_error(
            &destination.host,
            io::Error::new(io::ErrorKind::InvalidInput, error),
            hint,
        )
    })?;
    let hops: Vec<Arc<Hop>> =
        plan.hops.into_iter().map(|hop| Arc::new(Hop::new(hop, prompt.clone()))).collect();
    let login = hops.last().map(|hop| hop.plan.user.clone()).unwrap_or_default();
    let route = Arc::new(Route {
        name: destination.host.clone(),
        login,
        hops,
        notes: plan.notes,
        opening: Semaphore::new(OPENING_MAX as usize),
    });
    let first = route.open().await?;
    Ok(Arc::new(Ssh::over(first, route, true)))
}

impl Ssh {
    fn over(first: Arc<Link>, route: Arc<Route>, many: bool) -> Self {
        let links = Mutex::new(vec![first]);
        Ssh { route, links, many, ahead: Ahead::default(), shells: Shells::default() }
    }

    /// The user that is logged in.
    pub fn login(&self) -> &str {
        &self.route.login
    }

    /// What was skipped or went wrong on the side, for people.
    pub fn notes(&self) -> Vec<String> {
        let of_hops = self.route.hops.iter().flat_map(|hop| hop.notes());
        self.route.notes.iter().cloned().chain(of_hops).collect()
    }

    /// Closes the connections. What still runs is reported as lost.
    pub async fn disconnect(&self) {
        self.shells.clear();
        for link in self.links.lock().await.drain(..) {
            link.disconnect().await;
        }
    }

    /// Opens a session on a connection that has room, replacing lost ones and adding as needed.
    async fn open(&self, request: Request) -> Result<Ends, OpenFailure> {
        let deadline = tokio::time::Instant::now() + FULL_DEADLINE;
        let mut lost = 0;
        loop {
            let links = self.live_links().await?;
            for link in &links {
                match session::open(link.clone(), request.clone(), self.many).await {
                    Ok(ends) => return Ok(ends),
                    Err(OpenError::Full) => {}
                    // Nothing was started on it: once more on a new connection.
                    Err(OpenError::Dead) if lost == 0 => {
                        lost += 1;
                        self.forget(link).await;
                    }
                    Err(OpenError::Dead) => return Err(OpenFailure::Host(self.gone())),
                    Err(OpenError::Unknown) => return Err(OpenFailure::Lost),
                    Err(OpenError::Refused(source)) => return Err(OpenFailure::Refused(source)),
                }
            }
            // An idle shell makes room.
            if self.shells.clear() {
                tokio::time::sleep(FULL_PAUSE).await;
            } else if !self.add_link(links.len()).await? {
                if tokio::time::Instant::now() > deadline {
                    let text = "all its sessions are in use (MaxSessions)";
                    return Err(OpenFailure::Refused(io::Error::other(text)));
                }
                tokio::time::sleep(FULL_PAUSE).await;
            }
        }
    }

    /// The connections that are not known to be lost, at least one.
    async fn live_links(&self) -> Result<Vec<Arc<Link>>, HostError> {
        let mut links = self.links.lock().await;
        links.retain(|link| !link.is_dead());
        if links.is_empty() {
            links.push(self.route.open().await?);
        }
        Ok(links.clone())
    }

    /// Opens one more connection than the `seen` ones that are full, unless somebody else just
    /// did; `false` if there are enough.
    async fn add_link(&self, seen: usize) -> Result<bool, HostError> {
        let mut links = self.links.lock().await;
        links.retain(|link| !link.is_dead());
        if links.len() > seen {
            return Ok(true);
        }
        if links.len() >= LINKS_MAX {
            return Ok(false);
        }
        links.push(self.route.open().await?);
        Ok(true)
    }

    async fn forget(&self, link: &Arc<Link>) {
        self.links.lock().await.retain(|one| !Arc::ptr_eq(one, link));
    }

    /// Runs `line` in a shell that stays; `None` if this machine has none.
    async fn in_shell(&self, line: &str) -> Result<Option<Output>, ShellFailure> {
        if self.shells.are_none() {
            return Ok(None);
        }
        let mut shell = match self.shells.take().await {
            Some(shell) => shell,
            None => {
                let Some(mark) = shells::mark() else { return Ok(None) };
                Shell::new(self.open(Request::Exec(shells::PROGRAM.into())).await?, mark)
            }
        };
        match shell.run(line).await {
            Ok(output) => {
                self.shells.put_back(shell);
                Ok(Some(output))
            }
            Err(ShellError::NoShell) => {
                self.shells.give_up();
                Ok(None)
            }
            Err(error) => Err(ShellFailure::Ran(error)),
        }
    }

    fn start_error(&self, failure: OpenFailure, command: &Command) -> HostError {
        let (host, command) = (self.route.name.clone(), command.to_string());
        match failure {
            OpenFailure::Host(error) => error,
            OpenFailure::Lost => HostError::Lost { host, command },
            OpenFailure::Refused(source) => HostError::Start { host, command, source },
        }
    }

    fn gone(&self) -> HostError {
        let source =
            io::Error::new(io::ErrorKind::ConnectionReset, "the connection was lost again");
        unreachable_error(&self.route.name, source, None)
    }
}

impl Route {
    async fn open(&self) -> Result<Arc<Link>, HostError> {
        // Nobody is asked two questions at a time, and an answer is given once.
        let alone = !self.hops.iter().all(|hop| hop.logs_in_again());
        let turns = if alone { OPENING_MAX } else { 1 };
        // It is never closed.
        let _turns = self.opening.acquire_many(turns).await;
        link::establish(&self.hops).await
    }
}

/// Why nothing was opened.
enum OpenFailure {
    Host(HostError),
    Refused(io::Error),
    Lost,
}

/// Why nothing came out of a shell.
enum ShellFailure {
    Open(OpenFailure),
    Ran(ShellError),
}

impl From<OpenFailure> for ShellFailure {
    fn from(failure: OpenFailure) -> Self {
        ShellFailure::Open(failure)
    }
}

impl From<HostError> for OpenFailure {
    fn from(error: HostError) -> Self {
        OpenFailure::Host(error)
    }
}

#[async_trait]
impl Host for Ssh {
    fn name(&self) -> &str {
        &self.route.name
    }

    async fn spawn(&self, command: &Command) -> Result<Process, HostError> {
        let line = shell_line(&command.effective_argv(&self.route.login));
        let (host, words) = (self.route.name.clone(), command.to_string());
        let ends = self.open(Request::Exec(line)).await;
        let ends = ends.map_err(|failure| self.start_error(failure, command))?;
        let Ends { writer, reader, closing, guard } = ends;
        let ending = async move {
            let closing = closing.await;
            drop(guard);
            match closing {
                Ok(channel::Closing { exit: Some(exit), complete: true, stderr_tail }) => {
                    Ok(Ended { exit, stderr_tail })
                }
                // Without an exit, or with output that may lack its end.
                Ok(_) | Err(_) => Err(HostError::Lost { host, command: words }),
            }
        };
        Ok(Process::new(Box::pin(writer), Box::pin(reader), ending))
    }

    async fn finish(&self, command: &Command) -> Result<Output, HostError> {
        let (host, words) = (self.route.name.clone(), command.to_string());
        if command.input().is_empty() {
            let line = shell_line(&command.effective_argv(&self.route.login));
            match self.in_shell(&line).await {
                Ok(Some(output)) => return Ok(output),
                Ok(None) => {}
                Err(ShellFailure::Open(failure)) => return Err(self.start_error(failure, command)),
                Err(ShellFailure::Ran(ShellError::TooMuch)) => {
                    return Err(super::too_much(&host, command));
                }
                Err(ShellFailure::Ran(ShellError::Lost | ShellError::NoShell)) => {
                    return Err(HostError::Lost { host, command: words });
                }
            }
        }
        super::collect(&host, command, self.spawn(command).await?).await
    }

    async fn connect(&self, address: &Address) -> Result<Stream, HostError> {
        let failed = |source| HostError::Connect {
            host: self.route.name.clone(),
            address: address.clone(),
            source,
        };
        for _ in 0..2 {
            let links = self.live_links().await?;
            let Some(link) = links.first() else { break };
            match session::forward(link.clone(), address).await {
                Ok(stream) => return Ok(stream),
                // A connection that did not carry data has done nothing: once more.
                Err(OpenError::Dead | OpenError::Unknown) => self.forget(link).await,
                Err(OpenError::Full) => return Err(failed(io::ErrorKind::ResourceBusy.into())),
                Err(OpenError::Refused(source)) => return Err(failed(source)),
            }
        }
        Err(self.gone())
    }

    async fn subsystem(&self, name: &str) -> Result<Stream, HostError> {
        let host = self.route.name.clone();
        match self.open(Request::Subsystem(name.to_owned())).await {
            Ok(Ends { reader, writer, .. }) => Ok(Box::new(Joined { reader, writer })),
            Err(OpenFailure::Host(error)) => Err(error),
            Err(OpenFailure::Lost) => {
                Err(HostError::Lost { host, command: format!("{name} subsystem") })
            }
            Err(OpenFailure::Refused(source)) => {
                Err(HostError::Subsystem { host, name: name.to_owned(), source })
            }
        }
    }

    fn round_trip(&self) -> Option<Duration> {
        // While one is being opened nothing is known for certain.
        let links = self.links.try_lock().ok()?;
        let micros =
            links.iter().map(|link| link.round_trip_micros.load(Ordering::Relaxed)).min()?;
        (micros < u64::MAX).then(|| Duration::from_micros(micros))
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        let first = match self.ahead.take().await {
            Some(link) => link,
            None => self.route.open().await?,
        };
        Ok(Arc::new(Ssh::over(first, self.route.clone(), false)))
    }

    fn expect(&self, connections: usize) {
        if self.round_trip().is_none_or(|round_trip| round_trip < FAR) {
            return;
        }
        for _ in 0..connections {
            let route = self.route.clone();
            self.ahead.add(tokio::spawn(async move { route.open().await }));
        }
    }
}

impl fmt::Debug for Ssh {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Ssh({}@{})", self.route.login, self.route.name)
    }
}
