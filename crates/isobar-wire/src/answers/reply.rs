//! How the control plane's answer reads to the child.

use serde_json::{Map, Value, json};

use super::{Reply, Shape};
use crate::execution::{Answer, Refusal};

/// Turns the control plane's answer into the child's.
#[must_use]
pub fn reply(shape: Shape, answer: Result<Answer, Refusal>) -> Reply {
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => return refused(shape, &refusal),
    };
    let body = answer.body;
    Reply::Body(match shape {
        Shape::Empty | Shape::RenderedFields => None,
        Shape::Ok => Some(ok_response()),
        Shape::Typed(kind) => Some(typed(kind, body)),
        Shape::Wrapped(kind, name) => Some(wrapped(kind, name, body)),
        Shape::XComCount => Some(wrapped(
            "XComCountResponse",
            "len",
            json!(answer.count.unwrap_or_default()),
        )),
        Shape::Assets => {
            let assets = match body {
                Value::Array(assets) => assets.into_iter().map(|asset| typed("AssetResult", asset)).collect(),
                other => other,
            };
            Some(wrapped("AssetsByAliasResult", "assets", assets))
        }
        Shape::Connection(_) => Some(typed("ConnectionResult", body)),
        Shape::Variable(_) => Some(typed("VariableResult", body)),
        Shape::XCom(_) => Some(typed("XComResult", body)),
        // The one whose body is a bare value.
        Shape::OrMissing(kind @ "XComSequenceIndexResult", ..) => Some(wrapped(kind, "root", body)),
        Shape::OrMissing(kind, ..) => Some(typed(kind, body)),
    })
}

fn refused(shape: Shape, refusal: &Refusal) -> Reply {
    let denied = |name: &str, value: String| {
        let detail = json!({name: value, "status_code": refusal.status});
        Reply::Body(Some(error_response("PERMISSION_DENIED", detail)))
    };
    match (shape, refusal.status) {
        (Shape::Connection(id), 404) => {
            Reply::Body(Some(error_response("CONNECTION_NOT_FOUND", json!({"conn_id": id}))))
        }
        (Shape::Connection(id), 401 | 403) => denied("conn_id", id),
        (Shape::Variable(key), 404) => Reply::Body(Some(error_response("VARIABLE_NOT_FOUND", json!({"key": key})))),
        (Shape::Variable(key), 401 | 403) => denied("key", key),
        (Shape::XCom(key), 404) => Reply::Body(Some(typed("XComResult", json!({"key": key, "value": null})))),
        (Shape::OrMissing(_, error, detail), 404) => Reply::Body(Some(error_response(error, detail))),
        (Shape::RenderedFields, 410) => Reply::Body(None),
        _ => Reply::Error(server_error(refusal)),
    }
}

/// What a child gets where the control plane refuses: it raises `AirflowRuntimeError` there.
#[must_use]
pub fn server_error(refusal: &Refusal) -> Value {
    let message = match &refusal.detail {
        Value::String(text) if !text.is_empty() => text.as_str(),
        Value::Array(_) => "Remote server returned validation error",
        Value::Object(_) => "Server returned error",
        _ => "Un-parseable error",
    };
    let detail = json!({
        "status_code": refusal.status, "message": message, "detail": {"detail": refusal.detail},
    });
    error_response("API_SERVER_ERROR", detail)
}

/// The answer to starting a run that exists already.
#[must_use]
pub fn run_exists() -> Value {
    error_response("DAGRUN_ALREADY_EXISTS", Value::Null)
}

/// `OKResponse`.
#[must_use]
pub fn ok_response() -> Value {
    json!({"ok": true, "type": "OKResponse"})
}

#[expect(clippy::needless_pass_by_value, reason = "callers make the detail in place")]
fn error_response(error: &str, detail: Value) -> Value {
    json!({"error": error, "detail": detail, "type": "ErrorResponse"})
}

fn typed(kind: &str, body: Value) -> Value {
    let mut map = match body {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.insert("type".to_owned(), kind.into());
    Value::Object(map)
}

#[expect(clippy::needless_pass_by_value, reason = "bodies are moved into their answer")]
fn wrapped(kind: &str, name: &str, body: Value) -> Value {
    json!({name: body, "type": kind})
}
