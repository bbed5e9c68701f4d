//! Several runs of one random Dag, worked by Airflow 3.3.2 itself (`data/record_histories.py`) and by planners, step by step:
//! the past, retries, `fail_fast`, clearing, deferral, new Dag versions.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "recorded/rows.rs"]
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use isobar_engine::graph::{DagSpec, RunGraph};
use isobar_engine::planner::retry::may_retry;
use isobar_engine::planner::{
    Changes, Event, MapLength, PastFacts, Planner, Preceding, RunFacts, RunSnapshot, SkipChoice, initial_instances,
};
use isobar_model::{MapIndex, RunId, RunState, RunType, TaskId, TaskKey, TaskState};
use jiff::Timestamp;
use rows::{Place, Rows};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    dag: DagSpec,
    steps: Vec<Step>,
}

/// What happened, which states (with try numbers) followed from it, and the states of the runs.
type Step = (Vec<Happened>, Vec<(usize, TaskId, MapIndex, String)>, String);

#[derive(Deserialize)]
#[serde(untagged)]
enum Happened {
    Begun {
        run: RunType,
        date: Option<Timestamp>,
        #[serde(default)]
        first: bool,
    },
    NewVersion {
        dag: Box<DagSpec>,
    },
    With(usize, TaskId, MapIndex, String, Extra),
    Plain(usize, TaskId, MapIndex, String),
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Extra {
    later: bool,
    result: bool,
    length: Option<u64>,
    followed: Option<Vec<TaskId>>,
    skipped: Option<Vec<TaskId>>,
    skips: Vec<TaskId>,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-01T00:00:00Z")
}

fn graph(mut dag: DagSpec) -> Arc<RunGraph> {
    for task in &mut dag.tasks {
        task.start_date.get_or_insert(at("2026-01-01T00:00:00Z"));
    }
    Arc::new(RunGraph::new(dag).unwrap())
}

/// A run, its rows and its planner while it runs.
struct Run {
    kind: RunType,
    date: Option<Timestamp>,
    first: bool,
    graph: Arc<RunGraph>,
    rows: Rows,
    lengths: BTreeMap<TaskId, u64>,
    choices: BTreeMap<Place, SkipChoice>,
    past: PastFacts,
    planner: Option<Planner>,
}

impl Run {
    fn snapshot(&self, verify: bool, failed: Vec<TaskKey>) -> RunSnapshot {
        let length = |(task_id, length): (&TaskId, &u64)| MapLength {
            task_id: task_id.clone(),
            length: Some(*length),
        };
        RunSnapshot {
            run: RunFacts {
                run_id: RunId::from("r"),
                run_type: self.kind,
                state: RunState::Running,
                logical_date: self.date,
                start_date: Some(at("2026-01-01T00:00:00Z")),
                run_after: at("2026-01-01T00:00:00Z"),
                paused: false,
            },
            instances: self.rows.instances.values().cloned().collect(),
            lengths: self.lengths.iter().map(length).collect(),
            choices: self.choices.values().cloned().collect(),
            past: self.past.clone(),
            failed,
            verify,
        }
    }

    fn load(&mut self, verify: bool, failed: Vec<TaskKey>) {
        let mut commands = Vec::new();
        let snapshot = self.snapshot(verify, failed);
        self.planner = Some(Planner::load(Arc::clone(&self.graph), snapshot, now(), &mut commands));
        self.carry_out(commands);
    }

    fn step(&mut self, event: Event) {
        let mut commands = Vec::new();
        if let Some(planner) = &mut self.planner {
            planner.step(event, now(), &mut commands);
        }
        self.carry_out(commands);
    }

    fn carry_out(&mut self, commands: Vec<isobar_engine::planner::Command>) {
        self.rows.carry_out(commands);
        if self.rows.run.is_finished() {
            self.planner = None;
        }
    }

