//! Units of work: group commit, marks, rollback.

use crate::ground::now;
use isobar_model::{DagId, RunType};
use isobar_store::runs::{self, NewRun};

fn run(id: &str) -> NewRun {
    NewRun::new("d".into(), id.into(), RunType::Manual, now())
}

contract!(a_dropped_unit_rolls_back_itself_alone, |ground| {
    let keeps = async {
        let mut tx = ground.store.begin().await.unwrap();
        runs::create(&mut tx, ground.team(1), &run("kept"), now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    let drops = async {
        let mut tx = ground.store.begin().await.unwrap();
        runs::create(&mut tx, ground.team(2), &run("dropped"), now())
            .await
            .unwrap();
        drop(tx);
    };
    tokio::join!(keeps, drops);
    let mut tx = ground.store.read().await.unwrap();
    let key = |id: &str| isobar_model::RunKey {
        dag_id: DagId::from("d"),
        run_id: id.into(),
    };
    assert!(
        runs::get(&mut tx, ground.team(1), &key("kept"))
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        runs::get(&mut tx, ground.team(2), &key("dropped"))
            .await
            .unwrap()
            .is_none()
    );
});

contract!(a_hundred_units_at_once_are_all_kept, |ground| {
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let (store, scope) = (ground.store.clone(), ground.team(number % 3 + 1));
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                runs::create(&mut tx, scope, &run(&format!("r{number}")), now())
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut tx = ground.store.read().await.unwrap();
    let active = isobar_store::loading::active_runs(&mut tx, &ground.org).await.unwrap();
    assert_eq!(active.len(), 100);
});

contract!(what_follows_a_mark_can_be_undone_and_the_rest_stays, |ground| {
    let mut tx = ground.store.begin().await.unwrap();
    runs::create(&mut tx, ground.team(1), &run("before"), now())
        .await
        .unwrap();
    tx.mark().await.unwrap();
    runs::create(&mut tx, ground.team(1), &run("after"), now())
        .await
        .unwrap();
    tx.back_to_mark().await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = ground.store.read().await.unwrap();
    let active = isobar_store::loading::active_runs(&mut tx, &ground.org).await.unwrap();
    let ids: Vec<_> = active.iter().map(|run| run.run_id.as_str()).collect();
    assert_eq!(ids, ["before"]);
});
