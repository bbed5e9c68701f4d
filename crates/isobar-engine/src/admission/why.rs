//! Why an instance waits.

use super::event::{InstanceKey, Waiting};
use super::resource::{Limit, ResourceKey};
use super::{Admission, Place};

impl Admission {
    /// Why an instance waits: the first thing that has no room for it.
    #[must_use]
    pub fn why(&self, key: &InstanceKey) -> Waiting {
        let Some(entry) = self.entries.get(key) else {
            return Waiting::NotHere;
        };
        let Place::Waiting(bucket, _) = entry.place else {
            return Waiting::NotHere;
        };
        if let Some((number, wants)) = self.obstacle(bucket) {
            let resource = self.resources.get(number);
            let slots = match resource.limit {
                Limit::Slots(slots) => u32::try_from(slots).unwrap_or(0),
                Limit::Closed | Limit::Unlimited => 0,
            };
            return match &resource.key {
                ResourceKey::Run(..) if resource.limit == Limit::Closed => Waiting::DagPaused,
                ResourceKey::Run(..) => Waiting::MaxActiveTasks(slots),
                ResourceKey::Executor(executor) => Waiting::Executor(executor.clone()),
                ResourceKey::Pool(pool) => Waiting::Pool {
                    pool: pool.clone(),
                    wants,
                    free: resource.free(),
                },
                ResourceKey::Task(..) => Waiting::MaxActiveTisPerDag(slots),
                ResourceKey::TaskInRun(..) => Waiting::MaxActiveTisPerDagrun(slots),
            };
        }
        let limit = self.teams.get(key.dag.team).and_then(|team| {
            let max = team.share.max_running?;
            (team.holding >= max).then_some(max)
        });
        match limit {
            Some(max_running) => Waiting::TeamLimit { max_running },
            None if !self.has_parallelism() => Waiting::Parallelism,
            None => Waiting::ItsTurn,
        }
    }
}
