//! How a task ends or pauses, as its supervisor says.

use isobar_model::TaskState;
use isobar_store::transitions::{self, Ended, TaskWrite};
use isobar_store::triggers::{Kwargs, Trigger};
use isobar_store::{StoreError, Tx, seal};
use isobar_wire::execution::{Answer, Caller, Refusal, TaskEnd, TaskIdentity};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::answers::{broken, invalid};
use crate::asset_changes::{Outlets, check_partition_keys};
use crate::execution::{Execution, Outcome};
use crate::standing::task_of;
use crate::tasks::missing;

/// A task's end, taken apart.
struct End {
    how: How,
    end_date: Option<Timestamp>,
    rendered_map_index: Option<String>,
    outlets: Option<Outlets>,
}

enum How {
    Ended(Ended),
    Deferred(Pause, Deferral),
    AwaitingInput(Pause),
}

/// The trigger that a task waits for, as the task described it.
struct Deferral {
    classpath: String,
    kwargs: String,
    queue: Option<String>,
}

/// What a task that pauses leaves for when it resumes.
struct Pause {
    timeout: Option<SignedDuration>,
    next_method: String,
    next_kwargs: Value,
}

impl Execution {
    pub(crate) async fn state(&self, caller: &Caller, end: TaskEnd) -> Outcome {
        let task = task_of(caller)?;
        let scope = self.own(caller);
        let end = take_apart(end)?;
        if let Some(outlets) = &end.outlets {
            check_partition_keys(outlets)?;
        }
        let mut tx = self.store.begin().await.map_err(broken)?;
        let now = Timestamp::now();
        let ended = self.resolve(&mut tx, task, end.how, now).await.map_err(broken)?;
        let end_date = end.end_date.unwrap_or(now);
        let rendered = end.rendered_map_index.as_deref();
        let written = transitions::ended(&mut tx, scope, task, &ended, end_date, rendered, now)
            .await
            .map_err(broken)?;
        match written {
            TaskWrite::Done(done) => {
                if let Some(outlets) = &end.outlets {
                    self.register_outlets(&mut tx, caller, task, &done.run, outlets, now)
                        .await
                        .map_err(broken)?;
                }
                tx.commit().await.map_err(broken)?;
                Ok(Answer::done())
            }
            // Nothing to write; dropping the unit takes back the trigger row of a repeated deferral.
            TaskWrite::Repeated(_) => Ok(Answer::ok(Value::Null)),
            TaskWrite::Missing | TaskWrite::Archived => Err(missing()),
            TaskWrite::WrongState(ti) => Err(Refusal::new(
                409,
                json!({
                    "reason": "invalid_state",
                    "message": "TI was not in the running state so it cannot be updated",
                    "previous_state": ti.state.map(TaskState::as_str),
                }),
            )),
        }
    }

    async fn resolve(&self, tx: &mut Tx, task: &TaskIdentity, how: How, now: Timestamp) -> Result<Ended, StoreError> {
        let at =
            |timeout: Option<SignedDuration>| timeout.map(|wait| now.saturating_add(wait).unwrap_or(Timestamp::MAX));
        Ok(match how {
            How::Ended(ended) => ended,
            How::Deferred(pause, deferral) => Ended::Deferred {
                trigger: self.sealed(tx, task, deferral).await?,
                next_method: pause.next_method,
                next_kwargs: pause.next_kwargs,
                timeout: at(pause.timeout),
            },
            How::AwaitingInput(pause) => Ended::AwaitingInput {
                next_method: pause.next_method,
                next_kwargs: pause.next_kwargs,
                timeout: at(pause.timeout),
            },
        })
    }
}

impl Execution {
    /// What a running task gives its trigger may be a secret: it is kept sealed.
    async fn sealed(&self, tx: &mut Tx, task: &TaskIdentity, deferral: Deferral) -> Result<Trigger, StoreError> {
        let key = seal::team_key(tx, self.org.team(task.team), &self.settings.master_key).await?;
        let sealed = key.seal(&Kwargs::place(task.ti_id), deferral.kwargs.as_bytes());
        Ok(Trigger {
            classpath: deferral.classpath,
            kwargs: Kwargs::Sealed(sealed),
            queue: deferral.queue,
        })
    }
}

