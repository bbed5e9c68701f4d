//! The metadata store: the only place with SQL. SQLite for `standalone`, PostgreSQL for everything.
//!
//! Floor 2. Every public function takes a scope (`TeamScope`, `ReadScope` or `OrgScope` of `isobar-auth`); the
//! transaction type offers no way to run SQL outside this crate. See `ARCHITECTURE.md`, "Who owns what".

pub mod counters;
mod db;
mod error;
pub mod events;
pub mod leases;
pub mod lists;
pub mod migrate;
pub mod overview;
pub mod runs;
mod scope_sql;
pub mod signals;
pub mod task_instances;
pub mod transitions;

pub use db::{Dialect, Store, Tx};
pub use error::StoreError;
