//! Pokes of sensors in reschedule mode: each try's record of when it poked and when it will again.

use isobar_auth::TeamScope;
use isobar_model::TiId;
use jiff::Timestamp;

use crate::db::vals;
use crate::{StoreError, Tx};

/// Adds one poke to a try.
///
/// # Errors
/// The database failed.
pub async fn add(
    tx: &mut Tx,
    scope: TeamScope,
    ti_id: TiId,
    start: Timestamp,
    end: Timestamp,
    again_at: Timestamp,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO task_reschedule (team_no, ti_id, ordinal, start_date, end_date, reschedule_date) \
         SELECT $1, $2, coalesce(max(ordinal), 0) + 1, $3, $4, $5 FROM task_reschedule \
         WHERE team_no = $1 AND ti_id = $2",
        vals![scope.team(), ti_id, start, end, again_at],
    )
    .await
    .map(drop)
}

/// How often a try has poked, and when it first did.
///
/// # Errors
/// The database failed.
pub async fn count_and_first(
    tx: &mut Tx,
    scope: TeamScope,
    ti_id: TiId,
) -> Result<(i64, Option<Timestamp>), StoreError> {
    let row = tx
        .row(
            "SELECT count(*) AS n, min(CASE WHEN ordinal = 1 THEN start_date END) AS first FROM task_reschedule \
             WHERE team_no = $1 AND ti_id = $2",
            vals![scope.team(), ti_id],
        )
        .await?;
    row.map_or(Ok((0, None)), |row| Ok((row.int("n")?, row.maybe_time("first")?)))
}
