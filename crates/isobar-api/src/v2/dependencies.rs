//! Why a task instance does not start.

use isobar_auth::{Action, Resource};
use isobar_execution::waiting;
use isobar_model::{RunKey, TaskKey, TaskState};
use isobar_store::{runs, task_instances};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::stored_dag;
use super::task_instances::{missing_text, small};
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::Ask;

/// `GET …/taskInstances/{task_id}[/{map_index}]/dependencies`
pub(super) async fn dependencies(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let map_index = if ask.part("map_index").is_empty() {
        let index = ask.query.int("map_index").unwrap_or(-1);
        ask.query.done()?;
        i32::try_from(index).unwrap_or(i32::MIN)
    } else {
        small(&ask, "map_index")?
    };
    let run = RunKey {
        dag_id: target.dag_id(),
        run_id: ask.run_id(),
    };
    let key = TaskKey {
        task_id: ask.task_id(),
        map_index,
    };
    let mut tx = ask.state.store.read().await?;
    let ti = task_instances::get(&mut tx, target.scope, &run, &key).await?;
    let row = runs::get(&mut tx, target.scope, &run).await?;
    let Some((ti, row)) = ti.zip(row) else {
        let text = missing_text(
            &target.written,
            ask.part("dag_run_id"),
            ask.part("task_id"),
            &map_index.to_string(),
        );
        // A list of one, as Airflow answers it.
        return Err(ApiError::not_found(json!([text])));
    };
    let mut found = Vec::new();
    if matches!(ti.state, None | Some(TaskState::Scheduled)) {
        let bound = row.created_version_id.filter(|_| row.bundle_version.is_some());
        let dag = stored_dag::version(&ask, &mut tx, &target, bound).await?;
        let asked = waiting::Asked {
            scope: target.scope,
            dag: &dag,
            run: &row,
            ti: &ti,
            written: &target.written,
        };
        found = waiting::reasons(&mut tx, &ask.state.org, asked, Timestamp::now()).await?;
    }
    let shown: Vec<Value> = found
        .iter()
        .map(|one| json!({"name": one.name, "reason": one.reason}))
        .collect();
    ok(&json!({"dependencies": shown}))
}
