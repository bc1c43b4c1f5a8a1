//! Keys to log in with: those an agent holds and those in files, in the order to try them.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::SendError;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKey, PublicKey, decode_secret_key, load_public_key};
use tokio::net::UnixStream;

use super::hop::Hop;
use super::route::HopPlan;
use crate::secret::Secret;

const AGENT_DEADLINE: Duration = Duration::from_secs(10);
const PASSPHRASES_TRIED_MAX: usize = 3;
const KEY_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A key that may log in.
pub(super) enum Candidate {
    Agent(Box<AgentIdentity>),
    Key { path: PathBuf, key: Arc<PrivateKey> },
    Locked(LockedKey),
}

/// A key file with a passphrase.
pub(super) struct LockedKey {
    path: PathBuf,
    text: Secret,
    /// Where it can be told without the passphrase.
    pub public: Option<PublicKey>,
}

impl Candidate {
    /// For messages.
    pub fn label(&self) -> String {
        match self {
            Candidate::Agent(identity) => {
                let fingerprint = identity.public_key().fingerprint(HashAlg::Sha256);
                format!("agent key {fingerprint} {}", identity.comment()).trim_end().to_owned()
            }
            Candidate::Key { path, .. } => path.display().to_string(),
            Candidate::Locked(locked) => locked.path.display().to_string(),
        }
    }
}

impl LockedKey {
    /// Asks for the passphrase and opens the key; the problem in words.
    pub async fn unlock(&self, hop: &Hop) -> Result<PrivateKey, String> {
        for _ in 0..PASSPHRASES_TRIED_MAX {
            let (path, text) = (self.path.clone(), self.text.clone());
            // Opening is slow on purpose (bcrypt): off the async threads as well.
            let opened = hop.ask(move |prompt| {
                let passphrase = prompt.passphrase(&path)?;
                Some(decode_secret_key(text.expose(), Some(passphrase.expose())))
            });
            match opened.await.flatten() {
                Some(Ok(key)) => return Ok(key),
                Some(Err(_)) => {}
                None => return Err("no passphrase was given".into()),
            }
        }
        Err("the passphrase was wrong".into())
    }
}

/// The keys in the order to try them: those named on purpose, those of the agent, the usual
/// files. What cannot be used is told in `tried`.
pub(super) async fn candidates(plan: &HopPlan, tried: &mut Vec<String>) -> VecDeque<Candidate> {
    let mut agent = agent_identities(plan, tried).await;
    let mut found = VecDeque::new();
    for path in &plan.identities {
        found.extend(from_file(path, &mut agent, tried));
    }
    if !plan.identities_only {
        found.extend(agent.drain(..).map(|one| Candidate::Agent(Box::new(one))));
    }
    for path in plan.usual_identities.iter().filter(|path| path.exists()) {
        found.extend(from_file(path, &mut agent, tried));
    }
    found
}

pub(super) async fn connect_agent(plan: &HopPlan) -> io::Result<AgentClient<UnixStream>> {
    let path = plan.agent.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let stream = tokio::time::timeout(AGENT_DEADLINE, UnixStream::connect(path)).await;
    Ok(AgentClient::connect(stream.map_err(|_| io::ErrorKind::TimedOut)??))
}

async fn agent_identities(plan: &HopPlan, tried: &mut Vec<String>) -> Vec<AgentIdentity> {
    let Some(path) = &plan.agent else { return Vec::new() };
    let mut problem = |text: String| {
        tried.push(format!("agent {}: {text}", path.display()));
        Vec::new()
    };
    let mut agent = match connect_agent(plan).await {
        Ok(agent) => agent,
        Err(error) => return problem(error.to_string()),
    };
    match tokio::time::timeout(AGENT_DEADLINE, agent.request_identities()).await {
        Ok(Ok(identities)) => identities,
        Ok(Err(error)) => problem(error.to_string()),
        Err(_) => problem("no answer".into()),
    }
}

/// The key of a file, by way of the agent (from which it is taken) if that holds it.
fn from_file(
    path: &Path,
    agent: &mut Vec<AgentIdentity>,
    tried: &mut Vec<String>,
) -> Option<Candidate> {
    let read = read_key(path);
    let public = match &read {
        Ok(KeyFile::Open(key)) => Some(key.public_key().clone()),
        Ok(KeyFile::Locked(locked)) => locked.public.clone(),
        Err(_) => beside(path),
    };
    let held = public.and_then(|public| {
        let same = |one: &AgentIdentity| one.public_key().key_data() == public.key_data();
        agent.iter().position(same).map(|index| agent.remove(index))
    });
    match (held, read) {
        (Some(identity), _) => Some(Candidate::Agent(Box::new(identity))),
        (None, Ok(KeyFile::Open(key))) => Some(Candidate::Key { path: path.to_owned(), key }),
        (None, Ok(KeyFile::Locked(locked))) => Some(Candidate::Locked(locked)),
        (None, Err(problem)) => {
            tried.push(format!("{}: {problem}", path.display()));
            None
        }
    }
}

enum KeyFile {
    Open(Arc<PrivateKey>),
    Locked(LockedKey),
}

fn read_key(path: &Path) -> Result<KeyFile, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.len() > KEY_FILE_BYTES_MAX {
        return Err("too large for a key".into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let text = Secret::new(text);
    if !text.expose().contains("PRIVATE KEY-----") {
        return Err("it holds no private key, and the agent does not hold it either".into());
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!("others may read it (`chmod 600 {}`)", path.display()));
    }
    let parsed = PrivateKey::from_openssh(text.expose());
    let is_locked = match &parsed {
        Ok(key) => key.is_encrypted(),
        Err(_) => text.expose().contains("ENCRYPTED"),
    };
    if is_locked {
        let public = parsed.ok().map(|key| key.public_key().clone()).or_else(|| beside(path));
        return Ok(KeyFile::Locked(LockedKey { path: path.to_owned(), text, public }));
    }
    let key = decode_secret_key(text.expose(), None).map_err(|error| error.to_string())?;
    Ok(KeyFile::Open(Arc::new(key)))
}

/// The public key beside a private one, or in a file that is itself a public key.
fn beside(path: &Path) -> Option<PublicKey> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    load_public_key(Path::new(&name)).or_else(|_| load_public_key(path)).ok()
}

/// Signs nothing: to learn whether a server would accept a key at all.
pub(super) struct Probe;

#[derive(Debug)]
pub(super) struct NotSigned;

impl From<SendError> for NotSigned {
    fn from(_: SendError) -> Self {
        NotSigned
    }
}

impl russh::Signer for Probe {
    type Error = NotSigned;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        _: Vec<u8>,
    ) -> Result<Vec<u8>, NotSigned> {
        Err(NotSigned)
    }
}
