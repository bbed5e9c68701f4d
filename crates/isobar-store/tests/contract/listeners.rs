//! What listeners are to be told: written for those who listen, in its order, taken by one host at a time.

use std::collections::BTreeSet;

use crate::ground::{Ground, key, now};
use isobar_model::{RunKey, RunState, TaskState, TeamId};
use isobar_store::counters::{Counter, next_ids};
use isobar_store::transitions::{PlannedRun, RunUpdate, commit_plans};
use isobar_store::{Dialect, Tx, clearing, listeners};
use isobar_wire::listeners::{Hook, PendingCall};
use jiff::SignedDuration;

const HOLD: SignedDuration = SignedDuration::from_secs(60);

async fn listens(ground: &Ground, team: i32, hooks: &[Hook]) {
    let mut tx = ground.store.begin().await.unwrap();
    let hooks: BTreeSet<Hook> = hooks.iter().copied().collect();
    listeners::note(&mut tx, ground.team(team), &hooks, now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn claim(ground: &Ground, team: i32, host: &str, limit: u32, later: i64) -> Vec<PendingCall> {
    let at = now() + SignedDuration::from_secs(later);
    let mut tx = ground.store.begin().await.unwrap();
    let calls = listeners::claim(&mut tx, ground.team(team), host, limit, at, HOLD)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    calls
}

fn hooks(calls: &[PendingCall]) -> Vec<&str> {
    calls.iter().map(|call| call.hook.as_str()).collect()
}

contract!(
    a_run_is_told_of_to_its_own_team_alone_and_only_where_that_listens,
    |ground| {
        listens(ground, 1, &Hook::ALL).await;
        listens(ground, 3, &[Hook::OnDagRunFailed]).await;
        let lease = ground.lease().await;
        let mut plans = Vec::new();
        for team in [1, 2, 3] {
            let run = ground.run(team, "d", "r", &[]).await;
            let mut plan = PlannedRun::new(TeamId(team), run.key(), run.rev);
            // It starts and ends at once.
            plan.run = Some(RunUpdate {
                state: RunState::Success,
                start_date: Some(now()),
                end_date: Some(now()),
                why_ended: Some("success"),
            });
            plans.push(plan);
        }
        let mut tx = ground.store.begin().await.unwrap();
        commit_plans(&mut tx, &ground.org, &lease, &plans, now()).await.unwrap();
        tx.commit().await.unwrap();
        let told = claim(ground, 1, "here", 10, 0).await;
        assert_eq!(hooks(&told), ["on_dag_run_running", "on_dag_run_success"]);
        let (first, second) = (&told[0].arguments, &told[1].arguments);
        assert_eq!(
            (&first["msg"], &first["dag_run"]["state"]),
            (&"started".into(), &"running".into())
        );
        assert!(first["dag_run"]["end_date"].is_null(), "{first}");
        assert_eq!(
            (&second["msg"], &second["dag_run"]["state"]),
            (&"success".into(), &"success".into())
        );
        assert_eq!(
            (&second["dag_run"]["dag_id"], &second["dag_run"]["run_id"]),
            (&"d".into(), &"r".into())
        );
        for team in [2, 3] {
            assert_eq!(claim(ground, team, "here", 10, 0).await, [], "team {team}");
        }
    }
);

contract!(calls_go_to_one_host_at_a_time_and_keep_their_order, |ground| {
    listens(ground, 1, &[Hook::OnTaskInstanceSkipped]).await;
    let run = ground.run(1, "d", "r", &["a", "b", "c"]).await;
    for task in ["a", "b", "c"] {
        let mut tx = ground.store.begin().await.unwrap();
        clearing::mark(
            &mut tx,
            ground.team(1),
            &run.key(),
            &[key(task)],
            TaskState::Skipped,
            None,
            now(),
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }
    let tasks = |calls: &[PendingCall]| -> Vec<String> {
        let task = |call: &PendingCall| call.arguments["task_instance"]["task_id"].as_str().unwrap().to_owned();
        calls.iter().map(task).collect()
    };
    let first = claim(ground, 1, "here", 2, 0).await;
    assert_eq!(tasks(&first), ["a", "b"]);
    assert_eq!(
        claim(ground, 1, "there", 9, 1).await,
        [],
        "the third would overtake the first two"
    );
    assert_eq!(
        claim(ground, 1, "here", 2, 1).await,
        first,
        "a server that was killed takes its own up again"
    );
    let mut tx = ground.store.begin().await.unwrap();
    listeners::done(&mut tx, ground.team(1), &[first[0].id]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        tasks(&claim(ground, 1, "there", 9, 120).await),
        ["b", "c"],
        "that host is gone"
    );
});

contract!(what_waits_is_kept_for_a_while_without_a_listener, |ground| {
    listens(ground, 1, &Hook::ALL).await;
    let run = ground.run(1, "d", "r", &["t"]).await;
    let mut tx = ground.store.begin().await.unwrap();
    let teardown = |_: &isobar_model::TaskId| false;
    clearing::set_run_state(
        &mut tx,
        ground.team(1),
        &run.key(),
        RunState::Failed,
        &teardown,
        None,
        now(),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let told = claim(ground, 1, "here", 10, 0).await;
    assert_eq!(
        hooks(&told),
        ["on_dag_run_failed"],
        "what had not begun is skipped without a word"
    );
    assert_eq!(
        told[0].arguments["msg"],
        "Dag Run's state was manually set to `failed`."
    );
    // Plugins may be half written, or not be on this host yet.
    listens(ground, 1, &[]).await;
    listens(ground, 1, &Hook::ALL).await;
    assert_eq!(claim(ground, 1, "here", 10, 0).await, told);
    for hooks in [BTreeSet::new(), BTreeSet::from(Hook::ALL)] {
        let mut tx = ground.store.begin().await.unwrap();
        let tomorrow = now() + SignedDuration::from_hours(25);
        listeners::note(&mut tx, ground.team(1), &hooks, tomorrow)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(claim(ground, 1, "here", 10, 0).await, []);
});

/// Marks a task, of which listeners are told.
async fn mark(ground: &Ground, tx: &mut Tx, team: i32, run: &str) {
    let run = RunKey {
        dag_id: "d".into(),
        run_id: run.into(),
    };
    let keys = [key("t")];
    clearing::mark(tx, ground.team(team), &run, &keys, TaskState::Skipped, None, now())
        .await
        .unwrap();
}

contract!(
    units_that_tell_listeners_do_not_wait_for_each_other_in_a_circle,
    |ground| {
        for team in [1, 2] {
            listens(ground, team, &Hook::ALL).await;
            for run in ["r", "s"] {
                ground.run(team, "d", run, &["t"]).await;
            }
        }
        if ground.store.dialect() == Dialect::Sqlite {
            return; // One unit at a time.
        }
        // Each tells one team, and then the other.
        let mut one = ground.store.begin().await.unwrap();
        mark(ground, &mut one, 1, "r").await;
        let mut other = ground.store.begin().await.unwrap();
        mark(ground, &mut other, 2, "s").await;
        mark(ground, &mut one, 2, "r").await;
        mark(ground, &mut other, 1, "s").await;
        let (one, other) = tokio::join!(one.commit(), other.commit());
        one.unwrap();
        other.unwrap();
        for team in [1, 2] {
            assert_eq!(claim(ground, team, "here", 10, 0).await.len(), 2);
        }
    }
);

contract!(what_was_undone_is_told_to_nobody, |ground| {
    listens(ground, 1, &Hook::ALL).await;
    for run in ["r", "s"] {
        ground.run(1, "d", run, &["t"]).await;
    }
    let mut tx = ground.store.begin().await.unwrap();
    tx.mark().await.unwrap();
    mark(ground, &mut tx, 1, "r").await;
    tx.back_to_mark().await.unwrap();
    mark(ground, &mut tx, 1, "s").await;
    tx.commit().await.unwrap();
    let told = claim(ground, 1, "here", 10, 0).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].arguments["task_instance"]["run_id"], "s");
});

contract!(what_waits_has_a_limit, |ground| {
    for team in [1, 2] {
        listens(ground, team, &Hook::ALL).await;
        for run in ["r", "s"] {
            ground.run(team, "d", run, &["t"]).await;
        }
        let mut tx = ground.store.begin().await.unwrap();
        mark(ground, &mut tx, team, "r").await;
        tx.commit().await.unwrap();
    }
    // As if so many had been told since; it is looked at with every thousandth.
    let mut tx = ground.store.begin().await.unwrap();
    let most = u32::try_from(listeners::MOST_CALLS).unwrap();
    let last = next_ids(&mut tx, ground.team(1), Counter::ListenerCall, most)
        .await
        .unwrap()
        + i64::from(most)
        - 1;
    let more = u32::try_from(999 - last % 1000).unwrap();
    if more > 0 {
        next_ids(&mut tx, ground.team(1), Counter::ListenerCall, more)
            .await
            .unwrap();
    }
    mark(ground, &mut tx, 1, "s").await;
    tx.commit().await.unwrap();
    let told = claim(ground, 1, "here", 10, 0).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].arguments["task_instance"]["run_id"], "s");
    assert_eq!(claim(ground, 2, "here", 10, 0).await.len(), 1, "another team's");
});
