//! Who is asking: from `Authorization: Bearer`, or the session cookie of the login page.

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use isobar_auth::{Denied, Principal};
use serde_json::json;

use crate::AppState;

/// The cookie that carries a person's token; Airflow's name for it.
pub const SESSION_COOKIE: &str = "_token";

/// A recognised caller. A route that takes it answers 401 to everybody else.
#[derive(Clone, Debug)]
pub struct Caller(pub Principal);

/// Nobody, or somebody whose token is not accepted. Deliberately says no more.
#[derive(Debug)]
pub enum NotRecognised {
    /// No credentials: 401, as in Airflow.
    Nobody,
    /// Credentials that ran out: 401, so that clients log in again.
    Expired,
    /// Credentials that are none: 403, as in Airflow.
    Refused,
}

impl IntoResponse for NotRecognised {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::Nobody => (StatusCode::UNAUTHORIZED, "Not authenticated"),
            Self::Expired => (StatusCode::UNAUTHORIZED, "Token Expired"),
            Self::Refused => (StatusCode::FORBIDDEN, "Invalid JWT token"),
        };
        let body = axum::Json(json!({ "detail": detail }));
        match status {
            StatusCode::UNAUTHORIZED => (status, [("www-authenticate", "Bearer")], body).into_response(),
            _ => (status, body).into_response(),
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = NotRecognised;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, NotRecognised> {
        let token = token_of(&parts.headers).ok_or(NotRecognised::Nobody)?;
        state.auth.user(token).map(Caller).map_err(|denied| {
            tracing::debug!(%denied, "a caller's token was not accepted");
            match denied {
                Denied::Expired => NotRecognised::Expired,
                _ => NotRecognised::Refused,
            }
        })
    }
}

/// The token that the request carries; a bearer token wins over a cookie.
pub(super) fn token_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
    bearer.or_else(|| {
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(';'))
            .find_map(|pair| {
                let (name, value) = pair.trim().split_once('=')?;
                (name == SESSION_COOKIE && !value.is_empty()).then_some(value)
            })
    })
}
