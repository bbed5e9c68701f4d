//! What listeners of a team's plugins are to be told of: written with the change itself, told in that order by a process of the
//! team. A team whose plugins do not implement a hook has nothing written down for it.

mod assets;
mod definitions;
mod marked;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{TaskState, TeamId};
use isobar_wire::listeners::{Hook, PendingCall};
use isobar_wire::wake::Wake;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::db::{Val, vals};
use crate::late::{LateRow, Table};
use crate::runs::Run;
use crate::task_calls::among;
use crate::task_instances::TaskInstance;
use crate::{StoreError, Tx};

pub(crate) use assets::asset_changed;
pub(crate) use definitions::{alias_created, asset_created, broken_before, import_errors};
pub(crate) use marked::{instances_marked, run_marked};
pub use objects::{dag_run, task_instance};

/// So many calls of a team may wait: the oldest are forgotten where its listeners do not keep up, or cannot be loaded for long.
pub const MOST_CALLS: i64 = 50_000;
/// How many calls may be written until that is looked at.
const LIMIT_EVERY: i64 = 1000;
/// What waits is kept for so long where nobody listens any more: plugins may be half written, or not be on this host yet.
const KEPT_UNHEARD: SignedDuration = SignedDuration::from_hours(24);

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

/// Notes which hooks the plugins of a team implement. What has waited for long is forgotten where there are none, or were none.
///
/// # Errors
/// The database failed.
pub async fn note(tx: &mut Tx, scope: TeamScope, hooks: &BTreeSet<Hook>, now: Timestamp) -> Result<(), StoreError> {
    if hooks.is_empty() || heard(tx, scope).await?.is_empty() {
        tx.run(
            "DELETE FROM listener_call WHERE team_no = $1 AND made_at < $2",
            vals![scope.team(), now - KEPT_UNHEARD],
        )
        .await?;
    }
    if hooks.is_empty() {
        let gone = tx.run("DELETE FROM team_listener WHERE team_no = $1", vals![scope.team()]);
        return gone.await.map(drop);
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

/// Writes down what the team's listeners are to be told with the commit, after all that was written down before.
pub(crate) fn tell(tx: &mut Tx, scope: TeamScope, calls: Vec<NewCall>, now: Timestamp) {
    for call in calls {
        tx.write_late(LateRow {
            scope,
            table: Table::ListenerCall,
            values: vals![call.hook.as_str(), &call.arguments, call.version_id, now],
        });
        tx.wake(Wake::Listeners(scope.team()));
    }
}

/// After calls of these numbers were written: forgets the oldest where a team has more than [`MOST_CALLS`]. Numbers have no gaps, so
/// nothing is counted, and now and then is enough.
pub(crate) async fn keep_within_limit(
    tx: &mut Tx,
    scope: TeamScope,
    mut written: Range<i64>,
) -> Result<(), StoreError> {
    let last = written.end - 1;
    if !written.any(|id| id % LIMIT_EVERY == 0) {
        return Ok(());
    }
    // Those that are being claimed go the next time.
    let text = format!(
        "DELETE FROM listener_call WHERE team_no = $1 AND id IN \
         (SELECT id FROM listener_call WHERE team_no = $1 AND id <= $2 {})",
        tx.dialect().skip_locked()
    );
    let gone = tx.run(&text, vals![scope.team(), last - MOST_CALLS]).await?;
    if gone > 0 {
        tracing::warn!(team = %scope.team(), gone, most = MOST_CALLS, "more waits for the team's listeners than is kept; the oldest \
            calls are forgotten");
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
    tell(tx, scope, vec![call], now);
    Ok(())
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
    // Two that claim at once take turns. A claim is of the oldest calls: another's is seen at the first of all.
    tx.run(
        "UPDATE team_listener SET hooks = hooks WHERE team_no = $1",
        vals![scope.team()],
    )
    .await?;
    let rows = tx
        .rows(
            "UPDATE listener_call SET holder = $2, claimed_until = $3 WHERE team_no = $1 AND id IN \
             (SELECT id FROM listener_call WHERE team_no = $1 ORDER BY id LIMIT $5) AND NOT EXISTS \
             (SELECT 1 FROM listener_call other WHERE other.team_no = $1 \
             AND other.id = (SELECT MIN(id) FROM listener_call WHERE team_no = $1) AND other.holder <> $2 \
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
    let mut values = vals![scope.team()];
    let list = among(&mut values, ids);
    tx.run(
        &format!("DELETE FROM listener_call WHERE team_no = $1 AND id {list}"),
        values,
    )
    .await
    .map(drop)
}
