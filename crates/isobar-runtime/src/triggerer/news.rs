//! What the fork says: a question, or news of its triggers.

use isobar_model::TaskState;
use isobar_wire::triggers::{TriggerEvent, TriggerNews};
use serde_json::{Map, Value, json};

/// The message's type.
pub(super) const KIND: &str = "TriggerStateChanges";

/// One report of the fork.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Report {
    /// Events and failures, in the order in which they happened.
    pub(super) news: Vec<TriggerNews>,
    /// Numbers of events of which it wants to know that they are stored.
    pub(super) numbers: Vec<i64>,
    /// Triggers that run no more.
    pub(super) finished: Vec<i64>,
}

impl Report {
    /// Reads a report. What cannot be read of it is left out and said: a fork is not trusted.
    pub(super) fn read(body: &Map<String, Value>) -> Self {
        let list = |key: &str| body.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut report = Self::default();
        for entry in list("events") {
            match event(&entry) {
                Some(news) => report.news.push(news),
                None => tracing::warn!("a triggerer sent an event that cannot be read"),
            }
            report.numbers.extend(entry.get(2).and_then(Value::as_i64));
        }
        for entry in list("failures") {
            if let Some(trigger) = entry.get(0).and_then(Value::as_i64) {
                let lines = entry.get(1).and_then(Value::as_array);
                report.news.push(TriggerNews::Failed {
                    trigger,
                    traceback: lines.map(|lines| {
                        lines
                            .iter()
                            .filter_map(|line| line.as_str().map(str::to_owned))
                            .collect()
                    }),
                });
            }
        }
        report.finished = list("finished").iter().filter_map(Value::as_i64).collect();
        report
    }

    /// Whether it says nothing and so asks what to do.
    pub(super) fn is_question(&self) -> bool {
        *self == Self::default()
    }
}

/// `[trigger, {payload, serialized} or {task_instance_state, xcoms}, number]`
fn event(entry: &Value) -> Option<TriggerNews> {
    let trigger = entry.get(0)?.as_i64()?;
    let event = entry.get(1)?.as_object()?;
    let event = match event.get("task_instance_state") {
        Some(state) => TriggerEvent::Ends {
            state: state
                .as_str()?
                .parse::<TaskState>()
                .ok()
                .filter(|state| matches!(state, TaskState::Success | TaskState::Failed | TaskState::Skipped))?,
            xcoms: event
                .get("xcoms")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
        },
        None => TriggerEvent::Payload {
            plain: event.get("payload")?.clone(),
            serialized: event.get("serialized")?.clone(),
        },
    };
    Some(TriggerNews::Fired { trigger, event })
}

/// Airflow's answer to both.
pub(super) fn answer(start: &[Value], stop: &[i64], stored: &[i64]) -> Value {
    json!({
        "type": "TriggerStateSync",
        "to_create": start,
        "to_cancel": stop,
        "events_persisted": if stored.is_empty() { Value::Null } else { json!(stored) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "a literal is given")]
    fn read(body: Value) -> Report {
        Report::read(body.as_object().unwrap())
    }

    #[test]
    fn a_message_without_news_is_a_question() {
        assert!(read(json!({"type": KIND, "events": null, "failures": null, "finished": null})).is_question());
        assert!(!read(json!({"finished": [1]})).is_question());
    }

    #[test]
    fn events_failures_and_ends_are_told_apart() {
        let report = read(json!({
            "events": [
                [1, {"payload": "x", "serialized": {"__classname__": "y"}}, 7],
                [2, {"task_instance_state": "success", "xcoms": {"a": 1}}, null],
                [3, {"task_instance_state": "running", "xcoms": null}, null],
                "nonsense",
            ],
            "failures": [[4, ["Traceback", "Boom"]], [5, null]],
            "finished": [1, 2],
        }));
        let xcoms = json!({"a": 1}).as_object().cloned().unwrap();
        assert_eq!(
            report.news,
            [
                TriggerNews::Fired {
                    trigger: 1,
                    event: TriggerEvent::Payload {
                        plain: json!("x"),
                        serialized: json!({"__classname__": "y"}),
                    },
                },
                TriggerNews::Fired {
                    trigger: 2,
                    event: TriggerEvent::Ends {
                        state: TaskState::Success,
                        xcoms,
                    },
                },
                TriggerNews::Failed {
                    trigger: 4,
                    traceback: Some(vec!["Traceback".to_owned(), "Boom".to_owned()]),
                },
                TriggerNews::Failed {
                    trigger: 5,
                    traceback: None,
                },
            ]
        );
        assert_eq!((report.numbers, report.finished), (vec![7], vec![1, 2]));
    }
}
