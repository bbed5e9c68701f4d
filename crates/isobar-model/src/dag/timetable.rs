//! The schedule of a Dag as serialized: what it is, not when it fires (that is `isobar-engine`'s `timetable`).

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::asset::AssetExpr;
use super::custom_timetable::CustomFacts;
use super::encoding::{Delta, Zone};
use super::error::{DagError, Problem, Read};
use super::read::{
    Object, boolean, each, kind, object, optional, or, out_of_range, required, seconds, small, string, strings, text,
};

/// A Dag's timetable.
#[derive(Clone, Debug, PartialEq)]
pub enum Timetable {
    /// `schedule=None`.
    Null,
    /// `@once`.
    Once,
    /// `@continuous`.
    Continuous,
    /// Moments given by a cron expression; what Airflow 3 makes of a cron string.
    CronTrigger(CronTrigger),
    /// Moments given by several cron expressions.
    MultipleCronTrigger(MultipleCronTrigger),
    /// Moments a fixed step apart; what Airflow 3 makes of a `timedelta`.
    DeltaTrigger {
        /// The step.
        delta: Delta,
        /// The length of each run's data interval.
        interval: Delta,
    },
    /// Data intervals between the moments of a cron expression.
    CronDataInterval {
        /// The cron expression or preset.
        expression: String,
        /// In which zone it is meant.
        timezone: Zone,
    },
    /// Data intervals of a fixed length.
    DeltaDataInterval {
        /// The length.
        delta: Delta,
    },
    /// A list of moments.
    Events(Events),
    /// When assets change.
    AssetTriggered {
        /// Which.
        condition: AssetExpr,
    },
    /// When assets change, or when another timetable says so.
    AssetOrTime {
        /// Which assets.
        condition: AssetExpr,
        /// The other timetable.
        timetable: Box<Timetable>,
    },
    /// Moments given by a cron expression, each of which names a partition.
    CronPartition(CronPartition),
    /// Never by itself; tasks choose the partition.
    PartitionedAtRuntime,
    /// When partitions of assets change.
    PartitionedAsset(PartitionedAsset),
    /// A class of the team's plugins; only the team's helper can evaluate it.
    Custom {
        /// Its import path.
        path: String,
        /// What its `serialize()` returned.
        var: Value,
        /// What it says of itself.
        says: Box<CustomFacts>,
    },
}

/// `CronTriggerTimetable`.
#[derive(Clone, Debug, PartialEq)]
pub struct CronTrigger {
    /// The cron expression or preset.
    pub expression: String,
    /// In which zone it is meant.
    pub timezone: Zone,
    /// The length of each run's data interval, which ends at the moment.
    pub interval: Delta,
    /// What to do with a moment just past when there is no start date.
    pub run_immediately: RunImmediately,
}

/// `MultipleCronTriggerTimetable`.
#[derive(Clone, Debug, PartialEq)]
pub struct MultipleCronTrigger {
    /// The cron expressions or presets, at least one.
    pub expressions: Vec<String>,
    /// In which zone they are meant.
    pub timezone: Zone,
    /// The length of each run's data interval, which ends at the moment.
    pub interval: Delta,
    /// What to do with a moment just past when there is no start date.
    pub run_immediately: RunImmediately,
}

/// `CronPartitionTimetable`.
#[derive(Clone, Debug, PartialEq)]
pub struct CronPartition {
    /// The cron expression or preset.
    pub expression: String,
    /// In which zone it is meant.
    pub timezone: Zone,
    /// What to do with a moment just past when there is no start date.
    pub run_immediately: RunImmediately,
    /// How many cron steps the partition lies after the run (negative: before).
    pub run_offset: i32,
    /// `strftime` format of the partition key.
    pub key_format: String,
}

/// `PartitionedAssetTimetable`. Mappers stay as serialized: built-in ones are the engine's, others the helper's.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionedAsset {
    /// Which assets.
    pub condition: AssetExpr,
    /// The mapper of assets without one of their own.
    pub default_mapper: Value,
    /// Mappers of single assets.
    pub mappers: Vec<(AssetExpr, Value)>,
}

