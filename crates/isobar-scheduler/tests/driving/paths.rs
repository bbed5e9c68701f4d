//! Runs from their first task to their end.

use isobar_model::{RunState, TaskState};
use serde_json::json;

driving!(a_chain_runs_in_order_to_success, |ground| {
    ground
        .dag(
            "d",
            &[
                ("a", &["b"], json!({})),
                ("b", &["c"], json!({})),
                ("c", &[], json!({})),
            ],
            json!({}),
        )
        .await;
    let at = ground.start(8);
    let run = ground.trigger("d", "r").await;
    assert_eq!(ground.ended(&run).await, RunState::Success);
    assert_eq!(*at.tasks.began.lock().unwrap(), ["a", "b", "c"]);
    let all = ground.instances(&run).await;
    assert!(all.iter().all(|ti| ti.dispatch.0 == 1 && ti.try_number == 1));
    for pair in all.windows(2) {
        assert!(pair[0].end_date.unwrap() <= pair[1].queued_at.unwrap());
    }
    at.stop().await;
});

driving!(
    a_failed_task_takes_its_downstream_with_it_and_a_retried_one_does_not,
    |ground| {
        let tasks: [(&str, &[&str], serde_json::Value); 4] = [
            ("fail", &["below"], json!({})),
            ("below", &[], json!({})),
            ("once", &["after"], json!({"retries": 1})),
            ("after", &[], json!({})),
        ];
        ground.dag("d", &tasks, json!({})).await;
        let at = ground.start(8);
        let run = ground.trigger("d", "r").await;
        assert_eq!(ground.ended(&run).await, RunState::Failed);
        assert_eq!(
            ground.states(&run).await,
            [
                ("after".to_owned(), Some(TaskState::Success), 1),
                ("below".to_owned(), Some(TaskState::UpstreamFailed), 0),
                ("fail".to_owned(), Some(TaskState::Failed), 1),
                ("once".to_owned(), Some(TaskState::Success), 2),
            ]
        );
        at.stop().await;
    }
);

driving!(no_more_run_at_once_than_the_dag_allows, |ground| {
    let names: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
    let tasks: Vec<(&str, &[&str], serde_json::Value)> =
        names.iter().map(|name| (name.as_str(), &[][..], json!({}))).collect();
    ground.dag("d", &tasks, json!({"max_active_tasks": 3})).await;
    let at = ground.start(32);
    let run = ground.trigger("d", "r").await;
    assert_eq!(ground.ended(&run).await, RunState::Success);
    assert!(at.tasks.most.lock().unwrap().1 <= 3);
    at.stop().await;
});

driving!(runs_beyond_max_active_runs_wait_queued_with_their_instances, |ground| {
    ground
        .dag("d", &[("gate", &[], json!({}))], json!({"max_active_runs": 1}))
        .await;
    let at = ground.start(8);
    let first = ground.trigger("d", "r1").await;
    ground.reaches(&first, "gate", TaskState::Running).await;
    let second = ground.trigger("d", "r2").await;
    let waiting = ground
        .until(&second, |row, all| all.first().map(|ti| (row.state, ti.state)))
        .await;
    assert_eq!(waiting, (RunState::Queued, None));
    at.tasks.gate.add_permits(2);
    assert_eq!(ground.ended(&first).await, RunState::Success);
    assert_eq!(ground.ended(&second).await, RunState::Success);
    at.stop().await;
});

driving!(
    a_dag_that_is_stored_while_the_scheduler_runs_is_known_at_once,
    |ground| {
        let at = ground.start(8);
        ground.dag("late", &[("a", &[], json!({}))], json!({})).await;
        let run = ground.trigger("late", "r").await;
        assert_eq!(ground.ended(&run).await, RunState::Success);
        at.stop().await;
    }
);

driving!(one_of_two_schedulers_works_and_the_other_takes_over, |ground| {
    if ground.store.dialect() == isobar_store::Dialect::Sqlite {
        return;
    }
    ground.dag("d", &[("a", &[], json!({}))], json!({})).await;
    let one = ground.start(8);
    let first = ground.trigger("d", "r1").await;
    assert_eq!(ground.ended(&first).await, RunState::Success);
    one.stop().await;
    let two = ground.start(8);
    let second = ground.trigger("d", "r2").await;
    assert_eq!(ground.ended(&second).await, RunState::Success);
    two.stop().await;
});

driving!(without_its_job_schedule_a_scheduler_runs_what_clients_make, |ground| {
    let often = json!({
        "timetable": {"__type": "airflow.timetables.simple.OnceTimetable", "__var": {}},
        "start_date": 1_767_225_600.0,
    });
    ground.dag("often", &[("a", &[], json!({}))], often).await;
    let made = isobar_model::RunKey {
        dag_id: "often".into(),
        run_id: "scheduled__2026-01-01T00:00:00+00:00".into(),
    };
    let at = ground.start_with(8, |setting| setting.makes_runs = false);
    let run = ground.trigger("often", "by_hand").await;
    assert_eq!(ground.ended(&run).await, RunState::Success);
    let mut tx = ground.store.read().await.unwrap();
    let scheduled = isobar_store::runs::get(&mut tx, ground.scope(), &made).await;
    assert!(scheduled.unwrap().is_none());
    drop(tx);
    at.stop().await;
    let at = ground.start(8);
    assert_eq!(ground.ended(&made).await, RunState::Success);
    at.stop().await;
});
