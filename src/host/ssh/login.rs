//! Logging in: agent, key files, questions of the server, password, in this order and with few
//! attempts, because servers count them. What worked is kept, and used alone afterwards.

mod show;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, Handle};
use russh::keys::PrivateKey;
use russh::keys::agent::AgentIdentity;
use russh::{MethodKind, MethodSet};

use super::hop::Hop;
use super::identity::{self, Candidate};
use super::link::{Gate, unreachable_error};
use crate::host::HostError;
use crate::secret::Secret;
use show::Answering;

/// Keys shown to a server: its MaxAuthTries is 6 by default, and one is left for a password.
const KEYS_TRIED_MAX: usize = 5;
const PASSWORDS_TRIED_MAX: usize = 2;
const ROUNDS_MAX: usize = 8;
/// How long the server may take for one step. No keepalive runs before the login.
const STEP_DEADLINE: Duration = Duration::from_secs(60);

/// Something that satisfies one method of a server.
#[derive(Clone)]
pub(super) enum Proof {
    /// The server asked for nothing.
    Nothing,
    Agent(Box<AgentIdentity>),
    Key(Arc<PrivateKey>),
    Password(Secret),
    /// The answers to the server's questions. They may be good only once.
    Answers(Vec<Secret>),
}

/// Logs in, and remembers how.
pub(super) async fn log_in(hop: &Hop, handle: &mut Handle<Gate>) -> Result<(), LoginError> {
    let mut session = Session { hop, handle, tried: Vec::new() };
    match hop.proven() {
        Some(proofs) => session.repeat(proofs).await,
        None => {
            let proofs = session.search().await?;
            hop.set_proven(proofs);
            Ok(())
        }
    }
}

/// A login that did not work.
pub(super) enum LoginError {
    Refused {
        tried: Vec<String>,
        methods: MethodSet,
    },
    /// The connection went away.
    Closed {
        tried: Vec<String>,
        error: Option<russh::Error>,
    },
}

impl LoginError {
    /// The error to report; `farewell` is what the server said when it closed the connection.
    pub fn with_farewell(self, hop: &Hop, farewell: Option<String>) -> HostError {
        let (host, user) = (hop.plan.name.clone(), hop.plan.user.clone());
        let list = |tried: Vec<String>| match tried.is_empty() {
            true => "there was no key or password to try".to_owned(),
            false => tried.join("; "),
        };
        match self {
            LoginError::Refused { tried, methods } => {
                let mut reason = list(tried);
                let names: Vec<&str> = methods.iter().map(<&str>::from).collect();
                if !names.is_empty() {
                    reason.push_str(&format!(" (it takes {})", names.join(", ")));
                }
                HostError::Login { host, user, reason, hint: hint(hop) }
            }
            LoginError::Closed { tried, .. } if !tried.is_empty() && farewell.is_some() => {
                let reason = format!("{}: {}", list(tried), farewell.unwrap_or_default());
                HostError::Login { host, user, reason, hint: hint(hop) }
            }
            LoginError::Closed { error, .. } => {
                let text = match (farewell, error) {
                    (Some(farewell), _) => farewell,
                    (None, Some(error)) => error.to_string(),
                    (None, None) => "it closed the connection during the login".into(),
                };
                unreachable_error(&host, io::Error::other(text), None)
            }
        }
    }
}

fn hint(hop: &Hop) -> String {
    let port = if hop.plan.port == 22 { String::new() } else { format!(" -p {}", hop.plan.port) };
    format!(
        "install a key with `ssh-copy-id{port} {}`, or name the right one: `identity` in \
         transhume.toml, `--identity` on the command line",
        hop.account()
    )
}

struct Session<'a> {
    hop: &'a Hop,
    handle: &'a mut Handle<Gate>,
    /// What was tried and how it went, for the error.
    tried: Vec<String>,
}

