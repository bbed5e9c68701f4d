//! What follows when a trigger fires or fails: its task goes on, or ends; the assets that it watches have an event.

use std::collections::BTreeSet;

use isobar_auth::TeamScope;
use isobar_engine::planner::retry::may_retry;
use isobar_model::TaskState;
use isobar_model::dag::SerializedDag;
use isobar_store::assets::{self, Change};
use isobar_store::task_instances::TaskInstance;
use isobar_store::transitions::{Ended, EndedTask, Resume, WaitsFor, ended_by_trigger, resumed};
use isobar_store::triggers::{self, StoredTrigger};
use isobar_store::{StoreError, Tx, callbacks, dags, loading};
use isobar_wire::execution::Caller;
use isobar_wire::triggers::{TriggerEvent, TriggerNews};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::execution::Execution;

impl Execution {
    /// Stores one piece of news, in units of its own. News of a trigger that nobody wants any more change nothing.
    pub(crate) async fn take_news(&self, caller: &Caller, news: &TriggerNews) -> Result<(), StoreError> {
        let scope = self.own(caller);
        let found = {
            let mut tx = self.store.read().await?;
            triggers::get(&mut tx, scope, &[news.trigger()]).await?.pop()
        };
        let Some(trigger) = found else { return Ok(()) };
        if let Some(ti) = &trigger.task {
            match news {
                TriggerNews::Fired {
                    event: TriggerEvent::Ends { state, xcoms },
                    ..
                } => return self.end_by_trigger(caller, trigger.id, ti, *state, xcoms).await,
                TriggerNews::Fired {
                    event: TriggerEvent::Payload { serialized, .. },
                    ..
                } => {
                    return self
                        .resume(scope, trigger.id, ti, Resume::Event(serialized.clone()))
                        .await;
                }
                TriggerNews::Failed { traceback, .. } => {
                    let failed = Resume::Fail {
                        error: "Trigger failure".to_owned(),
                        traceback: traceback.clone(),
                    };
                    return self.resume(scope, trigger.id, ti, failed).await;
                }
            }
        }
        match news {
            TriggerNews::Fired { event, .. } => self.announce(caller, &trigger, event).await,
            TriggerNews::Failed { .. } => {
                tracing::warn!(team = %scope.team(), trigger = trigger.id, class = trigger.classpath,
                    "a watcher of assets ended; it is started again with the next beat of its triggerer");
                Ok(())
            }
        }
    }

    async fn resume(&self, scope: TeamScope, trigger: i64, ti: &TaskInstance, how: Resume) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        let (run, task) = (ti.run_key(), ti.task_key());
        let waits_for = WaitsFor::Trigger(trigger);
        let done = resumed(&mut tx, scope, &run, &task, waits_for, &how, Timestamp::now()).await?;
        if done.is_some() {
            tx.commit().await?;
        }
        Ok(())
    }

    /// A task ends without a worker, as its trigger says; one that fails may be tried again.
    async fn end_by_trigger(
        &self,
        caller: &Caller,
        trigger: i64,
        ti: &TaskInstance,
        state: TaskState,
        xcoms: &Map<String, Value>,
    ) -> Result<(), StoreError> {
        let scope = self.own(caller);
        let mut tx = self.store.begin().await?;
        let of_task = if state == TaskState::Failed {
            of_task(&mut tx, scope, ti).await?
        } else {
            OfTask::default()
        };
        let again = state == TaskState::Failed && may_retry(ti.state, of_task.retries, ti.try_number, ti.max_tries);
        let end = if again {
            Ended::UpForRetry {
                delay: None,
                reason: None,
            }
        } else {
            Ended::Finally(state)
        };
        let nothing = Map::new();
        let xcoms = if again { &nothing } else { xcoms };
        let (run, task, now) = (ti.run_key(), ti.task_key(), Timestamp::now());
        let done = ended_by_trigger(&mut tx, scope, &run, &task, trigger, &end, xcoms, now).await?;
        let Some(done) = done else { return Ok(()) };
        let wanted = if again { of_task.on_retry } else { of_task.on_failure };
        if wanted {
            self.call_back(&mut tx, caller, &done, again, now).await?;
        }
        tx.commit().await
    }

    /// The task's own callback, run by the team's dag-processor.
    async fn call_back(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        done: &EndedTask,
        again: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let scope = self.own(caller);
        let ti = &done.before;
        let Some(dag) = loading::dag(tx, scope, &ti.dag_id).await? else {
            return Ok(());
        };
        let request = json!({
            "type": "TaskCallbackRequest",
            "filepath": dag.rel_path,
            "bundle_name": dag.bundle,
            "bundle_version": done.run.bundle_version,
            "msg": "its trigger said that it failed",
            "task_callback_type": if again { "up_for_retry" } else { "failed" },
            "ti": {
                "id": ti.id.to_string(),
                "task_id": ti.task_id,
                "dag_id": ti.dag_id,
                "run_id": ti.run_id,
                "try_number": ti.try_number,
                "map_index": ti.map_index,
                "hostname": ti.hostname,
                "dag_version_id": ti.dag_version_id.map(|id| id.to_string()),
                "context_carrier": {},
            },
            "context_from_server": {
                "dag_run": self.dag_run(&done.run, caller, &[]),
                "task_reschedule_count": 0,
                "max_tries": ti.max_tries,
                "variables": [],
                "connections": [],
                "xcom_keys_to_clear": [],
                "should_retry": again,
            },
        });
        callbacks::add(tx, scope, &dag.bundle, &dag.rel_path, &request, now).await?;
        Ok(())
    }

    /// Every asset that the trigger watches has an event.
    async fn announce(&self, caller: &Caller, trigger: &StoredTrigger, event: &TriggerEvent) -> Result<(), StoreError> {
        let payload = match event {
            TriggerEvent::Payload { plain, .. } => plain.clone(),
            TriggerEvent::Ends { state, .. } => json!(state.as_str()),
        };
        let changes: Vec<Change> = trigger
            .watched
            .iter()
            .map(|(name, uri)| Change {
                name: name.clone(),
                uri: uri.clone(),
                asset_extra: json!({}),
                extra: json!({"from_trigger": true, "payload": payload}),
                aliases: BTreeSet::new(),
                partition_key: None,
                partition_date: None,
                consumer_teams: None,
            })
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        let scope = self.own(caller);
        assets::register(
            &mut tx,
            scope,
            &self.org,
            caller.team_name(),
            None,
            &changes,
            Timestamp::now(),
        )
        .await?;
        tx.commit().await
    }
}

/// What a task's definition says about failing.
#[derive(Default)]
struct OfTask {
    retries: i32,
    on_failure: bool,
    on_retry: bool,
}

async fn of_task(tx: &mut Tx, scope: TeamScope, ti: &TaskInstance) -> Result<OfTask, StoreError> {
    let json = dags::version_json(tx, scope, ti.dag_id.as_str(), ti.dag_version_id).await?;
    let Some(dag) = json.and_then(|json| SerializedDag::read(json).ok()) else {
        tracing::warn!(dag = %ti.dag_id, task = %ti.task_id, "the Dag of a task that failed cannot be read; it is not tried again");
        return Ok(OfTask::default());
    };
    let task = dag
        .tasks()
        .map(|index| dag.task(index))
        .find(|task| task.task_id == ti.task_id);
    Ok(task.map_or_else(OfTask::default, |task| OfTask {
        retries: task.retries,
        on_failure: task.callbacks.failure,
        on_retry: task.callbacks.retry,
    }))
}
