//! The planner, event by event: what it commands.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::sync::Arc;

use isobar_engine::graph::{DagSpec, Expand, LengthOf, RunGraph, TaskNo, TaskSpec};
use isobar_engine::planner::{
    Changes, Command, Decision, Event, Instance, MapLength, PastFacts, Planner, PreviousRun, PreviousTask, RunFacts,
    RunSnapshot, SkipChoice, WhyEnded, WhyState,
};
use isobar_model::{DagId, RunId, RunState, RunType, TaskId, TaskKey, TaskState, TriggerRule};
use jiff::{SignedDuration, Timestamp};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-01T12:00:00Z")
}

fn task(id: &str, downstream: &[u32]) -> TaskSpec {
    TaskSpec {
        task_id: TaskId::from(id),
        downstream: downstream.iter().copied().map(TaskNo).collect(),
        ..TaskSpec::default()
    }
}

fn dag(tasks: Vec<TaskSpec>) -> DagSpec {
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

fn facts() -> RunFacts {
    RunFacts {
        run_id: RunId::from("r"),
        run_type: RunType::Scheduled,
        state: RunState::Running,
        logical_date: Some(at("2026-03-01T00:00:00Z")),
        start_date: Some(at("2026-03-01T11:00:00Z")),
        run_after: at("2026-03-01T00:00:00Z"),
        paused: false,
    }
}

fn snapshot(instances: Vec<Instance>) -> RunSnapshot {
    RunSnapshot {
        run: facts(),
        instances,
        lengths: Vec::new(),
        choices: Vec::new(),
        past: PastFacts::default(),
        failed: Vec::new(),
        verify: false,
    }
}

fn key(id: &str, map_index: i32) -> TaskKey {
    TaskKey {
        task_id: TaskId::from(id),
        map_index,
    }
}

fn row(id: &str, state: Option<TaskState>) -> Instance {
    Instance {
        key: key(id, -1),
        state,
        try_number: i32::from(state.is_some()),
        end_date: None,
        retry_delay_override: None,
        reschedule_date: None,
        has_result: false,
    }
}

fn load(dag: DagSpec, snapshot: RunSnapshot) -> (Planner, Vec<Command>) {
    let mut out = Vec::new();
    let planner = Planner::load(Arc::new(RunGraph::new(dag).unwrap()), snapshot, now(), &mut out);
    (planner, out)
}

fn step(planner: &mut Planner, event: Event) -> Vec<Command> {
    let mut out = Vec::new();
    planner.step(event, now(), &mut out);
    out
}

fn changed(rows: Vec<Instance>) -> Event {
    Event::Changed(Changes {
        instances: rows,
        ..Changes::default()
    })
}

/// Commands in a few words.
fn words(commands: &[Command]) -> Vec<String> {
    let name = |key: &TaskKey| match key.map_index {
        -1 => key.task_id.to_string(),
        index => format!("{}[{index}]", key.task_id),
    };
    commands
        .iter()
        .map(|command| match command {
            Command::Create(new) => format!(
                "create {}",
                new.iter().map(|n| name(&n.key)).collect::<Vec<_>>().join(" ")
            ),
            Command::PlaceholderBecomesFirst { task_id } => format!("first {task_id}"),
            Command::DeletePlaceholder { task_id } => format!("delete {task_id}"),
            Command::SetState { key, to, .. } => format!("{} {}", name(key), to.map_or("none", TaskState::as_str)),
            Command::Ready { key, try_number, .. } => format!("{} ready {try_number}", name(key)),
            Command::SucceedAtOnce { key, .. } => format!("{} at once", name(key)),
            Command::DeferAtOnce { key, .. } => format!("{} deferred", name(key)),
            Command::WakeAt(time) => format!("wake {time}"),
            Command::FinishRun(end) => format!("run {} {:?}", end.state, end.why),
        })
        .collect()
}

#[test]
fn a_chain_runs_one_after_the_other_and_the_run_succeeds() {
    let (mut planner, first) = load(
        dag(vec![task("a", &[1]), task("b", &[])]),
        snapshot(vec![row("a", None), row("b", None)]),
    );
    assert_eq!(words(&first), ["a ready 1"]);
    let running = Instance {
        try_number: 1,
        ..row("a", Some(TaskState::Running))
    };
    assert!(step(&mut planner, changed(vec![running])).is_empty());
    assert_eq!(
        words(&step(&mut planner, changed(vec![row("a", Some(TaskState::Success))]))),
        ["b ready 1"]
    );
    let end = step(&mut planner, changed(vec![row("b", Some(TaskState::Success))]));
    assert_eq!(words(&end), ["run success Success"]);
    assert!(planner.is_finished());
}

#[test]
fn a_run_without_instances_gets_them() {
    let mapped = TaskSpec {
        expand: Some(Expand {
            factors: vec![LengthOf::Literal(2), LengthOf::Literal(2)],
            dependencies: Vec::new(),
        }),
        ..task("m", &[])
    };
    let late = TaskSpec {
        start_date: Some(at("2027-01-01T00:00:00Z")),
        ..task("late", &[])
    };
    let (_, commands) = load(dag(vec![task("a", &[]), mapped, late]), snapshot(Vec::new()));
    assert_eq!(words(&commands)[0], "create a m[0] m[1] m[2] m[3]");
}

#[test]
fn trivial_tasks_succeed_without_an_executor() {
    let trivial = |id: &str, down: &[u32]| TaskSpec {
        is_trivial: true,
        ..task(id, down)
    };
    let (_, commands) = load(
        dag(vec![trivial("a", &[1]), trivial("b", &[])]),
        snapshot(vec![row("a", None), row("b", None)]),
    );
    assert_eq!(words(&commands), ["a at once", "b at once", "run success Success"]);
}

#[test]
fn a_retry_waits_for_its_delay_and_keeps_counting() {
    let (mut planner, _) = load(dag(vec![task("a", &[])]), snapshot(vec![row("a", None)]));
    let failed = Instance {
        state: Some(TaskState::UpForRetry),
        try_number: 1,
        end_date: Some(at("2026-03-01T11:59:00Z")),
        ..row("a", None)
    };
    assert_eq!(
        words(&step(&mut planner, changed(vec![failed]))),
        ["wake 2026-03-01T12:04:00Z"]
    );
    assert_eq!(
        planner.why(&key("a", -1), now()),
        Decision::WaitsUntil(at("2026-03-01T12:04:00Z"))
    );
    let mut out = Vec::new();
    planner.step(Event::Timer, at("2026-03-01T12:04:00Z"), &mut out);
    assert_eq!(words(&out), ["a ready 2"]);
}

#[test]
fn a_rescheduled_sensor_comes_back_as_the_same_try() {
    let (mut planner, _) = load(dag(vec![task("a", &[])]), snapshot(vec![row("a", None)]));
    let resting = Instance {
        state: Some(TaskState::UpForReschedule),
        try_number: 1,
        reschedule_date: Some(at("2026-03-01T12:01:00Z")),
        ..row("a", None)
    };
    assert_eq!(
        words(&step(&mut planner, changed(vec![resting]))),
        ["wake 2026-03-01T12:01:00Z"]
    );
    let mut out = Vec::new();
    planner.step(Event::Timer, at("2026-03-01T12:01:00Z"), &mut out);
    assert_eq!(words(&out), ["a ready 1"]);
}

#[test]
fn nothing_starts_while_paused_but_what_follows_still_follows() {
    let mut paused = snapshot(vec![row("a", Some(TaskState::Failed)), row("b", None), row("c", None)]);
    paused.run.paused = true;
    let (mut planner, commands) = load(dag(vec![task("a", &[1]), task("b", &[]), task("c", &[])]), paused);
    assert_eq!(words(&commands), ["b upstream_failed"]);
    assert_eq!(planner.why(&key("c", -1), now()), Decision::RunNotRunning);
    assert_eq!(words(&step(&mut planner, Event::RunChanged(facts()))), ["c ready 1"]);
}

#[test]
fn a_run_is_not_planned_before_its_time() {
    let mut early = snapshot(vec![row("a", None)]);
    early.run.run_after = at("2026-03-01T13:00:00Z");
    let (mut planner, commands) = load(dag(vec![task("a", &[])]), early);
    assert_eq!(words(&commands), ["wake 2026-03-01T13:00:00Z"]);
    let mut out = Vec::new();
    planner.step(Event::Timer, at("2026-03-01T13:00:00Z"), &mut out);
    assert_eq!(words(&out), ["a ready 1"]);
}

#[test]
fn a_run_that_takes_too_long_fails_and_its_tasks_are_skipped() {
    let mut spec = dag(vec![task("a", &[1]), task("b", &[])]);
    spec.dagrun_timeout = Some(SignedDuration::from_hours(2));
    let rows = vec![row("a", Some(TaskState::Running)), row("b", None)];
    let (mut planner, commands) = load(spec, snapshot(rows));
    assert_eq!(words(&commands), ["wake 2026-03-01T13:00:00Z"]);
    let mut out = Vec::new();
    planner.step(Event::Timer, at("2026-03-01T13:00:00Z"), &mut out);
    assert_eq!(words(&out), ["a skipped", "b skipped", "run failed TimedOut"]);
    let Some(Command::FinishRun(end)) = out.last() else {
        panic!()
    };
    assert_eq!(end.cause, None, "the store knows who began last");
}

#[test]
fn fail_fast_fails_what_runs_and_skips_the_rest_but_teardowns() {
    let mut spec = dag(vec![
        task("bad", &[]),
        task("runs", &[]),
        task("waits", &[]),
        task("done", &[]),
        TaskSpec {
            is_teardown: true,
            trigger_rule: TriggerRule::AllDoneSetupSuccess,
            ..task("tear", &[])
        },
    ]);
    spec.fail_fast = true;
    let rows = vec![
        row("bad", Some(TaskState::Running)),
        row("runs", Some(TaskState::Running)),
        row("waits", Some(TaskState::Queued)),
        row("done", Some(TaskState::Success)),
        row("tear", Some(TaskState::Queued)),
    ];
    let (mut planner, _) = load(spec, snapshot(rows));
    let by_hand = step(&mut planner, changed(vec![row("bad", Some(TaskState::Failed))]));
    assert_eq!(words(&by_hand), Vec::<String>::new());
    let failed = Event::Changed(Changes {
        failed: vec![key("bad", -1)],
        ..Changes::default()
    });
    assert_eq!(words(&step(&mut planner, failed)), ["runs failed", "waits skipped"]);
}

#[test]
fn the_state_of_a_run_is_that_of_its_leaves() {
    let tasks = || {
        vec![
            task("a", &[1]),
            TaskSpec {
                trigger_rule: TriggerRule::AllDone,
                ..task("b", &[])
            },
        ]
    };
    let rows = |b| vec![row("a", Some(TaskState::Failed)), row("b", Some(b))];
    let (_, good) = load(dag(tasks()), snapshot(rows(TaskState::Success)));
    assert_eq!(words(&good), ["run success Success"]);
    let (_, bad) = load(dag(tasks()), snapshot(rows(TaskState::Failed)));
    assert_eq!(words(&bad), ["run failed TaskFailure"]);
}

#[test]
fn a_failed_teardown_fails_the_run_only_if_it_says_so() {
    let tasks = |strict| {
        vec![
            task("work", &[1]),
            TaskSpec {
                is_teardown: true,
                on_failure_fail_dagrun: strict,
                ..task("tear", &[])
            },
        ]
    };
    let rows = || {
        vec![
            row("work", Some(TaskState::Success)),
            row("tear", Some(TaskState::Failed)),
        ]
    };
    assert_eq!(
        words(&load(dag(tasks(false)), snapshot(rows())).1),
        ["run success Success"]
    );
    assert_eq!(
        words(&load(dag(tasks(true)), snapshot(rows())).1),
        ["run failed TaskFailure"]
    );
}

#[test]
fn a_run_in_which_nothing_can_go_on_fails() {
    let stuck = TaskSpec {
        trigger_rule: TriggerRule::AllSkipped,
        ..task("b", &[])
    };
    let rows = vec![row("a", Some(TaskState::Removed)), row("b", None)];
    let (_, commands) = load(dag(vec![task("a", &[1]), stuck]), snapshot(rows));
    let Some(Command::FinishRun(end)) = commands.last() else {
        panic!("{commands:?}")
    };
    assert_eq!((end.state, end.why), (RunState::Failed, WhyEnded::AllTasksDeadlocked));
    assert_eq!(end.cause, Some(key("b", -1)));
}

fn past(unsuccessful: u32, downstream_unsuccessful: bool) -> PastFacts {
    PastFacts {
        first_of_backfill: false,
        previous: Some(PreviousRun {
            logical_date: Some(at("2026-02-28T00:00:00Z")),
            tasks: HashMap::from([(
                TaskId::from("a"),
                PreviousTask {
                    unsuccessful,
                    downstream_unsuccessful,
                },
            )]),
        }),
        existed_before: Vec::new(),
    }
}

fn depending(more: impl FnOnce(&mut TaskSpec)) -> DagSpec {
    let mut spec = TaskSpec {
        depends_on_past: true,
        ..task("a", &[])
    };
    more(&mut spec);
    dag(vec![spec])
}

#[test]
fn depends_on_past_waits_for_the_preceding_run_and_hears_of_it() {
    let mut given = snapshot(vec![row("a", None)]);
    given.past = past(1, false);
    let (mut planner, commands) = load(depending(|_| {}), given);
    assert!(commands.is_empty(), "{commands:?}");
    assert_eq!(planner.why(&key("a", -1), now()), Decision::WaitsForPast);
    assert_eq!(
        words(&step(&mut planner, Event::PastChanged(past(0, true)))),
        ["a ready 1"]
    );
}

#[test]
fn depends_on_past_in_all_its_cases() {
    let ready = |spec: DagSpec, past: PastFacts| {
        let mut given = snapshot(vec![row("a", None)]);
        given.past = past;
        !load(spec, given).1.is_empty()
    };
    let without_it = |existed: bool| PastFacts {
        previous: Some(PreviousRun {
            logical_date: Some(at("2026-02-28T00:00:00Z")),
            tasks: HashMap::new(),
        }),
        existed_before: existed.then(|| TaskId::from("a")).into_iter().collect(),
        first_of_backfill: false,
    };
    let first = PastFacts {
        first_of_backfill: true,
        ..past(1, false)
    };
    assert!(ready(depending(|_| {}), PastFacts::default()), "no preceding run");
    assert!(ready(depending(|_| {}), first), "first of a backfill");
    assert!(!ready(depending(|t| t.wait_for_downstream = true), past(0, true)));
    assert!(ready(depending(|t| t.wait_for_downstream = true), past(0, false)));
    assert!(
        !ready(depending(|_| {}), without_it(false)),
        "the preceding run did not have the task"
    );
    assert!(ready(
        depending(|t| t.ignore_first_depends_on_past = true),
        without_it(false)
    ));
    assert!(!ready(
        depending(|t| t.ignore_first_depends_on_past = true),
        without_it(true)
    ));
    let begins = |t: &mut TaskSpec| t.start_date = Some(at("2026-03-01T00:00:00Z"));
    let mut catching_up = depending(begins);
    catching_up.catchup = true;
    assert!(
        ready(catching_up, past(1, false)),
        "the preceding run was before the task began"
    );
    assert!(!ready(depending(begins), past(1, false)));
}

#[test]
fn a_cleared_task_is_planned_again_and_so_is_what_was_below_it() {
    let rows = vec![
        row("a", Some(TaskState::Failed)),
        row("b", Some(TaskState::UpstreamFailed)),
    ];
    let spec = dag(vec![task("a", &[1]), task("b", &[])]);
    let (mut planner, commands) = load(spec, snapshot(rows));
    assert_eq!(words(&commands), ["run failed TaskFailure"]);
    let cleared = changed(vec![row("a", None), row("b", None)]);
    assert!(
        step(&mut planner, cleared).is_empty(),
        "the run has not been reactivated yet"
    );
    assert_eq!(words(&step(&mut planner, Event::RunChanged(facts()))), ["a ready 1"]);
    assert_eq!(
        words(&step(&mut planner, changed(vec![row("a", Some(TaskState::Success))]))),
        ["b ready 1"]
    );
}

#[test]
fn what_a_branch_left_out_is_skipped_also_after_clearing() {
    let branch = TaskSpec {
        skips: true,
        ..task("branch", &[1, 2])
    };
    let mut given = snapshot(vec![
        row("branch", Some(TaskState::Success)),
        row("yes", None),
        row("no", None),
    ]);
    given.choices = vec![SkipChoice {
        key: key("branch", -1),
        followed: Some(vec![TaskId::from("yes")]),
        skipped: None,
    }];
    let (_, commands) = load(dag(vec![branch, task("yes", &[]), task("no", &[])]), given);
    assert_eq!(words(&commands), ["yes ready 1", "no skipped"]);
    let Command::SetState { why, .. } = &commands[1] else {
        panic!()
    };
    assert_eq!(
        *why,
        WhyState::NotFollowed {
            by: TaskId::from("branch")
        }
    );
}

fn mapped_pair() -> DagSpec {
    let mapped = TaskSpec {
        retries: 3,
        expand: Some(Expand {
            factors: vec![LengthOf::Task(TaskNo(0))],
            dependencies: vec![TaskNo(0)],
        }),
        ..task("m", &[2])
    };
    dag(vec![task("a", &[1]), mapped, task("z", &[])])
}

fn succeeded(id: &str, length: u64) -> Event {
    Event::Changed(Changes {
        instances: vec![row(id, Some(TaskState::Success))],
        lengths: vec![MapLength {
            task_id: TaskId::from(id),
            length: Some(length),
        }],
        ..Changes::default()
    })
}

fn waiting_pair() -> RunSnapshot {
    snapshot(vec![row("a", Some(TaskState::Running)), row("m", None), row("z", None)])
}

#[test]
fn a_mapped_task_expands_when_its_length_is_known() {
    let (mut planner, _) = load(mapped_pair(), waiting_pair());
    let commands = step(&mut planner, succeeded("a", 3));
    assert_eq!(
        words(&commands),
        [
            "first m",
            "create m[1] m[2]",
            "m[0] ready 1",
            "m[1] ready 1",
            "m[2] ready 1"
        ]
    );
    let Command::Create(new) = &commands[1] else { panic!() };
    assert_eq!(new[0].max_tries, 3);
}

#[test]
fn a_task_mapped_over_nothing_is_skipped_and_one_without_length_fails_upstream() {
    let (mut planner, _) = load(mapped_pair(), waiting_pair());
    assert_eq!(
        words(&step(&mut planner, succeeded("a", 0)))[..2],
        ["m skipped", "z skipped"]
    );
    let (mut planner, _) = load(mapped_pair(), waiting_pair());
    let commands = step(&mut planner, changed(vec![row("a", Some(TaskState::Success))]));
    assert_eq!(words(&commands)[..2], ["m upstream_failed", "z upstream_failed"]);
}

#[test]
fn another_version_of_the_dag_removes_restores_and_creates() {
    let spec = dag(vec![task("a", &[1]), task("b", &[])]);
    let rows = vec![row("a", Some(TaskState::Running)), row("b", None)];
    let (mut planner, _) = load(spec, snapshot(rows));
    let without = Arc::new(RunGraph::new(dag(vec![task("a", &[1]), task("c", &[])])).unwrap());
    let commands = step(&mut planner, Event::DagChanged(without));
    assert_eq!(words(&commands), ["b removed", "create c"]);
    let removed = vec![
        row("a", Some(TaskState::Running)),
        row("b", Some(TaskState::Removed)),
        row("c", None),
    ];
    let mut given = snapshot(removed);
    given.verify = true;
    let (_, commands) = load(dag(vec![task("a", &[1]), task("b", &[])]), given);
    assert_eq!(words(&commands), ["c removed", "b none"]);
}

#[test]
fn a_task_that_starts_in_the_triggerer_is_deferred_at_once() {
    let spec = TaskSpec {
        starts_deferred: true,
        ..task("a", &[])
    };
    let (_, commands) = load(dag(vec![spec]), snapshot(vec![row("a", None)]));
    assert_eq!(words(&commands), ["a deferred"]);
}
