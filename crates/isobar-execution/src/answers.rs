//! The shapes of refusals, and JSON of rows that several operations answer with.

use isobar_model::render_time;
use isobar_store::StoreError;
use isobar_wire::execution::Refusal;
use jiff::Timestamp;
use serde_json::{Value, json};

/// `{"reason": …, "message": …}` with a status.
pub(crate) fn refusal(status: u16, reason: &str, message: impl Into<String>) -> Refusal {
    Refusal::new(status, json!({"reason": reason, "message": message.into()}))
}

/// 404 with Airflow's reason.
pub(crate) fn not_found(message: impl Into<String>) -> Refusal {
    refusal(404, "not_found", message)
}

/// 422 in the shape of a failed validation.
pub(crate) fn invalid(place: &str, message: &str, input: &Value) -> Refusal {
    Refusal::new(
        422,
        json!([{"type": "value_error", "loc": ["body", place], "msg": message, "input": input}]),
    )
}

/// A store that failed. The caller learns that it may try again, the log learns why.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
pub(crate) fn broken(error: StoreError) -> Refusal {
    tracing::error!(%error, "an operation of the Task Execution API failed in the store");
    let safe_to_repeat = matches!(error, StoreError::NotCommitted(_) | StoreError::Conflict { .. });
    let status = if safe_to_repeat { 503 } else { 500 };
    refusal(
        status,
        "internal_error",
        "The metadata store failed; it is safe to try again",
    )
}

/// A time, or null.
pub(crate) fn time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| Value::String(render_time(at)))
}
