//! One attempt at a time: shows a proof to the server and gives its answer.

use std::collections::VecDeque;

use russh::MethodSet;
use russh::client::{AuthResult, KeyboardInteractiveAuthResponse as Reply, Prompt as Question};
use russh::keys::agent::AgentIdentity;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};

use super::{LoginError, Proof, ROUNDS_MAX, STEP_DEADLINE, Session};
use crate::host::ssh::hop::Hop;
use crate::host::ssh::identity::{self, Probe};
use crate::secret::Secret;

impl Session<'_> {
    /// Whether the server would take this key: `None` if it would.
    pub(super) async fn probe(
        &mut self,
        public: russh::keys::PublicKey,
    ) -> Result<Option<AuthResult>, LoginError> {
        let hash = self.rsa_hash(public.algorithm().is_rsa()).await?;
        let user = self.user();
        let mut probe = Probe;
        let shown = self.handle.authenticate_publickey_with(user, public, hash, &mut probe);
        match tokio::time::timeout(STEP_DEADLINE, shown).await {
            Ok(Ok(result)) => self.unless_closed(result).map(Some),
            Ok(Err(_)) => Ok(None),
            Err(_) => Err(self.closed(None)),
        }
    }

    pub(super) async fn show(&mut self, proof: &Proof) -> Result<AuthResult, LoginError> {
        match proof {
            Proof::Answers(answers) => self.answer_again(answers.clone()).await,
            Proof::Agent(identity) => self.show_agent(identity).await,
            Proof::Key(key) => {
                let hash = self.rsa_hash(key.algorithm().is_rsa()).await?;
                let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
                let user = self.user();
                let shown = self.handle.authenticate_publickey(user, key);
                let result = tokio::time::timeout(STEP_DEADLINE, shown).await;
                self.settle(result)
            }
            Proof::Password(password) => {
                let user = self.user();
                let shown = self.handle.authenticate_password(user, password.expose());
                let result = tokio::time::timeout(STEP_DEADLINE, shown).await;
                self.settle(result)
            }
            Proof::Nothing => {
                let user = self.user();
                let shown = self.handle.authenticate_none(user);
                let result = tokio::time::timeout(STEP_DEADLINE, shown).await;
                self.settle(result)
            }
        }
    }

    async fn show_agent(&mut self, identity: &AgentIdentity) -> Result<AuthResult, LoginError> {
        let hash = self.rsa_hash(identity.public_key().algorithm().is_rsa()).await?;
        let Ok(mut agent) = identity::connect_agent(&self.hop.plan).await else {
            self.tried.push("the agent does not answer any more".into());
            return Err(self.refused(MethodSet::empty()));
        };
        let user = self.user();
        let shown = async {
            match identity {
                AgentIdentity::PublicKey { key, .. } => {
                    let key = key.clone();
                    self.handle.authenticate_publickey_with(user, key, hash, &mut agent).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    let certificate = certificate.clone();
                    self.handle
                        .authenticate_certificate_with(user, certificate, hash, &mut agent)
                        .await
                }
            }
        };
        match tokio::time::timeout(STEP_DEADLINE, shown).await {
            Ok(Ok(result)) => self.unless_closed(result),
            Ok(Err(error)) => {
                self.tried.push(format!("agent key {}: {error}", identity.comment()));
                Err(self.refused(MethodSet::empty()))
            }
            Err(_) => Err(self.closed(None)),
        }
    }

    /// Gives the answers of the first time; where they are good only once the server says no.
    async fn answer_again(&mut self, answers: Vec<Secret>) -> Result<AuthResult, LoginError> {
        let answered = self.converse(&mut Answering::Again(answers.into())).await?;
        answered.ok_or_else(|| self.refused(MethodSet::empty()))
    }

    /// A keyboard-interactive login; `None` if there is no answer to a question.
    pub(super) async fn converse(
        &mut self,
        answering: &mut Answering<'_>,
    ) -> Result<Option<AuthResult>, LoginError> {
        let user = self.user();
        let start = self.handle.authenticate_keyboard_interactive_start(user, None);
        let mut reply = tokio::time::timeout(STEP_DEADLINE, start).await;
        for _ in 0..ROUNDS_MAX {
            let prompts = match reply {
                Ok(Ok(Reply::Success)) => return Ok(Some(AuthResult::Success)),
                Ok(Ok(Reply::Failure { remaining_methods, partial_success })) => {
                    let result = AuthResult::Failure { remaining_methods, partial_success };
                    return self.unless_closed(result).map(Some);
                }
                Ok(Ok(Reply::InfoRequest { prompts, .. })) => prompts,
                Ok(Err(error)) => return Err(self.closed(Some(error))),
                Err(_) => return Err(self.closed(None)),
            };
            let mut answers = Vec::new();
            for prompt in prompts {
                let Some(answer) = answering.answer(self.hop, prompt).await else {
                    return Ok(None);
                };
                answers.push(answer.expose().to_owned());
            }
            let responded = self.handle.authenticate_keyboard_interactive_respond(answers);
            reply = tokio::time::timeout(STEP_DEADLINE, responded).await;
        }
        Ok(None)
    }

    /// The hash to sign with: the best the server names, and never SHA-1.
    async fn rsa_hash(&self, is_rsa: bool) -> Result<Option<HashAlg>, LoginError> {
        if !is_rsa {
            return Ok(None);
        }
        match tokio::time::timeout(STEP_DEADLINE, self.handle.best_supported_rsa_hash()).await {
            Ok(Ok(best)) => Ok(best.flatten().or(Some(HashAlg::Sha512))),
            Ok(Err(error)) => Err(self.closed(Some(error))),
            Err(_) => Err(self.closed(None)),
        }
    }

    fn settle(
        &self,
        result: Result<Result<AuthResult, russh::Error>, tokio::time::error::Elapsed>,
    ) -> Result<AuthResult, LoginError> {
        match result {
            Ok(Ok(result)) => self.unless_closed(result),
            Ok(Err(error)) => Err(self.closed(Some(error))),
            Err(_) => Err(self.closed(None)),
        }
    }

    /// A refusal by a connection that is gone is none.
    fn unless_closed(&self, result: AuthResult) -> Result<AuthResult, LoginError> {
        let closed = self.handle.is_closed() && !result.success();
        if closed { Err(self.closed(None)) } else { Ok(result) }
    }
}

/// Where the answers to the server's questions come from.
pub(super) enum Answering<'a> {
    /// The operator, and they are kept.
    Ask(&'a mut Vec<Secret>),
    Again(VecDeque<Secret>),
}

impl Answering<'_> {
    async fn answer(&mut self, hop: &Hop, asked: Question) -> Option<Secret> {
        match self {
            Answering::Again(answers) => answers.pop_front(),
            Answering::Ask(given) => {
                let account = hop.account();
                let answer =
                    hop.ask(move |prompt| prompt.answer(&account, &asked.prompt, asked.echo));
                let answer = answer.await.flatten()?;
                given.push(answer.clone());
                Some(answer)
            }
        }
    }
}
