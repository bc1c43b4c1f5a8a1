//! A machine on the way, with what was learned about it: its host key, the login that works.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::keys::{Algorithm, HashAlg, PublicKey};

use super::known_hosts::{self, Verdict};
use super::link::lock;
use super::login::Proof;
use super::prompt::{OfferedKey, Prompt};
use super::route::HopPlan;

/// How long a person may think about a host key; sshd's own limit for a login is 120 s.
const QUESTION_TIME: Duration = Duration::from_secs(110);

pub(super) struct Hop {
    pub plan: HopPlan,
    pub prompt: Arc<dyn Prompt>,
    /// The host key that was confirmed, for machines whose file cannot keep it.
    confirmed: Mutex<Option<PublicKey>>,
    /// What logged in the first time, in order; further connections use this alone.
    proven: Mutex<Option<Vec<Proof>>>,
    /// For people: what went wrong on the side.
    notes: Mutex<Vec<String>>,
}

/// A host key that is not to be trusted.
#[derive(Debug)]
pub(super) struct KeyRefused {
    pub reason: String,
    pub hint: String,
}

impl Hop {
    pub fn new(plan: HopPlan, prompt: Arc<dyn Prompt>) -> Self {
        Hop {
            plan,
            prompt,
            confirmed: Mutex::default(),
            proven: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// `user@host`, for questions and messages.
    pub fn account(&self) -> String {
        format!("{}@{}", self.plan.user, self.plan.name)
    }

    /// Whether there is somebody to ask.
    pub fn may_ask(&self) -> bool {
        !self.plan.batch_mode && self.prompt.is_present()
    }

    /// How much longer the handshake may take because of a question.
    pub fn question_time(&self) -> Duration {
        if self.may_ask() { QUESTION_TIME } else { Duration::ZERO }
    }

    pub fn proven(&self) -> Option<Vec<Proof>> {
        lock(&self.proven).clone()
    }

    /// Whether a further connection logs in by itself, as often as one likes.
    pub fn logs_in_again(&self) -> bool {
        let once = |proof: &Proof| match proof {
            Proof::Answers(_) => true,
            Proof::Nothing | Proof::Agent(_) | Proof::Key(_) | Proof::Password(_) => false,
        };
        lock(&self.proven).as_ref().is_some_and(|proofs| !proofs.iter().any(once))
    }

    pub fn set_proven(&self, proofs: Vec<Proof>) {
        *lock(&self.proven) = Some(proofs);
    }

    pub fn note(&self, text: String) {
        lock(&self.notes).push(text);
    }

    pub fn notes(&self) -> Vec<String> {
        lock(&self.notes).clone()
    }

    /// Asks the prompt a question, off the async threads.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Prompt) -> T + Send + 'static,
    ) -> Option<T> {
        let prompt = self.prompt.clone();
        tokio::task::spawn_blocking(move || question(prompt.as_ref())).await.ok()
    }

    pub fn recorded_algorithms(&self) -> io::Result<Vec<Algorithm>> {
        let files = known_hosts::read(&self.known_hosts())?;
        let mut algorithms = known_hosts::recorded_algorithms(&files, &self.plan.record_name);
        if let Some(confirmed) = lock(&self.confirmed).as_ref() {
            algorithms.extend(known_hosts::signing_algorithms(confirmed));
        }
        Ok(algorithms)
    }

    /// Whether `key` is this machine's: by the files, or because a person says so.
    pub async fn judge_host_key(&self, key: &PublicKey) -> Result<(), KeyRefused> {
        let files = known_hosts::read(&self.known_hosts()).map_err(|error| KeyRefused {
            reason: error.to_string(),
            hint: "make the file readable, or name another with UserKnownHostsFile".into(),
        })?;
        match known_hosts::check(&files, &self.plan.record_name, key) {
            Verdict::Known => Ok(()),
            Verdict::Revoked { place } => Err(self.refuse_revoked(key, &place)),
            Verdict::Changed { place, recorded } => {
                Err(self.refuse_changed(key, &place, &recorded))
            }
            Verdict::Unknown { authority } => self.judge_unknown(key, authority).await,
        }
    }

    async fn judge_unknown(&self, key: &PublicKey, authority: bool) -> Result<(), KeyRefused> {
        let confirmed = lock(&self.confirmed).clone();
        if let Some(confirmed) = confirmed {
            let same = confirmed.key_data() == key.key_data();
            return if same {
                Ok(())
            } else {
                Err(self.refuse_changed(key, "this run", "confirmed"))
            };
        }
        let offered = OfferedKey {
            host: self.plan.name.clone(),
            record_name: self.plan.record_name.clone(),
            algorithm: key.algorithm().to_string(),
            fingerprint: fingerprint(key),
            authority,
        };
        let refused = self.refuse_unknown(&offered);
        if self.plan.strict || !self.may_ask() {
            return Err(refused);
        }
        match self.ask(move |prompt| prompt.confirm_host_key(&offered)).await {
            Some(true) => {
                *lock(&self.confirmed) = Some(key.clone());
                self.record(key);
                Ok(())
            }
            Some(false) | None => Err(refused),
        }
    }

    /// Keeps a confirmed key in the user's file; that it could not be is no reason to stop.
    fn record(&self, key: &PublicKey) {
        let Some(path) = self.plan.user_known_hosts.first() else { return };
        let hashed = self.plan.hash_known_hosts;
        if let Err(error) = known_hosts::append(path, &self.plan.record_name, key, hashed) {
            self.note(format!("the host key was not recorded in {}: {error}", path.display()));
        }
    }

    fn known_hosts(&self) -> Vec<std::path::PathBuf> {
        [self.plan.user_known_hosts.as_slice(), &self.plan.global_known_hosts].concat()
    }

    fn refuse_unknown(&self, offered: &OfferedKey) -> KeyRefused {
        let (algorithm, fingerprint) = (&offered.algorithm, &offered.fingerprint);
        let authority = if offered.authority {
            "; a certificate authority is recorded for it, which transhume does not use"
        } else {
            ""
        };
        KeyRefused {
            reason: format!("its {algorithm} key {fingerprint} is not known{authority}"),
            hint: format!(
                "log in once with `ssh{} {}`, compare the fingerprint with `ssh-keygen -lf \
                 /etc/ssh/ssh_host_*_key.pub` on that machine, and let ssh record it",
                if self.plan.port == 22 {
                    String::new()
                } else {
                    format!(" -p {}", self.plan.port)
                },
                self.account(),
            ),
        }
    }

    fn refuse_changed(&self, key: &PublicKey, place: &str, recorded: &str) -> KeyRefused {
        KeyRefused {
            reason: format!(
                "ITS HOST KEY HAS CHANGED: the {} key {} is not the {recorded} key of {place}",
                key.algorithm(),
                fingerprint(key)
            ),
            hint: format!(
                "somebody may be in between, or the machine was reinstalled: find out which. Only \
                 when you know why the key changed: `ssh-keygen -R '{}'`",
                self.plan.record_name
            ),
        }
    }

    fn refuse_revoked(&self, key: &PublicKey, place: &str) -> KeyRefused {
        KeyRefused {
            reason: format!("its key {} is revoked ({place})", fingerprint(key)),
            hint: "give the machine a new host key, and record that one".into(),
        }
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
