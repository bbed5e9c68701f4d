//! What a task's own supervisor writes: started, alive, ended. Fenced by the id of the try and the dispatch number.

use isobar_auth::TeamScope;
use isobar_model::{MapIndex, RunKey, TaskId, TaskKey, TaskState, to_micros};
use isobar_wire::execution::{TaskIdentity, TaskStart};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::resumed::{Resume, go_on};
use super::{AuditRow, OpenRun};
use crate::db::{Row, vals};
use crate::events::{ChangedChoice, ChangedInstance, ChangedLength};
use crate::hitl::{self, HitlDetail};
use crate::runs::Run;
use crate::task_instances::{TaskInstance, archive_try, is_archived};
use crate::triggers::{self, Trigger};
use crate::{StoreError, Tx};

/// How long after the terminal commit a token may still read (rule 22).
pub(super) const FINISHING: SignedDuration = SignedDuration::from_secs(30);

/// What became of a task's write.
///
/// Anything but `Done` and `Repeated` wrote nothing that may stay: drop the unit, do not commit it.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum TaskWrite<T> {
    /// Written.
    Done(T),
    /// It is so already (the same client asked twice): nothing to write.
    Repeated(T),
    /// No such task instance: 404.
    Missing,
    /// The try is over: cleared, retried or handed out again. 410.
    Archived,
    /// The state does not allow it: 409. Holds the row as it is.
    WrongState(Box<TaskInstance>),
}

impl<T> TaskWrite<T> {
    fn refused<U>(self) -> TaskWrite<U> {
        match self {
            Self::Missing => TaskWrite::Missing,
            Self::WrongState(ti) => TaskWrite::WrongState(ti),
            Self::Done(_) | Self::Repeated(_) | Self::Archived => TaskWrite::Archived,
        }
    }
}

pub(super) fn run_key(task: &TaskIdentity) -> RunKey {
    RunKey {
        dag_id: task.dag_id.clone(),
        run_id: task.run_id.clone(),
    }
}

pub(super) fn task_key(task: &TaskIdentity) -> TaskKey {
    TaskKey {
        task_id: task.task_id.clone(),
        map_index: task.map_index,
    }
}

/// Reads the row of a token's task instance, `Done` only where the token is of the current dispatch, whatever the state.
///
/// # Errors
/// The database failed.
pub async fn fenced(tx: &mut Tx, scope: TeamScope, task: &TaskIdentity) -> Result<TaskWrite<TaskInstance>, StoreError> {
    match crate::task_instances::get(tx, scope, &run_key(task), &task_key(task)).await? {
        Some(ti) if ti.id == task.ti_id && ti.dispatch == task.dispatch => Ok(TaskWrite::Done(ti)),
        Some(_) => Ok(TaskWrite::Archived),
        None if is_archived(tx, scope, task.ti_id).await? => Ok(TaskWrite::Archived),
        None => Ok(TaskWrite::Missing),
    }
}

/// What a start answers with.
#[derive(Clone, Debug, PartialEq)]
pub struct StartedTask {
    /// The row after the start.
    pub ti: TaskInstance,
    /// Its state before.
    pub previous_state: Option<TaskState>,
    /// Its run.
    pub run: Run,
    /// How often it was rescheduled within this try.
    pub reschedules: i64,
}

/// `queued` (or `restarting`) becomes `running`.
///
/// # Errors
/// The database failed.
pub async fn started(
    tx: &mut Tx,
    scope: TeamScope,
    task: &TaskIdentity,
    start: &TaskStart,
    now: Timestamp,
) -> Result<TaskWrite<StartedTask>, StoreError> {
    let Some(mut open) = OpenRun::lock(tx, scope, &run_key(task), now).await? else {
        return Ok(TaskWrite::Missing);
    };
    let before = match fenced(tx, scope, task).await? {
        TaskWrite::Done(ti) => ti,
        refused => return Ok(refused.refused()),
    };
    let reschedules = tx
        .row(
            "SELECT count(*) AS n FROM task_reschedule WHERE team_no = $1 AND ti_id = $2",
            vals![scope.team(), task.ti_id],
        )
        .await?
        .map_or(Ok(0), |row| row.int("n"))?;
    let same_client = before.state == Some(TaskState::Running)
        && before.hostname.as_deref() == Some(start.hostname.as_str())
        && before.unixname.as_deref() == Some(start.unixname.as_str())
        && before.pid == Some(i64::from(start.pid));
    if !same_client && !matches!(before.state, Some(TaskState::Queued | TaskState::Restarting)) {
        return Ok(TaskWrite::WrongState(Box::new(before)));
    }
    let resumes = !before.next_kwargs.is_null();
    let start_date = if resumes { before.start_date } else { None }.unwrap_or(start.start_date.0);
    let row = tx
        .row(
            "UPDATE task_instance SET state = 'running', start_date = $6, end_date = NULL, duration = NULL, \
             hostname = $7, unixname = $8, pid = $9, last_heartbeat = $10, updated_at = $10, \
             retry_delay_override = NULL, retry_reason = NULL, finishing_until = NULL \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = $5 RETURNING *",
            vals![
                scope.team(),
                &task.dag_id,
                &task.run_id,
                &task.task_id,
                task.map_index,
                start_date,
                start.hostname.as_str(),
                start.unixname.as_str(),
                start.pid,
                now
            ],
        )
        .await?
        .ok_or_else(|| conflict(task))?;
    let ti = TaskInstance::from_row(&row)?;
    open.change.instances.push(changed(&ti, None, false));
    let extra = json!({"host_name": start.hostname}).to_string();
    open.audit.push(AuditRow::of_task("running", &ti, Some(extra)));
    let run = open.row.clone();
    // The planner learns of it with the next event that matters: nothing starts because a task runs.
    open.close(tx, false).await?;
    let started = StartedTask {
        ti,
        previous_state: before.state,
        run,
        reschedules,
    };
    Ok(if same_client {
        TaskWrite::Repeated(started)
    } else {
        TaskWrite::Done(started)
    })
}

