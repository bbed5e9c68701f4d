//! Random runs, planned by Airflow 3.3.2 itself (`data/record_runs.py`) and by the planner, step by step.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_engine::graph::{DagSpec, RunGraph, TaskNo};
use isobar_engine::planner::{
    Changes, Command, Event, Instance, MapLength, Planner, RunFacts, RunSnapshot, SkipChoice, initial_instances,
};
use isobar_model::{MapIndex, RunId, RunState, RunType, TaskId, TaskKey, TaskState};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    dag: DagSpec,
    steps: Vec<Step>,
}

/// What happened, which states followed from it, and the state of the run.
type Step = (Vec<Happened>, Vec<(u32, MapIndex, String)>, String);

#[derive(Deserialize)]
#[serde(untagged)]
enum Happened {
    With(u32, MapIndex, String, Extra),
    Plain(u32, MapIndex, String),
    Both(u32, MapIndex, String, Extra, Extra),
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Extra {
    result: bool,
    length: Option<u64>,
    followed: Option<Vec<TaskId>>,
    skipped: Option<Vec<TaskId>>,
}

type States = BTreeMap<(u32, MapIndex), Option<TaskState>>;

/// The rows of a run, kept as a store would keep them.
struct Rows {
    graph: Arc<RunGraph>,
    instances: BTreeMap<(u32, MapIndex), Instance>,
    run: RunState,
}

impl Rows {
    fn number(&self, task_id: &TaskId) -> u32 {
        self.graph.find(task_id).expect("commands name tasks of the Dag").0
    }

