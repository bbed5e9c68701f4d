//! The Task Execution API over HTTP, for workers of other processes and hosts: `/execution`.
//!
//! Thin: a request becomes an [`isobar_wire::execution::Operation`] ([`route`]), its token a caller, and the answer of
//! [`isobar_execution::Execution`] a response. Error bodies are `{"detail": …}` with the plain content type that clients look for.

mod query;
mod route;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::any;
use isobar_auth::{TaskClaims, TaskTokenScope};
use isobar_wire::execution::{API_VERSION, Caller, ExecutionApi, Refusal};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::AppState;
use route::{Routed, Wants};

const VERSION: HeaderName = HeaderName::from_static("airflow-api-version");
const REFRESHED: HeaderName = HeaderName::from_static("refreshed-api-token");
const CORRELATION: HeaderName = HeaderName::from_static("correlation-id");

/// The routes, to be nested at `/execution`.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/{*path}", any(answer))
}

async fn answer(State(state): State<AppState>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut response = match carry_out(&state, &method, &uri, &headers, &body).await {
        Ok(response) => response,
        Err(refusal) => render(refusal.status, &json!({"detail": refusal.detail})),
    };
    let echoed = response.headers_mut();
    echoed.insert(VERSION, HeaderValue::from_static(API_VERSION));
    if let Some(id) = headers.get(&CORRELATION) {
        echoed.insert(CORRELATION, id.clone());
    }
    response
}

async fn carry_out(
    state: &AppState,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Refusal> {
    speaks_our_version(headers)?;
    let path = uri.path().trim_start_matches('/');
    if *method == Method::GET && (path == "health" || path == "health/ping") {
        return Ok(render(200, &route::health(path)));
    }
    // The token first: without one, no path tells whether it exists.
    let claims = claims(state, headers)?;
    let Routed { operation, wants } = route::route(method, path, uri.query().unwrap_or(""), body)?;
    admit(&claims, &wants)?;
    let identity = claims.identity.clone();
    let caller = Caller::Task(claims.identity.clone());
    let done = state.execution.call(&caller, operation).await?;
    let mut response = if done.status == 204 || *method == Method::HEAD {
        empty(done.status)
    } else {
        render(done.status, &done.body)
    };
    if let Some(count) = done.count {
        let range = HeaderValue::from_str(&format!("map_indexes {count}")).expect("digits are a header value");
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    // A task that begins swaps the token of its queue for one to run with; later ones are renewed in time.
    if claims.scope == TaskTokenScope::Workload || claims.wants_refresh(Timestamp::now()) {
        let fresh = state.auth.task_token(&identity, TaskTokenScope::Execution);
        if let Some(token) = fresh.and_then(|token| HeaderValue::from_str(&token).ok()) {
            response.headers_mut().insert(REFRESHED, token);
        }
    }
    Ok(response)
}

/// Workers of other versions would misread our answers; they are told so (no translation of older versions).
fn speaks_our_version(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(version) = headers.get(&VERSION) else {
        return Ok(());
    };
    // Dates compare as text. A newer client falls back to our version by itself, as with Airflow.
    let version = version.to_str().unwrap_or_default();
    if version >= API_VERSION {
        return Ok(());
    }
    Err(Refusal::new(
        400,
        format!(
            "This server speaks version {API_VERSION} of the Task Execution API, the client `{version}`; \
             hint: install apache-airflow-task-sdk 1.3 in the worker's environment"
        ),
    ))
}

fn claims(state: &AppState, headers: &HeaderMap) -> Result<TaskClaims, Refusal> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(kind, token)| kind.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Refusal::new(401, "Missing auth token"))?;
    state.auth.task(token).map_err(|denied| {
        tracing::debug!(%denied, "a task's token was refused");
        Refusal::new(403, "Invalid auth token")
    })
}

/// Whether this token is good for this route.
fn admit(claims: &TaskClaims, wants: &Wants) -> Result<(), Refusal> {
    let (own, workload) = match wants {
        Wants::Start(id) => (Some(id), true),
        Wants::Self_(id) => (Some(id), false),
        Wants::Any => (None, false),
    };
    if claims.scope == TaskTokenScope::Workload && !workload {
        return Err(Refusal::new(
            403,
            "Token type 'workload' not allowed for this endpoint. Allowed types: execution",
        ));
    }
    if own.is_some_and(|id| *id != claims.identity.ti_id.0) {
        return Err(Refusal::new(403, "Token subject does not match task instance ID"));
    }
    Ok(())
}

fn render(status: u16, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn empty(status: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
