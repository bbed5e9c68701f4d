//! Transactions.
//!
//! PostgreSQL: one pooled connection, `BEGIN … COMMIT`. The server groups flushes of concurrent commits by itself.
//!
//! SQLite has one writer, so units that wait for it share a transaction (group commit): each runs under a SAVEPOINT of
//! its own, the last of those that queue commits for all, and every caller is answered after that COMMIT.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use isobar_wire::wake::Wake;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor as _, Postgres, Sqlite};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use super::{Dialect, Row, Val};
use crate::StoreError;
use crate::late::{self, LateRow};
use crate::signals::Signals;

/// Units that may share one SQLite transaction, so that the first is not kept waiting for ever.
const MOST_UNITS_A_GROUP: usize = 64;

type CommitResult = Option<Result<(), String>>;

/// SQLite's one writing connection and the transaction that is open on it.
pub(crate) struct Writer {
    pub(crate) conn: PoolConnection<Sqlite>,
    /// Units done in the open transaction; zero means that none is open.
    units: usize,
    /// Tells those units how the COMMIT went.
    committed: watch::Sender<CommitResult>,
    wakes: Vec<Wake>,
}

impl Writer {
    pub(crate) fn new(conn: PoolConnection<Sqlite>) -> Self {
        Self {
            conn,
            units: 0,
            committed: watch::Sender::new(None),
            wakes: Vec::new(),
        }
    }

    /// Commits for every unit of the group and tells them.
    async fn commit_group(&mut self, signals: &Signals) {
        let outcome = self
            .conn
            .execute("COMMIT")
            .await
            .map(|_| ())
            .map_err(|error| error.to_string());
        if outcome.is_err() {
            let _ = self.conn.execute("ROLLBACK").await;
            self.wakes.clear();
        }
        self.units = 0;
        self.committed.send_replace(Some(outcome));
        self.committed = watch::Sender::new(None);
        for wake in self.wakes.drain(..) {
            signals.announce(wake);
        }
    }
}

/// The queue in front of SQLite's writer.
#[derive(Clone)]
pub(crate) struct WriterQueue {
    pub(crate) writer: Arc<Mutex<Writer>>,
    pub(crate) waiting: Arc<AtomicUsize>,
}

enum Open {
    /// A reading transaction or connection of SQLite.
    SqliteRead(PoolConnection<Sqlite>),
    /// The turn at SQLite's writer, inside this unit's SAVEPOINT.
    SqliteWrite {
        turn: OwnedMutexGuard<Writer>,
        queue: WriterQueue,
    },
    /// A transaction on PostgreSQL, or a plain connection where `reading`.
    Postgres {
        conn: PoolConnection<Postgres>,
        reading: bool,
    },
    Closed,
}

/// A unit of work. Dropped without [`Tx::commit`], it rolls itself back, and itself alone.
pub struct Tx {
    open: Open,
    wakes: Vec<Wake>,
    signals: Signals,
    /// Written right before the commit.
    late: Vec<LateRow>,
    /// How many of those there were at each mark that stands.
    marks: Vec<usize>,
}

impl Tx {
    pub(crate) async fn write_sqlite(queue: WriterQueue, signals: Signals) -> Result<Self, StoreError> {
        queue.waiting.fetch_add(1, Ordering::SeqCst);
        let mut turn = Arc::clone(&queue.writer).lock_owned().await;
        queue.waiting.fetch_sub(1, Ordering::SeqCst);
        if turn.units == 0 {
            turn.conn.execute("BEGIN IMMEDIATE").await?;
        }
        turn.units += 1;
        if let Err(error) = turn.conn.execute("SAVEPOINT unit").await {
            turn.units -= 1;
            turn.commit_group(&signals).await;
            return Err(error.into());
        }
        Ok(Self::new(Open::SqliteWrite { turn, queue }, signals))
    }

    pub(crate) fn read_sqlite(conn: PoolConnection<Sqlite>, signals: Signals) -> Self {
        Self::new(Open::SqliteRead(conn), signals)
    }

    pub(crate) async fn postgres(
        mut conn: PoolConnection<Postgres>,
        reading: bool,
        signals: Signals,
    ) -> Result<Self, StoreError> {
        if !reading {
            conn.execute("BEGIN").await?;
        }
        Ok(Self::new(Open::Postgres { conn, reading }, signals))
    }

