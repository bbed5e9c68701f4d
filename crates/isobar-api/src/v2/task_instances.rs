//! Task instances: list, get, mapped ones, tries.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use isobar_auth::{Action, ReadScope, Resource};
use isobar_model::TaskState;
use isobar_store::lists::task_instances::{self as instances, InstanceFilter, InstanceRow};
use isobar_store::lists::{Cursor, Page, cursor, runs, tries};
use serde_json::{Value, json};

use super::runs::{must_be_tilde, named_dags};
use super::task_instance_json::{instance, one_try};
use super::{
    clear, dependencies, stored_dag, task_instance_delete as single, task_instance_patch as patch,
    task_instances_bulk as bulk,
};
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields, Target};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    const ALL: &str = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances";
    let at = |rest: &str| format!("{ALL}{rest}");
    Router::new()
        .route(ALL, get(list).patch(bulk::patch))
        .route(&at("/list"), post(batch))
        .route(&at("/{task_id}"), get(get_one).patch(patch::one).delete(single::delete))
        .route(&at("/{task_id}/dependencies"), get(dependencies::dependencies))
        .route(
            &at("/{task_id}/{map_index}/dependencies"),
            get(dependencies::dependencies),
        )
        .route(&at("/{task_id}/dry_run"), axum::routing::patch(patch::dry_run))
        .route(&at("/{task_id}/listMapped"), get(mapped))
        .route(&at("/{task_id}/tries"), get(all_tries))
        .route(&at("/{task_id}/tries/{task_try_number}"), get(get_try))
        .route(&at("/{task_id}/{map_index}"), get(get_mapped).patch(patch::one))
        .route(
            &at("/{task_id}/{map_index}/dry_run"),
            axum::routing::patch(patch::dry_run),
        )
        .route(&at("/{task_id}/{map_index}/tries"), get(all_tries))
        .route(&at("/{task_id}/{map_index}/tries/{task_try_number}"), get(get_try))
        .route(
            "/dags/{dag_id}/dagRuns/{dag_run_id}/taskGroupInstances/{group_id}",
            axum::routing::patch(patch::group),
        )
        .route(
            "/dags/{dag_id}/dagRuns/{dag_run_id}/taskGroupInstances/{group_id}/dry_run",
            axum::routing::patch(patch::group_dry_run),
        )
        .route("/dags/{dag_id}/clearTaskInstances", post(clear::task_instances))
}

pub(super) const STATES: [&str; 13] = [
    "removed",
    "scheduled",
    "queued",
    "running",
    "success",
    "restarting",
    "failed",
    "up_for_retry",
    "up_for_reschedule",
    "upstream_failed",
    "skipped",
    "deferred",
    "awaiting_input",
];

pub(super) fn states(texts: &[String]) -> Result<Vec<Option<TaskState>>, ApiError> {
    texts
        .iter()
        .map(|text| match text.as_str() {
            "none" | "no_status" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::new(
                    axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                    format!("Invalid value for state. Valid values are {}", STATES.join(", ")),
                )
            }),
        })
        .collect()
}

/// The filters that all lists of task instances share.
fn filter(ask: &mut Ask) -> Result<InstanceFilter, ApiError> {
    let query = &mut ask.query;
    let mut filter = InstanceFilter {
        run_after: query.times("run_after"),
        logical_date: query.times("logical_date"),
        start_date: query.times("start_date"),
        end_date: query.times("end_date"),
        updated_at: query.times("updated_at"),
        duration: query.reals("duration"),
        pools: query.texts("pool"),
        pool_match: query.matching("pool_name"),
        queues: query.texts("queue"),
        queue_match: query.matching("queue_name"),
        executors: query.texts("executor"),
        versions: query.ints("version_number"),
        try_numbers: query.ints("try_number"),
        operators: query.texts("operator"),
        operator_match: query.matching("operator_name"),
        map_indices: query.ints("map_index"),
        rendered_map_index: query.matching("rendered_map_index"),
        ..InstanceFilter::default()
    };
    let texts = query.texts("state");
    query.done()?;
    filter.states = states(&texts)?;
    Ok(filter)
}

