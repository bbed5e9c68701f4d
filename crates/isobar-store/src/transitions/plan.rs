//! What the scheduler decided, committed for many runs in one unit: each run under a mark, at the revision it was planned from.

use std::collections::{BTreeMap, BTreeSet};

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{Dispatch, Rev, RunKey, RunState, TaskId, TaskKey, TaskState, TeamId, TiId};
use isobar_wire::listeners::Hook;
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::OpenRun;
use crate::counters::{Counter, next_ids};
use crate::db::{vals, values_list};
use crate::leases::{self, Lease};
use crate::listeners::{self, NewCall};
use crate::runs::Run;
use crate::task_instances::{self, NewTaskInstance, among};
use crate::triggers::{self, DeferredStart};
use crate::{StoreError, Tx};

/// Keys in one statement.
const KEYS_A_STATEMENT: usize = 500;

/// All that is to change in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// The team.
    pub team: TeamId,
    /// The run.
    pub key: RunKey,
    /// The revision that it was planned from.
    pub rev: Rev,
    /// Instances to make.
    pub create: Vec<NewTaskInstance>,
    /// The version of the Dag to which instances that have not ended move, where the run follows a new one.
    pub follow: Option<Uuid>,
    /// What becomes of placeholders of mapped tasks.
    pub placeholders: Vec<Placeholder>,
    /// States decided without running.
    pub decided: Vec<Decided>,
    /// Instances that become `scheduled`.
    pub ready: Vec<ReadyTask>,
    /// Instances that become `deferred` without a worker, with the state planned from.
    pub defer: Vec<(ReadyTask, DeferredStart)>,
    /// Instances that become `queued`, after those above.
    pub queue: Vec<QueueTask>,
    /// What becomes of the run itself.
    pub run: Option<RunUpdate>,
    /// Callbacks that follow.
    pub callbacks: Vec<NewCallback>,
}

impl PlannedRun {
    /// No change yet.
    #[must_use]
    pub fn new(team: TeamId, key: RunKey, rev: Rev) -> Self {
        Self {
            team,
            key,
            rev,
            create: Vec::new(),
            follow: None,
            placeholders: Vec::new(),
            decided: Vec::new(),
            ready: Vec::new(),
            defer: Vec::new(),
            queue: Vec::new(),
            run: None,
            callbacks: Vec::new(),
        }
    }

    /// Whether there is anything to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.create.is_empty()
            && self.follow.is_none()
            && self.placeholders.is_empty()
            && self.decided.is_empty()
            && self.ready.is_empty()
            && self.defer.is_empty()
            && self.queue.is_empty()
            && self.run.is_none()
            && self.callbacks.is_empty()
    }
}

/// The instance -1 that stands for a mapped task before its length is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// It becomes index 0.
    BecomesFirst(TaskId),
    /// It goes.
    Delete(TaskId),
}

/// A state decided without running the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The instance.
    pub key: TaskKey,
    /// Compare.
    pub from: Option<TaskState>,
    /// Set.
    pub to: Option<TaskState>,
    /// What becomes of start and end.
    pub dates: Dates,
}

/// What a state that is decided without running does to an instance's dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dates {
    /// A finished state (`removed` apart) sets start and end, where not set.
    WhereMissing,
    /// A trivial task that succeeds at once counts a try: start and end are now, the duration 0.
    AtOnce,
    /// They stay as they are, as in Airflow: a mapped task without a length, and what a run that took too long leaves undone.
    Kept,
}

/// An instance whose dependencies are met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyTask {
    /// The instance.
    pub key: TaskKey,
    /// Compare.
    pub from: Option<TaskState>,
    /// Whether this is another try (all but after a reschedule or a deferral).
    pub next_try: bool,
}

/// An instance that admission let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueTask {
    /// The instance; compare: `scheduled`.
    pub key: TaskKey,
}

/// A change of the run's own row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunUpdate {
    /// Its state.
    pub state: RunState,
    /// Set where it starts.
    pub start_date: Option<Timestamp>,
    /// Set where it ends.
    pub end_date: Option<Timestamp>,
    /// Why it ends, in Airflow's word: what listeners are told.
    pub why_ended: Option<&'static str>,
}

/// A callback for the team's dag-processor.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCallback {
    /// The bundle.
    pub bundle: String,
    /// Path of the file below the bundle.
    pub rel_path: String,
    /// The message for the child.
    pub request: Value,
}

