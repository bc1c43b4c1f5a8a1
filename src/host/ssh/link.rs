//! One SSH connection, possibly through others: reach the port, verify the host key, log in.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, DisconnectReason, Handle, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, Disconnect, Preferred, cipher};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::hop::{Hop, KeyRefused};
use super::login;
use super::quick::Quick;
use super::session::{self, Spare};
use crate::host::{HostError, Stream};

/// How long the exchange of keys may take, apart from a person's answer to a question.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(30);
/// A server that limits unauthenticated connections (MaxStartups) drops some: these are repeated.
const TRIES_MAX: u32 = 5;
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVES_UNANSWERED_MAX: usize = 4;
/// How long sent bytes may stay unacknowledged: as long as the keepalives wait.
const SILENCE_MILLIS_MAX: u32 = 75_000;

/// A connection that is logged in. Dropping the last use of it closes it.
pub(super) struct Link {
    pub handle: Handle<Gate>,
    /// Sessions (commands, subsystems) that are open on it.
    pub sessions: AtomicUsize,
    pub spare: Spare,
    /// The shortest time that connecting or opening a session took, in microseconds: a round trip,
    /// and a little for the server.
    pub round_trip_micros: AtomicU64,
    /// The connection that this one runs through.
    _below: Option<Arc<Link>>,
}

impl Link {
    pub fn is_dead(&self) -> bool {
        self.handle.is_closed()
    }

    /// Opens a session that does nothing yet.
    pub async fn open_session(&self) -> Result<Channel<Msg>, russh::Error> {
        let asked = Instant::now();
        let channel = self.handle.channel_open_session().await?;
        self.round_trip_micros.fetch_min(micros(asked.elapsed()), Ordering::Relaxed);
        Ok(channel)
    }

    /// There and back, and a little for the server.
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_micros.load(Ordering::Relaxed))
    }

    pub async fn disconnect(&self) {
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Nobody awaits here, and a full queue means that the session is busy ending.
        let handle = &self.handle;
        let goodbye = handle.disconnect(Disconnect::ByApplication, "", "");
        let _ = futures_util::FutureExt::now_or_never(goodbye);
    }
}

/// Connects to the last of `hops` through those before it.
pub(super) async fn establish(hops: &[Arc<Hop>]) -> Result<Arc<Link>, HostError> {
    let mut below: Option<Arc<Link>> = None;
    for hop in hops {
        below = Some(Arc::new(establish_hop(hop, below).await?));
    }
    below.ok_or_else(|| unreachable_error("nowhere", io::ErrorKind::InvalidInput.into(), None))
}

async fn establish_hop(hop: &Arc<Hop>, below: Option<Arc<Link>>) -> Result<Link, HostError> {
    let mut pause = PAUSE_FIRST;
    for attempt in 1.. {
        match try_establish(hop, below.clone()).await {
            Ok(link) => return Ok(link),
            Err(Attempt::Dropped(_)) if attempt < TRIES_MAX => tokio::time::sleep(pause).await,
            Err(Attempt::Dropped(error) | Attempt::Failed(error)) => return Err(error),
        }
        pause *= 2;
    }
    unreachable!("the loop ends by returning")
}

enum Attempt {
    /// The server closed the connection before the login: it may be too busy at the moment.
    Dropped(HostError),
    Failed(HostError),
}

