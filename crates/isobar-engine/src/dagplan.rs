//! The plan of one Dag: when its runs are made, which of them start, and when too many failures pause it.

mod event;
mod runid;
mod schedule;

pub use event::{
    ActiveRun, AssetTrigger, BackfillLimits, Command, DagFacts, DagSnapshot, Event, NewRun, NextFields, PausedBecause,
    RunIdPlan, Started,
};
pub use runid::{run_id, suffix_of};
pub use schedule::{Next, NextRun, Restriction, Schedule, ScheduleProblem};
