//! The books of a run: every task instance, and what is counted of them so that no event has to look at all.

use std::collections::{BTreeSet, HashMap};

use isobar_model::{MapIndex, TaskState, UNMAPPED};
use jiff::{SignedDuration, Timestamp};

use super::rule::Counts;
use crate::graph::{SharedGraph, TaskNo};

/// What the planner remembers of a task instance.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Inst {
    pub state: Option<TaskState>,
    pub try_number: i32,
    pub end_date: Option<Timestamp>,
    pub retry_delay_override: Option<SignedDuration>,
    pub reschedule_date: Option<Timestamp>,
    pub has_result: bool,
}

impl Inst {
    pub(super) const NEW: Self = Self {
        state: None,
        try_number: 0,
        end_date: None,
        retry_delay_override: None,
        reschedule_date: None,
        has_result: false,
    };

    /// May be scheduled when its dependencies are met.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self.state,
            None | Some(TaskState::UpForRetry | TaskState::UpForReschedule)
        )
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state.is_some_and(TaskState::is_finished)
    }
}

/// One task's instances and the counts kept for it.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskBook {
    /// Index -1: the only instance of an unmapped task, the placeholder of one not expanded yet.
    pub unmapped: Option<Inst>,
    /// Indices 0 and up; a hole where a row is missing.
    pub mapped: Vec<Option<Inst>>,
    /// Its own instances by state.
    pub own: Counts,
    /// All instances of its direct upstream tasks by state.
    pub up: Counts,
    /// Instances that may be scheduled.
    pub open: u32,
    /// Mapped instances that exist.
    pub indices: u32,
    /// Mapped instances with a result.
    pub results: u32,
}

impl TaskBook {
    pub(super) fn get(&self, index: MapIndex) -> Option<&Inst> {
        match usize::try_from(index) {
            Ok(at) => self.mapped.get(at)?.as_ref(),
            Err(_) => self.unmapped.as_ref(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.own.done() == self.own.total
    }

    /// Indices 0 and up that exist, in order.
    pub(super) fn mapped_indices(&self) -> impl Iterator<Item = MapIndex> + '_ {
        self.mapped
            .iter()
            .zip(0..)
            .filter_map(|(inst, index)| inst.as_ref().map(|_| index))
    }

    /// All that exist, the unmapped one first.
    pub(super) fn indices(&self) -> impl Iterator<Item = MapIndex> + '_ {
        self.unmapped.iter().map(|_| UNMAPPED).chain(self.mapped_indices())
    }

    fn slot(&mut self, index: MapIndex) -> &mut Option<Inst> {
        let Ok(at) = usize::try_from(index) else {
            return &mut self.unmapped;
        };
        if at >= self.mapped.len() {
            self.mapped.resize(at + 1, None);
        }
        &mut self.mapped[at]
    }

    fn trim(&mut self) {
        while matches!(self.mapped.last(), Some(None)) {
            self.mapped.pop();
        }
    }
}

/// What to look at again: one instance, or (none) all open instances of the task. Ordered by task, all before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look {
    pub(super) task: TaskNo,
    pub(super) only: Option<MapIndex>,
}

impl Look {
    pub(super) fn all(task: TaskNo) -> Self {
        Self { task, only: None }
    }

    pub(super) fn one(task: TaskNo, index: MapIndex) -> Self {
        Self {
            task,
            only: Some(index),
        }
    }
}

/// All tasks of a run.
#[derive(Debug)]
pub(super) struct Book {
    pub graph: SharedGraph,
    /// Lengths of the results of tasks that are not mapped, by task.
    pub lengths: Vec<Option<u64>>,
    tasks: Vec<TaskBook>,
    looks: BTreeSet<Look>,
    /// What is left to look at in this wave.
    wave: BTreeSet<Look>,
    /// States decided in this wave and not counted yet. Map dependencies see them at once, trigger rules in the next wave.
    decided: HashMap<TaskNo, Vec<(MapIndex, TaskState)>>,
    /// Instances that have not ended.
    pub unfinished: u32,
    /// Instances that something else is at work on: scheduled, queued, running, restarting.
    pub active: u32,
    /// Instances that wait for a trigger or a person.
    pub parked: u32,
    /// Failed instances of tasks that decide the run.
    pub deciding_failures: u32,
}

