//! Triggers: what deferred task instances and watched assets wait for, and which triggerer runs them.
//!
//! A trigger is wanted while a task instance is deferred on it, a callback runs as it, or a Dag that is neither paused nor
//! stale watches an asset with it. Rows that nobody wants are swept by the triggerer that meets them.

use std::collections::BTreeMap;

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{RunId, TaskKey, TeamId};
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use serde_json::Value;

use crate::counters::{Counter, next_ids};
use crate::db::{Dialect, Row, vals};
use crate::task_calls::among;
use crate::task_instances::TaskInstance;
use crate::{StoreError, Tx};

/// A trigger as the task that deferred described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Import path of the trigger's class.
    pub classpath: String,
    /// Its arguments.
    pub kwargs: Kwargs,
    /// The queue of triggerers, where the task named one.
    pub queue: Option<String>,
}

/// Arguments of a trigger: JSON text, or a text that the client encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kwargs {
    /// Written in the Dag, so no secret.
    Plain(String),
    /// Given by a running task: sealed for [`Kwargs::place`].
    Sealed(Vec<u8>),
}

impl Kwargs {
    /// What the arguments of a task's trigger are sealed for.
    #[must_use]
    pub fn place(ti_id: isobar_model::TiId) -> String {
        format!("trigger/{ti_id}")
    }
}

/// Adds a trigger and tells the triggerers of the team; answers its id.
pub(crate) async fn add(tx: &mut Tx, scope: TeamScope, trigger: &Trigger, now: Timestamp) -> Result<i64, StoreError> {
    let id = next_ids(tx, scope, Counter::Trigger, 1).await?;
    let (plain, sealed) = match &trigger.kwargs {
        Kwargs::Plain(text) => (text.as_str(), None),
        Kwargs::Sealed(bytes) => ("", Some(bytes.clone())),
    };
    tx.run(
        "INSERT INTO async_trigger (team_no, id, classpath, kwargs, sealed, queue, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        vals![
            scope.team(),
            id,
            &trigger.classpath,
            plain,
            sealed,
            trigger.queue.as_ref(),
            now
        ],
    )
    .await?;
    tx.wake(Wake::Triggers(scope.team()));
    Ok(id)
}

/// Forgets a trigger whose one task goes on, unless somebody else wants it.
pub(crate) async fn forget(tx: &mut Tx, scope: TeamScope, id: i64) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM async_trigger WHERE team_no = $1 AND id = $2 AND fingerprint IS NULL AND callback_id IS NULL",
        vals![scope.team(), id],
    )
    .await
    .map(drop)
}

/// Whether somebody wants trigger `t`.
const WANTED: &str = "(t.callback_id IS NOT NULL \
    OR EXISTS (SELECT 1 FROM task_instance i WHERE i.team_no = t.team_no AND i.trigger_id = t.id AND i.state = 'deferred') \
    OR EXISTS (SELECT 1 FROM asset_watcher w JOIN dag d ON d.team_no = w.team_no AND d.dag_id = w.dag_id \
    WHERE w.team_no = t.team_no AND w.trigger_id = t.id AND d.is_paused = FALSE AND d.is_stale = FALSE))";

/// Whether trigger `t` is run by nobody who lives; `$2` is since when a heartbeat counts.
const FREE: &str = "(t.triggerer_id IS NULL OR NOT EXISTS (SELECT 1 FROM triggerer g WHERE g.team_no = t.team_no \
    AND g.id = t.triggerer_id AND g.ended_at IS NULL AND g.heartbeat >= $2))";

/// Whether there is a trigger that somebody wants and nobody runs.
///
/// # Errors
/// The database failed.
pub async fn any_free(tx: &mut Tx, scope: TeamScope, alive_since: Timestamp) -> Result<bool, StoreError> {
    let row = tx
        .row(
            &format!("SELECT 1 AS one FROM async_trigger t WHERE t.team_no = $1 AND {FREE} AND {WANTED} LIMIT 1"),
            vals![scope.team(), alive_since],
        )
        .await?;
    Ok(row.is_some())
}

