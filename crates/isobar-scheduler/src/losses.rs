//! Tasks that nobody works any more: their executor says so, their heartbeats stopped, or the server that ran them was killed.

use isobar_engine::planner::retry::may_retry;
mod requests;
mod stuck;

use isobar_model::{RunKey, TaskKey, TaskState};
use isobar_store::loading;
use isobar_store::runs::{self, Run};
use isobar_store::task_instances::{self, TaskInstance};
use isobar_store::transitions::{Ended, TaskWrite, lost, put_back, restarted};
use isobar_store::{Store, StoreError};
use isobar_store::{Tx, audit, callbacks, listeners};
use isobar_wire::execution::TaskIdentity;
use isobar_wire::listeners::Hook;
use isobar_wire::workload::WorkloadEnded;
use jiff::Timestamp;
pub(crate) use requests::{instance_json, run_json};
pub use stuck::StuckRule;

use crate::memory::{AllHeld, Memory, RunRef};
use crate::setting::Setting;
use crate::versions::Version;
use isobar_wire::workload::log_path;

/// Takes in what executors reported. Only a report of a task whose end was not written is news.
///
/// # Errors
/// The database failed.
pub(crate) async fn take_reports(
    store: &Store,
    setting: &Setting,
    memory: &mut Memory,
    reports: Vec<WorkloadEnded>,
) -> Result<(), StoreError> {
    for report in reports {
        let identity = &report.identity;
        let run = RunRef {
            team: identity.team,
            key: run_key(identity),
        };
        let key = task_key(identity);
        let Some(of_run) = memory.held.get_mut(&run) else {
            continue;
        };
        let Some(held) = of_run.get(&key).filter(|held| held.identity == *identity) else {
            continue;
        };
        let ended = held.ended;
        of_run.remove(&key);
        if of_run.is_empty() {
            memory.held.remove(&run);
        }
        if !ended {
            let reason = report.failure.as_deref().unwrap_or("its process ended without a word");
            Box::pin(fail_if_held(store, setting, identity, Some("state mismatch"), reason)).await?;
        } else if report.callbacks_lost {
            let reason = report.failure.as_deref().unwrap_or("its process was killed");
            call_back_instead(store, setting, identity, reason).await?;
        }
    }
    Ok(())
}

