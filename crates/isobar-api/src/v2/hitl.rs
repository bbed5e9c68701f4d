//! Questions that tasks put to people (human in the loop): read, list, answer.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::get;
use isobar_auth::{Action, ReadScope, Resource};
use isobar_model::{MapIndex, TaskKey, UNMAPPED, render_time};
use isobar_store::hitl::{self as store, HitlDetail};
use isobar_store::lists::hitl::{self as questions, Question, QuestionFilter};
use isobar_store::lists::{TextMatch, task_instances as instances};
use isobar_store::transitions::{Answered, answered};
use isobar_store::{audit, task_instances};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::dag_json::time;
use super::task_instance_json::{instance, one_try};
use super::task_instances::states;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/dags/{dag_id}/dagRuns/{dag_run_id}/hitlDetails", get(list))
        .route(
            "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/hitlDetails",
            get(get_one).patch(answer),
        )
        .route(
            "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/hitlDetails/tries/{try_number}",
            get(get_try),
        )
}

/// The question and its answer, as Airflow's `BaseHITLDetail`.
fn base(detail: &HitlDetail) -> Map<String, Value> {
    let asked = &detail.detail;
    let or = |value: &Value, other: Value| if value.is_null() { other } else { value.clone() };
    let Value::Object(map) = json!({
        "options": asked["options"],
        "subject": asked["subject"],
        "body": asked["body"],
        "defaults": asked["defaults"],
        "multiple": or(&asked["multiple"], json!(false)),
        "params": params(&asked["params"]),
        "assigned_users": or(&asked["assigned_users"], json!([])),
        "created_at": render_time(detail.created_at),
        "responded_by_user": detail.response["responded_by_user"],
        "responded_at": time(detail.responded_at),
        "chosen_options": detail.response["chosen_options"],
        "params_input": or(&detail.response["params_input"], json!({})),
        "response_received": detail.is_answered(),
    }) else {
        unreachable!("the literal above is an object")
    };
    map
}

/// Fields of the form; a bare value is shown as the parameter that it stands for.
fn params(params: &Value) -> Value {
    let shown = params.as_object().into_iter().flatten().map(|(key, value)| {
        let whole = ["description", "schema", "value"]
            .iter()
            .all(|part| value.get(part).is_some());
        let shown = if whole {
            value.clone()
        } else {
            json!({"value": value, "description": null, "schema": {}})
        };
        (key.clone(), shown)
    });
    Value::Object(shown.collect())
}

fn with_task(detail: &HitlDetail, task: Value) -> Value {
    let mut map = base(detail);
    map.insert("task_instance".to_owned(), task);
    map.into()
}

fn no_instance(ask: &Ask) -> ApiError {
    let part = |name| ask.part(name);
    ApiError::not_found(format!(
        "The Task Instance with dag_id: `{}`, run_id: `{}`, task_id: `{}` and map_index: `{}` was not found",
        part("dag_id"),
        part("dag_run_id"),
        part("task_id"),
        part("map_index"),
    ))
}

fn no_question(id: isobar_model::TiId) -> ApiError {
    ApiError::not_found(format!(
        "Human-in-the-loop detail does not exist for Task Instance with id {id}"
    ))
}

fn map_index(ask: &Ask) -> Result<MapIndex, ApiError> {
    Ok(i32::try_from(ask.number("map_index")?).unwrap_or(i32::MIN))
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let map_index = map_index(&ask)?;
    let mut tx = ask.state.store.read().await?;
    let (dag_id, run_id, task_id) = (target.dag_id(), ask.run_id(), ask.task_id());
    let rows = instances::of_task(&mut tx, target.scope, &dag_id, &run_id, &task_id, Some(map_index)).await?;
    let row = rows.first().ok_or_else(|| no_instance(&ask))?;
    let detail = store::get(&mut tx, target.scope, row.id).await?;
    let detail = detail.ok_or_else(|| no_question(row.id))?;
    ok(&with_task(&detail, instance(row, &ask.names)))
}

