//! Every way in which a task can end, with Airflow's own task runner on the other side.

mod support;

use std::time::{Duration, Instant};

use isobar_runtime::zygote::Exit;
use isobar_wire::execution::{Operation, TaskEnd};
use serde_json::json;
use support::{Done, MemoryApi, Team, World};

/// Runs one task of a queued try and gives what the control plane saw.
async fn run(task: &str, change: impl FnOnce(&mut World)) -> (Done, std::sync::Arc<MemoryApi>) {
    let team = Team::start().await;
    let api = MemoryApi::with(change);
    let done = team.run(&api, task).await;
    (done, api)
}

/// Runs one task after another in one team.
async fn flows(cases: &[(&str, i32, &str, Exit, &str)]) {
    let team = Team::start().await;
    for (task, max_tries, state, exit, said) in cases {
        let api = MemoryApi::with(|world| world.max_tries = *max_tries);
        let done = team.run(&api, task).await;
        let world = api.world();
        let seen = format!("{task}: {:?} {:#?}", done.ended, done.log);
        assert_eq!(world.state, *state, "{seen}");
        assert_eq!(done.ended.reported, Some(*state), "{seen}");
        assert_eq!(done.ended.exit, Some(*exit), "{seen}");
        assert_eq!(world.ends.len(), 1, "{seen}");
        assert!(done.has(said), "`{said}` is missing: {seen}");
    }
}

#[tokio::test]
async fn a_task_that_ends_by_its_own_word_ends_as_it_says() {
    flows(&[
        ("noop", 0, "success", Exit::Code(0), "success callback for noop"),
        ("boom", 0, "failed", Exit::Code(0), "failure callback for boom"),
        ("boom", 2, "up_for_retry", Exit::Code(0), "retry callback for boom"),
        ("give_up", 2, "failed", Exit::Code(0), "failure callback for give_up"),
        ("skip", 2, "skipped", Exit::Code(0), "skip callback for skip"),
        ("sys_exit", 0, "failed", Exit::Code(0), "failure callback for sys_exit"),
        (
            "too_long",
            2,
            "up_for_retry",
            Exit::Code(0),
            "retry callback for too_long",
        ),
        ("bash", 0, "success", Exit::Code(0), "last-line"),
        ("bash_skip", 0, "skipped", Exit::Code(0), "skip callback for bash_skip"),
        (
            "bash_fail",
            1,
            "up_for_retry",
            Exit::Code(0),
            "retry callback for bash_fail",
        ),
        ("leaves_a_process", 0, "success", Exit::Code(0), "Post Execute"),
    ])
    .await;
}

#[tokio::test]
async fn a_process_that_dies_is_retried_or_failed_at_once_and_says_why() {
    flows(&[
        ("os_exit", 0, "failed", Exit::Code(7), "exited with code 7"),
        ("os_exit", 1, "up_for_retry", Exit::Code(7), "exited with code 7"),
        (
            "os_exit_well",
            0,
            "failed",
            Exit::Code(0),
            "without saying how the task ended",
        ),
        ("killed", 0, "failed", Exit::Signal(9), "OOM"),
        ("killed", 1, "up_for_retry", Exit::Signal(9), "SIGKILL"),
        ("crash", 0, "failed", Exit::Signal(6), "SIGABRT"),
    ])
    .await;
}

#[tokio::test]
async fn a_dead_process_lost_its_callbacks_and_a_failed_task_did_not() {
    let (done, _) = run("killed", |_| {}).await;
    assert!(done.ended.callbacks_lost);
    assert!(done.ended.failure.unwrap().contains("SIGKILL"));
    let (done, _) = run("boom", |_| {}).await;
    assert!(!done.ended.callbacks_lost);
    assert_eq!(done.ended.failure, None);
}

#[tokio::test]
async fn results_outlets_and_skips_reach_the_control_plane() {
    let team = Team::start().await;
    let api = MemoryApi::with(|_| {});
    team.run(&api, "value").await;
    let result =
        |api: &MemoryApi, task: &str, key: &str| api.world().xcoms.get(&(task.into(), key.into(), -1)).cloned();
    assert_eq!(result(&api, "value", "return_value"), Some(json!({"answer": 42})));

    let api = MemoryApi::with(|_| {});
    team.run(&api, "outputs").await;
    assert_eq!(result(&api, "outputs", "b"), Some(json!(2)));

    let api = MemoryApi::with(|_| {});
    team.run(&api, "outlet").await;
    let TaskEnd::Success {
        task_outlets,
        outlet_events,
        ..
    } = api.world().ends[0].clone()
    else {
        panic!("the task with an outlet did not succeed")
    };
    assert_eq!(task_outlets[0]["uri"], "s3://bucket/out");
    assert_eq!(outlet_events[0]["extra"], json!({"rows": 5}));

    let api = MemoryApi::with(|_| {});
    team.run(&api, "short").await;
    assert_eq!(api.world().skipped, [json!("after_short")]);

    let api = MemoryApi::with(|_| {});
    team.run(&api, "branch").await;
    assert_eq!(api.world().skipped, [json!(["right", -1])]);
    assert_eq!(
        result(&api, "branch", "skipmixin_key"),
        Some(json!({"followed": ["left"]}))
    );

    let api = MemoryApi::with(|_| {});
    team.run(&api, "bash").await;
    assert_eq!(
        api.world().rendered["bash_command"],
        "echo from bash 2026-01-01; echo last-line"
    );
}

