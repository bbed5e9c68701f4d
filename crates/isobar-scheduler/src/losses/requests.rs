//! What a parse child is asked to do for a task whose own process cannot: its callback, its e-mail.

use isobar_model::{AirflowTime, TaskState};
use isobar_store::loading::ScheduledDag;
use isobar_store::runs::Run;
use isobar_store::task_instances::TaskInstance;
use jiff::Timestamp;
use serde_json::{Value, json};

/// To run a task's own callback.
pub(super) fn task_callback(ti: &TaskInstance, run: &Run, dag: &ScheduledDag, state: TaskState, reason: &str) -> Value {
    let mut request = about(ti, run, dag, state, reason);
    request["type"] = "TaskCallbackRequest".into();
    request["task_callback_type"] = state.as_str().into();
    request
}

/// To send the e-mail that a task's own process would have sent.
pub(super) fn email(ti: &TaskInstance, run: &Run, dag: &ScheduledDag, state: TaskState, reason: &str) -> Value {
    let mut request = about(ti, run, dag, state, reason);
    request["type"] = "EmailRequest".into();
    request["email_type"] = if state == TaskState::UpForRetry {
        "retry"
    } else {
        "failure"
    }
    .into();
    request
}

fn about(ti: &TaskInstance, run: &Run, dag: &ScheduledDag, state: TaskState, reason: &str) -> Value {
    json!({
        "filepath": dag.rel_path,
        "bundle_name": dag.bundle,
        "bundle_version": run.bundle_version,
        "msg": reason,
        "ti": instance_json(ti),
        "context_from_server": {
            "dag_run": run_json(run),
            "task_reschedule_count": 0,
            "max_tries": ti.max_tries,
            "variables": [],
            "connections": [],
            "xcom_keys_to_clear": [],
            "should_retry": state == TaskState::UpForRetry,
        },
    })
}

/// A task instance as the Task SDK reads it.
pub(crate) fn instance_json(ti: &TaskInstance) -> Value {
    json!({
        "id": ti.id.to_string(),
        "task_id": ti.task_id,
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "try_number": ti.try_number,
        "map_index": ti.map_index,
        "hostname": ti.hostname,
        "dag_version_id": ti.dag_version_id.map(|id| id.to_string()),
        "context_carrier": null,
    })
}

/// A run as the Task SDK reads it.
pub(crate) fn run_json(run: &Run) -> Value {
    let time = |at: Option<Timestamp>| at.map(AirflowTime);
    json!({
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "logical_date": time(run.logical_date),
        "data_interval_start": time(run.interval_start),
        "data_interval_end": time(run.interval_end),
        "run_after": AirflowTime(run.run_after),
        "start_date": AirflowTime(run.start_date.unwrap_or(run.run_after)),
        "end_date": time(run.end_date),
        "clear_number": run.clear_number,
        "run_type": run.run_type,
        "state": run.state,
        "conf": run.conf,
        "triggering_user_name": run.triggering_user,
        "consumed_asset_events": [],
        "partition_key": run.partition_key,
        "note": run.note,
    })
}
