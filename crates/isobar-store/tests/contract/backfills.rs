//! Backfills: one at a time for each Dag, ended with their last run, each team's own.

use crate::ground::{Ground, now};
use isobar_model::{Reprocess, RunKey, RunState};
use isobar_store::backfills::{self, Adoption, Backfill, NewBackfill};
use isobar_store::{clearing, runs};

fn new() -> NewBackfill {
    NewBackfill {
        dag_id: "d".into(),
        from_date: now(),
        to_date: now(),
        conf: serde_json::Value::Null,
        reprocess: Reprocess::None,
        max_active_runs: 2,
        triggering_user: "me".to_owned(),
    }
}

async fn made(ground: &Ground, team: i32) -> Option<i64> {
    let mut tx = ground.store.begin().await.unwrap();
    let id = backfills::create(&mut tx, ground.team(team), &new(), now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    id
}

/// A queued run of the Dag at a place of a backfill.
async fn member(ground: &Ground, backfill: i64, ordinal: i64) -> RunKey {
    let run = ground.run(1, "d", &format!("r{ordinal}"), &["t"]).await;
    let mut tx = ground.store.begin().await.unwrap();
    let adoption = Adoption {
        backfill,
        ordinal,
        conf: None,
        partition_date: None,
    };
    backfills::adopt(&mut tx, ground.team(1), &run.key(), &adoption)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    run.key()
}

async fn read(ground: &Ground, id: i64) -> Backfill {
    let mut tx = ground.store.read().await.unwrap();
    backfills::get(&mut tx, &ground.team(1).into(), id)
        .await
        .unwrap()
        .unwrap()
}

async fn end(ground: &Ground, id: i64) -> bool {
    let mut tx = ground.store.begin().await.unwrap();
    let ended = backfills::end_if_done(&mut tx, ground.team(1), id, now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    ended
}

contract!(a_dag_has_one_backfill_at_a_time_and_teams_do_not_meet, |ground| {
    let first = made(ground, 1).await.unwrap();
    assert_eq!(made(ground, 1).await, None);
    let theirs = made(ground, 2).await.unwrap();
    assert_ne!(first, theirs);
    let mut tx = ground.store.read().await.unwrap();
    let seen = backfills::get(&mut tx, &ground.team(2).into(), first).await.unwrap();
    assert_eq!(seen, None);
    drop(tx);
    assert!(end(ground, first).await);
    assert!(made(ground, 1).await.is_some(), "the next may follow");
});

contract!(a_backfill_ends_with_its_last_run, |ground| {
    let id = made(ground, 1).await.unwrap();
    let (one, two) = (member(ground, id, 1).await, member(ground, id, 2).await);
    for (run, ends) in [(one, false), (two, true)] {
        assert!(!end(ground, id).await);
        let mut tx = ground.store.begin().await.unwrap();
        clearing::set_run_state(
            &mut tx,
            ground.team(1),
            &run,
            RunState::Success,
            &|_| false,
            None,
            now(),
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(end(ground, id).await, ends);
    }
    assert!(read(ground, id).await.completed_at.is_some());
});

contract!(a_cancelled_backfill_fails_what_waits_and_leaves_what_runs, |ground| {
    let id = made(ground, 1).await.unwrap();
    let (running, queued) = (member(ground, id, 1).await, member(ground, id, 2).await);
    let mut tx = ground.store.begin().await.unwrap();
    clearing::set_run_state(
        &mut tx,
        ground.team(1),
        &running,
        RunState::Running,
        &|_| false,
        None,
        now(),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let row = read(ground, id).await;
    let mut tx = ground.store.begin().await.unwrap();
    assert!(!backfills::cancel(&mut tx, ground.team(2), &row, now()).await.unwrap());
    assert!(backfills::cancel(&mut tx, ground.team(1), &row, now()).await.unwrap());
    assert!(!backfills::cancel(&mut tx, ground.team(1), &row, now()).await.unwrap());
    tx.commit().await.unwrap();
    let mut tx = ground.store.read().await.unwrap();
    for (run, state) in [(running, RunState::Running), (queued, RunState::Failed)] {
        let row = runs::get(&mut tx, ground.team(1), &run).await.unwrap().unwrap();
        assert_eq!((row.state, row.backfill_id), (state, Some(id)));
    }
    // A run of it that is cleared later is not held up for ever.
    let limits = backfills::limits(&mut tx, ground.team(1), id).await.unwrap().unwrap();
    assert!(!limits.paused);
});
