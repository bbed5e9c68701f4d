//! Pokes of sensors in reschedule mode. They are written by [`crate::transitions`].

use isobar_auth::TeamScope;
use isobar_model::TiId;
use jiff::Timestamp;

use crate::db::vals;
use crate::{StoreError, Tx};

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
