//! XComs: list, get, create, change, delete.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::get;
use isobar_auth::{Action, ReadScope, Resource};
use isobar_model::render_time;
use isobar_store::lists::runs;
use isobar_store::lists::xcoms::{self, XComFilter, XComRow};
use isobar_store::xcoms::{self as store, XComPlace};
use isobar_store::{Tx, audit};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::dag_json::time;
use super::stored_dag;
use super::task_instance_json::python_text;
use crate::errors::{Answer, no_content, ok, with_status};
use crate::extract::{Ask, Fields, Target};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    const ALL: &str = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/xcomEntries";
    Router::new().route(ALL, get(list).post(create)).route(
        &format!("{ALL}/{{*xcom_key}}"),
        get(get_one).patch(change).delete(delete),
    )
}

fn entry(ask: &Ask, row: &XComRow) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "key": row.key,
        "timestamp": render_time(row.at),
        "logical_date": time(row.logical_date),
        "map_index": row.map_index,
        "task_id": row.task_id,
        "dag_id": ask.write(row.team, row.dag_id.as_str()),
        "run_id": row.run_id,
        "dag_display_name": row.dag_display_name,
        "task_display_name": row.task_display_name,
        "run_after": render_time(row.run_after),
    }) else {
        unreachable!("the literal above is an object")
    };
    map
}

fn with_value(ask: &Ask, row: &XComRow, value: Value) -> Value {
    let mut map = entry(ask, row);
    map.insert("value".to_owned(), value);
    map.into()
}

async fn list(mut ask: Ask) -> Answer {
    let target = match ask.part("dag_id") {
        "~" => None,
        _ => Some(ask.dag(Resource::XCom, Action::Read)?),
    };
    let scope: ReadScope = match &target {
        Some(target) => target.scope.into(),
        None => ask.read(Resource::XCom)?,
    };
    let page = ask.page();
    let named = |text: &str| (text != "~").then(|| text.to_owned());
    let (run, task) = (named(ask.part("dag_run_id")), named(ask.part("task_id")));
    let query = &mut ask.query;
    let filter = XComFilter {
        dag_id: target.as_ref().map(Target::dag_id),
        run_id: run.map(Into::into),
        task_id: task.map(Into::into),
        map_index: query.index("map_index"),
        key: query.text("xcom_key"),
        key_match: query.matching("xcom_key"),
        dag_display_name: query.matching("dag_display_name"),
        run_id_match: query.matching("run_id"),
        task_id_match: query.matching("task_id"),
        map_index_filter: query.int("map_index_filter"),
        logical_date: query.times("logical_date"),
        run_after: query.times("run_after"),
    };
    query.done()?;
    let order = xcoms::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = xcoms::list(&mut tx, &scope, &filter, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| entry(&ask, row).into()).collect();
    ok(&json!({"xcom_entries": rows, "total_entries": found.total}))
}

async fn find(ask: &Ask, tx: &mut Tx, target: &Target, map_index: i64, key: &str) -> Result<Option<XComRow>, ApiError> {
    Ok(xcoms::get(
        tx,
        target.scope,
        &target.dag_id(),
        &ask.run_id(),
        &ask.task_id(),
        map_index,
        key,
    )
    .await?)
}

async fn get_one(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::XCom, Action::Read)?;
    let map_index = ask.query.index("map_index").unwrap_or(-1);
    let deserialize = ask.query.flag("deserialize").unwrap_or(false);
    let stringify = ask.query.flag("stringify").unwrap_or(false);
    ask.query.done()?;
    let key = ask.part("xcom_key").to_owned();
    let mut tx = ask.state.store.read().await?;
    let row = find(&ask, &mut tx, &target, map_index, &key)
        .await?
        .ok_or_else(|| ApiError::not_found(format!("XCom entry with key: `{key}` not found")))?;
    let value = if deserialize {
        readable(&row.value)
    } else {
        row.value.clone()
    };
    let value = match value {
        value if !stringify => value,
        Value::Null => Value::Null,
        Value::String(text) => text.into(),
        other => python_text(&other).into(),
    };
    ok(&with_value(&ask, &row, value))
}