#[tokio::test]
async fn mapped_tasks_take_their_element_and_name_themselves() {
    let team = Team::start().await;
    let api = MemoryApi::with(|_| {});
    team.run(&api, "numbers").await;
    assert_eq!(api.world().mapped_lengths["numbers"], 3);
    api.world().state = "queued".into();
    let done = team.run_mapped(&api, "mapped", 1).await;
    assert!(done.has("number is 20"), "{:#?}", done.log);
    assert_eq!(api.world().rendered_map_index.as_deref(), Some("1-named"));
    assert_eq!(
        api.world().xcoms[&("mapped".into(), "return_value".into(), 1)],
        json!(20)
    );
}

#[tokio::test]
async fn waiting_tasks_leave_their_process_and_say_how_to_go_on() {
    let team = Team::start().await;
    let api = MemoryApi::with(|_| {});
    let done = team.run(&api, "never").await;
    assert_eq!(done.ended.reported, Some("up_for_reschedule"));

    let api = MemoryApi::with(|_| {});
    let done = team.run(&api, "defer").await;
    assert_eq!(done.ended.reported, Some("deferred"));
    let TaskEnd::Deferred(body) = api.world().ends[0].clone() else {
        panic!("not deferred")
    };
    assert_eq!(
        body["classpath"],
        "airflow.providers.standard.triggers.temporal.DateTimeTrigger"
    );
    assert_eq!(body["next_method"], "execute_complete");

    let api = MemoryApi::with(|world| {
        world.next_method = Some("execute_complete".into());
        world.next_kwargs = Some(json!({"event": "2026-01-01T00:00:00Z"}));
    });
    let done = team.run(&api, "defer").await;
    assert_eq!(done.ended.reported, Some("success"), "{:#?}", done.log);

    let api = MemoryApi::with(|_| {});
    let done = team.run(&api, "ask").await;
    assert_eq!(done.ended.reported, Some("awaiting_input"), "{:#?}", done.log);
    assert_eq!(api.world().hitl.as_ref().unwrap()["subject"], "what now?");
}

#[tokio::test]
async fn a_task_that_its_file_lacks_is_put_off_and_then_failed() {
    let (done, _) = run("no_such_task", |_| {}).await;
    assert_eq!(done.ended.reported, Some("up_for_reschedule"), "{:#?}", done.log);
    let (done, _) = run("no_such_task", |world| world.reschedules = 3).await;
    assert_eq!(done.ended.reported, Some("failed"), "{:#?}", done.log);
    assert_eq!(done.ended.exit, Some(Exit::Code(1)));
}

#[tokio::test]
async fn starting_runs_and_keeping_state_work() {
    let team = Team::start().await;
    let api = MemoryApi::with(|_| {});
    let done = team.run(&api, "trigger").await;
    assert_eq!(done.ended.reported, Some("success"), "{:#?}", done.log);
    let (dag, run, body) = api.world().triggered[0].clone();
    assert_eq!(
        (dag.as_str(), run.as_str(), &body["conf"]),
        ("other", "run-1", &json!({"a": 1}))
    );
    // The run exists now, and the operator fails on that by itself.
    api.world().state = "queued".into();
    let done = team.run(&api, "trigger").await;
    assert_eq!(done.ended.reported, Some("failed"), "{:#?}", done.log);

    let api = MemoryApi::with(|_| {});
    let done = team.run(&api, "store").await;
    assert_eq!(done.ended.reported, Some("success"), "{:#?}", done.log);
    assert_eq!(api.world().store["k"], json!({"v": 1}));
    assert!(done.has("before None") && done.has("after {'v': 1}"), "{:#?}", done.log);
}

#[tokio::test]
async fn xcoms_of_the_try_before_are_cleared_and_large_ones_pass() {
    let (_, api) = run("noop", |world| {
        world.xcoms.insert(("noop".into(), "old".into(), -1), json!(1));
        world.xcom_keys_to_clear = vec!["old".into()];
    })
    .await;
    assert!(api.world().xcoms.is_empty());
    let (done, api) = run("big", |_| {}).await;
    assert_eq!(done.ended.reported, Some("success"), "{:#?}", done.log.last());
    assert_eq!(
        api.world().xcoms[&("big".into(), "return_value".into(), -1)]
            .as_str()
            .unwrap()
            .len(),
        20_000_000
    );
}

#[tokio::test]
async fn a_number_that_json_lacks_is_refused_and_not_stored_as_null() {
    let (done, api) = run("not_a_number", |_| {}).await;
    assert_eq!(done.ended.reported, Some("failed"));
    assert!(api.world().xcoms.is_empty());
    assert!(done.has("Out of range float values"), "{:#?}", done.log);
}

#[tokio::test]
async fn a_report_that_fails_is_made_again_after_the_exit() {
    // Two pauses between three attempts of the child's own word; the fourth is the one after the exit.
    let (done, api) = run("noop", |world| world.fail_reports = 3).await;
    assert_eq!(done.ended.reported, Some("success"), "{:?}", done.ended);
    let reports = api
        .world()
        .log
        .iter()
        .filter(|op| matches!(op, Operation::State(_)))
        .count();
    assert_eq!(reports, 4);
}

#[tokio::test]
async fn a_try_that_may_not_start_reports_nothing() {
    let (done, api) = run("noop", |world| world.state = "running".into()).await;
    assert_eq!(done.ended.reported, None);
    assert!(done.ended.failure.unwrap().contains("already running"));
    assert_eq!(api.world().log.len(), 1);
}

#[tokio::test]
async fn the_end_is_known_without_a_tail() {
    let team = Team::start().await;
    // The first task pays for the file's bytecode.
    team.run(&MemoryApi::with(|_| {}), "noop").await;
    let begin = Instant::now();
    let done = team.run(&MemoryApi::with(|_| {}), "skip").await;
    assert_eq!(done.ended.reported, Some("skipped"));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let begin = Instant::now();
    let done = team.run(&MemoryApi::with(|_| {}), "leaves_a_process").await;
    assert_eq!(done.ended.reported, Some("success"));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}
