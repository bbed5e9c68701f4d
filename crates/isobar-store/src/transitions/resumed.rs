//! Tasks that waited for a trigger, for a person or for too long, and go on: by a worker, or not at all.

use isobar_auth::TeamScope;
use isobar_model::{RunKey, TaskKey, TaskState, TiId};
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::OpenRun;
use super::task::{Ended, EndedTask, FINISHING, changed, write_end};
use crate::db::vals;
use crate::hitl::{self, HitlDetail};
use crate::runs::Run;
use crate::task_instances::TaskInstance;
use crate::{StoreError, Tx, triggers, xcoms};

/// The word by which the Task SDK fails a task at once.
const FAIL: &str = "__fail__";

/// What a waiting task must still wait for, or somebody else was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// This trigger.
    Trigger(i64),
    /// Anything, but its time is over.
    Timeout,
    /// A person, in this try.
    Answer(TiId),
}

impl WaitsFor {
    fn holds(self, ti: &TaskInstance, now: Timestamp) -> bool {
        let parked = matches!(ti.state, Some(TaskState::Deferred | TaskState::AwaitingInput));
        match self {
            Self::Trigger(id) => ti.state == Some(TaskState::Deferred) && ti.trigger_id == Some(id),
            Self::Timeout => parked && ti.trigger_timeout.is_some_and(|until| until <= now),
            Self::Answer(id) => parked && ti.id == id,
        }
    }
}

/// How a task goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Resume {
    /// With its method; the event, as Airflow's serializer writes it, is one of the arguments.
    Event(Value),
    /// A worker fails it, so that its callbacks run.
    Fail {
        /// Why, in Airflow's words.
        error: String,
        /// Python's lines, where there are some.
        traceback: Option<Vec<String>>,
    },
}

impl Resume {
    /// Method and arguments of the next start.
    pub(super) fn next(&self, method: Option<&str>, kwargs: &Value) -> (String, Value) {
        match self {
            Self::Event(event) => {
                let mut kwargs = plain_arguments(kwargs);
                kwargs.insert("event".to_owned(), event.clone());
                (method.unwrap_or_default().to_owned(), kwargs.into())
            }
            Self::Fail { error, traceback } => {
                let mut kwargs = json!({"error": error});
                if let Some(traceback) = traceback {
                    kwargs["traceback"] = json!(traceback);
                }
                (FAIL.to_owned(), kwargs)
            }
        }
    }
}

/// Arguments as a map of names; those of a Dag file come in the older encoding, wrapped whole.
fn plain_arguments(kwargs: &Value) -> Map<String, Value> {
    match kwargs {
        Value::Object(map) => match (map.get("__type"), map.get("__var")) {
            (Some(kind), Some(Value::Object(inner))) if kind == "dict" => inner.clone(),
            _ => map.clone(),
        },
        _ => Map::new(),
    }
}

/// A waiting task becomes `scheduled` again, in the same try. None where it does not wait for this any more: drop the unit.
///
/// # Errors
/// The database failed.
pub async fn resumed(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task: &TaskKey,
    waits_for: WaitsFor,
    resume: &Resume,
    now: Timestamp,
) -> Result<Option<TaskInstance>, StoreError> {
    let Some((open, before)) = waiting(tx, scope, run, task, waits_for, now).await? else {
        return Ok(None);
    };
    wake_triggerer(tx, &before, waits_for);
    let (method, kwargs) = resume.next(before.next_method.as_deref(), &before.next_kwargs);
    schedule(tx, open, &before, &method, &kwargs, None, now)
        .await
        .map(|(after, _)| Some(after))
}

