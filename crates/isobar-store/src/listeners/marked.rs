//! What listeners are told when people mark runs and task instances, as Airflow's API server tells it.

use std::collections::BTreeSet;

use isobar_auth::TeamScope;
use isobar_model::{RunState, TaskKey, TaskState};
use isobar_wire::listeners::Hook;
use jiff::Timestamp;
use serde_json::json;

use super::{NewCall, heard, of_run, task_instance, tell, version_of};
use crate::clearing::find;
use crate::runs::Run;
use crate::task_instances::TaskInstance;
use crate::{StoreError, Tx};

/// Tells of instances that were given a state. `instances` are as they are now.
///
/// # Errors
/// The database failed.
pub(crate) async fn instances_marked(
    tx: &mut Tx,
    scope: TeamScope,
    run: &Run,
    instances: &[TaskInstance],
    state: TaskState,
    now: Timestamp,
) -> Result<(), StoreError> {
    if instances.is_empty() {
        return Ok(());
    }
    let heard = heard(tx, scope).await?;
    let calls = of_instances(tx, scope, &heard, run, instances, state).await?;
    tell(tx, scope, calls, now);
    Ok(())
}

/// Tells of a run that was given an end, and before it of the instances that were `ended` with it, as they are now. As in
/// Airflow the run is told of also where its teardowns still have to work.
///
/// # Errors
/// The database failed.
pub(crate) async fn run_marked(
    tx: &mut Tx,
    scope: TeamScope,
    run: &Run,
    ended: &[TaskKey],
    state: RunState,
    now: Timestamp,
) -> Result<(), StoreError> {
    let heard = heard(tx, scope).await?;
    let (hook, word) = match state {
        RunState::Success => (Hook::OnDagRunSuccess, TaskState::Success),
        RunState::Failed => (Hook::OnDagRunFailed, TaskState::Failed),
        RunState::Queued | RunState::Running => return Ok(()),
    };
    if heard.is_empty() {
        return Ok(());
    }
    let ended = find(tx, scope, &run.key(), ended).await?;
    let mut calls = of_instances(tx, scope, &heard, run, &ended, word).await?;
    let msg = format!("Dag Run's state was manually set to `{state}`.");
    calls.extend(of_run(tx, scope, &heard, hook, run, &msg).await?);
    tell(tx, scope, calls, now);
    Ok(())
}

async fn of_instances(
    tx: &mut Tx,
    scope: TeamScope,
    heard: &BTreeSet<Hook>,
    run: &Run,
    instances: &[TaskInstance],
    state: TaskState,
) -> Result<Vec<NewCall>, StoreError> {
    let hook = match state {
        TaskState::Success => Hook::OnTaskInstanceSuccess,
        TaskState::Failed => Hook::OnTaskInstanceFailed,
        TaskState::Skipped => Hook::OnTaskInstanceSkipped,
        _ => return Ok(Vec::new()),
    };
    if !heard.contains(&hook) || instances.is_empty() {
        return Ok(Vec::new());
    }
    let version_id = version_of(tx, scope, run).await?;
    let call = |ti| {
        let mut arguments = json!({"previous_state": null, "task_instance": task_instance(ti, Some(run))});
        if hook == Hook::OnTaskInstanceFailed {
            arguments["error"] = "TaskInstance's state was manually set to `failed`.".into();
        }
        NewCall {
            hook,
            arguments,
            version_id,
        }
    };
    Ok(instances.iter().map(call).collect())
}