    fn state_mut(&mut self, key: &TaskKey, from: (Option<TaskState>, i32)) -> &mut Instance {
        let place = (self.number(&key.task_id), key.map_index);
        let row = self
            .instances
            .get_mut(&place)
            .expect("commands name instances there are");
        assert_eq!((row.state, row.try_number), from, "compare-and-set of {key:?}");
        row
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Create(new) => {
                    for instance in new {
                        let place = (instance.task.0, instance.key.map_index);
                        assert!(
                            self.instances.insert(place, blank(instance.key)).is_none(),
                            "made twice: {place:?}"
                        );
                    }
                }
                Command::PlaceholderBecomesFirst { task_id } => {
                    let number = self.number(&task_id);
                    let mut row = self.instances.remove(&(number, -1)).expect("there is a placeholder");
                    row.key.map_index = 0;
                    assert!(self.instances.insert((number, 0), row).is_none());
                }
                Command::DeletePlaceholder { task_id } => {
                    let number = self.number(&task_id);
                    assert!(self.instances.remove(&(number, -1)).is_some());
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

    fn states(&self) -> States {
        self.instances.iter().map(|(place, row)| (*place, row.state)).collect()
    }
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

fn state(letter: &str) -> Option<TaskState> {
    Some(match letter {
        "n" => return None,
        "m" => TaskState::Removed,
        "c" => TaskState::Scheduled,
        "s" => TaskState::Success,
        "f" => TaskState::Failed,
        "t" => TaskState::UpForRetry,
        "e" => TaskState::UpForReschedule,
        "u" => TaskState::UpstreamFailed,
        "k" => TaskState::Skipped,
        other => panic!("no state is written {other}"),
    })
}

fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

/// Replays one recorded run; says at which step and in what the planner differs.
fn replay(recorded: Recorded, reload: bool) -> Result<(), String> {
    let graph = Arc::new(RunGraph::new(recorded.dag).unwrap());
    let date: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let run = RunFacts {
        run_id: RunId::from("r"),
        run_type: RunType::Manual,
        state: RunState::Running,
        logical_date: Some(date),
        start_date: Some(date),
        run_after: date,
        paused: false,
    };
    let mut rows = Rows {
        graph: Arc::clone(&graph),
        instances: BTreeMap::new(),
        run: RunState::Running,
    };
    for new in initial_instances(&graph, RunType::Manual, Some(date)) {
        rows.instances.insert((new.task.0, new.key.map_index), blank(new.key));
    }
    let mut lengths: BTreeMap<u32, u64> = BTreeMap::new();
    let mut choices: BTreeMap<(u32, MapIndex), SkipChoice> = BTreeMap::new();
    let mut expected = States::new();
    let mut planner: Option<Planner> = None;
    for (number, (happened, changed, run_state)) in recorded.steps.into_iter().enumerate() {
        let mut changes = Changes::default();
        for event in happened {
            let (task, index, letter, extra) = match event {
                Happened::Plain(task, index, letter) => (task, index, letter, Extra::default()),
                Happened::With(task, index, letter, extra) => (task, index, letter, extra),
                Happened::Both(task, index, letter, one, other) => {
                    let extra = Extra {
                        result: one.result || other.result,
                        length: one.length.or(other.length),
                        followed: one.followed.or(other.followed),
                        skipped: one.skipped.or(other.skipped),
                    };
                    (task, index, letter, extra)
                }
            };
            let row = rows
                .instances
                .get_mut(&(task, index))
                .expect("recorded of instances there are");
            row.state = state(&letter);
            row.has_result = extra.result;
            row.end_date = Some("2026-01-02T00:00:00Z".parse().unwrap());
            let key = row.key.clone();
            changes.instances.push(row.clone());
            if index < 0 {
                match extra.length {
                    Some(length) => lengths.insert(task, length),
                    None => lengths.remove(&task),
                };
                changes.lengths.push(MapLength {
                    task_id: key.task_id.clone(),
                    length: extra.length,
                });
            }
            let choice = SkipChoice {
                key,
                followed: extra.followed,
                skipped: extra.skipped,
            };
            changes.choices.push(choice.clone());
            choices.insert((task, index), choice);
        }
        let mut commands = Vec::new();
        match &mut planner {
            Some(planner) if !reload => planner.step(Event::Changed(changes), now(), &mut commands),
            _ => {
                let snapshot = RunSnapshot {
                    run: run.clone(),
                    instances: rows.instances.values().cloned().collect(),
                    lengths: lengths
                        .iter()
                        .map(|(task, length)| MapLength {
                            task_id: graph.task(TaskNo(*task)).task_id.clone(),
                            length: Some(*length),
                        })
                        .collect(),
                    choices: choices.values().cloned().collect(),
                    past: isobar_engine::planner::PastFacts::default(),
                    verify: false,
                };
                planner = Some(Planner::load(Arc::clone(&graph), snapshot, now(), &mut commands));
            }
        }
        rows.carry_out(commands);
        for (task, index, letter) in changed {
            if letter == "-" {
                expected.remove(&(task, index));
            } else {
                expected.insert((task, index), state(&letter));
            }
        }
        let run_expected = match run_state.as_str() {
            "s" => RunState::Success,
            "f" => RunState::Failed,
            _ => RunState::Running,
        };
        let actual = rows.states();
        if actual != expected || rows.run != run_expected {
            let differing: Vec<String> = actual
                .iter()
                .map(|(place, state)| (place, Some(state)))
                .chain(
                    expected
                        .keys()
                        .filter(|place| !actual.contains_key(place))
                        .map(|place| (place, None)),
                )
                .filter(|(place, state)| expected.get(place) != *state)
                .map(|(place, state)| {
                    let id = &graph.task(TaskNo(place.0)).task_id;
                    format!("{id}[{}]: {state:?}, Airflow {:?}", place.1, expected.get(place))
                })
                .collect();
            return Err(format!(
                "step {number}: run {:?}, Airflow {run_expected:?}; {}",
                rows.run,
                differing.join("; ")
            ));
        }
    }
    Ok(())
}

fn each_recorded(reload: bool) {
    let data = std::env::var("ISOBAR_RUNS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/runs.jsonl").to_owned());
    let text = std::fs::read_to_string(data).unwrap();
    let mut differing = Vec::new();
    let mut count = 0;
    for (number, line) in text.lines().enumerate() {
        count += 1;
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        if let Err(difference) = replay(recorded, reload) {
            differing.push(format!("line {}: {difference}", number + 1));
        }
    }
    assert!(
        differing.is_empty(),
        "{} of {count} runs differ:\n{}",
        differing.len(),
        differing.iter().take(12).cloned().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn random_runs_go_as_in_airflow_event_by_event() {
    each_recorded(false);
}

#[test]
fn random_runs_go_as_in_airflow_when_reloaded_before_every_event() {
    each_recorded(true);
}