/// A task waited for too long: for a trigger, and a worker fails it; for a person, and it goes on with the defaults, or learns
/// that nobody answered. None where it does not wait any more: drop the unit.
///
/// # Errors
/// The database failed.
pub async fn timed_out(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task: &TaskKey,
    now: Timestamp,
) -> Result<Option<TaskInstance>, StoreError> {
    let Some((open, before)) = waiting(tx, scope, run, task, WaitsFor::Timeout, now).await? else {
        return Ok(None);
    };
    let resume = if before.state == Some(TaskState::AwaitingInput) {
        Resume::Event(unanswered(tx, scope, before.id, now).await?)
    } else {
        Resume::Fail {
            error: "Trigger timeout".to_owned(),
            traceback: None,
        }
    };
    wake_triggerer(tx, &before, WaitsFor::Timeout);
    let (method, kwargs) = resume.next(before.next_method.as_deref(), &before.next_kwargs);
    schedule(tx, open, &before, &method, &kwargs, None, now)
        .await
        .map(|(after, _)| Some(after))
}

/// What a task learns whose question's time is over.
async fn unanswered(tx: &mut Tx, scope: TeamScope, ti_id: TiId, now: Timestamp) -> Result<Value, StoreError> {
    let detail = hitl::get(tx, scope, ti_id).await?;
    if let Some(detail) = detail.as_ref().filter(|detail| detail.is_answered()) {
        return Ok(detail.event(false));
    }
    if let Some(response) = detail.as_ref().and_then(HitlDetail::default_response) {
        hitl::answer(tx, scope, ti_id, &response, now).await?;
        if let Some(detail) = hitl::get(tx, scope, ti_id).await? {
            return Ok(detail.event(true));
        }
    }
    Ok(json!({
        "error": "The Human-in-the-loop response timeout has passed without a response.",
        "error_type": "timeout",
    }))
}

/// What became of a person's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// Written; the task goes on if it waits already.
    Done(Box<HitlDetail>),
    /// The try asks nothing (any more).
    Missing,
    /// Somebody was first.
    Already,
}

/// A person answers the question of a try.
///
/// # Errors
/// The database failed.
pub async fn answered(
    tx: &mut Tx,
    scope: TeamScope,
    ti: &TaskInstance,
    response: &Value,
    now: Timestamp,
) -> Result<Answered, StoreError> {
    // The run is locked first, so that the task cannot park between the look at its state and the answer.
    let Some(open) = OpenRun::lock(tx, scope, &ti.run_key(), now).await? else {
        return Ok(Answered::Missing);
    };
    let current = crate::task_instances::get(tx, scope, &ti.run_key(), &ti.task_key()).await?;
    let Some(before) = current.filter(|current| current.id == ti.id) else {
        return Ok(Answered::Missing);
    };
    if !hitl::answer(tx, scope, ti.id, response, now).await? {
        return Ok(Answered::Already);
    }
    let Some(detail) = hitl::get(tx, scope, ti.id).await? else {
        return Ok(Answered::Missing);
    };
    if WaitsFor::Answer(ti.id).holds(&before, now) {
        wake_triggerer(tx, &before, WaitsFor::Answer(ti.id));
        let resume = Resume::Event(detail.event(false));
        let (method, kwargs) = resume.next(before.next_method.as_deref(), &before.next_kwargs);
        schedule(tx, open, &before, &method, &kwargs, None, now).await?;
    } else {
        open.close(tx, false).await?;
    }
    Ok(Answered::Done(Box::new(detail)))
}

/// A running task that would wait for a person has the answer already.
pub(super) async fn go_on(
    tx: &mut Tx,
    open: OpenRun,
    before: TaskInstance,
    end: &Ended,
    resume: &Resume,
    now: Timestamp,
) -> Result<EndedTask, StoreError> {
    let (method, kwargs) = match end {
        Ended::AwaitingInput {
            next_method,
            next_kwargs,
            ..
        } => resume.next(Some(next_method), next_kwargs),
        _ => resume.next(before.next_method.as_deref(), &before.next_kwargs),
    };
    let (after, run) = schedule(tx, open, &before, &method, &kwargs, Some(now + FINISHING), now).await?;
    Ok(EndedTask { before, after, run })
}

