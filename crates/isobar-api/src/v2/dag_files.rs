//! Asking for a Dag file to be read again.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::put;
use isobar_auth::{Action, Resource};
use isobar_store::lists::dags;
use isobar_store::{audit, callbacks};
use jiff::Timestamp;
use serde_json::Value;

use crate::errors::{Answer, with_status};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/parseDagFile/{file_token}", put(read_again))
}

/// The token names a Dag of the file; what it may open is asked of the caller's rights, as for every name.
async fn read_again(mut ask: Ask) -> Answer {
    let target = ask.target(ask.part("file_token"), Resource::Dag, Action::Edit)?;
    ask.query.done()?;
    let mut tx = ask.state.store.begin().await?;
    let row = dags::get(&mut tx, target.scope, &target.dag_id())
        .await?
        .ok_or_else(|| ApiError::not_found("File not found"))?;
    callbacks::read_again(&mut tx, target.scope, &row.bundle, &row.rel_path, Timestamp::now()).await?;
    let record = audit::Record::new("reparse_dag_file", ask.caller.name()).dag(&target.dag_id());
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    with_status(StatusCode::CREATED, &Value::Null)
}
