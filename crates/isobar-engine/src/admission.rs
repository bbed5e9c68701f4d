//! Admission: the one place that hands out slots, for the whole organisation.
//!
//! Candidates (instances in state `scheduled`) wait here until the team's share, the executor, the pool and the Dag's and task's
//! limits have room. Then a [`Command::Queue`] says so, and they count as occupying from that moment.

mod event;
mod lines;
mod news;
mod queue;
mod resource;
mod share;
mod why;

use std::collections::{BTreeSet, HashMap};

use isobar_model::{TaskState, TeamId};

pub use event::{
    Candidate, Command, DagKey, DagLimits, Event, ExecutorKey, ExecutorSlots, Holder, InstanceKey, PoolKey, PoolLimits,
    TeamShare, Waiting,
};
pub use news::News;
use queue::{BucketNo, Buckets, Order};
use resource::{Limit, ResourceKey, ResourceNo, Resources};
use share::Teams;

/// The admission engine. See the [module](self).
#[derive(Debug, Default)]
pub struct Admission {
    teams: Teams,
    resources: Resources,
    buckets: Buckets,
    entries: HashMap<InstanceKey, Entry>,
    dags: HashMap<DagKey, DagEntry>,
    parallelism: Option<u32>,
    holding: u32,
    arrivals: u64,
}

/// An instance that waits or holds.
#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    needs: Vec<(ResourceNo, u32)>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting(BucketNo, Order),
    Holding(TaskState),
}

/// A Dag's limits, and its runs that are known here.
#[derive(Debug, Default)]
struct DagEntry {
    limits: Option<DagLimits>,
    runs: BTreeSet<ResourceNo>,
}

impl DagEntry {
    fn limit(&self) -> Limit {
        match &self.limits {
            Some(limits) if !limits.paused => Limit::Slots(i64::from(limits.max_active_tasks)),
            _ => Limit::Closed,
        }
    }
}

impl Admission {
    /// An engine that knows nothing: it admits nothing until told of executors, pools and Dags.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one event and says who is admitted now.
    pub fn step(&mut self, event: Event, out: &mut Vec<Command>) {
        self.step_all([event], out);
    }

