//! The metadata store: the only place with SQL. SQLite for `standalone`, PostgreSQL for everything.
//!
//! Floor 2. Every public function takes a scope (`TeamScope`, `ReadScope` or `OrgScope` of `isobar-auth`); the
//! transaction type offers no way to run SQL outside this crate. See `ARCHITECTURE.md`, "Who owns what".

mod db;
mod error;
pub mod migrate;
pub mod signals;

pub use db::{Dialect, Store, Tx};
pub use error::StoreError;