/// Gives a new triggerer its number.
///
/// # Errors
/// The database failed.
pub async fn enlist(
    tx: &mut Tx,
    scope: TeamScope,
    hostname: &str,
    holder: &str,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let id = next_ids(tx, scope, Counter::Triggerer, 1).await?;
    tx.run(
        "INSERT INTO triggerer (team_no, id, hostname, holder, started_at, heartbeat) VALUES ($1, $2, $3, $4, $5, $5)",
        vals![scope.team(), id, hostname, holder, now],
    )
    .await?;
    Ok(id)
}

/// Notes that a triggerer lives. False where it was given up: its triggers may run elsewhere, it needs a new number.
///
/// # Errors
/// The database failed.
pub async fn beat(
    tx: &mut Tx,
    scope: TeamScope,
    triggerer: i64,
    alive_since: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            "UPDATE triggerer SET heartbeat = $4 WHERE team_no = $1 AND id = $2 AND ended_at IS NULL AND heartbeat >= $3",
            vals![scope.team(), triggerer, alive_since, now],
        )
        .await?;
    Ok(touched > 0)
}

/// Assigns up to `room` triggers that nobody who lives runs: callbacks first, then tasks by weight, then watchers, each
/// oldest first.
///
/// # Errors
/// The database failed.
pub async fn assign(
    tx: &mut Tx,
    scope: TeamScope,
    triggerer: i64,
    room: u32,
    alive_since: Timestamp,
) -> Result<u64, StoreError> {
    let skip = match tx.dialect() {
        Dialect::Sqlite => "",
        Dialect::Postgres => "FOR UPDATE OF t SKIP LOCKED",
    };
    tx.run(
        &format!(
            "UPDATE async_trigger SET triggerer_id = $3 WHERE team_no = $1 AND id IN (SELECT t.id FROM async_trigger t \
             LEFT JOIN task_instance o ON o.team_no = t.team_no AND o.trigger_id = t.id \
             WHERE t.team_no = $1 AND {FREE} AND {WANTED} \
             ORDER BY CASE WHEN t.callback_id IS NOT NULL THEN 0 WHEN t.fingerprint IS NULL THEN 1 ELSE 2 END, \
             coalesce(o.priority_weight, 0) DESC, t.created_at, t.id LIMIT $4 {skip})"
        ),
        vals![scope.team(), alive_since, triggerer, room],
    )
    .await
}

/// A triggerer ends: its triggers are free at once.
///
/// # Errors
/// The database failed.
pub async fn leave(tx: &mut Tx, scope: TeamScope, triggerer: i64, now: Timestamp) -> Result<(), StoreError> {
    tx.run(
        "UPDATE triggerer SET ended_at = $3 WHERE team_no = $1 AND id = $2 AND ended_at IS NULL",
        vals![scope.team(), triggerer, now],
    )
    .await?;
    let freed = tx
        .run(
            "UPDATE async_trigger SET triggerer_id = NULL WHERE team_no = $1 AND triggerer_id = $2",
            vals![scope.team(), triggerer],
        )
        .await?;
    if freed > 0 {
        tx.wake(Wake::Triggers(scope.team()));
    }
    Ok(())
}

/// The servers whose triggerers have not ended.
///
/// # Errors
/// The database failed.
pub async fn holders(tx: &mut Tx, _org: &OrgScope) -> Result<Vec<String>, StoreError> {
    let rows = tx
        .rows("SELECT DISTINCT holder FROM triggerer WHERE ended_at IS NULL", vals![])
        .await?;
    rows.iter().map(|row| row.text("holder")).collect()
}

/// Ends triggerers whose server is known to be dead, without waiting for their heartbeats; answers how many.
///
/// # Errors
/// The database failed.
pub async fn bury(tx: &mut Tx, org: &OrgScope, is_dead: &(dyn Fn(&str) -> bool + Sync)) -> Result<usize, StoreError> {
    let rows = tx
        .rows(
            "SELECT team_no, id, holder FROM triggerer WHERE ended_at IS NULL",
            vals![],
        )
        .await?;
    let mut buried = 0;
    for row in rows {
        if is_dead(&row.text("holder")?) {
            leave(tx, org.team(row.team("team_no")?), row.int("id")?, Timestamp::now()).await?;
            buried += 1;
        }
    }
    Ok(buried)
}

