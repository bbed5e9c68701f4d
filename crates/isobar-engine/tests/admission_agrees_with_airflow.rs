//! Admission queues whom Airflow 3.3.2 queues, in its order: pools, weights, limits of runs, tasks and executors, paused Dags (recorded
//! by `data/record_admission.py`, which says what it leaves out).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use isobar_engine::admission::{
    Admission, Candidate, Command, DagKey, DagLimits, Event, ExecutorKey, ExecutorSlots, Holder, InstanceKey, PoolKey,
    PoolLimits,
};
use isobar_model::{TaskKey, TaskState, TeamId};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

const TEAM: TeamId = TeamId(1);

#[derive(Deserialize)]
struct Case {
    parallelism: u32,
    executors: Vec<u32>,
    pools: Vec<(i64, bool)>,
    dags: Vec<Dag>,
    queued: Vec<Key>,
    #[serde(default)]
    cut: Option<Vec<Key>>,
}

/// Dag, run, task, map index.
type Key = (usize, usize, usize, i32);

#[derive(Deserialize)]
struct Dag {
    max_active_tasks: u32,
    paused: bool,
    tasks: Vec<Task>,
    runs: Vec<(String, i64, Vec<Instance>)>,
}

/// Task, map index, state.
type Instance = (usize, i32, char);

/// Pool, slots of it, weight, executor, limits per Dag and per run.
type Task = (usize, u32, i64, Option<usize>, Option<u32>, Option<u32>);

fn state(letter: char) -> Option<TaskState> {
    Some(match letter {
        'c' => TaskState::Scheduled,
        'q' => TaskState::Queued,
        'r' => TaskState::Running,
        'd' => TaskState::Deferred,
        'a' => TaskState::AwaitingInput,
        's' => TaskState::Success,
        't' => TaskState::UpForRetry,
        'n' => return None,
        other => panic!("no state {other}"),
    })
}

fn pool(number: usize) -> PoolKey {
    PoolKey {
        owner: Some(TEAM),
        name: number.to_string(),
    }
}

fn executor(number: usize) -> ExecutorKey {
    ExecutorKey {
        owner: Some(TEAM),
        name: number.to_string(),
    }
}

fn dag_key(number: usize) -> DagKey {
    DagKey {
        team: TEAM,
        dag_id: number.to_string().into(),
    }
}

fn key_of(candidate: &Candidate) -> Key {
    let number = |text: &str| text.parse().unwrap();
    let key = &candidate.key;
    (
        number(key.dag.dag_id.as_str()),
        number(key.run_id.as_str()),
        number(key.task.task_id.as_str()),
        key.task.map_index,
    )
}

/// The instances of runs that run, with their states.
fn instances(case: &Case) -> Vec<(Candidate, Option<TaskState>)> {
    let mut all = Vec::new();
    for (dag_number, dag) in case.dags.iter().enumerate() {
        let running = dag.runs.iter().enumerate().filter(|(_, run)| run.0 == "running");
        for (run_number, (_, date, instances)) in running {
            for (number, map_index, letter) in instances {
                let (in_pool, pool_slots, priority_weight, by, max_active_tis_per_dag, max_active_tis_per_dagrun) =
                    dag.tasks[*number];
                let candidate = Candidate {
                    key: InstanceKey {
                        dag: dag_key(dag_number),
                        run_id: run_number.to_string().into(),
                        task: TaskKey {
                            task_id: number.to_string().into(),
                            map_index: *map_index,
                        },
                    },
                    pool: pool(in_pool),
                    pool_slots,
                    executor: executor(by.unwrap_or(0)),
                    priority_weight,
                    date: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(*date),
                    max_active_tis_per_dag,
                    max_active_tis_per_dagrun,
                };
                all.push((candidate, state(*letter)));
            }
        }
    }
    all
}

/// Everything as it stands in the case; whom admission queues then.
fn admitted(case: &Case) -> Vec<Key> {
    let pools = case.pools.iter().enumerate();
    let executors = case.executors.iter().enumerate();
    let dags = case.dags.iter().enumerate();
    let mut events = vec![
        Event::Parallelism(Some(case.parallelism)),
        Event::Pools(
            pools
                .map(|(number, (slots, include_deferred))| PoolLimits {
                    pool: pool(number),
                    slots: *slots,
                    include_deferred: *include_deferred,
                })
                .collect(),
        ),
        Event::Executors(
            executors
                .map(|(number, slots)| ExecutorSlots {
                    executor: executor(number),
                    slots: Some(*slots),
                })
                .collect(),
        ),
        Event::Dags(
            dags.map(|(number, dag)| DagLimits {
                dag: dag_key(number),
                max_active_tasks: dag.max_active_tasks,
                paused: dag.paused,
            })
            .collect(),
        ),
    ];
    let (mut ready, mut holding) = (Vec::new(), Vec::new());
    for (candidate, state) in instances(case) {
        match state {
            Some(TaskState::Scheduled) => ready.push(candidate),
            Some(state @ (TaskState::Queued | TaskState::Running | TaskState::Deferred | TaskState::AwaitingInput)) => {
                holding.push(Holder { candidate, state });
            }
            _ => {}
        }
    }
    events.push(Event::Holding(holding));
    events.push(Event::Ready(ready));
    let (mut admission, mut out) = (Admission::new(), Vec::new());
    admission.step_all(events, &mut out);
    let queued = out.into_iter().flat_map(|Command::Queue(queued)| queued);
    queued.map(|candidate| key_of(&candidate)).collect()
}

/// Whether a run of a Dag that is not paused has more waiting than Airflow looks at.
fn may_be_cut(case: &Case) -> bool {
    let waits = |instances: &[Instance]| instances.iter().filter(|(.., letter)| *letter == 'c').count();
    let mut dags = case.dags.iter().filter(|dag| !dag.paused);
    dags.any(|dag| dag.runs.iter().any(|run| waits(&run.2) > dag.max_active_tasks as usize))
}

#[test]
fn admission_queues_whom_airflow_queues_in_its_order() {
    let text = std::env::var("ISOBAR_ADMISSION").map_or_else(
        |_| include_str!("data/admission.jsonl").to_owned(),
        |path| std::fs::read_to_string(path).unwrap(),
    );
    let (mut wrong, mut queued, mut cut) = (Vec::new(), 0, 0);
    let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (number, case) in cases.iter().enumerate() {
        let ours = admitted(case);
        if ours != case.queued {
            wrong.push(format!(
                "case {number}:\n  ours:    {ours:?}\n  Airflow: {:?}",
                case.queued
            ));
        }
        if case.cut.is_some() {
            cut += 1;
            assert!(may_be_cut(case), "case {number}: another reason for {:?}", case.cut);
        }
        queued += case.queued.len();
    }
    assert!(queued > cases.len(), "only {queued} were queued");
    println!(
        "{} cases, {queued} queued; in {cut} Airflow's cut gives others",
        cases.len()
    );
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
}
