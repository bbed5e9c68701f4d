//! Clearing and marking, as Airflow does.

use crate::ground::{key, new_instance, now, run_key};
use isobar_model::{AirflowTime, RunState, TaskState};
use isobar_store::clearing::{self, Clear, ClearTask, Cleared};
use isobar_store::task_instances::NewTaskInstance;
use isobar_store::transitions::{Ended, TaskWrite, ended, restarted, started};
use isobar_store::{events, task_instances};
use isobar_wire::execution::{TaskIdentity, TaskStart};

async fn run(ground: &crate::ground::Ground, identity: &TaskIdentity) {
    let mut tx = ground.store.begin().await.unwrap();
    let start = TaskStart {
        hostname: "h".to_owned(),
        unixname: "u".to_owned(),
        pid: 1,
        start_date: AirflowTime(now()),
    };
    let done = started(&mut tx, ground.team(1), identity, &start, now()).await.unwrap();
    assert!(matches!(done, TaskWrite::Done(_)));
    tx.commit().await.unwrap();
}

fn clear(tasks: &[ClearTask]) -> Clear<'_> {
    Clear {
        tasks,
        run_state: Some(RunState::Queued),
        prevent_running: false,
        version_id: None,
        actor: Some("me"),
    }
}

fn task(retries: i32) -> [ClearTask; 1] {
    [ClearTask {
        key: key("t"),
        today: Some(NewTaskInstance {
            max_tries: retries,
            pool: "as written today".to_owned(),
            ..new_instance("t")
        }),
    }]
}

contract!(
    a_cleared_running_task_restarts_and_its_old_process_can_write_nothing,
    |ground| {
        let identity = ground.queued(1, "d", "r", "t").await;
        run(ground, &identity).await;
        let tasks = task(2);
        let mut tx = ground.store.begin().await.unwrap();
        let careful = Clear {
            prevent_running: true,
            ..clear(&tasks)
        };
        let refused = clearing::clear(&mut tx, ground.team(1), &run_key(&identity), &careful, now())
            .await
            .unwrap();
        assert_eq!(refused, Cleared::Running(key("t")));
        drop(tx);
        let mut tx = ground.store.begin().await.unwrap();
        let Cleared::Done(row, after) =
            clearing::clear(&mut tx, ground.team(1), &run_key(&identity), &clear(&tasks), now())
                .await
                .unwrap()
        else {
            panic!("the run is there")
        };
        tx.commit().await.unwrap();
        assert_eq!((row.state, row.clear_number), (RunState::Running, 1));
        assert_eq!(after[0].state, Some(TaskState::Restarting));
        assert_eq!(after[0].max_tries, 1, "as Airflow, only the others get more tries");
        let mut tx = ground.store.begin().await.unwrap();
        let late = ended(
            &mut tx,
            ground.team(1),
            &identity,
            &Ended::Finally(TaskState::Success),
            now(),
            None,
            now(),
        )
        .await
        .unwrap();
        assert!(matches!(late, TaskWrite::Archived), "{late:?}");
        drop(tx);
        let mut tx = ground.store.begin().await.unwrap();
        let done = restarted(&mut tx, &ground.org, &identity, 2, now()).await.unwrap();
        assert_eq!(done, TaskWrite::Done(()));
        tx.commit().await.unwrap();
        let mut tx = ground.store.read().await.unwrap();
        let ti = task_instances::get(&mut tx, ground.team(1), &run_key(&identity), &key("t"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((ti.state, ti.try_number, ti.max_tries), (None, 1, 3));
    }
);

contract!(
    a_cleared_finished_task_gets_its_retries_again_and_its_run_is_queued,
    |ground| {
        let identity = ground.queued(1, "d", "r", "t").await;
        run(ground, &identity).await;
        let scope = ground.team(1);
        let mut tx = ground.store.begin().await.unwrap();
        let end = Ended::Finally(TaskState::Failed);
        let done = ended(&mut tx, scope, &identity, &end, now(), None, now())
            .await
            .unwrap();
        assert!(matches!(done, TaskWrite::Done(_)));
        clearing::set_run_state(
            &mut tx,
            scope,
            &run_key(&identity),
            RunState::Failed,
            &|_| false,
            None,
            now(),
        )
        .await
        .unwrap()
        .unwrap();
        tx.commit().await.unwrap();

        let tasks = task(2);
        let mut tx = ground.store.begin().await.unwrap();
        let Cleared::Done(row, after) = clearing::clear(&mut tx, scope, &run_key(&identity), &clear(&tasks), now())
            .await
            .unwrap()
        else {
            panic!("the run is there")
        };
        tx.commit().await.unwrap();
        assert_eq!(
            (row.state, row.start_date, row.end_date),
            (RunState::Queued, None, None)
        );
        assert_eq!((after[0].state, after[0].try_number, after[0].max_tries), (None, 1, 3));
        assert_eq!(after[0].pool, "as written today");
        assert_ne!(after[0].id, identity.ti_id);
        let mut tx = ground.store.begin().await.unwrap();
        assert!(
            task_instances::is_archived(&mut tx, scope, identity.ti_id)
                .await
                .unwrap()
        );
        let told = events::claim(&mut tx, &ground.org, 10).await.unwrap();
        assert_eq!(told.last().unwrap().rev, row.rev);
    }
);

contract!(marking_a_run_failed_ends_what_runs_and_skips_what_waits, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    run(ground, &identity).await;
    let (scope, run) = (ground.team(1), run_key(&identity));
    let mut tx = ground.store.begin().await.unwrap();
    let more = [
        crate::ground::new_instance("waits"),
        crate::ground::new_instance("teardown"),
    ];
    task_instances::insert(&mut tx, scope, &run, &more, now())
        .await
        .unwrap();
    let is_teardown = |task: &isobar_model::TaskId| task.as_str() == "teardown";
    let row = clearing::set_run_state(&mut tx, scope, &run, RunState::Failed, &is_teardown, Some("me"), now())
        .await
        .unwrap()
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(row.state, RunState::Running, "the teardown still has to work");
    let mut tx = ground.store.read().await.unwrap();
    let states: Vec<_> = task_instances::of_run(&mut tx, scope, &run)
        .await
        .unwrap()
        .into_iter()
        .map(|ti| (ti.task_id.to_string(), ti.state))
        .collect();
    assert_eq!(
        states,
        [
            ("t".to_owned(), Some(TaskState::Failed)),
            ("teardown".to_owned(), None),
            ("waits".to_owned(), Some(TaskState::Skipped)),
        ]
    );
});
