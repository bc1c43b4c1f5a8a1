//! The steps of a move, one file for each part of it. Each looks, acts, proves and undoes through
//! the engines; none knows of the others.

pub mod config_files;
pub mod database;
pub mod env_file;
pub mod fence;
pub mod lock;
pub mod maintenance;
pub mod media;
pub mod proxy;
pub mod redis;
pub mod services;
pub mod settle;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::facts::Facts;
use super::state::Memories;
use super::step::StepError;
use super::world::{Machine, World};
use crate::host::Address;
use crate::instance::probe::{Front, Tls, TlsError};

/// What every step works with. Cheap to clone.
#[derive(Clone)]
pub struct Scene {
    pub world: World,
    pub facts: Arc<Facts>,
    /// The name of the run, for marks on the target.
    pub run: String,
    /// What earlier steps noted down.
    pub memories: Arc<dyn Memories>,
}

impl Scene {
    /// The nginx of a side, asked by the instance's name.
    fn front<'a>(&self, machine: &'a Machine) -> Result<Front<'a>, StepError> {
        let nginx = &machine.side.nginx;
        let pem = match &nginx.ca_file {
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                let text = format!("cannot read {}: {error}", path.display());
                StepError::new(text, Some("correct `nginx.ca_file` in transhume.toml"))
            })?),
            None => None,
        };
        let tls = nginx.speaks_tls().then(|| Tls::new(pem.as_deref())).transpose();
        Ok(Front {
            host: machine.host(),
            address: address(&nginx.address)?,
            tls: tls.map_err(|error: TlsError| StepError::from(error))?,
            name: self.facts.domains.web.clone(),
        })
    }

    /// A process of Mastodon on a side, asked directly.
    fn process<'a>(&self, machine: &'a Machine, place: &str) -> Result<Front<'a>, StepError> {
        let name = self.facts.domains.web.clone();
        Ok(Front { host: machine.host(), address: address(place)?, tls: None, name })
    }
}

/// `host:port` as the configuration has it.
fn address(text: &str) -> Result<Address, StepError> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts else {
        let hint = Some("write it as host:port in transhume.toml");
        return Err(StepError::new(format!("`{text}` is no address"), hint));
    };
    Ok(Address::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port })
}

/// A memory for the journal.
fn remembered(memory: &impl Serialize) -> Result<Value, StepError> {
    serde_json::to_value(memory)
        .map_err(|error| StepError::new(format!("cannot note down how things are: {error}"), None))
}

/// A memory from the journal.
fn recalled<T: DeserializeOwned>(memory: &Value) -> Result<T, StepError> {
    serde_json::from_value(memory.clone()).map_err(|error| {
        let hint = Some("was the journal written by another version of transhume?");
        StepError::new(format!("the journal's note for this step cannot be read: {error}"), hint)
    })
}
