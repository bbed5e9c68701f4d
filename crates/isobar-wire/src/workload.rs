//! What an executor is handed: one try of one task instance, and where its file and its log are.

use serde::{Deserialize, Serialize};

use crate::execution::TaskIdentity;

/// One task to run, under one identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Who it runs as.
    pub identity: TaskIdentity,
    /// The Dag version it runs.
    pub dag_version_id: uuid::Uuid,
    /// Path of the Dag file below the bundle.
    pub dag_rel_path: String,
    /// The bundle's name.
    pub bundle: String,
    /// The bundle's version, where it has one.
    pub bundle_version: Option<String>,
    /// Log path below the log folder, beginning with the team (rule 29).
    pub log_path: String,
    /// The queue that the task names.
    pub queue: String,
    /// The executor's name inside the team's list.
    pub executor: String,
    /// Slots that it takes of its pool.
    pub pool_slots: i32,
    /// Its total priority weight.
    pub priority_weight: i32,
}

/// How an executor saw a workload end. The task's state is what the Execution API was told; this only finds losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadEnded {
    /// Which one.
    pub identity: TaskIdentity,
    /// What went wrong, none where the executor saw nothing wrong.
    pub failure: Option<String>,
    /// Whether its process died before its callbacks could run, so that the dag-processor must run them.
    #[serde(default)]
    pub callbacks_lost: bool,
}

/// Where a try's log lies below the log folder: Airflow's default layout below the team's name (rule 29).
#[must_use]
pub fn log_path(task: &TaskIdentity) -> String {
    let plain = |text: &str| text.replace('/', "_");
    let mapped = if task.map_index >= 0 {
        format!("map_index={}/", task.map_index)
    } else {
        String::new()
    };
    format!(
        "{}/dag_id={}/run_id={}/task_id={}/{mapped}attempt={}.log",
        task.team_name,
        plain(task.dag_id.as_str()),
        plain(task.run_id.as_str()),
        plain(task.task_id.as_str()),
        task.try_number
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_model::{Dispatch, TeamId, TeamName, TiId};

    #[test]
    fn a_log_path_begins_with_the_team_and_leads_nowhere_else() {
        let identity = TaskIdentity {
            team: TeamId(1),
            team_name: TeamName::parse("data-science").unwrap(),
            dag_id: "d".into(),
            run_id: "../../x".into(),
            task_id: "g.t".into(),
            map_index: 3,
            try_number: 2,
            ti_id: TiId::fresh(),
            dispatch: Dispatch(1),
        };
        assert_eq!(
            log_path(&identity),
            "data-science/dag_id=d/run_id=.._.._x/task_id=g.t/map_index=3/attempt=2.log"
        );
    }
}
