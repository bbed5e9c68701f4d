//! What a task says of itself: started, alive, rendered, skipped others. Its end is in [`crate::ends`].

use isobar_model::TaskId;
use isobar_store::transitions::{self, TaskWrite};
use isobar_store::{rendered, reschedules, run_calls, task_instances};
use isobar_wire::execution::{Answer, Caller, Refusal, TaskIdentity, TaskStart};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answers::{broken, invalid, not_found, refusal, time};
use crate::execution::{Execution, Outcome};
use crate::standing::{Reach, key_of, may_read, reach_of, run_of, task_of};

/// The refusal that a task's write met.
pub(crate) fn missing() -> Refusal {
    not_found("Task Instance not found")
}

fn archived() -> Refusal {
    refusal(
        410,
        "not_found",
        "Task Instance not found, it may have been moved to the Task Instance History table",
    )
}

impl Execution {
    pub(crate) async fn run(&self, caller: &Caller, start: &TaskStart) -> Outcome {
        let task = task_of(caller)?;
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        let written = transitions::started(&mut tx, scope, task, start, Timestamp::now())
            .await
            .map_err(broken)?;
        let started = match written {
            TaskWrite::Done(started) | TaskWrite::Repeated(started) => started,
            TaskWrite::Missing | TaskWrite::Archived => return Err(missing()),
            TaskWrite::WrongState(ti) => {
                return Err(Refusal::new(
                    409,
                    json!({
                        "reason": "invalid_state",
                        "message": "TI was not in a state where it could be marked as running",
                        "previous_state": ti.state.map(isobar_model::TaskState::as_str),
                    }),
                ));
            }
        };
        let context = self.run_context(&mut tx, caller, &started).await.map_err(broken)?;
        tx.commit().await.map_err(broken)?;
        Ok(Answer::ok(context))
    }

    pub(crate) async fn heartbeat(&self, caller: &Caller, hostname: &str, pid: i32) -> Outcome {
        let task = task_of(caller)?;
        let mut tx = self.store.begin().await.map_err(broken)?;
        let written = transitions::heartbeat(&mut tx, self.own(caller), task, hostname, pid, Timestamp::now())
            .await
            .map_err(broken)?;
        match written {
            TaskWrite::Done(()) | TaskWrite::Repeated(()) => {
                tx.commit().await.map_err(broken)?;
                Ok(Answer::done())
            }
            TaskWrite::Missing => Err(missing()),
            TaskWrite::Archived => Err(archived()),
            TaskWrite::WrongState(ti) => {
                let elsewhere = ti.hostname.as_deref() != Some(hostname) || ti.pid != Some(i64::from(pid));
                Err(Refusal::new(
                    409,
                    if elsewhere {
                        json!({
                            "reason": "running_elsewhere",
                            "message": "TI is already running elsewhere",
                            "current_hostname": ti.hostname,
                            "current_pid": ti.pid,
                        })
                    } else {
                        json!({
                            "reason": "not_running",
                            "message": "TI is no longer in the running state and task should terminate",
                            "current_state": ti.state.map(isobar_model::TaskState::as_str),
                        })
                    },
                ))
            }
        }
    }

    pub(crate) async fn set_rendered_fields(&self, caller: &Caller, fields: &Value) -> Outcome {
        let task = task_of(caller)?;
        if !fields.is_object() {
            return Err(invalid("", "Input should be a valid dictionary", fields));
        }
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        let reach = reach_of(&mut tx, scope, caller, true).await?;
        if reach == Reach::Nothing {
            let stale = task_instances::is_archived(&mut tx, scope, task.ti_id)
                .await
                .map_err(broken)?;
            return Err(if stale { archived() } else { missing() });
        }
        rendered::set(&mut tx, scope, &run_of(task), &key_of(task), fields)
            .await
            .map_err(broken)?;
        tx.commit().await.map_err(broken)?;
        Ok(Answer::created(
            json!({"message": "Rendered task instance fields successfully set"}),
        ))
    }

