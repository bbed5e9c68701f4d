//! A scope of one team reaches no row of another, whatever it is asked by.

use crate::ground::{key, now, run_key};
use isobar_model::{RunState, TaskState, TeamId};
use isobar_store::clearing::{self, Clear, ClearTask, Cleared};
use isobar_store::transitions::{Ended, TaskWrite, ended, fenced};
use isobar_store::{pools, runs, task_instances};
use isobar_wire::execution::TaskIdentity;

contract!(another_teams_rows_are_as_if_they_were_not_there, |ground| {
    let theirs = ground.queued(2, "d", "r", "t").await;
    let ours = ground.team(1);
    let run = run_key(&theirs);
    let mut tx = ground.store.begin().await.unwrap();
    assert_eq!(runs::get(&mut tx, ours, &run).await.unwrap(), None);
    assert_eq!(task_instances::get(&mut tx, ours, &run, &key("t")).await.unwrap(), None);
    assert_eq!(
        task_instances::get_by_id(&mut tx, ours, theirs.ti_id).await.unwrap(),
        None
    );
    assert!(!runs::delete(&mut tx, ours, &run, now()).await.unwrap());
    let stolen = TaskIdentity {
        team: TeamId(1),
        ..theirs.clone()
    };
    assert_eq!(fenced(&mut tx, ours, &stolen).await.unwrap(), TaskWrite::Missing);
    let end = Ended::Finally(TaskState::Success);
    let written = ended(&mut tx, ours, &stolen, &end, now(), None, now()).await.unwrap();
    assert_eq!(written, TaskWrite::Missing);
    let tasks = [ClearTask {
        key: key("t"),
        today: None,
    }];
    let clear = Clear {
        tasks: &tasks,
        run_state: Some(RunState::Queued),
        prevent_running: false,
        version_id: None,
        actor: None,
    };
    assert_eq!(
        clearing::clear(&mut tx, ours, &run, &clear, now()).await.unwrap(),
        Cleared::NoRun
    );
    let marked = clearing::mark(&mut tx, ours, &run, &[key("t")], TaskState::Failed, None, now())
        .await
        .unwrap();
    assert_eq!(marked, []);
    tx.commit().await.unwrap();
    let mut tx = ground.store.read().await.unwrap();
    let untouched = task_instances::get(&mut tx, ground.team(2), &run, &key("t"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(untouched.state, Some(TaskState::Queued));
});

contract!(two_teams_have_pools_of_one_name, |ground| {
    let mut tx = ground.store.begin().await.unwrap();
    for (team, slots) in [(1, 5), (2, 9)] {
        pools::create(&mut tx, ground.team(team), "gpu", slots, None, false, now())
            .await
            .unwrap();
    }
    pools::delete(&mut tx, ground.team(1), "gpu", now()).await.unwrap();
    let left = pools::get(&mut tx, ground.team(2), "gpu").await.unwrap().unwrap();
    assert_eq!(left.slots, 9);
    assert!(
        pools::declare(&mut tx, ground.team(2), "gpu", 3, None, false, now())
            .await
            .unwrap()
    );
    assert!(
        !pools::declare(&mut tx, ground.team(2), "gpu", 3, None, false, now())
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
});
