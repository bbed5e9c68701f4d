//! What listeners of a team's plugins are to be told of: written with the change itself, told in that order by a process of the
//! team. A team whose plugins do not implement a hook has nothing written down for it.

mod assets;
mod definitions;
mod marked;
mod objects;

use std::collections::{BTreeMap, BTreeSet};

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{TaskState, TeamId};
use isobar_wire::listeners::{Hook, PendingCall};
use isobar_wire::wake::Wake;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::counters::{Counter, next_ids};
use crate::db::{Val, vals, values_list};
use crate::runs::Run;
use crate::task_instances::TaskInstance;
use crate::{StoreError, Tx};

pub(crate) use assets::asset_changed;
pub(crate) use definitions::{alias_created, asset_created, broken_before, import_errors};
pub(crate) use marked::{instances_marked, run_marked};
pub use objects::{dag_run, task_instance};

/// Calls in one statement.
const CALLS_A_STATEMENT: usize = 100;

/// One call of a hook.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCall {
    /// Which hook.
    pub hook: Hook,
    /// What it is called with, by name.
    pub arguments: Value,
    /// The Dag version of the run or task instance that it is told of.
    pub version_id: Option<Uuid>,
}

/// Notes which hooks the plugins of a team implement; what waits for a team that has none any more is forgotten.
///
/// # Errors
/// The database failed.
pub async fn note(tx: &mut Tx, scope: TeamScope, hooks: &BTreeSet<Hook>) -> Result<(), StoreError> {
    if hooks.is_empty() {
        for table in ["listener_call", "team_listener"] {
            tx.run(&format!("DELETE FROM {table} WHERE team_no = $1"), vals![scope.team()])
                .await?;
        }
        return Ok(());
    }
    let words: Value = hooks.iter().map(|hook| hook.as_str()).collect();
    tx.run(
        "INSERT INTO team_listener (team_no, hooks) VALUES ($1, $2) ON CONFLICT (team_no) DO UPDATE \
         SET hooks = excluded.hooks WHERE team_listener.hooks <> excluded.hooks",
        vals![scope.team(), &words],
    )
    .await
    .map(drop)
}

/// The hooks that the plugins of a team implement.
///
/// # Errors
/// The database failed.
pub async fn heard(tx: &mut Tx, scope: TeamScope) -> Result<BTreeSet<Hook>, StoreError> {
    let row = tx
        .row(
            "SELECT hooks FROM team_listener WHERE team_no = $1",
            vals![scope.team()],
        )
        .await?;
    row.map_or_else(|| Ok(BTreeSet::new()), |row| Ok(read(&row.json("hooks")?)))
}

/// The hooks that plugins of these teams implement; teams without any are absent.
///
/// # Errors
/// The database failed.
pub async fn heard_by(
    tx: &mut Tx,
    _scope: &OrgScope,
    teams: &BTreeSet<TeamId>,
) -> Result<BTreeMap<TeamId, BTreeSet<Hook>>, StoreError> {
    if teams.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut values: Vec<Val> = Vec::new();
    let marks: Vec<String> = (teams.iter())
        .map(|team| {
            values.push((*team).into());
            format!("${}", values.len())
        })
        .collect();
    let text = format!(
        "SELECT team_no, hooks FROM team_listener WHERE team_no IN ({})",
        marks.join(", ")
    );
    let rows = tx.rows(&text, values).await?;
    rows.iter()
        .map(|row| Ok((row.team("team_no")?, read(&row.json("hooks")?))))
        .collect()
}

fn read(hooks: &Value) -> BTreeSet<Hook> {
    let words = hooks.as_array().into_iter().flatten();
    words.filter_map(|word| Hook::from_word(word.as_str()?)).collect()
}

/// Writes down those calls that the team's plugins listen to. See [`tell`].
///
/// # Errors
/// The database failed.
pub(crate) async fn tell_those(
    tx: &mut Tx,
    scope: TeamScope,
    heard: &BTreeSet<Hook>,
    mut calls: Vec<NewCall>,
    now: Timestamp,
) -> Result<(), StoreError> {
    calls.retain(|call| heard.contains(&call.hook));
    tell(tx, scope, &calls, now).await
}

