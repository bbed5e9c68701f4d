//! The partition of a run that somebody asks for.

use isobar_engine::partition::PartitionedAssets;
use isobar_model::dag::{SerializedDag, Timetable};
use jiff::Timestamp;

/// Longest partition key, as Airflow's column.
const LONGEST: usize = 250;

/// The date of a partition of assets, none where it is no date.
///
/// # Errors
/// In Airflow's words, where the Dag has no partitions or none of this key.
pub(super) fn date(dag: &SerializedDag, written: &str, key: Option<&str>) -> Result<Option<Timestamp>, String> {
    let Some(key) = key else { return Ok(None) };
    if !dag.timetable.takes_partition_keys() {
        return Err(format!(
            "Dag '{written}' is not a partitioned Dag and does not accept a partition_key."
        ));
    }
    if key.trim().is_empty() {
        return Err("partition_key must not be empty or whitespace-only.".to_owned());
    }
    let length = key.chars().count();
    if length > LONGEST {
        return Err(format!(
            "partition_key must be at most {LONGEST} characters; got {length}."
        ));
    }
    match &dag.timetable {
        Timetable::PartitionedAsset(model) => {
            let assets = PartitionedAssets::from_model(model).map_err(|error| error.to_string())?;
            assets
                .date_of_key(key)
                .map_err(|error| format!("Partition key '{key}' is invalid for this timetable's mappers: {error}"))
        }
        // Others say it themselves.
        _ => Ok(None),
    }
}