fn conflict(task: &TaskIdentity) -> StoreError {
    StoreError::Conflict {
        what: format!("task instance `{}` of run `{}`", task.task_id, task.run_id),
    }
}

/// Notes that the task is alive. No event, no revision.
///
/// # Errors
/// The database failed.
pub async fn heartbeat(
    tx: &mut Tx,
    scope: TeamScope,
    task: &TaskIdentity,
    hostname: &str,
    pid: i32,
    now: Timestamp,
) -> Result<TaskWrite<()>, StoreError> {
    let touched = tx
        .run(
            "UPDATE task_instance SET last_heartbeat = $8 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 \
             AND task_id = $4 AND map_index = $5 AND id = $6 AND dispatch = $7 AND state = 'running' \
             AND hostname = $9 AND pid = $10",
            vals![
                scope.team(),
                &task.dag_id,
                &task.run_id,
                &task.task_id,
                task.map_index,
                task.ti_id,
                task.dispatch,
                now,
                hostname,
                pid
            ],
        )
        .await?;
    if touched > 0 {
        return Ok(TaskWrite::Done(()));
    }
    Ok(match fenced(tx, scope, task).await? {
        TaskWrite::Done(ti) => TaskWrite::WrongState(Box::new(ti)),
        refused => refused.refused(),
    })
}

/// How a task ended or paused, as its supervisor says.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// `success`, `failed`, `skipped` or `removed`.
    Finally(TaskState),
    /// `up_for_retry`: the try is archived, the row gets a new id.
    UpForRetry {
        /// Seconds, from a retry policy.
        delay: Option<f64>,
        /// Its reason, cut off at 500 characters.
        reason: Option<String>,
    },
    /// `up_for_reschedule`.
    UpForReschedule {
        /// When to start again.
        at: Timestamp,
    },
    /// `deferred`.
    Deferred {
        /// What it waits for; gets its number with the write.
        trigger: Trigger,
        /// The method that resumes.
        next_method: String,
        /// Its arguments.
        next_kwargs: Value,
        /// When waiting ends in failure.
        timeout: Option<Timestamp>,
    },
    /// `awaiting_input`.
    AwaitingInput {
        /// The method that resumes.
        next_method: String,
        /// Its arguments.
        next_kwargs: Value,
        /// When waiting ends.
        timeout: Option<Timestamp>,
    },
}

impl Ended {
    /// The state that the row goes to.
    #[must_use]
    pub fn state(&self) -> TaskState {
        match self {
            Self::Finally(state) => *state,
            Self::UpForRetry { .. } => TaskState::UpForRetry,
            Self::UpForReschedule { .. } => TaskState::UpForReschedule,
            Self::Deferred { .. } => TaskState::Deferred,
            Self::AwaitingInput { .. } => TaskState::AwaitingInput,
        }
    }
}

/// A task whose end was written.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedTask {
    /// The row before.
    pub before: TaskInstance,
    /// The row after; another id after a retry.
    pub after: TaskInstance,
    /// Its run.
    pub run: Run,
}

