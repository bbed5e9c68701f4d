//! A scheduler as the real one is: what it remembers may be lost at any time; what it decides counts when it is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use isobar_engine::admission::{Admission, InstanceKey, News};
use isobar_engine::dagplan::{self, ActiveRun, DagPlan, DagSnapshot, RunIdPlan};
use isobar_engine::planner::{
    Changes, Command, Event, MapLength, PastFacts, Planner, Preceding, RunFacts, RunSnapshot, initial_instances,
};
use isobar_model::{RunState, RunType, TaskKey, TaskState};
use jiff::Timestamp;

use crate::dice::Dice;
use crate::organisation::Organisation;
use crate::store::{Event as Stored, Plan, Queued, Run, RunRef, Store};

struct Live {
    rev: u64,
    planner: Option<Planner>,
    admitted: BTreeSet<TaskKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timed {
    Dag(usize),
    Run(RunRef),
}

pub(crate) struct Scheduler {
    plans: Vec<DagPlan>,
    live: BTreeMap<RunRef, Live>,
    admission: Admission,
    timers: BTreeSet<(Timestamp, Timed)>,
    stale: BTreeSet<RunRef>,
    past_later: BTreeSet<RunRef>,
    /// What was written and gives room: told in the next pass.
    over: Vec<RunRef>,
    freed: Vec<(InstanceKey, Option<TaskState>)>,
}

/// One pass at work.
struct Pass<'a> {
    of: &'a mut Scheduler,
    org: &'a Organisation,
    store: &'a mut Store,
    now: Timestamp,
    until: Timestamp,
    plans: BTreeMap<RunRef, Plan>,
    dag_commands: VecDeque<(usize, dagplan::Command)>,
    admission: News,
    failed: BTreeMap<RunRef, Vec<TaskKey>>,
    freed: Vec<(RunRef, TaskKey, Option<TaskState>)>,
}

/// What a pass gave.
pub(crate) struct Done {
    pub(crate) queued: Vec<Queued>,
    pub(crate) again: bool,
}

impl Scheduler {
    /// Reads everything and makes the first pass.
    pub(crate) fn start(org: &Organisation, store: &mut Store, until: Timestamp, now: Timestamp) -> (Self, Done) {
        let mut scheduler = Self {
            plans: Vec::new(),
            live: BTreeMap::new(),
            admission: Admission::new(),
            timers: BTreeSet::new(),
            stale: BTreeSet::new(),
            past_later: BTreeSet::new(),
            over: Vec::new(),
            freed: Vec::new(),
        };
        let claimed = std::mem::take(&mut store.events);
        let mut pass = Pass::new(&mut scheduler, org, store, now, until);
        for limits in org.standing() {
            pass.admission.limits(limits);
        }
        pass.note_failures(&claimed);
        for number in 0..org.dags.len() {
            pass.start_plan(number);
        }
        let open: Vec<RunRef> = pass
            .store
            .runs
            .iter()
            .filter(|(_, row)| !row.state.is_finished())
            .map(|(run, _)| run.clone())
            .collect();
        for run in open {
            pass.load_run(&run);
        }
        pass.settle();
        let done = pass.finish();
        (scheduler, done)
    }

    /// Claims events (not always all, in any order, some of them twice), decides and writes. `interfere` may write between.
    #[expect(clippy::too_many_arguments, reason = "a pass is decided by all of these")]
    pub(crate) fn pass(
        &mut self,
        org: &Organisation,
        store: &mut Store,
        until: Timestamp,
        now: Timestamp,
        dice: &mut Dice,
        calm: bool,
        interfere: impl FnOnce(&mut Store, &mut Dice),
    ) -> Done {
        let mut claimed = Vec::new();
        for event in std::mem::take(&mut store.events) {
            if !calm && dice.chance(100) {
                store.events.push(event);
            } else {
                if !calm && dice.chance(50) {
                    store.events.push(event.clone());
                }
                claimed.push(event);
            }
        }
        dice.shuffle(&mut claimed);
        let mut pass = Pass::new(self, org, store, now, until);
        for run in std::mem::take(&mut pass.of.over) {
            let ended = active(&run, &pass.store.runs[&run]);
            pass.step_dag(run.0, dagplan::Event::RunChanged(ended));
        }
        for (key, state) in std::mem::take(&mut pass.of.freed) {
            pass.admission.state(key, state);
        }
        for run in std::mem::take(&mut pass.of.past_later) {
            pass.tell_following(&run);
        }
        pass.note_failures(&claimed);
        pass.take_events(claimed);
        pass.take_timers();
        for run in std::mem::take(&mut pass.of.stale) {
            pass.load_run(&run);
        }
        pass.settle();
        interfere(pass.store, dice);
        let mut done = pass.finish();
        done.again |= !self.is_idle(store, now);
        done
    }

