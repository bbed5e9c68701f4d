//! The scheduler: drives the engine. It loads runs, feeds events, commits what the engine commands, and hands workloads to
//! executors after the commit.
//!
//! Floor 4. It decides nothing that the engine should. One scheduler works at a time, under a lease; others stand by.
//!
//! A reader begins at [`service`] (the loop), goes on to `pass` (one transaction: claim, plan, commit) and finds in `memory`
//! what is kept between passes. All of that can be thrown away and loaded again from the rows at any time.

mod admitting;
mod asking;
mod asset_queue;
mod backfills;
mod dagruns;
mod deadlines;
mod events;
mod handing;
mod holder;
mod load;
mod losses;
mod mapping;
mod memory;
mod partitions;
mod pass;
mod planning;
mod requests;
mod service;
mod setting;
mod shapes;
mod timers;
mod versions;
mod waits;

pub use holder::Holder;
pub use losses::StuckRule;
pub use service::{Scheduler, SchedulerError};
pub use setting::{Setting, TeamSetting};
