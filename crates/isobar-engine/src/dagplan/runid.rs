//! Ids of new runs, as Airflow forms them.

use isobar_model::{RunId, RunType};
use jiff::Timestamp;

/// `<type>__<time>`.
#[must_use]
pub fn run_id(run_type: RunType, run_after: Timestamp) -> RunId {
    RunId::from(format!("{run_type}__{}", suffix_of(run_after)))
}

/// A time as run ids write it: `2026-01-01T00:00:00+00:00`, with six digits of fraction where there is one.
#[must_use]
pub fn suffix_of(at: Timestamp) -> String {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    if at.subsec_nanosecond() / 1000 == 0 {
        at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
    } else {
        at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
    }
}
