//! Connections that are opened before anybody asks for them. A handshake takes some eight round
//! trips, which over a long way is most of what a small transfer takes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::link::{Link, lock};
use crate::host::HostError;

type Opening = JoinHandle<Result<Arc<Link>, HostError>>;

/// One that nobody took for so long is not used: some firewalls forget it.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Those that nobody takes are closed with it; a handshake that is under way then comes to its end
/// first, because servers remember who breaks one off.
#[derive(Default)]
pub(super) struct Ahead(Mutex<VecDeque<(Instant, Opening)>>);

impl Ahead {
    pub fn add(&self, opening: Opening) {
        lock(&self.0).push_back((Instant::now(), opening));
    }

    /// The one that was begun first, if there is one and it could be opened.
    pub async fn take(&self) -> Option<Arc<Link>> {
        loop {
            let (since, opening) = lock(&self.0).pop_front()?;
            if since.elapsed() > AGE_MAX {
                continue;
            }
            return opening.await.ok()?.ok().filter(|link| !link.is_dead());
        }
    }
}
