//! Ctrl-C and SIGTERM: the first asks the run to stop in good order, the second ends it at once
//! (the journal makes that safe, but the old server may be left stopped).

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Exit, Failure};

/// A token that the first signal cancels.
pub(super) fn token() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let listen = |kind| signal(kind).map_err(|error| Failure::from_io("listen for signals", error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancelled.is_cancelled() {
                eprintln!("transhume: ended at once; `transhume status` tells where it stands");
                std::process::exit(Exit::Interrupted as i32);
            }
            eprintln!("transhume: stopping in good order; once more to end at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}
