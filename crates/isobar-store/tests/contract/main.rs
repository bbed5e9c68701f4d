//! The contract suite: what the store promises, on SQLite always, and on PostgreSQL where `ISOBAR_TEST_POSTGRES` names one.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

#[macro_use]
mod ground;
mod backfills;
mod clearing;
mod consequences;
mod counters_and_events;
mod leases;
mod listeners;
mod moves;
mod neighbours;
mod plans;
mod questions;
mod runs;
mod task_writes;
mod units;
mod waiting;
