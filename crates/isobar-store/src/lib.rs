//! The metadata store: the only place with SQL. SQLite for `standalone`, PostgreSQL for everything.
//!
//! Floor 2. Every public function takes a scope (`TeamScope`, `ReadScope` or `OrgScope` of `isobar-auth`); the
//! transaction type offers no way to run SQL outside this crate. See `ARCHITECTURE.md`, "Who owns what".

pub mod asset_queue;
pub mod assets;
pub mod audit;
pub mod backfills;
pub mod callbacks;
pub mod clearing;
pub mod connections;
pub mod counters;
pub mod dag_changes;
pub mod dag_moves;
pub mod dags;
mod db;
pub mod deadlines;
mod error;
pub mod events;
pub mod hitl;
mod late;
pub mod leases;
pub mod listeners;
pub mod lists;
pub mod loading;
pub mod migrate;
pub mod notes;
pub mod overview;
pub mod pools;
pub mod questions;
pub mod rendered;
pub mod requests;
pub mod reschedules;
pub mod run_calls;
pub mod runs;
mod scope_sql;
pub mod seal;
pub mod signals;
pub mod stores;
pub mod task_calls;
pub mod task_instances;
pub mod teams;
pub mod transitions;
pub mod triggers;
pub mod variables;
pub mod xcoms;

pub use db::{Dialect, Store, Tx};
pub use error::StoreError;