impl Session<'_> {
    fn user(&self) -> String {
        self.hop.plan.user.clone()
    }

    /// Shows again what worked before, and nothing else.
    async fn repeat(&mut self, proofs: Vec<Proof>) -> Result<(), LoginError> {
        let mut methods = MethodSet::empty();
        for proof in proofs {
            match self.show(&proof).await? {
                AuthResult::Success => return Ok(()),
                AuthResult::Failure { remaining_methods, partial_success } => {
                    methods = remaining_methods;
                    if !partial_success {
                        break;
                    }
                }
            }
        }
        self.tried.push("the login that worked before was not accepted again".into());
        Err(self.refused(methods))
    }

    /// Finds what the server accepts.
    async fn search(&mut self) -> Result<Vec<Proof>, LoginError> {
        let mut keys = identity::candidates(&self.hop.plan, &mut self.tried).await;
        keys.truncate(KEYS_TRIED_MAX);
        let mut methods = None;
        let mut found = Vec::new();
        let mut asked = Asked::default();
        for _ in 0..ROUNDS_MAX + KEYS_TRIED_MAX {
            let tried = match &methods {
                Some(methods) => self.next(methods, &mut keys, &mut asked).await?,
                None => Some(self.first(&mut keys).await?),
            };
            let Some((proof, result)) = tried else { break };
            match result {
                AuthResult::Success => {
                    found.push(proof);
                    return Ok(found);
                }
                AuthResult::Failure { remaining_methods, partial_success } => {
                    if partial_success {
                        found.push(proof);
                        asked = Asked::default();
                    }
                    methods = Some(remaining_methods);
                }
            }
        }
        Err(self.refused(methods.unwrap_or_else(MethodSet::empty)))
    }

    /// Tries what comes before anything is known of the server. Nearly every one takes keys: where
    /// one can be shown without a question, asking what it takes would only cost a round trip.
    async fn first(
        &mut self,
        keys: &mut VecDeque<Candidate>,
    ) -> Result<(Proof, AuthResult), LoginError> {
        let at_once = |key: &Candidate| !matches!(key, Candidate::Locked(_));
        while keys.front().is_some_and(at_once)
            && let Some(key) = keys.pop_front()
        {
            if let Some(shown) = self.try_key(key).await? {
                return Ok(shown);
            }
        }
        Ok((Proof::Nothing, self.show(&Proof::Nothing).await?))
    }

    /// Tries the next thing that fits; `None` when there is none left.
    async fn next(
        &mut self,
        methods: &MethodSet,
        keys: &mut VecDeque<Candidate>,
        asked: &mut Asked,
    ) -> Result<Option<(Proof, AuthResult)>, LoginError> {
        while methods.contains(&MethodKind::PublicKey) {
            let Some(key) = keys.pop_front() else { break };
            if let Some(shown) = self.try_key(key).await? {
                return Ok(Some(shown));
            }
        }
        if !self.hop.may_ask() {
            return Ok(None);
        }
        if methods.contains(&MethodKind::KeyboardInteractive)
            && asked.questions < PASSWORDS_TRIED_MAX
        {
            asked.questions += 1;
            if let Some(shown) = self.try_questions().await? {
                return Ok(Some(shown));
            }
        }
        if methods.contains(&MethodKind::Password) && asked.passwords < PASSWORDS_TRIED_MAX {
            asked.passwords += 1;
            let account = self.hop.account();
            let password = self.hop.ask(move |prompt| prompt.password(&account)).await.flatten();
            if let Some(password) = password {
                let proof = Proof::Password(password);
                let result = self.show(&proof).await?;
                self.record("password", &result);
                return Ok(Some((proof, result)));
            }
        }
        Ok(None)
    }

    /// Shows a key; `None` if it was not even worth showing.
    async fn try_key(
        &mut self,
        candidate: Candidate,
    ) -> Result<Option<(Proof, AuthResult)>, LoginError> {
        let label = candidate.label();
        let proof = match candidate {
            Candidate::Agent(identity) => Proof::Agent(identity),
            Candidate::Key { key, .. } => Proof::Key(key),
            Candidate::Locked(locked) => {
                if !self.hop.may_ask() {
                    self.tried.push(format!("{label}: it needs a passphrase"));
                    return Ok(None);
                }
                if let Some(public) = locked.public.clone() {
                    let result = self.probe(public).await?;
                    if let Some(result) = result {
                        self.record(&label, &result);
                        // Not accepted, whatever the passphrase: nothing was proved.
                        return Ok(Some((Proof::Nothing, result)));
                    }
                }
                match locked.unlock(self.hop).await {
                    Ok(key) => Proof::Key(Arc::new(key)),
                    Err(problem) => {
                        self.tried.push(format!("{label}: {problem}"));
                        return Ok(None);
                    }
                }
            }
        };
        match self.show(&proof).await {
            Ok(result) => {
                self.record(&label, &result);
                Ok(Some((proof, result)))
            }
            // An agent may hold a key and not sign with it (a token that was not touched).
            Err(LoginError::Refused { .. }) => Ok(None),
            Err(closed @ LoginError::Closed { .. }) => Err(closed),
        }
    }

    /// Lets the server ask its questions; `None` if the operator would rather not.
    async fn try_questions(&mut self) -> Result<Option<(Proof, AuthResult)>, LoginError> {
        let mut given = Vec::new();
        let Some(result) = self.converse(&mut Answering::Ask(&mut given)).await? else {
            return Ok(None);
        };
        self.record("the server's questions", &result);
        Ok(Some((Proof::Answers(given), result)))
    }

    fn record(&mut self, label: &str, result: &AuthResult) {
        match result {
            AuthResult::Success => {}
            AuthResult::Failure { partial_success: true, .. } => {
                self.tried.push(format!("{label}: accepted, but more is asked for"));
            }
            AuthResult::Failure { partial_success: false, .. } => {
                self.tried.push(format!("{label}: not accepted"));
            }
        }
    }

    fn refused(&self, methods: MethodSet) -> LoginError {
        LoginError::Refused { tried: self.tried.clone(), methods }
    }

    fn closed(&self, error: Option<russh::Error>) -> LoginError {
        LoginError::Closed { tried: self.tried.clone(), error }
    }
}

#[derive(Default)]
struct Asked {
    questions: usize,
    passwords: usize,
}
