//! Random runs, planned by Airflow 3.3.2 itself (`data/record_runs.py`) and by the planner, step by step.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "recorded/rows.rs"]
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isobar_engine::graph::{DagSpec, RunGraph};
use isobar_engine::planner::{
    Changes, Event, MapLength, PastFacts, Planner, RunFacts, RunSnapshot, SkipChoice, initial_instances,
};
use isobar_model::{MapIndex, RunId, RunState, RunType, TaskId, TaskState};
use jiff::Timestamp;
use rows::{Place, Rows};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    dag: DagSpec,
    steps: Vec<Step>,
}

/// What happened, which states followed from it, and the state of the run.
type Step = (Vec<Happened>, Vec<(TaskId, MapIndex, String)>, String);

#[derive(Deserialize)]
#[serde(untagged)]
enum Happened {
    NewVersion(Box<DagSpec>),
    With(TaskId, MapIndex, String, Extra),
    Plain(TaskId, MapIndex, String),
    Both(TaskId, MapIndex, String, Extra, Extra),
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Extra {
    result: bool,
    length: Option<u64>,
    followed: Option<Vec<TaskId>>,
    skipped: Option<Vec<TaskId>>,
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

impl Extra {
    fn and(self, other: Self) -> Self {
        Self {
            result: self.result || other.result,
            length: self.length.or(other.length),
            followed: self.followed.or(other.followed),
            skipped: self.skipped.or(other.skipped),
        }
    }
}

type States = BTreeMap<Place, Option<TaskState>>;

fn states(rows: &Rows) -> States {
    rows.instances
        .iter()
        .map(|(place, row)| (place.clone(), row.state))
        .collect()
}

fn date() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

/// One run being replayed.
struct Replay {
    graph: Arc<RunGraph>,
    rows: Rows,
    lengths: BTreeMap<TaskId, u64>,
    choices: BTreeMap<Place, SkipChoice>,
    planner: Option<Planner>,
}

impl Replay {
    fn new(dag: DagSpec) -> Self {
        let graph = Arc::new(RunGraph::new(dag).unwrap());
        let rows = Rows::new(initial_instances(&graph, RunType::Manual, Some(date())));
        Self {
            graph,
            rows,
            lengths: BTreeMap::new(),
            choices: BTreeMap::new(),
            planner: None,
        }
    }

    /// Writes down what happened to instances.
    fn note(&mut self, happened: Vec<Happened>, changes: &mut Changes) -> bool {
        let mut new_version = false;
        for event in happened {
            let (task_id, map_index, letter, extra) = match event {
                Happened::NewVersion(dag) => {
                    self.graph = Arc::new(RunGraph::new(*dag).unwrap());
                    new_version = true;
                    continue;
                }
                Happened::Plain(task_id, index, letter) => (task_id, index, letter, Extra::default()),
                Happened::With(task_id, index, letter, extra) => (task_id, index, letter, extra),
                Happened::Both(task_id, index, letter, one, other) => (task_id, index, letter, one.and(other)),
            };
            let place = (task_id.clone(), map_index);
            let row = self
                .rows
                .instances
                .get_mut(&place)
                .expect("recorded of instances there are");
            row.state = state(&letter);
            row.has_result = extra.result;
            row.end_date = Some("2026-01-02T00:00:00Z".parse().unwrap());
            if row.state.is_some() {
                let mut begun = row.clone();
                begun.state = Some(TaskState::Running);
                changes.instances.push(begun);
            }
            changes.instances.push(row.clone());
            let key = row.key.clone();
            if map_index < 0 {
                let known = self.lengths.get(&task_id).copied();
                match extra.length {
                    Some(length) => self.lengths.insert(task_id.clone(), length),
                    None => self.lengths.remove(&task_id),
                };
                if known != extra.length {
                    changes.lengths.push(MapLength {
                        task_id,
                        length: extra.length,
                    });
                }
            }
            let choice = SkipChoice {
                key,
                followed: extra.followed,
                skipped: extra.skipped,
            };
            let chose = choice.followed.is_some() || choice.skipped.is_some();
            let had_chosen = self.choices.insert(place, choice.clone());
            if chose || had_chosen.is_some_and(|choice| choice.followed.is_some() || choice.skipped.is_some()) {
                changes.choices.push(choice);
            }
        }
        new_version
    }

    fn snapshot(&self, verify: bool) -> RunSnapshot {
        let length = |(task_id, length): (&TaskId, &u64)| MapLength {
            task_id: task_id.clone(),
            length: Some(*length),
        };
        RunSnapshot {
            run: RunFacts {
                run_id: RunId::from("r"),
                run_type: RunType::Manual,
                state: RunState::Running,
                logical_date: Some(date()),
                start_date: Some(date()),
                run_after: date(),
                paused: false,
            },
            instances: self.rows.instances.values().cloned().collect(),
            lengths: self.lengths.iter().map(length).collect(),
            choices: self.choices.values().cloned().collect(),
            past: PastFacts::default(),
            failed: Vec::new(),
            verify,
        }
    }

    fn step(&mut self, happened: Vec<Happened>, reload: bool) {
        let mut changes = Changes::default();
        let new_version = self.note(happened, &mut changes);
        let mut commands = Vec::new();
        match &mut self.planner {
            Some(planner) if !reload && new_version => {
                planner.step(Event::DagChanged(Arc::clone(&self.graph)), now(), &mut commands);
            }
            Some(planner) if !reload => planner.step(Event::Changed(changes), now(), &mut commands),
            _ => {
                let snapshot = self.snapshot(new_version);
                self.planner = Some(Planner::load(Arc::clone(&self.graph), snapshot, now(), &mut commands));
            }
        }
        self.rows.carry_out(commands);
        self.hear_everything_again();
    }

    /// What the planner knows already does no harm.
    fn hear_everything_again(&mut self) {
        let Some(planner) = self.planner.as_mut().filter(|planner| !planner.is_finished()) else {
            return;
        };
        let rows = self.rows.instances.values().cloned().collect();
        let again = Changes {
            instances: rows,
            ..Changes::default()
        };
        let mut commands = Vec::new();
        planner.step(Event::Changed(again), now(), &mut commands);
        assert_eq!(commands, []);
    }
}

/// Replays one recorded run; says at which step and in what the planner differs.
fn replay(recorded: Recorded, reload: bool) -> Result<(), String> {
    let mut replay = Replay::new(recorded.dag);
    let mut expected = States::new();
    for (number, (happened, changed, run_state)) in recorded.steps.into_iter().enumerate() {
        replay.step(happened, reload);
        for (task_id, index, letter) in changed {
            if letter == "-" {
                expected.remove(&(task_id, index));
            } else {
                expected.insert((task_id, index), state(&letter));
            }
        }
        let run_expected = match run_state.as_str() {
            "s" => RunState::Success,
            "f" => RunState::Failed,
            _ => RunState::Running,
        };
        let actual = states(&replay.rows);
        if actual != expected || replay.rows.run != run_expected {
            let places: BTreeSet<&Place> = actual.keys().chain(expected.keys()).collect();
            let differing: Vec<String> = places
                .into_iter()
                .filter(|place| actual.get(place) != expected.get(place))
                .map(|place| {
                    format!(
                        "{}[{}]: {:?}, Airflow {:?}",
                        place.0,
                        place.1,
                        actual.get(place),
                        expected.get(place)
                    )
                })
                .collect();
            return Err(format!(
                "step {number}: run {:?}, Airflow {run_expected:?}; {}",
                replay.rows.run,
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
