//! `/auth/token`: a token for a name and a password, by JSON or form.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use isobar_auth::LoginError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::AppState;

#[derive(Deserialize)]
struct Credentials {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// `POST /auth/token`
pub(super) async fn create(State(state): State<AppState>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
        .to_ascii_lowercase();
    let credentials = if kind.starts_with("application/json") {
        serde_json::from_slice::<Credentials>(&body).map_err(|_| ())
    } else if kind.starts_with("application/x-www-form-urlencoded") {
        Ok(from_form(&body))
    } else {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type");
    };
    answer(&state, credentials, state.auth.lifetimes().user)
}

/// `POST /auth/token/cli`
pub(super) async fn create_for_cli(State(state): State<AppState>, body: Bytes) -> Response {
    answer(
        &state,
        serde_json::from_slice(&body).map_err(|_| ()),
        state.auth.lifetimes().cli,
    )
}

/// `GET /auth/token`: open in Airflow when everybody is an admin; there is no such mode here.
pub(super) async fn without_credentials() -> Response {
    refuse(
        StatusCode::FORBIDDEN,
        "This method is only allowed if ``[core] simple_auth_manager_all_admins`` is True",
    )
}

fn answer(state: &AppState, credentials: Result<Credentials, ()>, lifetime: Duration) -> Response {
    let Ok(Credentials { username, password }) = credentials else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid JSON body");
    };
    match state.auth.login(&username, &password, lifetime) {
        Ok(token) => (StatusCode::CREATED, Json(json!({ "access_token": token }))).into_response(),
        Err(error @ LoginError::Missing) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error @ LoginError::Wrong) => refuse(StatusCode::UNAUTHORIZED, &error.to_string()),
    }
}

fn from_form(body: &[u8]) -> Credentials {
    let field = |name: &str| super::login_page::form_field(body, name).unwrap_or_default();
    Credentials {
        username: field("username"),
        password: field("password"),
    }
}

fn refuse(status: StatusCode, detail: &str) -> Response {
    (status, Json(Value::from_iter([("detail", detail)]))).into_response()
}
