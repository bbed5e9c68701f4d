//! Rows whose numbers nobody needs to know before the commit: audit records and calls of listeners.
//!
//! On PostgreSQL a team's counter stays locked until the unit ends. These are written as the last statements of a unit, by team and
//! then by table: whoever holds such a counter waits for nothing that another holds who waits for it. It also keeps numbers in the
//! order of commits.

use isobar_auth::TeamScope;

use crate::counters::{Counter, next_ids};
use crate::db::{Val, vals, values_list};
use crate::listeners;
use crate::{StoreError, Tx};

/// Rows in one statement.
const ROWS_A_STATEMENT: usize = 500;

/// Where such rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Audit,
    ListenerCall,
}

impl Table {
    fn counter(self) -> Counter {
        match self {
            Self::Audit => Counter::Audit,
            Self::ListenerCall => Counter::ListenerCall,
        }
    }

    /// The columns after `team_no` and `id`.
    fn columns(self) -> &'static str {
        match self {
            Self::Audit => "at, event, owner, dag_id, run_id, task_id, map_index, try_number, logical_date, extra",
            Self::ListenerCall => "hook, arguments, version_id, made_at",
        }
    }
}

/// A row without its number.
pub(crate) struct LateRow {
    pub(crate) scope: TeamScope,
    pub(crate) table: Table,
    pub(crate) values: Vec<Val>,
}

impl LateRow {
    fn place(&self) -> (isobar_model::TeamId, Table) {
        (self.scope.team(), self.table)
    }
}

/// Writes the rows of a unit.
pub(crate) async fn write(tx: &mut Tx, mut rows: Vec<LateRow>) -> Result<(), StoreError> {
    rows.sort_by_key(LateRow::place);
    for same in rows.chunk_by_mut(|a, b| a.place() == b.place()) {
        for chunk in same.chunks_mut(ROWS_A_STATEMENT) {
            let (scope, table) = (chunk[0].scope, chunk[0].table);
            let count = u32::try_from(chunk.len()).expect("a chunk is small");
            let first = next_ids(tx, scope, table.counter(), count).await?;
            let rows = (first..).zip(chunk).map(|(id, row)| {
                let mut values = vals![scope.team(), id];
                values.append(&mut row.values);
                values
            });
            let (list, values) = values_list(1, rows.collect());
            let into = format!("{} (team_no, id, {})", table.counter().as_str(), table.columns());
            tx.run(&format!("INSERT INTO {into} VALUES {list}"), values).await?;
            if table == Table::ListenerCall {
                listeners::keep_within_limit(tx, scope, first..first + i64::from(count)).await?;
            }
        }
    }
    Ok(())
}