/// A value for people: what Airflow's encoding wraps is unwrapped, a text that holds JSON is read.
pub(super) fn readable(value: &Value) -> Value {
    let parsed = value
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_else(|| value.clone());
    match parsed {
        Value::Object(map) => match (map.get("__classname__"), map.get("__data__")) {
            (Some(class), Some(data)) => {
                let class = class.as_str().unwrap_or_default();
                let version = map.get("__version__").and_then(Value::as_i64).unwrap_or(0);
                match data {
                    Value::Array(items)
                        if ["builtins.tuple", "builtins.set", "builtins.frozenset"].contains(&class) =>
                    {
                        items.iter().map(readable).collect()
                    }
                    data => format!("{class}@version={version}({})", arguments(data)).into(),
                }
            }
            _ => Value::Object(map.iter().map(|(key, value)| (key.clone(), readable(value))).collect()),
        },
        Value::Array(items) => items.iter().map(readable).collect(),
        other => other,
    }
}

fn arguments(data: &Value) -> String {
    match data {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| format!("{key}={}", display(value)))
            .collect::<Vec<_>>()
            .join(","),
        other => display(other),
    }
}

fn display(value: &Value) -> String {
    match readable(value) {
        Value::String(text) => text,
        other => python_text(&other),
    }
}

/// Keys of Airflow's encoding, which nobody may smuggle in.
const RESERVED: [&str; 5] = ["__classname__", "__data__", "__type", "__var", "__version__"];

/// The first place where a value holds a reserved key.
fn reserved(value: &Value, place: &str) -> Option<String> {
    match value {
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => reserved(&inner, place),
            _ => None,
        },
        Value::Object(map) => {
            let found: Vec<&str> = RESERVED.iter().copied().filter(|key| map.contains_key(*key)).collect();
            if !found.is_empty() {
                return Some(format!(
                    "XCom {place} contains reserved serialization keys: {}. These keys are reserved for internal use.",
                    found.join(", ")
                ));
            }
            map.iter()
                .find_map(|(key, value)| reserved(value, &format!("{place}.{key}")))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| reserved(item, &format!("{place}[{index}]"))),
        _ => None,
    }
}

struct Written {
    key: String,
    value: Value,
    map_index: i64,
}

fn read_body(body: &Bytes, with_key: bool) -> Result<Written, ApiError> {
    let mut fields = Fields::of_body(body)?;
    let key = if with_key {
        fields.required_text("key", None)
    } else {
        String::new()
    };
    fields.require("value");
    let value = fields.any("value").unwrap_or(Value::Null);
    if let Some(problem) = reserved(&value, "value") {
        fields.refuse(Some("value"), &problem);
    }
    let map_index = fields.int("map_index").unwrap_or(-1);
    fields.done()?;
    Ok(Written { key, value, map_index })
}

async fn put(ask: &Ask, tx: &mut Tx, target: &Target, key: &str, written: &Written) -> Result<(), ApiError> {
    let (dag_id, run_id, task_id) = (target.dag_id(), ask.run_id(), ask.task_id());
    let place = XComPlace {
        dag_id: dag_id.as_str(),
        run_id: run_id.as_str(),
        task_id: task_id.as_str(),
        key,
    };
    let map_index = i32::try_from(written.map_index).unwrap_or(-1);
    store::set(
        tx,
        target.scope,
        place,
        map_index,
        &written.value,
        false,
        Timestamp::now(),
    )
    .await?;
    Ok(())
}

fn record(ask: &Ask, target: &Target, event: &'static str, key: &str) -> audit::Record {
    audit::Record::new(event, ask.caller.name())
        .dag(&target.dag_id())
        .run(&ask.run_id())
        .task(&ask.task_id(), None)
        .extra(json!({"key": key}))
}

