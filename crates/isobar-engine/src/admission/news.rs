//! What one pass of a scheduler has to tell admission, told at its end and once per instance.
//!
//! Told one by one and at once, admission would give away in the middle of a pass what later news of that pass take back: a run
//! that is read again leaves and comes, and in between its slots look free. So only the last news of an instance count, and
//! nobody is admitted before all of it is told.

use indexmap::IndexMap;
use isobar_model::TaskState;

use super::Admission;
use super::event::{Candidate, Command, Event, Holder, InstanceKey};

/// The last that is known of an instance.
#[derive(Debug)]
enum Last {
    Ready(Candidate),
    Holding(Candidate, TaskState),
    State(Option<TaskState>),
    Removed,
}

/// What admission is to be told.
#[derive(Debug, Default)]
pub struct News {
    limits: Vec<Event>,
    instances: IndexMap<InstanceKey, Last>,
}

impl News {
    /// Pools, teams, executors, Dags: what there is to give.
    pub fn limits(&mut self, event: Event) {
        self.limits.push(event);
    }

    /// An instance waits for a slot.
    pub fn ready(&mut self, candidate: Candidate) {
        let key = candidate.key.clone();
        // Among those of one pass the later one waits behind.
        self.instances.shift_remove(&key);
        self.instances.insert(key, Last::Ready(candidate));
    }

    /// An instance holds slots, as its row says.
    pub fn holding(&mut self, candidate: Candidate, state: TaskState) {
        self.instances
            .insert(candidate.key.clone(), Last::Holding(candidate, state));
    }

    /// An instance that admission knows is in another state now.
    pub fn state(&mut self, key: InstanceKey, state: Option<TaskState>) {
        self.instances.insert(key, Last::State(state));
    }

    /// An instance is gone.
    pub fn removed(&mut self, key: InstanceKey) {
        self.instances.insert(key, Last::Removed);
    }

    /// Tells all of it; answers whom admission let through, in its order.
    pub fn tell(&mut self, admission: &mut Admission) -> Vec<Candidate> {
        let (mut ready, mut holding, mut changed, mut removed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (key, last) in self.instances.drain(..) {
            match last {
                Last::Ready(candidate) => ready.push(candidate),
                Last::Holding(candidate, state) => holding.push(Holder { candidate, state }),
                Last::State(state) => changed.push((key, state)),
                Last::Removed => removed.push(key),
            }
        }
        let mut events = vec![Event::Holding(holding)];
        events.append(&mut self.limits);
        events.extend([
            Event::Ready(ready),
            Event::StateChanged(changed),
            Event::Removed(removed),
        ]);
        let mut commands = Vec::new();
        admission.step_all(events, &mut commands);
        commands.into_iter().flat_map(|Command::Queue(queued)| queued).collect()
    }
}