/// Writes how a running task ended, with its event.
///
/// # Errors
/// The database failed.
pub async fn ended(
    tx: &mut Tx,
    scope: TeamScope,
    task: &TaskIdentity,
    end: &Ended,
    end_date: Timestamp,
    rendered_map_index: Option<&str>,
    now: Timestamp,
) -> Result<TaskWrite<EndedTask>, StoreError> {
    let Some(open) = OpenRun::lock(tx, scope, &run_key(task), now).await? else {
        return Ok(TaskWrite::Missing);
    };
    let before = match fenced(tx, scope, task).await? {
        TaskWrite::Done(ti) => ti,
        refused => return Ok(refused.refused()),
    };
    if before.state == Some(end.state()) {
        let run = open.row.clone();
        open.close(tx, false).await?;
        return Ok(TaskWrite::Repeated(EndedTask {
            after: before.clone(),
            before,
            run,
        }));
    }
    if before.state != Some(TaskState::Running) {
        return Ok(TaskWrite::WrongState(Box::new(before)));
    }
    // The person was faster than the task's parking: it goes on at once.
    if matches!(end, Ended::AwaitingInput { .. })
        && let Some(detail) = hitl::get(tx, scope, before.id).await?.filter(HitlDetail::is_answered)
    {
        let done = go_on(tx, open, before, end, &Resume::Event(detail.event(false)), now).await?;
        return Ok(TaskWrite::Done(done));
    }
    let done = write_end(tx, open, before, end, end_date, rendered_map_index, now).await?;
    Ok(TaskWrite::Done(done))
}

pub(super) async fn write_end(
    tx: &mut Tx,
    mut open: OpenRun,
    before: TaskInstance,
    end: &Ended,
    end_date: Timestamp,
    rendered_map_index: Option<&str>,
    now: Timestamp,
) -> Result<EndedTask, StoreError> {
    let scope = open.scope;
    let (delay, reason) = match end {
        Ended::UpForRetry { delay, reason } => (*delay, reason.as_ref().map(|text| text.chars().take(500).collect())),
        _ => (None, None),
    };
    let (trigger_id, next_method, next_kwargs, timeout) = match end {
        Ended::Deferred {
            trigger,
            next_method,
            next_kwargs,
            timeout,
        } => (
            Some(triggers::add(tx, scope, trigger, now).await?),
            Some(next_method.clone()),
            Some(next_kwargs.to_string()),
            *timeout,
        ),
        Ended::AwaitingInput {
            next_method,
            next_kwargs,
            timeout,
        } => (None, Some(next_method.clone()), Some(next_kwargs.to_string()), *timeout),
        _ => (None, None, None, None),
    };
    // A deferred task goes on after it resumes: it has no end.
    let pauses = matches!(end, Ended::Deferred { .. } | Ended::AwaitingInput { .. });
    let ends_at = (!pauses).then_some(end_date);
    let seconds = ends_at.and_then(|at| {
        before
            .start_date
            .map(|from| (to_micros(at) - to_micros(from)) as f64 / 1e6)
    });
    let reschedule_at = match end {
        Ended::UpForReschedule { at } => Some(*at),
        _ => None,
    };
    if let Some(at) = reschedule_at {
        tx.run(
            "INSERT INTO task_reschedule (team_no, ti_id, ordinal, start_date, end_date, reschedule_date) \
             SELECT $1, $2, coalesce(max(ordinal), 0) + 1, $3, $4, $5 FROM task_reschedule WHERE team_no = $1 AND ti_id = $2",
            vals![scope.team(), before.id, before.start_date.unwrap_or(now), end_date, at],
        )
        .await?;
    }
    let row = tx
        .row(
            "UPDATE task_instance SET state = $6, end_date = $7, duration = $8, updated_at = $9, finishing_until = $10, \
             rendered_map_index = coalesce($11, rendered_map_index), retry_delay_override = $12, retry_reason = $13, \
             trigger_id = $14, next_method = $15, next_kwargs = $16, trigger_timeout = $17, next_start = $18 \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = $5 RETURNING *",
            vals![
                scope.team(),
                &before.dag_id,
                &before.run_id,
                &before.task_id,
                before.map_index,
                end.state(),
                ends_at,
                seconds,
                now,
                now + FINISHING,
                rendered_map_index,
                delay,
                reason as Option<String>,
                trigger_id,
                next_method,
                next_kwargs,
                timeout,
                reschedule_at,
            ],
        )
        .await?
        .ok_or_else(|| StoreError::Conflict {
            what: format!("task instance `{}`", before.task_id),
        })?;
    let mut after = TaskInstance::from_row(&row)?;
    if matches!(end, Ended::UpForRetry { .. }) {
        let key = after.task_key();
        archive_try(tx, scope, &open.key(), std::slice::from_ref(&key), now).await?;
        after = crate::task_instances::get(tx, scope, &open.key(), &key)
            .await?
            .unwrap_or(after);
    }
    if end.state() == TaskState::Failed {
        open.change.failed.push(after.task_key());
    }
    let has_result = describe_results(tx, &mut open, &after).await?;
    open.change.instances.push(changed(&after, reschedule_at, has_result));
    let extra = before
        .hostname
        .as_ref()
        .map(|host| json!({"host_name": host}).to_string());
    open.audit.push(AuditRow::of_task(end.state().as_str(), &before, extra));
    let run = open.row.clone();
    open.close(tx, true).await?;
    Ok(EndedTask { before, after, run })
}

