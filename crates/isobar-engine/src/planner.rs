//! The planner of one run: which task instances exist, which may start, which are decided without starting,
//! and when the run has ended.
//!
//! Feed it what changed, carry out what it commands. It takes its commands as done: if committing them fails (the run's
//! `rev` moved, the lease is lost), throw the planner away and load the run again.

mod book;
mod command;
mod end;
mod event;
mod expand;
mod gate;
mod integrity;
mod mapping;
mod past;
pub mod retry;
mod rule;
mod unmet;

use std::collections::{BTreeSet, HashMap};

use isobar_model::{MapIndex, RunState, TaskId, TaskKey, TaskState};
use jiff::Timestamp;

use book::{Book, Inst, Look};
pub use command::{Command, Decision, NewInstance, RunEnd, WhyEnded, WhyState};
pub use event::{
    Changes, Event, Instance, MapLength, PastFacts, PreviousRun, PreviousTask, RunFacts, RunSnapshot, SkipChoice,
};
use expand::Revised;
use gate::Gate;
pub use integrity::initial_instances;
pub use past::Preceding;
pub use unmet::{Unmet, UpstreamStates};

use crate::graph::{SharedGraph, TaskNo};

/// The planner of one run. See the [module](self).
#[derive(Debug)]
pub struct Planner {
    run: RunFacts,
    book: Book,
    choices: HashMap<(TaskNo, MapIndex), SkipChoice>,
    /// None while it is not known what the tasks of a new Dag version ask of it.
    past: Option<PastFacts>,
    timers: BTreeSet<(Timestamp, TaskNo, MapIndex)>,
    woken_at: Option<Timestamp>,
    finished: bool,
}

/// What a wave of looking decided, carried out when the wave is over.
enum Outcome {
    Set(TaskNo, MapIndex, TaskState, WhyState),
    Ready(TaskNo, MapIndex),
}

impl Planner {
    /// Starts planning a run, and says what is to be done at once.
    pub fn load(graph: SharedGraph, snapshot: RunSnapshot, now: Timestamp, out: &mut Vec<Command>) -> Self {
        let mut planner = Self::begin(graph, snapshot, now, out);
        planner.settle(now, out);
        planner
    }

    fn begin(graph: SharedGraph, snapshot: RunSnapshot, now: Timestamp, out: &mut Vec<Command>) -> Self {
        let mut planner = Self {
            run: snapshot.run,
            book: Book::new(graph),
            choices: HashMap::new(),
            past: Some(snapshot.past),
            timers: BTreeSet::new(),
            woken_at: None,
            finished: false,
        };
        planner.note_lengths(snapshot.lengths);
        planner.note_choices(snapshot.choices);
        let verify = snapshot.verify || snapshot.instances.is_empty();
        planner.enter(snapshot.instances, verify, now, out);
        planner.heed_failures(&snapshot.failed, now, out);
        planner.book.look_at_everything();
        planner
    }

    /// Takes in one event and says what is to be done.
    pub fn step(&mut self, event: Event, now: Timestamp, out: &mut Vec<Command>) {
        match event {
            Event::Changed(changes) => self.take_in(changes, now, out),
            Event::Timer => {
                self.woken_at = None;
            }
            Event::RunChanged(run) => {
                self.finished &= run.state.is_finished();
                self.run = run;
                self.book.look_at_everything();
            }
            Event::PastChanged(past) => {
                self.past = Some(past);
                self.look_at_past_dependents();
            }
            Event::DagChanged(graph) => {
                self.follow(graph, now, out);
                return;
            }
        }
        self.settle(now, out);
    }

    /// Why an instance is where it is.
    #[must_use]
    pub fn why(&self, key: &TaskKey, now: Timestamp) -> Decision {
        match self.book.graph.find(&key.task_id) {
            Some(task) => self.explain(task, key.map_index, now),
            None => Decision::Unknown {
                map_index: key.map_index,
            },
        }
    }

    /// Whether the run has ended, as far as the planner was told.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The Dag version that is planned with.
    #[must_use]
    pub fn graph(&self) -> &SharedGraph {
        &self.book.graph
    }

    /// Goes on with another version of the Dag.
    fn follow(&mut self, graph: SharedGraph, now: Timestamp, out: &mut Vec<Command>) {
        let asks_the_past = graph.past_tasks().next().is_some();
        let mut planner = Self::begin(graph, self.snapshot(), now, out);
        if asks_the_past && self.run.logical_date.is_some() {
            planner.past = None;
        }
        planner.settle(now, out);
        *self = planner;
    }