/// The task's end was written, but its process died before it could run its callbacks: the dag-processor runs them.
async fn call_back_instead(
    store: &Store,
    setting: &Setting,
    identity: &TaskIdentity,
    reason: &str,
) -> Result<(), StoreError> {
    let scope = setting.org.team(identity.team);
    let mut tx = store.read().await?;
    let ti = task_instances::get(&mut tx, scope, &run_key(identity), &task_key(identity)).await?;
    let run = runs::get(&mut tx, scope, &run_key(identity)).await?;
    let (Some(mut ti), Some(run)) = (ti, run) else {
        return Ok(());
    };
    // A retry has a new id: the callback is that of the try that ended.
    let state = match ti.state {
        Some(TaskState::Failed) if ti.id == identity.ti_id => TaskState::Failed,
        Some(TaskState::UpForRetry) => TaskState::UpForRetry,
        _ => return Ok(()),
    };
    ti.id = identity.ti_id;
    let version = version_of(&mut tx, setting, &ti).await?;
    drop(tx);
    if let Some(version) = version {
        let mut tx = store.begin().await?;
        tell(&mut tx, setting, &version, &ti, &run, state, reason).await?;
        listeners::task_failed(&mut tx, scope, &ti, &run, reason, Timestamp::now()).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Has the dag-processor run the callback and send the e-mail that the task's own process could not, where the task wants any.
async fn tell(
    tx: &mut Tx,
    setting: &Setting,
    version: &Version,
    ti: &TaskInstance,
    run: &Run,
    state: TaskState,
    reason: &str,
) -> Result<(), StoreError> {
    let retries = state == TaskState::UpForRetry;
    let (callback, email) = (
        version.wants_callback(&ti.task_id, retries),
        version.wants_email(&ti.task_id, retries),
    );
    if !callback && !email {
        return Ok(());
    }
    if callback {
        call_back(tx, setting, ti, run, state, reason).await?;
    }
    let scope = setting.org.team(ti.team);
    if email && let Some(dag) = loading::dag(tx, scope, &ti.dag_id).await? {
        let request = requests::email(ti, run, &dag, state, reason);
        callbacks::add(tx, scope, &dag.bundle, &dag.rel_path, &request, Timestamp::now()).await?;
    }
    Ok(())
}

/// Has the dag-processor run a task's callback.
async fn call_back(
    tx: &mut Tx,
    setting: &Setting,
    ti: &TaskInstance,
    run: &Run,
    state: TaskState,
    reason: &str,
) -> Result<(), StoreError> {
    let scope = setting.org.team(ti.team);
    if let Some(dag) = loading::dag(tx, scope, &ti.dag_id).await? {
        let request = requests::task_callback(ti, run, &dag, state, reason);
        callbacks::add(tx, scope, &dag.bundle, &dag.rel_path, &request, Timestamp::now()).await?;
    }
    Ok(())
}

/// Ends a task that its row still shows as being worked, as Airflow does: retried where a try is left, else failed.
async fn fail_if_held(
    store: &Store,
    setting: &Setting,
    identity: &TaskIdentity,
    event: Option<&'static str>,
    reason: &str,
) -> Result<(), StoreError> {
    let scope = setting.org.team(identity.team);
    let mut tx = store.read().await?;
    let ti = task_instances::get(&mut tx, scope, &run_key(identity), &task_key(identity)).await?;
    let Some(ti) = ti.filter(|ti| ti.dispatch == identity.dispatch && is_worked(ti.state)) else {
        return Ok(());
    };
    let run = runs::get(&mut tx, scope, &run_key(identity)).await?;
    let version = version_of(&mut tx, setting, &ti).await?;
    drop(tx);
    let retries = version.as_ref().map_or(0, |version| version.retries(&ti.task_id));
    if ti.state == Some(TaskState::Restarting) {
        let mut tx = store.begin().await?;
        if let TaskWrite::Done(()) = restarted(&mut tx, &setting.org, identity, retries, Timestamp::now()).await? {
            // As in Airflow the try that was broken off counts as one to be retried for its callback, and is no mail's business.
            if let (Some(version), Some(run)) = (&version, &run)
                && version.wants_callback(&ti.task_id, true)
            {
                let said = "the task was cleared while it ran";
                call_back(&mut tx, setting, &ti, run, TaskState::UpForRetry, said).await?;
            }
            tx.commit().await?;
        }
        return Ok(());
    }
    let end = if may_retry(ti.state, retries, ti.try_number, ti.max_tries) {
        Ended::UpForRetry {
            delay: None,
            reason: None,
        }
    } else {
        Ended::Finally(TaskState::Failed)
    };
    tracing::warn!(team = %ti.team, dag = %ti.dag_id, run = %ti.run_id, task = %ti.task_id, map_index = ti.map_index,
        try_number = ti.try_number, reason, becomes = %end.state(), "a task was lost");
    end_lost(
        store,
        setting,
        identity,
        &end,
        Loss {
            reason,
            event,
            version,
            run,
        },
    )
    .await
}

/// What is said of a lost task.
struct Loss<'a> {
    reason: &'a str,
    /// The audit event, where Airflow writes one.
    event: Option<&'static str>,
    version: Option<Version>,
    run: Option<Run>,
}

/// Writes the end of a task that nobody works any more, tells those who want to know, and says why in the task's log.
async fn end_lost(
    store: &Store,
    setting: &Setting,
    identity: &TaskIdentity,
    end: &Ended,
    loss: Loss<'_>,
) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let TaskWrite::Done(done) = lost(&mut tx, &setting.org, identity, end, Timestamp::now()).await? else {
        return Ok(());
    };
    if let (Some(version), Some(run)) = (&loss.version, &loss.run) {
        tell(&mut tx, setting, version, &done.before, run, end.state(), loss.reason).await?;
    }
    if let Some(event) = loss.event {
        audit::write(
            &mut tx,
            setting.org.team(identity.team),
            &[record(event, identity, loss.reason)],
        );
    }
    let scope = setting.org.team(identity.team);
    if let Some(run) = &loss.run
        && listeners::heard(&mut tx, scope)
            .await?
            .contains(&Hook::OnTaskInstanceFailed)
        && let Some(ti) = task_instances::get(&mut tx, scope, &run_key(identity), &task_key(identity)).await?
    {
        listeners::task_failed(&mut tx, scope, &ti, run, loss.reason, Timestamp::now()).await?;
    }
    tx.commit().await?;
    let executor = setting
        .executor_of(identity.team, done.before.executor.as_deref())
        .and_then(|key| setting.executor(&key));
    if let Some(executor) = executor {
        let said = format!("The control plane ended this try ({}): {}", end.state(), loss.reason);
        executor.explain(&log_path(identity), &said);
    }
    Ok(())
}

/// An audit record about a task that is in trouble.
fn record(event: &'static str, task: &TaskIdentity, why: &str) -> audit::Record {
    audit::Record::new(event, "scheduler")
        .dag(&task.dag_id)
        .run(&task.run_id)
        .task(&task.task_id, Some(task.map_index))
        .of_try(task.try_number)
        .extra(why.into())
}

async fn version_of(tx: &mut Tx, setting: &Setting, ti: &TaskInstance) -> Result<Option<Version>, StoreError> {
    let scope = setting.org.team(ti.team);
    let current = loading::dag(tx, scope, &ti.dag_id)
        .await?
        .and_then(|dag| dag.current_version_id);
    let Some(id) = current.or(ti.dag_version_id) else {
        return Ok(None);
    };
    Ok(loading::version(tx, scope, id)
        .await?
        .and_then(|stored| Version::read(id, &stored).ok()))
}

