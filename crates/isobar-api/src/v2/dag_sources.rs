//! The source code of a Dag's file, as JSON or as text.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use isobar_auth::{Action, Resource};
use isobar_store::lists::{dags, versions};
use serde_json::json;

use crate::errors::{Answer, ok};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/dagSources/{dag_id}", get(get_source))
}

/// Which of the two forms the caller wants.
fn wants_text(ask: &Ask) -> Result<bool, ApiError> {
    let accept = ask
        .headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("*/*");
    let accept = accept.to_ascii_lowercase();
    if accept.starts_with("application/json") || accept.starts_with("*/*") || accept.is_empty() {
        Ok(false)
    } else if accept.starts_with("text/plain") {
        Ok(true)
    } else {
        Err(ApiError::new(
            StatusCode::NOT_ACCEPTABLE,
            "Only application/json or text/plain is supported",
        ))
    }
}

async fn get_source(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Read)?;
    let number = ask.query.int("version_number");
    ask.query.done()?;
    let as_text = wants_text(&ask)?;
    let mut tx = ask.state.store.read().await?;
    let shown = number.map_or_else(|| "None".to_owned(), |number| number.to_string());
    let (number, source) = versions::source(&mut tx, target.scope, &target.dag_id(), number)
        .await?
        .ok_or_else(|| {
            ApiError::not_found(format!(
                "The source code of the Dag {}, version_number {shown} was not found",
                target.written
            ))
        })?;
    if as_text {
        return Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], source).into_response());
    }
    let name = dags::get(&mut tx, target.scope, &target.dag_id())
        .await?
        .map_or_else(|| target.name.clone(), |row| row.shown_name().to_owned());
    ok(&json!({
        "content": source,
        "dag_id": target.written,
        "version_number": number,
        "dag_display_name": name,
    }))
}
