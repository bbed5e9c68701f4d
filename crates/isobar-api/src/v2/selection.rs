//! Which task instances a request means: tasks and single mapped instances, with their relatives, in one run or many.

use std::collections::BTreeSet;

use isobar_engine::dagplan::NextRun;
use isobar_engine::timetable::{Bound, Timetable};
use isobar_model::dag::{SerializedDag, TaskIdx};
use isobar_model::{RunKey, TaskState};
use isobar_store::Tx;
use isobar_store::lists::runs::{self, RunFilter, RunRow};
use isobar_store::lists::task_instances::{self as instances, InstanceFilter, InstanceRow};
use isobar_store::lists::{Page, TimeRange};
use jiff::Timestamp;

use super::run_dates::unanswered;
use crate::ApiError;
use crate::extract::{Ask, Target};

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

    /// Adds everything before or after, directly or not, with the set-ups and teardowns that go with it. A relative inside
    /// the same mapped group has the same map index.
    pub(super) fn add_relatives(&mut self, dag: &SerializedDag, direction: Direction) {
        let mut from = self.clone();
        let is_mapped = |id: &String| {
            dag.find_task(id)
                .is_some_and(|task| dag.task(task).needs_expansion || dag.groups().mapped_around(task).next().is_some())
        };
        from.whole.extend(
            from.single
                .iter()
                .map(|(id, _)| id)
                .filter(|id| !is_mapped(id))
                .cloned(),
        );
        let mut beyond = BTreeSet::new();
        for (id, map_index) in from.single.iter().filter(|(id, _)| is_mapped(id)) {
            let Some(task) = dag.find_task(id) else { continue };
            let group_of = |task| dag.groups().mapped_around(task).next().map(|(group, _)| group);
            for relative in relatives(dag, task, direction) {
                let beside = dag.find_task(&relative).and_then(group_of);
                if group_of(task).is_some() && group_of(task) == beside {
                    self.single.insert((relative, *map_index));
                } else {
                    beyond.insert(relative);
                }
            }
        }
        self.whole.extend(subset(dag, &from.whole, Some(direction)));
        self.whole.extend(subset(dag, &beyond, Some(direction)));
        self.whole.extend(beyond);
        self.settle();
    }

    /// Adds the set-ups and teardowns without which these tasks make no sense.
    pub(super) fn add_fixtures(&mut self, dag: &SerializedDag) {
        let ids = self.ids().into_iter().collect();
        self.whole.extend(subset(dag, &ids, None).difference(&ids).cloned());
        self.settle();
    }

    /// What stands below some tasks, with the set-ups and teardowns that go with it, without the tasks themselves.
    pub(super) fn below(dag: &SerializedDag, ids: &BTreeSet<String>) -> Self {
        Self {
            whole: subset(dag, ids, Some(Direction::Down))
                .difference(ids)
                .cloned()
                .collect(),
            single: BTreeSet::new(),
        }
    }

    fn settle(&mut self) {
        self.single.retain(|(id, _)| !self.whole.contains(id));
    }
}

/// What Airflow's `partial_subset` adds to some tasks: their relatives in a direction, the set-ups before them that matter to
/// them (those without teardown, or with one after them), and the teardowns of these.
fn subset(dag: &SerializedDag, ids: &BTreeSet<String>, direction: Option<Direction>) -> BTreeSet<String> {
    let graph = dag.graph();
    let mut found: BTreeSet<TaskIdx> = BTreeSet::new();
    let named: BTreeSet<TaskIdx> = ids.iter().filter_map(|id| dag.find_task(id)).collect();
    for task in &named {
        let spec = dag.task(*task);
        let is_work = !spec.is_setup && !spec.is_teardown;
        match direction {
            Some(Direction::Down) => {
                for below in graph.descendants(*task) {
                    found.insert(below);
                    if !named.contains(&below) && !dag.task(below).is_setup && !dag.task(below).is_teardown {
                        found.extend(fixtures(dag, below));
                    }
                }
            }
            Some(Direction::Up) => {
                for above in graph.ancestors(*task) {
                    found.insert(above);
                    if dag.task(above).is_setup {
                        found.extend(teardowns(dag, above).filter(|teardown| teardown != task));
                    }
                }
            }
            None => {}
        }
        if direction != Some(Direction::Up) && is_work {
            found.extend(fixtures(dag, *task));
        }
        if direction != Some(Direction::Down) && spec.is_setup {
            found.extend(teardowns(dag, *task));
        }
    }
    found.into_iter().map(|task| graph.id(task).to_string()).collect()
}