async fn schedule(
    tx: &mut Tx,
    mut open: OpenRun,
    before: &TaskInstance,
    method: &str,
    kwargs: &Value,
    finishing_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<(TaskInstance, Run), StoreError> {
    let scope = open.scope;
    let row = tx
        .row(
            "UPDATE task_instance SET state = 'scheduled', scheduled_at = $6, updated_at = $6, trigger_id = NULL, \
             trigger_timeout = NULL, next_method = $7, next_kwargs = $8, finishing_until = coalesce($9, finishing_until) \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = $5 RETURNING *",
            vals![
                scope.team(),
                &before.dag_id,
                &before.run_id,
                &before.task_id,
                before.map_index,
                now,
                method,
                kwargs,
                finishing_until,
            ],
        )
        .await?
        .ok_or_else(|| StoreError::Conflict {
            what: format!("task instance `{}`", before.task_id),
        })?;
    let after = TaskInstance::from_row(&row)?;
    if let Some(trigger) = before.trigger_id {
        triggers::forget(tx, scope, trigger).await?;
    }
    open.change.instances.push(changed(&after, None, false));
    let run = open.row.clone();
    open.close(tx, true).await?;
    Ok((after, run))
}

/// The triggerer still runs the trigger of a task that goes on for another reason.
fn wake_triggerer(tx: &mut Tx, before: &TaskInstance, waits_for: WaitsFor) {
    if before.trigger_id.is_some() && !matches!(waits_for, WaitsFor::Trigger(_)) {
        tx.wake(Wake::Triggers(before.team));
    }
}

/// A trigger ends its task itself, with XComs. None where the task does not wait for it any more: drop the unit.
///
/// # Errors
/// The database failed.
#[expect(clippy::too_many_arguments, reason = "who, what and when")]
pub async fn ended_by_trigger(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task: &TaskKey,
    trigger: i64,
    end: &Ended,
    xcoms: &Map<String, Value>,
    now: Timestamp,
) -> Result<Option<EndedTask>, StoreError> {
    let Some((open, before)) = waiting(tx, scope, run, task, WaitsFor::Trigger(trigger), now).await? else {
        return Ok(None);
    };
    for (key, value) in xcoms {
        let place = xcoms::XComPlace {
            dag_id: run.dag_id.as_str(),
            run_id: run.run_id.as_str(),
            task_id: task.task_id.as_str(),
            key,
        };
        xcoms::set(tx, scope, place, task.map_index, value, false, now).await?;
    }
    triggers::forget(tx, scope, trigger).await?;
    write_end(tx, open, before, end, now, None, now).await.map(Some)
}

/// Locks the run of a task that waits for this; none where it does not, and then the lock moved the revision for nothing.
async fn waiting(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task: &TaskKey,
    waits_for: WaitsFor,
    now: Timestamp,
) -> Result<Option<(OpenRun, TaskInstance)>, StoreError> {
    let Some(open) = OpenRun::lock(tx, scope, run, now).await? else {
        return Ok(None);
    };
    let found = crate::task_instances::get(tx, scope, run, task).await?;
    Ok(found.filter(|ti| waits_for.holds(ti, now)).map(|before| (open, before)))
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_joins_the_arguments_however_they_are_wrapped() {
        let event = Resume::Event(json!("now"));
        for kwargs in [json!({"a": 1}), json!({"__type": "dict", "__var": {"a": 1}})] {
            assert_eq!(
                event.next(Some("resume"), &kwargs),
                ("resume".to_owned(), json!({"a": 1, "event": "now"}))
            );
        }
        assert_eq!(event.next(Some("resume"), &Value::Null).1, json!({"event": "now"}));
    }

    #[test]
    fn a_failure_calls_no_method_of_the_task() {
        let failed = Resume::Fail {
            error: "Trigger timeout".to_owned(),
            traceback: None,
        };
        assert_eq!(
            failed.next(Some("resume"), &json!({"a": 1})),
            ("__fail__".to_owned(), json!({"error": "Trigger timeout"}))
        );
    }
}
