//! Task instances in bulk. Only updates: runs own their instances, so making or deleting single ones is refused.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_model::TaskId;
use isobar_store::lists::task_instances as instances;
use serde_json::json;

use super::bulk::{self, Clash, Entity, Kind, Model, Outcome};
use super::task_instance_patch::{Asked, already, apply, of_task};
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::Ask;

struct Body {
    task_id: String,
    map_index: Option<i64>,
    dag_id: Option<String>,
    run_id: Option<String>,
    asked: Asked,
}

/// `PATCH /dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances`
pub(super) async fn patch(ask: Ask, body: Bytes) -> Answer {
    if ask.part("dag_id") == "~" {
        ask.writable(Resource::TaskInstance, Action::Edit)?;
    } else {
        ask.dag(Resource::TaskInstance, Action::Edit)?;
    }
    let actions = {
        let model = Model {
            name: "BulkTaskInstanceBody",
            read: &|fields| Body {
                asked: Asked::read(fields),
                task_id: fields.required_text("task_id", None),
                map_index: fields.int("map_index"),
                dag_id: fields.text("dag_id", None),
                run_id: fields.text("dag_run_id", None),
            },
        };
        bulk::read_once(&body, &model)?
    };
    let mut outcome = Outcome::default();
    for action in &actions {
        outcome.asked(action.kind);
        match action.kind {
            Kind::Create => outcome.refused(Kind::Create, 405, "Task instances bulk create is not supported"),
            Kind::Delete => outcome.refused(Kind::Delete, 405, "Task instances bulk delete is not supported"),
            Kind::Update => {
                for entity in &action.entities {
                    let Entity::Whole(body, _) = entity else { continue };
                    let done = update(&ask, body, &action.mask, action.clash, &mut outcome).await;
                    if let Err(error) = done {
                        let text = error
                            .detail()
                            .as_str()
                            .map_or_else(|| error.detail().to_string(), str::to_owned);
                        outcome.refused(Kind::Update, error.status().as_u16(), text);
                        break;
                    }
                }
            }
        }
    }
    ok(&outcome.json())
}

async fn update(ask: &Ask, body: &Body, mask: &[String], clash: Clash, outcome: &mut Outcome) -> Result<(), ApiError> {
    let dag_id = body.dag_id.as_deref().unwrap_or_else(|| ask.part("dag_id"));
    let run_id = body.run_id.as_deref().unwrap_or_else(|| ask.part("dag_run_id"));
    if dag_id == "~" || run_id == "~" {
        return Err(ApiError::bad_request(format!(
            "When using wildcard in path, dag_id and dag_run_id must be specified in request body for task_id: {}",
            body.task_id
        )));
    }
    let target = ask.target(dag_id, Resource::TaskInstance, Action::Edit)?;
    let task_id = TaskId::from(body.task_id.as_str());
    let map_index = body.map_index.map(|index| i32::try_from(index).unwrap_or(i32::MIN));
    let rows = {
        let mut tx = ask.state.store.read().await?;
        let (dag, run) = (target.dag_id(), run_id.into());
        instances::of_task(&mut tx, target.scope, &dag, &run, &task_id, map_index).await?
    };
    if rows.is_empty() {
        if clash == Clash::Skip {
            return Ok(());
        }
        return Err(ApiError::not_found(match body.map_index {
            None => format!("No task instances found for dag_id: {dag_id}, run_id: {run_id}, task_id: {task_id}"),
            Some(index) => format!(
                "The task instances with these identifiers: [{{'dag_id': '{dag_id}', 'dag_run_id': '{run_id}', \
                 'task_id': '{task_id}', 'map_index': {index}}}] were not found"
            ),
        }));
    }
    let scope = target.scope;
    let meant = of_task(ask, target, run_id.into(), &task_id, map_index).await?;
    let asked = body.asked.clone().masked(mask);
    apply(ask, &meant, &asked, &|state| already(&task_id, state)).await?;
    for row in &rows {
        let name = format!("{dag_id}.{run_id}.{task_id}[{}]", row.map_index);
        outcome.done(
            Kind::Update,
            &name,
            scope,
            &json!({"task_id": task_id, "new_state": asked.state}),
        );
    }
    Ok(())
}
