//! What a backfill consists of: which of its dates get a run, which run again, and which stay as they are.

use std::sync::Arc;

use isobar_auth::TeamScope;
use isobar_engine::dagplan::NextRun;
use isobar_engine::timetable::{self, Timetable};
use isobar_model::dag::SerializedDag;
use isobar_model::{DagId, Reprocess, RunId, RunState, RunTrigger, RunType};
use isobar_store::backfills::{self, Adoption, NewBackfill, NoRun, Place};
use isobar_store::clearing::{self, Clear};
use isobar_store::runs::{NewRun, Run};
use isobar_store::task_instances::{self, TaskInstance};
use isobar_store::{StoreError, Tx};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::new_run::{NewRuns, random_tail};

/// A date of a backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Date {
    /// The run as the timetable has it.
    pub run: NextRun,
    /// The id that a custom timetable gave it.
    pub run_id: Option<RunId>,
}

impl Date {
    /// A run whose id follows from its dates.
    #[must_use]
    pub fn of(run: NextRun) -> Self {
        Self { run, run_id: None }
    }
}

/// Why a date whose run exists gets none, if so.
fn no_run(run: &Run, reprocess: Reprocess) -> Option<NoRun> {
    match (run.state, reprocess) {
        (RunState::Queued | RunState::Running, _) => Some(NoRun::InFlight),
        (_, Reprocess::None) | (RunState::Success, Reprocess::Failed) => Some(NoRun::AlreadyExists),
        _ => None,
    }
}

/// The dates that would get a run.
///
/// # Errors
/// The database failed.
pub async fn rehearse(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    dates: Vec<Date>,
    reprocess: Reprocess,
) -> Result<Vec<Date>, StoreError> {
    let mut kept = Vec::new();
    for date in dates {
        let there = backfills::run_of(tx, scope, dag_id, date.run.logical_date(), date.run.partition_date).await?;
        if there.is_none_or(|run| no_run(&run, reprocess).is_none()) {
            kept.push(date);
        }
    }
    Ok(kept)
}

/// A backfill to be made, with all that its runs need.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The backfill.
    pub new: NewBackfill,
    /// Its dates, in order.
    pub dates: Vec<Date>,
    /// The Dag as it is.
    pub dag: Arc<SerializedDag>,
    /// Its version.
    pub version_id: Uuid,
    /// The version of its bundle, for new runs.
    pub bundle_version: Option<String>,
    /// Whether runs that exist already move to the Dag's current version.
    pub on_latest: bool,
}

impl NewRuns {
    /// Makes a backfill and its runs, in one unit; answers its id, none where the Dag has one that has not ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn backfill(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreError> {
        let Some(id) = backfills::create(tx, scope, &plan.new, now).await? else {
            return Ok(None);
        };
        let mut places = Vec::with_capacity(plan.dates.len());
        for (date, ordinal) in plan.dates.iter().zip(1..) {
            let (logical_date, dag_id) = (date.run.logical_date(), &plan.new.dag_id);
            let there = backfills::run_of(tx, scope, dag_id, logical_date, date.run.partition_date).await?;
            let refused = there.as_ref().and_then(|run| no_run(run, plan.new.reprocess));
            let run = match (refused, there) {
                (Some(refused), _) => Err(refused),
                // A partition keeps the runs that it had, beside the new one.
                (None, Some(run)) if date.run.partition_key.is_none() => {
                    self.run_again(tx, scope, plan, (id, ordinal), &run, now).await?;
                    Ok(run.run_id)
                }
                _ => self.run_anew(tx, scope, plan, (id, ordinal), date, now).await?,
            };
            places.push(Place {
                ordinal,
                logical_date,
                partition_key: date.run.partition_key.clone(),
                run,
            });
        }
        backfills::add_places(tx, scope, &plan.new.dag_id, id, &places).await?;
        Ok(Some(id))
    }

    async fn run_anew(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        plan: &Plan,
        (backfill, ordinal): (i64, i64),
        Date { run: date, run_id }: &Date,
        now: Timestamp,
    ) -> Result<Result<RunId, NoRun>, StoreError> {
        let random = random_tail();
        let run_id = match (run_id, &date.partition_key, Timetable::from_model(&plan.dag.timetable)) {
            (Some(run_id), _, _) => run_id.clone(),
            (None, Some(key), Ok(timetable)) => timetable
                .run_id(RunType::Backfill, date.run_after, Some(key), &random)
                .into(),
            _ => timetable::run_id(RunType::Backfill, date.logical_date(), date.run_after, &random).into(),
        };
        let conf = match &plan.new.conf {
            Value::Null => Value::Object(serde_json::Map::new()),
            conf => conf.clone(),
        };
        let new = NewRun {
            triggered_by: Some(RunTrigger::Backfill),
            triggering_user: Some(plan.new.triggering_user.clone()),
            conf,
            logical_date: date.logical_date(),
            interval: date.data_interval,
            bundle_version: plan.bundle_version.clone(),
            version_id: Some(plan.version_id),
            partition_key: date.partition_key.clone(),
            ..NewRun::new(plan.new.dag_id.clone(), run_id, RunType::Backfill, date.run_after)
        };
        let run = match self.create(tx, scope, &new, now).await {
            Ok(run) => run,
            // Somebody made it meanwhile, or one of that id has another date.
            Err(StoreError::Exists { .. }) => return Ok(Err(NoRun::InFlight)),
            Err(error) => return Err(error),
        };
        let adoption = Adoption {
            backfill,
            ordinal,
            conf: None,
            partition_date: date.partition_date,
        };
        backfills::adopt(tx, scope, &run.key(), &adoption).await?;
        Ok(Ok(run.run_id))
    }

    async fn run_again(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        plan: &Plan,
        (backfill, ordinal): (i64, i64),
        run: &Run,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = run.key();
        let instances = task_instances::of_run(tx, scope, &key).await?;
        let bound = run
            .created_version_id
            .filter(|_| !plan.on_latest && run.bundle_version.is_some());
        let version_id = bound.unwrap_or(plan.version_id);
        let keys = instances.iter().map(TaskInstance::task_key);
        let tasks = self.to_clear(tx, scope, &key.dag_id, Some(version_id), keys).await?;
        let clear = Clear {
            tasks: &tasks,
            run_state: Some(RunState::Queued),
            prevent_running: false,
            version_id: plan.on_latest.then_some(plan.version_id),
            actor: Some(&plan.new.triggering_user),
        };
        clearing::clear(tx, scope, &key, &clear, now).await?;
        let adoption = Adoption {
            backfill,
            ordinal,
            conf: (!plan.new.conf.is_null()).then_some(&plan.new.conf),
            partition_date: None,
        };
        backfills::adopt(tx, scope, &key, &adoption).await
    }
}
