//! Tasks that nobody works any more.

use isobar_model::{RunState, TaskState};
use serde_json::json;

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
