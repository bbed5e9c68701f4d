//! Variables: list, get, make, patch, delete.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::get;
use isobar_auth::{Action, Resource, TeamScope};
use isobar_model::TeamId;
use isobar_store::lists::variables as list_rows;
use isobar_store::variables::{self, Variable};
use isobar_store::{Tx, audit};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::redact::{self, HIDDEN};
use super::{owners, python_json, variables_bulk};
use crate::errors::{Answer, no_content, ok, with_status};
use crate::extract::{Ask, Fields, Target};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    let one = || get(get_one).patch(patch).delete(delete);
    Router::new()
        .route("/variables", get(list).post(create).patch(variables_bulk::patch))
        .route("/variables/", one())
        .route("/variables/{*variable_key}", one())
}

/// A variable as Airflow's `VariableResponse`.
pub(super) fn json(ask: &Ask, team: TeamId, variable: &Variable) -> Value {
    let words = &ask.state.sensitive_names;
    let value = match serde_json::from_str::<Value>(&variable.value) {
        Ok(read) => python_json::dumps(&redact::hide(&read, Some(&variable.key), words)),
        Err(_) => match redact::hide(&variable.value.as_str().into(), Some(&variable.key), words) {
            Value::String(text) => text,
            other => other.to_string(),
        },
    };
    json!({
        "key": ask.write(team, &variable.key),
        "value": value,
        "description": variable.description,
        "is_encrypted": true,
        "team_name": ask.names.team_name(team),
    })
}

/// What a body says of a variable.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) description: Option<String>,
    pub(super) team_name: Option<String>,
    /// Which of the fields were given.
    pub(super) has_description: bool,
}

impl Body {
    pub(super) fn read(fields: &mut Fields, multi_team: bool) -> Self {
        let key = fields.required_text("key", Some(250));
        let there = fields.require("value");
        let value = match fields.any("value") {
            Some(Value::String(text)) => text,
            Some(other) if there => python_json::dumps_indented(&other),
            _ => String::new(),
        };
        let description = fields.text("description", None);
        let team_name = owners::team_name(fields, multi_team);
        Self {
            key,
            value,
            description,
            team_name,
            has_description: fields.has("description"),
        }
    }
}

/// What of a body goes into the audit log: never a value.
pub(super) fn masked(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut fields = fields.clone();
    for name in ["val", "value"] {
        if let Some(value) = fields.get_mut(name) {
            *value = HIDDEN.into();
        }
    }
    fields
}

fn missing(written: &str) -> ApiError {
    ApiError::not_found(format!("The Variable with key: `{written}` was not found"))
}

async fn read(ask: &Ask, tx: &mut Tx, target: &Target) -> Result<Variable, ApiError> {
    variables::get(tx, target.scope, &ask.state.master_key, &target.name)
        .await?
        .ok_or_else(|| missing(&target.written))
}

async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Variable)?;
    let page = ask.page();
    let key = ask.query.matching("variable_key");
    ask.query.done()?;
    let order = list_rows::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = list_rows::list(&mut tx, &scope, &ask.state.master_key, &key, &order, page).await?;
    let rows: Vec<Value> = found
        .rows
        .iter()
        .map(|row| json(&ask, row.team, &row.variable))
        .collect();
    ok(&json!({"variables": rows, "total_entries": found.total}))
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.target(ask.part("variable_key"), Resource::Variable, Action::Read)?;
    let mut tx = ask.state.store.read().await?;
    let variable = read(&ask, &mut tx, &target).await?;
    ok(&json(&ask, target.scope.team(), &variable))
}

async fn create(ask: Ask, body: Bytes) -> Answer {
    if !ask.might(Resource::Variable, Action::Create) {
        return Err(ApiError::forbidden());
    }
    let mut fields = Fields::of_body(&body)?;
    let asked = Body::read(&mut fields, ask.names.directory.multi_team());
    fields.done()?;
    let target = owners::of_new(&ask, &asked.key, asked.team_name.as_deref(), Resource::Variable)?;
    let mut tx = ask.state.store.begin().await?;
    let known = variables::get(&mut tx, target.scope, &ask.state.master_key, &target.name).await?;
    if known.is_some() {
        return Err(ApiError::conflict(format!(
            "The Variable with key: `{}` already exists",
            asked.key
        )));
    }
    let variable = Variable {
        key: target.name,
        value: asked.value,
        description: asked.description,
    };
    write(&ask, &mut tx, target.scope, &variable).await?;
    let record =
        audit::Record::new("post_variable", ask.caller.name()).extra(owners::audited(masked(fields.raw()), "POST"));
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    with_status(StatusCode::CREATED, &json(&ask, target.scope.team(), &variable))
}

pub(super) async fn write(ask: &Ask, tx: &mut Tx, scope: TeamScope, variable: &Variable) -> Result<(), ApiError> {
    let one = std::slice::from_ref(variable);
    Ok(variables::put(tx, scope, &ask.state.master_key, one, Timestamp::now()).await?)
}

/// What a variable becomes when a body is laid over it, where the mask lets it.
///
/// # Errors
/// 400 where the mask names the key.
pub(super) fn patched(old: Variable, asked: &Body, mask: &[String]) -> Result<Variable, ApiError> {
    if mask.iter().any(|name| name == "key") {
        return Err(ApiError::bad_request(
            "Update not allowed: the following fields are immutable and cannot be modified: {'key'}",
        ));
    }
    let masked = |name: &str| mask.is_empty() || mask.iter().any(|one| one == name);
    Ok(Variable {
        value: if masked("value") {
            asked.value.clone()
        } else {
            old.value
        },
        description: if asked.has_description && masked("description") {
            asked.description.clone()
        } else {
            old.description
        },
        key: old.key,
    })
}

async fn patch(ask: Ask, body: Bytes) -> Answer {
    let target = ask.target(ask.part("variable_key"), Resource::Variable, Action::Edit)?;
    let mut fields = Fields::of_body(&body)?;
    let asked = Body::read(&mut fields, ask.names.directory.multi_team());
    fields.done()?;
    if ask.names.read(&asked.key) != ask.names.read(&target.written) {
        return Err(ApiError::bad_request(
            "Invalid body, key from request body doesn't match uri parameter",
        ));
    }
    let mut tx = ask.state.store.begin().await?;
    let old = read(&ask, &mut tx, &target).await?;
    owners::unchanged(&ask, &target, asked.team_name.as_deref())?;
    let variable = patched(old, &asked, &ask.query.texts("update_mask"))?;
    write(&ask, &mut tx, target.scope, &variable).await?;
    let record =
        audit::Record::new("patch_variable", ask.caller.name()).extra(owners::audited(masked(fields.raw()), "PATCH"));
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    ok(&json(&ask, target.scope.team(), &variable))
}

async fn delete(ask: Ask) -> Answer {
    let target = ask.target(ask.part("variable_key"), Resource::Variable, Action::Delete)?;
    let mut tx = ask.state.store.begin().await?;
    if !variables::delete(&mut tx, target.scope, &target.name).await? {
        return Err(missing(&target.written));
    }
    let record = audit::Record::new("delete_variable", ask.caller.name())
        .extra(json!({"variable_key": target.name, "method": "DELETE"}));
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    no_content()
}
