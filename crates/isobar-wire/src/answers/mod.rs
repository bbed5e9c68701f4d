//! From a child's message to an [`Operation`], and from the control plane's answer back to the child's message.

mod plan;
mod reply;

use serde_json::Value;

use crate::execution::{Operation, TaskEnd};
pub use plan::{names_other_task, plan};
pub use reply::{ok_response, reply, run_exists, server_error};

/// What the supervisor does with a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Ask the control plane and turn its answer into the child's with the shape.
    Ask(Operation, Shape),
    /// A terminal state that the control plane is told now, and told once more after the exit if that fails.
    End(TaskEnd),
    /// A terminal state that is remembered, and reported when the child has ended.
    EndAtExit(TaskEnd),
    /// Starts another run; a run that exists is an answer or is cleared.
    Trigger {
        /// The call.
        operation: Operation,
        /// The call to make instead where the run exists; none where that is an error.
        reset: Option<Operation>,
    },
    /// Only the supervisor's masker is concerned.
    Mask {
        /// A string, or a list or map of them.
        value: Value,
        /// Its name; masked only if that is a sensitive one.
        name: Option<String>,
    },
    /// The child wants a new log socket.
    ResendLog,
    /// Airflow's task supervisor does not serve it either (it belongs to the triggerer).
    NotForTasks(Operation, Shape),
}

/// How an answer becomes a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing is said.
    Empty,
    /// `OKResponse`.
    Ok,
    /// The body with a `type`.
    Typed(&'static str),
    /// The body under one name, with a `type`.
    Wrapped(&'static str, &'static str),
    /// The count of the answer, under `len`.
    XComCount,
    /// A list of assets.
    Assets,
    /// A connection; missing and forbidden ones are answers.
    Connection(String),
    /// A variable; missing and forbidden ones are answers.
    Variable(String),
    /// An XCom; a missing one is `null`.
    XCom(String),
    /// Anything whose absence (404) is the answer `ErrorResponse` with this error and detail.
    OrMissing(&'static str, &'static str, Value),
    /// Rendered fields: a try that is archived (410) does not matter any more.
    RenderedFields,
}

/// What the child gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A message, or nothing.
    Body(Option<Value>),
    /// An `ErrorResponse` that raises `AirflowRuntimeError` in the child.
    Error(Value),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::execution::Refusal;
    use crate::messages::ToSupervisor;

    fn read(body: Value) -> ToSupervisor {
        let Value::Object(body) = body else {
            panic!("a test body is a map")
        };
        ToSupervisor::read(body).unwrap()
    }

    fn ask(body: Value) -> (Operation, Shape) {
        match plan(read(body)) {
            Request::Ask(operation, shape) => (operation, shape),
            other => panic!("not a question: {other:?}"),
        }
    }

    #[test]
    fn a_missing_name_is_an_answer_and_a_forbidden_one_stops_the_search() {
        let (_, shape) = ask(json!({"type": "GetConnection", "conn_id": "db"}));
        let got = reply(shape.clone(), Err(Refusal::new(404, "no")));
        assert_eq!(
            got,
            Reply::Body(Some(
                json!({"error": "CONNECTION_NOT_FOUND", "detail": {"conn_id": "db"}, "type": "ErrorResponse"})
            ))
        );
        let got = reply(shape, Err(Refusal::new(403, "no")));
        assert_eq!(
            got,
            Reply::Body(Some(json!({
                "error": "PERMISSION_DENIED", "detail": {"conn_id": "db", "status_code": 403}, "type": "ErrorResponse"
            })))
        );
    }

    #[test]
    fn a_missing_xcom_is_null() {
        let (operation, shape) =
            ask(json!({"type": "GetXCom", "key": "k", "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}));
        assert!(matches!(operation, Operation::GetXCom { map_index: None, .. }));
        assert_eq!(
            reply(shape, Err(Refusal::new(404, json!({"reason": "not_found"})))),
            Reply::Body(Some(json!({"key": "k", "value": null, "type": "XComResult"})))
        );
    }

    #[test]
    fn any_other_refusal_raises_in_the_child() {
        let (_, shape) = ask(json!({"type": "GetDag", "dag_id": "d"}));
        let got = reply(shape, Err(Refusal::new(404, json!({"reason": "not_found"}))));
        assert_eq!(
            got,
            Reply::Error(json!({
                "error": "API_SERVER_ERROR",
                "detail": {
                    "status_code": 404, "message": "Server returned error", "detail": {"detail": {"reason": "not_found"}},
                },
                "type": "ErrorResponse",
            }))
        );
    }

    #[test]
    fn a_deferral_keeps_its_body_without_type_and_state() {
        let request = plan(read(json!({
            "type": "DeferTask", "state": "deferred", "classpath": "a.B", "trigger_kwargs": {"x": 1},
            "next_method": "resume", "trigger_timeout": "PT5S",
        })));
        let Request::End(TaskEnd::Deferred(body)) = request else {
            panic!("not a deferral: {request:?}")
        };
        assert_eq!(body["classpath"], "a.B");
        assert_eq!(body["trigger_timeout"], "PT5S");
        assert!(body.get("state").is_none() && body.get("type").is_none());
    }

    #[test]
    fn only_the_own_task_instance_may_be_named() {
        let message = read(json!({"type": "GetTaskStateStore", "ti_id": "b", "key": "k"}));
        assert!(names_other_task(&message, "a"));
        assert!(!names_other_task(&message, "b"));
        assert!(!names_other_task(
            &read(json!({"type": "GetVariable", "key": "k"})),
            "a"
        ));
    }

    mod whatever_a_child_sends {
        use proptest::prelude::*;

        use super::*;

        const FIELDS: &[&str] = &[
            "key",
            "value",
            "dag_id",
            "run_id",
            "task_id",
            "ti_id",
            "map_index",
            "offset",
            "name",
            "uri",
            "state",
            "end_date",
            "reschedule_date",
            "logical_date",
            "logical_dates",
            "tasks",
            "rendered_fields",
            "conf",
            "reset_dag_run",
            "limit",
            "alias_name",
            "next_method",
            "classpath",
            "options",
            "subject",
            "conn_id",
        ];

        fn any_value() -> impl Strategy<Value = Value> {
            prop_oneof![
                Just(Value::Null),
                any::<bool>().prop_map(Value::from),
                any::<i64>().prop_map(Value::from),
                any::<f64>().prop_map(Value::from),
                ".{0,12}".prop_map(Value::from),
                Just(json!("2026-01-01T00:00:00Z")),
                Just(json!("-9999-99-99T99:99:99+99:99")),
                Just(json!([["a", -1], null, {"b": [1]}])),
                Just(json!({"a": {"b": null}})),
            ]
        }

        proptest! {
            #[test]
            fn is_planned_or_refused(
                kind in proptest::sample::select(ToSupervisor::KINDS),
                fields in proptest::collection::vec((proptest::sample::select(FIELDS), any_value()), 0..12),
            ) {
                let mut body: serde_json::Map<String, Value> =
                    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                body.insert("type".to_owned(), kind.into());
                if let Ok(message) = ToSupervisor::read(body) {
                    prop_assert_eq!(message.kind(), kind);
                    let _ = names_other_task(&message, "own");
                    let _ = plan(message);
                }
            }
        }
    }
}
