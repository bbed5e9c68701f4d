//! The closed sets of names that Airflow 3.3 writes into rows, tokens and JSON.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that is not one of a closed set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a {what}")]
pub struct UnknownName {
    /// What was expected, for example "task state".
    pub what: &'static str,
    /// What was found.
    pub word: String,
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }
        impl $name {
            /// Every one of them, in Airflow's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name as Airflow writes it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = UnknownName;
            fn from_str(word: &str) -> Result<Self, UnknownName> {
                match word {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownName { what: $what, word: word.to_owned() }),
                }
            }
        }
    };
}

names!(
    /// The state of a task instance; `None` (no state yet) is `Option::<TaskState>::None`.
    TaskState, "task state", {
        /// Vanished from the Dag before it ran.
        Removed = "removed",
        /// Its dependencies are met; it waits for admission.
        Scheduled = "scheduled",
        /// Admitted and handed to an executor.
        Queued = "queued",
        /// Its process runs.
        Running = "running",
        /// Ended well.
        Success = "success",
        /// Cleared while it ran; will start again.
        Restarting = "restarting",
        /// Ended badly, no retry left.
        Failed = "failed",
        /// Ended badly, will be retried.
        UpForRetry = "up_for_retry",
        /// A sensor that asked to be started again later.
        UpForReschedule = "up_for_reschedule",
        /// A dependency failed.
        UpstreamFailed = "upstream_failed",
        /// Skipped by a branch, a short circuit or itself.
        Skipped = "skipped",
        /// Waits for a trigger.
        Deferred = "deferred",
        /// Waits for a person.
        AwaitingInput = "awaiting_input",
    }
);

impl TaskState {
    /// Ended, and nothing more will happen without somebody clearing it.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failed | Self::Skipped | Self::UpstreamFailed | Self::Removed
        )
    }

    /// Ended well enough for a run to succeed: success or skipped.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Success | Self::Skipped)
    }

    /// Ended badly: failed or upstream failed.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::UpstreamFailed)
    }

    /// Holds a slot of its executor and its pool: queued or running.
    #[must_use]
    pub fn occupies_slot(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

names!(
    /// The state of a run.
    RunState, "run state", {
        /// Waits for `max_active_runs`.
        Queued = "queued",
        /// Ended well.
        Success = "success",
        /// Its tasks are being run.
        Running = "running",
        /// Ended badly.
        Failed = "failed",
    }
);

impl RunState {
    /// Ended well or badly.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Success | Self::Failed)
    }
}

names!(
    /// Why a run exists; the prefix of generated run ids.
    RunType, "run type", {
        /// Part of a backfill.
        Backfill = "backfill",
        /// Made by the timetable.
        Scheduled = "scheduled",
        /// Asked for by a person or a client.
        Manual = "manual",
        /// Asked for by a task.
        OperatorTriggered = "operator_triggered",
        /// Caused by asset events.
        AssetTriggered = "asset_triggered",
        /// Made to materialise an asset.
        AssetMaterialization = "asset_materialization",
    }
);

impl RunType {
    /// The type that a run id's prefix claims, `manual` where it claims none.
    #[must_use]
    pub fn from_run_id(run_id: &str) -> Self {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| {
                run_id
                    .strip_prefix(kind.as_str())
                    .is_some_and(|rest| rest.starts_with("__"))
            })
            .unwrap_or(Self::Manual)
    }
}

names!(
    /// Who asked for a run.
    RunTrigger, "run trigger", {
        /// The command line.
        Cli = "cli",
        /// A task.
        Operator = "operator",
        /// The REST API.
        RestApi = "rest_api",
        /// The web UI.
        Ui = "ui",
        /// `dag.test()`.
        Test = "test",
        /// The timetable.
        Timetable = "timetable",
        /// Asset events.
        Asset = "asset",
        /// A backfill.
        Backfill = "backfill",
    }
);

names!(
    /// Which runs that exist already a backfill runs again.
    Reprocess, "reprocess behavior", {
        /// Those that failed.
        Failed = "failed",
        /// All that have ended.
        Completed = "completed",
        /// None.
        None = "none",
    }
);

names!(
    /// When a task may start, given how its upstream tasks ended.
    TriggerRule, "trigger rule", {
        /// All succeeded.
        AllSuccess = "all_success",
        /// All failed.
        AllFailed = "all_failed",
        /// All ended, however.
        AllDone = "all_done",
        /// All ended and at least one succeeded.
        AllDoneMinOneSuccess = "all_done_min_one_success",
        /// The set-ups succeeded and all ended: the rule of teardown tasks.
        AllDoneSetupSuccess = "all_done_setup_success",
        /// One succeeded; does not wait for the others.
        OneSuccess = "one_success",
        /// One failed; does not wait for the others.
        OneFailed = "one_failed",
        /// One ended with success or failure.
        OneDone = "one_done",
        /// None failed.
        NoneFailed = "none_failed",
        /// None was skipped.
        NoneSkipped = "none_skipped",
        /// At once.
        Always = "always",
        /// None failed and at least one succeeded.
        NoneFailedMinOneSuccess = "none_failed_min_one_success",
        /// All were skipped.
        AllSkipped = "all_skipped",
    }
);

names!(
    /// How `priority_weight` adds up along the graph.
    WeightRule, "weight rule", {
        /// Own weight plus all downstream.
        Downstream = "downstream",
        /// Own weight plus all upstream.
        Upstream = "upstream",
        /// Own weight.
        Absolute = "absolute",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_itself() {
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
        }
        assert!("done".parse::<TaskState>().is_err());
    }

    #[test]
    fn a_run_id_tells_its_type() {
        assert_eq!(
            RunType::from_run_id("scheduled__2026-01-01T00:00:00+00:00"),
            RunType::Scheduled
        );
        assert_eq!(RunType::from_run_id("scheduled_x"), RunType::Manual);
        assert_eq!(RunType::from_run_id("mine"), RunType::Manual);
    }
}