/// Takes away triggers that nobody wants and triggerers that ended before `long_ago`.
///
/// # Errors
/// The database failed.
pub async fn sweep(tx: &mut Tx, scope: TeamScope, long_ago: Timestamp) -> Result<(), StoreError> {
    tx.run(
        "UPDATE task_instance SET trigger_id = NULL WHERE team_no = $1 AND trigger_id IS NOT NULL \
         AND (state IS NULL OR state <> 'deferred')",
        vals![scope.team()],
    )
    .await?;
    tx.run(
        "DELETE FROM async_trigger WHERE team_no = $1 AND callback_id IS NULL \
         AND NOT EXISTS (SELECT 1 FROM task_instance i WHERE i.team_no = async_trigger.team_no \
         AND i.trigger_id = async_trigger.id) \
         AND NOT EXISTS (SELECT 1 FROM asset_watcher w WHERE w.team_no = async_trigger.team_no \
         AND w.trigger_id = async_trigger.id)",
        vals![scope.team()],
    )
    .await?;
    tx.run(
        "DELETE FROM triggerer WHERE team_no = $1 AND (heartbeat < $2 OR ended_at < $2)",
        vals![scope.team(), long_ago],
    )
    .await
    .map(drop)
}

/// The triggers of a triggerer that somebody wants.
///
/// # Errors
/// The database failed.
pub async fn of_triggerer(tx: &mut Tx, scope: TeamScope, triggerer: i64) -> Result<Vec<i64>, StoreError> {
    let rows = tx
        .rows(
            &format!(
                "SELECT t.id FROM async_trigger t WHERE t.team_no = $1 AND t.triggerer_id = $2 AND {WANTED} ORDER BY t.id"
            ),
            vals![scope.team(), triggerer],
        )
        .await?;
    rows.iter().map(|row| row.int("id")).collect()
}

/// A trigger, and whom it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTrigger {
    /// Its id.
    pub id: i64,
    /// Import path of its class.
    pub classpath: String,
    /// Its arguments.
    pub kwargs: Kwargs,
    /// The task instance that is deferred on it.
    pub task: Option<TaskInstance>,
    /// Name and URI of the assets that it watches, for Dags that are neither paused nor stale.
    pub watched: BTreeMap<String, String>,
}

/// Triggers by id; those that are gone are left out.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, ids: &[i64]) -> Result<Vec<StoredTrigger>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(500) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let rows = tx
            .rows(
                &format!(
                    "SELECT id, classpath, kwargs, sealed, fingerprint FROM async_trigger WHERE team_no = $1 AND id {list} \
                     ORDER BY id"
                ),
                values.clone(),
            )
            .await?;
        let mut tasks = of_triggers(tx, scope, chunk).await?;
        for row in rows {
            let id = row.int("id")?;
            let watched = if row.maybe_text("fingerprint")?.is_some() {
                watched(tx, scope, id).await?
            } else {
                BTreeMap::new()
            };
            found.push(StoredTrigger {
                id,
                classpath: row.text("classpath")?,
                kwargs: kwargs(&row)?,
                task: tasks.remove(&id),
                watched,
            });
        }
    }
    Ok(found)
}

fn kwargs(row: &Row) -> Result<Kwargs, StoreError> {
    Ok(match row.get::<Option<Vec<u8>>>("sealed")? {
        Some(bytes) => Kwargs::Sealed(bytes),
        None => Kwargs::Plain(row.text("kwargs")?),
    })
}

async fn of_triggers(tx: &mut Tx, scope: TeamScope, ids: &[i64]) -> Result<BTreeMap<i64, TaskInstance>, StoreError> {
    let mut values = vals![scope.team()];
    let list = among(&mut values, ids);
    let rows = tx
        .rows(
            &format!(
                "SELECT * FROM task_instance WHERE team_no = $1 AND trigger_id IS NOT NULL AND trigger_id {list} \
                 AND state = 'deferred'"
            ),
            values,
        )
        .await?;
    rows.iter()
        .map(|row| {
            let ti = TaskInstance::from_row(row)?;
            Ok((ti.trigger_id.unwrap_or_default(), ti))
        })
        .collect()
}

