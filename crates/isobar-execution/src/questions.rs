//! Questions to a team's own Python: the helper's side of them, and waiting for one's answer.

use std::time::Duration;

use isobar_auth::TeamScope;
use isobar_engine::dagplan::NextRun;
use isobar_engine::partition::PartitionedAssets;
use isobar_engine::timetable::{Bound, MOST_RUNS, Timetable};
use isobar_model::dag::SerializedDag;
use isobar_model::{RunId, RunType, TeamId, parse_time, render_time};
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
/// The same, where many runs are to be listed. A helper that is stopped over it (`scheduler.question_timeout`) is asked a second
/// time within it.
const LONGEST_LIST_WAIT: Duration = Duration::from_secs(30);
/// An answer of the last moment is still there for the caller's last look.
const LAST_LOOK: Duration = Duration::from_secs(1);
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
    /// The date of its partition.
    pub partition_date: Option<Timestamp>,
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
    /// Its partition.
    pub partition_key: Option<&'a str>,
}

/// The timetable of a Dag as serialized, where only the team's Python can say the dates of a run made by hand: it is a class of
/// the team's, or the run names a partition and a class of the team's maps those.
#[must_use]
pub fn python_timetable(dag: &SerializedDag, names_partition: bool) -> Option<Value> {
    if let Ok(timetable) = Timetable::from_model(&dag.timetable)
        && let Some(question) = timetable.question()
    {
        return Some(question.clone());
    }
    let model = dag.timetable.partitions().filter(|_| names_partition)?;
    let maps = PartitionedAssets::from_model(model).is_ok_and(|assets| assets.needs_python());
    maps.then(|| dag.json()["dag"]["timetable"].clone())
}