/// Tasks that were held when the last scheduler died: those that ran on this machine are lost, those that had not begun are
/// put back without losing a try. `ours` are those that executors of this process hold.
///
/// # Errors
/// The database failed.
pub(crate) async fn adopt_orphans(store: &Store, setting: &Setting, ours: &AllHeld) -> Result<(), StoreError> {
    adopt(store, setting, ours, &held(store, setting).await?).await
}

/// Looks through what executors hold, as the rows say, for tasks in any trouble. Each is read again before it is ended.
///
/// # Errors
/// The database failed.
pub(crate) async fn sweep(store: &Store, setting: &Setting, ours: &AllHeld) -> Result<(), StoreError> {
    let held = held(store, setting).await?;
    let silent = find_silent(store, setting, &held).await?;
    if silent > 0 {
        tracing::warn!(silent, "the sweep found tasks whose heartbeats stopped");
    }
    let stuck = Box::pin(stuck::find_stuck(store, setting, &held)).await?;
    if stuck > 0 {
        tracing::warn!(stuck, "the sweep found tasks that were queued and did not begin");
    }
    adopt(store, setting, ours, &held).await
}

/// Task instances that are queued or worked.
async fn held(store: &Store, setting: &Setting) -> Result<Vec<TaskInstance>, StoreError> {
    let mut tx = store.read().await?;
    loading::held_instances(&mut tx, &setting.org).await
}

async fn adopt(store: &Store, setting: &Setting, ours: &AllHeld, held: &[TaskInstance]) -> Result<(), StoreError> {
    for ti in held {
        let Some(team) = setting.teams.get(&ti.team) else {
            continue;
        };
        if is_ours(ours, ti) || !dies_with_us(setting, ti) {
            continue;
        }
        let identity = ti.identity(&team.name);
        if ti.state == Some(TaskState::Queued) {
            let mut tx = store.begin().await?;
            if let TaskWrite::Done(()) = put_back(&mut tx, &setting.org, &identity, Timestamp::now()).await? {
                tx.commit().await?;
                tracing::info!(team = %ti.team, dag = %ti.dag_id, run = %ti.run_id, task = %ti.task_id,
                    "a task that was queued and had not begun when the server ended is queued again");
            }
        } else {
            Box::pin(fail_if_held(
                store,
                setting,
                &identity,
                None,
                "the server that ran it was ended",
            ))
            .await?;
        }
    }
    Ok(())
}

fn is_ours(ours: &AllHeld, ti: &TaskInstance) -> bool {
    let run = RunRef {
        team: ti.team,
        key: ti.run_key(),
    };
    ours.get(&run)
        .and_then(|held| held.get(&ti.task_key()))
        .is_some_and(|held| held.identity.dispatch == ti.dispatch)
}

fn dies_with_us(setting: &Setting, ti: &TaskInstance) -> bool {
    setting
        .executor_of(ti.team, ti.executor.as_deref())
        .and_then(|key| setting.executor(&key))
        .is_none_or(|executor| executor.dies_with_the_scheduler())
}

/// Running tasks whose heartbeats stopped.
///
/// # Errors
/// The database failed.
async fn find_silent(store: &Store, setting: &Setting, held: &[TaskInstance]) -> Result<usize, StoreError> {
    let limit = Timestamp::now() - setting.heartbeat_timeout;
    let silent = held.iter().filter(|ti| {
        matches!(ti.state, Some(TaskState::Running | TaskState::Restarting))
            && ti.last_heartbeat.or(ti.start_date).is_none_or(|last| last < limit)
    });
    let mut count = 0;
    for ti in silent {
        let Some(team) = setting.teams.get(&ti.team) else {
            continue;
        };
        let identity = ti.identity(&team.name);
        if let Some(executor) = setting
            .executor_of(ti.team, ti.executor.as_deref())
            .and_then(|key| setting.executor(&key))
        {
            executor.cancel(&identity);
        }
        let reason = format!("no heartbeat came for {} s", setting.heartbeat_timeout.as_secs());
        Box::pin(fail_if_held(
            store,
            setting,
            &identity,
            Some("heartbeat timeout"),
            &reason,
        ))
        .await?;
        count += 1;
    }
    Ok(count)
}

fn is_worked(state: Option<TaskState>) -> bool {
    matches!(
        state,
        Some(TaskState::Queued | TaskState::Running | TaskState::Restarting)
    )
}

fn run_key(identity: &TaskIdentity) -> RunKey {
    RunKey {
        dag_id: identity.dag_id.clone(),
        run_id: identity.run_id.clone(),
    }
}

fn task_key(identity: &TaskIdentity) -> TaskKey {
    TaskKey {
        task_id: identity.task_id.clone(),
        map_index: identity.map_index,
    }
}
