//! Events: what happened and a scheduler has yet to act on. Claimed by deletion, in the transaction of the consequence.

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{DagId, MapIndex, Rev, RunId, RunKey, RunState, TaskId, TaskKey, TaskState, TeamId, TiId};
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::db::vals;
use crate::{StoreError, Tx};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A run changed; the body is a [`RunChange`].
    Run,
    /// A Dag, its schedule or its asset queue changed.
    Dag,
    /// A team changed.
    Team,
    /// A pool changed.
    Pool,
    /// A row of `cross_team_request` waits; the body holds its `id`.
    Request,
    /// Something was said to a question to the team's Python; the body holds its `id`.
    Said,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Dag => "dag",
            Self::Team => "team",
            Self::Pool => "pool",
            Self::Request => "request",
            Self::Said => "said",
        }
    }
}

/// A claimed event.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Orders events inside one claim, no more.
    pub seq: i64,
    /// The team.
    pub team: TeamId,
    /// What it is about.
    pub kind: EventKind,
    /// The Dag, empty where the event is about none.
    pub dag_id: DagId,
    /// The run, empty where the event is about none.
    pub run_id: RunId,
    /// The run's revision after the change.
    pub rev: Rev,
    /// What changed.
    pub body: Value,
    /// When.
    pub made_at: Timestamp,
}

/// What changed in a run from revision `rev - 1` to `rev`: whoever holds the run at `rev - 1` needs no reading.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunChange {
    /// The change is too wide to describe: read the run again (made, cleared, marked, deleted).
    #[serde(skip_serializing_if = "is_false")]
    pub reload: bool,
    /// The run's state after the change, where that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_state: Option<RunState>,
    /// Instances as they are after the change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<ChangedInstance>,
    /// Lengths of results that others are mapped over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lengths: Vec<ChangedLength>,
    /// What branches chose: their XCom `skipmixin_key`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<ChangedChoice>,
    /// Instances whose try failed for good, by a worker's word or because it was lost; not those that were marked so by hand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<TaskKey>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A task instance after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangedInstance {
    /// The task.
    pub task_id: TaskId,
    /// Its map index.
    pub map_index: MapIndex,
    /// The id of its try.
    pub ti_id: TiId,
    /// Its fencing number.
    pub dispatch: i64,
    /// Its state.
    pub state: Option<TaskState>,
    /// Its try.
    pub try_number: i32,
    /// Microseconds since 1970.
    pub end_date: Option<i64>,
    /// Seconds, from a retry policy.
    pub retry_delay_override: Option<f64>,
    /// Microseconds since 1970; where it waits to be started again.
    pub reschedule_date: Option<i64>,
    /// Microseconds since 1970; when waiting for a trigger or a person ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<i64>,
    /// It has a `return_value` XCom.
    pub has_result: bool,
}

impl ChangedInstance {
    /// Its place inside the run.
    #[must_use]
    pub fn key(&self) -> TaskKey {
        TaskKey {
            task_id: self.task_id.clone(),
            map_index: self.map_index,
        }
    }
}

/// How many values a task returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedLength {
    /// The task.
    pub task_id: TaskId,
    /// None: not known any more.
    pub length: Option<i64>,
}

/// What a branch or short circuit chose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangedChoice {
    /// The task that chose.
    pub task_id: TaskId,
    /// Its map index.
    pub map_index: MapIndex,
    /// `{"followed": […]}` or `{"skipped": […]}`.
    pub value: Value,
}

/// Adds an event and wakes the schedulers after the commit.
///
/// `Run` events are added by [`crate::transitions`] only.
///
/// # Errors
/// The database failed.
pub async fn insert(
    tx: &mut Tx,
    scope: TeamScope,
    kind: EventKind,
    dag_id: &DagId,
    body: &Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    add(tx, scope, kind, dag_id, &RunId::from(""), 0, &body.to_string(), now).await?;
    tx.wake(Wake::Events);
    Ok(())
}

