//! Leases: which process works what. The epoch moves with every change of holder and fences late transactions.

use std::time::Duration;

use isobar_auth::OrgScope;
use jiff::Timestamp;

use crate::db::{Dialect, vals};
use crate::{StoreError, Tx};

/// A lease that this process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased, for example `scheduler`.
    pub name: String,
    /// The holding process.
    pub holder: String,
    /// Moves with every change of holder.
    pub epoch: i64,
}

/// The instant that leases are measured by: the database's own, where machines differ.
const NOW_POSTGRES: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Takes the lease where it is free or expired, or renews it where `holder` has it; none where another holds it.
///
/// # Errors
/// The database failed.
pub async fn acquire(
    tx: &mut Tx,
    _scope: &OrgScope,
    name: &str,
    holder: &str,
    lasting: Duration,
    now: Timestamp,
) -> Result<Option<Lease>, StoreError> {
    let now_text = match tx.dialect() {
        Dialect::Sqlite => "$4",
        Dialect::Postgres => NOW_POSTGRES,
    };
    let micros = i64::try_from(lasting.as_micros()).unwrap_or(i64::MAX);
    // `$4` is bound on both databases and only used as a value where there is no better clock.
    let row = tx
        .row(
            &format!(
                "INSERT INTO lease (name, holder, epoch, expires_at) VALUES ($1, $2, 1, {now_text} + $3 + ($4 - $4)) \
                 ON CONFLICT (name) DO UPDATE SET \
                 epoch = CASE WHEN lease.holder = $2 THEN lease.epoch ELSE lease.epoch + 1 END, \
                 holder = $2, expires_at = {now_text} + $3 \
                 WHERE lease.holder = $2 OR lease.expires_at < {now_text} RETURNING epoch"
            ),
            vals![name, holder, micros, now],
        )
        .await?;
    row.map(|row| {
        Ok(Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            epoch: row.int("epoch")?,
        })
    })
    .transpose()
}

/// Gives the lease back, so that another need not wait for its end.
///
/// # Errors
/// The database failed.
pub async fn release(tx: &mut Tx, _scope: &OrgScope, lease: &Lease) -> Result<(), StoreError> {
    tx.run(
        "UPDATE lease SET expires_at = 0 WHERE name = $1 AND holder = $2 AND epoch = $3",
        vals![lease.name.as_str(), lease.holder.as_str(), lease.epoch],
    )
    .await?;
    Ok(())
}

/// Ends a lease whose holder is known to be dead.
///
/// # Errors
/// The database failed.
pub async fn expire(tx: &mut Tx, _scope: &OrgScope, name: &str, holder: &str) -> Result<(), StoreError> {
    tx.run(
        "UPDATE lease SET expires_at = 0 WHERE name = $1 AND holder = $2",
        vals![name, holder],
    )
    .await?;
    Ok(())
}

/// Fences this unit: it can commit only while the lease is still ours.
///
/// # Errors
/// [`StoreError::LeaseLost`] when another process holds it now.
pub async fn fence(tx: &mut Tx, _scope: &OrgScope, lease: &Lease) -> Result<(), StoreError> {
    let share = match tx.dialect() {
        Dialect::Sqlite => "",
        Dialect::Postgres => " FOR SHARE",
    };
    let row = tx
        .row(
            &format!("SELECT epoch FROM lease WHERE name = $1 AND holder = $2{share}"),
            vals![lease.name.as_str(), lease.holder.as_str()],
        )
        .await?;
    match row.map(|row| row.int("epoch")).transpose()? {
        Some(epoch) if epoch == lease.epoch => Ok(()),
        _ => Err(StoreError::LeaseLost(lease.name.clone())),
    }
}

/// Who holds a lease now and until when; none where nobody ever did.
///
/// # Errors
/// The database failed.
pub async fn holder(tx: &mut Tx, _scope: &OrgScope, name: &str) -> Result<Option<(String, Timestamp)>, StoreError> {
    let row = tx
        .row("SELECT holder, expires_at FROM lease WHERE name = $1", vals![name])
        .await?;
    row.map(|row| Ok((row.text("holder")?, row.time("expires_at")?)))
        .transpose()
}