async fn get_try(ask: Ask) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Read)?;
    let (map_index, number) = (map_index(&ask)?, ask.number("try_number")?);
    let mut tx = ask.state.store.read().await?;
    let (dag_id, run_id, task_id) = (target.dag_id(), ask.run_id(), ask.task_id());
    let found = questions::of_try(&mut tx, target.scope, &dag_id, &run_id, &task_id, map_index, number).await?;
    let (row, detail) = found.ok_or_else(|| no_instance(&ask))?;
    let detail = detail.ok_or_else(|| no_question(row.id))?;
    ok(&with_task(&detail, one_try(&row, &ask.names)))
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
    let query = &mut ask.query;
    let search = |text: Option<String>| TextMatch {
        pattern: text,
        ..TextMatch::default()
    };
    let mut filter = QuestionFilter {
        dag_id_match: query.matching("dag_id"),
        task_id: query.text("task_id"),
        task_id_match: query.matching("task_id"),
        map_index: query.int("map_index"),
        answered: query.flag("response_received"),
        responder_ids: query.texts("responded_by_user_id"),
        responder_names: query.texts("responded_by_user_name"),
        subject: search(query.text("subject_search")),
        body: search(query.text("body_search")),
        created_at: query.times("created_at"),
        ..QuestionFilter::default()
    };
    let texts = query.texts("state");
    query.done()?;
    filter.states = states(&texts)?;
    filter.dag_id = target.as_ref().map(super::super::extract::Target::dag_id);
    if ask.part("dag_run_id") != "~" {
        filter.run_id = Some(ask.run_id());
    }
    let order = questions::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = questions::list(&mut tx, &scope, &filter, &order, page).await?;
    let shown: Vec<Value> = found
        .rows
        .iter()
        .map(|Question { instance: row, detail }| with_task(detail, instance(row, &ask.names)))
        .collect();
    ok(&json!({"hitl_details": shown, "total_entries": found.total}))
}

/// What a person answers.
struct Response {
    options: Vec<String>,
    params: Value,
}

fn read_response(body: &Bytes) -> Result<Response, ApiError> {
    let mut fields = Fields::of_body(body)?;
    fields.require("chosen_options");
    fields.no_null_list("chosen_options");
    fields.no_null_object("params_input");
    let options = fields.texts("chosen_options").unwrap_or_default();
    let params = fields.object("params_input").unwrap_or_default();
    fields.done_with_known()?;
    if options.is_empty() {
        return Err(ApiError::unprocessable(vec![json!({
            "type": "too_short",
            "loc": ["body", "chosen_options"],
            "msg": "List should have at least 1 item after validation, not 0",
            "input": [],
            "ctx": {"field_type": "List", "min_length": 1, "actual_length": 0},
        })]));
    }
    Ok(Response {
        options,
        params: params.into(),
    })
}

/// Refuses what the task would not understand.
fn check(detail: &HitlDetail, response: &Response) -> Result<(), ApiError> {
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let mut allowed = texts(&detail.detail["options"]);
    let mut invalid: Vec<String> = response
        .options
        .iter()
        .filter(|option| !allowed.contains(option))
        .cloned()
        .collect();
    if !invalid.is_empty() {
        for list in [&mut invalid, &mut allowed] {
            list.sort();
            list.dedup();
        }
        let shown = |list: &[String]| super::task_instance_json::python_text(&json!(list));
        return Err(ApiError::bad_request(format!(
            "Invalid options {}; allowed options are {}.",
            shown(&invalid),
            shown(&allowed)
        )));
    }
    if detail.detail["multiple"] != true && response.options.len() > 1 {
        return Err(ApiError::bad_request(
            "Multiple options chosen but this Human-in-the-loop task accepts only a single option.",
        ));
    }
    Ok(())
}

async fn answer(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Edit)?;
    let map_index = map_index(&ask)?;
    let response = read_response(&body)?;
    let key = TaskKey {
        task_id: ask.task_id(),
        map_index,
    };
    let run = isobar_model::RunKey {
        dag_id: target.dag_id(),
        run_id: ask.run_id(),
    };
    let mut tx = ask.state.store.begin().await?;
    let row = task_instances::get(&mut tx, target.scope, &run, &key).await?;
    let row = row.ok_or_else(|| no_instance(&ask))?;
    let detail = store::get(&mut tx, target.scope, row.id).await?;
    let detail = detail.ok_or_else(|| no_question(row.id))?;
    let already = || {
        ApiError::conflict(format!(
            "Human-in-the-loop detail has already been updated for Task Instance with id {} and is not allowed to write \
             again.",
            row.id
        ))
    };
    if detail.is_answered() {
        return Err(already());
    }
    let user = ask.caller.name();
    let assigned = detail.detail["assigned_users"].as_array().cloned().unwrap_or_default();
    if !assigned.is_empty() && !assigned.iter().any(|assigned| assigned["id"] == user) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            format!("User={user} (id={user}) is not a respondent for the task."),
        ));
    }
    check(&detail, &response)?;
    let responder = json!({"id": user, "name": user});
    let given = json!({
        "chosen_options": response.options,
        "params_input": response.params,
        "responded_by_user": responder,
    });
    let detail = match answered(&mut tx, target.scope, &row, &given, Timestamp::now()).await? {
        Answered::Done(detail) => detail,
        Answered::Already => return Err(already()),
        Answered::Missing => return Err(no_question(row.id)),
    };
    let record = audit::Record::new("update_hitl_detail", user)
        .dag(&run.dag_id)
        .run(&run.run_id)
        .task(&key.task_id, (map_index != UNMAPPED).then_some(map_index))
        .extra(json!({"chosen_options": response.options}));
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    ok(&json!({
        "responded_by": responder,
        "responded_at": time(detail.responded_at),
        "chosen_options": response.options,
        "params_input": response.params,
    }))
}
