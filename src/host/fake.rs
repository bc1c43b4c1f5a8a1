//! Machines for tests: one that answers from a script, and one that spoils the Nth operation of
//! another.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::{Address, Command, Ended, Exit, Host, HostError, Process, Stream, quote::shell_line};

/// What a scripted machine answers to a command.
#[derive(Clone, Debug)]
pub struct Reply {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Reply {
    pub fn ok(stdout: impl Into<Vec<u8>>) -> Self {
        Reply { code: 0, stdout: stdout.into(), stderr: String::new() }
    }

    pub fn fail(code: i32, stderr: impl Into<String>) -> Self {
        Reply { code, stdout: Vec::new(), stderr: stderr.into() }
    }
}

/// A machine that answers from rules and remembers what it was asked.
pub struct Scripted {
    name: String,
    rules: Mutex<Vec<(String, VecDeque<Reply>)>>,
    asked: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Scripted {
    pub fn new(name: &str) -> Self {
        Scripted { name: name.to_owned(), rules: Mutex::default(), asked: Mutex::default() }
    }

    /// Answers commands whose line contains `part` with `replies` in turn; the last one stays.
    /// Earlier rules win. What no rule matches fails with exit code 127.
    pub fn on(self, part: &str, replies: impl IntoIterator<Item = Reply>) -> Self {
        lock(&self.rules).push((part.to_owned(), replies.into_iter().collect()));
        self
    }

    /// The command lines it was asked to run, in order.
    pub fn commands(&self) -> Vec<String> {
        lock(&self.asked).iter().map(|(line, _)| line.clone()).collect()
    }

    /// What the commands were given as input, in order.
    pub fn inputs(&self) -> Vec<Vec<u8>> {
        lock(&self.asked).iter().map(|(_, input)| input.clone()).collect()
    }

    fn answer(&self, line: &str) -> Reply {
        let mut rules = lock(&self.rules);
        let matching = rules.iter_mut().find(|(part, _)| line.contains(part.as_str()));
        match matching {
            Some((_, replies)) if replies.len() > 1 => replies.pop_front(),
            Some((_, replies)) => replies.front().cloned(),
            None => None,
        }
        .unwrap_or_else(|| Reply::fail(127, format!("no rule for: {line}")))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl fmt::Debug for Scripted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Scripted({})", self.name)
    }
}

#[async_trait]
impl Host for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    async fn spawn(&self, command: &Command) -> Result<Process, HostError> {
        let line = shell_line(&command.effective_argv("login"));
        let reply = self.answer(&line);
        lock(&self.asked).push((line, command.input().to_vec()));
        let ended = Ended { exit: Exit::Code(reply.code), stderr_tail: reply.stderr };
        let stdout = Box::pin(std::io::Cursor::new(reply.stdout));
        Ok(Process::new(Box::pin(tokio::io::sink()), stdout, async move { Ok(ended) }))
    }

    async fn connect(&self, address: &Address) -> Result<Stream, HostError> {
        Err(HostError::Connect {
            host: self.name.clone(),
            address: address.clone(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        })
    }

    async fn subsystem(&self, name: &str) -> Result<Stream, HostError> {
        let source = std::io::Error::other("a scripted machine has none");
        Err(HostError::Subsystem { host: self.name.clone(), name: name.to_owned(), source })
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        Err(HostError::Unreachable {
            host: self.name.clone(),
            source: std::io::Error::other("a scripted machine has one connection"),
            hint: None,
        })
    }
}

/// How an operation is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The command never ran, and we know it.
    Refused,
    /// The command ran to its end, but the link was cut before we heard of it.
    LostAfter,
    /// The command was sent, the link was cut, and it never ran.
    LostBefore,
}

/// Which operations are spoilt, and how: asked with the number of each, counted from 0.
pub type Schedule = dyn Fn(usize) -> Option<Fault> + Send + Sync;

/// Passes everything on to another machine, apart from some operations, which it spoils.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Host>,
    schedule: Arc<Schedule>,
    count: Arc<AtomicUsize>,
}

impl Faulty {
    /// Spoils operation number `spoilt`, counted from 0 over everything that shares `count`.
    pub fn new(inner: Arc<dyn Host>, spoilt: usize, fault: Fault, count: Arc<AtomicUsize>) -> Self {
        let schedule = move |number| (number == spoilt).then_some(fault);
        Faulty::by_schedule(inner, Arc::new(schedule), count)
    }

    /// Spoils what `schedule` says of all that shares `count`.
    pub fn by_schedule(
        inner: Arc<dyn Host>,
        schedule: Arc<Schedule>,
        count: Arc<AtomicUsize>,
    ) -> Self {
        Faulty { inner, schedule, count }
    }

    /// The fault of the operation that begins now.
    fn next(&self) -> Option<Fault> {
        (self.schedule)(self.count.fetch_add(1, Ordering::SeqCst))
    }

    fn lost(&self, command: impl fmt::Display) -> HostError {
        HostError::Lost { host: self.inner.name().to_owned(), command: command.to_string() }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Faulty({:?})", self.inner)
    }
}

#[async_trait]
impl Host for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn spawn(&self, command: &Command) -> Result<Process, HostError> {
        match self.next() {
            None => self.inner.spawn(command).await,
            Some(Fault::Refused) => Err(HostError::Start {
                host: self.inner.name().to_owned(),
                command: command.to_string(),
                source: std::io::Error::other("injected fault"),
            }),
            Some(Fault::LostBefore) => Err(self.lost(command)),
            Some(Fault::LostAfter) => {
                let lost = self.lost(command);
                let (stdin, stdout, ending) = self.inner.spawn(command).await?.split();
                Ok(Process::new(stdin, stdout, async move { ending.await.and(Err(lost)) }))
            }
        }
    }

    async fn connect(&self, address: &Address) -> Result<Stream, HostError> {
        match self.next() {
            Some(_) => Err(self.lost(address)),
            None => self.inner.connect(address).await,
        }
    }

    async fn subsystem(&self, name: &str) -> Result<Stream, HostError> {
        match self.next() {
            Some(_) => Err(self.lost(name)),
            None => self.inner.subsystem(name).await,
        }
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        if self.next().is_some() {
            return Err(self.lost("a second connection"));
        }
        let inner = self.inner.dedicated().await?;
        Ok(Arc::new(Faulty { inner, ..self.clone() }))
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}