    /// Writes down what happened to an instance, as a store would, and what is told of it.
    fn note(&mut self, task_id: &TaskId, index: MapIndex, what: &str, extra: Extra, changes: &mut Changes) {
        let place = (task_id.clone(), index);
        let spec = self.graph.find(task_id).map(|task| self.graph.task(task));
        let row = self
            .rows
            .instances
            .get_mut(&place)
            .expect("recorded of instances there are");
        let max_tries = self.rows.max_tries.get_mut(&place).unwrap();
        let due = Some(at(if extra.later {
            "2100-01-01T00:00:00Z"
        } else {
            "2026-01-02T00:00:00Z"
        }));
        let begins = matches!(row.state, Some(TaskState::Scheduled | TaskState::Queued));
        if begins && matches!(what, "r" | "x" | "e" | "s" | "k") {
            self.choices.remove(&place);
            row.has_result = false;
            row.state = Some(TaskState::Running);
            changes.instances.push(row.clone());
        }
        match what {
            "clear" if row.state == Some(TaskState::Running) => row.state = Some(TaskState::Restarting),
            "clear" => {
                *max_tries = spec.map_or(*max_tries, |task| row.try_number + task.retries);
                (row.state, row.end_date, row.reschedule_date) = (None, None, None);
            }
            "x" => {
                let again = may_retry(row.state, spec.unwrap().retries, row.try_number, *max_tries);
                row.state = Some(if again {
                    TaskState::UpForRetry
                } else {
                    TaskState::Failed
                });
                row.end_date = due;
                row.reschedule_date = None;
                if !again {
                    changes.failed.push(row.key.clone());
                }
            }
            "due" if row.state == Some(TaskState::UpForRetry) => row.end_date = due,
            "due" => row.reschedule_date = due,
            "e" => (row.state, row.reschedule_date) = (Some(TaskState::UpForReschedule), due),
            letter => {
                row.state = state(letter);
                row.end_date = due;
            }
        }
        row.has_result |= extra.result;
        changes.instances.push(row.clone());
        let choice = SkipChoice {
            key: row.key.clone(),
            followed: extra.followed,
            skipped: extra.skipped,
        };
        if let Some(length) = extra.length {
            self.lengths.insert(task_id.clone(), length);
            changes.lengths.push(MapLength {
                task_id: task_id.clone(),
                length: Some(length),
            });
        }
        if choice.followed.is_some() || choice.skipped.is_some() {
            self.choices.insert(place, choice.clone());
            changes.choices.push(choice);
        }
        for left_out in extra.skips {
            let row = self.rows.instances.get_mut(&(left_out, index)).unwrap();
            row.state = Some(TaskState::Skipped);
            changes.instances.push(row.clone());
        }
    }
}

fn state(letter: &str) -> Option<TaskState> {
    Some(match letter {
        "n" => return None,
        "m" => TaskState::Removed,
        "c" => TaskState::Scheduled,
        "q" => TaskState::Queued,
        "r" => TaskState::Running,
        "g" => TaskState::Restarting,
        "d" => TaskState::Deferred,
        "a" => TaskState::AwaitingInput,
        "s" => TaskState::Success,
        "f" => TaskState::Failed,
        "t" => TaskState::UpForRetry,
        "e" => TaskState::UpForReschedule,
        "u" => TaskState::UpstreamFailed,
        "k" => TaskState::Skipped,
        other => panic!("no state is written {other}"),
    })
}

/// The runs of a Dag being replayed.
struct Replay {
    graph: Arc<RunGraph>,
    runs: Vec<Run>,
    reload: bool,
}

impl Replay {
    fn step(&mut self, happened: Vec<Happened>) {
        let mut of_runs: BTreeMap<usize, (Changes, bool)> = BTreeMap::new();
        for event in happened {
            let (run, task_id, index, what, extra) = match event {
                Happened::Begun { run, date, first } => {
                    self.begin(run, date, first);
                    continue;
                }
                Happened::NewVersion { dag } => {
                    self.follow(graph(*dag));
                    continue;
                }
                Happened::Plain(run, task_id, index, what) => (run, task_id, index, what, Extra::default()),
                Happened::With(run, task_id, index, what, extra) => (run, task_id, index, what, extra),
            };
            let (changes, cleared) = of_runs.entry(run).or_default();
            *cleared |= what == "clear";
            self.runs[run].note(&task_id, index, &what, extra, changes);
        }
        for (number, (changes, cleared)) in of_runs {
            let run = &mut self.runs[number];
            let ended = run.planner.is_none();
            let verify = ended && !Arc::ptr_eq(&run.graph, &self.graph);
            if ended {
                run.graph = Arc::clone(&self.graph);
                run.rows.run = RunState::Running;
            }
            if ended || cleared || self.reload {
                run.load(verify, changes.failed);
            } else {
                run.step(Event::Changed(changes));
            }
        }
        self.tell_the_past();
    }

    /// All runs that are under way go on with another version. What its tasks ask of the past is told when all have their instances.
    fn follow(&mut self, graph: Arc<RunGraph>) {
        self.graph = graph;
        for run in &mut self.runs {
            if run.planner.is_some() {
                run.graph = Arc::clone(&self.graph);
                run.step(Event::DagChanged(Arc::clone(&self.graph)));
            }
        }
        for number in 0..self.runs.len() {
            let past = self.past_of(&self.runs[number]);
            self.runs[number].past = past.clone();
            self.runs[number].step(Event::PastChanged(past));
        }
    }

    fn begin(&mut self, kind: RunType, date: Option<Timestamp>, first: bool) {
        let mut run = Run {
            kind,
            date,
            first,
            graph: Arc::clone(&self.graph),
            rows: Rows::new(initial_instances(&self.graph, kind, date)),
            lengths: BTreeMap::new(),
            choices: BTreeMap::new(),
            past: PastFacts::default(),
            planner: None,
        };
        run.past = self.past_of(&run);
        run.load(false, Vec::new());
        self.runs.push(run);
    }

