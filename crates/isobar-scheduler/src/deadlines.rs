//! Deadlines of runs (AIP-86): made when a run is first seen, met when it succeeds in time. When one passes, the team's
//! dag-processor runs its callback in a process of its own.

use isobar_config::variable_of_env;
use isobar_model::dag::{Deadline, DeadlineInterval, DeadlineReference};
use isobar_model::{AirflowTime, RunState, TeamId};
use isobar_store::deadlines::{self, Missed, NewDeadline};
use isobar_store::lists::runs::{self, RunRow};
use isobar_store::lists::versions::VersionRow;
use isobar_store::runs::Run;
use isobar_store::{StoreError, callbacks, loading, variables};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::memory::RunRef;
use crate::pass::Pass;
use crate::timers::Timed;

impl Pass<'_> {
    /// Makes the deadlines of a run that enters the memory, where its Dag has any and they are not made yet.
    pub(crate) async fn make_deadlines(&mut self, row: &Run, wanted: &[Deadline]) -> Result<(), StoreError> {
        // As in Airflow, a run has the deadlines that its Dag had when the run was made: none come later.
        if wanted.is_empty() || row.state != RunState::Queued || row.clear_number > 0 {
            return Ok(());
        }
        let scope = self.setting.org.team(row.team);
        if deadlines::are_made(self.tx, scope, &row.key()).await? {
            return Ok(());
        }
        let mut new = Vec::new();
        for (number, deadline) in (0..).zip(wanted) {
            let (from, length) = (self.reference(row, deadline).await?, self.length(row, deadline).await?);
            if let (Some(from), Some(length)) = (from, length) {
                new.push(NewDeadline {
                    number,
                    due_at: from.saturating_add(length).unwrap_or(Timestamp::MAX),
                    from_queued: matches!(deadline.reference, DeadlineReference::QueuedAt),
                    callback: callback(deadline),
                });
            }
        }
        if let Some(first) = new.iter().map(|deadline| deadline.due_at).min() {
            self.memory.timers.wish(Timed::Deadlines, first);
        }
        deadlines::make(self.tx, scope, &row.key(), &new).await
    }

    /// From when a deadline counts; none where that is not known, and then there is no deadline, as in Airflow.
    async fn reference(&mut self, row: &Run, deadline: &Deadline) -> Result<Option<Timestamp>, StoreError> {
        Ok(match &deadline.reference {
            DeadlineReference::QueuedAt => row.queued_at,
            DeadlineReference::LogicalDate => row.logical_date,
            DeadlineReference::Fixed(at) => Some(*at),
            DeadlineReference::AverageRuntime { max_runs, min_runs } => {
                let scope = self.setting.org.team(row.team);
                let lengths = deadlines::latest_lengths(self.tx, scope, &row.dag_id, *max_runs).await?;
                average(&lengths, *min_runs).map(|average| self.now + average)
            }
            // Refused when the Dag was parsed.
            DeadlineReference::Custom(_) => None,
        })
    }

    async fn length(&mut self, row: &Run, deadline: &Deadline) -> Result<Option<SignedDuration>, StoreError> {
        let key = match &deadline.interval {
            DeadlineInterval::Fixed(length) => return Ok(Some(*length)),
            DeadlineInterval::Variable(key) => key,
        };
        let (master, team) = (&self.setting.master_key, self.setting.teams.get(&row.team));
        let mut found = team
            .and_then(|team| variable_of_env(&team.config.env, key))
            .map(|set| set.expose().to_owned());
        for owner in [row.team, TeamId::SHARED] {
            if found.is_none() {
                let stored = variables::get(self.tx, self.setting.org.team(owner), master, key).await?;
                found = stored.map(|stored| stored.value);
            }
        }
        let length = found.and_then(|value| DeadlineInterval::of_variable(&value));
        if length.is_none() {
            tracing::warn!(team = %row.team, dag = %row.dag_id, run = %row.run_id, key,
                "a deadline is not set: its variable is missing or holds no whole number of seconds");
        }
        Ok(length)
    }

    /// The run ended; what it was in time for is met.
    pub(crate) async fn meet_deadlines(&mut self, run: &RunRef, state: RunState) -> Result<(), StoreError> {
        let has_any = self
            .memory
            .runs
            .get(run)
            .is_some_and(|live| !live.version.deadlines.is_empty());
        if !has_any || state != RunState::Success {
            return Ok(());
        }
        deadlines::meet(self.tx, self.setting.org.team(run.team), &run.key, self.now).await
    }

    /// Hands over the callbacks of deadlines that have passed, and waits for the next one.
    pub(crate) async fn miss_deadlines(&mut self) -> Result<(), StoreError> {
        for missed in deadlines::miss(self.tx, &self.setting.org, self.now).await? {
            self.hand_over(missed).await?;
        }
        self.await_deadlines().await
    }

    /// Wishes to be woken when the next deadline passes.
    pub(crate) async fn await_deadlines(&mut self) -> Result<(), StoreError> {
        if let Some(next) = deadlines::next_due(self.tx, &self.setting.org).await? {
            self.memory.timers.wish(Timed::Deadlines, next);
        }
        Ok(())
    }

    async fn hand_over(&mut self, missed: Missed) -> Result<(), StoreError> {
        let scope = self.setting.org.team(missed.team);
        let run = runs::get(self.tx, scope, &missed.run.dag_id, &missed.run.run_id).await?;
        let dag = loading::dag(self.tx, scope, &missed.run.dag_id).await?;
        let (Some(run), Some(dag)) = (run, dag) else {
            return Ok(());
        };
        tracing::info!(team = %missed.team, dag = %run.dag_id, run = %run.run_id, due_at = %missed.due_at, "a deadline was missed");
        let request = request(&missed, &run);
        callbacks::add(self.tx, scope, &dag.bundle, &dag.rel_path, &request, self.now)
            .await
            .map(drop)
    }
}

