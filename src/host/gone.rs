//! A machine that cannot be reached. Everything asked of it fails at once, so that what can be
//! done without it is done: the old server is put back although the new one is dead.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Address, Command, Host, HostError, Process, Stream};

#[derive(Clone, Debug)]
pub struct Gone {
    name: String,
}

impl Gone {
    pub fn new(name: impl Into<String>) -> Self {
        Gone { name: name.into() }
    }

    fn error(&self) -> HostError {
        // Not to be tried again in this run: it was tried when the run began.
        HostError::Start {
            host: self.name.clone(),
            command: "anything".into(),
            source: io::Error::new(io::ErrorKind::HostUnreachable, "it could not be reached"),
        }
    }
}

#[async_trait]
impl Host for Gone {
    fn name(&self) -> &str {
        &self.name
    }

    async fn spawn(&self, _: &Command) -> Result<Process, HostError> {
        Err(self.error())
    }

    async fn connect(&self, _: &Address) -> Result<Stream, HostError> {
        Err(self.error())
    }

    async fn subsystem(&self, _: &str) -> Result<Stream, HostError> {
        Err(self.error())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        Err(self.error())
    }
}
