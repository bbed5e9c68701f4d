//! Pure scheduling: what should happen next, given what is known.
//!
//! Floor 1: no I/O, no clocks, no randomness, no async. Same inputs, same outputs.
//!
//! Three engines that know nothing of each other: [`dagplan`] decides when runs of a Dag are made and started, [`planner`]
//! works one run, [`admission`] hands out the organisation's slots.

pub mod admission;
pub mod assets;
pub mod cron;
pub mod dagplan;
pub mod graph;
pub mod partition;
pub mod planner;
pub mod timetable;
