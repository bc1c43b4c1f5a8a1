//! What the old server's database tells of new files while a watch goes on. It is asked every few
//! seconds, read-only, what changed lately; where that is, the watch looks. What it does not tell is
//! found by looking, so nothing is lost where it cannot be asked.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::database::session::{self, Access, Session};
use crate::database::{DatabaseError, Server};
use crate::error::one_line;
use crate::event::{Event, Monitor};
use crate::instance::attachments::{Recent, Schema};
use crate::media::Changes;
use crate::migration::facts;
use crate::migration::world::World;

/// Between the answer to a question and the next time it is asked.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// That is so many times as long as the last answer took, at least: a question that costs much is
/// asked seldom.
const REST: u32 = 50;
/// The server gives up a question that takes longer,
const LIMIT: &str = "SET statement_timeout = '5s'";
/// and we do so where nothing at all is heard of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between the first two tries where the database does not answer, and between any two at most.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(600);

pub(super) struct Asker {
    server: Server,
    session: Option<Session>,
    questions: Vec<Question>,
    changes: Changes,
}

struct Question {
    sql: String,
    recent: Recent,
    due: Instant,
}

impl Asker {
    /// Asks for the first time: what changes from now on will be told. Says why it cannot.
    pub async fn begin(world: &World) -> Result<Asker, String> {
        let gathered = facts::gather_database(world).await;
        let Some(server) = gathered.facts else {
            let finding = gathered.findings.into_iter().next();
            let why = finding.map_or_else(String::new, |finding| finding.text);
            return Err(format!("the database is not asked: {why}"));
        };
        let why = |error| format!("the database does not tell: {}", one_line(&error));
        let session = open(&server).await.map_err(why)?;
        let schema = answers(&session, &Schema::question()).await.map_err(why)?;
        let question = |sql| Question { sql, recent: Recent::default(), due: Instant::now() };
        let questions: Vec<_> = Schema::of(schema).questions().into_iter().map(question).collect();
        if questions.is_empty() {
            return Err(format!("{} is not Mastodon's database", server.database));
        }
        let changes = Changes::default();
        let mut asker = Asker { server, session: Some(session), questions, changes };
        asker.ask().await.map_err(why)?;
        Ok(asker)
    }

    /// Where it is told what changed.
    pub fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// Asks again and again. A database that does not answer is told of once, until it does.
    pub async fn ask_on(mut self, monitor: &dyn Monitor) -> Infallible {
        let mut failures = 0_u32;
        loop {
            let pause = match self.ask().await {
                Ok(pause) => {
                    if std::mem::take(&mut failures) > 0 {
                        let text = "the database tells of new files again".into();
                        monitor.emit(Event::Note { text });
                    }
                    pause
                }
                Err(error) => {
                    if failures == 0 {
                        monitor.emit(told(&error));
                    }
                    let pause = RETRY_MIN * 2_u32.pow(failures.min(10));
                    failures += 1;
                    pause.min(RETRY_MAX)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks what is due; gives the time until something is due again.
    async fn ask(&mut self) -> Result<Duration, DatabaseError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => open(&self.server).await?,
        };
        for question in self.questions.iter_mut() {
            let started = Instant::now();
            if question.due > started {
                continue;
            }
            let answers = answers(&session, &question.sql).await?;
            let now = Instant::now();
            question.due = now + ASK_EVERY.max((now - started) * REST);
            for place in question.recent.news(answers, now) {
                self.changes.add(place);
            }
        }
        self.session = Some(session);
        let due = self.questions.iter().map(|question| question.due).min();
        Ok(due.map_or(ASK_EVERY, |due| due.saturating_duration_since(Instant::now())))
    }
}

async fn open(server: &Server) -> Result<Session, DatabaseError> {
    let session = session::connect(server, Access::Read).await?;
    session.execute("limit the time of a question", LIMIT).await?;
    Ok(session)
}

async fn answers(session: &Session, sql: &str) -> Result<Vec<Vec<Option<String>>>, DatabaseError> {
    let action = "ask which files are new";
    match tokio::time::timeout(PATIENCE, session.texts(action, sql)).await {
        Ok(answers) => answers,
        Err(_) => Err(DatabaseError::TimedOut {
            server: session.server().to_owned(),
            action,
            secs: PATIENCE.as_secs(),
        }),
    }
}

fn told(error: &DatabaseError) -> Event {
    let text = format!("{}; until it answers, new files are found by looking", one_line(error));
    Event::Problem { subject: "watch".into(), text, remedy: None }
}
