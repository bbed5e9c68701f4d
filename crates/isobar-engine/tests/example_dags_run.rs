//! Every recorded example Dag, planned through: tasks end one after the other in an order that the seed chooses.

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_engine::graph::{RunGraph, TaskNo};
use isobar_engine::planner::{
    Changes, Command, Event, Instance, MapLength, PastFacts, Planner, RunFacts, RunSnapshot, initial_instances,
};
use isobar_model::dag::SerializedDag;
use isobar_model::{RunId, RunState, RunType, TaskKey, TaskState};
use jiff::Timestamp;

/// Plans a run of a Dag to its end. `fail` says which task instances fail; all others succeed. Mapped tasks get `length` instances.
fn run(
    graph: &Arc<RunGraph>,
    length: u64,
    seed: u64,
    fail: impl Fn(&TaskKey) -> bool,
) -> (RunState, BTreeMap<TaskKey, TaskState>) {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a date");
    let facts = RunFacts {
        run_id: RunId::from("r"),
        run_type: RunType::Manual,
        state: RunState::Running,
        logical_date: Some(now),
        start_date: Some(now),
        run_after: now,
        paused: false,
    };
    let new: Vec<TaskKey> = initial_instances(graph, RunType::Manual, Some(now))
        .into_iter()
        .map(|new| new.key)
        .collect();
    let instance = |key: TaskKey, state, try_number| Instance {
        key,
        state,
        try_number,
        end_date: None,
        retry_delay_override: None,
        reschedule_date: None,
        has_result: state == Some(TaskState::Success),
    };
    let snapshot = RunSnapshot {
        run: facts,
        instances: new.into_iter().map(|key| instance(key, None, 0)).collect(),
        lengths: Vec::new(),
        choices: Vec::new(),
        past: PastFacts::default(),
        failed: Vec::new(),
        verify: false,
    };
    let mut out = Vec::new();
    let mut planner = Planner::load(Arc::clone(graph), snapshot, now, &mut out);
    let mut at_work: Vec<(TaskKey, i32)> = Vec::new();
    let mut ended = BTreeMap::new();
    let mut seed = seed;
    loop {
        for command in out.drain(..) {
            match command {
                Command::Ready {
                    key, task, try_number, ..
                } => {
                    assert_ready(graph, task, &ended);
                    at_work.push((key, try_number));
                }
                Command::DeferAtOnce { key, try_number, .. } => at_work.push((key, try_number)),
                Command::SucceedAtOnce { key, .. } => {
                    ended.insert(key, TaskState::Success);
                }
                Command::SetState { key, to: Some(to), .. } => {
                    ended.insert(key, to);
                }
                Command::FinishRun(end) => {
                    assert!(at_work.is_empty(), "the run ended while tasks were at work");
                    return (end.state, ended);
                }
                _ => {}
            }
        }
        assert!(
            !at_work.is_empty(),
            "{}: nothing is at work and the run has not ended: {:?}",
            graph.spec().dag_id,
            graph
                .spec()
                .tasks
                .iter()
                .map(|task| {
                    let key = TaskKey {
                        task_id: task.task_id.clone(),
                        map_index: -1,
                    };
                    let why = planner.why(&key, now);
                    (key.task_id, why)
                })
                .collect::<Vec<_>>()
        );
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(seed >> 33).expect("31 bits fit") % at_work.len();
        let (key, try_number) = at_work.swap_remove(at);
        let state = if fail(&key) {
            TaskState::Failed
        } else {
            TaskState::Success
        };
        ended.insert(key.clone(), state);
        let lengths = (key.map_index < 0 && state == TaskState::Success).then(|| MapLength {
            task_id: key.task_id.clone(),
            length: Some(length),
        });
        let changes = Changes {
            lengths: lengths.into_iter().collect(),
            instances: vec![instance(key, Some(state), try_number)],
            ..Changes::default()
        };
        planner.step(Event::Changed(changes), now, &mut out);
    }
}

/// No start before dependencies, in the case that needs no knowledge of trigger rules.
fn assert_ready(graph: &RunGraph, task: TaskNo, ended: &BTreeMap<TaskKey, TaskState>) {
    if graph.task(task).trigger_rule != isobar_model::TriggerRule::AllSuccess {
        return;
    }
    for up in graph.upstream(task) {
        let id = &graph.task(*up).task_id;
        assert!(
            ended.keys().any(|key| key.task_id == *id),
            "{} starts before {id} ended",
            graph.task(task).task_id
        );
    }
}

fn recorded() -> Vec<Arc<RunGraph>> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../isobar-model/tests/data/recorded.jsonl");
    let text = std::fs::read_to_string(data).expect("isobar-model's recorded Dags");
    let graphs: Vec<Arc<RunGraph>> = text
        .lines()
        .filter_map(|line| {
            let recorded: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let dag = recorded
                .as_object()?
                .values()
                .find(|value| value.get("__version").is_some())?;
            let dag = SerializedDag::read(dag.clone()).expect("a recorded Dag reads");
            Some(Arc::new(RunGraph::from_dag(&dag).expect("a recorded Dag has a graph")))
        })
        .collect();
    assert!(graphs.len() > 50, "only {} Dags were found", graphs.len());
    graphs
}

#[test]
fn every_example_dag_succeeds_when_its_tasks_do() {
    for graph in recorded() {
        for (length, seed) in [(1, 1), (3, 2), (2, 3)] {
            let (state, ended) = run(&graph, length, seed, |_| false);
            assert_eq!(state, RunState::Success, "{}: {ended:?}", graph.spec().dag_id);
        }
    }
}

#[test]
fn every_example_dag_ends_whatever_fails() {
    for graph in recorded() {
        for seed in 0..8 {
            let fail = |key: &TaskKey| (key.task_id.as_str().len() as u64 + seed).is_multiple_of(3);
            run(&graph, seed % 4, seed, fail);
        }
    }
}
