//! Pools as the REST API lists them, with the slots in use right now.

use std::collections::HashMap;

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::TeamId;

use super::matching::{Page, Slice, TextMatch};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::db::{vals, values_list};
use crate::pools::{self, Pool, PoolUse};
use crate::{StoreError, Tx};

/// By what pools can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "p.id" Int;
        "pool" => "p.name" Text;
        "name" => "p.name" Text;
    },
    unique: &[("p.id", Kind::Int)],
    default: "id",
};

/// A pool and its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// The pool.
    pub pool: Pool,
    /// Slots by state of the task instances that hold or want them.
    pub used: PoolUse,
}

impl PoolRow {
    /// Slots that are taken: by running and queued task instances, and by deferred ones where the pool counts them.
    #[must_use]
    pub fn occupied(&self) -> i64 {
        let deferred = if self.pool.include_deferred {
            self.used.deferred
        } else {
            0
        };
        self.used.running + self.used.queued + deferred
    }

    /// Slots that are free; -1 where the pool has no bound.
    #[must_use]
    pub fn open(&self) -> i64 {
        if self.pool.slots == -1 {
            -1
        } else {
            self.pool.slots - self.occupied()
        }
    }
}

/// One page of the pools that may be read.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    name: &TextMatch,
    order: &Ordering,
    page: Page,
) -> Result<Slice<PoolRow>, StoreError> {
    let mut select = Select::new(tx, scope, "p.team_no", "p.*", "pool p");
    select.matches("p.name", name);
    let found = select.page(tx, order, page, Pool::from_row).await?;
    Ok(Slice {
        rows: with_use(tx, found.rows).await?,
        total: found.total,
    })
}

/// One pool of a team, none where it has none of that name.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, name: &str) -> Result<Option<PoolRow>, StoreError> {
    let Some(pool) = pools::get(tx, scope, name).await? else {
        return Ok(None);
    };
    Ok(with_use(tx, vec![pool]).await?.pop())
}

/// Counts over the index of active task instances: its condition stands here word for word, so that SQLite uses it and no
/// history is read.
async fn with_use(tx: &mut Tx, pools: Vec<Pool>) -> Result<Vec<PoolRow>, StoreError> {
    if pools.is_empty() {
        return Ok(Vec::new());
    }
    let (list, values) = values_list(1, pools.iter().map(|pool| vals![pool.team, &pool.name]).collect());
    let counted = tx
        .rows(
            &format!(
                "SELECT team_no, pool, state, CAST(sum(pool_slots) AS BIGINT) AS n FROM task_instance WHERE state IN \
                 ('scheduled', 'queued', 'running', 'restarting', 'up_for_retry', 'up_for_reschedule', 'deferred', \
                 'awaiting_input') AND (team_no, pool) IN (VALUES {list}) GROUP BY team_no, pool, state"
            ),
            values,
        )
        .await?;
    let mut used: HashMap<(TeamId, String), PoolUse> = HashMap::new();
    for row in &counted {
        let slots = used.entry((row.team("team_no")?, row.text("pool")?)).or_default();
        let n = row.int("n")?;
        match row.text("state")?.as_str() {
            "running" => slots.running = n,
            "queued" => slots.queued = n,
            "scheduled" => slots.scheduled = n,
            "deferred" => slots.deferred = n,
            _ => {}
        }
    }
    Ok(pools
        .into_iter()
        .map(|pool| PoolRow {
            used: used.get(&(pool.team, pool.name.clone())).copied().unwrap_or_default(),
            pool,
        })
        .collect())
}
