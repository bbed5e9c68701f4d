//! The scheduler over a real store, with tasks that need no Python: what commits, what starts, what is found again.
//! On SQLite always, on PostgreSQL where `ISOBAR_TEST_POSTGRES` names one.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

#[macro_use]
mod ground;
mod assets_agree;
mod interventions;
mod losses;
mod mappers_asked;
mod paths;
mod run_limits_agree;