    /// Whether there is anything to do.
    pub(crate) fn is_idle(&self, store: &Store, now: Timestamp) -> bool {
        let due = self.next_timer().is_some_and(|at| at <= now);
        let told = self.over.is_empty() && self.freed.is_empty() && self.past_later.is_empty();
        store.events.is_empty() && self.stale.is_empty() && told && !due
    }

    /// When it wants to be woken.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }
}

impl<'a> Pass<'a> {
    fn new(
        of: &'a mut Scheduler,
        org: &'a Organisation,
        store: &'a mut Store,
        now: Timestamp,
        until: Timestamp,
    ) -> Self {
        Self {
            of,
            org,
            store,
            now,
            until,
            plans: BTreeMap::new(),
            dag_commands: VecDeque::new(),
            admission: News::default(),
            failed: BTreeMap::new(),
            freed: Vec::new(),
        }
    }

    fn start_plan(&mut self, number: usize) {
        let of_dag = |store: &Store| -> Vec<(RunRef, Run)> {
            store
                .runs
                .iter()
                .filter(|((dag, _), _)| *dag == number)
                .map(|(run, row)| (run.clone(), row.clone()))
                .collect()
        };
        let runs = of_dag(self.store);
        let snapshot = DagSnapshot {
            dag: self.org.dags[number].facts(self.until),
            next: None,
            last_automated: runs
                .iter()
                .map(|(_, row)| row.info.clone())
                .max_by_key(|info| info.run_after),
            active: runs
                .iter()
                .filter(|(_, row)| !row.state.is_finished())
                .map(|(run, row)| active(run, row))
                .collect(),
            backfills: Vec::new(),
            assets: None,
        };
        let mut commands = Vec::new();
        let plan = DagPlan::load(snapshot, self.now, &mut commands);
        self.of.plans.push(plan);
        self.dag_commands
            .extend(commands.into_iter().map(|command| (number, command)));
    }

    fn note_failures(&mut self, claimed: &[Stored]) {
        for event in claimed.iter().filter(|event| !event.failed.is_empty()) {
            self.failed
                .entry(event.run.clone())
                .or_default()
                .extend(event.failed.iter().cloned());
        }
    }

    fn take_events(&mut self, claimed: Vec<Stored>) {
        let mut of_runs: BTreeMap<RunRef, Vec<Stored>> = BTreeMap::new();
        for event in claimed {
            of_runs.entry(event.run.clone()).or_default().push(event);
        }
        for (run, mut events) in of_runs {
            events.sort_by_key(|event| event.rev);
            let Some(live) = self.of.live.get_mut(&run) else {
                self.load_run(&run);
                continue;
            };
            let mut rev = live.rev;
            let mut whole = Changes {
                failed: self.failed.get(&run).cloned().unwrap_or_default(),
                ..Changes::default()
            };
            let mut gap = false;
            for event in events.into_iter().filter(|event| event.rev > live.rev) {
                match event.change {
                    _ if event.rev == rev => {}
                    Some(change) if event.rev == rev + 1 && live.planner.is_some() => {
                        rev = event.rev;
                        whole.instances.extend(change.instances);
                        whole.lengths.extend(change.lengths);
                    }
                    _ => gap = true,
                }
            }
            if gap {
                self.load_run(&run);
                continue;
            }
            live.rev = rev;
            for inst in &whole.instances {
                self.tell_admission(&run, &inst.key, inst.state);
                if inst.state.is_some_and(TaskState::is_finished) {
                    self.of.past_later.insert(run.clone());
                }
            }
            self.step_run(&run, Event::Changed(whole));
        }
    }

    fn take_timers(&mut self) {
        while let Some((at, timed)) = self.of.timers.first().cloned().filter(|(at, _)| *at <= self.now) {
            self.of.timers.remove(&(at, timed.clone()));
            match timed {
                Timed::Dag(number) => self.step_dag(number, dagplan::Event::Timer),
                Timed::Run(run) => self.step_run(&run, Event::Timer),
            }
        }
    }

    fn step_dag(&mut self, number: usize, event: dagplan::Event) {
        let mut commands = Vec::new();
        self.of.plans[number].step(event, self.now, &mut commands);
        self.dag_commands
            .extend(commands.into_iter().map(|command| (number, command)));
    }

    fn step_run(&mut self, run: &RunRef, event: Event) {
        let Some(planner) = self.of.live.get_mut(run).and_then(|live| live.planner.as_mut()) else {
            return;
        };
        let mut commands = Vec::new();
        planner.step(event, self.now, &mut commands);
        self.carry_out(run, commands);
    }

