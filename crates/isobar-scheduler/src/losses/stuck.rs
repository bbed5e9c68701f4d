//! Tasks that were handed to an executor and never began: queued anew a few times, then failed.

use std::time::Duration;

use isobar_model::TaskState;
use isobar_store::task_instances::TaskInstance;
use isobar_store::transitions::{Ended, TaskWrite, put_back};
use isobar_store::{Store, StoreError, audit, runs};
use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;

use super::{Loss, end_lost, record, version_of};
use crate::setting::Setting;
use isobar_wire::workload::log_path;

/// What a task that is queued anew is recorded as, as in Airflow: the records are counted.
const QUEUED_ANEW: &str = "stuck in queued reschedule";
/// What a task that is given up is recorded as.
const GIVEN_UP: &str = "stuck in queued tries exceeded";

/// When and how often a queued task that does not begin is queued anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckRule {
    /// `[scheduler] task_queued_timeout`
    pub after: Duration,
    /// `[scheduler] num_stuck_in_queued_retries`
    pub times: u32,
}

impl Default for StuckRule {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(600),
            times: 2,
        }
    }
}

/// Looks for tasks that have been queued for too long: takes them back from their executor, and queues them anew or fails them.
/// Answers how many there were.
///
/// # Errors
/// The database failed.
pub(super) async fn find_stuck(store: &Store, setting: &Setting, held: &[TaskInstance]) -> Result<usize, StoreError> {
    let limit = Timestamp::now() - setting.stuck.after;
    let stuck = held
        .iter()
        .filter(|ti| ti.state == Some(TaskState::Queued) && ti.queued_at.is_some_and(|at| at < limit));
    let mut count = 0;
    for ti in stuck {
        let Some(team) = setting.teams.get(&ti.team) else {
            continue;
        };
        let task = ti.identity(&team.name);
        let executor = setting
            .executor_of(ti.team, ti.executor.as_deref())
            .and_then(|key| setting.executor(&key));
        if let Some(executor) = executor {
            executor.cancel(&task);
        }
        count += 1;
        let scope = setting.org.team(ti.team);
        let mut tx = store.read().await?;
        let before = audit::times(&mut tx, scope, QUEUED_ANEW, &task, "running").await?;
        if before >= setting.stuck.times {
            let run = runs::get(&mut tx, scope, &ti.run_key()).await?;
            let version = version_of(&mut tx, setting, ti).await?;
            drop(tx);
            let reason = format!("it was queued {} times and never began", before + 1);
            tracing::warn!(team = %ti.team, dag = %ti.dag_id, run = %ti.run_id, task = %ti.task_id, reason, "a stuck task fails");
            // Not retried, as in Airflow: what keeps it from beginning would keep its next try.
            let loss = Loss {
                reason: &reason,
                event: Some(GIVEN_UP),
                version,
                run,
            };
            end_lost(store, setting, &task, &Ended::Finally(TaskState::Failed), loss).await?;
            continue;
        }
        drop(tx);
        if queue_anew(store, setting, &task).await?
            && let Some(executor) = executor
        {
            let said = format!(
                "It did not begin within {} s of being queued; it is queued anew",
                setting.stuck.after.as_secs()
            );
            executor.explain(&log_path(&task), &said);
        }
    }
    Ok(count)
}

async fn queue_anew(store: &Store, setting: &Setting, task: &TaskIdentity) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let TaskWrite::Done(()) = put_back(&mut tx, &setting.org, task, Timestamp::now()).await? else {
        return Ok(false);
    };
    let why = format!(
        "it did not begin within {} s of being queued",
        setting.stuck.after.as_secs()
    );
    audit::write(&mut tx, setting.org.team(task.team), &[record(QUEUED_ANEW, task, &why)]);
    tx.commit().await?;
    tracing::warn!(team = %task.team, dag = %task.dag_id, run = %task.run_id, task = %task.task_id, why, "a stuck task is queued anew");
    Ok(true)
}
