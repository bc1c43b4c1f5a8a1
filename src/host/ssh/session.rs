//! What is opened on a connection: commands, subsystems, forwarded sockets.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelOpenFailure};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::channel::{self, Ends, Joined};
use super::link::{Link, SessionCount, lock};
use super::pace::Pace;
use crate::host::{Address, Stream};

/// How long opening may take. The keepalive ends a dead connection before that.
const OPEN_DEADLINE: Duration = Duration::from_secs(90);

/// What a session is for.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Exec(String),
    Subsystem(String),
}

/// Why a channel was not opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The connection is gone; nothing was started.
    Dead,
    /// The server allows no further session on this connection.
    Full,
    /// The server said no.
    Refused(io::Error),
    /// The connection went away after the request was sent: it may have been started.
    Unknown,
}

/// Opens a session and starts what was requested. If the caller goes away meanwhile, the session
/// is closed as soon as it is open.
///
/// With `ahead` another session is opened meanwhile, for whoever comes next: over a long way that
/// saves a round trip.
pub(super) async fn open(
    link: Arc<Link>,
    request: Request,
    ahead: bool,
) -> Result<Ends, OpenError> {
    let opening = tokio::spawn(async move {
        let limited = tokio::time::timeout(OPEN_DEADLINE, open_attended(link, request, ahead));
        limited.await.unwrap_or(Err(OpenError::Unknown))
    });
    opening.await.unwrap_or(Err(OpenError::Unknown))
}

async fn open_attended(link: Arc<Link>, request: Request, ahead: bool) -> Result<Ends, OpenError> {
    let others_open = link.sessions.load(Ordering::SeqCst) > 0;
    let count = SessionCount::begin(link.clone());
    let spare = link.spare.take().await;
    let opened = match spare {
        Some(channel) => Ok(channel),
        None => link.open_session().await,
    };
    let mut channel = match opened {
        Ok(channel) => channel,
        Err(russh::Error::ChannelOpenFailure(
            ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage,
        )) if others_open => return Err(OpenError::Full),
        Err(russh::Error::ChannelOpenFailure(reason)) => {
            let text = format!("the server opens no session: {}", reason.description());
            return Err(OpenError::Refused(io::Error::other(text)));
        }
        Err(_) => return Err(OpenError::Dead),
    };
    if ahead {
        Spare::open(&link);
    }
    let sent = match &request {
        Request::Exec(line) => channel.exec(true, line.as_bytes()).await,
        Request::Subsystem(name) => channel.request_subsystem(true, name).await,
    };
    // Not even queued: the connection was gone before.
    sent.map_err(|_| OpenError::Dead)?;
    // Nothing is lost by waiting: OpenSSH takes no input before it has answered.
    let window = await_start(&mut channel).await?;
    Ok(channel::serve(channel, Pace::new(link.round_trip(), window), count))
}

/// A session that was opened ahead and does nothing yet. An old one is not used: that a new one
/// opens proves that the connection is alive, before anything is started on it.
#[derive(Default)]
pub(super) struct Spare(Mutex<Option<Opening>>);

type Opening = (Instant, JoinHandle<Option<Channel<Msg>>>);

const SPARE_AGE_MAX: Duration = Duration::from_secs(10);

impl Spare {
    /// Opens one. A server that allows no more of them is asked again by whoever needs one.
    fn open(link: &Arc<Link>) {
        let mut spare = lock(&link.spare.0);
        if spare.is_none() {
            let link = link.clone();
            let opening = async move { link.open_session().await.ok() };
            *spare = Some((Instant::now(), tokio::spawn(opening)));
        }
    }

    /// The session, unless there is none or the server has closed it.
    async fn take(&self) -> Option<Channel<Msg>> {
        let spare = lock(&self.0).take();
        let (since, opening) = spare?;
        let mut channel = opening.await.ok()??;
        while let Some(message) = channel.wait().now_or_never() {
            if matches!(message, None | Some(ChannelMsg::Close | ChannelMsg::Eof)) {
                return None;
            }
        }
        if since.elapsed() > SPARE_AGE_MAX {
            let _ = channel.close().await;
            return None;
        }
        Some(channel)
    }
}

/// Waits for the answer to the request. Gives what the server has granted by then.
async fn await_start(channel: &mut Channel<Msg>) -> Result<Option<u32>, OpenError> {
    let mut window = None;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(window),
            Some(ChannelMsg::Failure) => {
                let _ = channel.close().await;
                let text = "the server does not do that (ForceCommand, or a login without exec?)";
                return Err(OpenError::Refused(io::Error::other(text)));
            }
            // The window opens before the answer comes.
            Some(ChannelMsg::WindowAdjusted { new_size }) => window = Some(new_size),
            Some(ChannelMsg::Close) | None => return Err(OpenError::Unknown),
            Some(_) => {}
        }
    }
}

/// Opens a connection to a socket as the server sees it.
pub(super) async fn forward(link: Arc<Link>, address: &Address) -> Result<Stream, OpenError> {
    let address = address.clone();
    let opening = tokio::spawn(async move {
        let opened = tokio::time::timeout(OPEN_DEADLINE, async {
            match &address {
                Address::Tcp { host, port } => {
                    let port = u32::from(*port);
                    link.handle.channel_open_direct_tcpip(host, port, "127.0.0.1", 0).await
                }
                Address::Unix { path } => link.handle.channel_open_direct_streamlocal(path).await,
            }
        });
        match opened.await {
            Ok(Ok(channel)) => {
                let pace = Pace::new(link.round_trip(), None);
                Ok(channel::serve(channel, pace, link))
            }
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => Err(refusal(&reason)),
            Ok(Err(_)) => Err(OpenError::Dead),
            Err(_) => Err(OpenError::Unknown),
        }
    });
    let ends = opening.await.unwrap_or(Err(OpenError::Unknown))?;
    Ok(Box::new(Joined { reader: ends.reader, writer: ends.writer }))
}

/// The same for the next machine on the way.
pub(super) async fn forward_tcp(link: Arc<Link>, host: &str, port: u16) -> io::Result<Stream> {
    let address = Address::Tcp { host: host.to_owned(), port };
    forward(link, &address).await.map_err(|error| match error {
        OpenError::Refused(source) => source,
        OpenError::Dead | OpenError::Full | OpenError::Unknown => {
            io::Error::new(io::ErrorKind::ConnectionReset, "the connection before it was lost")
        }
    })
}

fn refusal(reason: &ChannelOpenFailure) -> OpenError {
    OpenError::Refused(match reason {
        ChannelOpenFailure::AdministrativelyProhibited => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "sshd forbids it (AllowTcpForwarding, AllowStreamLocalForwarding, PermitOpen)",
        ),
        ChannelOpenFailure::ConnectFailed => {
            io::Error::new(io::ErrorKind::ConnectionRefused, "nothing answers there")
        }
        ChannelOpenFailure::UnknownChannelType
        | ChannelOpenFailure::ResourceShortage
        | ChannelOpenFailure::Other { .. } => io::Error::other(reason.description().to_owned()),
    })
}
