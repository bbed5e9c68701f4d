//! The extra links of an operator: what its tasks pushed for them as XComs.

use axum::Router;
use axum::routing::get;
use isobar_auth::{Action, Resource};
use isobar_store::lists::{runs, tries, xcoms};
use serde_json::{Map, Value, json};

use super::stored_dag;
use super::task_instance_json::python_text;
use super::xcoms::readable;
use crate::errors::{Answer, ok};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new().route(
        "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/links",
        get(links),
    )
}

async fn links(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let map_index = ask.query.index("map_index").unwrap_or(-1);
    let try_number = ask.query.index("try_number");
    ask.query.done()?;
    let (dag_id, run_id, task_id) = (target.dag_id(), ask.run_id(), ask.task_id());
    let index = i32::try_from(map_index).unwrap_or(i32::MIN);
    let mut tx = ask.state.store.read().await?;
    let all = tries::list(&mut tx, target.scope, &dag_id, &run_id, &task_id, index).await?;
    if all.is_empty() {
        return Err(ApiError::not_found("TaskInstance not found"));
    }
    let run = runs::get(&mut tx, target.scope, &dag_id, &run_id).await?;
    let dag = stored_dag::for_run(&ask, &mut tx, &target, run.as_ref()).await?;
    let task = dag
        .task_by_id(task_id.as_str())
        .ok_or_else(|| ApiError::not_found(format!("Task with ID = {task_id} not found")))?;
    if let Some(wanted) = try_number
        && !all.iter().any(|row| row.try_number == wanted)
    {
        return Err(ApiError::not_found(format!(
            "TaskInstanceHistory not found for try_number={wanted}"
        )));
    }
    let mut links: Vec<(&String, Value)> = Vec::new();
    for (name, key) in &task.extra_links {
        let pushed = xcoms::get(&mut tx, target.scope, &dag_id, &run_id, &task_id, map_index, key).await?;
        let link = pushed.map(|row| match readable(&row.value) {
            Value::String(text) => text,
            other => python_text(&other),
        });
        links.push((name, link.filter(|link| !link.is_empty()).into()));
    }
    links.sort_by(|one, other| one.0.cmp(other.0));
    let total = links.len();
    let links: Map<String, Value> = links.into_iter().map(|(name, link)| (name.clone(), link)).collect();
    ok(&json!({"extra_links": links, "total_entries": total}))
}
