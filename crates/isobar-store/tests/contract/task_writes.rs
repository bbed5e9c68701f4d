//! What a task's supervisor writes, and what it cannot write.

use crate::ground::{Ground, key, now, older, run_key};
use isobar_model::{AirflowTime, TaskState, TiId};
use isobar_store::transitions::{Ended, TaskWrite, ended, heartbeat, lost, put_back, skip_downstream, started};
use isobar_store::{events, task_instances};
use isobar_wire::execution::{TaskIdentity, TaskStart};

fn start(pid: i32) -> TaskStart {
    TaskStart {
        hostname: "host".to_owned(),
        unixname: "me".to_owned(),
        pid,
        start_date: AirflowTime(now()),
    }
}

async fn run(ground: &Ground, identity: &TaskIdentity) {
    let mut tx = ground.store.begin().await.unwrap();
    let done = started(&mut tx, ground.org.team(identity.team), identity, &start(7), now())
        .await
        .unwrap();
    assert!(matches!(done, TaskWrite::Done(_)), "{done:?}");
    tx.commit().await.unwrap();
}

async fn end(ground: &Ground, identity: &TaskIdentity, end: &Ended) -> TaskWrite<isobar_store::transitions::EndedTask> {
    let mut tx = ground.store.begin().await.unwrap();
    let at = now();
    let written = ended(&mut tx, ground.org.team(identity.team), identity, end, at, None, at)
        .await
        .unwrap();
    if matches!(written, TaskWrite::Done(_)) {
        tx.commit().await.unwrap();
    }
    written
}

contract!(a_task_starts_once_and_the_same_client_may_ask_again, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    run(ground, &identity).await;
    let mut tx = ground.store.begin().await.unwrap();
    let again = started(&mut tx, ground.team(1), &identity, &start(7), now())
        .await
        .unwrap();
    assert!(matches!(again, TaskWrite::Repeated(_)), "{again:?}");
    let other = started(&mut tx, ground.team(1), &identity, &start(8), now())
        .await
        .unwrap();
    let TaskWrite::WrongState(row) = other else {
        panic!("{other:?}")
    };
    assert_eq!(row.state, Some(TaskState::Running));
});

contract!(a_success_is_written_once_with_an_event_that_describes_it, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    run(ground, &identity).await;
    let TaskWrite::Done(done) = end(ground, &identity, &Ended::Finally(TaskState::Success)).await else {
        panic!("it runs")
    };
    assert!(done.after.duration.is_some_and(|seconds| seconds >= 0.0));
    assert!(done.after.finishing_until.is_some());
    let mut tx = ground.store.begin().await.unwrap();
    let told = events::claim(&mut tx, &ground.org, 10).await.unwrap();
    let last = told.last().unwrap();
    assert_eq!(last.rev, done.run.rev);
    assert_eq!(last.body["instances"][0]["state"], "success");
    tx.commit().await.unwrap();
    let again = end(ground, &identity, &Ended::Finally(TaskState::Success)).await;
    assert!(matches!(again, TaskWrite::Repeated(_)), "{again:?}");
    let other = end(ground, &identity, &Ended::Finally(TaskState::Failed)).await;
    assert!(matches!(other, TaskWrite::WrongState(_)), "{other:?}");
});

contract!(an_older_dispatch_or_another_id_writes_nothing, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    run(ground, &identity).await;
    let other = TaskIdentity {
        ti_id: TiId::fresh(),
        ..identity.clone()
    };
    for stranger in [older(&identity), other] {
        let refused = end(ground, &stranger, &Ended::Finally(TaskState::Success)).await;
        assert!(matches!(refused, TaskWrite::Archived), "{refused:?}");
        let mut tx = ground.store.begin().await.unwrap();
        let refused = heartbeat(&mut tx, ground.team(1), &stranger, "host", 7, now())
            .await
            .unwrap();
        assert!(matches!(refused, TaskWrite::Archived), "{refused:?}");
    }
    let mut tx = ground.store.begin().await.unwrap();
    let alive = heartbeat(&mut tx, ground.team(1), &identity, "host", 7, now())
        .await
        .unwrap();
    assert_eq!(alive, TaskWrite::Done(()));
    let elsewhere = heartbeat(&mut tx, ground.team(1), &identity, "host", 8, now())
        .await
        .unwrap();
    assert!(matches!(elsewhere, TaskWrite::WrongState(_)), "{elsewhere:?}");
});

