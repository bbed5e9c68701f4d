//! Questions to a team's own Python: the helper's side of them, and waiting for one's answer.

use std::time::Duration;

use isobar_auth::TeamScope;
use isobar_model::{RunType, TeamId, parse_time, render_time};
use isobar_store::questions::{self, NewQuestion};
use isobar_store::{StoreError, loading};
use isobar_wire::execution::{Answering, Refusal};
use isobar_wire::questions::{Claimed, QuestionApi, QuestionKind, Said};
use isobar_wire::wake::Wake;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::answers::broken;
use crate::execution::Execution;

/// A helper that died with questions in hand: they are claimed again after this.
const HOLD: SignedDuration = SignedDuration::from_mins(5);
/// How long a caller is kept waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often the answer is looked for where no hint comes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl QuestionApi for Execution {
    fn claim_questions(&self, team: TeamId, limit: u32) -> Answering<'_, Result<Claimed, Refusal>> {
        Box::pin(async move {
            let scope = self.org.team(team);
            let mut tx = self.store.begin().await.map_err(broken)?;
            let claimed = questions::claim(&mut tx, scope, limit, Timestamp::now(), HOLD)
                .await
                .map_err(broken)?;
            let due = questions::next_due(&mut tx, scope).await.map_err(broken)?;
            tx.commit().await.map_err(broken)?;
            Ok((claimed, due))
        })
    }

    fn questions_answered(&self, team: TeamId, said: Vec<(i64, Said)>) -> Answering<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            questions::said(&mut tx, self.org.team(team), &said, Timestamp::now())
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)
        })
    }

    fn questions_given_back(&self, team: TeamId, ids: Vec<i64>, reason: String) -> Answering<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            questions::give_back(&mut tx, self.org.team(team), &ids, &reason, Timestamp::now())
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)
        })
    }

    fn dag_of_version(&self, team: TeamId, version: Uuid) -> Answering<'_, Result<Option<Value>, Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.read().await.map_err(broken)?;
            let found = loading::version(&mut tx, self.org.team(team), version)
                .await
                .map_err(broken)?;
            Ok(found.and_then(|version| serde_json::from_str(&version.data).ok()))
        })
    }

    fn python_found(&self, team: TeamId, shapes_instances: bool) -> Answering<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            questions::note_python(&mut tx, self.org.team(team), shapes_instances, Timestamp::now())
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)
        })
    }
}

/// What a custom timetable says of a run made by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManualRun {
    /// Its data interval; none where the timetable has none to give.
    pub interval: Option<(Timestamp, Timestamp)>,
    /// Its id, where none was given.
    pub run_id: String,
}

/// A run made by hand that a custom timetable is asked about.
#[derive(Clone, Debug)]
pub struct ManualAsk<'a> {
    /// The Dag.
    pub dag_id: &'a str,
    /// The timetable as serialized: `{"__type": …, "__var": …}`.
    pub timetable: Value,
    /// The moment that the interval is inferred from; none where no interval is wanted.
    pub at: Option<Timestamp>,
    /// The interval, where one was given.
    pub interval: Option<(Timestamp, Timestamp)>,
    /// When the run is due.
    pub run_after: Timestamp,
    /// The kind of run.
    pub kind: RunType,
}

/// Why a custom timetable gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The team's code raised, hung, or its helper is not there: the sentence is for people of the team.
    #[error("{0}")]
    Python(String),
}

impl Execution {
    /// Asks a custom timetable about a run made by hand; waits 5 s at most.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask_manual_run(&self, scope: TeamScope, ask: &ManualAsk<'_>) -> Result<ManualRun, Unanswered> {
        let question = NewQuestion {
            kind: QuestionKind::ManualInterval,
            dag_id: ask.dag_id.into(),
            subject: Uuid::new_v4().simple().to_string(),
            body: json!({
                "ask": QuestionKind::ManualInterval.as_str(),
                "timetable": ask.timetable,
                "at": ask.at.map(render_time),
                "run_after": render_time(ask.run_after),
                "run_type": ask.kind.as_str(),
                "data_interval": ask.interval.map(|(start, end)| [render_time(start), render_time(end)]),
            }),
            version_id: None,
        };
        let mut hints = self.store.signals().subscribe();
        let mut tx = self.store.begin().await?;
        let id = questions::ask(&mut tx, scope, &question, Timestamp::now()).await?;
        tx.commit().await?;
        let until = Instant::now() + LONGEST_WAIT;
        loop {
            let mut tx = self.store.read().await?;
            let said = questions::get(&mut tx, scope, id).await?.and_then(|found| found.said);
            drop(tx);
            let over = matches!(said, Some(Said::Answer(_) | Said::Problem(_))) || Instant::now() >= until;
            if over {
                let mut tx = self.store.begin().await?;
                questions::forget(&mut tx, scope, id).await?;
                tx.commit().await?;
                return read_manual(said);
            }
            // Answers to those who wait are announced as `Definitions`; other hints are no reason to look.
            let announced = async { while !matches!(hints.recv().await, Ok(Wake::Definitions) | Err(_)) {} };
            let _ = tokio::time::timeout(LOOK_EVERY, announced).await;
        }
    }
}

fn read_manual(said: Option<Said>) -> Result<ManualRun, Unanswered> {
    let late = |more: &str| {
        Unanswered::Python(format!(
            "The custom timetable of this Dag did not answer within 5 s{more}; it is safe to try again"
        ))
    };
    match said {
        Some(Said::Answer(answer)) => {
            let time = |place: usize| answer["data_interval"][place].as_str().and_then(parse_time);
            let run_id = answer["run_id"].as_str().map(str::to_owned);
            match run_id {
                Some(run_id) => Ok(ManualRun {
                    interval: time(0).zip(time(1)),
                    run_id,
                }),
                None => Err(Unanswered::Python(
                    "The team's helper gave an answer without a run id".to_owned(),
                )),
            }
        }
        Some(Said::Problem(reason)) => Err(Unanswered::Python(reason)),
        Some(Said::Later(reason)) => Err(late(&format!(": {reason}"))),
        None => Err(late("")),
    }
}