async fn try_establish(hop: &Arc<Hop>, below: Option<Arc<Link>>) -> Result<Link, Attempt> {
    let (stream, connecting) = reach(hop, below.as_ref()).await.map_err(Attempt::Failed)?;
    let gate = Gate { hop: hop.clone(), farewell: Arc::default(), refusal: Arc::default() };
    let (farewell, refusal) = (gate.farewell.clone(), gate.refusal.clone());
    let config = Arc::new(
        config(hop)
            .map_err(|source| Attempt::Failed(unreachable_error(&hop.plan.name, source, None)))?,
    );
    let handshake = client::connect_stream(config, stream, gate);
    let deadline = HANDSHAKE_DEADLINE + hop.question_time();
    let mut handle = match tokio::time::timeout(deadline, handshake).await {
        Ok(Ok(handle)) => handle,
        Ok(Err(error)) => return Err(handshake_failure(hop, error, take(&refusal))),
        Err(_) => {
            let source = io::Error::new(io::ErrorKind::TimedOut, "no answer to the SSH handshake");
            return Err(Attempt::Failed(unreachable_error(&hop.plan.name, source, None)));
        }
    };
    match login::log_in(hop, &mut handle).await {
        Ok(()) => Ok(Link {
            handle,
            sessions: AtomicUsize::default(),
            spare: Spare::default(),
            round_trip_micros: AtomicU64::new(connecting.map_or(u64::MAX, micros)),
            _below: below,
        }),
        Err(error) => {
            let _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
            Err(Attempt::Failed(error.with_farewell(hop, take(&farewell))))
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Opens the way to the hop's port: TCP, or a channel of the connection before it. Gives how long
/// connecting took, if it was there and back once.
async fn reach(
    hop: &Hop,
    below: Option<&Arc<Link>>,
) -> Result<(Stream, Option<Duration>), HostError> {
    let (host, port, limit) = (&hop.plan.host, hop.plan.port, hop.plan.connect_timeout);
    let reaching = async {
        match below {
            None => {
                let addresses: Vec<_> =
                    tokio::net::lookup_host((host.as_str(), port)).await?.collect();
                let asked = Instant::now();
                let stream = TcpStream::connect(&addresses[..]).await?;
                let took = asked.elapsed();
                stream.set_nodelay(true)?;
                // While a write waits no keepalive is sent: then the kernel has to notice.
                rustix::net::sockopt::set_tcp_user_timeout(&stream, SILENCE_MILLIS_MAX)?;
                Ok((Box::new(Quick::new(stream)) as Stream, Some(took)))
            }
            Some(link) => Ok((session::forward_tcp(link.clone(), host, port).await?, None)),
        }
    };
    let timed_out = || {
        let text = format!("no answer from {host}, port {port} within {} s", limit.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    };
    tokio::time::timeout(limit, reaching).await.unwrap_or_else(|_| timed_out()).map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::ConnectionRefused => Some(format!("is sshd running on port {port}?")),
            // The standard library has no kind for a name that leads nowhere.
            _ if source.to_string().contains("lookup address") => {
                Some(format!("check the name: `getent hosts {host}` tells its addresses"))
            }
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => Some(format!(
                "check the address, and that firewalls on the way let port {port} through"
            )),
            _ => None,
        };
        unreachable_error(&hop.plan.name, source, hint)
    })
}

fn config(hop: &Hop) -> io::Result<client::Config> {
    // What the files record for this host first, so that it shows a key that can be compared.
    let mut keys = hop.recorded_algorithms()?;
    for algorithm in Preferred::DEFAULT.key.iter() {
        let is_sha1 = matches!(algorithm, russh::keys::Algorithm::Rsa { hash: None });
        if !is_sha1 && !keys.contains(algorithm) {
            keys.push(algorithm.clone());
        }
    }
    let preferred = Preferred { key: keys.into(), cipher: CIPHERS.into(), ..Preferred::DEFAULT };
    Ok(client::Config {
        preferred,
        nodelay: true,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVES_UNANSWERED_MAX,
        ..client::Config::default()
    })
}

/// AES-GCM first: with the instructions of today's CPUs it costs half of ChaCha20.
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR];

/// Judges the host key, and keeps why the server went away.
pub(super) struct Gate {
    hop: Arc<Hop>,
    farewell: Arc<Mutex<Option<String>>>,
    refusal: Arc<Mutex<Option<KeyRefused>>>,
}

impl client::Handler for Gate {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let judged = match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.hop.judge_host_key(key).await,
            PublicKeyOrCertificate::Certificate(_) => Err(KeyRefused {
                reason: "it showed a certificate where a key was asked for".into(),
                hint: "check that it is an ordinary SSH server".into(),
            }),
        };
        match judged {
            Ok(()) => Ok(true),
            Err(refused) => {
                *lock(&self.refusal) = Some(refused);
                Ok(false)
            }
        }
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<russh::Error>,
    ) -> Result<(), russh::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                *lock(&self.farewell) = Some(info.message);
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }
}

fn handshake_failure(hop: &Hop, error: russh::Error, refusal: Option<KeyRefused>) -> Attempt {
    let host = hop.plan.name.clone();
    if let Some(KeyRefused { reason, hint }) = refusal {
        return Attempt::Failed(HostError::HostKey { host, reason, hint });
    }
    match error {
        russh::Error::IO(source) if is_drop(source.kind()) => {
            Attempt::Dropped(unreachable_error(&host, source, Some(DROPPED.into())))
        }
        russh::Error::Disconnect | russh::Error::HUP => {
            let source = io::Error::new(io::ErrorKind::ConnectionReset, "it closed the connection");
            Attempt::Dropped(unreachable_error(&host, source, Some(DROPPED.into())))
        }
        error => Attempt::Failed(unreachable_error(&host, io::Error::other(error), None)),
    }
}

const DROPPED: &str = "its log says why (`journalctl -u ssh`): MaxStartups, PerSourcePenalties, \
                       fail2ban and a full disk do this";

fn is_drop(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe
    )
}

pub(super) fn unreachable_error(host: &str, source: io::Error, hint: Option<String>) -> HostError {
    HostError::Unreachable { host: host.to_owned(), source, hint }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take<T>(mutex: &Mutex<Option<T>>) -> Option<T> {
    lock(mutex).take()
}

/// Counts a session on a link while it is open.
pub(super) struct SessionCount(pub Arc<Link>);

impl SessionCount {
    pub fn begin(link: Arc<Link>) -> Self {
        link.sessions.fetch_add(1, Ordering::SeqCst);
        SessionCount(link)
    }
}

impl Drop for SessionCount {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}
