//! Runs in bulk: states, notes, deletion.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_model::{RunKey, RunState};
use isobar_store::lists::runs::{self, RunRow};
use isobar_store::{audit, runs as run_rows};
use jiff::Timestamp;
use serde_json::json;

use super::bulk::{self, Clash, Entity, Kind, Model, Outcome};
use super::runs::{MUTABLE, change};
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Target};

struct Body {
    run_id: String,
    dag_id: Option<String>,
    state: Option<RunState>,
    note: Option<String>,
}

/// `PATCH /dags/{dag_id}/dagRuns`
pub(super) async fn patch(ask: Ask, body: Bytes) -> Answer {
    if ask.part("dag_id") == "~" {
        ask.writable(Resource::Run, Action::Edit)?;
    } else {
        ask.dag(Resource::Run, Action::Edit)?;
    }
    let actions = {
        let model = Model {
            name: "BulkDAGRunBody",
            read: &|fields| Body {
                run_id: fields.required_text("dag_run_id", None),
                dag_id: fields.text("dag_id", None),
                state: fields.word("state", &MUTABLE),
                note: fields.text("note", Some(1000)),
            },
        };
        bulk::read(&body, &model)?
    };
    let mut outcome = Outcome::default();
    for action in &actions {
        outcome.asked(action.kind);
        if action.kind == Kind::Create {
            outcome.refused(
                Kind::Create,
                405,
                "Dag Runs bulk create is not supported. Use the trigger Dag Run endpoint instead.",
            );
            continue;
        }
        let mut found = Vec::new();
        let mut gone = Vec::new();
        for entity in &action.entities {
            match find(&ask, entity, action.kind).await {
                Ok(Found::Run(target, row)) => found.push((entity, target, row)),
                Ok(Found::Gone(dag_id, run_id)) => gone.push((dag_id, run_id)),
                Err(error) if error.status() == axum::http::StatusCode::BAD_REQUEST => {
                    outcome.refused(action.kind, 400, error.detail().as_str().unwrap_or_default());
                }
                Err(error) => return Err(error),
            }
        }
        if action.clash == Clash::Fail && !gone.is_empty() {
            gone.sort();
            let names: Vec<String> = gone.iter().map(|(dag, run)| format!("('{dag}', '{run}')")).collect();
            let text = format!(
                "The DagRuns with these identifiers: [{}] were not found",
                names.join(", ")
            );
            outcome.refused(action.kind, 404, text);
            continue;
        }
        for (entity, target, row) in found {
            if action.kind == Kind::Update {
                update(&ask, entity, &target, &row, &mut outcome).await?;
            } else {
                delete(&ask, &target, &row, &mut outcome).await?;
            }
        }
    }
    ok(&outcome.json())
}

enum Found {
    Run(Target, Box<RunRow>),
    Gone(String, String),
}

async fn find(ask: &Ask, entity: &Entity<Body>, kind: Kind) -> Result<Found, ApiError> {
    let (dag_id, run_id) = match entity {
        Entity::Name(run_id) => (ask.part("dag_id"), run_id.as_str()),
        Entity::Whole(body, _) => (
            body.dag_id.as_deref().unwrap_or_else(|| ask.part("dag_id")),
            body.run_id.as_str(),
        ),
    };
    if dag_id == "~" || run_id == "~" {
        return Err(ApiError::bad_request(match entity {
            Entity::Name(run_id) => format!(
                "When using wildcard in path, dag_id must be specified in BulkDAGRunBody object, not as string for \
                 dag_run_id: {run_id}"
            ),
            Entity::Whole(..) => format!(
                "When using wildcard in path, dag_id must be specified in request body for dag_run_id: {run_id}"
            ),
        }));
    }
    let action = if kind == Kind::Delete {
        Action::Delete
    } else {
        Action::Edit
    };
    let target = ask.target(dag_id, Resource::Run, action)?;
    let mut tx = ask.state.store.read().await?;
    let row = runs::get(&mut tx, target.scope, &target.dag_id(), &run_id.into()).await?;
    Ok(match row {
        Some(row) => Found::Run(target, Box::new(row)),
        None => Found::Gone(dag_id.to_owned(), run_id.to_owned()),
    })
}

async fn update(
    ask: &Ask,
    entity: &Entity<Body>,
    target: &Target,
    row: &RunRow,
    outcome: &mut Outcome,
) -> Result<(), ApiError> {
    let Entity::Whole(body, _) = entity else { return Ok(()) };
    let note = body.note.clone().map(Some);
    change(ask, target, row, note, body.state).await?;
    let name = format!("{}.{}", target.written, row.run_id);
    outcome.done(Kind::Update, &name, target.scope, &json!({"dag_run_id": row.run_id}));
    Ok(())
}

async fn delete(ask: &Ask, target: &Target, row: &RunRow, outcome: &mut Outcome) -> Result<(), ApiError> {
    if row.state == RunState::Running {
        outcome.refused(
            Kind::Delete,
            409,
            format!(
                "The DagRun with dag_id: `{}` and run_id: `{}` cannot be deleted in {} state",
                target.written, row.run_id, row.state
            ),
        );
        return Ok(());
    }
    let key = RunKey {
        dag_id: row.dag_id.clone(),
        run_id: row.run_id.clone(),
    };
    let mut tx = ask.state.store.begin().await?;
    run_rows::delete(&mut tx, target.scope, &key, Timestamp::now()).await?;
    let record = audit::Record::new("delete_dag_run", ask.caller.name())
        .dag(&key.dag_id)
        .run(&key.run_id);
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    let name = format!("{}.{}", target.written, row.run_id);
    outcome.done(Kind::Delete, &name, target.scope, &json!({"dag_run_id": row.run_id}));
    Ok(())
}
