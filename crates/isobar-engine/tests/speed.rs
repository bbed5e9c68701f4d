//! Speed. Run with `cargo test --release -p isobar-engine --test speed -- --ignored --nocapture`; debug builds only see that sizes do not matter.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use isobar_engine::graph::{DagSpec, Expand, LengthOf, RunGraph, TaskNo, TaskSpec};
use isobar_engine::planner::{Changes, Command, Event, Instance, MapLength, Planner, RunFacts, RunSnapshot};
use isobar_model::{DagId, RunId, RunState, RunType, TaskId, TaskKey, TaskState};
use jiff::Timestamp;

fn task(number: usize, downstream: Vec<TaskNo>) -> TaskSpec {
    TaskSpec {
        task_id: TaskId::from(format!("t{number}")),
        downstream,
        ..TaskSpec::default()
    }
}

fn spec(tasks: Vec<TaskSpec>) -> DagSpec {
    DagSpec {
        dag_id: DagId::from("d"),
        tasks,
        groups: Vec::new(),
        fail_fast: false,
        dagrun_timeout: None,
        catchup: false,
        max_active_tasks: 16,
    }
}

/// `width` tasks between one that starts and one that joins, `layers` times.
fn layered(width: usize, layers: usize) -> DagSpec {
    let mut tasks = Vec::new();
    for layer in 0..layers {
        let base = layer * (width + 1);
        let number = |at: usize| TaskNo(u32::try_from(at).unwrap());
        tasks.push(task(base, (1..=width).map(|n| number(base + n)).collect()));
        for n in 1..=width {
            tasks.push(task(base + n, vec![number(base + width + 1)]));
        }
    }
    tasks.push(task(layers * (width + 1), Vec::new()));
    spec(tasks)
}

/// One task, a task mapped over its result, and another mapped over the results of that.
fn fan(width: u64) -> DagSpec {
    let over = |number: u32| {
        Some(Expand {
            factors: vec![LengthOf::Task(TaskNo(number))],
            dependencies: vec![TaskNo(number)],
        })
    };
    let first = task(0, vec![TaskNo(1)]);
    let second = TaskSpec {
        expand: over(0),
        ..task(1, vec![TaskNo(2)])
    };
    let third = TaskSpec {
        expand: over(1),
        ..task(2, vec![TaskNo(3)])
    };
    let _ = width;
    spec(vec![first, second, third, task(3, Vec::new())])
}

/// Runs a Dag to its end, one instance at a time; says how long the planner took and how many transitions it saw.
fn run(dag: DagSpec, fan: u64) -> (Duration, u32) {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let graph = Arc::new(RunGraph::new(dag).unwrap());
    let facts = RunFacts {
        run_id: RunId::from("r"),
        run_type: RunType::Manual,
        state: RunState::Running,
        logical_date: Some(now),
        start_date: Some(now),
        run_after: now,
        paused: false,
    };
    let snapshot = RunSnapshot {
        run: facts,
        instances: Vec::new(),
        lengths: Vec::new(),
        choices: Vec::new(),
        past: isobar_engine::planner::PastFacts::default(),
        failed: Vec::new(),
        verify: false,
    };
    let mut out = Vec::new();
    let started = Instant::now();
    let mut planner = Planner::load(graph, snapshot, now, &mut out);
    let mut transitions = 0;
    let mut ready: Vec<(TaskKey, i32)> = Vec::new();
    loop {
        for command in out.drain(..) {
            match command {
                Command::Ready { key, try_number, .. } => ready.push((key, try_number)),
                Command::FinishRun(end) => {
                    assert_eq!(end.state, RunState::Success);
                    return (started.elapsed(), transitions);
                }
                _ => {}
            }
        }
        let (key, try_number) = ready.pop().expect("a run that has not ended has something ready");
        for state in [TaskState::Queued, TaskState::Running, TaskState::Success] {
            transitions += 1;
            let done = state == TaskState::Success;
            let length = (done && key.map_index < 0 && fan > 0).then_some(fan);
            let changes = Changes {
                instances: vec![Instance {
                    key: key.clone(),
                    state: Some(state),
                    try_number,
                    end_date: None,
                    retry_delay_override: None,
                    reschedule_date: None,
                    has_result: done,
                }],
                lengths: length
                    .map(|length| MapLength {
                        task_id: key.task_id.clone(),
                        length: Some(length),
                    })
                    .into_iter()
                    .collect(),
                ..Changes::default()
            };
            planner.step(Event::Changed(changes), now, &mut out);
        }
    }
}

