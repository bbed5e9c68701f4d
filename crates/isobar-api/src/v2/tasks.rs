//! The tasks of a Dag's latest version.

use axum::Router;
use axum::routing::get;
use isobar_auth::{Action, Resource};
use isobar_model::dag::{Param, SerializedDag, TaskIdx, TaskWeightRule};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::dag_json::time;
use super::stored_dag;
use crate::errors::{Answer, ok};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/dags/{dag_id}/tasks", get(list))
        .route("/dags/{dag_id}/tasks/{task_id}", get(get_one))
}

/// Fields of a task by which the list can be ordered.
const SORTABLE: [&str; 21] = [
    "task_id",
    "task_display_name",
    "owner",
    "start_date",
    "end_date",
    "trigger_rule",
    "depends_on_past",
    "wait_for_downstream",
    "retries",
    "queue",
    "pool",
    "pool_slots",
    "execution_timeout",
    "retry_delay",
    "retry_exponential_backoff",
    "priority_weight",
    "ui_color",
    "ui_fgcolor",
    "operator_name",
    "is_mapped",
    "doc_md",
];

async fn list(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Read)?;
    ask.query.done()?;
    let dag = {
        let mut tx = ask.state.store.read().await?;
        stored_dag::latest(&ask.state, &mut tx, &target).await?
    };
    let order = ask.query.text("order_by").unwrap_or_else(|| "task_id".to_owned());
    let key = order.trim_start_matches('-');
    if !SORTABLE.contains(&key) {
        return Err(ApiError::bad_request(format!(
            "Ordering with '{key}' is disallowed or the attribute does not exist on the model"
        )));
    }
    let mut tasks: Vec<Value> = dag.tasks().map(|idx| task(&dag, idx)).collect();
    tasks.sort_by(|a, b| compare(&a[key], &b[key]));
    if order.starts_with('-') {
        tasks.reverse();
    }
    let total = tasks.len();
    ok(&json!({"tasks": tasks, "total_entries": total}))
}

/// Nulls last, then by value.
fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => std::cmp::Ordering::Equal,
        (Value::Null, _) => std::cmp::Ordering::Greater,
        (_, Value::Null) => std::cmp::Ordering::Less,
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(std::cmp::Ordering::Equal)
        }
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    }
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Read)?;
    let dag = {
        let mut tx = ask.state.store.read().await?;
        stored_dag::latest(&ask.state, &mut tx, &target).await?
    };
    let task_id = ask.part("task_id");
    let idx = dag
        .find_task(task_id)
        .ok_or_else(|| ApiError::not_found(format!("Task with id {task_id} was not found")))?;
    ok(&task(&dag, idx))
}

/// A task as Airflow's `TaskResponse`.
pub(super) fn task(dag: &SerializedDag, idx: TaskIdx) -> Value {
    let task = dag.task(idx);
    let mut downstream: Vec<&str> = dag
        .graph()
        .downstream(idx)
        .iter()
        .map(|next| dag.graph().id(*next).as_str())
        .collect();
    downstream.sort_unstable();
    let weight_rule = match &task.weight_rule {
        TaskWeightRule::BuiltIn(rule) => rule.as_str().to_owned(),
        TaskWeightRule::Custom(class) => class.clone(),
    };
    json!({
        "task_id": task.task_id,
        "task_display_name": task.display_name(),
        "owner": task.owner,
        "start_date": time(task.start_date),
        "end_date": time(task.end_date),
        "trigger_rule": task.trigger_rule.as_str(),
        "depends_on_past": task.depends_on_past,
        "wait_for_downstream": task.wait_for_downstream,
        "retries": f64::from(task.retries),
        "queue": task.queue,
        "pool": task.pool,
        "pool_slots": f64::from(task.pool_slots),
        "execution_timeout": task.execution_timeout.map(delta),
        "retry_delay": delta(task.retry_delay),
        "retry_exponential_backoff": task.retry_exponential_backoff,
        "priority_weight": f64::from(task.priority_weight),
        "weight_rule": weight_rule,
        "ui_color": task.ui_color,
        "ui_fgcolor": task.ui_fgcolor,
        "template_fields": task.template_fields,
        "downstream_task_ids": downstream,
        "doc_md": task.doc_md,
        "operator_name": task.operator_name,
        "params": params(&task.params),
        "class_ref": {"module_path": task.task_module, "class_name": task.task_type},
        "is_mapped": task.is_mapped(),
        // Airflow 3.3.2 always answers none here; `/links` of a task instance has them.
        "extra_links": [],
    })
}

/// A duration as Airflow's `TimeDelta`.
fn delta(duration: SignedDuration) -> Value {
    let seconds = duration.as_secs();
    json!({
        "__type": "TimeDelta",
        "days": seconds.div_euclid(86_400),
        "seconds": seconds.rem_euclid(86_400),
        "microseconds": duration.subsec_micros(),
    })
}

/// A duration as ISO 8601, the way pydantic writes it.
pub(super) fn iso_duration(duration: SignedDuration) -> String {
    let total = duration.as_secs();
    let (days, rest) = (total / 86_400, total % 86_400);
    let (hours, minutes, seconds) = (rest / 3600, rest % 3600 / 60, rest % 60);
    let micros = duration.subsec_micros();
    let mut text = String::from("P");
    if days != 0 {
        text.push_str(&format!("{days}D"));
    }
    if rest != 0 || micros != 0 {
        text.push('T');
        if hours != 0 {
            text.push_str(&format!("{hours}H"));
        }
        if minutes != 0 {
            text.push_str(&format!("{minutes}M"));
        }
        if micros != 0 {
            text.push_str(&format!("{seconds}.{micros:06}S"));
        } else if seconds != 0 {
            text.push_str(&format!("{seconds}S"));
        }
    }
    if text == "P" { "PT0S".to_owned() } else { text }
}

/// Params as Airflow dumps them. A default that its own schema refuses shows as null.
pub(super) fn params(params: &[Param]) -> Value {
    params
        .iter()
        .map(|param| {
            let schema = Value::Object(param.schema.clone());
            let sound = param.schema.is_empty()
                || isobar_execution::param_schema::validator(&schema)
                    .is_ok_and(|schema| schema.is_valid(&param.default));
            let value = if sound { param.default.clone() } else { Value::Null };
            let dump = json!({
                "value": value,
                "schema": schema,
                "description": param.description,
                "source": param.source,
            });
            (param.name.clone(), dump)
        })
        .collect::<Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_pydantic_writes_them() {
        let iso = |seconds| iso_duration(SignedDuration::from_secs(seconds));
        assert_eq!(iso(3600), "PT1H");
        assert_eq!(iso(90_061), "P1DT1H1M1S");
        assert_eq!(iso(86_400), "P1D");
        assert_eq!(iso(0), "PT0S");
        assert_eq!(iso_duration(SignedDuration::from_millis(1500)), "PT1.500000S");
    }
}
