//! Task instances as JSON.

use isobar_model::render_time;
use isobar_store::lists::task_instances::InstanceRow;
use isobar_store::triggers::{ShownTrigger, ShownTriggerer};
use serde_json::{Map, Value, json};

use super::dag_json::{time, version};
use crate::names::Names;

/// A task instance as Airflow's `TaskInstanceResponse`.
pub(super) fn instance(row: &InstanceRow, names: &Names) -> Value {
    json!({
        "id": row.id,
        "task_id": row.task_id,
        "dag_id": names.write(row.team, row.dag_id.as_str()),
        "dag_run_id": row.run_id,
        "map_index": row.map_index,
        "logical_date": time(row.logical_date),
        "run_after": render_time(row.run_after),
        "start_date": time(row.start_date),
        "end_date": time(row.end_date),
        "duration": row.duration,
        "state": row.state,
        "try_number": row.try_number,
        "max_tries": row.max_tries,
        "task_display_name": row.shown_name(),
        "dag_display_name": row.dag_display_name,
        "hostname": row.hostname.as_deref().unwrap_or(""),
        "unixname": row.unixname,
        "pool": row.pool,
        "pool_slots": row.pool_slots,
        "queue": row.queue,
        "priority_weight": row.priority_weight,
        "operator": row.operator,
        "operator_name": row.custom_operator_name.as_ref().or(row.operator.as_ref()),
        "queued_when": time(row.queued_at),
        "scheduled_when": time(row.scheduled_at),
        "pid": row.pid,
        "executor": row.executor,
        "executor_config": executor_config(&row.executor_config),
        "note": row.note,
        "rendered_map_index": row.shown_map_index(),
        "rendered_fields": if row.rendered_fields.is_null() { Value::Object(Map::new()) } else { row.rendered_fields.clone() },
        "trigger": row.trigger.as_ref().map(trigger),
        "triggerer_job": row.trigger.as_ref().and_then(|trigger| trigger.triggerer.as_ref()).map(triggerer),
        "dag_version": row.version.as_ref().map(|one| version(one, names)),
    })
}

/// A trigger as Airflow's `TriggerResponse`. Its arguments may hold secrets and are never shown, there as here.
fn trigger(trigger: &ShownTrigger) -> Value {
    json!({
        "id": trigger.id,
        "classpath": trigger.classpath,
        "kwargs": "{}",
        "created_date": render_time(trigger.created_at),
        "queue": trigger.queue,
        "triggerer_id": trigger.triggerer_id,
    })
}

/// A triggerer as Airflow's `JobResponse`.
fn triggerer(job: &ShownTriggerer) -> Value {
    json!({
        "id": job.id,
        "dag_id": null,
        "state": if job.ended_at.is_none() { "running" } else { "success" },
        "job_type": "TriggererJob",
        "start_date": render_time(job.started_at),
        "end_date": time(job.ended_at),
        "latest_heartbeat": render_time(job.heartbeat),
        "executor_class": null,
        "hostname": job.hostname,
        "unixname": null,
        "dag_display_name": null,
    })
}

/// A try as Airflow's `TaskInstanceHistoryResponse`.
pub(super) fn one_try(row: &InstanceRow, names: &Names) -> Value {
    json!({
        "task_id": row.task_id,
        "dag_id": names.write(row.team, row.dag_id.as_str()),
        "dag_run_id": row.run_id,
        "map_index": row.map_index,
        "start_date": time(row.start_date),
        "end_date": time(row.end_date),
        "duration": row.duration,
        "state": row.state,
        "try_number": row.try_number,
        "max_tries": row.max_tries,
        "task_display_name": row.shown_name(),
        "dag_display_name": row.dag_display_name,
        "hostname": row.hostname.as_deref().unwrap_or(""),
        "unixname": row.unixname,
        "pool": row.pool,
        "pool_slots": row.pool_slots,
        "queue": row.queue,
        "priority_weight": row.priority_weight,
        "operator": row.operator,
        "operator_name": row.custom_operator_name.as_ref().or(row.operator.as_ref()),
        "queued_when": time(row.queued_at),
        "scheduled_when": time(row.scheduled_at),
        "pid": row.pid,
        "executor": row.executor,
        "executor_config": executor_config(&row.executor_config),
        "dag_version": row.version.as_ref().map(|one| version(one, names)),
    })
}

/// Airflow shows the Python text of a dict here.
fn executor_config(value: &Value) -> String {
    match value {
        Value::Null => "{}".to_owned(),
        other => python_text(other),
    }
}

/// JSON as Python's `str()` writes the same value.
pub(super) fn python_text(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.contains('\'') && !text.contains('"') => format!("\"{text}\""),
        Value::String(text) => format!(
            "'{}'",
            text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n")
        ),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(python_text).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("'{key}': {}", python_text(value)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
    }
}
