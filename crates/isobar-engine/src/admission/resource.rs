//! Things with room for so many instances at a time: executors, pools, runs, tasks. And the lines of those who wait for room.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use isobar_model::{RunId, TaskId, TaskState, TeamId};

use super::event::{Candidate, DagKey, ExecutorKey, PoolKey};
use super::queue::{BucketNo, Order};

/// What has room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ResourceKey {
    Executor(ExecutorKey),
    Pool(PoolKey),
    /// `max_active_tasks` is a limit of one run.
    Run(DagKey, RunId),
    Task(DagKey, TaskId),
    TaskInRun(DagKey, RunId, TaskId),
}

/// The number of a resource while it is known.
pub(super) type ResourceNo = usize;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Unknown, gone or paused: none.
    Closed,
    Slots(i64),
    Unlimited,
}

/// A resource, what is taken of it, and who waits for it.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) key: ResourceKey,
    pub(super) limit: Limit,
    /// Slots that queued and running instances take.
    pub(super) used: i64,
    /// Slots that deferred instances would take.
    pub(super) deferred: i64,
    /// Whether they do.
    pub(super) counts_deferred: bool,
    /// Those who wait, by team and by how much they want.
    pub(super) lines: BTreeMap<(TeamId, u32), Line>,
    /// Instances, waiting or holding, that need it.
    references: usize,
}

/// Buckets that wait for the same room, best first. While there is room, one of them stands for all among those that may go.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) parked: BTreeSet<(Order, BucketNo)>,
    pub(super) speaker: Option<BucketNo>,
}

impl Resource {
    /// Whether several teams may want it. Their turn decides then; otherwise its lines speak as soon as there is room.
    pub(super) fn is_shared(&self) -> bool {
        match &self.key {
            ResourceKey::Executor(executor) => executor.owner.is_none(),
            ResourceKey::Pool(pool) => pool.owner.is_none(),
            _ => false,
        }
    }

    pub(super) fn free(&self) -> i64 {
        let taken = self.used + if self.counts_deferred { self.deferred } else { 0 };
        match self.limit {
            Limit::Closed => 0,
            Limit::Slots(slots) => slots - taken,
            Limit::Unlimited => i64::MAX,
        }
    }

    pub(super) fn has_room(&self, wanted: u32) -> bool {
        let free = self.free();
        free > 0 && free >= i64::from(wanted)
    }

    /// Takes or (negative) gives back what an instance in this state holds.
    fn hold(&mut self, state: TaskState, slots: i64) {
        let at_work = matches!(state, TaskState::Queued | TaskState::Running | TaskState::Restarting);
        let parked = matches!(state, TaskState::Deferred | TaskState::AwaitingInput);
        match self.key {
            ResourceKey::Task(..) | ResourceKey::TaskInRun(..) if at_work || parked => self.used += slots,
            ResourceKey::Pool(_) if state == TaskState::Deferred => self.deferred += slots,
            _ if at_work => self.used += slots,
            _ => {}
        }
    }
}

/// All resources.
#[derive(Debug, Default)]
pub(super) struct Resources {
    slots: Vec<Option<Resource>>,
    vacant: Vec<ResourceNo>,
    by_key: HashMap<ResourceKey, ResourceNo>,
}

impl Resources {
    pub(super) fn get(&self, number: ResourceNo) -> &Resource {
        self.slots[number].as_ref().expect("a referenced resource is kept")
    }

    pub(super) fn get_mut(&mut self, number: ResourceNo) -> &mut Resource {
        self.slots[number].as_mut().expect("a referenced resource is kept")
    }

    pub(super) fn find(&self, key: &ResourceKey) -> Option<ResourceNo> {
        self.by_key.get(key).copied()
    }

    /// The resource, made if it is not there.
    pub(super) fn obtain(&mut self, key: ResourceKey) -> ResourceNo {
        if let Some(number) = self.find(&key) {
            return number;
        }
        let resource = Resource {
            key: key.clone(),
            limit: Limit::Closed,
            used: 0,
            deferred: 0,
            counts_deferred: false,
            lines: BTreeMap::new(),
            references: 0,
        };
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[number] = Some(resource);
        self.by_key.insert(key, number);
        number
    }

    /// What a candidate needs, each with how much, in the order in which a person would ask; referenced until [`Self::release`].
    pub(super) fn reference(&mut self, candidate: &Candidate) -> Vec<(ResourceNo, u32)> {
        let dag = &candidate.key.dag;
        let run_id = &candidate.key.run_id;
        let task_id = &candidate.key.task.task_id;
        let mut needs = vec![
            (self.obtain(ResourceKey::Run(dag.clone(), run_id.clone())), 1),
            (self.obtain(ResourceKey::Executor(candidate.executor.clone())), 1),
            (
                self.obtain(ResourceKey::Pool(candidate.pool.clone())),
                candidate.pool_slots,
            ),
        ];
        if let Some(limit) = candidate.max_active_tis_per_dag {
            needs.push((self.limited(ResourceKey::Task(dag.clone(), task_id.clone()), limit), 1));
        }
        if let Some(limit) = candidate.max_active_tis_per_dagrun {
            let key = ResourceKey::TaskInRun(dag.clone(), run_id.clone(), task_id.clone());
            needs.push((self.limited(key, limit), 1));
        }
        for (number, _) in &needs {
            self.get_mut(*number).references += 1;
        }
        needs
    }

    fn limited(&mut self, key: ResourceKey, limit: u32) -> ResourceNo {
        let number = self.obtain(key);
        self.get_mut(number).limit = Limit::Slots(i64::from(limit));
        number
    }

    /// Lets go of what [`Self::reference`] gave. Runs and tasks that nobody needs are forgotten.
    pub(super) fn release(&mut self, needs: &[(ResourceNo, u32)]) {
        for (number, _) in needs {
            let resource = self.get_mut(*number);
            resource.references -= 1;
            let lasting = matches!(resource.key, ResourceKey::Executor(_) | ResourceKey::Pool(_));
            if resource.references == 0 && !lasting {
                let key = resource.key.clone();
                self.by_key.remove(&key);
                self.slots[*number] = None;
                self.vacant.push(*number);
            }
        }
    }

    /// Takes what an instance in this state holds.
    pub(super) fn take(&mut self, needs: &[(ResourceNo, u32)], state: TaskState) {
        for (number, wanted) in needs {
            self.get_mut(*number).hold(state, i64::from(*wanted));
        }
    }

    /// Gives it back.
    pub(super) fn give_back(&mut self, needs: &[(ResourceNo, u32)], state: TaskState) {
        for (number, wanted) in needs {
            self.get_mut(*number).hold(state, -i64::from(*wanted));
        }
    }
}