/// What became of one run's plan.
#[derive(Clone, Debug, PartialEq)]
pub enum PlanOutcome {
    /// Written. The run is at this revision now, and these were queued.
    Committed {
        /// The run's revision.
        rev: Rev,
        /// What may be handed to executors after the commit.
        queued: Vec<QueuedTask>,
    },
    /// The run moved or went, or an instance was not in the state planned from: nothing of this run was written. Load it
    /// and plan again.
    Conflict,
}

/// An instance that was queued: what its workload needs of the row.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct QueuedTask {
    pub key: TaskKey,
    pub ti_id: TiId,
    pub dispatch: Dispatch,
    pub try_number: i32,
    pub queue: Option<String>,
    pub pool_slots: i32,
    pub priority_weight: i64,
    pub dag_version_id: Option<Uuid>,
}

/// Writes the plans, ordered by run, fenced by the lease; one outcome each, in the order given.
///
/// # Errors
/// [`StoreError::LeaseLost`], or the database failed: nothing of any run is written once the unit is dropped.
pub async fn commit_plans(
    tx: &mut Tx,
    scope: &OrgScope,
    lease: &Lease,
    plans: &[PlannedRun],
    now: Timestamp,
) -> Result<Vec<PlanOutcome>, StoreError> {
    leases::fence(tx, scope, lease).await?;
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by(|a, b| (plans[*a].team, &plans[*a].key).cmp(&(plans[*b].team, &plans[*b].key)));
    let mut outcomes = vec![PlanOutcome::Conflict; plans.len()];
    let mut callbacks: BTreeMap<TeamId, Vec<&NewCallback>> = BTreeMap::new();
    let mut deferred = Vec::new();
    let changing = plans.iter().filter(|plan| plan.run.is_some()).map(|plan| plan.team);
    let ears = listeners::heard_by(tx, scope, &changing.collect()).await?;
    for at in order {
        let plan = &plans[at];
        tx.mark().await?;
        match write(tx, scope.team(plan.team), plan, ears.get(&plan.team), now).await {
            Ok(Some(Written { rev, queued })) => {
                tx.keep_mark().await?;
                callbacks.entry(plan.team).or_default().extend(&plan.callbacks);
                deferred.extend(plan.defer.iter().map(|(_, start)| (plan, start)));
                if plan
                    .decided
                    .iter()
                    .any(|change| change.from == Some(TaskState::Deferred))
                {
                    // Their triggers are to be killed.
                    tx.wake(Wake::Triggers(plan.team));
                }
                outcomes[at] = PlanOutcome::Committed { rev, queued };
            }
            Ok(None) => tx.back_to_mark().await?,
            Err(error) => {
                tracing::warn!(team = %plan.team, dag = %plan.key.dag_id, run = %plan.key.run_id, %error,
                    "the plan of a run could not be written; it is loaded and planned again");
                tx.back_to_mark().await?;
            }
        }
    }
    // Counters of teams stay locked until the commit on PostgreSQL: last, and in order.
    for (plan, start) in deferred {
        triggers::give(
            tx,
            scope.team(plan.team),
            &plan.key.dag_id,
            &plan.key.run_id,
            start,
            now,
        )
        .await?;
    }
    for (team, new) in callbacks {
        insert_callbacks(tx, scope.team(team), &new, now).await?;
    }
    Ok(outcomes)
}

/// What was written of one run, and what follows once all runs are.
struct Written {
    rev: Rev,
    queued: Vec<QueuedTask>,
}