impl Book {
    pub(super) fn new(graph: SharedGraph) -> Self {
        let mut tasks = vec![TaskBook::default(); graph.len()];
        for number in graph.numbers() {
            let derived = graph.derived(number);
            if !derived.upstream_expands {
                let up = &mut tasks[number.at()].up;
                up.total = u32::try_from(graph.upstream(number).len()).expect("a Dag has fewer than 2^32 tasks");
                up.setups = derived.upstream_setups;
            }
        }
        Self {
            lengths: vec![None; graph.len()],
            graph,
            tasks,
            looks: BTreeSet::new(),
            wave: BTreeSet::new(),
            decided: HashMap::new(),
            unfinished: 0,
            active: 0,
            parked: 0,
            deciding_failures: 0,
        }
    }

    pub(super) fn task(&self, number: TaskNo) -> &TaskBook {
        &self.tasks[number.at()]
    }

    pub(super) fn get(&self, number: TaskNo, index: MapIndex) -> Option<&Inst> {
        self.task(number).get(index)
    }

    pub(super) fn look(&mut self, look: Look) {
        self.looks.insert(look);
    }

    pub(super) fn look_at_everything(&mut self) {
        for number in self.graph.numbers() {
            if self.task(number).open > 0 {
                self.looks.insert(Look::all(number));
            }
        }
    }

    /// Remembers a decision until the wave is over.
    pub(super) fn decide(&mut self, number: TaskNo, index: MapIndex, state: TaskState) {
        self.decided.entry(number).or_default().push((index, state));
        let graph = SharedGraph::clone(&self.graph);
        let later = graph
            .derived(number)
            .map_dependents
            .iter()
            .filter(|task| **task > number);
        self.wave.extend(later.map(|task| Look::all(*task)));
    }

    pub(super) fn end_wave(&mut self) {
        self.decided.clear();
    }

    /// The state in which the unmapped instance of a task ended, decisions of this wave included.
    pub(super) fn ended_unmapped(&self, number: TaskNo) -> Option<TaskState> {
        let decided = self.decided.get(&number);
        let decided = decided.and_then(|all| all.iter().rev().find(|(index, _)| *index == UNMAPPED));
        match decided {
            Some((_, state)) => Some(*state),
            None => self
                .task(number)
                .unmapped
                .as_ref()
                .filter(|inst| inst.is_finished())
                .and_then(|inst| inst.state),
        }
    }

    /// Whether all instances have ended, decisions of this wave included.
    pub(super) fn will_be_complete(&self, number: TaskNo) -> bool {
        let book = self.task(number);
        let unfinished = |index: &MapIndex| book.get(*index).is_some_and(|inst| !inst.is_finished());
        let decided: BTreeSet<MapIndex> = self
            .decided
            .get(&number)
            .map(|all| all.iter().map(|(index, _)| *index).filter(unfinished).collect())
            .unwrap_or_default();
        usize::try_from(book.own.total - book.own.done()).is_ok_and(|open| open == decided.len())
    }

    /// Begins a wave with everything noted so far; false where there is nothing.
    pub(super) fn begin_wave(&mut self) -> bool {
        self.wave = std::mem::take(&mut self.looks);
        !self.wave.is_empty()
    }

    /// What to look at next in this wave.
    pub(super) fn next_look(&mut self) -> Option<Look> {
        let look = self.wave.pop_first()?;
        if look.only.is_none() {
            while self.wave.first().is_some_and(|next| next.task == look.task) {
                self.wave.pop_first();
            }
        }
        Some(look)
    }

    /// Sets a state in place.
    pub(super) fn set_state(
        &mut self,
        number: TaskNo,
        index: MapIndex,
        state: Option<TaskState>,
        try_number: i32,
        now: Timestamp,
    ) {
        let Some(inst) = self.get(number, index) else { return };
        let mut inst = inst.clone();
        inst.state = state;
        inst.try_number = try_number;
        if inst.is_finished() {
            inst.end_date = Some(now);
        }
        self.put(number, index, Some(inst));
    }

    /// Puts, replaces or (none) takes out an instance, keeps all counts, and notes what to look at again.
    #[expect(clippy::needless_pass_by_value, reason = "callers give it away")]
    pub(super) fn put(&mut self, number: TaskNo, index: MapIndex, new: Option<Inst>) {
        let slot = self.tasks[number.at()].slot(index);
        if *slot == new {
            return;
        }
        let old = slot.clone();
        slot.clone_from(&new);
        if new.as_ref().is_some_and(Inst::is_open) {
            self.look(Look::one(number, index));
        }
        self.count(number, index, old.as_ref(), new.as_ref());
        if new.is_none() {
            self.tasks[number.at()].trim();
        }
        self.tell(number, index, old.as_ref(), new.as_ref());
    }

