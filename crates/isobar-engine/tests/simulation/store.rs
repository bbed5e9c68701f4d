//! The truth: rows with revisions, and the events that tell of them. It refuses what a database would refuse, and checks after every
//! commit what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use isobar_engine::dagplan::NextRun;
use isobar_engine::graph::LengthOf;
use isobar_engine::planner::{Changes, Command, Instance, MapLength, NewInstance};
use isobar_model::{MapIndex, RunId, RunState, RunType, TaskId, TaskKey, TaskState, TriggerRule};
use jiff::Timestamp;

use crate::organisation::Organisation;

pub(crate) type RunRef = (usize, RunId);
pub(crate) type Place = (TaskId, MapIndex);

/// A task instance.
#[derive(Clone)]
pub(crate) struct Ti {
    pub(crate) inst: Instance,
    pub(crate) max_tries: i32,
    /// The fencing number of whoever works it.
    pub(crate) dispatch: u64,
    /// Successes since it was made or cleared.
    pub(crate) successes: u32,
    pub(crate) last_heard: Timestamp,
    /// Since when it waits for a slot.
    pub(crate) waits_since: Option<Timestamp>,
}

#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) state: RunState,
    pub(crate) rev: u64,
    pub(crate) info: NextRun,
    pub(crate) start_date: Option<Timestamp>,
    pub(crate) last_decision: Option<Timestamp>,
    pub(crate) tis: BTreeMap<Place, Ti>,
    pub(crate) lengths: BTreeMap<TaskId, u64>,
    pub(crate) was_cleared: bool,
}

/// What changed in a run from one revision to the next. None: read the run again.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) run: RunRef,
    pub(crate) rev: u64,
    pub(crate) change: Option<Changes>,
    pub(crate) failed: Vec<TaskKey>,
}

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) runs: BTreeMap<RunRef, Run>,
    pub(crate) events: Vec<Event>,
    pub(crate) next_dispatch: u64,
    /// What did not hold, the first time.
    pub(crate) broken: Option<String>,
}

impl Store {
    pub(crate) fn create(
        &mut self,
        run: RunRef,
        info: NextRun,
        kind: RunType,
        new: Vec<NewInstance>,
        now: Timestamp,
    ) -> bool {
        assert_eq!(kind, RunType::Scheduled);
        let same_date =
            |((dag, _), other): (&RunRef, &Run)| *dag == run.0 && other.info.logical_date() == info.logical_date();
        if self.runs.contains_key(&run) || self.runs.iter().any(same_date) {
            return false;
        }
        let mut row = Run {
            state: RunState::Queued,
            rev: 1,
            info,
            start_date: None,
            last_decision: None,
            tis: BTreeMap::new(),
            lengths: BTreeMap::new(),
            was_cleared: false,
        };
        make(&mut row, new, now);
        self.runs.insert(run, row);
        true
    }

    /// Writes one change of a run by somebody who is not the scheduler.
    pub(crate) fn change(&mut self, run: &RunRef, key: &TaskKey, length: Option<u64>, failed: bool) {
        let row = self.runs.get_mut(run).expect("there is such a run");
        row.rev += 1;
        let ti = &row.tis[&place(key)];
        let mut change = Changes {
            instances: vec![ti.inst.clone()],
            ..Changes::default()
        };
        if let Some(length) = length {
            row.lengths.insert(key.task_id.clone(), length);
            change.lengths.push(MapLength {
                task_id: key.task_id.clone(),
                length: Some(length),
            });
        }
        self.events.push(Event {
            run: run.clone(),
            rev: row.rev,
            change: Some(change),
            failed: if failed { vec![key.clone()] } else { Vec::new() },
        });
    }

