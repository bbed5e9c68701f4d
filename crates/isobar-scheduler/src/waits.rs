//! Tasks that wait for a trigger or a person, and until when. The timer wheel knows each run's earliest end of waiting;
//! nobody looks through deferred tasks.

use isobar_model::{RunKey, TaskState};
use isobar_store::loading;
use isobar_store::task_instances::TaskInstance;
use isobar_store::transitions::{ReadyTask, timed_out};
use isobar_store::triggers::{DeferredStart, Kwargs, Trigger};
use isobar_store::{Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::memory::{Memory, RunRef};
use crate::pass::Pass;
use crate::setting::Setting;

/// How a task starts without a worker, as its Dag says.
#[derive(Clone, Debug)]
pub(crate) struct DeferredStartOf {
    trigger: Trigger,
    next_method: String,
    next_kwargs: Value,
    timeout: Option<SignedDuration>,
}

impl DeferredStartOf {
    /// Reads it from a task; none where the task starts on a worker.
    pub(crate) fn read(task: &isobar_model::dag::Task) -> Option<Self> {
        let args = task.start_trigger_args.as_ref().filter(|_| task.start_from_trigger)?;
        // Execution may take no longer than the task says, wherever it happens.
        let timeout = match (args.timeout, task.execution_timeout) {
            (Some(waiting), Some(execution)) => Some(waiting.min(execution)),
            (waiting, execution) => waiting.or(execution),
        };
        Some(Self {
            trigger: Trigger {
                classpath: args.trigger_cls.clone(),
                kwargs: Kwargs::Plain(arguments(&args.trigger_kwargs).to_string()),
                queue: None,
            },
            next_method: args.next_method.clone(),
            next_kwargs: arguments(&args.next_kwargs),
            timeout,
        })
    }

    fn at(&self, key: isobar_model::TaskKey, now: Timestamp) -> DeferredStart {
        DeferredStart {
            key,
            trigger: self.trigger.clone(),
            next_method: self.next_method.clone(),
            next_kwargs: self.next_kwargs.clone(),
            timeout: self
                .timeout
                .map(|wait| now.saturating_add(wait).unwrap_or(Timestamp::MAX)),
        }
    }
}

/// A map of arguments, which a Dag file's JSON wraps in its type.
fn arguments(tagged: &Value) -> Value {
    match tagged {
        Value::Null => json!({}),
        Value::Object(map) if map.get("__type").is_some_and(|kind| kind == "dict") => {
            map.get("__var").cloned().unwrap_or_else(|| json!({}))
        }
        other => other.clone(),
    }
}

/// Ends the waiting of tasks whose time is over, in units of their own: the events that this makes are taken by the next
/// pass.
///
/// # Errors
/// The database failed.
pub(crate) async fn end_overdue(store: &Store, setting: &Setting, memory: &mut Memory) -> Result<(), StoreError> {
    let now = Timestamp::now();
    for run in memory.waits.due(now) {
        let scope = setting.org.team(run.team);
        let mut tx = store.read().await?;
        let waiting = loading::waiting_of_run(&mut tx, scope, &run.key).await?;
        drop(tx);
        for ti in waiting {
            let Some(until) = ti.waits_until() else { continue };
            if until > now {
                memory.waits.wish(run.clone(), until);
            } else {
                end_waiting(store, setting, &run, &ti, now).await?;
            }
        }
    }
    Ok(())
}

async fn end_waiting(
    store: &Store,
    setting: &Setting,
    run: &RunRef,
    ti: &TaskInstance,
    now: Timestamp,
) -> Result<(), StoreError> {
    let scope = setting.org.team(run.team);
    let key: &RunKey = &run.key;
    let mut tx = store.begin().await?;
    if timed_out(&mut tx, scope, key, &ti.task_key(), now).await?.is_some() {
        tx.commit().await?;
        tracing::info!(team = %run.team, dag = %key.dag_id, run = %key.run_id, task = %ti.task_id,
            map_index = ti.map_index, state = ?ti.state, "a task waited too long");
    }
    Ok(())
}

impl Pass<'_> {
    /// Remembers until when an instance waits.
    pub(crate) fn note_wait(&mut self, run: &RunRef, until: Option<Timestamp>) {
        if let Some(until) = until {
            self.memory.waits.wish(run.clone(), until);
        }
    }

    /// Plans that a task starts as deferred. False where the Dag does not say how: then it starts on a worker.
    pub(crate) fn defer_at_once(&mut self, run: &RunRef, task: &ReadyTask) -> bool {
        let now = self.now;
        let Some(start) = self
            .memory
            .runs
            .get(run)
            .and_then(|live| live.version.deferred_start(&task.key.task_id))
            .map(|start| start.at(task.key.clone(), now))
        else {
            return false;
        };
        self.note_wait(run, start.timeout);
        // It takes no slot of an executor, but may hold some of its pool and of its own limits.
        if let Some(candidate) = self.offer(run, &task.key) {
            self.admission.holding(candidate, TaskState::Deferred);
        }
        self.plan(run).defer.push((task.clone(), start));
        true
    }
}
