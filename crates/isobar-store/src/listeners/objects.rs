//! Runs and task instances as listeners are given them: by the names of the columns of Airflow's own models.

use isobar_model::AirflowTime;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::runs::Run;
use crate::task_instances::TaskInstance;

fn time(at: Option<Timestamp>) -> Option<AirflowTime> {
    at.map(AirflowTime)
}

/// A run.
#[must_use]
pub fn dag_run(run: &Run) -> Value {
    json!({
        "id": run.id,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "state": run.state,
        "run_type": run.run_type,
        "triggered_by": run.triggered_by,
        "triggering_user_name": run.triggering_user,
        "conf": run.conf,
        "note": run.note,
        "logical_date": time(run.logical_date),
        "data_interval_start": time(run.interval_start),
        "data_interval_end": time(run.interval_end),
        "run_after": time(Some(run.run_after)),
        "queued_at": time(run.queued_at),
        "start_date": time(run.start_date),
        "end_date": time(run.end_date),
        "last_scheduling_decision": time(run.last_decision),
        "created_at": time(Some(run.created_at)),
        "updated_at": time(Some(run.updated_at)),
        "clear_number": run.clear_number,
        "backfill_id": run.backfill_id,
        "bundle_version": run.bundle_version,
        "created_dag_version_id": run.created_version_id.map(|id| id.to_string()),
        "partition_key": run.partition_key,
        "partition_date": time(run.partition_date),
    })
}

/// A task instance, with its run where that is known.
#[must_use]
pub fn task_instance(ti: &TaskInstance, run: Option<&Run>) -> Value {
    json!({
        "id": ti.id.to_string(),
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "task_id": ti.task_id,
        "map_index": ti.map_index,
        "state": ti.state,
        "try_number": ti.try_number,
        "max_tries": ti.max_tries,
        "start_date": time(ti.start_date),
        "end_date": time(ti.end_date),
        "duration": ti.duration,
        "scheduled_dttm": time(ti.scheduled_at),
        "queued_dttm": time(ti.queued_at),
        "last_heartbeat_at": time(ti.last_heartbeat),
        "updated_at": time(Some(ti.updated_at)),
        "hostname": ti.hostname,
        "unixname": ti.unixname,
        "pid": ti.pid,
        "pool": ti.pool,
        "pool_slots": ti.pool_slots,
        "queue": ti.queue,
        "priority_weight": ti.priority_weight,
        "operator": ti.operator,
        "custom_operator_name": ti.custom_operator_name,
        "task_display_name": ti.display_name,
        "executor": ti.executor,
        "dag_version_id": ti.dag_version_id.map(|id| id.to_string()),
        "rendered_map_index": ti.rendered_map_index,
        "note": ti.note,
        "trigger_id": ti.trigger_id,
        "trigger_timeout": time(ti.trigger_timeout),
        "external_executor_id": ti.external_executor_id,
        "dag_run": run.map(dag_run),
    })
}