    /// Writes what a planner commanded, if the run is still as it was planned from.
    pub(crate) fn commit(
        &mut self,
        org: &Organisation,
        run: &RunRef,
        plan: &Plan,
        now: Timestamp,
    ) -> Option<Vec<Queued>> {
        let row = self.runs.get(run).filter(|row| row.rev == plan.from)?;
        let mut row = row.clone();
        row.rev += 1;
        row.last_decision = Some(now);
        for command in &plan.commands {
            // As in the database: who planned from another state (a planner does not hear that an instance was queued) plans anew.
            self.apply(org, run, &mut row, command, now)?;
        }
        let mut queued = Vec::new();
        for key in &plan.queue {
            let ti = row.tis.get_mut(&place(key)).expect("what is queued is there");
            if ti.inst.state != Some(TaskState::Scheduled) {
                return None;
            }
            ti.inst.state = Some(TaskState::Queued);
            self.next_dispatch += 1;
            ti.dispatch = self.next_dispatch;
            ti.waits_since = None;
            queued.push((run.clone(), key.clone(), ti.dispatch));
        }
        self.runs.insert(run.clone(), row);
        Some(queued)
    }

    /// None where an instance is not in the state that the command was planned from.
    fn apply(
        &mut self,
        org: &Organisation,
        run: &RunRef,
        row: &mut Run,
        command: &Command,
        now: Timestamp,
    ) -> Option<()> {
        match command {
            Command::Create(new) => make(row, new.clone(), now),
            Command::PlaceholderBecomesFirst { task_id } => {
                let mut ti = row.tis.remove(&(task_id.clone(), -1)).expect("there is a placeholder");
                ti.inst.key.map_index = 0;
                assert!(row.tis.insert((task_id.clone(), 0), ti).is_none());
            }
            Command::DeletePlaceholder { task_id } => {
                assert!(row.tis.remove(&(task_id.clone(), -1)).is_some());
            }
            Command::SetState { key, from, to, .. } => {
                let ti = at(row, key, *from)?;
                ti.inst.state = *to;
                ti.waits_since = None;
            }
            Command::Ready {
                key, from, try_number, ..
            }
            | Command::DeferAtOnce {
                key, from, try_number, ..
            } => {
                self.check_dependencies(org, run, row, key);
                let ti = at(row, key, *from)?;
                ti.inst.state = Some(TaskState::Scheduled);
                ti.inst.try_number = *try_number;
                ti.waits_since = Some(now);
            }
            Command::SucceedAtOnce { key, from, try_number } => {
                self.check_dependencies(org, run, row, key);
                let ti = at(row, key, *from)?;
                ti.inst.state = Some(TaskState::Success);
                ti.inst.try_number = *try_number;
                ti.successes += 1;
            }
            Command::FinishRun(end) => {
                let open = row
                    .tis
                    .values()
                    .find(|ti| !ti.inst.state.is_some_and(TaskState::is_finished));
                if let Some(open) = open {
                    self.complain(format!("{run:?} ended while {:?} was open", open.inst));
                }
                row.state = end.state;
            }
            Command::WakeAt(_) => {}
        }
        Some(())
    }

    /// A second opinion, from the rows alone, on whether a task may start.
    fn check_dependencies(&mut self, org: &Organisation, run: &RunRef, row: &Run, key: &TaskKey) {
        let graph = &org.dags[run.0].graph;
        let task = graph.find(&key.task_id).expect("the Dag has it");
        let spec = graph.task(task);
        let again = row.tis.get(&place(key)).is_some_and(|ti| ti.inst.try_number > 0);
        let states: Vec<Option<TaskState>> = graph
            .upstream(task)
            .iter()
            .flat_map(|up| {
                let id = graph.task(*up).task_id.clone();
                row.tis
                    .range((id.clone(), MapIndex::MIN)..=(id, MapIndex::MAX))
                    .map(|(_, ti)| ti.inst.state)
            })
            .collect();
        if graph.upstream(task).is_empty() {
            return self.check_past(run, row, key, spec.depends_on_past);
        }
        let all = |good: fn(TaskState) -> bool| states.iter().all(|state| state.is_some_and(good));
        let may = match spec.trigger_rule {
            TriggerRule::AllSuccess => all(|state| matches!(state, TaskState::Success | TaskState::Removed)),
            TriggerRule::AllDone | TriggerRule::AllDoneSetupSuccess => all(TaskState::is_finished),
            TriggerRule::NoneFailed => all(|state| state.is_finished() && !state.is_failure()),
            TriggerRule::OneSuccess => states.contains(&Some(TaskState::Success)),
            other => panic!("this organisation has no task with {other}"),
        };
        if !may {
            self.complain(format!(
                "{run:?} {key:?} was made ready (again: {again}) while upstream was {states:?}"
            ));
        }
        self.check_past(run, row, key, spec.depends_on_past);
    }