/// `EventsTimetable`.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// The moments in the order the Dag processor sorted them.
    pub dates: Vec<Timestamp>,
    /// Whether a manual run takes the most recent of them instead of its own moment.
    pub restrict_to_events: bool,
    /// The description for people.
    pub description: String,
    /// The short description.
    pub summary: String,
}

/// Whether the most recent moment counts for a Dag without a start date that was never run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunImmediately {
    /// It always does.
    Always,
    /// It does within a tenth of the gap to the next, but at least five minutes (`False` means this in Airflow 3.3).
    IfRecent,
    /// It does if no longer ago than this.
    Within(SignedDuration),
}

impl RunImmediately {
    fn read(value: &Value) -> Read<Self> {
        match value {
            Value::Bool(true) => Ok(Self::Always),
            Value::Bool(false) | Value::Null => Ok(Self::IfRecent),
            number => seconds(number).map(Self::Within),
        }
    }
}

impl Timetable {
    /// The class name, or the import path of a custom one: `timetable_type` in the REST API.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "NullTimetable",
            Self::Once => "OnceTimetable",
            Self::Continuous => "ContinuousTimetable",
            Self::CronTrigger(_) => "CronTriggerTimetable",
            Self::MultipleCronTrigger(_) => "MultipleCronTriggerTimetable",
            Self::DeltaTrigger { .. } => "DeltaTriggerTimetable",
            Self::CronDataInterval { .. } => "CronDataIntervalTimetable",
            Self::DeltaDataInterval { .. } => "DeltaDataIntervalTimetable",
            Self::Events(_) => "EventsTimetable",
            Self::AssetTriggered { .. } => "AssetTriggeredTimetable",
            Self::AssetOrTime { .. } => "AssetOrTimeSchedule",
            Self::CronPartition(_) => "CronPartitionTimetable",
            Self::PartitionedAtRuntime => "PartitionedAtRuntime",
            Self::PartitionedAsset(_) => "PartitionedAssetTimetable",
            Self::Custom { path, .. } => path,
        }
    }

    /// The asset condition, if assets can cause runs.
    #[must_use]
    pub fn asset_condition(&self) -> Option<&AssetExpr> {
        match self {
            Self::AssetTriggered { condition } | Self::AssetOrTime { condition, .. } => Some(condition),
            Self::PartitionedAsset(partitioned) => Some(&partitioned.condition),
            Self::Custom { says, .. } => says.condition.as_ref(),
            _ => None,
        }
    }

    /// The asset condition that makes runs when it is met, partitions aside. A custom timetable may name assets and yet not be
    /// one that Airflow lets them trigger.
    #[must_use]
    pub fn triggering_condition(&self) -> Option<&AssetExpr> {
        match self {
            Self::AssetTriggered { condition } | Self::AssetOrTime { condition, .. } => Some(condition),
            Self::Custom { says, .. } if says.asset_triggered && !says.partitioned => says.condition.as_ref(),
            _ => None,
        }
    }

    /// How partitions of assets become partitions of the Dag, where it listens to them.
    #[must_use]
    pub fn partitions(&self) -> Option<&PartitionedAsset> {
        match self {
            Self::PartitionedAsset(partitioned) => Some(partitioned),
            Self::Custom { says, .. } => says.partitions.as_ref(),
            _ => None,
        }
    }

    /// Whether runs recur by the clock; `timetable_periodic` in the REST API.
    #[must_use]
    pub fn is_periodic(&self) -> bool {
        match self {
            Self::AssetOrTime { timetable, .. } => timetable.is_periodic(),
            Self::Custom { says, .. } => says.periodic,
            Self::Null
            | Self::Once
            | Self::Continuous
            | Self::AssetTriggered { .. }
            | Self::PartitionedAtRuntime
            | Self::PartitionedAsset(_) => false,
            _ => true,
        }
    }

    /// Whether anything but a request can cause a run.
    #[must_use]
    pub fn can_be_scheduled(&self) -> bool {
        match self {
            Self::AssetOrTime { timetable, .. } => timetable.can_be_scheduled(),
            Self::Custom { says, .. } => says.can_be_scheduled,
            Self::Null | Self::PartitionedAtRuntime => false,
            _ => true,
        }
    }

    /// Whether runs are known by partition keys instead of data intervals.
    #[must_use]
    pub fn is_partitioned(&self) -> bool {
        match self {
            Self::CronPartition(_) | Self::PartitionedAsset(_) => true,
            Self::Custom { says, .. } => says.partitioned,
            _ => false,
        }
    }

    /// Whether runs may be given a partition key.
    #[must_use]
    pub fn takes_partition_keys(&self) -> bool {
        let at_runtime = match self {
            Self::PartitionedAtRuntime => true,
            Self::Custom { says, .. } => says.partitioned_at_runtime,
            _ => false,
        };
        at_runtime || self.is_partitioned()
    }

    /// The most active runs this timetable allows, if it says: `@continuous` allows one.
    #[must_use]
    pub fn active_runs_limit(&self) -> Option<i32> {
        match self {
            Self::Continuous => Some(1),
            Self::AssetOrTime { timetable, .. } => timetable.active_runs_limit(),
            _ => None,
        }
    }

    /// The columns by which the UI orders runs.
    #[must_use]
    pub fn run_ordering(&self) -> &'static [&'static str] {
        match self {
            Self::Null
            | Self::Once
            | Self::Continuous
            | Self::AssetTriggered { .. }
            | Self::AssetOrTime { .. }
            | Self::PartitionedAtRuntime
            | Self::PartitionedAsset(_) => &["logical_date"],
            _ => &["data_interval_end", "logical_date"],
        }
    }

    pub(crate) fn read(value: &Value) -> Read<Self> {
        let map = object(value)?;
        let path = required(map, "__type", text)?;
        let var = map.get("__var").unwrap_or(&Value::Null);
        let Some(class) = path
            .strip_prefix("airflow.timetables.")
            .or_else(|| path.strip_prefix("airflow.sdk.definitions.timetables."))
        else {
            return Ok(Self::Custom {
                path: path.to_owned(),
                var: var.clone(),
                says: Box::new(or(map, "__says", CustomFacts::default(), CustomFacts::read)?),
            });
        };
        let class = class.rsplit('.').next().unwrap_or(class);
        Self::built_in(class, var).map_err(|e| e.under("__var"))
    }

    fn built_in(class: &str, var: &Value) -> Read<Self> {
        let fields = || object(var);
        let condition = |f: &Object| required(f, "asset_condition", AssetExpr::read);
        Ok(match class {
            "NullTimetable" => Self::Null,
            "OnceTimetable" => Self::Once,
            "ContinuousTimetable" => Self::Continuous,
            "PartitionedAtRuntime" => Self::PartitionedAtRuntime,
            "CronTriggerTimetable" => Self::CronTrigger(CronTrigger::read(fields()?)?),
            "MultipleCronTriggerTimetable" => Self::MultipleCronTrigger(MultipleCronTrigger::read(fields()?)?),
            "CronPartitionTimetable" => Self::CronPartition(CronPartition::read(fields()?)?),
            "EventsTimetable" => Self::Events(Events::read(fields()?)?),
            "DeltaTriggerTimetable" => Self::DeltaTrigger {
                delta: required(fields()?, "delta", Delta::read)?,
                interval: or(fields()?, "interval", Delta::ZERO, Delta::read)?,
            },
            "CronDataIntervalTimetable" => Self::CronDataInterval {
                expression: required(fields()?, "expression", string)?,
                timezone: required(fields()?, "timezone", Zone::read)?,
            },
            "DeltaDataIntervalTimetable" => Self::DeltaDataInterval {
                delta: required(fields()?, "delta", Delta::read)?,
            },
            "AssetTriggeredTimetable" => Self::AssetTriggered {
                condition: condition(fields()?)?,
            },
            "AssetOrTimeSchedule" => Self::AssetOrTime {
                condition: condition(fields()?)?,
                timetable: Box::new(required(fields()?, "timetable", Self::read)?),
            },
            "PartitionedAssetTimetable" => Self::PartitionedAsset(PartitionedAsset::read(fields()?)?),
            other => {
                return Err(DagError::here(crate::UnknownName {
                    what: "built-in timetable",
                    word: super::error::excerpt(other),
                }));
            }
        })
    }
}