    pub(crate) async fn set_rendered_map_index(&self, caller: &Caller, text: &str) -> Outcome {
        let task = task_of(caller)?;
        if text.is_empty() {
            return Err(Refusal::new(422, "rendered_map_index cannot be empty"));
        }
        let mut tx = self.store.begin().await.map_err(broken)?;
        let written = transitions::set_rendered_map_index(&mut tx, self.own(caller), task, text, Timestamp::now())
            .await
            .map_err(broken)?;
        match written {
            TaskWrite::Done(()) | TaskWrite::Repeated(()) => {
                tx.commit().await.map_err(broken)?;
                Ok(Answer::done())
            }
            _ => Err(Refusal::new(404, "Task Instance not found")),
        }
    }

    pub(crate) async fn skip_downstream(&self, caller: &Caller, tasks: &[Value]) -> Outcome {
        let task = task_of(caller)?;
        let skipped: Vec<(TaskId, i32)> = tasks
            .iter()
            .map(|item| {
                read_skipped(item).ok_or_else(|| invalid("tasks", "a task id, or a task id and a map index", item))
            })
            .collect::<Result<_, _>>()?;
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        if reach_of(&mut tx, scope, caller, false).await? != Reach::Everything {
            return Err(missing());
        }
        let written = transitions::skip_downstream(&mut tx, scope, task, &skipped, Timestamp::now())
            .await
            .map_err(broken)?;
        match written {
            TaskWrite::Done(_) | TaskWrite::Repeated(_) => {
                tx.commit().await.map_err(broken)?;
                Ok(Answer::done())
            }
            _ => Err(missing()),
        }
    }

    pub(crate) async fn previous_successful_dag_run(&self, caller: &Caller) -> Outcome {
        let task = task_of(caller)?;
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let run = isobar_store::runs::get(&mut tx, scope, &run_of(task))
            .await
            .map_err(broken)?;
        let before = run.and_then(|run| run.logical_date);
        let found = match before {
            Some(before) => run_calls::previous(&mut tx, scope, task.dag_id.as_str(), before, Some("success"))
                .await
                .map_err(broken)?,
            None => None,
        };
        let field = |of: fn(&isobar_store::runs::Run) -> Option<Timestamp>| time(found.as_ref().and_then(of));
        Ok(Answer::ok(json!({
            "data_interval_start": field(|run| run.interval_start),
            "data_interval_end": field(|run| run.interval_end),
            "start_date": field(|run| run.start_date),
            "end_date": field(|run| run.end_date),
        })))
    }

    pub(crate) async fn validate_inlets_and_outlets(&self, caller: &Caller) -> Outcome {
        let task = task_of(caller)?;
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let inactive =
            isobar_store::assets::inactive_of_task(&mut tx, scope, task.dag_id.as_str(), task.task_id.as_str())
                .await
                .map_err(broken)?;
        let profiles: Vec<Value> = inactive
            .into_iter()
            .map(|(name, uri)| json!({"name": name, "uri": uri, "type": "Asset"}))
            .collect();
        Ok(Answer::ok(json!({"inactive_assets": profiles})))
    }

    pub(crate) async fn reschedule_start_date(&self, caller: &Caller) -> Outcome {
        let task: &TaskIdentity = task_of(caller)?;
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let (_, first) = reschedules::count_and_first(&mut tx, scope, task.ti_id)
            .await
            .map_err(broken)?;
        Ok(Answer::ok(time(first)))
    }
}

fn read_skipped(item: &Value) -> Option<(TaskId, i32)> {
    match item {
        Value::String(task_id) => Some((task_id.as_str().into(), isobar_model::UNMAPPED)),
        Value::Array(pair) => match pair.as_slice() {
            [task_id, index] => Some((task_id.as_str()?.into(), i32::try_from(index.as_i64()?).ok()?)),
            _ => None,
        },
        _ => None,
    }
}
