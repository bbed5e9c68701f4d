//! What the scheduler commits: at the revision it planned from, under its lease, each run for itself.

use crate::ground::{key, now};
use isobar_model::{RunState, TaskState, TeamId};
use isobar_store::leases;
use isobar_store::transitions::{
    Dates, Decided, Placeholder, PlanOutcome, PlannedRun, QueueTask, ReadyTask, RunUpdate, commit_plans,
};
use isobar_store::{StoreError, runs, task_instances};

contract!(a_run_that_moved_is_left_alone_and_the_others_are_written, |ground| {
    let lease = ground.lease().await;
    let moved = ground.run(1, "d", "moved", &["t"]).await;
    let still = ground.run(2, "d", "still", &["t"]).await;
    let plan = |team: i32, run: &runs::Run, rev| {
        let mut plan = PlannedRun::new(TeamId(team), run.key(), rev);
        plan.decided.push(Decided {
            key: key("t"),
            from: None,
            to: Some(TaskState::Skipped),
            dates: Dates::WhereMissing,
        });
        plan
    };
    let plans = [plan(1, &moved, moved.rev + 1), plan(2, &still, still.rev)];
    let mut tx = ground.store.begin().await.unwrap();
    let outcomes = commit_plans(&mut tx, &ground.org, &lease, &plans, now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(outcomes[0], PlanOutcome::Conflict);
    assert!(
        matches!(outcomes[1], PlanOutcome::Committed { rev: 1, .. }),
        "{outcomes:?}"
    );
    let mut tx = ground.store.read().await.unwrap();
    let untouched = task_instances::get(&mut tx, ground.team(1), &moved.key(), &key("t"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(untouched.state, None);
    let written = task_instances::get(&mut tx, ground.team(2), &still.key(), &key("t"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(written.state, Some(TaskState::Skipped));
    assert!(written.start_date.is_some() && written.end_date == written.start_date);
});

contract!(
    an_instance_in_another_state_than_planned_from_undoes_its_whole_run,
    |ground| {
        let lease = ground.lease().await;
        let run = ground.run(1, "d", "r", &["a", "b"]).await;
        let mut plan = PlannedRun::new(TeamId(1), run.key(), run.rev);
        for (task, from) in [("a", None), ("b", Some(TaskState::Running))] {
            plan.decided.push(Decided {
                key: key(task),
                from,
                to: Some(TaskState::Failed),
                dates: Dates::WhereMissing,
            });
        }
        let mut tx = ground.store.begin().await.unwrap();
        let outcomes = commit_plans(&mut tx, &ground.org, &lease, &[plan], now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(outcomes, [PlanOutcome::Conflict]);
        let mut tx = ground.store.read().await.unwrap();
        let a = task_instances::get(&mut tx, ground.team(1), &run.key(), &key("a"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(a.state, None);
        assert_eq!(
            runs::get(&mut tx, ground.team(1), &run.key())
                .await
                .unwrap()
                .unwrap()
                .rev,
            0
        );
    }
);

contract!(
    each_queueing_mints_the_next_dispatch_and_keeps_the_order_given,
    |ground| {
        let lease = ground.lease().await;
        let run = ground.run(1, "d", "r", &["a", "b", "c"]).await;
        let mut plan = PlannedRun::new(TeamId(1), run.key(), run.rev);
        plan.run = Some(RunUpdate {
            state: RunState::Running,
            start_date: Some(now()),
            end_date: None,
            why_ended: None,
        });
        for task in ["a", "b", "c"] {
            plan.ready.push(ReadyTask {
                key: key(task),
                from: None,
                next_try: true,
            });
        }
        for task in ["c", "a", "b"] {
            plan.queue.push(QueueTask { key: key(task) });
        }
        let mut tx = ground.store.begin().await.unwrap();
        let outcomes = commit_plans(&mut tx, &ground.org, &lease, &[plan], now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let PlanOutcome::Committed { queued, rev } = &outcomes[0] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(*rev, 1);
        let order: Vec<_> = queued.iter().map(|task| task.key.task_id.as_str()).collect();
        assert_eq!(order, ["c", "a", "b"]);
        assert!(queued.iter().all(|task| task.dispatch.0 == 1 && task.try_number == 1));
    }
);

contract!(placeholders_become_the_first_index_or_go, |ground| {
    let lease = ground.lease().await;
    let run = ground.run(1, "d", "r", &["a", "b"]).await;
    let mut plan = PlannedRun::new(TeamId(1), run.key(), run.rev);
    plan.placeholders = vec![Placeholder::BecomesFirst("a".into()), Placeholder::Delete("b".into())];
    let mut tx = ground.store.begin().await.unwrap();
    let outcomes = commit_plans(&mut tx, &ground.org, &lease, &[plan], now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(outcomes[0], PlanOutcome::Committed { .. }));
    let mut tx = ground.store.read().await.unwrap();
    let left = task_instances::of_run(&mut tx, ground.team(1), &run.key())
        .await
        .unwrap();
    let left: Vec<_> = left.iter().map(|ti| (ti.task_id.as_str(), ti.map_index)).collect();
    assert_eq!(left, [("a", 0)]);
});

contract!(a_scheduler_that_lost_its_lease_commits_nothing, |ground| {
    let lease = ground.lease().await;
    let run = ground.run(1, "d", "r", &["a"]).await;
    let mut tx = ground.store.begin().await.unwrap();
    leases::release(&mut tx, &ground.org, &lease).await.unwrap();
    let minute = std::time::Duration::from_secs(60);
    leases::acquire(&mut tx, &ground.org, "scheduler", "two", minute, now())
        .await
        .unwrap()
        .unwrap();
    tx.commit().await.unwrap();
    let mut plan = PlannedRun::new(TeamId(1), run.key(), run.rev);
    plan.run = Some(RunUpdate {
        state: RunState::Failed,
        start_date: None,
        end_date: Some(now()),
        why_ended: None,
    });
    let mut tx = ground.store.begin().await.unwrap();
    let late = commit_plans(&mut tx, &ground.org, &lease, &[plan], now()).await;
    assert!(matches!(late, Err(StoreError::LeaseLost(_))), "{late:?}");
});
