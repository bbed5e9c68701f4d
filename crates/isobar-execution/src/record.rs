//! Audit records of what tasks and parses change (rule 26). Changes of state have theirs in the store's transitions.

use isobar_store::audit::Record;
use isobar_wire::execution::Caller;

/// A record that names who did it.
pub(crate) fn record(event: &'static str, caller: &Caller) -> Record {
    match caller {
        Caller::Task(task) => Record::new(event, &format!("task:{}.{}", task.dag_id, task.task_id))
            .dag(&task.dag_id)
            .run(&task.run_id)
            .task(&task.task_id, Some(task.map_index)),
        Caller::Parse { bundle, .. } => Record::new(event, &format!("parse:{bundle}")),
        Caller::Trigger { .. } => Record::new(event, "triggerer"),
    }
}
