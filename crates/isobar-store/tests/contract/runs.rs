//! Making and deleting runs.

use crate::ground::{key, now, run_key};
use isobar_model::{RunState, RunType};
use isobar_store::runs::{self, NewRun};
use isobar_store::{StoreError, events, task_instances};

contract!(a_run_id_and_a_logical_date_are_taken_once_in_a_dag, |ground| {
    let scope = ground.team(1);
    let at = now();
    let new = NewRun {
        logical_date: Some(at),
        ..NewRun::new("d".into(), "a".into(), RunType::Manual, at)
    };
    let mut tx = ground.store.begin().await.unwrap();
    let run = runs::create(&mut tx, scope, &new, at).await.unwrap();
    assert_eq!((run.state, run.rev, run.queued_at), (RunState::Queued, 0, Some(at)));
    for again in [
        new.clone(),
        NewRun {
            run_id: "b".into(),
            ..new.clone()
        },
    ] {
        let refused = runs::create(&mut tx, scope, &again, at).await;
        assert!(matches!(refused, Err(StoreError::Exists { .. })), "{refused:?}");
    }
    // The unit goes on; another Dag and another team may have both.
    let elsewhere = NewRun {
        dag_id: "e".into(),
        ..new.clone()
    };
    runs::create(&mut tx, scope, &elsewhere, at).await.unwrap();
    runs::create(&mut tx, ground.team(2), &new, at).await.unwrap();
    tx.commit().await.unwrap();
});

contract!(a_deleted_run_leaves_nothing_and_tells_the_scheduler, |ground| {
    let identity = ground.queued(1, "d", "r", "t").await;
    let (scope, run) = (ground.team(1), run_key(&identity));
    let mut tx = ground.store.begin().await.unwrap();
    assert!(runs::delete(&mut tx, scope, &run, now()).await.unwrap());
    assert!(!runs::delete(&mut tx, scope, &run, now()).await.unwrap());
    tx.commit().await.unwrap();
    let mut tx = ground.store.begin().await.unwrap();
    assert_eq!(
        task_instances::get(&mut tx, scope, &run, &key("t")).await.unwrap(),
        None
    );
    let told = events::claim(&mut tx, &ground.org, 10).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].body["reload"], true);
});
