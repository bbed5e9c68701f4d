//! Deleting single task instances.

use isobar_auth::{Action, Resource};
use isobar_model::{RunId, RunKey, TaskId, TaskKey};
use isobar_store::clearing;
use isobar_store::{audit, task_instances};
use jiff::Timestamp;
use serde_json::Value;

use super::task_instances::missing;
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Target};

/// Deletes the instances of some indices of a task, all where none are named; answers their indices.
///
/// # Errors
/// The database failed.
pub(super) async fn delete_some(
    ask: &Ask,
    target: &Target,
    run_id: &RunId,
    task_id: &TaskId,
    map_index: Option<i32>,
) -> Result<Vec<i32>, ApiError> {
    let mut tx = ask.state.store.begin().await?;
    let run = RunKey {
        dag_id: target.dag_id(),
        run_id: run_id.clone(),
    };
    let keys: Vec<TaskKey> = task_instances::of_run(&mut tx, target.scope, &run)
        .await?
        .iter()
        .filter(|ti| ti.task_id == *task_id && map_index.is_none_or(|index| index == ti.map_index))
        .map(task_instances::TaskInstance::task_key)
        .collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let gone = clearing::delete_instances(&mut tx, target.scope, &run, &keys, Timestamp::now()).await?;
    let records: Vec<_> = gone
        .iter()
        .map(|key| {
            audit::Record::new("delete_task_instance", ask.caller.name())
                .dag(&run.dag_id)
                .run(run_id)
                .task(task_id, Some(key.map_index))
        })
        .collect();
    audit::write(&mut tx, target.scope, &records);
    tx.commit().await?;
    Ok(gone.iter().map(|key| key.map_index).collect())
}

/// `DELETE …/taskInstances/{task_id}?map_index=`
pub(super) async fn delete(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Delete)?;
    let index = ask.query.int("map_index").unwrap_or(-1);
    ask.query.done()?;
    let map_index = i32::try_from(index).unwrap_or(i32::MIN);
    let gone = delete_some(&ask, &target, &ask.run_id(), &ask.task_id(), Some(map_index)).await?;
    if gone.is_empty() {
        return Err(missing(&ask, &target, &index.to_string()));
    }
    ok(&Value::Null)
}
