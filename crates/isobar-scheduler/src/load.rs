//! Filling the memory from rows: everything at the start of a lease, single Dags and runs when events say so.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use isobar_engine::admission::{DagKey, Event as AdmissionEvent};
use isobar_engine::dagplan;
use isobar_engine::planner::{
    Event, Instance, MapLength, PastFacts, Planner, Preceding, RunSnapshot, initial_instances,
};
use isobar_model::{RunState, TaskId, TaskState};
use isobar_store::leases::Lease;
use isobar_store::loading::{self, RunContents};
use isobar_store::runs::{self, Run};
use isobar_store::task_instances::TaskInstance;
use isobar_store::{Store, StoreError, events};
use jiff::Timestamp;
use uuid::Uuid;

use crate::admitting::{limits, standing, stays_known};
use crate::events::{choice, seconds};
use crate::mapping::Mapped;
use crate::memory::{LiveDag, LiveRun, Memory, RunRef};
use crate::pass::Pass;
use crate::setting::Setting;
use crate::timers::Timed;
use crate::versions::Version;

/// Loads everything into a memory that is empty but for what executors hold: at the start of a lease, or after an error.
///
/// # Errors
/// The database failed; try again.
pub(crate) async fn everything(
    store: &Store,
    setting: &Setting,
    lease: &Lease,
    memory: &mut Memory,
) -> Result<(), StoreError> {
    let began = std::time::Instant::now();
    let mut tx = store.begin().await?;
    let now = Timestamp::now();
    let mut pass = Pass::new(memory, setting, &mut tx, now);
    for limits in standing(setting) {
        pass.admission.limits(limits);
    }
    pass.load_pools().await?;
    // Rows are known when they are loaded, but what a failure means for others (`fail_fast`) is said in its event only.
    let claimed = events::claim_all(pass.tx, &setting.org).await?;
    pass.note_failures(&claimed);
    pass.load_shaping().await?;
    let runs = loading::active_runs(pass.tx, &setting.org).await?;
    let dags = loading::dags(pass.tx, &setting.org).await?;
    for row in dags {
        let key = DagKey {
            team: row.team,
            dag_id: row.dag_id.clone(),
        };
        if !setting.teams.contains_key(&row.team) {
            continue;
        }
        let version = pass.version(row.team, row.current_version_id).await?;
        pass.admission.limits(AdmissionEvent::Dags(vec![limits(&row)]));
        pass.memory.dags.insert(
            key,
            LiveDag {
                row,
                version,
                plan: None,
                mapped: Mapped::default(),
                runs: BTreeSet::new(),
            },
        );
    }
    let count = runs.len();
    for row in runs {
        pass.enter_run(row).await?;
    }
    pass.await_deadlines().await?;
    let open = isobar_store::backfills::open(pass.tx, &setting.org).await?;
    pass.backfills.extend(open);
    let keys: Vec<DagKey> = pass.memory.dags.keys().cloned().collect();
    for key in keys {
        pass.start_plan(&key).await?;
    }
    pass.take_events(claimed).await?;
    let (queued, cancels) = pass.finish(lease).await?;
    tx.commit().await?;
    crate::handing::hand_out(memory, setting, queued);
    crate::handing::cancel(setting, cancels);
    tracing::info!(dags = memory.dags.len(), runs = count, took = ?began.elapsed(), "scheduling");
    Ok(())
}