/// The average of so many lengths in microseconds; none where there are fewer than wanted.
fn average(lengths: &[i64], min_runs: i32) -> Option<SignedDuration> {
    let count = i64::try_from(lengths.len())
        .ok()
        .filter(|count| *count > 0 && *count >= i64::from(min_runs))?;
    Some(SignedDuration::from_micros(lengths.iter().sum::<i64>() / count))
}

/// What is kept of a deadline's callback.
fn callback(deadline: &Deadline) -> Value {
    let encoded = &deadline.callback.encoded["__data__"];
    json!({
        "path": deadline.callback.path,
        "kwargs": encoded["kwargs"],
        "is_async": deadline.callback.is_async,
    })
}

/// What the team's process is told: the run, as the REST API shows it, and the deadline.
fn request(missed: &Missed, run: &RunRow) -> Value {
    let time = |at: Option<Timestamp>| at.map(AirflowTime);
    let mut request = missed.callback.clone();
    request["type"] = "RunCallback".into();
    if !request["kwargs"].is_object() {
        request["kwargs"] = json!({});
    }
    request["kwargs"]["context"] = json!({
        "dag_run": {
            "dag_run_id": run.run_id,
            "dag_id": run.dag_id,
            "dag_display_name": run.dag_display_name,
            "dag_versions": run.versions.iter().map(version).collect::<Vec<_>>(),
            "logical_date": time(run.logical_date),
            "queued_at": time(run.queued_at),
            "start_date": time(run.start_date),
            "end_date": time(run.end_date),
            "duration": run.duration(),
            "data_interval_start": time(run.interval_start),
            "data_interval_end": time(run.interval_end),
            "run_after": AirflowTime(run.run_after),
            "last_scheduling_decision": time(run.last_decision),
            "run_type": run.run_type,
            "state": run.state,
            "triggered_by": run.triggered_by,
            "triggering_user_name": run.triggering_user,
            "conf": run.conf,
            "note": run.note,
            "bundle_version": run.bundle_version,
            "partition_key": run.partition_key,
            "partition_date": time(run.partition_date),
        },
        "deadline": {"id": missed.id.to_string(), "deadline_time": AirflowTime(missed.due_at)},
    });
    request
}

fn version(row: &VersionRow) -> Value {
    json!({
        "id": row.id,
        "version_number": row.number,
        "dag_id": row.dag_id,
        "bundle_name": row.bundle,
        "bundle_version": row.bundle_version,
        "created_at": AirflowTime(row.created_at),
        "dag_display_name": row.dag_display_name,
        "bundle_url": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_wants_enough_runs() {
        assert_eq!(average(&[1_000_000, 3_000_000], 2), Some(SignedDuration::from_secs(2)));
        assert_eq!(average(&[1_000_000], 2), None);
        assert_eq!(average(&[], 0), None);
    }
}
