//! The Execution API in memory: one task instance and what it can reach, with the state rules of Airflow's server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use isobar_wire::execution::{Answer, Answering, Caller, ExecutionApi, Operation, Refusal, TaskEnd, XComKey};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// What the control plane knows.
#[derive(Default)]
pub struct World {
    pub state: String,
    pub max_tries: i32,
    pub try_number: i32,
    pub reschedules: i32,
    pub next_method: Option<String>,
    pub next_kwargs: Option<Value>,
    pub xcom_keys_to_clear: Vec<String>,
    pub variables: BTreeMap<String, String>,
    pub connections: BTreeMap<String, Value>,
    pub xcoms: BTreeMap<(String, String, i32), Value>,
    pub mapped_lengths: BTreeMap<String, i64>,
    pub rendered: Value,
    pub rendered_map_index: Option<String>,
    pub skipped: Vec<Value>,
    pub triggered: Vec<(String, String, Value)>,
    pub cleared_runs: Vec<String>,
    pub store: BTreeMap<String, Value>,
    pub ends: Vec<TaskEnd>,
    pub heartbeats: u32,
    pub disown: bool,
    pub fail_reports: u32,
    pub inactive_assets: Vec<Value>,
    pub hitl: Option<Value>,
    pub log: Vec<Operation>,
    pub run_answered: Option<std::time::Instant>,
    pub ended: Option<std::time::Instant>,
}

#[derive(Default)]
pub struct MemoryApi {
    world: Mutex<World>,
    pub changed: Notify,
}

impl MemoryApi {
    pub fn with(change: impl FnOnce(&mut World)) -> std::sync::Arc<Self> {
        let api = Self::default();
        {
            let mut world = api.world();
            world.state = "queued".into();
            world.try_number = 1;
            change(&mut world);
        }
        std::sync::Arc::new(api)
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Waits until `seen` holds.
    pub async fn until(&self, what: &str, seen: impl Fn(&World) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if seen(&self.world()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .unwrap_or_else(|_| panic!("never happened: {what}"));
    }
}

impl ExecutionApi for MemoryApi {
    fn call<'a>(&'a self, caller: &'a Caller, operation: Operation) -> Answering<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            let mut world = self.world();
            world.log.push(operation.clone());
            let answer = world.carry_out(caller, operation);
            drop(world);
            self.changed.notify_waiters();
            answer
        })
    }
}

fn not_found() -> Refusal {
    Refusal::new(404, json!({"reason": "not_found", "message": "not found"}))
}

fn slot(xcom: &XComKey, map_index: Option<i32>) -> (String, String, i32) {
    (xcom.task_id.clone(), xcom.key.clone(), map_index.unwrap_or(-1))
}

impl World {
    fn carry_out(&mut self, caller: &Caller, operation: Operation) -> Result<Answer, Refusal> {
        use Operation as O;
        match operation {
            O::Run(_) => self.run(caller),
            O::State(end) => self.end(end),
            O::Heartbeat { .. } => {
                self.heartbeats += 1;
                if self.disown {
                    return Err(Refusal::new(
                        409,
                        json!({"reason": "not_running", "current_state": "failed"}),
                    ));
                }
                Ok(Answer::done())
            }
            O::GetVariable { key } => match self.variables.get(&key) {
                Some(value) => Ok(Answer::ok(json!({"key": key, "value": value}))),
                None if key.starts_with("forbidden") => Err(Refusal::new(403, "forbidden")),
                None => Err(not_found()),
            },
            O::VariableKeys { prefix, .. } => {
                let prefix = prefix.unwrap_or_default();
                let keys: Vec<_> = self.variables.keys().filter(|key| key.starts_with(&prefix)).collect();
                Ok(Answer::ok(json!({"keys": keys, "total_entries": keys.len()})))
            }
            O::PutVariable { key, value, .. } => {
                self.variables.insert(key, value.unwrap_or_default());
                Ok(Answer::created(json!({"message": "Variable successfully set"})))
            }
            O::DeleteVariable { key } => self
                .variables
                .remove(&key)
                .map(|_| Answer::done())
                .ok_or_else(not_found),
            O::GetConnection { conn_id } => self
                .connections
                .get(&conn_id)
                .cloned()
                .map(Answer::ok)
                .ok_or_else(not_found),
            O::SetXCom {
                xcom,
                value,
                map_index,
                mapped_length,
                ..
            } => {
                if let Some(length) = mapped_length {
                    self.mapped_lengths.insert(xcom.task_id.clone(), length);
                }
                self.xcoms.insert(slot(&xcom, map_index), value);
                Ok(Answer::created(json!({"message": "XCom successfully set"})))
            }
            O::GetXCom { xcom, map_index, .. } => match self.xcoms.get(&slot(&xcom, map_index)) {
                Some(value) => Ok(Answer::ok(json!({"key": xcom.key, "value": value}))),
                None => Err(not_found()),
            },
            O::CountXCom { xcom } => {
                let mut answer = Answer::ok(Value::Null);
                answer.count = Some(self.mapped(&xcom).len() as i64);
                Ok(answer)
            }
            O::XComItem { xcom, offset } => {
                let mapped = self.mapped(&xcom);
                let at = usize::try_from(offset).map_err(|_| not_found())?;
                mapped.get(at).cloned().map(Answer::ok).ok_or_else(not_found)
            }
            O::XComSlice { xcom, start, stop, .. } => {
                let mapped = self.mapped(&xcom);
                let start = start.unwrap_or(0) as usize;
                let stop = stop.map_or(mapped.len(), |stop| stop as usize).min(mapped.len());
                Ok(Answer::ok(json!(mapped[start..stop])))
            }
            O::DeleteXCom { xcom, map_index } => {
                self.xcoms.remove(&slot(&xcom, map_index));
                Ok(Answer::ok(json!({"message": "XCom deleted"})))
            }
            O::SetRenderedFields(fields) => {
                self.rendered = fields;
                Ok(Answer::created(
                    json!({"message": "Rendered task instance fields successfully set"}),
                ))
            }
            O::SetRenderedMapIndex(text) => {
                self.rendered_map_index = Some(text);
                Ok(Answer::done())
            }
            O::SkipDownstream { tasks } => {
                self.skipped.extend(tasks);
                Ok(Answer::done())
            }
            O::ValidateInletsAndOutlets => Ok(Answer::ok(json!({"inactive_assets": self.inactive_assets}))),
            O::PreviousSuccessfulDagRun => Ok(Answer::ok(json!({
                "data_interval_start": null, "data_interval_end": null, "start_date": null, "end_date": null,
            }))),
            O::RescheduleStartDate { .. } => Ok(Answer::ok(match self.reschedules {
                0 => Value::Null,
                _ => json!("2026-01-01T00:00:00Z"),
            })),
            O::TriggerDagRun { dag_id, run_id, body } => {
                if self
                    .triggered
                    .iter()
                    .any(|(dag, run, _)| (dag, run) == (&dag_id, &run_id))
                {
                    return Err(Refusal::new(409, json!({"reason": "already_exists"})));
                }
                self.triggered.push((dag_id, run_id, body));
                Ok(Answer::done())
            }
            O::ClearDagRun { run_id, .. } => {
                self.cleared_runs.push(run_id);
                Ok(Answer::done())
            }
            O::DagRunState { .. } => Ok(Answer::ok(json!({"state": "success"}))),
            O::CountDagRuns { .. } | O::CountTasks(_) => Ok(Answer::ok(json!(3))),
            O::TaskStates(filter) => {
                let run = filter
                    .run_ids
                    .and_then(|ids| ids.into_iter().next())
                    .unwrap_or_default();
                Ok(Answer::ok(json!({"task_states": {run: {"a": "success"}}})))
            }
            O::GetDag { dag_id } => Ok(Answer::ok(json!({
                "dag_id": dag_id, "is_paused": false, "bundle_name": "tests", "bundle_version": null,
                "relative_fileloc": "x.py", "owners": "airflow", "tags": [], "next_dagrun": null,
            }))),
            O::GetTaskStore { key } => match self.store.get(&key) {
                Some(value) => Ok(Answer::ok(json!({"value": value}))),
                None => Err(not_found()),
            },
            O::SetTaskStore { key, value, .. } => {
                self.store.insert(key, value);
                Ok(Answer::done())
            }
            O::CreateHitlDetail(body) => {
                self.hitl = Some(body.clone());
                Ok(Answer::created(body))
            }
            other => Err(Refusal::new(501, format!("the test's control plane has no {other:?}"))),
        }
    }

