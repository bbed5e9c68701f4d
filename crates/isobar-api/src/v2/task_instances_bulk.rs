//! Task instances in bulk: updates and deletions. Runs make their instances themselves.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_model::TaskId;
use isobar_store::lists::task_instances as instances;
use serde_json::json;

use super::bulk::{self, Clash, Entity, Kind, Model, Outcome};
use super::task_instance_delete::delete_some;
use super::task_instance_patch::{Asked, already, apply, of_task};
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Target};

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
            Kind::Delete => delete(&ask, &action.entities, action.clash, &mut outcome).await?,
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

/// What one entity names.
struct Named<'a> {
    target: Target,
    dag_id: &'a str,
    run_id: &'a str,
    task_id: &'a str,
    map_index: Option<i64>,
}

fn named<'a>(ask: &'a Ask, entity: &'a Entity<Body>) -> Result<Named<'a>, ApiError> {
    let (here, run_here) = (ask.part("dag_id"), ask.part("dag_run_id"));
    let (dag_id, run_id, task_id, map_index) = match entity {
        Entity::Name(task_id) => (here, run_here, task_id.as_str(), None),
        Entity::Whole(body, _) => (
            body.dag_id.as_deref().unwrap_or(here),
            body.run_id.as_deref().unwrap_or(run_here),
            body.task_id.as_str(),
            body.map_index,
        ),
    };
    if dag_id == "~" || run_id == "~" {
        let how = match entity {
            Entity::Name(_) => "BulkTaskInstanceBody object, not as string for",
            Entity::Whole(..) => "request body for",
        };
        return Err(ApiError::bad_request(format!(
            "When using wildcard in path, dag_id and dag_run_id must be specified in {how} task_id: {task_id}"
        )));
    }
    Ok(Named {
        target: ask.target(dag_id, Resource::TaskInstance, Action::Delete)?,
        dag_id,
        run_id,
        task_id,
        map_index,
    })
}

/// Deletes single indices first and then whole tasks, as Airflow does; what is missing ends it, where it may not be.
async fn delete(ask: &Ask, entities: &[Entity<Body>], clash: Clash, outcome: &mut Outcome) -> Result<(), ApiError> {
    let (mut single, mut whole) = (Vec::new(), Vec::new());
    for entity in entities {
        match named(ask, entity) {
            Ok(named) if named.map_index.is_some() => single.push(named),
            Ok(named) => whole.push(named),
            Err(error) if error.status() == axum::http::StatusCode::BAD_REQUEST => {
                outcome.refused(Kind::Delete, 400, error.detail().as_str().unwrap_or_default());
            }
            Err(error) => return Err(error),
        }
    }
    let missing: Vec<String> = {
        let mut tx = ask.state.store.read().await?;
        let mut missing = Vec::new();
        for one in &single {
            let (dag, run, task) = (one.target.dag_id(), one.run_id.into(), TaskId::from(one.task_id));
            let index = one.map_index.map(|index| i32::try_from(index).unwrap_or(i32::MIN));
            let rows = instances::of_task(&mut tx, one.target.scope, &dag, &run, &task, index).await?;
            if rows.is_empty() {
                missing.push(format!(
                    "{{'dag_id': '{}', 'dag_run_id': '{}', 'task_id': '{}', 'map_index': {}}}",
                    one.dag_id,
                    one.run_id,
                    one.task_id,
                    one.map_index.unwrap_or(-1)
                ));
            }
        }
        missing
    };
    if clash == Clash::Fail && !missing.is_empty() {
        let text = format!(
            "The task instances with these identifiers: [{}] were not found",
            missing.join(", ")
        );
        outcome.refused(Kind::Delete, 404, text);
        return Ok(());
    }
    for one in single.iter().chain(&whole) {
        let index = one.map_index.map(|index| i32::try_from(index).unwrap_or(i32::MIN));
        let (run_id, task_id) = (one.run_id.into(), TaskId::from(one.task_id));
        let gone = delete_some(ask, &one.target, &run_id, &task_id, index).await?;
        if gone.is_empty() && clash == Clash::Fail {
            let text = format!(
                "No task instances found for dag_id: {}, run_id: {run_id}, task_id: {task_id}",
                one.dag_id
            );
            outcome.refused(Kind::Delete, 404, text);
            return Ok(());
        }
        for index in gone {
            let name = format!("{}.{run_id}.{task_id}[{index}]", one.dag_id);
            outcome.done(
                Kind::Delete,
                &name,
                one.target.scope,
                &json!({"task_id": task_id, "map_index": index}),
            );
        }
    }
    Ok(())
}