async fn create(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::XCom, Action::Create)?;
    let written = read_body(&body, true)?;
    let (run_id, task_id) = (ask.run_id(), ask.task_id());
    {
        let mut tx = ask.state.store.read().await?;
        let run = runs::get(&mut tx, target.scope, &target.dag_id(), &run_id).await?;
        let dag = stored_dag::for_run(&ask, &mut tx, &target, run.as_ref()).await?;
        if dag.find_task(task_id.as_str()).is_none() {
            return Err(ApiError::not_found(format!(
                "Task with ID: `{task_id}` not found in dag: `{}`",
                target.written
            )));
        }
        if run.is_none() {
            return Err(ApiError::not_found(format!(
                "Dag Run with ID: `{run_id}` not found for dag: `{}`",
                target.written
            )));
        }
    }
    let mut tx = ask.state.store.begin().await?;
    if find(&ask, &mut tx, &target, written.map_index, &written.key)
        .await?
        .is_some()
    {
        return Err(ApiError::conflict(format!(
            "The XCom with key: `{}` with mentioned task instance already exists.",
            written.key
        )));
    }
    put(&ask, &mut tx, &target, &written.key, &written).await?;
    audit::write(
        &mut tx,
        target.scope,
        &[record(&ask, &target, "create_xcom_entry", &written.key)],
    );
    let row = find(&ask, &mut tx, &target, written.map_index, &written.key).await?;
    tx.commit().await?;
    let row = row.ok_or_else(|| gone(&written.key))?;
    with_status(StatusCode::CREATED, &with_value(&ask, &row, row.value.clone()))
}

fn gone(key: &str) -> ApiError {
    ApiError::not_found(format!(
        "The XCom with key: `{key}` with mentioned task instance doesn't exist."
    ))
}

async fn change(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::XCom, Action::Edit)?;
    let written = read_body(&body, false)?;
    let key = ask.part("xcom_key").to_owned();
    let mut tx = ask.state.store.begin().await?;
    find(&ask, &mut tx, &target, written.map_index, &key)
        .await?
        .ok_or_else(|| gone(&key))?;
    put(&ask, &mut tx, &target, &key, &written).await?;
    audit::write(
        &mut tx,
        target.scope,
        &[record(&ask, &target, "update_xcom_entry", &key)],
    );
    let row = find(&ask, &mut tx, &target, written.map_index, &key)
        .await?
        .ok_or_else(|| gone(&key))?;
    tx.commit().await?;
    ok(&with_value(&ask, &row, row.value.clone()))
}

async fn delete(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::XCom, Action::Delete)?;
    let map_index = ask.query.index("map_index").unwrap_or(-1);
    ask.query.done()?;
    let key = ask.part("xcom_key").to_owned();
    let (dag_id, run_id, task_id) = (target.dag_id(), ask.run_id(), ask.task_id());
    let mut tx = ask.state.store.begin().await?;
    find(&ask, &mut tx, &target, map_index, &key)
        .await?
        .ok_or_else(|| gone(&key))?;
    let place = XComPlace {
        dag_id: dag_id.as_str(),
        run_id: run_id.as_str(),
        task_id: task_id.as_str(),
        key: &key,
    };
    store::delete(&mut tx, target.scope, place, i32::try_from(map_index).unwrap_or(-1)).await?;
    audit::write(
        &mut tx,
        target.scope,
        &[record(&ask, &target, "delete_xcom_entry", &key)],
    );
    tx.commit().await?;
    no_content()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_keys_are_found_at_any_depth_and_inside_texts() {
        assert!(reserved(&json!({"a": [{"__type": 1}]}), "value").is_some_and(|text| text.contains("value.a[0]")));
        assert!(reserved(&json!("{\"__classname__\": \"x\"}"), "value").is_some());
        assert!(reserved(&json!({"a": "b"}), "value").is_none());
    }
}
