//! The partition of a run that somebody asks for.

use isobar_engine::partition::{MapperError, PartitionedAssets};
use isobar_engine::timetable::Timetable;
use isobar_model::dag::{self, SerializedDag};
use jiff::Timestamp;

/// Longest partition key, as Airflow's column.
const LONGEST: usize = 250;

/// What is wrong with a partition key, in Airflow's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionKeyError {
    /// The Dag has no partitions.
    #[error("Dag '{0}' is not a partitioned Dag and does not accept a partition_key.")]
    NotPartitioned(String),
    /// None of the Dag's partitions has such a key.
    #[error("{0}")]
    Invalid(String),
}

/// The date of a partition. None where it has none, and where the team's Python is to say it
/// ([`python_timetable`](crate::python_timetable)).
///
/// # Errors
/// The Dag, called `written`, has no partitions or none of this key.
pub fn partition_date(
    dag: &SerializedDag,
    written: &str,
    key: Option<&str>,
) -> Result<Option<Timestamp>, PartitionKeyError> {
    let Some(key) = key else { return Ok(None) };
    if !dag.timetable.takes_partition_keys() {
        return Err(PartitionKeyError::NotPartitioned(written.to_owned()));
    }
    let invalid = |problem: String| Err(PartitionKeyError::Invalid(problem));
    if key.trim().is_empty() {
        return invalid("partition_key must not be empty or whitespace-only.".to_owned());
    }
    let length = key.chars().count();
    if length > LONGEST {
        return invalid(format!(
            "partition_key must be at most {LONGEST} characters; got {length}."
        ));
    }
    let found = match &dag.timetable {
        dag::Timetable::PartitionedAsset(model) => {
            match PartitionedAssets::from_model(model).and_then(|assets| assets.date_of_key(key)) {
                Err(MapperError::NeedsPython { .. }) => return Ok(None),
                found => found
                    .map_err(|error| format!("Partition key '{key}' is invalid for this timetable's mappers: {error}")),
            }
        }
        dag::Timetable::CronPartition(_) => Timetable::from_model(&dag.timetable)
            .and_then(|timetable| timetable.partition_date(key))
            .map_err(|error| error.to_string()),
        _ => Ok(None),
    };
    found.or_else(invalid)
}
