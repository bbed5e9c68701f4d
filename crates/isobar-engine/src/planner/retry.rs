//! Retries: whether, and when.

use isobar_model::{DagId, TaskId, TaskState};
use jiff::{SignedDuration, Timestamp};
use sha1::{Digest, Sha1};

use crate::graph::TaskSpec;

/// The longest delay that exponential back-off gives, in seconds: a day.
const LONGEST_BACKOFF: u64 = 24 * 60 * 60;

/// Whether an instance whose try failed may be tried again.
///
/// `max_tries` and `try_number` are the row's. One that was cleared while it ran (`restarting`) always may.
#[must_use]
pub fn may_retry(state: Option<TaskState>, retries: i32, try_number: i32, max_tries: i32) -> bool {
    state == Some(TaskState::Restarting) || (retries != 0 && try_number <= max_tries)
}

/// What the time of a retry depends on.
#[derive(Clone, Debug)]
pub struct Retry<'a> {
    /// The Dag.
    pub dag_id: &'a DagId,
    /// The task.
    pub task: &'a TaskSpec,
    /// The run's logical date.
    pub logical_date: Option<Timestamp>,
    /// The try that failed.
    pub try_number: i32,
    /// When it ended.
    pub end_date: Timestamp,
    /// The delay that a retry policy asked for.
    pub delay_override: Option<SignedDuration>,
}

/// When the next try is due: the task's delay after the end of the last, growing with each try where the task says so.
#[must_use]
pub fn next_retry_at(retry: &Retry<'_>) -> Timestamp {
    let delay = retry.delay_override.unwrap_or_else(|| delay(retry));
    retry.end_date.checked_add(delay).unwrap_or(Timestamp::MAX)
}

fn delay(retry: &Retry<'_>) -> SignedDuration {
    let task = retry.task;
    let factor = task.retry_exponential_backoff;
    #[expect(clippy::float_cmp, reason = "exactly 1 means no growth, as in Airflow")]
    let grows = factor > 0.0 && factor != 1.0;
    if !grows {
        return task.retry_delay;
    }
    let least = (task.retry_delay.as_secs_f64() * factor.powf(f64::from(retry.try_number) - 1.0)).ceil();
    #[expect(clippy::cast_precision_loss, reason = "a day in seconds is exact in a float")]
    let seconds = if least.is_finite() && least < LONGEST_BACKOFF as f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of seconds below a day"
        )]
        let least = (least as u64).max(1);
        (least + spread(retry.dag_id, &task.task_id, retry.logical_date, retry.try_number, least)).min(LONGEST_BACKOFF)
    } else {
        LONGEST_BACKOFF
    };
    let delay = SignedDuration::from_secs(i64::try_from(seconds).expect("a day fits"));
    task.max_retry_delay
        .filter(|max| !max.is_zero())
        .map_or(delay, |max| max.min(delay))
}

/// A number below `modulus` that is the same for the same try and differs between instances, so that they do not all come back at once.
fn spread(dag_id: &DagId, task_id: &TaskId, logical_date: Option<Timestamp>, try_number: i32, modulus: u64) -> u64 {
    let date = logical_date.map_or_else(
        || "None".to_owned(),
        |at| crate::dagplan::suffix_of(at).replacen('T', " ", 1),
    );
    let digest = Sha1::digest(format!("{dag_id}#{task_id}#{date}#{try_number}"));
    let modulus = u128::from(modulus);
    let rest = digest
        .iter()
        .fold(0_u128, |rest, byte| (rest * 256 + u128::from(*byte)) % modulus);
    u64::try_from(rest).expect("a remainder is below its modulus")
}
