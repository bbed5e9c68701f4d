//! Names of runs.

use isobar_model::RunType;
use jiff::Timestamp;

use super::{Rule, Timetable};
use crate::dagplan::suffix_of;

/// The id of a run that no timetable names: caused by assets, or part of a backfill.
///
/// `random` is eight letters and digits; it keeps apart runs without a logical date that become due at the same instant.
#[must_use]
pub fn run_id(kind: RunType, logical_date: Option<Timestamp>, run_after: Timestamp, random: &str) -> String {
    match logical_date {
        Some(_) => format!("{kind}__{}", suffix_of(run_after)),
        None => format!("{kind}__{}_{random}", suffix_of(run_after)),
    }
}

impl Timetable {
    /// The id of a run by this timetable's rule: `scheduled__2026-01-01T00:00:00+00:00`, `manual__…`. Timetables of partitions add the
    /// key and `random` (eight letters and digits). A custom timetable may override this in Python; ask the helper then.
    #[must_use]
    pub fn run_id(&self, kind: RunType, run_after: Timestamp, partition_key: Option<&str>, random: &str) -> String {
        let mut id = format!("{kind}__{}", suffix_of(run_after));
        if matches!(self.rule, Rule::Partition(_)) && kind != RunType::AssetTriggered {
            if let Some(key) = partition_key.filter(|key| !key.is_empty()) {
                id.push_str("__");
                id.push_str(key);
            }
            id.push_str("__");
            id.push_str(random);
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_as_airflow_writes_them() {
        let at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let fraction: Timestamp = "2026-01-02T03:04:05.25Z".parse().unwrap();
        let id = |logical, at| run_id(RunType::AssetTriggered, logical, at, "AbCd1234");
        assert_eq!(id(None, at), "asset_triggered__2026-01-02T03:04:05+00:00_AbCd1234");
        assert_eq!(
            id(Some(at), fraction),
            "asset_triggered__2026-01-02T03:04:05.250000+00:00"
        );
        let never = Timetable::from_model(&isobar_model::dag::Timetable::Null).unwrap();
        assert_eq!(
            never.run_id(RunType::Manual, at, None, "x"),
            "manual__2026-01-02T03:04:05+00:00"
        );
    }
}