/// Adds to the event what the task left for its downstream: its result's length, its branch. Whether it has a result.
async fn describe_results(tx: &mut Tx, open: &mut OpenRun, ti: &TaskInstance) -> Result<bool, StoreError> {
    if !ti.state.is_some_and(TaskState::is_finished) {
        return Ok(false);
    }
    let row = tx
        .row(
            "SELECT (SELECT count(*) FROM xcom WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
             AND map_index = $5 AND key = 'return_value') AS results, \
             (SELECT value FROM xcom WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
             AND map_index = $5 AND key = 'skipmixin_key') AS choice, \
             (SELECT length FROM task_map WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
             AND map_index = $5) AS length",
            vals![open.scope.team(), &ti.dag_id, &ti.run_id, &ti.task_id, ti.map_index],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    if let Some(length) = row.maybe_int("length")? {
        open.change.lengths.push(ChangedLength {
            task_id: ti.task_id.clone(),
            length: Some(length),
        });
    }
    if row.maybe_text("choice")?.is_some() {
        open.change.choices.push(ChangedChoice {
            task_id: ti.task_id.clone(),
            map_index: ti.map_index,
            value: row.json("choice")?,
        });
    }
    Ok(row.int("results")? > 0)
}

/// How an instance stands in an event.
pub(crate) fn changed(ti: &TaskInstance, reschedule_date: Option<Timestamp>, has_result: bool) -> ChangedInstance {
    ChangedInstance {
        task_id: ti.task_id.clone(),
        map_index: ti.map_index,
        ti_id: ti.id,
        dispatch: ti.dispatch.0,
        state: ti.state,
        try_number: ti.try_number,
        end_date: ti.end_date.map(to_micros),
        retry_delay_override: ti.retry_delay_override,
        reschedule_date: reschedule_date.map(to_micros),
        waits_until: ti.waits_until().map(to_micros),
        has_result,
    }
}

/// Skips tasks downstream of a branch, except those that run or ended (Airflow's `skip-downstream`). Map index -1 is the
/// unmapped instance.
///
/// # Errors
/// The database failed.
pub async fn skip_downstream(
    tx: &mut Tx,
    scope: TeamScope,
    task: &TaskIdentity,
    tasks: &[(TaskId, MapIndex)],
    now: Timestamp,
) -> Result<TaskWrite<u64>, StoreError> {
    let Some(mut open) = OpenRun::lock(tx, scope, &run_key(task), now).await? else {
        return Ok(TaskWrite::Missing);
    };
    match fenced(tx, scope, task).await? {
        TaskWrite::Done(_) => {}
        refused => return Ok(refused.refused()),
    }
    let keys: Vec<TaskKey> = tasks
        .iter()
        .map(|(task_id, map_index)| TaskKey {
            task_id: task_id.clone(),
            map_index: *map_index,
        })
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    for chunk in keys.chunks(500) {
        let (among, more) = crate::task_instances::among(5, chunk);
        let mut values = vals![scope.team(), &task.dag_id, &task.run_id, now];
        values.extend(more);
        rows.extend(
            tx.rows(
                &format!(
                    "UPDATE task_instance SET state = 'skipped', start_date = $4, end_date = $4, updated_at = $4 \
                     WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND {among} \
                     AND (state IS NULL OR state NOT IN ('running', 'success', 'failed')) RETURNING *"
                ),
                values,
            )
            .await?,
        );
    }
    for row in &rows {
        let ti = TaskInstance::from_row(row)?;
        open.change.instances.push(changed(&ti, None, false));
    }
    // Nothing starts before the task itself ends, and its end wakes the scheduler.
    open.close(tx, false).await?;
    Ok(TaskWrite::Done(rows.len() as u64))
}

/// Writes the rendered `map_index_template`. No change of state.
///
/// # Errors
/// The database failed.
pub async fn set_rendered_map_index(
    tx: &mut Tx,
    scope: TeamScope,
    task: &TaskIdentity,
    rendered: &str,
    now: Timestamp,
) -> Result<TaskWrite<()>, StoreError> {
    match fenced(tx, scope, task).await? {
        TaskWrite::Done(_) => {}
        refused => return Ok(refused.refused()),
    }
    tx.run(
        "UPDATE task_instance SET rendered_map_index = $3, updated_at = $4 WHERE id = $2 AND team_no = $1",
        vals![scope.team(), task.ti_id, rendered, now],
    )
    .await?;
    Ok(TaskWrite::Done(()))
}