    fn mapped(&self, xcom: &XComKey) -> Vec<Value> {
        let of_task =
            |(task, key, index): &(String, String, i32)| *task == xcom.task_id && *key == xcom.key && *index >= 0;
        self.xcoms
            .iter()
            .filter(|(slot, _)| of_task(slot))
            .map(|(_, value)| value.clone())
            .collect()
    }

    fn run(&mut self, caller: &Caller) -> Result<Answer, Refusal> {
        let Caller::Task(identity) = caller else {
            return Err(Refusal::new(403, "not a task"));
        };
        if self.state != "queued" && self.state != "restarting" {
            let detail = json!({"reason": "invalid_state", "previous_state": self.state});
            return Err(Refusal::new(409, detail));
        }
        self.state = "running".into();
        self.run_answered = Some(std::time::Instant::now());
        let at = "2026-01-01T00:00:00Z";
        Ok(Answer::ok(json!({
            "dag_run": {
                "dag_id": identity.dag_id.as_str(), "run_id": identity.run_id.as_str(), "logical_date": at,
                "data_interval_start": at, "data_interval_end": at, "run_after": at, "start_date": at,
                "end_date": null, "clear_number": 0, "run_type": "manual", "state": "running", "conf": {},
                "triggering_user_name": "tester", "consumed_asset_events": [], "partition_key": null,
            },
            "task_reschedule_count": self.reschedules,
            "max_tries": self.max_tries,
            "next_method": self.next_method,
            "next_kwargs": self.next_kwargs,
            "xcom_keys_to_clear": self.xcom_keys_to_clear,
            "should_retry": self.max_tries != 0 && self.try_number <= self.max_tries,
            "start_date": null,
        })))
    }

    fn end(&mut self, end: TaskEnd) -> Result<Answer, Refusal> {
        if self.fail_reports > 0 {
            self.fail_reports -= 1;
            return Err(Refusal::new(500, "the store is away"));
        }
        if self.state != "running" {
            let detail = json!({"reason": "invalid_state", "previous_state": self.state});
            return Err(Refusal::new(409, detail));
        }
        self.state = match &end {
            TaskEnd::Success { .. } => "success",
            TaskEnd::UpForRetry { .. } => "up_for_retry",
            TaskEnd::Failed { .. } => "failed",
            TaskEnd::Skipped { .. } => "skipped",
            TaskEnd::Removed { .. } => "removed",
            TaskEnd::Deferred(_) => "deferred",
            TaskEnd::UpForReschedule { .. } => "up_for_reschedule",
            TaskEnd::AwaitingInput(_) => "awaiting_input",
        }
        .into();
        self.ended = Some(std::time::Instant::now());
        self.ends.push(end);
        Ok(Answer::done())
    }
}
