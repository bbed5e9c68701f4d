//! Deadlines of runs, and how long rendered fields are kept.

use crate::ground::{key, now};
use isobar_model::{RunState, RunType, TeamId};
use isobar_store::clearing::{self, Clear, ClearTask};
use isobar_store::deadlines::{self, NewDeadline};
use isobar_store::runs::NewRun;
use isobar_store::transitions::{PlannedRun, RunUpdate, commit_plans};
use isobar_store::{rendered, runs};
use jiff::SignedDuration;
use serde_json::json;

contract!(a_deadline_is_missed_once_unless_it_was_met, |ground| {
    let (late, timely) = (
        ground.run(1, "d", "late", &[]).await,
        ground.run(1, "d", "timely", &[]).await,
    );
    let (scope, soon) = (ground.team(1), now() + SignedDuration::from_secs(60));
    let deadline = NewDeadline {
        number: 0,
        due_at: soon,
        from_queued: false,
        callback: json!({"path": "a.b"}),
    };
    let mut tx = ground.store.begin().await.unwrap();
    for run in [&late, &timely] {
        assert!(!deadlines::are_made(&mut tx, scope, &run.key()).await.unwrap());
        deadlines::make(&mut tx, scope, &run.key(), std::slice::from_ref(&deadline))
            .await
            .unwrap();
        deadlines::make(&mut tx, scope, &run.key(), std::slice::from_ref(&deadline))
            .await
            .unwrap();
        assert!(deadlines::are_made(&mut tx, scope, &run.key()).await.unwrap());
    }
    assert_eq!(deadlines::next_due(&mut tx, &ground.org).await.unwrap(), Some(soon));
    deadlines::meet(&mut tx, scope, &timely.key(), now()).await.unwrap();
    assert_eq!(deadlines::miss(&mut tx, &ground.org, now()).await.unwrap(), []);
    let after = soon + SignedDuration::from_secs(1);
    let missed = deadlines::miss(&mut tx, &ground.org, after).await.unwrap();
    assert_eq!(missed.len(), 1);
    assert_eq!((&missed[0].run, missed[0].due_at), (&late.key(), soon));
    assert_eq!(missed[0].callback["path"], "a.b");
    assert_eq!(deadlines::miss(&mut tx, &ground.org, after).await.unwrap(), []);
    runs::delete(&mut tx, scope, &late.key(), now()).await.unwrap();
    assert!(!deadlines::are_made(&mut tx, scope, &late.key()).await.unwrap());
});

contract!(
    a_deadline_that_counts_from_the_queue_moves_when_the_run_is_cleared,
    |ground| {
        let run = ground.run(1, "d", "r", &["t"]).await;
        let (scope, length) = (ground.team(1), SignedDuration::from_secs(600));
        let queued_at = run.queued_at.unwrap();
        let deadline = |number, from_queued| NewDeadline {
            number,
            due_at: queued_at + length,
            from_queued,
            callback: json!({"path": if from_queued { "moves" } else { "stays" }}),
        };
        let mut tx = ground.store.begin().await.unwrap();
        deadlines::make(&mut tx, scope, &run.key(), &[deadline(0, true), deadline(1, false)])
            .await
            .unwrap();
        let later = queued_at + SignedDuration::from_secs(120);
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
        clearing::clear(&mut tx, scope, &run.key(), &clear, later)
            .await
            .unwrap();
        let missed = deadlines::miss(&mut tx, &ground.org, later + length + SignedDuration::from_secs(1))
            .await
            .unwrap();
        let mut due: Vec<_> = missed
            .iter()
            .map(|one| (one.callback["path"].as_str().unwrap(), one.due_at))
            .collect();
        due.sort_unstable();
        assert_eq!(due, [("moves", later + length), ("stays", queued_at + length)]);
    }
);

contract!(only_runs_that_succeeded_say_how_long_a_run_takes, |ground| {
    let (scope, lease) = (ground.team(1), ground.lease().await);
    let mut tx = ground.store.begin().await.unwrap();
    for (run, state, seconds) in [
        ("quick", RunState::Success, 1),
        ("broken", RunState::Failed, 2),
        ("slow", RunState::Success, 4),
    ] {
        let run = runs::insert(
            &mut tx,
            scope,
            &NewRun::new("d".into(), run.into(), RunType::Manual, now()),
            now(),
        )
        .await
        .unwrap();
        let mut plan = PlannedRun::new(TeamId(1), run.key(), run.rev);
        plan.run = Some(RunUpdate {
            state,
            start_date: Some(now()),
            end_date: Some(now() + SignedDuration::from_secs(seconds)),
            why_ended: None,
        });
        commit_plans(&mut tx, &ground.org, &lease, &[plan], now())
            .await
            .unwrap();
    }
    let mut lengths = Vec::new();
    for limit in [1, 10] {
        let found = deadlines::latest_lengths(&mut tx, scope, &"d".into(), limit)
            .await
            .unwrap();
        lengths.push(found.iter().map(|length| length / 1_000_000).collect::<Vec<_>>());
    }
    assert_eq!(lengths, [vec![4], vec![4, 1]]);
});

contract!(rendered_fields_are_kept_of_the_latest_runs, |ground| {
    let scope = ground.team(1);
    let mut made = Vec::new();
    for run in ["a", "b", "c"] {
        made.push(ground.run(1, "d", run, &["t"]).await);
    }
    let other = ground.run(2, "d", "a", &["t"]).await;
    let mut tx = ground.store.begin().await.unwrap();
    for run in &made {
        rendered::set(&mut tx, scope, &run.key(), &key("t"), &json!({"x": 1}))
            .await
            .unwrap();
    }
    rendered::set(&mut tx, ground.team(2), &other.key(), &key("t"), &json!({"x": 1}))
        .await
        .unwrap();
    rendered::trim(&mut tx, scope, &"d".into(), 2).await.unwrap();
    let mut kept = Vec::new();
    for run in &made {
        kept.push(
            rendered::get(&mut tx, scope, &run.key(), &key("t"))
                .await
                .unwrap()
                .is_some(),
        );
    }
    assert_eq!(kept, [false, true, true]);
    let theirs = rendered::get(&mut tx, ground.team(2), &other.key(), &key("t"))
        .await
        .unwrap();
    assert!(theirs.is_some(), "another team's Dag of the same name is another Dag");
});