    fn tell_the_past(&mut self) {
        loop {
            let mut news = false;
            for number in 0..self.runs.len() {
                let past = self.past_of(&self.runs[number]);
                let run = &mut self.runs[number];
                if run.past != past {
                    news = true;
                    run.past = past.clone();
                    run.step(Event::PastChanged(past));
                }
            }
            if !news {
                return;
            }
        }
    }

    fn past_of(&self, run: &Run) -> PastFacts {
        let Some(date) = run.date else {
            return PastFacts::default();
        };
        if run.first {
            return PastFacts::first_of_backfill();
        }
        let catchup = run.graph.spec().catchup;
        let earlier = |other: &&Run| other.date.is_some_and(|other| other < date);
        let mut before: Vec<&Run> = self.runs.iter().filter(earlier).collect();
        before.sort_by_key(|run| run.date);
        let counts = |other: &&&Run| !catchup || other.kind != RunType::Manual;
        let Some(previous) = before.iter().rfind(counts) else {
            return PastFacts::default();
        };
        let mut unsuccessful = HashMap::new();
        for ((task_id, _), row) in &previous.rows.instances {
            let well = row.state.is_some_and(TaskState::is_success);
            *unsuccessful.entry(task_id.clone()).or_default() += u32::from(!well);
        }
        let preceding = Preceding {
            logical_date: previous.date,
            unsuccessful,
        };
        let had = |task_id: &TaskId| {
            let mut all = before.iter().flat_map(|run| run.rows.instances.keys());
            all.any(|(id, _)| id == task_id)
        };
        let asked = preceding.tasks_to_look_for(&run.graph).map(|task| task.task_id.clone());
        let existed = asked.filter(had).collect();
        PastFacts::of(&preceding, &run.graph, existed)
    }

    fn states(&self) -> BTreeMap<(usize, TaskId, MapIndex), String> {
        let mut states = BTreeMap::new();
        for (number, run) in self.runs.iter().enumerate() {
            for ((task_id, index), row) in &run.rows.instances {
                states.insert((number, task_id.clone(), *index), written(row.state, row.try_number));
            }
        }
        states
    }

    fn run_states(&self) -> String {
        let letter = |run: &Run| match run.rows.run {
            RunState::Success => 's',
            RunState::Failed => 'f',
            _ => 'r',
        };
        self.runs.iter().map(letter).collect()
    }
}

fn written(of: Option<TaskState>, try_number: i32) -> String {
    let letters = ["n", "m", "c", "q", "r", "g", "d", "a", "s", "f", "t", "e", "u", "k"];
    let letter = letters
        .iter()
        .find(|letter| state(letter) == of)
        .expect("each state has a letter");
    if try_number == 0 {
        (*letter).to_owned()
    } else {
        format!("{letter}{try_number}")
    }
}

/// Replays one recorded history; says at which step and in what the planners differ.
fn replay(recorded: Recorded, reload: bool) -> Result<(), String> {
    let mut replay = Replay {
        graph: graph(recorded.dag),
        runs: Vec::new(),
        reload,
    };
    let mut expected: BTreeMap<(usize, TaskId, MapIndex), String> = BTreeMap::new();
    for (number, (happened, changed, runs)) in recorded.steps.into_iter().enumerate() {
        replay.step(happened);
        for (run, task_id, index, state) in changed {
            if state == "-" {
                expected.remove(&(run, task_id, index));
            } else {
                expected.insert((run, task_id, index), state);
            }
        }
        let actual = replay.states();
        if actual != expected || replay.run_states() != runs {
            let mut differing: Vec<String> = Vec::new();
            for place in actual.keys().chain(expected.keys()) {
                if actual.get(place) != expected.get(place) {
                    let (run, task_id, index) = place;
                    let line = format!(
                        "{run}:{task_id}[{index}] {:?}, Airflow {:?}",
                        actual.get(place),
                        expected.get(place)
                    );
                    if !differing.contains(&line) {
                        differing.push(line);
                    }
                }
            }
            return Err(format!(
                "step {number}: runs {}, Airflow {runs}; {}",
                replay.run_states(),
                differing.join("; ")
            ));
        }
    }
    Ok(())
}

fn each_recorded(reload: bool) {
    let data = std::env::var("ISOBAR_HISTORIES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/histories.jsonl").to_owned());
    let text = std::fs::read_to_string(data).unwrap();
    let mut differing = Vec::new();
    let mut count = 0;
    for (number, line) in text.lines().enumerate() {
        count += 1;
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        let replayed = std::panic::catch_unwind(|| replay(recorded, reload));
        if let Err(difference) = replayed.unwrap_or_else(|_| Err("panicked".to_owned())) {
            differing.push(format!("line {}: {difference}", number + 1));
        }
    }
    assert!(
        differing.is_empty(),
        "{} of {count} histories differ:\n{}",
        differing.len(),
        differing.iter().take(12).cloned().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn random_histories_go_as_in_airflow_event_by_event() {
    each_recorded(false);
}

#[test]
fn random_histories_go_as_in_airflow_when_reloaded_before_every_event() {
    each_recorded(true);
}
