//! Runs as JSON.

use isobar_model::render_time;
use isobar_store::lists::runs::RunRow;
use serde_json::{Value, json};

use super::dag_json::{time, version};
use crate::names::Names;

/// A run as Airflow's `DAGRunResponse`.
pub(super) fn run(row: &RunRow, names: &Names) -> Value {
    let versions: Vec<Value> = row.versions.iter().map(|one| version(one, names)).collect();
    json!({
        "dag_run_id": row.run_id,
        "dag_id": names.write(row.team, row.dag_id.as_str()),
        "logical_date": time(row.logical_date),
        "queued_at": time(row.queued_at),
        "start_date": time(row.start_date),
        "end_date": time(row.end_date),
        "duration": row.duration(),
        "data_interval_start": time(row.interval_start),
        "data_interval_end": time(row.interval_end),
        "run_after": render_time(row.run_after),
        "last_scheduling_decision": time(row.last_decision),
        "run_type": row.run_type,
        "state": row.state,
        "triggered_by": row.triggered_by,
        "triggering_user_name": row.triggering_user,
        "conf": row.conf,
        "note": row.note,
        "dag_versions": versions,
        "bundle_version": row.bundle_version,
        "dag_display_name": row.dag_display_name,
        "partition_key": row.partition_key,
        "partition_date": time(row.partition_date),
    })
}
