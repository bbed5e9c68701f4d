//! Driving the plans of Dags: when runs are made and started.

use isobar_engine::admission::{DagKey, Event as AdmissionEvent};
use isobar_engine::dagplan::{
    ActiveRun, AssetTrigger, Command, DagFacts, DagPlan, DagSnapshot, Event, NewRun, NextFields, NextRun, RunIdPlan,
};
use isobar_engine::planner::initial_instances;
use isobar_model::{RunId, RunKey, RunState};
use isobar_store::loading::{self, NextColumns, RunContents};
use isobar_store::runs::{self, Run};
use isobar_store::transitions::RunUpdate;
use isobar_store::{StoreError, dag_moves, task_instances};
use rand::RngExt as _;

use crate::asking::SCHEDULE_PROBLEM;
use crate::memory::{LiveDag, LiveRun, Over, RunRef};
use crate::pass::Pass;
use crate::setting::Setting;
use crate::timers::Timed;

fn facts(dag: &LiveDag, setting: &Setting) -> DagFacts {
    let version = dag.version.as_ref();
    DagFacts {
        paused: dag.row.is_paused,
        stale: dag.row.is_stale,
        has_import_errors: dag.row.has_import_errors,
        makes_runs: setting.makes_runs,
        max_active_runs: u32::try_from(dag.row.max_active_runs).unwrap_or(0),
        max_consecutive_failed_dag_runs: u32::try_from(dag.row.max_consecutive_failed_runs).unwrap_or(0),
        allowed_run_types: version.and_then(|version| version.allowed_run_types.clone()),
        within: version.map_or(
            isobar_engine::dagplan::Restriction {
                earliest: None,
                latest: None,
                catchup: false,
            },
            |version| version.within,
        ),
        schedule: version.and_then(|version| version.schedule.clone()),
    }
}

fn next_of(run: &Run) -> NextRun {
    NextRun {
        run_after: run.run_after,
        data_interval: run.interval_start.zip(run.interval_end),
        partition_key: run.partition_key.clone(),
        partition_date: run.partition_date,
    }
}