async fn write(
    tx: &mut Tx,
    scope: TeamScope,
    plan: &PlannedRun,
    ears: Option<&BTreeSet<Hook>>,
    now: Timestamp,
) -> Result<Option<Written>, StoreError> {
    let Some(open) = OpenRun::lock_at(tx, scope, &plan.key, plan.rev, plan.run.is_some(), now).await? else {
        return Ok(None);
    };
    if !plan.create.is_empty() {
        task_instances::insert(tx, scope, &plan.key, &plan.create, now).await?;
    }
    for placeholder in &plan.placeholders {
        let (sql, task_id) = match placeholder {
            Placeholder::BecomesFirst(task_id) => {
                // What the team's Python said of the placeholder it may not say of the first.
                ("UPDATE task_instance SET map_index = 0, shaped_for = NULL", task_id)
            }
            Placeholder::Delete(task_id) => ("DELETE FROM task_instance", task_id),
        };
        let touched = tx
            .run(
                &format!(
                    "{sql} WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = -1"
                ),
                vals![scope.team(), &plan.key.dag_id, &plan.key.run_id, task_id],
            )
            .await?;
        if touched != 1 {
            return Ok(None);
        }
    }
    let mut decided: BTreeMap<_, Vec<TaskKey>> = BTreeMap::new();
    for change in &plan.decided {
        decided
            .entry((change.from, change.to, change.dates))
            .or_default()
            .push(change.key.clone());
    }
    for ((from, to, dates), keys) in decided {
        let ends = to.is_some_and(|state| state.is_finished() && state != TaskState::Removed);
        let dates = match dates {
            Dates::AtOnce => ", start_date = $4, end_date = $4, duration = 0, try_number = try_number + 1",
            Dates::WhereMissing if ends => {
                ", end_date = coalesce(end_date, $4), start_date = coalesce(start_date, $4), \
                 duration = (coalesce(end_date, $4) - coalesce(start_date, $4)) / 1000000.0"
            }
            Dates::WhereMissing | Dates::Kept => "",
        };
        if !set(tx, scope, &plan.key, &keys, from, to, dates, now).await? {
            return Ok(None);
        }
    }
    // After what was decided: a task that the Dag has again follows as well.
    if let Some(version_id) = plan.follow {
        tx.run(
            "UPDATE task_instance SET dag_version_id = $4 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 \
             AND (state IS NULL OR state NOT IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed'))",
            vals![scope.team(), &plan.key.dag_id, &plan.key.run_id, version_id],
        )
        .await?;
    }
    let mut ready: BTreeMap<_, Vec<TaskKey>> = BTreeMap::new();
    for task in &plan.ready {
        ready
            .entry((task.from, task.next_try))
            .or_default()
            .push(task.key.clone());
    }
    for ((from, next_try), keys) in ready {
        let more = if next_try {
            ", scheduled_at = $4, try_number = try_number + 1"
        } else {
            ", scheduled_at = $4"
        };
        if !set(tx, scope, &plan.key, &keys, from, Some(TaskState::Scheduled), more, now).await? {
            return Ok(None);
        }
    }
    for (task, start) in &plan.defer {
        if !defer(tx, scope, &plan.key, task, start, now).await? {
            return Ok(None);
        }
    }
    let Some(queued) = queue(tx, scope, plan, now).await? else {
        return Ok(None);
    };
    if let Some(update) = &plan.run {
        tx.run(
            "UPDATE dag_run SET state = $4, start_date = coalesce($5, start_date), end_date = $6 \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
            vals![
                scope.team(),
                &plan.key.dag_id,
                &plan.key.run_id,
                update.state,
                update.start_date,
                update.end_date
            ],
        )
        .await?;
        if let Some(ears) = ears {
            let calls = calls_of(tx, scope, ears, &open.row, update).await?;
            listeners::tell(tx, scope, calls, now);
        }
    }
    Ok(Some(Written {
        rev: open.close_silently(tx),
        queued,
    }))
}

/// What listeners are told of a run that starts, ends, or does both at once.
async fn calls_of(
    tx: &mut Tx,
    scope: TeamScope,
    ears: &BTreeSet<Hook>,
    before: &Run,
    update: &RunUpdate,
) -> Result<Vec<NewCall>, StoreError> {
    let mut run = before.clone();
    let mut calls = Vec::new();
    if update.start_date.is_some() {
        (run.state, run.start_date, run.end_date) = (RunState::Running, update.start_date, None);
        calls.extend(listeners::of_run(tx, scope, ears, Hook::OnDagRunRunning, &run, "started").await?);
    }
    let hook = match update.state {
        RunState::Success => Hook::OnDagRunSuccess,
        RunState::Failed => Hook::OnDagRunFailed,
        RunState::Queued | RunState::Running => return Ok(calls),
    };
    (run.state, run.end_date) = (update.state, update.end_date);
    let why = update.why_ended.unwrap_or_default();
    calls.extend(listeners::of_run(tx, scope, ears, hook, &run, why).await?);
    Ok(calls)
}

