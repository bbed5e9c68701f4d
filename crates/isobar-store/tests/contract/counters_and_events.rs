//! Team-private numbers, and events that are claimed.

use crate::ground::now;
use isobar_store::counters::{Counter, TEAM_STRIDE, next_ids};
use isobar_store::events::{self, EventKind};
use serde_json::json;

contract!(
    numbers_of_two_teams_never_meet_and_tell_nothing_of_each_other,
    |ground| {
        let mut tx = ground.store.begin().await.unwrap();
        assert_eq!(
            next_ids(&mut tx, ground.team(1), Counter::Asset, 1000).await.unwrap(),
            TEAM_STRIDE + 1
        );
        assert_eq!(
            next_ids(&mut tx, ground.team(2), Counter::Asset, 1).await.unwrap(),
            2 * TEAM_STRIDE + 1
        );
        assert_eq!(
            next_ids(&mut tx, ground.team(1), Counter::Asset, 1).await.unwrap(),
            TEAM_STRIDE + 1001
        );
        tx.commit().await.unwrap();
    }
);

contract!(
    an_event_is_claimed_once_and_comes_back_when_its_claimer_fails,
    |ground| {
        let mut tx = ground.store.begin().await.unwrap();
        events::insert(&mut tx, ground.team(1), EventKind::Dag, &"d".into(), &json!({}), now())
            .await
            .unwrap();
        tx.commit().await.unwrap();

        let mut fails = ground.store.begin().await.unwrap();
        assert_eq!(events::claim(&mut fails, &ground.org, 10).await.unwrap().len(), 1);
        drop(fails);

        let claimed = loop {
            // The failed unit rolls back in the background.
            let mut tx = ground.store.begin().await.unwrap();
            let claimed = events::claim(&mut tx, &ground.org, 10).await.unwrap();
            tx.commit().await.unwrap();
            if !claimed.is_empty() {
                break claimed;
            }
        };
        assert_eq!(claimed[0].kind, EventKind::Dag);
        let mut tx = ground.store.begin().await.unwrap();
        assert!(events::claim(&mut tx, &ground.org, 10).await.unwrap().is_empty());
    }
);

contract!(a_commit_wakes_who_listens_and_a_rollback_does_not, |ground| {
    let mut signals = ground.store.signals().subscribe();
    let mut dropped = ground.store.begin().await.unwrap();
    events::insert(
        &mut dropped,
        ground.team(1),
        EventKind::Dag,
        &"d".into(),
        &json!({}),
        now(),
    )
    .await
    .unwrap();
    drop(dropped);
    let mut tx = ground.store.begin().await.unwrap();
    events::insert(&mut tx, ground.team(1), EventKind::Pool, &"".into(), &json!({}), now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    while signals.recv().await.unwrap() != isobar_wire::wake::Wake::Events {}
    let mut tx = ground.store.begin().await.unwrap();
    let claimed = events::claim(&mut tx, &ground.org, 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].kind, EventKind::Pool);
});