fn teardowns(dag: &SerializedDag, setup: TaskIdx) -> impl Iterator<Item = TaskIdx> + '_ {
    dag.graph()
        .downstream(setup)
        .iter()
        .copied()
        .filter(|task| dag.task(*task).is_teardown)
}

/// The set-ups before a task that matter to it, and their teardowns.
fn fixtures(dag: &SerializedDag, task: TaskIdx) -> BTreeSet<TaskIdx> {
    let after: BTreeSet<TaskIdx> = dag.graph().descendants(task).into_iter().collect();
    let mut found = BTreeSet::new();
    for above in dag.graph().ancestors(task) {
        if !dag.task(above).is_setup {
            continue;
        }
        let mut own = teardowns(dag, above).peekable();
        if own.peek().is_none() || own.any(|teardown| after.contains(&teardown)) {
            found.insert(above);
            found.extend(teardowns(dag, above).filter(|teardown| *teardown != task));
        }
    }
    found
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

/// The runs that marking reaches from one: itself and, where asked for, those of earlier and later logical dates. It may wait for the
/// team's Python, so it reads by itself and is called with no transaction open.
pub(super) async fn runs_around(
    ask: &Ask,
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
    let by_clock = dag.timetable.can_be_scheduled();
    if by_clock && !dag.timetable.is_periodic() {
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
    let found = {
        let mut tx = ask.state.store.read().await?;
        runs::list(&mut tx, &target.scope.into(), &filter, &order, ALL).await?
    };
    let dates: Vec<Timestamp> = found.rows.iter().filter_map(|row| row.logical_date).collect();
    let span = dates.iter().min().copied().zip(dates.iter().max().copied());
    let scheduled = match span {
        Some(span) if by_clock => scheduled_dates(ask, target, dag, span).await?,
        _ => None,
    };
    // Of a Dag with a clock, runs made by hand for other dates are left alone.
    let meant = |at: &Timestamp| *at == date || scheduled.as_ref().is_none_or(|dates| dates.contains(at));
    Ok(found
        .rows
        .into_iter()
        .filter(|row| row.logical_date.as_ref().is_some_and(meant))
        .map(|row| row.run_id.to_string())
        .collect())
}

/// The logical dates that the Dag's own timetable has in a span; none where it cannot say.
async fn scheduled_dates(
    ask: &Ask,
    target: &Target,
    dag: &SerializedDag,
    (first, last): (Timestamp, Timestamp),
) -> Result<Option<BTreeSet<Timestamp>>, ApiError> {
    let Ok(timetable) = Timetable::from_model(&dag.timetable) else {
        return Ok(None);
    };
    let span = (Bound::utc(first), Bound::utc(last));
    let runs: Option<Vec<NextRun>> = match timetable.question() {
        None => timetable.runs_between(span.0, span.1, Timestamp::MAX).ok(),
        Some(question) => {
            let (asked, dag_id) = (&ask.state.execution, dag.dag_id.as_str());
            let asking = asked.ask_runs_between(target.scope, dag_id, question, span, None);
            let runs = asking.await.map_err(unanswered)?;
            runs.map(|runs| runs.into_iter().map(|(run, _)| run).collect())
        }
    };
    Ok(runs.map(|runs| runs.iter().filter_map(NextRun::logical_date).collect()))
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
