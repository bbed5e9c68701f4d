//! The rows of a run as a store keeps them, for tests that replay what was recorded.

use std::collections::BTreeMap;

use isobar_engine::planner::{Command, Instance, NewInstance};
use isobar_model::{MapIndex, RunState, TaskId, TaskKey, TaskState};

pub(crate) type Place = (TaskId, MapIndex);

/// The rows of a run, kept as a store would keep them.
pub(crate) struct Rows {
    pub(crate) instances: BTreeMap<Place, Instance>,
    pub(crate) max_tries: BTreeMap<Place, i32>,
    pub(crate) run: RunState,
}

impl Rows {
    pub(crate) fn new(new: Vec<NewInstance>) -> Self {
        let mut rows = Self {
            instances: BTreeMap::new(),
            max_tries: BTreeMap::new(),
            run: RunState::Running,
        };
        rows.create(new);
        rows
    }

    fn state_mut(&mut self, key: &TaskKey, from: (Option<TaskState>, i32)) -> &mut Instance {
        let row = self
            .instances
            .get_mut(&place(key))
            .expect("commands name instances there are");
        assert_eq!((row.state, row.try_number), from, "compare-and-set of {key:?}");
        row
    }

    pub(crate) fn create(&mut self, new: Vec<NewInstance>) {
        for instance in new {
            let place = place(&instance.key);
            self.max_tries.insert(place.clone(), instance.max_tries);
            assert!(
                self.instances.insert(place, blank(instance.key)).is_none(),
                "made twice"
            );
        }
    }

    pub(crate) fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Create(new) => self.create(new),
                Command::PlaceholderBecomesFirst { task_id } => {
                    let mut row = self
                        .instances
                        .remove(&(task_id.clone(), -1))
                        .expect("there is a placeholder");
                    row.key.map_index = 0;
                    let tries = self
                        .max_tries
                        .remove(&(task_id.clone(), -1))
                        .expect("as many as instances");
                    self.max_tries.insert((task_id.clone(), 0), tries);
                    assert!(self.instances.insert((task_id, 0), row).is_none());
                }
                Command::DeletePlaceholder { task_id } => {
                    assert!(self.instances.remove(&(task_id, -1)).is_some());
                }
                Command::SetState { key, from, to, .. } => self.state_mut(&key, from).state = to,
                Command::Ready {
                    key, from, try_number, ..
                } => {
                    let row = self.state_mut(&key, from);
                    row.state = Some(TaskState::Scheduled);
                    row.try_number = try_number;
                }
                Command::SucceedAtOnce { key, from, try_number } => {
                    let row = self.state_mut(&key, from);
                    row.state = Some(TaskState::Success);
                    row.try_number = try_number;
                }
                Command::FinishRun(end) => self.run = end.state,
                Command::DeferAtOnce { .. } | Command::WakeAt(_) => {}
            }
        }
    }
}

fn place(key: &TaskKey) -> Place {
    (key.task_id.clone(), key.map_index)
}

fn blank(key: TaskKey) -> Instance {
    Instance {
        key,
        state: None,
        try_number: 0,
        end_date: None,
        retry_delay_override: None,
        reschedule_date: None,
        has_result: false,
    }
}
