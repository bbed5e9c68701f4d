//! Errors as Airflow's API answers them: `{"detail": …}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use isobar_store::StoreError;
use isobar_store::lists::{BadCursor, BadOrder};
use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    detail: Value,
}

impl ApiError {
    /// A refusal with this status and detail.
    pub fn new(status: StatusCode, detail: impl Into<Value>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    /// 404.
    pub fn not_found(detail: impl Into<Value>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 400.
    pub fn bad_request(detail: impl Into<Value>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 409.
    pub fn conflict(detail: impl Into<Value>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 403, the same for everything.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden")
    }

    /// 422 with pydantic's list of problems.
    #[must_use]
    pub fn unprocessable(problems: Vec<Value>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, problems)
    }

    /// 409 as Airflow answers a violated unique key.
    #[must_use]
    pub fn not_unique(table: &str, column: &str) -> Self {
        let id = &uuid::Uuid::new_v4().simple().to_string()[..8];
        tracing::info!(
            id,
            table,
            column,
            "a request would have made a second row of a unique key"
        );
        Self::conflict(json!({
            "reason": "Unique constraint violation",
            "statement": "hidden",
            "orig_error": "hidden",
            "message": format!(
                "Serious error when handling your request. Check logs for more details - you will find it in api \
                 server when you look for ID {id}"
            ),
        }))
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The detail.
    #[must_use]
    pub fn detail(&self) -> &Value {
        &self.detail
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "detail": self.detail }))).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotCommitted(_) | StoreError::Conflict { .. } => {
                tracing::warn!(%error, "a request met another change and was refused");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "The change was not made, try again")
            }
            error => {
                tracing::error!(%error, "a request failed in the store");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }
        }
    }
}

impl From<BadOrder> for ApiError {
    fn from(error: BadOrder) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<BadCursor> for ApiError {
    fn from(error: BadCursor) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// What a handler answers.
pub(crate) type Answer = Result<Response, ApiError>;

/// 200 with JSON.
pub(crate) fn ok(body: &Value) -> Answer {
    with_status(StatusCode::OK, body)
}

/// JSON with a status.
pub(crate) fn with_status(status: StatusCode, body: &Value) -> Answer {
    Ok((status, Json(body)).into_response())
}

/// 204.
pub(crate) fn no_content() -> Answer {
    Ok(StatusCode::NO_CONTENT.into_response())
}