    /// Notes what a change of one instance can change for others.
    fn tell(&mut self, number: TaskNo, index: MapIndex, old: Option<&Inst>, new: Option<&Inst>) {
        let ended = |inst: Option<&Inst>| inst.filter(|i| i.is_finished()).and_then(|i| i.state);
        let has_result = |inst: Option<&Inst>| inst.is_some_and(|i| i.has_result);
        let both_exist = old.is_some() && new.is_some();
        if ended(old) != ended(new) || !both_exist {
            self.tell_downstream(number, index, ended(new), both_exist);
        } else if has_result(old) != has_result(new) {
            self.tell_watchers(number);
        }
    }

    fn count(&mut self, number: TaskNo, index: MapIndex, old: Option<&Inst>, new: Option<&Inst>) {
        let graph = SharedGraph::clone(&self.graph);
        let is_setup = graph.task(number).is_setup;
        let decides = graph.derived(number).decides_run;
        if let Some(old) = old {
            self.count_totals(old, decides, u32::wrapping_sub);
            let book = &mut self.tasks[number.at()];
            book.own.total -= 1;
            book.own.take(old.state, is_setup);
            book.open -= u32::from(old.is_open());
            if index >= 0 {
                book.indices -= 1;
                book.results -= u32::from(old.has_result);
            }
        }
        if let Some(new) = new {
            self.count_totals(new, decides, u32::wrapping_add);
            let book = &mut self.tasks[number.at()];
            book.own.total += 1;
            book.own.add(new.state, is_setup);
            book.open += u32::from(new.is_open());
            if index >= 0 {
                book.indices += 1;
                book.results += u32::from(new.has_result);
            }
        }
        for down in &graph.task(number).downstream {
            let rows_count = graph.derived(*down).upstream_expands;
            let up = &mut self.tasks[down.at()].up;
            if let Some(old) = old {
                up.take(old.state, is_setup);
                if rows_count {
                    up.total -= 1;
                    up.setups -= u32::from(is_setup);
                }
            }
            if let Some(new) = new {
                up.add(new.state, is_setup);
                if rows_count {
                    up.total += 1;
                    up.setups += u32::from(is_setup);
                }
            }
        }
    }

    fn count_totals(&mut self, inst: &Inst, decides: bool, apply: fn(u32, u32) -> u32) {
        use TaskState::{AwaitingInput, Deferred, Queued, Restarting, Running, Scheduled};
        let tick = |count: &mut u32, when: bool| *count = apply(*count, u32::from(when));
        tick(&mut self.unfinished, !inst.is_finished());
        tick(
            &mut self.active,
            matches!(inst.state, Some(Scheduled | Queued | Running | Restarting)),
        );
        tick(&mut self.parked, matches!(inst.state, Some(Deferred | AwaitingInput)));
        tick(
            &mut self.deciding_failures,
            decides && inst.state.is_some_and(TaskState::is_failure),
        );
    }

    /// Notes which instances below must be looked at again.
    fn tell_downstream(&mut self, number: TaskNo, index: MapIndex, ended: Option<TaskState>, only_state: bool) {
        let graph = SharedGraph::clone(&self.graph);
        let complete = self.task(number).is_complete();
        for down in &graph.task(number).downstream {
            if self.task(*down).open == 0 {
                continue;
            }
            match self.instances_below(number, index, *down) {
                Some(range) => {
                    self.look(Look::one(*down, UNMAPPED));
                    for below in range {
                        self.look(Look::one(*down, below));
                    }
                }
                None => {
                    let rule = graph.task(*down).trigger_rule;
                    let plain = graph.derived(*down).upstream_expands && self.task(*down).up.removed == 0;
                    if !only_state || !plain || super::rule::can_matter(rule, ended, complete) {
                        self.look(Look::all(*down));
                    }
                }
            }
        }
        self.tell_watchers(number);
    }

    pub(super) fn tell_watchers(&mut self, number: TaskNo) {
        let graph = SharedGraph::clone(&self.graph);
        let derived = graph.derived(number);
        let complete = self.task(number).is_complete();
        for task in derived
            .watchers
            .iter()
            .chain(derived.map_dependents.iter().filter(|_| complete))
        {
            if self.task(*task).open > 0 {
                self.look(Look::all(*task));
            }
        }
    }
}
