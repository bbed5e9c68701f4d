//! Taking in events: rows that others changed.

use std::collections::{BTreeMap, BTreeSet};

use isobar_engine::admission::DagKey;
use isobar_engine::planner::{Changes, Event, Instance, MapLength, SkipChoice};
use isobar_model::{RunKey, TaskKey, TaskState, from_micros};
use isobar_store::StoreError;
use isobar_store::events::{ChangedChoice, ChangedInstance, EventKind, RunChange, StoredEvent};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;

use crate::memory::RunRef;
use crate::pass::Pass;

impl Pass<'_> {
    /// Takes in all that was claimed.
    pub(crate) async fn take_events(&mut self, claimed: Vec<StoredEvent>) -> Result<(), StoreError> {
        self.note_failures(&claimed);
        let mut of_runs: BTreeMap<RunRef, Vec<StoredEvent>> = BTreeMap::new();
        let mut dags = BTreeSet::new();
        for event in claimed {
            match event.kind {
                EventKind::Run => of_runs.entry(run_of(&event)).or_default().push(event),
                EventKind::Dag => {
                    let dag = DagKey {
                        team: event.team,
                        dag_id: event.dag_id,
                    };
                    let moved = event.body.get("why").and_then(Value::as_str) == Some("moved");
                    if let Some(id) = event.body.get("backfill").and_then(Value::as_i64) {
                        self.backfill_changed(&dag, id).await?;
                    } else if dags.insert((dag.clone(), moved)) {
                        // Once: what another event of it tells was read with the first.
                        self.load_dag_again(&dag, moved).await?;
                    }
                }
                EventKind::Pool => {
                    let name = event.body.get("name").and_then(Value::as_str).unwrap_or_default();
                    self.reload_pool(event.team, name).await?;
                }
                // Teams are applied by a restart of the server (`isobar teams apply`); what changes is what their Python has.
                EventKind::Team => self.load_shaping().await?,
                EventKind::Said => self.take_said(&event).await?,
                EventKind::Request => self.answer_request(&event).await?,
            }
        }
        // In the order in which they were made: the runs of a backfill start in theirs.
        let mut of_runs: Vec<_> = of_runs.into_iter().collect();
        of_runs.sort_by_key(|(_, events)| events.first().map(|event| event.seq));
        for (run, events) in of_runs {
            self.take_run_events(&run, events).await?;
        }
        self.settle().await
    }

    /// What failures mean for others (`fail_fast`) is not in the rows: it must be heard even where the rows are known already.
    pub(crate) fn note_failures(&mut self, claimed: &[StoredEvent]) {
        for event in claimed.iter().filter(|event| event.kind == EventKind::Run) {
            let failed = event.body.get("failed").map(Vec::deserialize);
            if let Some(Ok(keys)) = failed {
                let known = self.failed.entry(run_of(event)).or_default();
                known.extend(keys);
                known.sort_unstable();
                known.dedup();
            }
        }
    }

    async fn take_run_events(&mut self, run: &RunRef, mut events: Vec<StoredEvent>) -> Result<(), StoreError> {
        events.sort_by_key(|event| event.rev);
        let Some(live) = self.memory.runs.get_mut(run) else {
            return self.load_run(run).await;
        };
        let mut rev = live.row.rev;
        let mut whole = RunChange {
            failed: self.failed.get(run).cloned().unwrap_or_default(),
            ..RunChange::default()
        };
        for event in events {
            if event.rev <= rev {
                continue;
            }
            let change: Option<RunChange> = serde_json::from_value(event.body).ok();
            match change {
                Some(change) if event.rev == rev + 1 && !change.reload && live.planner.is_some() => {
                    rev = event.rev;
                    whole.instances.extend(change.instances);
                    whole.lengths.extend(change.lengths);
                    whole.choices.extend(change.choices);
                }
                // A gap (that event is claimed later or was lost), or a change too wide to describe.
                _ => return self.load_run(run).await,
            }
        }
        live.row.rev = rev;
        self.apply_change(run, whole);
        Ok(())
    }

    fn apply_change(&mut self, run: &RunRef, change: RunChange) {
        let mut changes = Changes {
            lengths: change
                .lengths
                .into_iter()
                .map(|length| MapLength {
                    task_id: length.task_id,
                    length: length.length.and_then(|length| u64::try_from(length).ok()),
                })
                .collect(),
            choices: change.choices.iter().map(choice).collect(),
            failed: change.failed,
            ..Changes::default()
        };
        for changed in &change.instances {
            let key = changed.key();
            if changed.state != Some(TaskState::Queued)
                && changed.state != Some(TaskState::Running)
                && let Some(held) = self.memory.held.get_mut(run).and_then(|held| held.get_mut(&key))
                && held.identity.dispatch.0 == changed.dispatch
            {
                held.ended = true;
            }
            if changed.state == Some(TaskState::Scheduled) {
                if !self.waits_for_shape(run, &key)
                    && let Some(candidate) = self.offer(run, &key)
                {
                    self.admission.ready(candidate);
                }
            } else {
                self.tell_admission(run, &key, changed.state);
            }
            self.note_wait(run, changed.waits_until.map(from_micros));
            changes.instances.push(instance(changed));
        }
        if changes
            .instances
            .iter()
            .any(|instance| instance.state.is_some_and(TaskState::is_finished))
        {
            self.note_past(run);
        }
        self.step_run(run, Event::Changed(changes));
    }
}

fn run_of(event: &StoredEvent) -> RunRef {
    RunRef {
        team: event.team,
        key: RunKey {
            dag_id: event.dag_id.clone(),
            run_id: event.run_id.clone(),
        },
    }
}

fn instance(changed: &ChangedInstance) -> Instance {
    Instance {
        key: changed.key(),
        state: changed.state,
        try_number: changed.try_number,
        end_date: changed.end_date.map(from_micros),
        retry_delay_override: changed.retry_delay_override.map(seconds),
        reschedule_date: changed.reschedule_date.map(from_micros),
        has_result: changed.has_result,
    }
}

/// A number of seconds as it was stored.
pub(crate) fn seconds(seconds: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::ZERO)
}

/// A `skipmixin_key` XCom.
pub(crate) fn choice(changed: &ChangedChoice) -> SkipChoice {
    let key = TaskKey {
        task_id: changed.task_id.clone(),
        map_index: changed.map_index,
    };
    SkipChoice::read(key, &changed.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_model::TaskId;
    use serde_json::json;

    #[test]
    fn a_choice_reads_from_json_and_from_json_text() {
        for value in [json!({"followed": ["a", "b"]}), json!("{\"followed\": [\"a\", \"b\"]}")] {
            let read = choice(&ChangedChoice {
                task_id: "t".into(),
                map_index: -1,
                value,
            });
            assert_eq!(read.followed, Some(vec![TaskId::from("a"), TaskId::from("b")]));
            assert_eq!(read.skipped, None);
        }
    }
}