    fn check_past(&mut self, run: &RunRef, row: &Run, key: &TaskKey, depends: bool) {
        if depends && self.past_is_open(run, row, key) {
            self.complain(format!("{run:?} {key:?} was made ready before its past ended well"));
        }
    }

    fn past_is_open(&self, run: &RunRef, row: &Run, key: &TaskKey) -> bool {
        let of_dag = self.runs.iter().filter(|((dag, _), _)| *dag == run.0);
        let before = of_dag.filter(|(_, other)| other.info.logical_date() < row.info.logical_date());
        let Some((_, before)) = before.max_by_key(|(_, other)| other.info.logical_date()) else {
            return false;
        };
        let mut then = before.tis.iter().filter(|((id, _), _)| *id == key.task_id);
        then.any(|(_, ti)| !ti.inst.state.is_some_and(TaskState::is_success))
    }

    pub(crate) fn complain(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Pools and caps, over all rows.
    pub(crate) fn check_limits(&mut self, org: &Organisation) {
        let mut pools: BTreeMap<(usize, &str), i64> = BTreeMap::new();
        let mut teams: BTreeMap<usize, u32> = BTreeMap::new();
        let mut of_tasks: BTreeMap<(usize, &TaskId), u32> = BTreeMap::new();
        let (mut all, mut problem) = (0, None);
        for ((dag, run_id), row) in &self.runs {
            let of = &org.dags[*dag];
            let mut in_run = 0;
            let mut in_run_of_task: BTreeMap<&TaskId, u32> = BTreeMap::new();
            for ((task_id, _), ti) in &row.tis {
                let spec = of.graph.task(of.graph.find(task_id).expect("the Dag has it"));
                let at_work = matches!(
                    ti.inst.state,
                    Some(TaskState::Queued | TaskState::Running | TaskState::Restarting)
                );
                if at_work || ti.inst.state == Some(TaskState::Deferred) {
                    *of_tasks.entry((*dag, task_id)).or_default() += 1;
                    *in_run_of_task.entry(task_id).or_default() += 1;
                }
                let in_pool = at_work || (of.pool_counts_deferred && ti.inst.state == Some(TaskState::Deferred));
                if in_pool {
                    *pools.entry((of.team, spec.pool.as_str())).or_default() += i64::from(spec.pool_slots);
                }
                if at_work {
                    all += 1;
                    in_run += 1;
                    *teams.entry(of.team).or_default() += 1;
                }
                let per_run = spec.max_active_tis_per_dagrun.unwrap_or(u32::MAX);
                if in_run_of_task.get(task_id).is_some_and(|count| *count > per_run) {
                    problem = Some(format!("{task_id} of {run_id} is beyond max_active_tis_per_dagrun"));
                }
            }
            if in_run > of.graph.spec().max_active_tasks {
                problem = Some(format!("{run_id} of Dag {dag} has {in_run} at work"));
            }
        }
        for ((dag, task_id), count) in of_tasks {
            let graph = &org.dags[dag].graph;
            let limit = graph
                .task(graph.find(task_id).expect("the Dag has it"))
                .max_active_tis_per_dag;
            if limit.is_some_and(|limit| count > limit) {
                problem = Some(format!("{task_id} of Dag {dag} has {count} active"));
            }
        }
        for ((team, pool), used) in pools {
            if used > org.pool_slots(team, pool) {
                problem = Some(format!("pool {pool} of team {team} has {used} slots in use"));
            }
        }
        for (team, count) in teams {
            if org.teams[team].max_running.is_some_and(|limit| count > limit) {
                problem = Some(format!("team {team} has {count} at work"));
            }
        }
        if all > org.parallelism {
            problem = Some(format!("{all} at work in all"));
        }
        for dag in 0..org.dags.len() {
            let running = self
                .runs
                .iter()
                .filter(|((of, _), row)| *of == dag && row.state == RunState::Running);
            if running.count() > org.dags[dag].max_active_runs as usize {
                problem = Some(format!("Dag {dag} has too many runs running"));
            }
        }
        if let Some(problem) = problem {
            self.complain(problem);
        }
    }

    /// Each interval has exactly one run, each instance that succeeded did so once, and nothing is open.
    pub(crate) fn check_end(&mut self, org: &Organisation, until: Timestamp) {
        let mut problems = Vec::new();
        for (number, dag) in org.dags.iter().enumerate() {
            let expected: BTreeSet<Timestamp> = dag.intervals(until).collect();
            let found: Vec<Timestamp> = self
                .runs
                .iter()
                .filter(|((of, _), _)| *of == number)
                .filter_map(|(_, row)| row.info.logical_date())
                .collect();
            if found.len() != expected.len() || found.iter().any(|date| !expected.contains(date)) {
                problems.push(format!("Dag {number} has runs for {found:?}, not for {expected:?}"));
            }
        }
        for (run, row) in &self.runs {
            if !row.state.is_finished() {
                let open: Vec<_> = row
                    .tis
                    .values()
                    .filter(|ti| !ti.inst.state.is_some_and(TaskState::is_finished))
                    .map(|ti| (&ti.inst.key.task_id, ti.inst.key.map_index, ti.inst.state))
                    .collect();
                problems.push(format!("{run:?} waits for ever: {:?}, {open:?}", row.state));
            }
            for (place, ti) in &row.tis {
                let due = u32::from(ti.inst.state == Some(TaskState::Success));
                if ti.successes != due {
                    problems.push(format!(
                        "{run:?} {place:?} succeeded {} times and is {:?}",
                        ti.successes, ti.inst.state
                    ));
                }
            }
            for task in &org.dags[run.0].graph.spec().tasks {
                let [LengthOf::Task(source)] = task.expand.as_ref().map_or(&[][..], |expand| &expand.factors) else {
                    continue;
                };
                let source = &org.dags[run.0].graph.task(*source).task_id;
                let good = row.tis.iter().filter(|((id, index), ti)| {
                    *id == task.task_id && *index >= 0 && ti.inst.state != Some(TaskState::Removed)
                });
                let (good, length) = (good.count() as u64, row.lengths.get(source).copied());
                if good > 0 && length != Some(good) && !row.was_cleared {
                    problems.push(format!("{run:?} {} has {good} indices of {length:?}", task.task_id));
                }
            }
        }
        if let Some(problem) = problems.into_iter().next() {
            self.complain(problem);
        }
    }
}

/// What is to be written of one run.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) from: u64,
    pub(crate) commands: Vec<Command>,
    pub(crate) queue: Vec<TaskKey>,
}

pub(crate) type Queued = (RunRef, TaskKey, u64);

pub(crate) fn place(key: &TaskKey) -> Place {
    (key.task_id.clone(), key.map_index)
}

fn at<'a>(row: &'a mut Run, key: &TaskKey, from: (Option<TaskState>, i32)) -> Option<&'a mut Ti> {
    let ti = row.tis.get_mut(&place(key)).expect("commands name instances there are");
    ((ti.inst.state, ti.inst.try_number) == from).then_some(ti)
}

fn make(row: &mut Run, new: Vec<NewInstance>, now: Timestamp) {
    for instance in new {
        let ti = Ti {
            inst: Instance {
                key: instance.key.clone(),
                state: None,
                try_number: 0,
                end_date: None,
                retry_delay_override: None,
                reschedule_date: None,
                has_result: false,
            },
            max_tries: instance.max_tries,
            dispatch: 0,
            successes: 0,
            last_heard: now,
            waits_since: None,
        };
        assert!(row.tis.insert(place(&instance.key), ti).is_none(), "made twice");
    }
}