contract!(a_retry_archives_the_try_as_failed_and_gives_a_new_id, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    run(ground, &identity).await;
    let retry = Ended::UpForRetry {
        delay: Some(1.5),
        reason: Some("x".repeat(600)),
    };
    let TaskWrite::Done(done) = end(ground, &identity, &retry).await else {
        panic!("it runs")
    };
    assert_eq!(done.after.state, Some(TaskState::UpForRetry));
    assert_ne!(done.after.id, identity.ti_id);
    assert_eq!(done.after.try_number, 1);
    assert_eq!(done.after.retry_delay_override, Some(1.5));
    assert_eq!(done.after.retry_reason.as_ref().map(String::len), Some(500));
    let mut tx = ground.store.read().await.unwrap();
    assert!(
        task_instances::is_archived(&mut tx, ground.team(1), identity.ti_id)
            .await
            .unwrap()
    );
    let refused = end(ground, &identity, &Ended::Finally(TaskState::Success)).await;
    assert!(matches!(refused, TaskWrite::Archived), "{refused:?}");
});

contract!(a_rescheduled_sensor_keeps_its_id_and_its_try, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    run(ground, &identity).await;
    let at = now();
    let TaskWrite::Done(done) = end(ground, &identity, &Ended::UpForReschedule { at }).await else {
        panic!("it runs")
    };
    assert_eq!((done.after.id, done.after.try_number), (identity.ti_id, 1));
    let mut tx = ground.store.read().await.unwrap();
    let contents = isobar_store::loading::run_contents(&mut tx, ground.team(1), &run_key(&identity))
        .await
        .unwrap();
    assert_eq!(contents.reschedules.get(&identity.ti_id.0), Some(&at));
});

contract!(a_lost_task_is_ended_only_while_that_dispatch_holds_it, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    let failed = Ended::Finally(TaskState::Failed);
    let mut tx = ground.store.begin().await.unwrap();
    let refused = lost(&mut tx, &ground.org, &older(&identity), &failed, now())
        .await
        .unwrap();
    assert!(matches!(refused, TaskWrite::Archived), "{refused:?}");
    drop(tx);
    let mut tx = ground.store.begin().await.unwrap();
    let done = lost(&mut tx, &ground.org, &identity, &failed, now()).await.unwrap();
    assert!(matches!(done, TaskWrite::Done(_)), "{done:?}");
    tx.commit().await.unwrap();
    let mut tx = ground.store.begin().await.unwrap();
    let again = lost(&mut tx, &ground.org, &identity, &failed, now()).await.unwrap();
    assert!(matches!(again, TaskWrite::WrongState(_)), "{again:?}");
});

contract!(a_task_that_was_put_back_cannot_start_any_more, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    let mut tx = ground.store.begin().await.unwrap();
    assert_eq!(
        put_back(&mut tx, &ground.org, &identity, now()).await.unwrap(),
        TaskWrite::Done(())
    );
    tx.commit().await.unwrap();
    let mut tx = ground.store.begin().await.unwrap();
    let refused = started(&mut tx, ground.team(1), &identity, &start(7), now())
        .await
        .unwrap();
    assert!(matches!(refused, TaskWrite::WrongState(_)), "{refused:?}");
});

contract!(skipping_downstream_leaves_what_runs_or_ended, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    run(ground, &identity).await;
    let mut tx = ground.store.begin().await.unwrap();
    let others = [crate::ground::new_instance("a"), crate::ground::new_instance("b")];
    task_instances::insert(&mut tx, ground.team(1), &run_key(&identity), &others, now())
        .await
        .unwrap();
    let tasks = ["a", "b", "t", "nothing"].map(|task| (task.into(), -1));
    let done = skip_downstream(&mut tx, ground.team(1), &identity, &tasks, now())
        .await
        .unwrap();
    assert_eq!(done, TaskWrite::Done(2));
    tx.commit().await.unwrap();
    let mut tx = ground.store.read().await.unwrap();
    let ti = task_instances::get(&mut tx, ground.team(1), &run_key(&identity), &key("a"))
        .await
        .unwrap();
    assert_eq!(ti.unwrap().state, Some(TaskState::Skipped));
});
