//! Opening either database.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use tokio::sync::Mutex;

use super::Dialect;
use super::tx::{Tx, Writer, WriterQueue};
use crate::StoreError;
use crate::signals::Signals;

/// Readers of SQLite that may run side by side.
const SQLITE_READERS: u32 = 4;

#[derive(Clone)]
enum Database {
    Sqlite { readers: SqlitePool, writer: WriterQueue },
    Postgres(PgPool),
}

/// The metadata store. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Store {
    database: Database,
    signals: Signals,
}

/// How many connections to PostgreSQL [`Store::open`] holds at most.
const CONNECTIONS: u32 = 16;

impl Store {
    /// Opens `sqlite:///path` or `postgres://…`. Creates a missing SQLite file; applies no migration.
    ///
    /// # Errors
    /// The address is neither, or the database cannot be reached.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, CONNECTIONS).await
    }

    /// As [`open`](Self::open), with at most so many connections to PostgreSQL, of which one listens for hints.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(url: &str, connections: u32) -> Result<Self, StoreError> {
        let signals = Signals::new();
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(
                &url.replace("sqlite:////", "sqlite:///")
                    .replace("sqlite:///", "sqlite:/"),
            )?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .busy_timeout(Duration::from_secs(10))
            .pragma("cache_size", "-8192")
            .statement_cache_capacity(256);
            let write_pool = SqlitePoolOptions::new()
                .max_connections(1)
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_with(options.clone())
                .await?;
            let writer = WriterQueue {
                writer: Arc::new(Mutex::new(Writer::new(write_pool.acquire().await?))),
                waiting: Arc::new(AtomicUsize::new(0)),
            };
            let readers = SqlitePoolOptions::new()
                .max_connections(SQLITE_READERS)
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_with(options.pragma("query_only", "1"))
                .await?;
            return Ok(Self {
                database: Database::Sqlite { readers, writer },
                signals,
            });
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url)?
                .application_name("isobar")
                .statement_cache_capacity(256);
            let pool = PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(30))
                .test_before_acquire(false)
                .connect_with(options)
                .await?;
            signals.listen(pool.clone());
            return Ok(Self {
                database: Database::Postgres(pool),
                signals,
            });
        }
        Err(StoreError::Address {
            url: without_password(url),
        })
    }

    /// Which database this is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.database {
            Database::Sqlite { .. } => Dialect::Sqlite,
            Database::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Where to hear of commits that somebody should look at.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Begins a unit of work that writes.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        match &self.database {
            Database::Sqlite { writer, .. } => Tx::write_sqlite(writer.clone(), self.signals.clone()).await,
            Database::Postgres(pool) => Tx::postgres(pool.acquire().await?, false, self.signals.clone()).await,
        }
    }

    /// A connection for reading. Each statement sees what is committed by then.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        match &self.database {
            Database::Sqlite { readers, .. } => Ok(Tx::read_sqlite(readers.acquire().await?, self.signals.clone())),
            Database::Postgres(pool) => Tx::postgres(pool.acquire().await?, true, self.signals.clone()).await,
        }
    }
}

/// The address without what stands between `:` and `@`, for messages.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((before, host))) => {
            let user = before
                .split_once("://")
                .map_or("", |(_, rest)| rest.split(':').next().unwrap_or(""));
            format!("{scheme}://{user}:***@{host}")
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("mysql://me:secret@host/db"), "mysql://me:***@host/db");
    }
}
