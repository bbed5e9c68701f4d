//! The engine and a store in memory under a clock of their own: delays, events that come late, twice or out of order, lost wake-ups,
//! lost workers, writes in between, clearing, crashes and restarts of the scheduler; and what must hold through all of it:
//! each interval has exactly one run, nothing starts before its dependencies, each instance succeeds once, pools and caps hold, nothing
//! waits for ever, no team starves.
//!
//! `ISOBAR_SEEDS=5000 ISOBAR_FIRST_SEED=1 cargo nextest run -p isobar-engine simulation` tries others. A failing seed is printed with
//! its history.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod dice;
mod organisation;
mod scheduler;
mod store;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use dice::Dice;
use isobar_engine::graph::LengthOf;
use isobar_engine::planner::retry::may_retry;
use isobar_model::{RunState, TaskKey, TaskState};
use jiff::{SignedDuration, Timestamp};
use organisation::{HOUR, Organisation, beginning};
use scheduler::{Done, Scheduler};
use store::{Event, Queued, RunRef, Store, place};

/// Heartbeats may be missing for so long.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Pass,
    Sweep,
    Crash { with_workers: bool },
    Restart,
    Clear,
    Begins(Queued),
    Ends(Queued),
    Resumes(Queued),
}

struct World {
    dice: Dice,
    org: Organisation,
    store: Store,
    scheduler: Option<Scheduler>,
    now: Timestamp,
    /// The last interval begins then.
    until: Timestamp,
    /// Nothing goes wrong any more.
    calm_from: Timestamp,
    coming: BinaryHeap<Reverse<(Timestamp, u64, Happening)>>,
    count: u64,
    /// Workers that live, by fencing number; false: nobody hears of them.
    workers: BTreeMap<u64, bool>,
    passed_over: BTreeMap<usize, u32>,
    history: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let org = Organisation::random(&mut dice);
        let until = beginning() + HOUR * i32::try_from(dice.pick(1, 3)).unwrap();
        Self {
            org,
            store: Store::default(),
            scheduler: None,
            now: beginning(),
            until,
            calm_from: until + HOUR * 2,
            coming: BinaryHeap::new(),
            count: 0,
            workers: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            history: Vec::new(),
            dice,
        }
    }

    fn calm(&self) -> bool {
        self.now >= self.calm_from
    }

    /// Something goes wrong so many times in a thousand.
    fn trouble(&mut self, of_thousand: u64) -> bool {
        !self.calm() && self.dice.chance(of_thousand)
    }

    fn after(&mut self, low: u64, high: u64, happening: Happening) {
        let seconds = i64::try_from(self.dice.pick(low, high)).unwrap();
        self.at(self.now + SignedDuration::from_secs(seconds), happening);
    }

    fn at(&mut self, when: Timestamp, happening: Happening) {
        self.count += 1;
        self.coming.push(Reverse((when, self.count, happening)));
    }

    /// Somebody wrote: the scheduler is woken, unless that is lost.
    fn wake(&mut self) {
        if !self.trouble(100) {
            self.after(0, 3, Happening::Pass);
        }
    }

    fn live(&mut self) -> Option<String> {
        self.restart();
        self.after(60, 60, Happening::Sweep);
        for _ in 0..self.dice.pick(0, 3) {
            let with_workers = self.dice.chance(500);
            self.after(60, 4 * 3600, Happening::Crash { with_workers });
        }
        for _ in 0..self.dice.pick(0, 2) {
            self.after(3600, 4 * 3600, Happening::Clear);
        }
        let end = self.calm_from + HOUR * 72;
        while let Some(Reverse((when, _, happening))) = self.coming.pop() {
            self.now = when.max(self.now);
            if self.now > end {
                break;
            }
            self.happen(happening);
            if self.store.broken.is_some() {
                return self.store.broken.take();
            }
            let over = |store: &Store| store.runs.values().all(|row| row.state.is_finished());
            let idle = |scheduler: &Scheduler| scheduler.is_idle(&self.store, self.now);
            if self.calm() && self.scheduler.as_ref().is_some_and(idle) && over(&self.store) {
                break;
            }
        }
        self.store.check_end(&self.org, self.until);
        self.store.broken.take()
    }

    fn happen(&mut self, happening: Happening) {
        if self.history.len() < 5000 && !matches!(happening, Happening::Pass | Happening::Sweep) {
            self.history.push(format!("{} {happening:?}", self.now));
        }
        match happening {
            Happening::Pass => self.pass(),
            Happening::Sweep => {
                self.sweep();
                self.after(60, 60, Happening::Sweep);
                self.pass();
            }
            Happening::Crash { with_workers } => self.crash(with_workers),
            Happening::Restart => self.restart(),
            Happening::Clear => self.clear(),
            Happening::Begins(task) => self.begins(task),
            Happening::Ends(task) => self.ends(&task),
            Happening::Resumes((run, key, dispatch)) => {
                if self.write(&run, &key, dispatch, &[TaskState::Deferred], |ti, now| {
                    ti.inst.state = Some(TaskState::Scheduled);
                    ti.waits_since = Some(now);
                }) {
                    self.tell(&run, &key, None, false);
                }
            }
        }
    }

    // The scheduler

    fn pass(&mut self) {
        if self
            .scheduler
            .as_ref()
            .is_none_or(|scheduler| scheduler.is_idle(&self.store, self.now))
        {
            return;
        }
        let Some(mut scheduler) = self.scheduler.take() else {
            return;
        };
        let before = self
            .trouble(10)
            .then(|| (self.store.runs.clone(), self.store.events.clone()));
        let meddler = self.trouble(50);
        let (now, until, calm) = (self.now, self.until, self.calm());
        let done = scheduler.pass(
            &self.org,
            &mut self.store,
            until,
            now,
            &mut self.dice,
            calm,
            |store, dice| {
                if meddler {
                    meddle(store, dice);
                }
            },
        );
        if let Some((runs, events)) = before {
            self.history.push(format!("{now} crash before the commit"));
            (self.store.runs, self.store.events) = (runs, events);
            self.after(1, 100, Happening::Restart);
            return;
        }
        if !done.queued.is_empty() {
            self.store.check_limits(&self.org);
            self.check_shares(&done);
        }
        if self.trouble(8) {
            self.history.push(format!("{now} crash before the hand-out"));
            self.after(1, 100, Happening::Restart);
            return;
        }
        self.scheduler = Some(scheduler);
        self.go_on(done);
    }

    fn go_on(&mut self, done: Done) {
        for task in done.queued {
            self.workers.insert(task.2, true);
            self.after(0, 5, Happening::Begins(task));
        }
        if done.again {
            self.after(1, 1, Happening::Pass);
        }
        if let Some(at) = self.scheduler.as_ref().and_then(Scheduler::next_timer) {
            self.at(at, Happening::Pass);
        }
    }

    fn crash(&mut self, with_workers: bool) {
        if self.calm() {
            return;
        }
        if with_workers {
            self.workers.clear();
        }
        if self.scheduler.take().is_some() {
            self.after(1, 200, Happening::Restart);
        }
    }

    fn restart(&mut self) {
        if self.scheduler.is_some() {
            return;
        }
        let held = self.instances(|ti| {
            matches!(
                ti.inst.state,
                Some(TaskState::Queued | TaskState::Running | TaskState::Restarting)
            )
        });
        for (run, key, dispatch) in held {
            if !self.workers.contains_key(&dispatch) {
                self.lose(&run, &key);
            }
        }
        let (scheduler, done) = Scheduler::start(&self.org, &mut self.store, self.until, self.now);
        self.scheduler = Some(scheduler);
        self.store.check_limits(&self.org);
        self.go_on(done);
    }

    /// No team with something to run gets nothing while others are let through again and again.
    fn check_shares(&mut self, done: &Done) {
        let mut waits = BTreeSet::new();
        let mut works = BTreeSet::new();
        for ((dag, _), row) in self.store.runs.iter().filter(|(_, row)| row.state == RunState::Running) {
            let of = &self.org.dags[*dag];
            for ((task_id, _), ti) in &row.tis {
                let spec = of.graph.task(of.graph.find(task_id).unwrap());
                match ti.inst.state {
                    Some(TaskState::Scheduled)
                        if spec.max_active_tis_per_dag.or(spec.max_active_tis_per_dagrun).is_none() =>
                    {
                        waits.insert(of.team);
                    }
                    Some(TaskState::Queued | TaskState::Running | TaskState::Restarting) => {
                        works.insert(of.team);
                    }
                    _ => {}
                }
            }
        }
        for team in 0..self.org.teams.len() {
            let passed_over = self.passed_over.entry(team).or_default();
            if waits.contains(&team) && !works.contains(&team) {
                *passed_over += u32::try_from(done.queued.len()).unwrap();
                // Who holds nothing is next but for news of it that is late; without fair shares it is 20 and more.
                if *passed_over > 12 {
                    self.store.complain(format!("team {team} starves"));
                }
            } else {
                *passed_over = 0;
            }
        }
    }

    // Workers

    fn instances(&self, which: impl Fn(&store::Ti) -> bool) -> Vec<Queued> {
        let mut found = Vec::new();
        for (run, row) in &self.store.runs {
            let chosen = row.tis.values().filter(|ti| which(ti));
            found.extend(chosen.map(|ti| (run.clone(), ti.inst.key.clone(), ti.dispatch)));
        }
        found
    }

    /// Changes an instance if it is still that dispatch's and in one of the states.
    fn write(
        &mut self,
        run: &RunRef,
        key: &TaskKey,
        dispatch: u64,
        states: &[TaskState],
        change: impl FnOnce(&mut store::Ti, Timestamp),
    ) -> bool {
        let now = self.now;
        let row = self.store.runs.get_mut(run).unwrap();
        let Some(ti) = row.tis.get_mut(&place(key)) else {
            return false;
        };
        let fits = ti.dispatch == dispatch && ti.inst.state.is_some_and(|state| states.contains(&state));
        if fits {
            change(ti, now);
        }
        fits
    }

    fn tell(&mut self, run: &RunRef, key: &TaskKey, length: Option<u64>, failed: bool) {
        self.store.change(run, key, length, failed);
        self.wake();
    }

    fn begins(&mut self, (run, key, dispatch): Queued) {
        if !self.workers.contains_key(&dispatch) {
            return;
        }
        if self.trouble(30) {
            self.workers.remove(&dispatch);
            return;
        }
        let began = self.write(&run, &key, dispatch, &[TaskState::Queued], |ti, now| {
            ti.inst.state = Some(TaskState::Running);
            ti.last_heard = now;
        });
        if !began {
            self.workers.remove(&dispatch);
            return;
        }
        self.tell(&run, &key, None, false);
        let silent = self.trouble(20);
        self.workers.insert(dispatch, !silent);
        if self.trouble(50) {
            // It says twice how it ended, and not the same.
            self.after(1, 600, Happening::Ends((run.clone(), key.clone(), dispatch)));
        }
        self.after(1, 600, Happening::Ends((run, key, dispatch)));
    }

    fn ends(&mut self, (run, key, dispatch): &Queued) {
        if !self.workers.contains_key(dispatch) {
            return;
        }
        if self.trouble(30) {
            self.workers.remove(dispatch);
            return;
        }
        let graph = &self.org.dags[run.0].graph;
        let task = graph.find(&key.task_id).unwrap();
        let retries = graph.task(task).retries;
        let uses = |other: &isobar_engine::graph::TaskSpec| {
            other
                .expand
                .as_ref()
                .is_some_and(|expand| expand.factors.contains(&LengthOf::Task(task)))
        };
        let is_source = graph.spec().tasks.iter().any(uses);
        let (kind, seconds, length) = (self.dice.pick(0, 99), self.dice.pick(1, 600), self.dice.pick(0, 3));
        let mut failed = false;
        let wrote = self.write(
            run,
            key,
            *dispatch,
            &[TaskState::Running, TaskState::Restarting],
            |ti, now| {
                ti.inst.end_date = Some(now);
                let later = now + SignedDuration::from_secs(i64::try_from(seconds).unwrap());
                ti.inst.state = Some(match kind {
                    _ if ti.inst.state == Some(TaskState::Restarting) => TaskState::UpForRetry,
                    0..70 => {
                        ti.successes += 1;
                        TaskState::Success
                    }
                    70..75 => TaskState::Skipped,
                    75..80 => {
                        ti.inst.reschedule_date = Some(later);
                        TaskState::UpForReschedule
                    }
                    80..85 => TaskState::Deferred,
                    _ if may_retry(ti.inst.state, retries, ti.inst.try_number, ti.max_tries) => TaskState::UpForRetry,
                    _ => {
                        failed = true;
                        TaskState::Failed
                    }
                });
            },
        );
        if !wrote {
            return;
        }
        let now_in = self.store.runs[run].tis[&place(key)].inst.state;
        let length = (is_source && now_in == Some(TaskState::Success)).then_some(length);
        self.tell(run, key, length, failed);
        if now_in == Some(TaskState::Deferred) {
            self.after(1, 300, Happening::Resumes((run.clone(), key.clone(), *dispatch)));
        }
    }

    /// Its executor or machine is gone, or nobody heard of it for long.
    fn lose(&mut self, run: &RunRef, key: &TaskKey) {
        let retries = {
            let graph = &self.org.dags[run.0].graph;
            graph.task(graph.find(&key.task_id).unwrap()).retries
        };
        let ti = self.store.runs.get_mut(run).unwrap().tis.get_mut(&place(key)).unwrap();
        let mut failed = false;
        ti.inst.state = Some(match ti.inst.state {
            Some(TaskState::Queued) => {
                ti.waits_since = Some(self.now);
                TaskState::Scheduled
            }
            state if may_retry(state, retries, ti.inst.try_number, ti.max_tries) => TaskState::UpForRetry,
            _ => {
                failed = true;
                TaskState::Failed
            }
        });
        ti.inst.end_date = Some(self.now);
        self.tell(run, key, None, failed);
    }

    fn sweep(&mut self) {
        let held = self.instances(|ti| {
            matches!(
                ti.inst.state,
                Some(TaskState::Queued | TaskState::Running | TaskState::Restarting)
            )
        });
        for (run, key, dispatch) in held {
            let now = self.now;
            let heard = self.workers.get(&dispatch).copied();
            let ti = self
                .store
                .runs
                .get_mut(&run)
                .unwrap()
                .tis
                .get_mut(&place(&key))
                .unwrap();
            if heard == Some(true) {
                ti.last_heard = now;
                continue;
            }
            let queued = ti.inst.state == Some(TaskState::Queued);
            let nobody_has_it = queued && heard.is_none() && self.scheduler.is_some();
            if nobody_has_it || (!queued && now.duration_since(ti.last_heard) > PATIENCE) {
                self.lose(&run, &key);
            }
        }
    }

    // People

    /// Clears an instance and everything below it.
    fn clear(&mut self) {
        let runs: Vec<RunRef> = self
            .store
            .runs
            .keys()
            .filter(|run| self.org.dags[run.0].graph.past_tasks().next().is_none())
            .cloned()
            .collect();
        if runs.is_empty() || self.calm() {
            return;
        }
        let run = self.dice.one_of(&runs).clone();
        let graph = std::sync::Arc::clone(&self.org.dags[run.0].graph);
        let row = self.store.runs.get_mut(&run).unwrap();
        let ended: Vec<TaskKey> = row
            .tis
            .values()
            .filter(|ti| ti.inst.state.is_some_and(TaskState::is_finished))
            .map(|ti| ti.inst.key.clone())
            .collect();
        if ended.is_empty() {
            return;
        }
        let first = self.dice.one_of(&ended).clone();
        let mut below = BTreeSet::new();
        let mut open = vec![graph.find(&first.task_id).unwrap()];
        while let Some(task) = open.pop() {
            if below.insert(task) {
                open.extend(graph.task(task).downstream.iter().copied());
            }
        }
        for ti in row.tis.values_mut() {
            let task = graph.find(&ti.inst.key.task_id).unwrap();
            if !below.contains(&task) || ti.inst.state == Some(TaskState::Removed) {
                continue;
            }
            match ti.inst.state {
                Some(TaskState::Running | TaskState::Restarting) => ti.inst.state = Some(TaskState::Restarting),
                _ => {
                    ti.inst.state = None;
                    ti.waits_since = None;
                    ti.max_tries = ti.inst.try_number + graph.task(task).retries;
                }
            }
            ti.inst.reschedule_date = None;
            ti.successes = 0;
        }
        row.was_cleared = true;
        row.rev += 1;
        if row.state.is_finished() {
            row.state = RunState::Queued;
            row.start_date = None;
            row.last_decision = None;
        }
        let rev = row.rev;
        self.store.events.push(Event {
            run,
            rev,
            change: None,
            failed: Vec::new(),
        });
        self.wake();
    }
}

