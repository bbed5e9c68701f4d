//! The answer to `/run`: all that a task learns of its run. The SDK's models refuse unknown keys.

use isobar_model::TaskState;
use isobar_store::run_calls::{self, ConsumedEvent};
use isobar_store::runs::Run;
use isobar_store::transitions::StartedTask;
use isobar_store::{StoreError, Tx, xcoms};
use isobar_wire::execution::Caller;
use serde_json::{Value, json};

use crate::answers::time;
use crate::execution::Execution;

impl Execution {
    pub(crate) async fn run_context(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        started: &StartedTask,
    ) -> Result<Value, StoreError> {
        let scope = self.own(caller);
        let ti = &started.ti;
        let resumes = ti.next_method.is_some();
        // The child clears them, since a custom XCom backend may have to clear more. Not when a deferred task resumes.
        let to_clear = if resumes {
            Vec::new()
        } else {
            let index = (ti.map_index >= 0).then_some(ti.map_index);
            let (dag_id, run_id, task_id) = (ti.dag_id.as_str(), ti.run_id.as_str(), ti.task_id.as_str());
            xcoms::keys(tx, scope, dag_id, run_id, task_id, index).await?
        };
        let consumed = if started.run.run_type == isobar_model::RunType::AssetTriggered {
            run_calls::consumed_events(tx, scope, &self.org, &started.run.key()).await?
        } else {
            Vec::new()
        };
        let events: Vec<Value> = consumed.iter().map(|event| consumed_event(event, caller)).collect();
        let mut context = json!({
            "dag_run": self.dag_run(&started.run, caller, &events),
            "task_reschedule_count": started.reschedules,
            "max_tries": ti.max_tries,
            "variables": [],
            "connections": [],
            "xcom_keys_to_clear": to_clear,
            "should_retry": may_retry(started.previous_state, ti.try_number, ti.max_tries),
        });
        if resumes {
            context["next_method"] = json!(ti.next_method);
            context["next_kwargs"] = ti.next_kwargs.clone();
            context["start_date"] = time(ti.start_date);
        }
        Ok(context)
    }

    /// A run as the Execution API shows it.
    pub(crate) fn dag_run(&self, run: &Run, caller: &Caller, consumed: &[Value]) -> Value {
        let team = self.settings.multi_team.then(|| caller.team_name().as_str());
        json!({
            "dag_id": run.dag_id.as_str(),
            "run_id": run.run_id.as_str(),
            "logical_date": time(run.logical_date),
            "data_interval_start": time(run.interval_start),
            "data_interval_end": time(run.interval_end),
            "run_after": time(Some(run.run_after)),
            "start_date": time(run.start_date),
            "end_date": time(run.end_date),
            "clear_number": run.clear_number,
            "run_type": run.run_type.as_str(),
            "state": run.state.as_str(),
            "conf": run.conf,
            "triggering_user_name": run.triggering_user,
            "consumed_asset_events": consumed,
            "partition_key": run.partition_key,
            "partition_date": time(run.partition_date),
            "note": run.note,
            "team_name": team,
        })
    }
}

/// A task that failed may try again: always where it was cleared while it ran, else while tries are left.
fn may_retry(previous: Option<TaskState>, try_number: i32, max_tries: i32) -> bool {
    previous == Some(TaskState::Restarting) || (max_tries != 0 && try_number <= max_tries)
}

fn consumed_event(event: &ConsumedEvent, caller: &Caller) -> Value {
    // A Dag of another team is named by its team; without consent the name opens nothing.
    let dag_id = event.source_dag_id.as_ref().map(|dag_id| {
        if event.producer == caller.team() {
            dag_id.clone()
        } else {
            format!("{}:{dag_id}", event.producer_name)
        }
    });
    let aliases: Vec<Value> = event
        .source_aliases
        .as_array()
        .into_iter()
        .flatten()
        .map(|name| json!({"name": name}))
        .collect();
    json!({
        "asset": {"name": event.name, "uri": event.uri, "extra": event.asset_extra},
        "extra": event.extra,
        "source_task_id": event.source_task_id,
        "source_dag_id": dag_id,
        "source_run_id": event.source_run_id,
        "source_map_index": event.source_map_index,
        "source_aliases": aliases,
        "timestamp": time(Some(event.at)),
        "partition_key": event.partition_key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_retries_while_tries_are_left_or_it_was_restarted() {
        assert!(may_retry(Some(TaskState::Queued), 1, 1));
        assert!(!may_retry(Some(TaskState::Queued), 2, 1));
        assert!(!may_retry(Some(TaskState::Queued), 0, 0));
        assert!(may_retry(Some(TaskState::Restarting), 5, 0));
    }
}
