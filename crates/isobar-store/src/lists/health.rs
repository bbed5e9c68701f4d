//! Whether a scheduler lives. Asked without a login, so it says nothing of any team.

use isobar_model::from_micros;
use jiff::Timestamp;

use crate::db::vals;
use crate::{StoreError, Tx};

/// The scheduler's pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerHealth {
    /// Some process holds an unexpired lease.
    pub alive: bool,
    /// Until when, at the latest, somebody was known to live.
    pub heartbeat: Option<Timestamp>,
}

/// The triggerers' pulse: the latest sign of life of one that has not ended, if there is one. Teams that wait for nothing
/// have none.
///
/// # Errors
/// The database failed.
pub async fn of_triggerers(tx: &mut Tx) -> Result<Option<Timestamp>, StoreError> {
    let row = tx
        .row(
            "SELECT max(heartbeat) AS latest FROM triggerer WHERE ended_at IS NULL",
            vals![],
        )
        .await?;
    Ok(row.map_or(Ok(None), |row| row.maybe_int("latest"))?.map(from_micros))
}

/// Reads the leases.
///
/// # Errors
/// The database failed.
pub async fn of_scheduler(tx: &mut Tx) -> Result<SchedulerHealth, StoreError> {
    let now = Timestamp::now();
    let latest = tx
        .row("SELECT max(expires_at) AS latest FROM lease", vals![])
        .await?
        .map_or(Ok(None), |row| row.maybe_int("latest"))?
        .map(from_micros);
    Ok(SchedulerHealth {
        alive: latest.is_some_and(|latest| latest >= now),
        heartbeat: latest.map(|latest| latest.min(now)),
    })
}