/// Somebody writes to a run while the scheduler is at work on it.
fn meddle(store: &mut Store, dice: &mut Dice) {
    let running: Vec<RunRef> = store
        .runs
        .iter()
        .filter(|(_, row)| row.state == RunState::Running)
        .map(|(run, _)| run.clone())
        .collect();
    if running.is_empty() {
        return;
    }
    let run = dice.one_of(&running).clone();
    let ti = store.runs[&run].tis.values().next().map(|ti| ti.inst.key.clone());
    if let Some(key) = ti {
        store.change(&run, &key, None, false);
    }
}

fn try_seeds(part: u64, of: u64) {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, count) = (number("ISOBAR_FIRST_SEED", 1), number("ISOBAR_SEEDS", 1600));
    for seed in (first..first + count).filter(|seed| seed % of == part) {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.live()));
        let problem = outcome.unwrap_or_else(|_| Some("panicked".to_owned()));
        if let Some(problem) = problem {
            let from = world.history.len().saturating_sub(60);
            panic!(
                "seed {seed}: {problem}\nat {}; what happened before:\n{}",
                world.now,
                world.history[from..].join("\n")
            );
        }
    }
}

#[test]
fn everything_holds_through_trouble_in_the_first_half_of_seeds() {
    try_seeds(0, 2);
}

#[test]
fn everything_holds_through_trouble_in_the_second_half_of_seeds() {
    try_seeds(1, 2);
}