#[expect(clippy::too_many_arguments, reason = "one statement's parts")]
async fn set(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    keys: &[TaskKey],
    from: Option<TaskState>,
    to: Option<TaskState>,
    more: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    for chunk in keys.chunks(KEYS_A_STATEMENT) {
        let (among, keys) = among(7, chunk);
        let mut values = vals![scope.team(), &run.dag_id, &run.run_id, now, to, from];
        values.extend(keys);
        let touched = tx
            .run(
                &format!(
                    "UPDATE task_instance SET state = $5, updated_at = $4{more} WHERE team_no = $1 AND dag_id = $2 \
                     AND run_id = $3 AND state IS NOT DISTINCT FROM $6 AND {among}"
                ),
                values,
            )
            .await?;
        if touched != chunk.len() as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes one instance as `deferred`; its trigger follows once all runs are written.
async fn defer(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task: &ReadyTask,
    start: &DeferredStart,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            "UPDATE task_instance SET state = 'deferred', start_date = $7, updated_at = $7, end_date = NULL, \
             duration = NULL, try_number = try_number + $8, next_method = $9, next_kwargs = $10, trigger_timeout = $11 \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = $5 \
             AND state IS NOT DISTINCT FROM $6",
            vals![
                scope.team(),
                &run.dag_id,
                &run.run_id,
                &task.key.task_id,
                task.key.map_index,
                task.from,
                now,
                i32::from(task.next_try),
                &start.next_method,
                &start.next_kwargs,
                start.timeout,
            ],
        )
        .await?;
    Ok(touched == 1)
}

async fn queue(
    tx: &mut Tx,
    scope: TeamScope,
    plan: &PlannedRun,
    now: Timestamp,
) -> Result<Option<Vec<QueuedTask>>, StoreError> {
    let mut queued = BTreeMap::new();
    for chunk in plan.queue.chunks(KEYS_A_STATEMENT) {
        let keys: Vec<TaskKey> = chunk.iter().map(|task| task.key.clone()).collect();
        let (among, keys) = among(5, &keys);
        let mut values = vals![scope.team(), &plan.key.dag_id, &plan.key.run_id, now];
        values.extend(keys);
        let rows = tx
            .rows(
                &format!(
                    "UPDATE task_instance SET state = 'queued', queued_at = $4, updated_at = $4, dispatch = dispatch + 1 \
                     WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND state = 'scheduled' AND {among} \
                     RETURNING task_id, map_index, id, dispatch, try_number, queue, pool_slots, priority_weight, \
                     dag_version_id"
                ),
                values,
            )
            .await?;
        if rows.len() != chunk.len() {
            return Ok(None);
        }
        for row in rows {
            let task = QueuedTask {
                key: TaskKey {
                    task_id: row.text("task_id")?.into(),
                    map_index: row.small("map_index")?,
                },
                ti_id: row.ti_id("id")?,
                dispatch: Dispatch(row.int("dispatch")?),
                try_number: row.small("try_number")?,
                queue: row.maybe_text("queue")?,
                pool_slots: row.small("pool_slots")?,
                priority_weight: row.int("priority_weight")?,
                dag_version_id: row.maybe_uuid("dag_version_id")?,
            };
            queued.insert(task.key.clone(), task);
        }
    }
    // In admission's order, which executors keep.
    Ok(Some(
        plan.queue.iter().filter_map(|task| queued.remove(&task.key)).collect(),
    ))
}

async fn insert_callbacks(
    tx: &mut Tx,
    scope: TeamScope,
    new: &[&NewCallback],
    now: Timestamp,
) -> Result<(), StoreError> {
    for chunk in new.chunks(KEYS_A_STATEMENT) {
        let count = u32::try_from(chunk.len()).expect("a chunk is small");
        let first = next_ids(tx, scope, Counter::Callback, count).await?;
        let rows = chunk
            .iter()
            .zip(first..)
            .map(|(callback, id)| {
                vals![
                    scope.team(),
                    id,
                    callback.bundle.as_str(),
                    callback.rel_path.as_str(),
                    &callback.request,
                    now
                ]
            })
            .collect();
        let (list, values) = values_list(1, rows);
        tx.run(
            &format!("INSERT INTO callback (team_no, id, bundle, rel_path, request, made_at) VALUES {list}"),
            values,
        )
        .await?;
        tx.wake(Wake::Callbacks(scope.team()));
    }
    Ok(())
}