/// Writes down what the team's listeners are to be told, after all that was written down before. To be called late in a unit: on
/// PostgreSQL the team's counter stays locked until the unit ends, which keeps the order.
///
/// # Errors
/// The database failed.
pub async fn tell(tx: &mut Tx, scope: TeamScope, calls: &[NewCall], now: Timestamp) -> Result<(), StoreError> {
    for chunk in calls.chunks(CALLS_A_STATEMENT) {
        let count = u32::try_from(chunk.len()).expect("a chunk is small");
        let first = next_ids(tx, scope, Counter::ListenerCall, count).await?;
        let rows = (first..).zip(chunk).map(|(id, call)| {
            vals![
                scope.team(),
                id,
                call.hook.as_str(),
                &call.arguments,
                call.version_id,
                now
            ]
        });
        let (list, values) = values_list(1, rows.collect());
        tx.run(
            &format!("INSERT INTO listener_call (team_no, id, hook, arguments, version_id, made_at) VALUES {list}"),
            values,
        )
        .await?;
    }
    if !calls.is_empty() {
        tx.wake(Wake::Listeners(scope.team()));
    }
    Ok(())
}

/// The call that tells of a run, where anybody listens.
///
/// # Errors
/// The database failed.
pub async fn of_run(
    tx: &mut Tx,
    scope: TeamScope,
    heard: &BTreeSet<Hook>,
    hook: Hook,
    run: &Run,
    msg: &str,
) -> Result<Option<NewCall>, StoreError> {
    if !heard.contains(&hook) {
        return Ok(None);
    }
    Ok(Some(NewCall {
        hook,
        arguments: json!({"dag_run": dag_run(run), "msg": msg}),
        version_id: version_of(tx, scope, run).await?,
    }))
}

/// Tells of a try that failed without its process having said so: its listeners are that process's no more. `ti` is the instance as
/// it is now.
///
/// # Errors
/// The database failed.
pub async fn task_failed(
    tx: &mut Tx,
    scope: TeamScope,
    ti: &TaskInstance,
    run: &Run,
    error: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let hook = Hook::OnTaskInstanceFailed;
    if !heard(tx, scope).await?.contains(&hook) {
        return Ok(());
    }
    let call = NewCall {
        hook,
        arguments: json!({
            "previous_state": TaskState::Running,
            "task_instance": task_instance(ti, Some(run)),
            "error": error,
        }),
        version_id: version_of(tx, scope, run).await?,
    };
    tell(tx, scope, &[call], now).await
}

/// The version of the Dag that a run shows: the one it began with where its bundle has versions, else the latest, as in Airflow.
pub(crate) async fn version_of(tx: &mut Tx, scope: TeamScope, run: &Run) -> Result<Option<Uuid>, StoreError> {
    if run.bundle_version.is_some() {
        return Ok(run.created_version_id);
    }
    let row = tx
        .row(
            "SELECT current_version_id FROM dag WHERE team_no = $1 AND dag_id = $2",
            vals![scope.team(), &run.dag_id],
        )
        .await?;
    row.map_or(Ok(None), |row| row.maybe_uuid("current_version_id"))
}

/// Claims the oldest calls for the listeners of `holder`, a host. None while another has any, so that the order is kept; what the
/// same one had claimed and not done is claimed again.
///
/// # Errors
/// The database failed.
pub async fn claim(
    tx: &mut Tx,
    scope: TeamScope,
    holder: &str,
    limit: u32,
    now: Timestamp,
    hold: SignedDuration,
) -> Result<Vec<PendingCall>, StoreError> {
    // Two that claim at once take turns.
    tx.run(
        "UPDATE team_listener SET hooks = hooks WHERE team_no = $1",
        vals![scope.team()],
    )
    .await?;
    let rows = tx
        .rows(
            "UPDATE listener_call SET holder = $2, claimed_until = $3 WHERE team_no = $1 AND id IN \
             (SELECT id FROM listener_call WHERE team_no = $1 ORDER BY id LIMIT $5) AND NOT EXISTS \
             (SELECT 1 FROM listener_call other WHERE other.team_no = $1 AND other.holder <> $2 \
             AND other.claimed_until > $4) RETURNING id, hook, arguments, version_id",
            vals![scope.team(), holder, now + hold, now, limit],
        )
        .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        claimed.push(PendingCall {
            id: row.int("id")?,
            hook: row.text("hook")?,
            arguments: row.json("arguments")?,
            version_id: row.maybe_uuid("version_id")?,
        });
    }
    claimed.sort_by_key(|call| call.id);
    Ok(claimed)
}

/// Forgets calls that were made.
///
/// # Errors
/// The database failed.
pub async fn done(tx: &mut Tx, scope: TeamScope, ids: &[i64]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut values: Vec<Val> = vals![scope.team()];
    let marks: Vec<String> = ids
        .iter()
        .map(|id| {
            values.push((*id).into());
            format!("${}", values.len())
        })
        .collect();
    tx.run(
        &format!(
            "DELETE FROM listener_call WHERE team_no = $1 AND id IN ({})",
            marks.join(", ")
        ),
        values,
    )
    .await
    .map(drop)
}