fn per_second(name: &str, (took, transitions): (Duration, u32)) -> f64 {
    let rate = f64::from(transitions) / took.as_secs_f64();
    println!("{name}: {transitions} transitions in {took:?}, {rate:.0} a second");
    rate
}

#[test]
fn wide_and_large_runs_end() {
    run(layered(300, 2), 0);
    run(fan(300), 300);
}

#[test]
#[ignore = "means something in release builds only"]
fn a_hundred_thousand_transitions_a_second_in_large_dags_and_wide_fans() {
    for (name, measured) in [
        ("10 tasks", run(layered(9, 1), 0)),
        ("5,000 tasks, one join", run(layered(4_998, 1), 0)),
        ("5,000 tasks, 50 layers", run(layered(99, 50), 0)),
        ("chain of 5,000", run(layered(1, 2_500), 0)),
        ("fan of 1,000 twice", run(fan(1_000), 1_000)),
        ("fan of 10,000 twice", run(fan(10_000), 10_000)),
    ] {
        assert!(per_second(name, measured) > 100_000.0 || measured.1 < 1_000);
    }
}

/// Many runs of several teams go through admission, each end letting the next in; says how many admissions a second.
#[test]
#[ignore = "means something in release builds only"]
fn a_hundred_thousand_admissions_a_second_with_every_limit_in_force() {
    use isobar_engine::admission::{
        Admission, Candidate, Command as Admit, DagKey, DagLimits, Event as Told, ExecutorKey, ExecutorSlots,
        InstanceKey, PoolKey, PoolLimits,
    };
    use isobar_model::TeamId;
    let pool = PoolKey {
        owner: None,
        name: "p".to_owned(),
    };
    let executor = ExecutorKey {
        owner: None,
        name: "e".to_owned(),
    };
    let dag = |team: i32, dag: i32| DagKey {
        team: TeamId(team),
        dag_id: DagId::from(format!("d{dag}")),
    };
    let candidate = |n: i32| Candidate {
        key: InstanceKey {
            dag: dag(n % 50, n % 500),
            run_id: RunId::from(format!("r{}", n % 2_000)),
            task: TaskKey {
                task_id: TaskId::from(format!("t{}", n % 7)),
                map_index: n,
            },
        },
        pool: pool.clone(),
        pool_slots: 1,
        executor: executor.clone(),
        priority_weight: i64::from(n % 13),
        date: Timestamp::UNIX_EPOCH,
        max_active_tis_per_dag: (n % 5 == 0).then_some(4),
        max_active_tis_per_dagrun: None,
    };
    let mut admission = Admission::new();
    let mut out = Vec::new();
    admission.step(Told::Parallelism(Some(400)), &mut out);
    admission.step(
        Told::Executors(vec![ExecutorSlots {
            executor: executor.clone(),
            slots: Some(300),
        }]),
        &mut out,
    );
    admission.step(
        Told::Pools(vec![PoolLimits {
            pool: pool.clone(),
            slots: 250,
            include_deferred: true,
        }]),
        &mut out,
    );
    let dags = (0..500).flat_map(|d| (0..50).map(move |team| (team, d)));
    let limits = dags.map(|(team, d)| DagLimits {
        dag: dag(team, d),
        max_active_tasks: 3,
        paused: false,
    });
    admission.step(Told::Dags(limits.collect()), &mut out);
    let total = 200_000;
    let all: Vec<Candidate> = (0..total).map(candidate).collect();
    let started = Instant::now();
    for batch in all.chunks(1_000) {
        admission.step(Told::Ready(batch.to_vec()), &mut out);
    }
    let mut admitted = 0;
    println!("all wait after {:?}", started.elapsed());
    let mut holding: Vec<InstanceKey> = Vec::new();
    loop {
        for Admit::Queue(queued) in out.drain(..) {
            admitted += queued.len();
            holding.extend(queued.into_iter().map(|candidate| candidate.key));
        }
        let Some(done) = holding.pop() else { break };
        admission.step(Told::StateChanged(vec![(done, Some(TaskState::Success))]), &mut out);
    }
    let took = started.elapsed();
    println!("{admitted} admissions in {took:?}");
    assert_eq!(admitted, usize::try_from(total).unwrap());
}