async fn list(mut ask: Ask) -> Answer {
    let target = match ask.part("dag_id") {
        "~" => None,
        _ => Some(ask.dag(Resource::TaskInstance, Action::Read)?),
    };
    let scope: ReadScope = match &target {
        Some(target) => target.scope.into(),
        None => ask.read(Resource::TaskInstance)?,
    };
    let page = ask.page();
    let mut filter = filter(&mut ask)?;
    let query = &ask.query;
    filter.task_id = query.text("task_id").filter(|text| !text.is_empty()).map(Into::into);
    filter.display_name = query.matching("task_display_name");
    filter.dag_id_match = query.matching("dag_id");
    filter.run_id_match = query.matching("run_id");
    let mut tx = ask.state.store.read().await?;
    let mut run = None;
    if ask.part("dag_run_id") != "~" {
        let Some(target) = &target else {
            return Err(ApiError::bad_request("dag_id is required when dag_run_id is specified"));
        };
        run = runs::get(&mut tx, target.scope, &target.dag_id(), &ask.run_id()).await?;
        if run.is_none() {
            return Err(ApiError::not_found(format!(
                "DagRun with dag_id: `{}` and run_id: `{}` was not found",
                target.written,
                ask.part("dag_run_id")
            )));
        }
        filter.run_id = Some(ask.run_id());
    }
    if let Some(target) = &target {
        let group = ask.query.text("task_group_id");
        // Airflow looks for the Dag itself only where no run was named.
        if run.is_none() || group.is_some() {
            let dag = stored_dag::for_run(&ask, &mut tx, target, run.as_ref()).await?;
            if let Some(group) = group {
                let found = dag.groups().find(&group).ok_or_else(|| {
                    ApiError::not_found(json!({
                        "reason": "not_found",
                        "message": format!("Task group {group} not found"),
                    }))
                })?;
                let tasks = dag.groups().tasks_inside(found);
                filter.task_ids = Some(tasks.iter().map(|task| dag.graph().id(*task).to_string()).collect());
            }
        }
        filter.dag_id = Some(target.dag_id());
    }
    let order = instances::ORDER.order(&ask.query.order_by())?;
    if let Some(text) = ask.query.text("cursor") {
        let at = (!text.is_empty()).then(|| Cursor::decode(&text, &order)).transpose()?;
        let found = instances::list_from(&mut tx, &scope, &filter, &order, page.limit, at.as_ref()).await?;
        return ok(&json!({
            "task_instances": all(&ask, &found.rows),
            "total_entries": found.total,
            "total_entries_limit": cursor::COUNTED,
            "next_cursor": found.next.map(|cursor| cursor.encode()),
            "previous_cursor": found.previous.map(|cursor| cursor.encode()),
        }));
    }
    let found = instances::list(&mut tx, &scope, &filter, &order, page).await?;
    ok(&collection(&ask, &found.rows, found.total))
}

fn all(ask: &Ask, rows: &[InstanceRow]) -> Vec<Value> {
    rows.iter().map(|row| instance(row, &ask.names)).collect()
}

/// A page by count.
pub(super) fn collection(ask: &Ask, rows: &[InstanceRow], total: i64) -> Value {
    json!({
        "task_instances": all(ask, rows),
        "total_entries": total,
        "total_entries_limit": null,
        "next_cursor": null,
        "previous_cursor": null,
    })
}

/// All of some rows.
pub(super) fn whole(ask: &Ask, rows: &[InstanceRow]) -> Value {
    collection(ask, rows, i64::try_from(rows.len()).unwrap_or(i64::MAX))
}

async fn batch(ask: Ask, body: Bytes) -> Answer {
    let scope = ask.read(Resource::TaskInstance)?;
    must_be_tilde(&ask, &["dag_id", "dag_run_id"])?;
    let mut fields = Fields::of_body(&body)?;
    let filter = InstanceFilter {
        dags: named_dags(&ask, fields.texts("dag_ids")),
        run_ids: fields.texts("dag_run_ids").filter(|ids| !ids.is_empty()),
        task_ids: fields.texts("task_ids").filter(|ids| !ids.is_empty()),
        states: fields.words("state", &STATES),
        run_after: fields.times(["run_after_gte", "run_after_gt", "run_after_lte", "run_after_lt"]),
        logical_date: fields.times([
            "logical_date_gte",
            "logical_date_gt",
            "logical_date_lte",
            "logical_date_lt",
        ]),
        start_date: fields.times(["start_date_gte", "start_date_gt", "start_date_lte", "start_date_lt"]),
        end_date: fields.times(["end_date_gte", "end_date_gt", "end_date_lte", "end_date_lt"]),
        duration: fields.reals(["duration_gte", "duration_gt", "duration_lte", "duration_lt"]),
        pools: fields.texts("pool").unwrap_or_default(),
        queues: fields.texts("queue").unwrap_or_default(),
        executors: fields.texts("executor").unwrap_or_default(),
        ..InstanceFilter::default()
    };
    let offset = fields.natural("page_offset", 0);
    let limit = fields.natural("page_limit", 100);
    let order = fields.text("order_by", None);
    fields.done()?;
    let order = instances::BATCH_ORDER.order(&order.into_iter().collect::<Vec<_>>())?;
    let page = Page {
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        offset: u64::try_from(offset).unwrap_or(0),
    };
    let mut tx = ask.state.store.read().await?;
    let found = instances::list(&mut tx, &scope, &filter, &order, page).await?;
    ok(&collection(&ask, &found.rows, found.total))
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let mut tx = ask.state.store.read().await?;
    let (dag_id, run_id, task_id) = (target.dag_id(), ask.run_id(), ask.task_id());
    let rows = instances::of_task(&mut tx, target.scope, &dag_id, &run_id, &task_id, None).await?;
    match rows.first() {
        None => Err(ApiError::not_found(format!(
            "The Task Instance with dag_id: `{}`, run_id: `{run_id}` and task_id: `{task_id}` was not found",
            target.written
        ))),
        Some(row) if row.map_index != -1 => Err(ApiError::not_found(
            "Task instance is mapped, add the map_index value to the URL",
        )),
        Some(row) => ok(&instance(row, &ask.names)),
    }
}