/// Claims everything there is: who begins to schedule takes it in with the rows.
///
/// # Errors
/// The database failed.
pub async fn claim_all(tx: &mut Tx, org: &OrgScope) -> Result<Vec<StoredEvent>, StoreError> {
    const AT_A_TIME: u32 = 5000;
    let mut all = Vec::new();
    loop {
        let some = claim(tx, org, AT_A_TIME).await?;
        let more = some.len() >= AT_A_TIME as usize;
        all.extend(some);
        if !more {
            return Ok(all);
        }
    }
}

/// Says of a run once more which instances failed for good: whoever heard it could not write what follows.
///
/// # Errors
/// The database failed.
pub async fn remind(
    tx: &mut Tx,
    org: &OrgScope,
    run: &RunKey,
    team: TeamId,
    failed: Vec<TaskKey>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let change = RunChange {
        failed,
        ..RunChange::default()
    };
    let body = serde_json::to_string(&change).expect("a run change is plain data");
    add(
        tx,
        org.team(team),
        EventKind::Run,
        &run.dag_id,
        &run.run_id,
        0,
        &body,
        now,
    )
    .await
}

#[expect(clippy::too_many_arguments, reason = "the columns of the table")]
pub(crate) async fn add(
    tx: &mut Tx,
    scope: TeamScope,
    kind: EventKind,
    dag_id: &DagId,
    run_id: &RunId,
    rev: Rev,
    body: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO event (team_no, kind, dag_id, run_id, rev, body, made_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        vals![scope.team(), kind.as_str(), dag_id, run_id, rev, body, now],
    )
    .await?;
    Ok(())
}

/// Claims up to `limit` events. They are gone with the commit of this unit, and back where it rolls back.
///
/// # Errors
/// The database failed, or a body is not what this version writes.
pub async fn claim(tx: &mut Tx, _scope: &OrgScope, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
    let skip = tx.dialect().skip_locked();
    let rows = tx
        .rows(
            &format!(
                "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT $1 {skip}) \
                 RETURNING seq, team_no, kind, dag_id, run_id, rev, body, made_at"
            ),
            vals![limit],
        )
        .await?;
    let mut events = rows
        .iter()
        .map(|row| {
            let kind = row.text("kind")?;
            Ok(StoredEvent {
                seq: row.int("seq")?,
                team: row.team("team_no")?,
                kind: match kind.as_str() {
                    "run" => EventKind::Run,
                    "dag" => EventKind::Dag,
                    "team" => EventKind::Team,
                    "pool" => EventKind::Pool,
                    "request" => EventKind::Request,
                    "said" => EventKind::Said,
                    _ => {
                        return Err(StoreError::Corrupt {
                            column: "kind".to_owned(),
                            problem: format!("`{kind}` is no kind of event"),
                        });
                    }
                },
                dag_id: row.text("dag_id")?.into(),
                run_id: row.text("run_id")?.into(),
                rev: row.int("rev")?,
                body: row.json("body")?,
                made_at: row.time("made_at")?,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    events.sort_by_key(|event| event.seq);
    Ok(events)
}

/// Whether any event waits that is older than `before`: what a sweep asks.
///
/// # Errors
/// The database failed.
pub async fn waiting_since(tx: &mut Tx, _scope: &OrgScope, before: Timestamp) -> Result<i64, StoreError> {
    let row = tx
        .row("SELECT count(*) AS n FROM event WHERE made_at < $1", vals![before])
        .await?;
    row.map_or(Ok(0), |row| row.int("n"))
}

/// How many events no scheduler has acted on yet.
///
/// # Errors
/// The database failed.
pub async fn waiting(tx: &mut Tx, _scope: &OrgScope) -> Result<i64, StoreError> {
    let row = tx.row("SELECT count(*) AS n FROM event", vals![]).await?;
    row.map_or(Ok(0), |row| row.int("n"))
}
