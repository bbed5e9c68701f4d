//! Pools of a team.

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;
use serde_json::json;

use crate::counters::{Counter, next_ids};
use crate::db::{Row, vals};
use crate::events::{self, EventKind};
use crate::{StoreError, Tx};

/// The pool that every team has.
pub const DEFAULT_POOL: &str = "default_pool";

/// A row of `pool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The owner.
    pub team: TeamId,
    /// Its name inside the team.
    pub name: String,
    /// The id that Airflow's API shows.
    pub id: i64,
    /// Slots; -1 is without bound.
    pub slots: i64,
    /// What it is for.
    pub description: Option<String>,
    /// Whether deferred tasks hold slots.
    pub include_deferred: bool,
}

impl Pool {
    pub(crate) fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            name: row.text("name")?,
            id: row.int("id")?,
            slots: row.int("slots")?,
            description: row.maybe_text("description")?,
            include_deferred: row.flag("include_deferred")?,
        })
    }
}

/// Slots in use, as Airflow's pool page counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named for the state that it counts slots of")]
pub struct PoolUse {
    pub running: i64,
    pub queued: i64,
    pub scheduled: i64,
    pub deferred: i64,
}

/// Every team's pools, for admission.
///
/// # Errors
/// The database failed.
pub async fn all(tx: &mut Tx, _scope: &OrgScope) -> Result<Vec<Pool>, StoreError> {
    let rows = tx.rows("SELECT * FROM pool ORDER BY team_no, name", vals![]).await?;
    rows.iter().map(Pool::from_row).collect()
}

/// The team's pools.
///
/// # Errors
/// The database failed.
pub async fn all_of(tx: &mut Tx, scope: TeamScope) -> Result<Vec<Pool>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM pool WHERE team_no = $1 ORDER BY name",
            vals![scope.team()],
        )
        .await?;
    rows.iter().map(Pool::from_row).collect()
}

/// One pool, none where the team has none of that name.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, name: &str) -> Result<Option<Pool>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM pool WHERE team_no = $1 AND name = $2",
            vals![scope.team(), name],
        )
        .await?;
    row.as_ref().map(Pool::from_row).transpose()
}

/// Makes a pool.
///
/// # Errors
/// [`StoreError::Exists`] where the team has one of that name.
pub async fn create(
    tx: &mut Tx,
    scope: TeamScope,
    name: &str,
    slots: i64,
    description: Option<&str>,
    include_deferred: bool,
    now: Timestamp,
) -> Result<Pool, StoreError> {
    let id = next_ids(tx, scope, Counter::Pool, 1).await?;
    let row = tx
        .row(
            "INSERT INTO pool (team_no, name, id, slots, description, include_deferred) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT DO NOTHING RETURNING *",
            vals![scope.team(), name, id, slots, description, include_deferred],
        )
        .await?;
    let pool = row
        .as_ref()
        .map(Pool::from_row)
        .transpose()?
        .ok_or_else(|| StoreError::Exists {
            what: format!("a pool `{name}`"),
        })?;
    announce(tx, scope, name, now).await?;
    Ok(pool)
}

/// Changes a pool; none where there is none of that name.
///
/// # Errors
/// The database failed.
pub async fn update(
    tx: &mut Tx,
    scope: TeamScope,
    name: &str,
    slots: i64,
    description: Option<&str>,
    include_deferred: bool,
    now: Timestamp,
) -> Result<Option<Pool>, StoreError> {
    let row = tx
        .row(
            "UPDATE pool SET slots = $3, description = $4, include_deferred = $5 WHERE team_no = $1 AND name = $2 \
             RETURNING *",
            vals![scope.team(), name, slots, description, include_deferred],
        )
        .await?;
    announce(tx, scope, name, now).await?;
    row.as_ref().map(Pool::from_row).transpose()
}

/// Deletes a pool; whether there was one. Whether it may go (`default_pool` may not) is the caller's question.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, scope: TeamScope, name: &str, now: Timestamp) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            "DELETE FROM pool WHERE team_no = $1 AND name = $2",
            vals![scope.team(), name],
        )
        .await?;
    announce(tx, scope, name, now).await?;
    Ok(touched > 0)
}

/// Makes a pool that the configuration declares, or sets it to what is declared there. Whether anything changed.
///
/// # Errors
/// The database failed.
pub async fn declare(
    tx: &mut Tx,
    scope: TeamScope,
    name: &str,
    slots: i64,
    description: Option<&str>,
    include_deferred: bool,
    now: Timestamp,
) -> Result<bool, StoreError> {
    match get(tx, scope, name).await? {
        None => {
            create(tx, scope, name, slots, description, include_deferred, now).await?;
            Ok(true)
        }
        Some(pool)
            if pool.slots == slots
                && pool.include_deferred == include_deferred
                && pool.description.as_deref() == description =>
        {
            Ok(false)
        }
        Some(_) => {
            update(tx, scope, name, slots, description, include_deferred, now).await?;
            Ok(true)
        }
    }
}

async fn announce(tx: &mut Tx, scope: TeamScope, name: &str, now: Timestamp) -> Result<(), StoreError> {
    events::insert(
        tx,
        scope,
        EventKind::Pool,
        &DagId::from(""),
        &json!({"name": name}),
        now,
    )
    .await
}
