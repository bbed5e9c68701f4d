//! The runs that a timetable has between two dates: what a backfill makes, and what marking past and future runs reaches.

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::{Answer, Rule, Timetable, TimetableError};
use crate::dagplan::{Next, NextRun, Restriction};

/// The most runs that are listed.
pub const MOST_RUNS: usize = 20_000;

/// One end of a span of dates, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The instant.
    pub at: Timestamp,
    /// The reading of the clock as written, in whatever zone: timetables of partitions take it as one of their own zone.
    pub wall: DateTime,
}

impl Bound {
    /// An instant as UTC writes it.
    #[must_use]
    pub fn utc(at: Timestamp) -> Self {
        Self {
            at,
            wall: jiff::tz::TimeZone::UTC.to_datetime(at),
        }
    }

    /// As it was written: the reading of the clock, and how far that is from UTC.
    #[must_use]
    pub fn written(self) -> String {
        let utc = jiff::tz::TimeZone::UTC.to_datetime(self.at);
        let ahead = utc.duration_until(self.wall).as_secs() / 60;
        let sign = if ahead < 0 { '-' } else { '+' };
        let (hours, minutes) = (ahead.abs() / 60, ahead.abs() % 60);
        format!(
            "{}{sign}{hours:02}:{minutes:02}",
            self.wall.strftime("%Y-%m-%dT%H:%M:%S.%6f")
        )
    }
}

impl Timetable {
    /// The instant that a bound of partition dates means: a reading of the clock in the timetable's own zone.
    #[must_use]
    pub fn partition_moment(&self, bound: Bound) -> Timestamp {
        match &self.rule {
            Rule::Partition(partition) => partition.localized(bound.wall).unwrap_or(bound.at),
            _ => bound.at,
        }
    }

    /// The runs with a logical date between two dates, or with a partition of a date between them, both included, as if the
    /// Dag caught up. Runs whose data interval ends at `before` or later are left out.
    ///
    /// # Errors
    /// A custom timetable must be asked by its team's helper; there are too many runs. Where the timetable cannot go on, the
    /// list ends.
    pub fn runs_between(&self, from: Bound, to: Bound, before: Timestamp) -> Answer<Vec<NextRun>> {
        match &self.rule {
            Rule::Python { path, .. } => Err(TimetableError::NeedsPython { path: path.clone() }),
            Rule::Partition(partition) => {
                let last = partition.localized(to.wall)?;
                let first = partition.localized(from.wall)?;
                let mut next = partition.at_or_after(first);
                collect(move || {
                    let run = next.clone().ok().filter(|run| run.run_after <= last)?;
                    next = partition.after(run.run_after);
                    Some(run)
                })
            }
            _ => {
                let within = Restriction {
                    earliest: Some(from.at),
                    latest: Some(to.at),
                    catchup: true,
                };
                let mut last: Option<NextRun> = None;
                collect(move || {
                    let Ok(Next::At(run)) = self.next_run(last.as_ref(), &within, before) else {
                        return None;
                    };
                    last = Some(run.clone());
                    run.data_interval.is_some_and(|(_, end)| end < before).then_some(run)
                })
            }
        }
    }
}

fn collect(mut next: impl FnMut() -> Option<NextRun>) -> Answer<Vec<NextRun>> {
    let mut runs = Vec::new();
    while let Some(run) = next() {
        if runs.len() >= MOST_RUNS {
            return Err(TimetableError::TooManyRuns(MOST_RUNS));
        }
        runs.push(run);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_model::dag::{self, CronPartition, RunImmediately, Zone};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn partitions(run_offset: i32) -> Timetable {
        Timetable::from_model(&dag::Timetable::CronPartition(CronPartition {
            expression: "0 0 * * *".to_owned(),
            timezone: Zone::named("Asia/Taipei").unwrap(),
            run_immediately: RunImmediately::IfRecent,
            run_offset,
            key_format: "%Y-%m-%d".to_owned(),
        }))
        .unwrap()
    }

    #[test]
    fn partitions_are_counted_in_the_zone_of_their_timetable() {
        let (from, to) = (
            Bound::utc(at("2026-01-01T00:00:00Z")),
            Bound::utc(at("2026-01-03T00:00:00Z")),
        );
        let runs = partitions(-1)
            .runs_between(from, to, at("2020-01-01T00:00:00Z"))
            .unwrap();
        let keys: Vec<&str> = runs.iter().filter_map(|run| run.partition_key.as_deref()).collect();
        assert_eq!(keys, ["2026-01-01", "2026-01-02", "2026-01-03"]);
        assert_eq!(runs[0].run_after, at("2025-12-31T16:00:00Z"));
        assert_eq!(runs[0].partition_date, Some(runs[0].run_after));
    }

    #[test]
    fn a_bound_is_written_as_it_was_read() {
        let west = Bound {
            at: at("2026-01-02T03:00:00.5Z"),
            wall: "2026-01-01T23:30:00.5".parse().unwrap(),
        };
        assert_eq!(west.written(), "2026-01-01T23:30:00.500000-03:30");
        assert_eq!(
            Bound::utc(at("2026-01-02T03:00:00Z")).written(),
            "2026-01-02T03:00:00.000000+00:00"
        );
    }

    #[test]
    fn runs_without_end_are_refused() {
        let (from, to) = (
            Bound::utc(at("1900-01-01T00:00:00Z")),
            Bound::utc(at("2026-01-03T00:00:00Z")),
        );
        let runs = partitions(0).runs_between(from, to, at("2020-01-01T00:00:00Z"));
        assert_eq!(runs, Err(TimetableError::TooManyRuns(MOST_RUNS)));
    }
}
