//! Dags and their versions as JSON.

use isobar_model::render_time;
use isobar_store::lists::dags::DagRow;
use isobar_store::lists::versions::VersionRow;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::names::Names;

/// An instant, or null.
pub(super) fn time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| render_time(at).into())
}

/// A Dag as Airflow's `DAGResponse`.
pub(super) fn dag(row: &DagRow, names: &Names) -> Map<String, Value> {
    let dag_id = names.write(row.team, row.dag_id.as_str());
    let shown = row.shown_name();
    let tags: Vec<Value> = row
        .tags
        .iter()
        .map(|tag| json!({"name": tag, "dag_id": dag_id, "dag_display_name": shown}))
        .collect();
    let owners: Vec<&str> = row
        .owners
        .as_deref()
        .map(|owners| owners.split(',').map(str::trim).collect())
        .unwrap_or_default();
    let allows_backfill = row
        .allowed_run_types
        .as_array()
        .is_none_or(|types| types.iter().any(|kind| kind == "backfill"));
    let Value::Object(map) = json!({
        "dag_id": dag_id,
        "dag_display_name": shown,
        "is_paused": row.is_paused,
        "is_stale": row.is_stale,
        "last_parsed_time": time(row.last_parsed),
        "last_parse_duration": row.last_parse_seconds,
        "last_expired": time(row.last_expired),
        "bundle_name": row.bundle,
        "bundle_version": row.bundle_version,
        "relative_fileloc": row.rel_path,
        "fileloc": row.fileloc,
        "description": row.description,
        "timetable_summary": row.timetable_summary.as_deref().filter(|text| *text != "None"),
        "timetable_description": row.timetable_description,
        "timetable_partitioned": row.timetable_partitioned,
        "timetable_periodic": row.timetable_periodic,
        "tags": tags,
        "max_active_tasks": row.max_active_tasks,
        "max_active_runs": row.max_active_runs,
        "max_consecutive_failed_dag_runs": row.max_consecutive_failed_runs,
        "has_task_concurrency_limits": row.has_task_concurrency_limits,
        "has_import_errors": row.has_import_errors,
        "next_dagrun_logical_date": time(row.next_logical_date),
        "next_dagrun_data_interval_start": time(row.next_interval_start),
        "next_dagrun_data_interval_end": time(row.next_interval_end),
        "next_dagrun_run_after": time(row.next_create_after),
        "allowed_run_types": row.allowed_run_types,
        "owners": owners,
        "is_backfillable": row.timetable_periodic && allows_backfill,
        "file_token": names.write_in_full(row.team, row.dag_id.as_str()),
    }) else {
        unreachable!("the literal above is an object")
    };
    map
}

/// A version as Airflow's `DagVersionResponse`.
pub(super) fn version(row: &VersionRow, names: &Names) -> Value {
    json!({
        "id": row.id,
        "version_number": row.number,
        "dag_id": names.write(row.team, row.dag_id.as_str()),
        "bundle_name": row.bundle,
        "bundle_version": row.bundle_version,
        "created_at": render_time(row.created_at),
        "dag_display_name": row.dag_display_name,
        "bundle_url": null,
    })
}
