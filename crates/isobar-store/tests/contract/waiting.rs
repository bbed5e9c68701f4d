//! Triggers and their triggerers, tasks that resume, questions and answers.

use isobar_model::{TaskState, TeamId};
use isobar_store::hitl;
use isobar_store::task_instances;
use isobar_store::transitions::{
    Answered, Ended, Resume, TaskWrite, WaitsFor, answered, ended, ended_by_trigger, resumed, started, timed_out,
};
use isobar_store::triggers::{self, Kwargs, Trigger};
use isobar_wire::execution::{TaskIdentity, TaskStart};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};

use crate::ground::{Ground, key, now, run_key};

const ALIVE: SignedDuration = SignedDuration::from_secs(30);

async fn running(ground: &Ground, task: &str) -> TaskIdentity {
    let identity = ground.queued(1, "d", &format!("run of {task}"), task).await;
    let start = TaskStart {
        hostname: "here".to_owned(),
        unixname: "me".to_owned(),
        pid: 7,
        start_date: isobar_model::AirflowTime(now()),
    };
    let mut tx = ground.store.begin().await.unwrap();
    let TaskWrite::Done(_) = started(&mut tx, ground.team(1), &identity, &start, now())
        .await
        .unwrap()
    else {
        panic!("a queued task starts");
    };
    tx.commit().await.unwrap();
    identity
}

/// A task that waits for a trigger, until `timeout` where there is one; its identity and the trigger.
async fn deferred(ground: &Ground, task: &str, timeout: Option<Timestamp>) -> (TaskIdentity, i64) {
    let identity = running(ground, task).await;
    let end = Ended::Deferred {
        trigger: Trigger {
            classpath: "a.Trigger".to_owned(),
            kwargs: Kwargs::Plain("{}".to_owned()),
            queue: None,
        },
        next_method: "resume".to_owned(),
        next_kwargs: json!({"own": 1}),
        timeout,
    };
    let mut tx = ground.store.begin().await.unwrap();
    let TaskWrite::Done(done) = ended(&mut tx, ground.team(1), &identity, &end, now(), None, now())
        .await
        .unwrap()
    else {
        panic!("a running task defers");
    };
    tx.commit().await.unwrap();
    (identity, done.after.trigger_id.unwrap())
}

