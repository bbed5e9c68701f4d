//! What the plan of a Dag asks of its timetable.

use std::fmt::Debug;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One run as a timetable sees it (Airflow's `DagRunInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextRun {
    /// Not made before this.
    pub run_after: Timestamp,
    /// The data it covers; its start is the logical date. None: a run without logical date (partitioned timetables).
    pub data_interval: Option<(Timestamp, Timestamp)>,
    /// The partition, in partitioned timetables.
    #[serde(default)]
    pub partition_key: Option<String>,
    /// The partition's date.
    #[serde(default)]
    pub partition_date: Option<Timestamp>,
}

impl NextRun {
    /// The start of the data interval.
    #[must_use]
    pub fn logical_date(&self) -> Option<Timestamp> {
        self.data_interval.map(|(start, _)| start)
    }
}

/// Bounds that the Dag and its tasks put on the timetable (Airflow's `TimeRestriction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restriction {
    /// The earliest start date of the Dag and its tasks.
    pub earliest: Option<Timestamp>,
    /// The Dag's end date; the latest of all where every task has one.
    pub latest: Option<Timestamp>,
    /// Whether intervals missed while nothing ran are made up for.
    pub catchup: bool,
}

/// A timetable's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next run.
    At(NextRun),
    /// None; ask again when something changed.
    Never,
    /// Python must be asked (custom timetables); the answer comes as [`Event::Answered`](super::Event::Answered).
    Ask,
}

/// A timetable that cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the timetable of this Dag cannot say when the next run is: {0}")]
pub struct ScheduleProblem(pub String);

/// When runs are due. Implementations are pure.
pub trait Schedule: Debug + Send + Sync {
    /// The run after the given one (the latest that was not made by hand), seen from `now`.
    ///
    /// # Errors
    /// Where the timetable's own data make no sense; the Dag then gets no further runs until it is parsed again.
    fn next(&self, last: Option<&NextRun>, within: &Restriction, now: Timestamp) -> Result<Next, ScheduleProblem>;

    /// Whether scheduled runs' ids get a random tail and the partition key (partitioned timetables).
    fn ids_name_partitions(&self) -> bool {
        false
    }

    /// What Python is to evaluate where the answer is [`Next::Ask`]: the timetable as serialized.
    fn question(&self) -> Option<&serde_json::Value> {
        None
    }
}