/// A number of the path that names a map index or a try.
pub(super) fn small(ask: &Ask, name: &'static str) -> Result<i32, ApiError> {
    Ok(i32::try_from(ask.number(name)?).unwrap_or(i32::MIN))
}

async fn get_mapped(ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let map_index = small(&ask, "map_index")?;
    let mut tx = ask.state.store.read().await?;
    let (dag_id, run_id, task_id) = (target.dag_id(), ask.run_id(), ask.task_id());
    let rows = instances::of_task(&mut tx, target.scope, &dag_id, &run_id, &task_id, Some(map_index)).await?;
    let row = rows.first().ok_or_else(|| {
        ApiError::not_found(format!(
            "The Mapped Task Instance with dag_id: `{}`, run_id: `{run_id}`, task_id: `{task_id}`, \
             and map_index: `{map_index}` was not found",
            target.written
        ))
    })?;
    ok(&instance(row, &ask.names))
}

async fn mapped(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let page = ask.page();
    let filter = InstanceFilter {
        dag_id: Some(target.dag_id()),
        run_id: Some(ask.run_id()),
        task_id: Some(ask.task_id()),
        only_mapped: true,
        ..filter(&mut ask)?
    };
    let mut tx = ask.state.store.read().await?;
    let (dag_id, run_id, task_id) = (target.dag_id(), ask.run_id(), ask.task_id());
    if instances::count_mapped(&mut tx, target.scope, &dag_id, &run_id, &task_id).await? == 0 {
        // A task mapped over nothing is no mistake.
        let run = runs::get(&mut tx, target.scope, &dag_id, &run_id).await?;
        let dag = stored_dag::for_run(&ask, &mut tx, &target, run.as_ref()).await?;
        let task = dag
            .task_by_id(task_id.as_str())
            .ok_or_else(|| ApiError::not_found(format!("Task id {task_id} not found")))?;
        if !task.needs_expansion {
            return Err(ApiError::not_found(format!("Task id {task_id} is not mapped")));
        }
    }
    let order = instances::ORDER.order(&ask.query.order_by())?;
    let found = instances::list(&mut tx, &target.scope.into(), &filter, &order, page).await?;
    ok(&collection(&ask, &found.rows, found.total))
}

/// The map index of the path or, without one there, of the query; -1 where neither says.
fn which_map_index(ask: &mut Ask) -> Result<i32, ApiError> {
    if !ask.part("map_index").is_empty() {
        return small(ask, "map_index");
    }
    let index = ask.query.int("map_index").unwrap_or(-1);
    ask.query.done()?;
    Ok(i32::try_from(index).unwrap_or(i32::MIN))
}

async fn all_tries(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let map_index = which_map_index(&mut ask)?;
    let mut tx = ask.state.store.read().await?;
    let rows = tries::list(
        &mut tx,
        target.scope,
        &target.dag_id(),
        &ask.run_id(),
        &ask.task_id(),
        map_index,
    )
    .await?;
    if rows.is_empty() {
        return Err(missing(&ask, &target, &map_index.to_string()));
    }
    let total = rows.len();
    let rows: Vec<Value> = rows.iter().map(|row| one_try(row, &ask.names)).collect();
    ok(&json!({"task_instances": rows, "total_entries": total}))
}

/// The refusal for a task instance that is not there.
pub(super) fn missing(ask: &Ask, target: &Target, map_index: &str) -> ApiError {
    ApiError::not_found(missing_text(
        &target.written,
        ask.part("dag_run_id"),
        ask.part("task_id"),
        map_index,
    ))
}

/// Its words, which some routes put into a list.
pub(super) fn missing_text(dag_id: &str, run_id: &str, task_id: &str, map_index: &str) -> String {
    format!(
        "The Task Instance with dag_id: `{dag_id}`, run_id: `{run_id}`, task_id: `{task_id}` and map_index: \
         `{map_index}` was not found"
    )
}

async fn get_try(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let try_number = ask.number("task_try_number")?;
    let map_index = which_map_index(&mut ask)?;
    let mut tx = ask.state.store.read().await?;
    let found = tries::get(
        &mut tx,
        target.scope,
        &target.dag_id(),
        &ask.run_id(),
        &ask.task_id(),
        map_index,
        try_number,
    )
    .await?
    .ok_or_else(|| {
        ApiError::not_found(format!(
            "The Task Instance with dag_id: `{}`, run_id: `{}`, task_id: `{}`, try_number: `{try_number}` \
             and map_index: `{map_index}` was not found",
            target.written,
            ask.part("dag_run_id"),
            ask.part("task_id")
        ))
    })?;
    ok(&one_try(&found, &ask.names))
}