    fn new(open: Open, signals: Signals) -> Self {
        Self {
            open,
            wakes: Vec::new(),
            signals,
            late: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Which database this is, for the few statements that need two texts.
    pub(crate) fn dialect(&self) -> Dialect {
        match self.open {
            Open::Postgres { .. } => Dialect::Postgres,
            _ => Dialect::Sqlite,
        }
    }

    /// Told to whoever listens, after this unit is committed.
    pub(crate) fn wake(&mut self, what: Wake) {
        if !self.wakes.contains(&what) {
            self.wakes.push(what);
        }
    }

    /// Written as one of the last statements of this unit.
    pub(crate) fn write_late(&mut self, row: LateRow) {
        self.late.push(row);
    }

    /// Runs a statement; answers the number of rows it touched.
    pub(crate) async fn run(&mut self, sql: &str, values: Vec<Val>) -> Result<u64, StoreError> {
        macro_rules! go {
            ($conn:expr) => {{
                let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
                for value in values {
                    query = match value {
                        Val::Int(v) => query.bind(v),
                        Val::Real(v) => query.bind(v),
                        Val::Bool(v) => query.bind(v),
                        Val::Text(v) => query.bind(v),
                        Val::Uuid(v) => query.bind(v),
                        Val::Bytes(v) => query.bind(v),
                    };
                }
                query.execute($conn).await?.rows_affected()
            }};
        }
        Ok(match &mut self.open {
            Open::SqliteRead(conn) => go!(&mut **conn),
            Open::SqliteWrite { turn, .. } => go!(&mut *turn.conn),
            Open::Postgres { conn, .. } => go!(&mut **conn),
            Open::Closed => return Err(StoreError::NotCommitted("the unit was closed before".to_owned())),
        })
    }

    /// Runs a statement and reads its rows (`SELECT`, or `… RETURNING`).
    pub(crate) async fn rows(&mut self, sql: &str, values: Vec<Val>) -> Result<Vec<Row>, StoreError> {
        macro_rules! go {
            ($conn:expr, $kind:path) => {{
                let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
                for value in values {
                    query = match value {
                        Val::Int(v) => query.bind(v),
                        Val::Real(v) => query.bind(v),
                        Val::Bool(v) => query.bind(v),
                        Val::Text(v) => query.bind(v),
                        Val::Uuid(v) => query.bind(v),
                        Val::Bytes(v) => query.bind(v),
                    };
                }
                query.fetch_all($conn).await?.into_iter().map($kind).collect()
            }};
        }
        Ok(match &mut self.open {
            Open::SqliteRead(conn) => go!(&mut **conn, Row::Sqlite),
            Open::SqliteWrite { turn, .. } => go!(&mut *turn.conn, Row::Sqlite),
            Open::Postgres { conn, .. } => go!(&mut **conn, Row::Postgres),
            Open::Closed => return Err(StoreError::NotCommitted("the unit was closed before".to_owned())),
        })
    }

    /// The first row, if any.
    pub(crate) async fn row(&mut self, sql: &str, values: Vec<Val>) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Sets a mark inside this unit; see [`Tx::back_to_mark`]. Marks nest by name.
    pub async fn mark(&mut self) -> Result<(), StoreError> {
        self.marks.push(self.late.len());
        self.run("SAVEPOINT mark", Vec::new()).await.map(drop)
    }

    /// Undoes what came after the last mark and removes the mark; the rest of the unit stands.
    pub async fn back_to_mark(&mut self) -> Result<(), StoreError> {
        self.late.truncate(self.marks.pop().unwrap_or(0));
        self.run("ROLLBACK TO SAVEPOINT mark", Vec::new()).await?;
        self.run("RELEASE SAVEPOINT mark", Vec::new()).await.map(drop)
    }

    /// Keeps what came after the last mark and removes the mark.
    pub async fn keep_mark(&mut self) -> Result<(), StoreError> {
        self.marks.pop();
        self.run("RELEASE SAVEPOINT mark", Vec::new()).await.map(drop)
    }

    /// Commits; returns when the data is safe.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`] when the shared transaction failed; nothing was written and the unit may be retried.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let late = std::mem::take(&mut self.late);
        late::write(&mut self, late).await?;
        match std::mem::replace(&mut self.open, Open::Closed) {
            Open::SqliteRead(_) | Open::Closed => Ok(()),
            Open::Postgres { mut conn, reading } => {
                if reading {
                    return Ok(());
                }
                for wake in &self.wakes {
                    sqlx::query("SELECT pg_notify('isobar', $1)")
                        .bind(Signals::payload(*wake))
                        .execute(&mut *conn)
                        .await?;
                }
                conn.execute("COMMIT").await?;
                for wake in self.wakes.drain(..) {
                    self.signals.announce(wake);
                }
                Ok(())
            }
            Open::SqliteWrite { mut turn, queue } => {
                turn.conn.execute("RELEASE SAVEPOINT unit").await?;
                let fresh: Vec<Wake> = self.wakes.drain(..).filter(|wake| !turn.wakes.contains(wake)).collect();
                turn.wakes.extend(fresh);
                let mut outcome = turn.committed.subscribe();
                let others_wait = queue.waiting.load(Ordering::SeqCst) > 0;
                if others_wait && turn.units < MOST_UNITS_A_GROUP {
                    drop(turn);
                } else {
                    turn.commit_group(&self.signals).await;
                    drop(turn);
                }
                let result = outcome
                    .wait_for(Option::is_some)
                    .await
                    .map_err(|_| StoreError::NotCommitted("the writer went away".to_owned()))?
                    .clone();
                match result {
                    Some(Ok(())) => Ok(()),
                    Some(Err(problem)) => Err(StoreError::NotCommitted(problem)),
                    None => Err(StoreError::NotCommitted("the writer went away".to_owned())),
                }
            }
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        match std::mem::replace(&mut self.open, Open::Closed) {
            Open::SqliteRead(_) | Open::Closed | Open::Postgres { reading: true, .. } => {}
            Open::Postgres { mut conn, .. } => {
                runtime.spawn(async move {
                    if conn.execute("ROLLBACK").await.is_err() {
                        let _ = conn.close().await;
                    }
                });
            }
            Open::SqliteWrite { mut turn, queue } => {
                let signals = self.signals.clone();
                runtime.spawn(async move {
                    let _ = turn.conn.execute("ROLLBACK TO SAVEPOINT unit").await;
                    let _ = turn.conn.execute("RELEASE SAVEPOINT unit").await;
                    if queue.waiting.load(Ordering::SeqCst) == 0 || turn.units >= MOST_UNITS_A_GROUP {
                        turn.commit_group(&signals).await;
                    }
                });
            }
        }
    }
}