    fn plan(&mut self, run: &RunRef) -> &mut Plan {
        let from = self.of.live.get(run).map_or(0, |live| live.rev);
        self.plans.entry(run.clone()).or_insert_with(|| Plan {
            from,
            ..Plan::default()
        })
    }

    fn carry_out(&mut self, run: &RunRef, commands: Vec<Command>) {
        for command in commands {
            match &command {
                Command::WakeAt(at) => {
                    self.of.timers.insert((*at, Timed::Run(run.clone())));
                    continue;
                }
                Command::Ready { key, .. } | Command::DeferAtOnce { key, .. } => {
                    self.offer(run, key, Some(TaskState::Scheduled));
                }
                Command::SetState { key, from, to, .. } => {
                    let holds = |state: &Option<TaskState>| {
                        state.is_some_and(|state| stays_known(state) && state != TaskState::Scheduled)
                    };
                    let instance = self.org.instance(run.0, &run.1, key);
                    let was_queued = from.0 == Some(TaskState::Scheduled) && self.of.admission.is_holding(&instance);
                    if (holds(&from.0) || was_queued) && !holds(to) {
                        self.freed.push((run.clone(), key.clone(), *to));
                    } else {
                        self.tell_admission(run, key, *to);
                    }
                }
                _ => {}
            }
            self.of.past_later.insert(run.clone());
            self.plan(run).commands.push(command);
        }
    }

    /// Tells admission of an instance that waits or holds.
    fn offer(&mut self, run: &RunRef, key: &TaskKey, state: Option<TaskState>) {
        let row = &self.store.runs[run];
        let date = row.info.logical_date().unwrap_or(row.info.run_after);
        let candidate = self.org.candidate(run.0, &run.1, key, date);
        if let Some(live) = self.of.live.get_mut(run) {
            live.admitted.insert(key.clone());
        }
        match state {
            Some(TaskState::Scheduled) | None => self.admission.ready(candidate),
            Some(state) => self.admission.holding(candidate, state),
        }
    }

    fn tell_admission(&mut self, run: &RunRef, key: &TaskKey, state: Option<TaskState>) {
        if state == Some(TaskState::Scheduled) {
            return self.offer(run, key, state);
        }
        if self.of.live.get(run).is_some_and(|live| live.admitted.contains(key)) {
            let key = self.org.instance(run.0, &run.1, key);
            self.admission.state(key, state);
        }
    }

    fn forget(&mut self, run: &RunRef) {
        if let Some(old) = self.of.live.remove(run) {
            for key in &old.admitted {
                self.admission.removed(self.org.instance(run.0, &run.1, key));
            }
        }
    }

    fn load_run(&mut self, run: &RunRef) {
        self.forget(run);
        self.plans.remove(run);
        let row = self.store.runs[run].clone();
        self.step_dag(run.0, dagplan::Event::RunChanged(active(run, &row)));
        if row.state.is_finished() {
            self.of.past_later.insert(run.clone());
            return;
        }
        let live = Live {
            rev: row.rev,
            planner: None,
            admitted: BTreeSet::new(),
        };
        self.of.live.insert(run.clone(), live);
        if row.state == RunState::Running {
            self.plan_run(run, &row);
        }
    }

    fn plan_run(&mut self, run: &RunRef, row: &Run) {
        for ti in row.tis.values() {
            if ti.inst.state.is_some_and(stays_known) {
                self.offer(run, &ti.inst.key, ti.inst.state);
            }
        }
        let length = |(task_id, length): (&isobar_model::TaskId, &u64)| MapLength {
            task_id: task_id.clone(),
            length: Some(*length),
        };
        let snapshot = RunSnapshot {
            run: RunFacts {
                run_id: run.1.clone(),
                run_type: RunType::Scheduled,
                state: RunState::Running,
                logical_date: row.info.logical_date(),
                start_date: row.start_date,
                run_after: row.info.run_after,
                paused: false,
            },
            instances: row.tis.values().map(|ti| ti.inst.clone()).collect(),
            lengths: row.lengths.iter().map(length).collect(),
            choices: Vec::new(),
            past: self.past_of(run),
            failed: self.failed.get(run).cloned().unwrap_or_default(),
            verify: false,
        };
        let mut commands = Vec::new();
        let graph = Arc::clone(&self.org.dags[run.0].graph);
        let planner = Planner::load(graph, snapshot, self.now, &mut commands);
        if let Some(live) = self.of.live.get_mut(run) {
            live.planner = Some(planner);
        }
        self.carry_out(run, commands);
    }

