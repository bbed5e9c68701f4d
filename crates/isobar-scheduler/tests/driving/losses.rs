//! Tasks that nobody works any more.

use std::time::Duration;

use crate::ground::Ground;
use isobar_model::{AirflowTime, RunState, TaskState, TeamName};
use isobar_scheduler::{Setting, StuckRule};
use isobar_store::callbacks;
use isobar_wire::agent::PendingCallback;
use isobar_wire::execution::{Caller, ExecutionApi, Operation, TaskEnd};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// Looks often, and has no patience with tasks that do not begin.
fn impatient(setting: &mut Setting) {
    setting.sweep_interval = Duration::from_millis(50);
    setting.stuck = StuckRule {
        after: Duration::from_millis(200),
        times: 2,
    };
}

/// What the dag-processor is asked to run.
async fn asked(ground: &Ground) -> Vec<PendingCallback> {
    let mut tx = ground.store.begin().await.unwrap();
    let hold = SignedDuration::from_secs(60);
    callbacks::claim(&mut tx, ground.scope(), 10, Timestamp::now(), hold)
        .await
        .unwrap()
}

driving!(a_task_that_ends_without_a_word_fails, |ground| {
    ground.dag("d", &[("silent", &[], json!({}))], json!({})).await;
    let at = ground.start(8);
    let run = ground.trigger("d", "r").await;
    assert_eq!(ground.ended(&run).await, RunState::Failed);
    at.stop().await;
});

driving!(
    after_a_kill_lost_tasks_fail_or_are_retried_and_waiting_ones_lose_no_try,
    |ground| {
        let retry = json!({"retries": 1, "retry_delay": 0.05});
        let tasks: [(&str, &[&str], serde_json::Value); 3] = [
            ("hang_once", &[], retry),
            ("hang_never", &[], json!({"priority_weight": 5})),
            ("waits", &[], json!({"priority_weight": 0})),
        ];
        ground.dag("d", &tasks, json!({})).await;
        let at = ground.start(2);
        let run = ground.trigger("d", "r").await;
        ground.reaches(&run, "hang_once", TaskState::Running).await;
        ground.reaches(&run, "hang_never", TaskState::Running).await;
        at.kill().await;

        let again = ground.start(8);
        let lost = ground.reaches(&run, "hang_never", TaskState::Failed).await;
        assert_eq!(lost.try_number, 1);
        ground
            .until(&run, |_, all| {
                let again = all.iter().find(|ti| ti.task_id.as_str() == "hang_once")?;
                (again.state == Some(TaskState::Running) && again.try_number == 2).then_some(())
            })
            .await;
        let waited = ground.reaches(&run, "waits", TaskState::Success).await;
        assert_eq!(waited.try_number, 1);
        again.stop().await;
    }
);

driving!(
    a_task_that_does_not_begin_is_queued_anew_without_losing_a_try,
    |ground| {
        ground.dag("d", &[("stuck_once", &[], json!({}))], json!({})).await;
        let at = ground.start_with(8, impatient);
        let run = ground.trigger("d", "r").await;
        assert_eq!(ground.ended(&run).await, RunState::Success);
        let states = ground.states(&run).await;
        assert_eq!(states, [("stuck_once".to_owned(), Some(TaskState::Success), 1)]);
        let said = at.tasks.said.lock().unwrap().clone();
        assert!(said[0].contains("attempt=1.log: It did not begin"), "{said:?}");
        at.stop().await;
    }
);

driving!(
    a_task_that_never_begins_fails_in_the_end_and_its_callback_runs_elsewhere,
    |ground| {
        let told = json!({"retries": 3, "has_on_failure_callback": true});
        ground.dag("d", &[("stuck", &[], told)], json!({})).await;
        let at = ground.start_with(8, impatient);
        let run = ground.trigger("d", "r").await;
        assert_eq!(ground.ended(&run).await, RunState::Failed);
        let states = ground.states(&run).await;
        assert_eq!(states, [("stuck".to_owned(), Some(TaskState::Failed), 1)]);
        assert_eq!(at.tasks.began.lock().unwrap().len(), 3);
        let said = at.tasks.said.lock().unwrap().clone();
        assert!(
            said.last().unwrap().contains("queued 3 times and never began"),
            "{said:?}"
        );
        let asked = asked(ground).await;
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].request["task_callback_type"], "failed");
        at.stop().await;
    }
);

driving!(who_wants_mail_of_a_lost_task_gets_it, |ground| {
    let told = json!({"email": ["ops@example.com"], "email_on_retry": false, "retries": 1, "retry_delay": 0.01});
    ground.dag("d", &[("silent", &[], told)], json!({})).await;
    let at = ground.start(8);
    let run = ground.trigger("d", "r").await;
    assert_eq!(ground.ended(&run).await, RunState::Failed);
    let asked = asked(ground).await;
    let kinds: Vec<_> = asked.iter().map(|one| one.request["email_type"].clone()).collect();
    assert_eq!(kinds, ["failure"], "none of the retry, one of the end");
    at.stop().await;
});

driving!(
    a_task_whose_heartbeats_stop_fails_with_the_reason_in_its_log,
    |ground| {
        ground.dag("d", &[("hang", &[], json!({}))], json!({})).await;
        let at = ground.start_with(8, |setting| {
            setting.sweep_interval = Duration::from_millis(50);
            setting.heartbeat_timeout = Duration::from_millis(300);
        });
        let run = ground.trigger("d", "r").await;
        assert_eq!(ground.ended(&run).await, RunState::Failed);
        let said = at.tasks.said.lock().unwrap().clone();
        assert!(said[0].contains("no heartbeat came"), "{said:?}");
        at.stop().await;
    }
);

driving!(
    a_failure_that_nobody_heard_of_still_stops_the_others_of_a_fail_fast_dag,
    |ground| {
        let tasks: [(&str, &[&str], serde_json::Value); 3] = [
            ("gate", &["below"], json!({"priority_weight": 9})),
            ("later", &[], json!({})),
            ("below", &[], json!({})),
        ];
        ground.dag("d", &tasks, json!({"fail_fast": true})).await;
        let at = ground.start(1);
        let run = ground.trigger("d", "r").await;
        let ti = ground.reaches(&run, "gate", TaskState::Running).await;
        at.kill().await;
        let worker = Caller::Task(ti.identity(&TeamName::default_team()));
        let failed = TaskEnd::Failed {
            end_date: AirflowTime(Timestamp::now()),
            rendered_map_index: None,
        };
        ground.execution.call(&worker, Operation::State(failed)).await.unwrap();

        let again = ground.start(8);
        ground.ended(&run).await;
        assert_eq!(
            ground.states(&run).await,
            [
                ("below".to_owned(), Some(TaskState::Skipped), 0),
                ("gate".to_owned(), Some(TaskState::Failed), 1),
                ("later".to_owned(), Some(TaskState::Skipped), 1),
            ]
        );
        assert!(again.tasks.began.lock().unwrap().is_empty());
        again.stop().await;
    }
);