    fn take_in(&mut self, changes: Changes, now: Timestamp, out: &mut Vec<Command>) {
        self.note_lengths(changes.lengths);
        let choices = changes.choices;
        for key in &changes.deleted {
            if let Some(task) = self.book.graph.find(&key.task_id) {
                self.book.put(task, key.map_index, None);
            }
        }
        for row in changes.instances {
            if let Some(task) = self.book.graph.find(&row.key.task_id) {
                self.forget_choice_before(task, &row);
                self.book.put(task, row.key.map_index, Some(Inst::from_row(&row)));
            }
        }
        self.note_choices(choices);
        self.heed_failures(&changes.failed, now, out);
    }

    fn note_lengths(&mut self, lengths: Vec<MapLength>) {
        for MapLength { task_id, length } in lengths {
            if let Some(task) = self.book.graph.find(&task_id) {
                self.book.lengths[task.at()] = length;
                self.book.tell_watchers(task);
            }
        }
    }

    fn note_choices(&mut self, choices: Vec<SkipChoice>) {
        for choice in choices {
            let Some(task) = self.book.graph.find(&choice.key.task_id) else {
                continue;
            };
            let place = (task, choice.key.map_index);
            if choice.followed.is_none() && choice.skipped.is_none() {
                self.choices.remove(&place);
            } else {
                self.choices.insert(place, choice);
            }
            let graph = SharedGraph::clone(&self.book.graph);
            for down in &graph.task(task).downstream {
                self.book.look(Look::all(*down));
            }
        }
    }

    /// A branch that was run again chooses again: what it chose before counts no more once the new try has ended.
    fn forget_choice_before(&mut self, task: TaskNo, row: &Instance) {
        let index = row.key.map_index;
        let was = self.book.get(task, index).and_then(|inst| inst.state);
        if self.book.graph.task(task).skips && matches!(was, Some(TaskState::Running | TaskState::Restarting)) {
            self.choices.remove(&(task, index));
        }
    }

    fn look_at_past_dependents(&mut self) {
        let graph = SharedGraph::clone(&self.book.graph);
        for task in graph.numbers().filter(|task| graph.task(*task).depends_on_past) {
            self.book.look(Look::all(task));
        }
    }

    /// Looks, decides and carries out in waves until nothing more follows, as Airflow does pass by pass.
    fn settle(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.run.state != RunState::Running || self.finished {
            return;
        }
        if self.has_timed_out(now) {
            self.time_out(now, out);
            return;
        }
        if self.is_early(now) {
            self.wake(now, out);
            return;
        }
        while let Some((due, task, index)) = self.timers.first().copied().filter(|(due, ..)| *due <= now) {
            self.timers.remove(&(due, task, index));
            self.book.look(Look::one(task, index));
        }
        while self.book.begin_wave() {
            let mut outcomes = Vec::new();
            while let Some(look) = self.book.next_look() {
                self.look_at(look, now, &mut outcomes, out);
            }
            self.book.end_wave();
            for outcome in outcomes {
                match outcome {
                    Outcome::Set(task, index, state, why) => self.set(task, index, Some(state), why, now, out),
                    Outcome::Ready(task, index) => self.make_ready(task, index, now, out),
                }
            }
        }
        self.conclude(now, out);
        if !self.finished {
            self.wake(now, out);
        }
    }

    fn look_at(
        &mut self,
        Look { task, only }: Look,
        now: Timestamp,
        outcomes: &mut Vec<Outcome>,
        out: &mut Vec<Command>,
    ) {
        if self.book.task(task).open == 0 {
            return;
        }
        let common = self.upstream_is_common(task).then(|| self.upstream(task, -1));
        if let Some(gate::Upstream::Shut(_)) = common
            && self.book.graph.derived(task).skipping_parents.is_empty()
        {
            return;
        }
        let mut queue: Vec<MapIndex> = match only {
            Some(index) => vec![index],
            None => self.book.task(task).indices().collect(),
        };
        let (mut revised, mut end) = (false, None);
        let mut at = 0;
        while let Some(index) = queue.get(at).copied() {
            at += 1;
            let Some(inst) = self.book.get(task, index).filter(|inst| inst.is_open()) else {
                continue;
            };
            let upstream = match &common {
                Some(upstream) => upstream.clone(),
                None => self.upstream(task, index),
            };
            match self.gate(task, index, inst, &upstream, now, false) {
                Gate::Shut(_) => {}
                Gate::OpensAt(due) => {
                    self.timers.insert((due, task, index));
                }
                Gate::Set(state, why) => self.decide(task, index, state, why, outcomes),
                Gate::Open if index < 0 && self.book.graph.derived(task).needs_expansion => {
                    queue.extend(self.expand(task, now, outcomes, out));
                }
                Gate::Open => {
                    if !revised && self.book.graph.derived(task).needs_expansion {
                        revised = true;
                        let Revised { added, end: new_end } = self.revise(task, now, outcomes, out);
                        outcomes.extend(added.into_iter().map(|index| Outcome::Ready(task, index)));
                        end = new_end;
                    }
                    if end.is_none_or(|end| index < end) {
                        outcomes.push(Outcome::Ready(task, index));
                    }
                }
            }
        }
    }

