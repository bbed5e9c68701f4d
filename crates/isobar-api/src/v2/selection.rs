//! Which task instances a request means: tasks and single mapped instances, with their relatives, in one run or many.

use std::collections::BTreeSet;

use isobar_model::dag::{SerializedDag, TaskIdx};
use isobar_model::{RunKey, TaskState};
use isobar_store::Tx;
use isobar_store::lists::runs::{self, RunFilter, RunRow};
use isobar_store::lists::task_instances::{self as instances, InstanceFilter, InstanceRow};
use isobar_store::lists::{Page, TimeRange};
use jiff::Timestamp;

use crate::ApiError;
use crate::extract::Target;

/// Everything of a list.
const ALL: Page = Page {
    limit: u32::MAX,
    offset: 0,
};

/// Tasks, and single instances of mapped tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tasks {
    pub(super) whole: BTreeSet<String>,
    pub(super) single: BTreeSet<(String, i64)>,
}

/// Up or down the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl Tasks {
    /// Whether they hold this instance.
    pub(super) fn hold(&self, row: &InstanceRow) -> bool {
        self.whole.contains(row.task_id.as_str())
            || self
                .single
                .contains(&(row.task_id.to_string(), i64::from(row.map_index)))
    }

    /// The ids of all tasks named.
    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids = self.whole.clone();
        ids.extend(self.single.iter().map(|(id, _)| id.clone()));
        ids.into_iter().collect()
    }

    /// Adds everything before or after, directly or not. A relative inside the same mapped group has the same map index.
    pub(super) fn add_relatives(&mut self, dag: &SerializedDag, direction: Direction) {
        let from = self.clone();
        for id in &from.whole {
            let Some(task) = dag.find_task(id) else { continue };
            self.whole.extend(relatives(dag, task, direction));
        }
        for (id, map_index) in &from.single {
            let Some(task) = dag.find_task(id) else { continue };
            let own = dag.groups().mapped_around(task).next().map(|(group, _)| group);
            for relative in relatives(dag, task, direction) {
                let beside = dag
                    .find_task(&relative)
                    .and_then(|task| dag.groups().mapped_around(task).next().map(|(group, _)| group));
                if own.is_some() && own == beside {
                    self.single.insert((relative, *map_index));
                } else {
                    self.whole.insert(relative);
                }
            }
        }
        self.single.retain(|(id, _)| !self.whole.contains(id));
    }
}

/// The ids of what comes before or after a task.
pub(super) fn relatives(dag: &SerializedDag, task: TaskIdx, direction: Direction) -> Vec<String> {
    let found = match direction {
        Direction::Up => dag.graph().ancestors(task),
        Direction::Down => dag.graph().descendants(task),
    };
    found.into_iter().map(|task| dag.graph().id(task).to_string()).collect()
}

/// In which runs.
#[derive(Clone, Debug)]
pub(super) enum Runs {
    /// In one.
    One(isobar_model::RunId),
    /// In those with a logical date between these, both included.
    Between(Option<Timestamp>, Option<Timestamp>),
    /// In these.
    These(Vec<String>),
}

/// The instances of some tasks (all where none are named) in some runs, in some states (any where none are named).
pub(super) async fn find(
    tx: &mut Tx,
    target: &Target,
    tasks: Option<&Tasks>,
    among: &Runs,
    states: Vec<Option<TaskState>>,
) -> Result<Vec<InstanceRow>, ApiError> {
    let mut filter = InstanceFilter {
        dag_id: Some(target.dag_id()),
        task_ids: tasks.map(Tasks::ids),
        states,
        ..InstanceFilter::default()
    };
    match among {
        Runs::One(run_id) => filter.run_id = Some(run_id.clone()),
        Runs::These(ids) => filter.run_ids = Some(ids.clone()),
        Runs::Between(from, to) => {
            filter.logical_date = TimeRange {
                gte: *from,
                lte: *to,
                ..TimeRange::default()
            };
        }
    }
    let order = instances::ORDER.order(&["id".to_owned()])?;
    let mut found = instances::list(tx, &target.scope.into(), &filter, &order, ALL)
        .await?
        .rows;
    if let Some(tasks) = tasks {
        found.retain(|row| tasks.hold(row));
    }
    Ok(found)
}

/// The runs that marking reaches from one: itself and, where asked for, those of earlier and later logical dates.
pub(super) async fn runs_around(
    tx: &mut Tx,
    target: &Target,
    dag: &SerializedDag,
    run: &RunRow,
    past: bool,
    future: bool,
) -> Result<Vec<String>, ApiError> {
    let own = vec![run.run_id.to_string()];
    let Some(date) = run.logical_date.filter(|_| past || future) else {
        return Ok(own);
    };
    if dag.timetable.can_be_scheduled() && !dag.timetable.is_periodic() {
        return Ok(own);
    }
    let filter = RunFilter {
        dag_id: Some(target.dag_id()),
        logical_date: TimeRange {
            gte: (!past).then_some(date),
            lte: (!future).then_some(date),
            ..TimeRange::default()
        },
        ..RunFilter::default()
    };
    let order = runs::ORDER.order(&[])?;
    let found = runs::list(tx, &target.scope.into(), &filter, &order, ALL).await?;
    Ok(found
        .rows
        .into_iter()
        .filter(|row| row.logical_date.is_some())
        .map(|row| row.run_id.to_string())
        .collect())
}

/// Rows by the run they are of, in order of the runs' ids.
pub(super) fn by_run(rows: &[InstanceRow]) -> Vec<(RunKey, Vec<&InstanceRow>)> {
    let mut groups: std::collections::BTreeMap<&str, Vec<&InstanceRow>> = std::collections::BTreeMap::new();
    for row in rows {
        groups.entry(row.run_id.as_str()).or_default().push(row);
    }
    groups
        .into_values()
        .map(|rows| {
            let key = RunKey {
                dag_id: rows[0].dag_id.clone(),
                run_id: rows[0].run_id.clone(),
            };
            (key, rows)
        })
        .collect()
}
