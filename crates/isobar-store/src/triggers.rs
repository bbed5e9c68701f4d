//! Triggers: what deferred task instances wait for.

use isobar_auth::TeamScope;
use jiff::Timestamp;

use crate::counters::{Counter, next_ids};
use crate::db::vals;
use crate::{StoreError, Tx};

/// A trigger as the task that deferred described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Import path of the trigger's class.
    pub classpath: String,
    /// Its arguments: JSON text, or a text that the client encrypted.
    pub kwargs: String,
    /// The queue of triggerers, where the task named one.
    pub queue: Option<String>,
}

/// Adds a trigger; answers its id.
///
/// # Errors
/// The database failed.
pub async fn add(tx: &mut Tx, scope: TeamScope, trigger: &Trigger, now: Timestamp) -> Result<i64, StoreError> {
    let id = next_ids(tx, scope, Counter::Trigger, 1).await?;
    tx.run(
        "INSERT INTO async_trigger (team_no, id, classpath, kwargs, queue, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        vals![
            scope.team(),
            id,
            &trigger.classpath,
            &trigger.kwargs,
            trigger.queue.as_ref(),
            now
        ],
    )
    .await?;
    Ok(id)
}
