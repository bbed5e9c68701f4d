//! The nouns of Isobar: ids, states, times and the serialized-Dag model.
//!
//! Floor 0: this crate depends on no other crate of the house and does no I/O.

pub mod dag;
mod ids;
mod sensitive;
mod states;
mod time;

pub use ids::{
    BadTeamName, DagId, Dispatch, MapIndex, Rev, RunId, RunKey, TaskId, TaskKey, TeamId, TeamName, TiId, UNMAPPED,
};
pub use sensitive::SENSITIVE_NAMES;
pub use states::{Reprocess, RunState, RunTrigger, RunType, TaskState, TriggerRule, UnknownName, WeightRule};
pub use time::{AirflowTime, from_micros, parse_time, render_time, to_micros};