/// Why a custom timetable gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The team's code refuses what was asked: the sentence is for who asked.
    #[error("{0}")]
    Refused(String),
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
        let body = json!({
            "timetable": ask.timetable,
            "at": ask.at.map(render_time),
            "run_after": render_time(ask.run_after),
            "run_type": ask.kind.as_str(),
            "data_interval": ask.interval.map(|(start, end)| [render_time(start), render_time(end)]),
            "partition_key": ask.partition_key,
        });
        let kind = QuestionKind::ManualInterval;
        let answer = self.ask_and_wait(scope, kind, ask.dag_id, body, LONGEST_WAIT).await?;
        if let Some(refusal) = answer["refused"].as_str() {
            return Err(Unanswered::Refused(refusal.to_owned()));
        }
        let run_id = answer["run_id"].as_str().map(str::to_owned);
        Ok(ManualRun {
            interval: read_interval(&answer["data_interval"]),
            run_id: run_id.ok_or_else(|| unusable("a run without an id"))?,
            partition_date: read_time(&answer["partition_date"]),
        })
    }

    /// Asks a custom timetable for all its runs between two dates, as [`Timetable::runs_between`] gives those of others; with them
    /// the ids that it gives runs of a backfill. Those whose data interval ends at `before` or later are left out. None where
    /// there are more than are listed.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask_runs_between(
        &self,
        scope: TeamScope,
        dag_id: &str,
        timetable: &Value,
        (from, to): (Bound, Bound),
        before: Option<Timestamp>,
    ) -> Result<Option<Vec<(NextRun, RunId)>>, Unanswered> {
        let body = json!({
            "timetable": timetable,
            "earliest": from.written(),
            "latest": to.written(),
            "before": before.map(render_time),
            "most": MOST_RUNS,
        });
        let kind = QuestionKind::RunsBetween;
        let answer = self.ask_and_wait(scope, kind, dag_id, body, LONGEST_LIST_WAIT).await?;
        let Some(runs) = answer["runs"].as_array() else {
            return Ok(None);
        };
        let read = |said: &Value| {
            let next = &said["next"];
            let run = NextRun {
                run_after: read_time(&next["run_after"])?,
                data_interval: read_interval(&next["data_interval"]),
                partition_key: next["partition_key"].as_str().map(str::to_owned),
                partition_date: read_time(&next["partition_date"]),
            };
            let run_id = said["run_id"].as_str().filter(|id| !id.is_empty() && id.len() <= 250)?;
            Some((run, RunId::from(run_id)))
        };
        let runs: Option<Vec<_>> = runs.iter().map(read).collect();
        runs.map(Some).ok_or_else(|| unusable("a run without an id or a time"))
    }

    /// Asks a custom timetable of partitions which instants some wall clocks mean; waits 5 s at most.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask_partition_moments(
        &self,
        scope: TeamScope,
        dag_id: &str,
        timetable: &Value,
        dates: [Option<Bound>; 2],
    ) -> Result<[Option<Timestamp>; 2], Unanswered> {
        let body = json!({"timetable": timetable, "dates": dates.map(|date| date.map(Bound::written))});
        let kind = QuestionKind::PartitionMoments;
        let answer = self.ask_and_wait(scope, kind, dag_id, body, LONGEST_WAIT).await?;
        let moments = [0, 1].map(|place| read_time(&answer["moments"][place]));
        if (moments.iter().zip(dates)).any(|(moment, date)| moment.is_some() != date.is_some()) {
            return Err(unusable("no moment for a date"));
        }
        Ok(moments)
    }

    /// It takes connections of its own: callers hold none meanwhile, or a few of them would leave none for anybody's requests.
    async fn ask_and_wait(
        &self,
        scope: TeamScope,
        kind: QuestionKind,
        dag_id: &str,
        mut body: Value,
        longest: Duration,
    ) -> Result<Value, Unanswered> {
        body["ask"] = kind.as_str().into();
        let mut hints = self.store.signals().subscribe();
        let mut tx = self.store.begin().await?;
        let now = Timestamp::now();
        let question = NewQuestion {
            kind,
            dag_id: dag_id.into(),
            subject: Uuid::new_v4().simple().to_string(),
            body,
            version_id: None,
            // A caller that goes away forgets nothing: a claim does.
            wanted_until: Some(now + longest + LAST_LOOK),
        };
        let id = questions::ask(&mut tx, scope, &question, now).await?;
        tx.commit().await?;
        let until = Instant::now() + longest;
        loop {
            let mut tx = self.store.read().await?;
            let said = questions::get(&mut tx, scope, id).await?.and_then(|found| found.said);
            drop(tx);
            let over = matches!(said, Some(Said::Answer(_) | Said::Problem(_))) || Instant::now() >= until;
            if over {
                let mut tx = self.store.begin().await?;
                questions::forget(&mut tx, scope, id).await?;
                tx.commit().await?;
                return heard(said, longest);
            }
            // Answers to those who wait are announced as `Definitions`; other hints are no reason to look.
            let announced = async { while !matches!(hints.recv().await, Ok(Wake::Definitions) | Err(_)) {} };
            let _ = tokio::time::timeout(LOOK_EVERY, announced).await;
        }
    }
}

fn read_time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(parse_time)
}

fn read_interval(value: &Value) -> Option<(Timestamp, Timestamp)> {
    read_time(&value[0]).zip(read_time(&value[1]))
}

fn unusable(what: &str) -> Unanswered {
    Unanswered::Python(format!("The team's helper gave {what}"))
}

fn heard(said: Option<Said>, longest: Duration) -> Result<Value, Unanswered> {
    let late = |more: &str| {
        Unanswered::Python(format!(
            "The custom timetable of this Dag did not answer within {} s{more}; it is safe to try again",
            longest.as_secs()
        ))
    };
    match said {
        Some(Said::Answer(answer)) => Ok(answer),
        Some(Said::Problem(reason)) => Err(Unanswered::Python(reason)),
        Some(Said::Later(reason)) => Err(late(&format!(": {reason}"))),
        None => Err(late("")),
    }
}
