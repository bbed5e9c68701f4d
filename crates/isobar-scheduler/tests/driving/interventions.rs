//! People change what is running.

use isobar_model::{RunState, TaskState};
use isobar_store::clearing::{self, Clear, ClearTask};
use isobar_store::runs;
use jiff::Timestamp;
use serde_json::json;

driving!(a_task_cleared_while_it_runs_is_stopped_and_starts_anew, |ground| {
    ground.dag("d", &[("hang", &[], json!({}))], json!({})).await;
    let at = ground.start(8);
    let run = ground.trigger("d", "r").await;
    let before = ground.reaches(&run, "hang", TaskState::Running).await;
    let tasks = [ClearTask {
        key: before.task_key(),
        today: None,
    }];
    let clear = Clear {
        tasks: &tasks,
        run_state: Some(RunState::Queued),
        prevent_running: false,
        version_id: None,
        actor: None,
    };
    let mut tx = ground.store.begin().await.unwrap();
    clearing::clear(&mut tx, ground.scope(), &run, &clear, Timestamp::now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let after = ground
        .until(&run, |_, all| {
            (all[0].state == Some(TaskState::Running) && all[0].id != before.id).then(|| all[0].clone())
        })
        .await;
    assert_eq!(after.try_number, 2);
    assert!(after.dispatch > before.dispatch);
    at.stop().await;
});

driving!(
    a_task_marked_success_while_it_runs_is_stopped_and_the_run_goes_on,
    |ground| {
        ground
            .dag(
                "d",
                &[("hang", &["next"], json!({})), ("next", &[], json!({}))],
                json!({}),
            )
            .await;
        let at = ground.start(8);
        let run = ground.trigger("d", "r").await;
        let hangs = ground.reaches(&run, "hang", TaskState::Running).await;
        let mut tx = ground.store.begin().await.unwrap();
        let keys = [hangs.task_key()];
        clearing::mark(
            &mut tx,
            ground.scope(),
            &run,
            &keys,
            TaskState::Success,
            None,
            Timestamp::now(),
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(ground.ended(&run).await, RunState::Success);
        assert_eq!(*at.tasks.began.lock().unwrap(), ["hang", "next"]);
        while at.tasks.most.lock().unwrap().0 > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        at.stop().await;
    }
);

driving!(a_deleted_run_stops_its_tasks_and_makes_room_for_the_next, |ground| {
    ground
        .dag("d", &[("hang", &[], json!({}))], json!({"max_active_runs": 1}))
        .await;
    let at = ground.start(8);
    let first = ground.trigger("d", "r1").await;
    ground.reaches(&first, "hang", TaskState::Running).await;
    let second = ground.trigger("d", "r2").await;
    let mut tx = ground.store.begin().await.unwrap();
    assert!(
        runs::delete(&mut tx, ground.scope(), &first, Timestamp::now())
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    ground.reaches(&second, "hang", TaskState::Running).await;
    at.stop().await;
});

driving!(a_finished_run_whose_task_is_cleared_runs_again, |ground| {
    ground
        .dag("d", &[("a", &["b"], json!({})), ("b", &[], json!({}))], json!({}))
        .await;
    let at = ground.start(8);
    let run = ground.trigger("d", "r").await;
    assert_eq!(ground.ended(&run).await, RunState::Success);
    let b = ground.reaches(&run, "b", TaskState::Success).await;
    let tasks = [ClearTask {
        key: b.task_key(),
        today: None,
    }];
    let clear = Clear {
        tasks: &tasks,
        run_state: Some(RunState::Queued),
        prevent_running: false,
        version_id: None,
        actor: None,
    };
    let mut tx = ground.store.begin().await.unwrap();
    clearing::clear(&mut tx, ground.scope(), &run, &clear, Timestamp::now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let again = ground
        .until(&run, |row, all| {
            let b = all.iter().find(|ti| ti.task_id.as_str() == "b")?;
            (row.state.is_finished() && b.try_number == 2).then(|| b.clone())
        })
        .await;
    assert_eq!(again.state, Some(TaskState::Success));
    at.stop().await;
});
