//! Connections: list, get, make, patch, delete, and the tests of connections, which are disabled as in Airflow's defaults.
//! A password is never answered; secrets of an extra are hidden by their names.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use isobar_auth::{Action, Resource, TeamScope};
use isobar_model::TeamId;
use isobar_store::connections::{self, Connection};
use isobar_store::lists::connections as list_rows;
use isobar_store::{Tx, audit};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::connection_body::{Body, laid_over, masked, new_connection};
use super::redact::{self, HIDDEN};
use super::{connections_bulk, owners, python_json};
use crate::errors::{Answer, no_content, ok, with_status};
use crate::extract::{Ask, Fields, Target};
use crate::{ApiError, AppState};

/// The header that carries the token of an enqueued test.
const TEST_TOKEN: &str = "Airflow-Connection-Test-Token";

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/connections", get(list).post(create).patch(connections_bulk::patch))
        .route("/connections/test", post(test))
        .route("/connections/enqueue-test", get(get_test).post(enqueue_test))
        .route("/connections/{connection_id}", get(get_one).patch(patch).delete(delete))
}

/// A connection as Airflow's `ConnectionResponse`.
fn json(ask: &Ask, team: TeamId, connection: &Connection) -> Value {
    let extra = connection.extra.as_ref().map(|extra| {
        if extra.is_empty() {
            return String::new();
        }
        serde_json::from_str::<Value>(extra).map_or_else(
            // What is not JSON (an older row) could hold anything, so nothing of it is shown.
            |_| HIDDEN.to_owned(),
            |read| python_json::dumps(&redact::hide(&read, None, &ask.state.sensitive_names)),
        )
    });
    json!({
        "connection_id": ask.write(team, &connection.conn_id),
        "conn_type": connection.conn_type,
        "description": connection.description,
        "host": connection.host,
        "login": connection.login,
        "schema": connection.schema,
        "port": connection.port,
        "password": connection.password.as_ref().map(|_| HIDDEN),
        "extra": extra,
        "team_name": ask.names.team_name(team),
    })
}

fn missing(written: &str) -> ApiError {
    ApiError::not_found(format!("The Connection with connection_id: `{written}` was not found"))
}

async fn read(ask: &Ask, tx: &mut Tx, target: &Target) -> Result<Connection, ApiError> {
    connections::get(tx, target.scope, &ask.state.master_key, &target.name)
        .await?
        .ok_or_else(|| missing(&target.written))
}

/// Writes one.
pub(super) async fn write(ask: &Ask, tx: &mut Tx, scope: TeamScope, connection: &Connection) -> Result<(), ApiError> {
    let one = std::slice::from_ref(connection);
    Ok(connections::put(tx, scope, &ask.state.master_key, one, Timestamp::now()).await?)
}

async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Connection)?;
    let page = ask.page();
    let conn_id = ask.query.matching("connection_id");
    ask.query.done()?;
    let order = list_rows::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = list_rows::list(&mut tx, &scope, &ask.state.master_key, &conn_id, &order, page).await?;
    let rows: Vec<Value> = found
        .rows
        .iter()
        .map(|row| json(&ask, row.team, &row.connection))
        .collect();
    ok(&json!({"connections": rows, "total_entries": found.total}))
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.target(ask.part("connection_id"), Resource::Connection, Action::Read)?;
    let mut tx = ask.state.store.read().await?;
    let connection = read(&ask, &mut tx, &target).await?;
    ok(&json(&ask, target.scope.team(), &connection))
}

async fn create(ask: Ask, body: Bytes) -> Answer {
    if !ask.might(Resource::Connection, Action::Create) {
        return Err(ApiError::forbidden());
    }
    let mut fields = Fields::of_body(&body)?;
    let asked = Body::read(&mut fields, &ask.names);
    fields.done()?;
    let target = owners::of_new(
        &ask,
        &asked.connection_id,
        asked.team_name.as_deref(),
        Resource::Connection,
    )?;
    let mut tx = ask.state.store.begin().await?;
    let known = connections::get(&mut tx, target.scope, &ask.state.master_key, &target.name).await?;
    if known.is_some() {
        return Err(ApiError::not_unique("connection", "conn_id"));
    }
    let connection = new_connection(&target.name, &asked);
    write(&ask, &mut tx, target.scope, &connection).await?;
    let sent = masked(fields.raw(), &ask.state.sensitive_names);
    let record = audit::Record::new("post_connection", ask.caller.name()).extra(owners::audited(sent, "POST"));
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    with_status(StatusCode::CREATED, &json(&ask, target.scope.team(), &connection))
}

async fn patch(ask: Ask, body: Bytes) -> Answer {
    let target = ask.target(ask.part("connection_id"), Resource::Connection, Action::Edit)?;
    let mut fields = Fields::of_body(&body)?;
    let asked = Body::read(&mut fields, &ask.names);
    fields.done()?;
    if ask.names.read(&asked.connection_id) != ask.names.read(&target.written) {
        return Err(ApiError::bad_request(
            "The connection_id in the request body does not match the URL parameter",
        ));
    }
    let mut tx = ask.state.store.begin().await?;
    let old = read(&ask, &mut tx, &target).await?;
    owners::unchanged(&ask, &target, asked.team_name.as_deref())?;
    let mask = ask.query.texts("update_mask");
    let connection = laid_over(old, &asked, &mask, &ask.state.sensitive_names);
    write(&ask, &mut tx, target.scope, &connection).await?;
    let sent = masked(fields.raw(), &ask.state.sensitive_names);
    let record = audit::Record::new("patch_connection", ask.caller.name()).extra(owners::audited(sent, "PATCH"));
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    ok(&json(&ask, target.scope.team(), &connection))
}

async fn delete(ask: Ask) -> Answer {
    let target = ask.target(ask.part("connection_id"), Resource::Connection, Action::Delete)?;
    let mut tx = ask.state.store.begin().await?;
    if !connections::delete(&mut tx, target.scope, &target.name).await? {
        return Err(missing(&target.written));
    }
    let record = audit::Record::new("delete_connection", ask.caller.name())
        .extra(json!({"connection_id": target.name, "method": "DELETE"}));
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    no_content()
}

/// Testing means running a hook, which is user code; no shared process runs any (invariant 6).
fn disabled() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "Testing connections is disabled in Airflow configuration. Contact your deployment admin to enable it.",
    )
}

async fn test(ask: Ask, body: Bytes) -> Answer {
    if !ask.might(Resource::Connection, Action::Create) {
        return Err(ApiError::forbidden());
    }
    let mut fields = Fields::of_body(&body)?;
    Body::read(&mut fields, &ask.names);
    fields.done()?;
    Err(disabled())
}

async fn enqueue_test(ask: Ask, body: Bytes) -> Answer {
    let mut fields = Fields::of_body(&body)?;
    fields.flag("commit_on_success");
    fields.text("executor", None);
    fields.text("queue", None);
    Body::read(&mut fields, &ask.names);
    fields.done()?;
    Err(disabled())
}

async fn get_test(ask: Ask) -> Answer {
    let token = ask.headers.get(TEST_TOKEN).and_then(|token| token.to_str().ok());
    Err(match token {
        Some(token) => ApiError::not_found(format!("No connection test found for token: `{token}`")),
        None => ApiError::unprocessable(vec![json!({
            "type": "missing",
            "loc": ["header", TEST_TOKEN],
            "msg": "Field required",
            "input": null,
        })]),
    })
}