impl Pass<'_> {
    /// Starts the plan of a Dag that is in the memory with its active runs.
    pub(crate) async fn start_plan(&mut self, key: &DagKey) -> Result<(), StoreError> {
        let last_automated = self.last_automated(key).await?;
        let trigger = self.asset_trigger(key).await?;
        let backfills = self.backfills_of(key).await?;
        let now = self.now;
        let Some(dag) = self.memory.dags.get_mut(key) else {
            return Ok(());
        };
        let stored = dag.row.next_create_after.map(|run_after| NextFields {
            next: Some(NextRun {
                run_after,
                data_interval: dag.row.next_interval_start.zip(dag.row.next_interval_end),
                partition_key: dag.row.next_partition_key.clone(),
                partition_date: dag.row.next_partition_date,
            }),
        });
        let active = dag
            .runs
            .iter()
            .filter_map(|run| self.memory.runs.get(run))
            .map(LiveRun::active)
            .collect();
        let snapshot = DagSnapshot {
            dag: facts(dag, self.setting),
            next: stored,
            last_automated,
            active,
            backfills,
            assets: trigger,
        };
        let mut commands = Vec::new();
        dag.plan = Some(DagPlan::load(snapshot, now, &mut commands));
        self.dag_commands
            .extend(commands.into_iter().map(|command| (key.clone(), command)));
        self.show_schedule_problem(key).await?;
        self.plan_partitions(key).await
    }

    fn is_partitioned(&self, key: &DagKey) -> bool {
        let version = self.memory.dags.get(key).and_then(|dag| dag.version.as_ref());
        version.is_some_and(|version| version.partitioned)
    }

    /// Feeds the plan of a Dag, if it has one.
    pub(crate) fn step_dag(&mut self, key: &DagKey, event: Event) {
        let Some(plan) = self.memory.dags.get_mut(key).and_then(|dag| dag.plan.as_mut()) else {
            return;
        };
        let mut commands = Vec::new();
        plan.step(event, self.now, &mut commands);
        self.dag_commands
            .extend(commands.into_iter().map(|command| (key.clone(), command)));
    }

    /// The run that the Dag's timetable made last, in this team or, before the Dag moved, in another.
    async fn last_automated(&mut self, key: &DagKey) -> Result<Option<NextRun>, StoreError> {
        let scope = self.setting.org.team(key.team);
        let partitioned = self.is_partitioned(key);
        let own = loading::last_automated(self.tx, scope, &key.dag_id, partitioned).await?;
        let carried = dag_moves::carried(self.tx, scope, &key.dag_id).await?;
        let carried = carried.map(|position| NextRun {
            run_after: position.run_after,
            data_interval: position.interval,
            partition_key: position.partition_key,
            partition_date: position.partition_date,
        });
        let all = own.as_ref().map(next_of).into_iter().chain(carried);
        Ok(all.max_by_key(|run| (run.logical_date(), run.partition_date, run.run_after)))
    }

    /// Reads a Dag again; where it came from another team its plan starts anew, from where its schedule stood there.
    pub(crate) async fn load_dag_again(&mut self, key: &DagKey, moved: bool) -> Result<(), StoreError> {
        let known = self.memory.dags.get_mut(key);
        let plan_again = moved && known.is_some();
        if let Some(dag) = known.filter(|_| moved) {
            // Before its paused state is taken over: the old plan would make up for years.
            dag.plan = None;
        }
        self.load_dag(key).await?;
        if plan_again {
            self.start_plan(key).await?;
        }
        Ok(())
    }

    /// Tells the plan that the Dag's row, version or asset queue changed.
    pub(crate) async fn dag_changed(&mut self, key: &DagKey, reschedule: bool) -> Result<(), StoreError> {
        let last_automated = self.last_automated(key).await?;
        let trigger = self.asset_trigger(key).await?;
        let Some(dag) = self.memory.dags.get(key) else {
            return Ok(());
        };
        let event = Event::DagChanged {
            dag: facts(dag, self.setting),
            reschedule,
            last_automated,
        };
        self.step_dag(key, event);
        self.step_dag(key, Event::Assets(trigger));
        if reschedule {
            self.show_schedule_problem(key).await?;
        }
        self.plan_partitions(key).await
    }

    /// A run of the Dag ended. Where the Dag pauses after so many failures, its plan hears of a failed run only after it has
    /// judged the latest states: else it would make one run more before it pauses.
    pub(crate) fn run_over(&mut self, key: DagKey, Over { run, by_tasks }: Over) {
        let judged = self
            .memory
            .dags
            .get(&key)
            .is_some_and(|dag| dag.row.max_consecutive_failed_runs > 0);
        if judged && by_tasks {
            self.failed_dags.entry(key).or_default().push(run);
        } else {
            self.step_dag(&key, Event::RunChanged(run));
        }
    }

    /// Tells the plan of a Dag the states of its latest runs, as they will be after this pass.
    pub(crate) async fn tell_failures(&mut self, key: &DagKey, failed: Vec<ActiveRun>) -> Result<(), StoreError> {
        let Some(dag) = self.memory.dags.get(key) else {
            return Ok(());
        };
        let count = u32::try_from(dag.row.max_consecutive_failed_runs).unwrap_or(0);
        let scope = self.setting.org.team(key.team);
        let latest = loading::latest_states(self.tx, scope, &key.dag_id, count).await?;
        let latest = latest
            .into_iter()
            .map(|(run_id, state)| {
                let run = RunRef {
                    team: key.team,
                    key: isobar_model::RunKey {
                        dag_id: key.dag_id.clone(),
                        run_id,
                    },
                };
                self.memory.runs.get(&run).map_or(state, |live| live.row.state)
            })
            .collect();
        self.step_dag(key, Event::RunFailed { latest });
        for run in failed {
            self.step_dag(key, Event::RunChanged(run));
        }
        Ok(())
    }

    async fn asset_trigger(&mut self, key: &DagKey) -> Result<Option<AssetTrigger>, StoreError> {
        let version = self.memory.dags.get(key).and_then(|dag| dag.version.clone());
        let Some((condition, version)) = version
            .as_ref()
            .and_then(|version| Some((version.condition.as_ref()?, version)))
        else {
            return Ok(None);
        };
        let scope = self.setting.org.team(key.team);
        let queued = loading::asset_queue(self.tx, scope, &key.dag_id).await?;
        if queued.is_empty() {
            return Ok(None);
        }
        let aliases = loading::alias_assets(self.tx, scope, &version.aliases).await?;
        Ok(crate::asset_queue::trigger(condition, &queued, &aliases))
    }

    async fn show_schedule_problem(&mut self, key: &DagKey) -> Result<(), StoreError> {
        let Some(dag) = self.memory.dags.get(key) else {
            return Ok(());
        };
        let problem = dag.version.as_ref().and_then(|version| version.problem.clone());
        self.show_problem(key, SCHEDULE_PROBLEM, problem.as_deref()).await
    }

    /// Carries out one command of a Dag's plan.
    pub(crate) async fn carry_out_for_dag(&mut self, key: &DagKey, command: Command) -> Result<(), StoreError> {
        let scope = self.setting.org.team(key.team);
        match command {
            Command::CreateRun(new) => self.create_run(key, new).await.map(drop),
            Command::SetNext(fields) => {
                let next = fields.next.as_ref();
                let columns = NextColumns {
                    logical_date: next.and_then(NextRun::logical_date),
                    interval: next.and_then(|next| next.data_interval),
                    create_after: next.map(|next| next.run_after),
                    partition_key: next.and_then(|next| next.partition_key.clone()),
                    partition_date: next.and_then(|next| next.partition_date),
                    exceeds_max_runs: false,
                };
                loading::set_next(self.tx, scope, &key.dag_id, &columns).await
            }
            Command::StartRun(started) => self.start_run(key, &started.run_id).await,
            Command::Pause(because) => {
                tracing::warn!(team = %key.team, dag = %key.dag_id, ?because, "the Dag is paused");
                loading::pause(self.tx, scope, &key.dag_id).await?;
                if let Some(dag) = self.memory.dags.get_mut(key) {
                    dag.row.is_paused = true;
                    let limits = crate::admitting::limits(&dag.row);
                    self.admission.limits(AdmissionEvent::Dags(vec![limits]));
                }
                self.dag_changed(key, false).await
            }
            Command::WakeAt(at) => {
                self.memory.timers.wish(Timed::Dag(key.clone()), at);
                Ok(())
            }
            Command::AskNextRun {
                timetable,
                last,
                within,
            } => self.ask_next_run(key, &timetable, last.as_ref(), &within).await,
            Command::ScheduleBroken(problem) => self.show_problem(key, SCHEDULE_PROBLEM, Some(&problem)).await,
        }
    }

    /// Makes a run with its task instances; none where there is no version to make it of, or another run of its date.
    pub(crate) async fn create_run(&mut self, key: &DagKey, new: NewRun) -> Result<Option<RunKey>, StoreError> {
        let scope = self.setting.org.team(key.team);
        let Some(version) = self.memory.dags.get(key).and_then(|dag| dag.version.clone()) else {
            return Ok(None);
        };
        let run_id = match &new.run_id {
            RunIdPlan::Exact(run_id) => run_id.clone(),
            RunIdPlan::WithRandomTail(start) => RunId::from(format!("{start}{}", random_tail())),
        };
        let row = runs::NewRun {
            triggered_by: Some(new.triggered_by),
            logical_date: new.info.logical_date(),
            interval: new.info.data_interval,
            bundle_version: version.bundle_version.clone(),
            version_id: Some(version.id),
            partition_key: new.info.partition_key.clone(),
            partition_date: new.info.partition_date,
            ..runs::NewRun::new(key.dag_id.clone(), run_id, new.run_type, new.info.run_after)
        };
        let row = match runs::insert(self.tx, scope, &row, self.now).await {
            Ok(row) => row,
            Err(StoreError::Exists { .. }) => {
                self.step_dag(key, Event::AlreadyThere(new.info));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Some(until) = new.consume_assets_until {
            let catchup = version.within.catchup;
            loading::consume_assets(self.tx, scope, &self.setting.org, &row.key(), until, catchup).await?;
        }
        let instances: Vec<_> = initial_instances(&version.graph, row.run_type, row.logical_date)
            .iter()
            .map(|new| version.new_instance(new))
            .collect();
        task_instances::insert(self.tx, scope, &row.key(), &instances, self.now).await?;
        self.make_deadlines(&row, &version.deadlines).await?;
        let run = RunRef::of(&row);
        tracing::info!(team = %run.team, dag = %run.key.dag_id, run = %run.key.run_id, "run made");
        if let Some(dag) = self.memory.dags.get_mut(key) {
            dag.runs.insert(run.clone());
        }
        let live = LiveRun {
            row,
            version,
            planner: None,
            admitted: std::collections::HashSet::new(),
            shapes: crate::shapes::Shapes::default(),
        };
        let active = live.active();
        let made = run.key.clone();
        self.memory.runs.insert(run, live);
        self.step_dag(key, Event::RunChanged(active));
        Ok(Some(made))
    }

    async fn start_run(&mut self, key: &DagKey, run_id: &RunId) -> Result<(), StoreError> {
        let run = RunRef {
            team: key.team,
            key: isobar_model::RunKey {
                dag_id: key.dag_id.clone(),
                run_id: run_id.clone(),
            },
        };
        let now = self.now;
        let Some(live) = self.memory.runs.get_mut(&run) else {
            self.memory.stale.insert(run);
            return Ok(());
        };
        live.row.state = RunState::Running;
        live.row.start_date = Some(now);
        let active = live.active();
        let paused = self.memory.dags.get(key).is_some_and(|dag| dag.row.holds_back());
        let plan = self.plan(&run);
        plan.run = Some(RunUpdate {
            state: RunState::Running,
            start_date: Some(now),
            end_date: None,
            why_ended: None,
        });
        // Instances that this very pass is about to make for the queued run: the planner makes them instead.
        let making = std::mem::take(&mut plan.create);
        let contents = if making.is_empty() {
            let scope = self.setting.org.team(key.team);
            loading::run_contents(self.tx, scope, &run.key).await?
        } else {
            RunContents::default()
        };
        self.step_dag(key, Event::RunChanged(active));
        self.plan_run(&run, contents, paused).await
    }
}

/// Eight random letters and digits.
fn random_tail() -> String {
    let mut rng = rand::rng();
    (0..8)
        .map(|_| char::from(rng.sample(rand::distr::Alphanumeric)))
        .collect()
}