    /// Takes in several events before it says who is admitted: what one of them frees is not given to whom another takes out.
    pub fn step_all(&mut self, events: impl IntoIterator<Item = Event>, out: &mut Vec<Command>) {
        for event in events {
            self.take_in(event);
        }
        self.admit(out);
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Ready(candidates) => candidates.into_iter().for_each(|candidate| self.wait(candidate)),
            Event::Holding(holders) => {
                for Holder { candidate, state } in holders {
                    self.hold_from_before(candidate, state);
                }
            }
            Event::StateChanged(changes) => {
                for (key, state) in changes {
                    self.state_changed(&key, state);
                }
            }
            Event::Removed(keys) => keys.iter().for_each(|key| self.forget(key)),
            Event::Pools(pools) => pools.into_iter().for_each(|pool| self.set_pool(pool)),
            Event::PoolsDeleted(pools) => {
                for pool in pools {
                    self.set_limit(ResourceKey::Pool(pool), Limit::Closed);
                }
            }
            Event::Teams(shares) => shares.into_iter().for_each(|share| self.teams.set_share(share)),
            Event::Executors(executors) => {
                for ExecutorSlots { executor, slots } in executors {
                    let limit = slots.map_or(Limit::Unlimited, |slots| Limit::Slots(i64::from(slots)));
                    self.set_limit(ResourceKey::Executor(executor), limit);
                }
            }
            Event::ExecutorsGone(executors) => {
                for executor in executors {
                    self.set_limit(ResourceKey::Executor(executor), Limit::Closed);
                }
            }
            Event::Dags(dags) => dags.into_iter().for_each(|limits| self.set_dag(limits)),
            Event::Parallelism(slots) => self.parallelism = slots,
        }
    }

    /// Slots in use in the whole organisation.
    #[must_use]
    pub fn holding(&self) -> u32 {
        self.holding
    }

    /// Whether an instance was let through and holds its slots still.
    #[must_use]
    pub fn is_holding(&self, key: &InstanceKey) -> bool {
        let entry = self.entries.get(key);
        entry.is_some_and(|entry| matches!(entry.place, Place::Holding(_)))
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| matches!(entry.place, Place::Waiting(..)))
            .count()
    }

    fn set_pool(&mut self, pool: PoolLimits) {
        let number = self.resources.obtain(ResourceKey::Pool(pool.pool));
        let resource = self.resources.get_mut(number);
        resource.counts_deferred = pool.include_deferred;
        resource.limit = if pool.slots < 0 {
            Limit::Unlimited
        } else {
            Limit::Slots(pool.slots)
        };
        self.hear(number);
    }

    fn set_limit(&mut self, key: ResourceKey, limit: Limit) {
        let number = self.resources.obtain(key);
        self.resources.get_mut(number).limit = limit;
        self.hear(number);
    }

    fn set_dag(&mut self, limits: DagLimits) {
        let entry = self.dags.entry(limits.dag.clone()).or_default();
        entry.limits = Some(limits);
        let limit = entry.limit();
        let runs: Vec<ResourceNo> = entry.runs.iter().copied().collect();
        for run in runs {
            self.resources.get_mut(run).limit = limit;
            self.hear(run);
        }
    }

    /// References what a candidate needs; the first of it is its run, which gets the Dag's limit.
    fn reference(&mut self, candidate: &Candidate) -> Vec<(ResourceNo, u32)> {
        let needs = self.resources.reference(candidate);
        let dag = self.dags.entry(candidate.key.dag.clone()).or_default();
        let run = needs[0].0;
        if dag.runs.insert(run) {
            self.resources.get_mut(run).limit = dag.limit();
        }
        needs
    }

    fn release(&mut self, dag: &DagKey, run: &ResourceKey, needs: &[(ResourceNo, u32)]) {
        self.resources.release(needs);
        if self.resources.find(run).is_none()
            && let Some(dag) = self.dags.get_mut(dag)
        {
            dag.runs.remove(&needs[0].0);
        }
    }

    fn wait(&mut self, candidate: Candidate) {
        let known = self.entries.get(&candidate.key);
        if known.is_some_and(|entry| matches!(entry.place, Place::Waiting(..)) && entry.candidate == candidate) {
            return;
        }
        let needs = self.reference(&candidate);
        self.forget(&candidate.key);
        self.arrivals += 1;
        let order = Order::of(&candidate, self.arrivals);
        let bucket = self.enqueue(candidate.key.dag.team, &needs, order, candidate.key.clone());
        let entry = Entry {
            needs,
            place: Place::Waiting(bucket, order),
            candidate,
        };
        self.entries.insert(entry.candidate.key.clone(), entry);
    }

    fn hold_from_before(&mut self, candidate: Candidate, state: TaskState) {
        let needs = self.reference(&candidate);
        self.forget(&candidate.key);
        self.take(candidate.key.dag.team, &needs, state);
        let entry = Entry {
            needs,
            place: Place::Holding(state),
            candidate,
        };
        self.entries.insert(entry.candidate.key.clone(), entry);
    }

    fn state_changed(&mut self, key: &InstanceKey, state: Option<TaskState>) {
        let Some(entry) = self.entries.get(key) else { return };
        let candidate = entry.candidate.clone();
        match state {
            Some(TaskState::Scheduled) => self.wait(candidate),
            Some(state) if holds(state) => {
                if entry.place != Place::Holding(state) {
                    self.hold_from_before(candidate, state);
                }
            }
            _ => self.forget(key),
        }
    }

    /// Takes an instance out, whether it waits or holds.
    fn forget(&mut self, key: &InstanceKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        let team = key.dag.team;
        match entry.place {
            Place::Waiting(bucket, order) => self.dequeue(bucket, order),
            Place::Holding(state) => self.give_back(team, &entry.needs, state),
        }
        let run = ResourceKey::Run(key.dag.clone(), key.run_id.clone());
        self.release(&key.dag, &run, &entry.needs);
    }

    fn take(&mut self, team: TeamId, needs: &[(ResourceNo, u32)], state: TaskState) {
        self.resources.take(needs, state);
        if is_at_work(state) {
            self.holding += 1;
            self.teams.update(team, |team| team.holding += 1);
        }
    }

    fn give_back(&mut self, team: TeamId, needs: &[(ResourceNo, u32)], state: TaskState) {
        self.resources.give_back(needs, state);
        if is_at_work(state) {
            self.holding -= 1;
            self.teams.update(team, |team| team.holding -= 1);
        }
        for (number, _) in needs {
            self.hear(*number);
        }
    }

    fn has_parallelism(&self) -> bool {
        self.parallelism.is_none_or(|slots| self.holding < slots)
    }

    /// Hands out what there is, one slot at a time, to the team whose turn it is.
    fn admit(&mut self, out: &mut Vec<Command>) {
        let mut admitted = Vec::new();
        while self.has_parallelism() {
            let room = |resource, wanted| self.resources.get(resource).has_room(wanted);
            let Some(team) = self.teams.next(room) else { break };
            self.gather(team);
            let Some((_, bucket)) = self.teams.get(team).and_then(|team| team.free.first().copied()) else {
                break;
            };
            if let Some((number, wanted)) = self.obstacle(bucket) {
                self.park(bucket, number, wanted);
                continue;
            }
            let key = self.pop(bucket);
            let entry = self.entries.get_mut(&key).expect("who waits in a bucket has an entry");
            entry.place = Place::Holding(TaskState::Queued);
            admitted.push(entry.candidate.clone());
            let needs = entry.needs.clone();
            self.resources.take(&needs, TaskState::Queued);
            self.holding += 1;
            self.teams.serve(team);
        }
        if !admitted.is_empty() {
            out.push(Command::Queue(admitted));
        }
    }

    /// What has no room for the bucket's candidates.
    fn obstacle(&self, bucket: BucketNo) -> Option<(ResourceNo, u32)> {
        let needs = &self.buckets.get(bucket).needs;
        needs
            .iter()
            .copied()
            .find(|(number, wanted)| !self.resources.get(*number).has_room(*wanted))
    }
}

fn is_at_work(state: TaskState) -> bool {
    matches!(state, TaskState::Queued | TaskState::Running | TaskState::Restarting)
}

fn holds(state: TaskState) -> bool {
    is_at_work(state) || matches!(state, TaskState::Deferred | TaskState::AwaitingInput)
}