fn take_apart(end: TaskEnd) -> Result<End, Refusal> {
    let finally = |state, end_date: isobar_model::AirflowTime, rendered_map_index| End {
        how: How::Ended(Ended::Finally(state)),
        end_date: Some(end_date.0),
        rendered_map_index,
        outlets: None,
    };
    Ok(match end {
        TaskEnd::Success {
            end_date,
            task_outlets,
            outlet_events,
            rendered_map_index,
        } => End {
            outlets: Some(Outlets {
                task_outlets,
                outlet_events,
            }),
            ..finally(TaskState::Success, end_date, rendered_map_index)
        },
        TaskEnd::Failed {
            end_date,
            rendered_map_index,
        } => finally(TaskState::Failed, end_date, rendered_map_index),
        TaskEnd::Skipped {
            end_date,
            rendered_map_index,
        } => finally(TaskState::Skipped, end_date, rendered_map_index),
        TaskEnd::Removed {
            end_date,
            rendered_map_index,
        } => finally(TaskState::Removed, end_date, rendered_map_index),
        TaskEnd::UpForRetry {
            end_date,
            retry_delay_seconds,
            retry_reason,
            rendered_map_index,
        } => End {
            how: How::Ended(Ended::UpForRetry {
                delay: retry_delay_seconds,
                reason: retry_reason.filter(|reason| !reason.is_empty()),
            }),
            end_date: Some(end_date.0),
            rendered_map_index,
            outlets: None,
        },
        TaskEnd::UpForReschedule {
            reschedule_date,
            end_date,
        } => End {
            how: How::Ended(Ended::UpForReschedule { at: reschedule_date.0 }),
            end_date: Some(end_date.0),
            rendered_map_index: None,
            outlets: None,
        },
        TaskEnd::Deferred(body) => {
            let deferral = Deferral {
                classpath: text(&body, "classpath")?,
                kwargs: match &body["trigger_kwargs"] {
                    Value::String(sealed) => sealed.clone(),
                    Value::Null => "{}".to_owned(),
                    kwargs => kwargs.to_string(),
                },
                queue: body["queue"].as_str().map(str::to_owned),
            };
            let pause = read_pause(&body, "trigger_timeout")?;
            paused(&body, How::Deferred(pause, deferral))
        }
        TaskEnd::AwaitingInput(body) => {
            let pause = read_pause(&body, "timeout")?;
            paused(&body, How::AwaitingInput(pause))
        }
    })
}

fn paused(body: &Value, how: How) -> End {
    End {
        how,
        end_date: None,
        rendered_map_index: body["rendered_map_index"].as_str().map(str::to_owned),
        outlets: None,
    }
}

fn text(body: &Value, key: &str) -> Result<String, Refusal> {
    body[key]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| invalid(key, "Input should be a valid string", &body[key]))
}

fn read_pause(body: &Value, timeout: &str) -> Result<Pause, Refusal> {
    let wait = match &body[timeout] {
        Value::Null => None,
        value => {
            Some(read_duration(value).ok_or_else(|| invalid(timeout, "Input should be a valid timedelta", value))?)
        }
    };
    Ok(Pause {
        timeout: wait,
        next_method: text(body, "next_method")?,
        next_kwargs: match &body["next_kwargs"] {
            Value::Null => json!({}),
            kwargs => kwargs.clone(),
        },
    })
}

/// Seconds, or an ISO 8601 duration with days at most (`P1DT30M`), as pydantic writes a `timedelta`.
fn read_duration(value: &Value) -> Option<SignedDuration> {
    if let Some(seconds) = value.as_f64() {
        return SignedDuration::try_from_secs_f64(seconds).ok();
    }
    let span: jiff::Span = value.as_str()?.parse().ok()?;
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_iso() {
        let seconds = |value: Value| read_duration(&value).map(|wait| wait.as_secs_f64());
        assert_eq!(seconds(json!(90.5)), Some(90.5));
        assert_eq!(seconds(json!("PT1M30.5S")), Some(90.5));
        assert_eq!(seconds(json!("P2DT1H")), Some(176_400.0));
        assert_eq!(seconds(json!("soon")), None);
    }

    #[test]
    fn a_deferral_without_a_method_is_refused() {
        let refused = take_apart(TaskEnd::Deferred(json!({"classpath": "a.B"})))
            .err()
            .unwrap();
        assert_eq!(refused.status, 422);
    }
}
