//! Pure scheduling: what should happen next, given what is known.
//!
//! Floor 1: no I/O, no clocks, no randomness, no async. Same inputs, same outputs.

pub mod cron;
pub mod timetable;