impl PartitionedAsset {
    pub(super) fn read(fields: &Object) -> Read<Self> {
        Ok(Self {
            condition: required(fields, "asset_condition", AssetExpr::read)?,
            default_mapper: required(fields, "default_partition_mapper", |v| Ok(v.clone()))?,
            mappers: or(fields, "partition_mapper_config", Vec::new(), |v| {
                each(v, |entry| match entry.as_array().map(Vec::as_slice) {
                    Some([asset, mapper]) => Ok((AssetExpr::read(asset)?, mapper.clone())),
                    _ => Err(DagError::here(Problem::WrongType {
                        expected: "a pair of an asset and its mapper",
                        found: kind(entry),
                    })),
                })
            })?,
        })
    }
}

impl CronTrigger {
    fn read(fields: &Object) -> Read<Self> {
        Ok(Self {
            expression: required(fields, "expression", string)?,
            timezone: required(fields, "timezone", Zone::read)?,
            interval: or(fields, "interval", Delta::ZERO, Delta::read)?,
            run_immediately: or(
                fields,
                "run_immediately",
                RunImmediately::IfRecent,
                RunImmediately::read,
            )?,
        })
    }
}

impl MultipleCronTrigger {
    fn read(fields: &Object) -> Read<Self> {
        let expressions = required(fields, "expressions", strings)?;
        if expressions.is_empty() {
            return Err(out_of_range("the number of cron expressions", 0).under("expressions"));
        }
        if expressions.len() > super::MAX_CRONS {
            return Err(DagError::here(Problem::TooMany {
                what: "cron expressions",
                found: expressions.len(),
                limit: super::MAX_CRONS,
            })
            .under("expressions"));
        }
        Ok(Self {
            expressions,
            timezone: required(fields, "timezone", Zone::read)?,
            interval: or(fields, "interval", Delta::ZERO, Delta::read)?,
            run_immediately: or(
                fields,
                "run_immediately",
                RunImmediately::IfRecent,
                RunImmediately::read,
            )?,
        })
    }
}