impl Pass<'_> {
    /// A Dag version, read once.
    pub(crate) async fn version(
        &mut self,
        team: isobar_model::TeamId,
        id: Option<Uuid>,
    ) -> Result<Option<Arc<Version>>, StoreError> {
        let Some(id) = id else { return Ok(None) };
        if let Some(version) = self.memory.versions.get(&id) {
            return Ok(Some(Arc::clone(version)));
        }
        let Some(stored) = loading::version(self.tx, self.setting.org.team(team), id).await? else {
            return Ok(None);
        };
        match Version::read(id, &stored) {
            Ok(version) => {
                let version = Arc::new(version);
                self.memory.versions.insert(id, Arc::clone(&version));
                Ok(Some(version))
            }
            Err(problem) => {
                tracing::error!(%team, dag = %stored.dag_id, version = stored.number, %problem, "this Dag version cannot be scheduled");
                Ok(None)
            }
        }
    }

    /// Reads a Dag again: its row, its version, its asset queue.
    pub(crate) async fn load_dag(&mut self, key: &DagKey) -> Result<(), StoreError> {
        if !self.setting.teams.contains_key(&key.team) {
            return Ok(());
        }
        let scope = self.setting.org.team(key.team);
        let Some(row) = loading::dag(self.tx, scope, &key.dag_id).await? else {
            if let Some(gone) = self.memory.dags.remove(key) {
                self.memory.timers.forget(&Timed::Dag(key.clone()));
                for run in gone.runs {
                    self.load_run(&run).await?;
                }
            }
            return Ok(());
        };
        let version = self.version(key.team, row.current_version_id).await?;
        self.admission.limits(AdmissionEvent::Dags(vec![limits(&row)]));
        let Some(live) = self.memory.dags.get_mut(key) else {
            self.memory.dags.insert(
                key.clone(),
                LiveDag {
                    row,
                    version,
                    plan: None,
                    mapped: Mapped::default(),
                    runs: BTreeSet::new(),
                },
            );
            for run in loading::active_runs_of(self.tx, scope, &key.dag_id).await? {
                self.enter_run(run).await?;
            }
            return self.start_plan(key).await;
        };
        let was_paused = live.row.holds_back();
        let print = |version: &Option<Arc<Version>>| version.as_ref().map(|version| version.schedule_print.clone());
        let reschedule = print(&live.version) != print(&version);
        let new_version = live.version.as_ref().map(|version| version.id) != version.as_ref().map(|version| version.id);
        live.row = row;
        live.version = version;
        if reschedule {
            live.mapped = Mapped::default();
        }
        let paused = live.row.holds_back();
        let runs: Vec<RunRef> = live.runs.iter().cloned().collect();
        if paused != was_paused {
            for run in &runs {
                self.pause_changed(run, paused);
            }
        }
        if new_version {
            self.follow_version(key, &runs).await?;
            // Runs that waited because no version of the Dag could be read.
            for row in loading::active_runs_of(self.tx, scope, &key.dag_id).await? {
                if !self.memory.runs.contains_key(&RunRef::of(&row)) {
                    self.enter_run(row).await?;
                }
            }
        }
        self.memory.forget_unused_versions();
        self.dag_changed(key, reschedule).await
    }

    fn pause_changed(&mut self, run: &RunRef, paused: bool) {
        if let Some(live) = self.memory.runs.get(run) {
            let facts = live.facts(paused);
            self.step_run(run, Event::RunChanged(facts));
        }
    }

    /// Runs of an unversioned bundle follow the Dag's newest version, as in Airflow.
    async fn follow_version(&mut self, key: &DagKey, runs: &[RunRef]) -> Result<(), StoreError> {
        let Some(version) = self.memory.dags.get(key).and_then(|dag| dag.version.clone()) else {
            return Ok(());
        };
        for run in runs {
            let live = self.memory.runs.get(run);
            if live.is_some_and(|live| live.row.bundle_version.is_none() && live.version.id != version.id) {
                // From the rows: the planner forgot those whose task its version does not have.
                self.load_run(run).await?;
                self.memory.followed_version.insert(run.clone());
            }
        }
        Ok(())
    }

    /// Reads a run again and plans it anew. Handles a run that is gone, one that ended, and one that is new.
    pub(crate) async fn load_run(&mut self, run: &RunRef) -> Result<(), StoreError> {
        if let Some(old) = self.memory.forget_run(run) {
            self.plans.remove(run);
            self.backfills.extend(old.row.backfill_id.map(|id| (run.team, id)));
            for task in old.admitted {
                self.admission.removed(run.instance(task));
            }
        }
        let scope = self.setting.org.team(run.team);
        match runs::get(self.tx, scope, &run.key).await? {
            None => {
                self.cancel_all(run);
                self.step_dag(&run.dag(), dagplan::Event::RunDeleted(run.key.run_id.clone()));
                self.to_reschedule.insert(run.dag());
                Ok(())
            }
            Some(row) => self.enter_run(row).await,
        }
    }

    /// Takes a run into the memory, whose row was just read.
    pub(crate) async fn enter_run(&mut self, row: Run) -> Result<(), StoreError> {
        let run = RunRef::of(&row);
        let dag_key = run.dag();
        let scope = self.setting.org.team(run.team);
        let active = crate::memory::active(&row);
        if row.state.is_finished() {
            let contents = isobar_store::task_instances::of_run(self.tx, scope, &run.key).await?;
            self.cancel_outdated(&run, &contents);
            self.note_past(&run);
            self.backfills.extend(row.backfill_id.map(|id| (run.team, id)));
            // Runs that people end do not pause their Dag: only the scheduler's own verdicts are counted, as in Airflow.
            self.step_dag(&dag_key, dagplan::Event::RunChanged(active));
            return Ok(());
        }
        let Some(dag) = self.memory.dags.get(&dag_key) else {
            tracing::warn!(team = %run.team, dag = %run.key.dag_id, run = %run.key.run_id, "a run of an unknown Dag waits until the Dag is parsed");
            return Ok(());
        };
        // Unversioned bundles run the newest version.
        let wanted = row
            .created_version_id
            .filter(|_| row.bundle_version.is_some())
            .or(dag.row.current_version_id);
        let paused = dag.row.holds_back();
        let Some(version) = self.version(run.team, wanted).await? else {
            tracing::warn!(team = %run.team, dag = %run.key.dag_id, run = %run.key.run_id, "a run waits: its Dag version cannot be read");
            return Ok(());
        };
        let contents = loading::run_contents(self.tx, scope, &run.key).await?;
        self.cancel_outdated(&run, &contents.instances);
        if let Some(dag) = self.memory.dags.get_mut(&dag_key) {
            dag.runs.insert(run.clone());
        }
        self.make_deadlines(&row, &version.deadlines).await?;
        let running = row.state == RunState::Running;
        let backfill = row.backfill_id;
        self.memory.runs.insert(
            run.clone(),
            LiveRun {
                row,
                version: Arc::clone(&version),
                planner: None,
                admitted: std::collections::HashSet::new(),
                shapes: crate::shapes::Shapes::default(),
            },
        );
        if let Some(id) = backfill
            && self.memory.dags.get(&dag_key).is_some_and(|dag| dag.plan.is_some())
        {
            self.tell_backfill(&dag_key, id).await?;
        }
        self.step_dag(&dag_key, dagplan::Event::RunChanged(active));
        if running {
            self.plan_run(&run, contents, paused).await
        } else {
            self.prepare_queued(&run, &contents, &version);
            Ok(())
        }
    }

    /// A queued run shows its task instances too.
    fn prepare_queued(&mut self, run: &RunRef, contents: &RunContents, version: &Version) {
        if contents.instances.is_empty()
            && let Some(live) = self.memory.runs.get(run)
        {
            let new = initial_instances(&version.graph, live.row.run_type, live.row.logical_date);
            let rows: Vec<_> = new.iter().map(|new| version.new_instance(new)).collect();
            if !rows.is_empty() {
                self.plan(run).create.extend(rows);
            }
        }
    }

    /// Starts the planner of a running run.
    pub(crate) async fn plan_run(
        &mut self,
        run: &RunRef,
        contents: RunContents,
        paused: bool,
    ) -> Result<(), StoreError> {
        let past = self.past_facts(run).await?;
        let failed = self.failed.get(run).cloned().unwrap_or_default();
        self.follow_in_rows(run, &contents.instances);
        self.note_shapes(run, &contents.instances);
        self.tell_admission_all(run, &contents.instances);
        let now = self.now;
        let Some(live) = self.memory.runs.get_mut(run) else {
            return Ok(());
        };
        let results: BTreeSet<(TaskId, i32)> = contents.results.into_iter().collect();
        let snapshot = RunSnapshot {
            run: live.facts(paused),
            instances: contents
                .instances
                .iter()
                .map(|ti| instance(ti, &contents.reschedules, &results))
                .collect(),
            lengths: contents
                .lengths
                .iter()
                .map(|length| MapLength {
                    task_id: length.task_id.clone(),
                    length: length.length.and_then(|length| u64::try_from(length).ok()),
                })
                .collect(),
            choices: contents.choices.iter().map(choice).collect(),
            past,
            failed,
            // As in Airflow, only where the instances are of another version of the Dag; and where people deleted some.
            verify: !contents
                .instances
                .iter()
                .any(|ti| ti.dag_version_id == Some(live.version.id))
                || lacks_a_task(&live.version, &contents.instances),
        };
        let mut commands = Vec::new();
        live.planner = Some(Planner::load(
            Arc::clone(&live.version.graph),
            snapshot,
            now,
            &mut commands,
        ));
        self.carry_out(run, commands);
        Ok(())
    }

    /// Instances that have not ended show the version that they will run on.
    fn follow_in_rows(&mut self, run: &RunRef, instances: &[TaskInstance]) {
        let Some(live) = self.memory.runs.get(run) else { return };
        let version = live.version.id;
        let is_behind =
            |ti: &TaskInstance| !ti.state.is_some_and(TaskState::is_finished) && ti.dag_version_id != Some(version);
        if live.row.bundle_version.is_none() && instances.iter().any(is_behind) {
            self.plan(run).follow = Some(version);
        }
    }

    fn tell_admission_all(&mut self, run: &RunRef, instances: &[TaskInstance]) {
        for ti in instances {
            self.note_wait(run, ti.waits_until());
            let Some(state) = ti.state.filter(|state| stays_known(*state)) else {
                continue;
            };
            if state == TaskState::Scheduled && self.waits_for_shape(run, &ti.task_key()) {
                continue;
            }
            let Some(candidate) = self.offer(run, &ti.task_key()) else {
                continue;
            };
            if state == TaskState::Scheduled {
                self.admission.ready(candidate);
            } else {
                self.admission.holding(candidate, state);
            }
        }
    }

    /// What `depends_on_past` asks of the preceding run; nothing is read where no task asks.
    pub(crate) async fn past_facts(&mut self, run: &RunRef) -> Result<PastFacts, StoreError> {
        let Some(live) = self.memory.runs.get(run) else {
            return Ok(PastFacts::default());
        };
        let version = Arc::clone(&live.version);
        let (Some(date), true) = (live.row.logical_date, version.asks_the_past()) else {
            return Ok(PastFacts::default());
        };
        if live.active().backfill.is_some_and(|(_, place)| place == 1) {
            return Ok(PastFacts::first_of_backfill());
        }
        let scope = self.setting.org.team(run.team);
        let run_before = loading::preceding_run(self.tx, scope, &run.key.dag_id, date, !version.within.catchup).await?;
        let Some(run_before) = run_before else {
            return Ok(PastFacts::default());
        };
        let preceding = Preceding {
            logical_date: run_before.logical_date,
            unsuccessful: loading::unsuccessful_by_task(self.tx, scope, &run_before.key()).await?,
        };
        let mut existed_before = Vec::new();
        for task in preceding.tasks_to_look_for(&version.graph) {
            if loading::existed_before(self.tx, scope, &run.key.dag_id, &task.task_id, date).await? {
                existed_before.push(task.task_id.clone());
            }
        }
        Ok(PastFacts::of(&preceding, &version.graph, existed_before))
    }

    /// Remembers that the run after this one may wait for it.
    pub(crate) fn note_past(&mut self, run: &RunRef) {
        if self.may_be_asked(run) {
            self.past.insert(run.clone());
        }
    }

    /// Whether another run of the Dag may wait for this one.
    pub(crate) fn may_be_asked(&self, run: &RunRef) -> bool {
        self.memory.dags.get(&run.dag()).is_some_and(|dag| {
            dag.runs.iter().any(|other| other != run)
                && dag.version.as_ref().is_some_and(|version| version.asks_the_past())
        })
    }

    /// Tells later runs what became of this one, as its rows say.
    pub(crate) async fn tell_following(&mut self, run: &RunRef) -> Result<(), StoreError> {
        let Some(dag) = self.memory.dags.get(&run.dag()) else {
            return Ok(());
        };
        let date = self.memory.runs.get(run).and_then(|live| live.row.logical_date);
        let later: Vec<RunRef> = dag
            .runs
            .iter()
            .filter(|other| *other != run)
            .filter(|other| {
                self.memory
                    .runs
                    .get(other)
                    .is_some_and(|live| live.planner.is_some() && live.row.logical_date > date)
            })
            .cloned()
            .collect();
        for other in later {
            self.tell_the_past(&other).await?;
        }
        Ok(())
    }

    /// Tells a run what became of the one before it.
    pub(crate) async fn tell_the_past(&mut self, run: &RunRef) -> Result<(), StoreError> {
        let past = self.past_facts(run).await?;
        self.step_run(run, Event::PastChanged(past));
        Ok(())
    }
}

/// Whether a task of the Dag has no instance at all, which happens where people deleted it.
fn lacks_a_task(version: &Version, instances: &[TaskInstance]) -> bool {
    let there: HashSet<&TaskId> = instances.iter().map(|ti| &ti.task_id).collect();
    let mut tasks = version.graph.numbers().map(|task| &version.graph.task(task).task_id);
    tasks.any(|task| !there.contains(task))
}

fn instance(ti: &TaskInstance, reschedules: &HashMap<Uuid, Timestamp>, results: &BTreeSet<(TaskId, i32)>) -> Instance {
    Instance {
        key: ti.task_key(),
        state: ti.state,
        try_number: ti.try_number,
        end_date: ti.end_date,
        retry_delay_override: ti.retry_delay_override.map(seconds),
        reschedule_date: reschedules.get(&ti.id.0).copied(),
        has_result: results.contains(&(ti.task_id.clone(), ti.map_index)),
    }
}
