//! What a timetable of the team's plugins says of itself.
//!
//! Airflow's server loads the class and looks. Here the team's dag-processor looks (`isobar_agent/timetables.py`) and writes it
//! beside the timetable as `__says`.

use serde_json::Value;

use super::asset::AssetExpr;
use super::error::Read;
use super::read::{Object, boolean, object, optional, or, string};
use super::timetable::PartitionedAsset;

/// What a custom timetable says of itself. Where it was not asked yet, what Airflow's base class says.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomFacts {
    /// A few words for people.
    pub summary: Option<String>,
    /// More words for people.
    pub description: String,
    /// Runs recur by the clock.
    pub periodic: bool,
    /// Anything but a request can cause a run.
    pub can_be_scheduled: bool,
    /// Runs are known by partition keys.
    pub partitioned: bool,
    /// Tasks choose the partition.
    pub partitioned_at_runtime: bool,
    /// Changes of its assets make runs: it is a kind of `AssetTriggeredTimetable`.
    pub asset_triggered: bool,
    /// The assets it depends on.
    pub condition: Option<AssetExpr>,
    /// How partitions of those become partitions of the Dag.
    pub partitions: Option<PartitionedAsset>,
}

impl Default for CustomFacts {
    fn default() -> Self {
        Self {
            summary: None,
            description: String::new(),
            periodic: true,
            can_be_scheduled: true,
            partitioned: false,
            partitioned_at_runtime: false,
            asset_triggered: false,
            condition: None,
            partitions: None,
        }
    }
}

impl CustomFacts {
    pub(super) fn read(value: &Value) -> Read<Self> {
        let fields: &Object = object(value)?;
        let default = Self::default();
        let flag = |key: &'static str, default: bool| or(fields, key, default, boolean);
        let condition = optional(fields, "asset_condition", AssetExpr::read)?;
        let partitioned = flag("partitioned", default.partitioned)?;
        Ok(Self {
            summary: optional(fields, "summary", string)?,
            description: or(fields, "description", default.description, string)?,
            periodic: flag("periodic", default.periodic)?,
            can_be_scheduled: flag("can_be_scheduled", default.can_be_scheduled)?,
            partitioned,
            partitioned_at_runtime: flag("partitioned_at_runtime", default.partitioned_at_runtime)?,
            asset_triggered: flag("asset_triggered", default.asset_triggered)?,
            partitions: match &condition {
                Some(_) if partitioned => Some(PartitionedAsset::read(fields)?),
                _ => None,
            },
            condition,
        })
    }
}