    fn past_of(&self, run: &RunRef) -> PastFacts {
        let graph = &self.org.dags[run.0].graph;
        let date = self.store.runs[run].info.logical_date();
        let earlier = |((dag, _), row): &(&RunRef, &Run)| *dag == run.0 && row.info.logical_date() < date;
        let Some((_, before)) = self
            .store
            .runs
            .iter()
            .filter(earlier)
            .max_by_key(|(_, row)| row.info.logical_date())
        else {
            return PastFacts::default();
        };
        let mut unsuccessful = HashMap::new();
        for ((task_id, _), ti) in &before.tis {
            let well = ti.inst.state.is_some_and(TaskState::is_success);
            *unsuccessful.entry(task_id.clone()).or_default() += u32::from(!well);
        }
        let preceding = Preceding {
            logical_date: before.info.logical_date(),
            unsuccessful,
        };
        PastFacts::of(&preceding, graph, Vec::new())
    }

    fn tell_following(&mut self, run: &RunRef) {
        if self.org.dags[run.0].graph.past_tasks().next().is_none() {
            return;
        }
        let others: Vec<RunRef> = self
            .of
            .live
            .keys()
            .filter(|other| other.0 == run.0 && *other != run)
            .cloned()
            .collect();
        for other in others {
            let past = self.past_of(&other);
            self.step_run(&other, Event::PastChanged(past));
        }
    }

    fn settle(&mut self) {
        while let Some((number, command)) = self.dag_commands.pop_front() {
            match command {
                dagplan::Command::CreateRun(new) => {
                    let RunIdPlan::Exact(run_id) = new.run_id else {
                        panic!("hourly runs have exact ids")
                    };
                    let run = (number, run_id);
                    let instances =
                        initial_instances(&self.org.dags[number].graph, new.run_type, new.info.logical_date());
                    if self
                        .store
                        .create(run.clone(), new.info.clone(), new.run_type, instances, self.now)
                    {
                        self.load_run(&run);
                    } else {
                        self.step_dag(number, dagplan::Event::AlreadyThere(new.info));
                    }
                }
                dagplan::Command::StartRun(started) => self.start_run((number, started.run_id)),
                dagplan::Command::WakeAt(at) => {
                    self.of.timers.insert((at, Timed::Dag(number)));
                }
                dagplan::Command::SetNext(_) => {}
                other => panic!("this organisation knows nothing of {other:?}"),
            }
        }
    }

    fn start_run(&mut self, run: RunRef) {
        let known = self.of.live.get(&run).map(|live| live.rev);
        let Some(row) = self.store.runs.get_mut(&run) else {
            return;
        };
        if known != Some(row.rev) || row.state != RunState::Queued {
            self.of.stale.insert(run);
            return;
        }
        row.state = RunState::Running;
        row.start_date = Some(self.now);
        row.rev += 1;
        let row = row.clone();
        if let Some(live) = self.of.live.get_mut(&run) {
            live.rev = row.rev;
        }
        self.plan_run(&run, &row);
    }

    /// Asks admission and writes everything.
    fn finish(mut self) -> Done {
        self.settle();
        for candidate in self.admission.tell(&mut self.of.admission) {
            let run = (self.org.dag_of(&candidate.key), candidate.key.run_id);
            if self.of.live.contains_key(&run) {
                self.plan(&run).queue.push(candidate.key.task);
            }
        }
        let mut queued = Vec::new();
        for (run, plan) in std::mem::take(&mut self.plans) {
            match self.store.commit(self.org, &run, &plan, self.now) {
                Some(some) => {
                    queued.extend(some);
                    let row = &self.store.runs[&run];
                    for (_, key, state) in self.freed.iter().filter(|(of, ..)| *of == run) {
                        self.of.freed.push((self.org.instance(run.0, &run.1, key), *state));
                    }
                    if row.state.is_finished() {
                        self.of.over.push(run.clone());
                        self.of.live.remove(&run);
                    } else if let Some(live) = self.of.live.get_mut(&run) {
                        live.rev = row.rev;
                    }
                }
                None => {
                    if let Some(failed) = self.failed.remove(&run) {
                        self.store.events.push(Stored {
                            run: run.clone(),
                            rev: 0,
                            change: None,
                            failed,
                        });
                    }
                    self.of.stale.insert(run);
                }
            }
        }
        Done {
            queued,
            again: !self.of.past_later.is_empty() || !self.of.stale.is_empty(),
        }
    }
}

fn active(run: &RunRef, row: &Run) -> ActiveRun {
    ActiveRun {
        run_id: run.1.clone(),
        run_type: RunType::Scheduled,
        state: row.state,
        run_after: row.info.run_after,
        logical_date: row.info.logical_date(),
        backfill: None,
        last_scheduling_decision: row.last_decision,
    }
}

/// Admission goes on knowing it.
fn stays_known(state: TaskState) -> bool {
    use TaskState::{Deferred, Queued, Restarting, Running, Scheduled};
    matches!(state, Scheduled | Queued | Running | Restarting | Deferred)
}