    /// Nothing starts while the Dag is paused.
    fn may_start(&self, now: Timestamp) -> bool {
        self.run.state == RunState::Running && !self.run.paused && !self.is_early(now)
    }

    fn make_ready(&mut self, task: TaskNo, index: MapIndex, now: Timestamp, out: &mut Vec<Command>) {
        if self.run.paused {
            return;
        }
        let Some(inst) = self.book.get(task, index).filter(|inst| inst.is_open()) else {
            return;
        };
        let from = (inst.state, inst.try_number);
        // A task that became trivial meanwhile counts another try even then, as in Airflow.
        let trivial = self.book.graph.task(task).is_trivial;
        let again = inst.state == Some(TaskState::UpForReschedule) && !trivial;
        let try_number = if again { inst.try_number } else { inst.try_number + 1 };
        let spec = self.book.graph.task(task);
        let key = event::key(&spec.task_id, index);
        let (command, state) = if spec.is_trivial {
            (Command::SucceedAtOnce { key, from, try_number }, TaskState::Success)
        } else if spec.starts_deferred && spec.expand.is_none() {
            (
                Command::DeferAtOnce {
                    key,
                    task,
                    from,
                    try_number,
                },
                TaskState::Deferred,
            )
        } else {
            (
                Command::Ready {
                    key,
                    task,
                    from,
                    try_number,
                },
                TaskState::Scheduled,
            )
        };
        out.push(command);
        self.book.set_state(task, index, Some(state), try_number, now);
    }

    /// Sets a state that was decided without running.
    fn set(
        &mut self,
        task: TaskNo,
        index: MapIndex,
        to: Option<TaskState>,
        why: WhyState,
        now: Timestamp,
        out: &mut Vec<Command>,
    ) {
        let Some(inst) = self.book.get(task, index) else { return };
        if inst.state == to {
            return;
        }
        let from = (inst.state, inst.try_number);
        let key = self.key(task, index);
        out.push(Command::SetState { key, from, to, why });
        self.book.set_state(task, index, to, from.1, now);
    }

    fn key(&self, task: TaskNo, index: MapIndex) -> TaskKey {
        event::key(&self.book.graph.task(task).task_id, index)
    }

    /// Everything known, to start afresh with another version of the Dag.
    fn snapshot(&self) -> RunSnapshot {
        let graph = &self.book.graph;
        let id = |task: TaskNo| -> TaskId { graph.task(task).task_id.clone() };
        let instances = graph
            .numbers()
            .flat_map(|task| self.book.task(task).indices().map(move |index| (task, index)))
            .filter_map(|(task, index)| Some(self.book.get(task, index)?.to_row(self.key(task, index))))
            .collect();
        let lengths = graph.numbers().map(|task| MapLength {
            task_id: id(task),
            length: self.book.lengths[task.at()],
        });
        RunSnapshot {
            run: self.run.clone(),
            instances,
            lengths: lengths.collect(),
            choices: self.choices.values().cloned().collect(),
            past: self.past.clone().unwrap_or_default(),
            failed: Vec::new(),
            verify: true,
        }
    }
}

impl Inst {
    fn from_row(row: &Instance) -> Self {
        Self {
            state: row.state,
            try_number: row.try_number,
            end_date: row.end_date,
            retry_delay_override: row.retry_delay_override,
            reschedule_date: row.reschedule_date,
            has_result: row.has_result,
        }
    }

    fn to_row(&self, key: TaskKey) -> Instance {
        Instance {
            key,
            state: self.state,
            try_number: self.try_number,
            end_date: self.end_date,
            retry_delay_override: self.retry_delay_override,
            reschedule_date: self.reschedule_date,
            has_result: self.has_result,
        }
    }
}