async fn watched(tx: &mut Tx, scope: TeamScope, id: i64) -> Result<BTreeMap<String, String>, StoreError> {
    let rows = tx
        .rows(
            "SELECT DISTINCT a.name, a.uri FROM asset_watcher w JOIN dag d ON d.team_no = w.team_no AND d.dag_id = w.dag_id \
             JOIN asset a ON a.team_no = w.team_no AND a.id = w.asset_id WHERE w.team_no = $1 AND w.trigger_id = $2 \
             AND d.is_paused = FALSE AND d.is_stale = FALSE ORDER BY a.name",
            vals![scope.team(), id],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.text("name")?, row.text("uri")?)))
        .collect()
}

/// A trigger as the REST API shows it beside its task instance.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownTrigger {
    /// Its id.
    pub id: i64,
    /// Import path of its class.
    pub classpath: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The queue.
    pub queue: Option<String>,
    /// Who runs it.
    pub triggerer: Option<ShownTriggerer>,
    /// The triggerer's number, which may be gone.
    pub triggerer_id: Option<i64>,
}

/// A triggerer as the REST API shows it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct ShownTriggerer {
    pub id: i64,
    pub hostname: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub heartbeat: Timestamp,
}

/// Triggers of rows that a read scope covered, by team and id.
///
/// # Errors
/// The database failed.
pub(crate) async fn shown(
    tx: &mut Tx,
    ids: &[(TeamId, i64)],
) -> Result<BTreeMap<(TeamId, i64), ShownTrigger>, StoreError> {
    let mut by_team: BTreeMap<TeamId, Vec<i64>> = BTreeMap::new();
    for (team, id) in ids {
        by_team.entry(*team).or_default().push(*id);
    }
    let mut found = BTreeMap::new();
    for (team, ids) in by_team {
        for chunk in ids.chunks(500) {
            let mut values = vals![team];
            let list = among(&mut values, chunk);
            let rows = tx
                .rows(
                    &format!(
                        "SELECT t.id, t.classpath, t.created_at, t.queue, t.triggerer_id, g.hostname, g.started_at, \
                         g.ended_at, g.heartbeat FROM async_trigger t LEFT JOIN triggerer g ON g.team_no = t.team_no \
                         AND g.id = t.triggerer_id WHERE t.team_no = $1 AND t.id {list}"
                    ),
                    values,
                )
                .await?;
            for row in rows {
                let triggerer_id = row.maybe_int("triggerer_id")?;
                let triggerer = match (triggerer_id, row.maybe_time("heartbeat")?) {
                    (Some(id), Some(heartbeat)) => Some(ShownTriggerer {
                        id,
                        hostname: row.text("hostname")?,
                        started_at: row.time("started_at")?,
                        ended_at: row.maybe_time("ended_at")?,
                        heartbeat,
                    }),
                    _ => None,
                };
                let id = row.int("id")?;
                let trigger = ShownTrigger {
                    id,
                    classpath: row.text("classpath")?,
                    created_at: row.time("created_at")?,
                    queue: row.maybe_text("queue")?,
                    triggerer,
                    triggerer_id,
                };
                found.insert((team, id), trigger);
            }
        }
    }
    Ok(found)
}

/// A task that starts as deferred: where it stands, and its trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct DeferredStart {
    /// The instance.
    pub key: TaskKey,
    /// The trigger, as the Dag describes it.
    pub trigger: Trigger,
    /// The method that resumes.
    pub next_method: String,
    /// Its arguments.
    pub next_kwargs: Value,
    /// When waiting ends in failure.
    pub timeout: Option<Timestamp>,
}

/// Gives instances that were just written as `deferred` their triggers. After all run locks: takes numbers of the team.
pub(crate) async fn give(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &isobar_model::DagId,
    run_id: &RunId,
    start: &DeferredStart,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = add(tx, scope, &start.trigger, now).await?;
    tx.run(
        "UPDATE task_instance SET trigger_id = $6 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
         AND map_index = $5",
        vals![
            scope.team(),
            dag_id,
            run_id,
            &start.key.task_id,
            start.key.map_index,
            id
        ],
    )
    .await
    .map(drop)
}
