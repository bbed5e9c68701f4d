//! The thin layer under all statements: values, rows, transactions, and opening either database.
//!
//! One SQL text serves both databases wherever they agree (`$1` placeholders, `RETURNING`, `ON CONFLICT`); values are
//! typed, so nulls need no casts. sqlx's `Any` is deliberately absent.

mod open;
mod row;
mod tx;
mod value;

pub use open::Store;
pub(crate) use row::Row;
pub use tx::Tx;
pub(crate) use value::{Val, vals, values_list};

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite: one file, one writer, `standalone` only.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// What ends a query that takes rows which others may be taking too; SQLite has one writer and needs no word for it.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "FOR UPDATE SKIP LOCKED",
        }
    }
}
