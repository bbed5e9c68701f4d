//! The state of a task instance: list, get, set, change, delete.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::get;
use isobar_auth::{Action, Resource};
use isobar_model::{RunKey, TaskKey, render_time};
use isobar_store::lists::stores::{self as list, StoredValue};
use isobar_store::stores::{self, TaskValue};
use isobar_store::{Tx, audit};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::dag_json::time;
use super::stored_value::{self, RETENTION_DAYS};
use crate::errors::{Answer, no_content, ok, with_status};
use crate::extract::{Ask, Fields, Target};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    const ALL: &str = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/state-store";
    Router::new().route(ALL, get(list_all).delete(clear)).route(
        &format!("{ALL}/{{*key}}"),
        get(get_one).put(set).patch(change).delete(delete),
    )
}

fn entry(row: &StoredValue) -> Value {
    json!({
        "key": row.key,
        "value": row.value,
        "updated_at": render_time(row.updated_at),
        "expires_at": time(row.expires_at),
    })
}

/// The task instance that a request speaks of.
struct Place {
    target: Target,
    run: RunKey,
    task: TaskKey,
}

impl Place {
    fn of(ask: &mut Ask, action: Action) -> Result<Self, ApiError> {
        let target = ask.dag(Resource::TaskInstance, action)?;
        let map_index = ask.query.index("map_index").unwrap_or(-1);
        Ok(Self {
            run: RunKey {
                dag_id: target.dag_id(),
                run_id: ask.run_id(),
            },
            task: TaskKey {
                task_id: ask.task_id(),
                map_index: i32::try_from(map_index).unwrap_or(i32::MAX),
            },
            target,
        })
    }

    async fn must_exist(&self, tx: &mut Tx, of_all: bool) -> Result<(), ApiError> {
        let index = (!of_all).then_some(i64::from(self.task.map_index));
        if list::has_instance(tx, self.target.scope, &self.run, &self.task.task_id, index).await? {
            return Ok(());
        }
        let addressed = if of_all {
            "all_map_indices=True".to_owned()
        } else {
            format!("map_index={}", self.task.map_index)
        };
        Err(ApiError::not_found(format!(
            "Task instance not found for dag_id='{}', run_id='{}', task_id='{}', {addressed}",
            self.target.written, self.run.run_id, self.task.task_id
        )))
    }

    /// The audit record: which key, never the value.
    async fn note(&self, ask: &Ask, tx: &mut Tx, event: &'static str, key: Option<&str>) -> Result<(), ApiError> {
        let record = audit::Record::new(event, ask.caller.name())
            .dag(&self.run.dag_id)
            .run(&self.run.run_id)
            .task(&self.task.task_id, Some(self.task.map_index))
            .extra(json!({"key": key}));
        audit::write(tx, self.target.scope, &[record]);
        Ok(())
    }
}

fn missing(key: &str) -> ApiError {
    ApiError::not_found(format!("Task state store key '{key}' not found"))
}

async fn list_all(mut ask: Ask) -> Answer {
    let place = Place::of(&mut ask, Action::Read)?;
    let page = ask.page();
    ask.query.done()?;
    let mut tx = ask.state.store.read().await?;
    let found = list::of_task_instance(&mut tx, place.target.scope, &place.run, &place.task, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(entry).collect();
    ok(&json!({"task_state_store": rows, "total_entries": found.total}))
}

async fn get_one(mut ask: Ask) -> Answer {
    let place = Place::of(&mut ask, Action::Read)?;
    ask.query.done()?;
    let key = ask.part("key");
    let mut tx = ask.state.store.read().await?;
    let row = list::task_value(&mut tx, place.target.scope, &place.run, &place.task, key).await?;
    ok(&entry(&row.ok_or_else(|| missing(key))?))
}

/// When a value expires: as the body says, never where it says null, else after the days that Airflow's configuration gives.
fn expiry(fields: &mut Fields, now: Timestamp) -> Option<Timestamp> {
    match fields.any("expires_at") {
        Some(Value::Null) => None,
        Some(value) if value != "default" => fields.time("expires_at", true),
        _ => now.checked_add(SignedDuration::from_hours(24 * RETENTION_DAYS)).ok(),
    }
}

async fn set(mut ask: Ask, body: Bytes) -> Answer {
    let place = Place::of(&mut ask, Action::Edit)?;
    ask.query.done()?;
    let now = Timestamp::now();
    let mut fields = Fields::of_body(&body)?;
    let value = stored_value::value(&mut fields);
    let expires_at = expiry(&mut fields, now);
    fields.done()?;
    let key = ask.part("key");
    let mut tx = ask.state.store.begin().await?;
    place.must_exist(&mut tx, false).await?;
    let item = TaskValue {
        key,
        value: &value,
        expires_at,
    };
    stores::set_task_value(&mut tx, place.target.scope, &place.run, &place.task, item, now).await?;
    place.note(&ask, &mut tx, "set_task_state_store", Some(key)).await?;
    tx.commit().await?;
    no_content()
}

async fn change(mut ask: Ask, body: Bytes) -> Answer {
    let place = Place::of(&mut ask, Action::Edit)?;
    ask.query.done()?;
    let mut fields = Fields::of_body(&body)?;
    let value = stored_value::value(&mut fields);
    fields.done()?;
    let key = ask.part("key");
    let mut tx = ask.state.store.begin().await?;
    place.must_exist(&mut tx, false).await?;
    let now = Timestamp::now();
    let there =
        stores::replace_task_value(&mut tx, place.target.scope, &place.run, &place.task, key, &value, now).await?;
    if !there {
        return Err(missing(key));
    }
    place.note(&ask, &mut tx, "patch_task_state_store", Some(key)).await?;
    tx.commit().await?;
    with_status(StatusCode::OK, &Value::Null)
}

async fn delete(mut ask: Ask) -> Answer {
    let place = Place::of(&mut ask, Action::Delete)?;
    ask.query.done()?;
    let key = ask.part("key");
    let mut tx = ask.state.store.begin().await?;
    place.must_exist(&mut tx, false).await?;
    stores::delete_task_values(&mut tx, place.target.scope, &place.run, &place.task, Some(key)).await?;
    place.note(&ask, &mut tx, "delete_task_state_store", Some(key)).await?;
    tx.commit().await?;
    no_content()
}

async fn clear(mut ask: Ask) -> Answer {
    let place = Place::of(&mut ask, Action::Delete)?;
    let of_all = ask.query.flag("all_map_indices").unwrap_or(false);
    ask.query.done()?;
    let mut tx = ask.state.store.begin().await?;
    place.must_exist(&mut tx, of_all).await?;
    if of_all {
        stores::clear_task(&mut tx, place.target.scope, &place.run, &place.task.task_id).await?;
    } else {
        stores::delete_task_values(&mut tx, place.target.scope, &place.run, &place.task, None).await?;
    }
    place.note(&ask, &mut tx, "clear_task_state_store", None).await?;
    tx.commit().await?;
    no_content()
}