async fn enlist(ground: &Ground, team: i32) -> i64 {
    let mut tx = ground.store.begin().await.unwrap();
    let id = triggers::enlist(&mut tx, ground.team(team), "here", "holder", now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    id
}

async fn assign(ground: &Ground, team: i32, triggerer: i64, room: u32, alive_since: Timestamp) -> Vec<i64> {
    let mut tx = ground.store.begin().await.unwrap();
    let scope = ground.team(team);
    triggers::assign(&mut tx, scope, triggerer, room, alive_since)
        .await
        .unwrap();
    let own = triggers::of_triggerer(&mut tx, scope, triggerer).await.unwrap();
    tx.commit().await.unwrap();
    own
}

contract!(triggers_are_shared_within_room_and_never_with_another_team, |ground| {
    let mut made = Vec::new();
    for task in ["a", "b", "c"] {
        made.push(deferred(ground, task, None).await.1);
    }
    let (first, second, foreign) = (
        enlist(ground, 1).await,
        enlist(ground, 1).await,
        enlist(ground, 2).await,
    );
    let since = now() - ALIVE;
    assert_eq!(assign(ground, 2, foreign, 10, since).await, Vec::<i64>::new());
    let mine = assign(ground, 1, first, 2, since).await;
    assert_eq!(mine.len(), 2);
    let rest = assign(ground, 1, second, 10, since).await;
    let mut all = [mine.clone(), rest].concat();
    all.sort_unstable();
    assert_eq!(all, made);
    let mut tx = ground.store.read().await.unwrap();
    assert!(!triggers::any_free(&mut tx, ground.team(1), since).await.unwrap());
});

contract!(triggers_of_a_triggerer_that_fell_silent_go_to_another, |ground| {
    let (_, trigger) = deferred(ground, "a", None).await;
    let silent = enlist(ground, 1).await;
    assert_eq!(assign(ground, 1, silent, 10, now() - ALIVE).await, [trigger]);
    let other = enlist(ground, 1).await;
    assert!(assign(ground, 1, other, 10, now() - ALIVE).await.is_empty());
    // Later: only the other has said since then that it lives.
    let since = now();
    let mut tx = ground.store.begin().await.unwrap();
    let old = since - SignedDuration::from_secs(60);
    assert!(
        triggers::beat(&mut tx, ground.team(1), other, old, since)
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    assert_eq!(assign(ground, 1, other, 10, since).await, [trigger]);
    let mut tx = ground.store.begin().await.unwrap();
    assert!(
        !triggers::beat(&mut tx, ground.team(1), silent, since, now())
            .await
            .unwrap(),
        "it was given up"
    );
});

contract!(
    triggers_of_a_server_that_is_known_to_be_dead_are_free_at_once,
    |ground| {
        let (_, trigger) = deferred(ground, "a", None).await;
        let dead = enlist(ground, 1).await;
        assign(ground, 1, dead, 10, now() - ALIVE).await;
        let mut tx = ground.store.begin().await.unwrap();
        let buried = triggers::bury(&mut tx, &ground.org, &|holder| holder == "holder")
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(buried, 1);
        let next = enlist(ground, 1).await;
        assert_eq!(assign(ground, 1, next, 10, now() - ALIVE).await, [trigger]);
    }
);

contract!(an_event_resumes_its_task_once_in_the_same_try, |ground| {
    let (identity, trigger) = deferred(ground, "a", None).await;
    let scope = ground.team(1);
    let event = Resume::Event(json!("now"));
    for expected in [true, false] {
        let mut tx = ground.store.begin().await.unwrap();
        let waits_for = WaitsFor::Trigger(trigger);
        let done = resumed(&mut tx, scope, &run_key(&identity), &key("a"), waits_for, &event, now())
            .await
            .unwrap();
        assert_eq!(done.is_some(), expected);
        if let Some(after) = done {
            assert_eq!(
                (after.state, after.try_number),
                (Some(TaskState::Scheduled), identity.try_number)
            );
            assert_eq!(after.next_method.as_deref(), Some("resume"));
            assert_eq!(after.next_kwargs, json!({"own": 1, "event": "now"}));
            assert_eq!(after.trigger_id, None);
            tx.commit().await.unwrap();
        }
    }
    let mut tx = ground.store.read().await.unwrap();
    assert!(triggers::get(&mut tx, scope, &[trigger]).await.unwrap().is_empty());
});

contract!(a_trigger_ends_its_task_and_leaves_xcoms, |ground| {
    let (identity, trigger) = deferred(ground, "a", None).await;
    let xcoms: Map<_, _> = json!({"return_value": 5}).as_object().cloned().unwrap();
    let end = Ended::Finally(TaskState::Success);
    let mut tx = ground.store.begin().await.unwrap();
    let done = ended_by_trigger(
        &mut tx,
        ground.team(1),
        &run_key(&identity),
        &key("a"),
        trigger,
        &end,
        &xcoms,
        now(),
    )
    .await
    .unwrap()
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(done.after.state, Some(TaskState::Success));
    assert!(done.after.end_date.is_some() && done.after.next_method.is_none());
});

contract!(waiting_too_long_fails_on_a_worker_and_not_a_moment_before, |ground| {
    let until = now() + SignedDuration::from_secs(60);
    let (identity, _) = deferred(ground, "a", Some(until)).await;
    let scope = ground.team(1);
    let mut tx = ground.store.begin().await.unwrap();
    let early = timed_out(&mut tx, scope, &run_key(&identity), &key("a"), now())
        .await
        .unwrap();
    assert_eq!(early, None);
    drop(tx);
    let mut tx = ground.store.begin().await.unwrap();
    let late = timed_out(&mut tx, scope, &run_key(&identity), &key("a"), until)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(late.next_method.as_deref(), Some("__fail__"));
    assert_eq!(late.next_kwargs, json!({"error": "Trigger timeout"}));
});

fn parks(timeout: Option<Timestamp>) -> Ended {
    Ended::AwaitingInput {
        next_method: "execute_complete".to_owned(),
        next_kwargs: json!({}),
        timeout,
    }
}

async fn ask(ground: &Ground, identity: &TaskIdentity, defaults: serde_json::Value) {
    let detail = json!({"options": ["a"], "subject": "s", "defaults": defaults, "params": {"n": {"value": 3}}});
    let mut tx = ground.store.begin().await.unwrap();
    hitl::ask(&mut tx, ground.team(1), identity.ti_id, &detail, now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

contract!(an_answer_resumes_the_task_whether_it_waits_already_or_not, |ground| {
    let given = json!({
        "chosen_options": ["a"], "params_input": {}, "responded_by_user": {"id": "u", "name": "u"},
    });
    for parked_first in [true, false] {
        let task = if parked_first { "early" } else { "late" };
        let identity = running(ground, task).await;
        let scope = ground.team(1);
        ask(ground, &identity, json!(null)).await;
        let park = async || {
            let mut tx = ground.store.begin().await.unwrap();
            let end = parks(None);
            let TaskWrite::Done(done) = ended(&mut tx, scope, &identity, &end, now(), None, now())
                .await
                .unwrap()
            else {
                panic!("a running task parks");
            };
            tx.commit().await.unwrap();
            done.after.state
        };
        if parked_first {
            assert_eq!(park().await, Some(TaskState::AwaitingInput));
        }
        let mut tx = ground.store.begin().await.unwrap();
        let ti = task_instances::get(&mut tx, scope, &run_key(&identity), &key(task))
            .await
            .unwrap()
            .unwrap();
        let Answered::Done(_) = answered(&mut tx, scope, &ti, &given, now()).await.unwrap() else {
            panic!("the question is open");
        };
        tx.commit().await.unwrap();
        if !parked_first {
            assert_eq!(park().await, Some(TaskState::Scheduled));
        }
        let mut tx = ground.store.begin().await.unwrap();
        let ti = task_instances::get(&mut tx, scope, &run_key(&identity), &key(task))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ti.state, Some(TaskState::Scheduled));
        assert_eq!(ti.next_kwargs["event"]["chosen_options"], json!(["a"]));
        assert_eq!(ti.next_kwargs["event"]["timedout"], false);
        let again = answered(&mut tx, scope, &ti, &given, now()).await.unwrap();
        assert_eq!(again, Answered::Already);
    }
});

contract!(
    a_question_without_answer_takes_its_defaults_when_its_time_is_over,
    |ground| {
        let until = now();
        for (task, defaults) in [("with", json!(["a"])), ("without", json!(null))] {
            let identity = running(ground, task).await;
            ask(ground, &identity, defaults.clone()).await;
            let scope = ground.team(1);
            let mut tx = ground.store.begin().await.unwrap();
            let end = parks(Some(until));
            let _ = ended(&mut tx, scope, &identity, &end, now(), None, now())
                .await
                .unwrap();
            tx.commit().await.unwrap();
            let mut tx = ground.store.begin().await.unwrap();
            let after = timed_out(&mut tx, scope, &run_key(&identity), &key(task), until)
                .await
                .unwrap()
                .unwrap();
            let event = &after.next_kwargs["event"];
            if defaults.is_null() {
                assert_eq!(event["error_type"], "timeout");
            } else {
                assert_eq!(
                    (&event["chosen_options"], &event["timedout"]),
                    (&defaults, &json!(true))
                );
                assert_eq!(event["params_input"], json!({"n": 3}));
            }
        }
    }
);

contract!(what_nobody_wants_any_more_is_swept, |ground| {
    let (identity, trigger) = deferred(ground, "a", None).await;
    let scope = ground.team(1);
    let mut tx = ground.store.begin().await.unwrap();
    isobar_store::clearing::mark(
        &mut tx,
        scope,
        &run_key(&identity),
        &[key("a")],
        TaskState::Failed,
        None,
        now(),
    )
    .await
    .unwrap();
    triggers::sweep(&mut tx, scope, now() - ALIVE).await.unwrap();
    assert!(triggers::get(&mut tx, scope, &[trigger]).await.unwrap().is_empty());
    let ti = task_instances::get(&mut tx, scope, &run_key(&identity), &key("a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (ti.state, ti.trigger_id, ti.team),
        (Some(TaskState::Failed), None, TeamId(1))
    );
});