impl CronPartition {
    fn read(fields: &Object) -> Read<Self> {
        Ok(Self {
            expression: required(fields, "expression", string)?,
            timezone: required(fields, "timezone", Zone::read)?,
            run_immediately: or(
                fields,
                "run_immediately",
                RunImmediately::IfRecent,
                RunImmediately::read,
            )?,
            run_offset: or(fields, "run_offset", 0, small)?,
            key_format: required(fields, "key_format", string)?,
        })
    }
}

/// A date without a zone, which Airflow takes as UTC.
fn naive(written: &str) -> Option<Timestamp> {
    let there: jiff::civil::DateTime = written.parse().ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(there).ok()
}

impl Events {
    fn read(fields: &Object) -> Read<Self> {
        let dates = required(fields, "event_dates", |v| {
            each(v, |date| {
                let written = text(date)?;
                crate::parse_time(written)
                    .or_else(|| naive(written))
                    .ok_or_else(|| out_of_range("a date with a zone", written))
            })
        })?;
        let summary = format!("{} events", dates.len());
        Ok(Self {
            dates,
            restrict_to_events: or(fields, "restrict_to_events", false, boolean)?,
            description: optional(fields, "description", string)?.unwrap_or_default(),
            summary: or(fields, "_summary", summary, string)?,
        })
    }
}
