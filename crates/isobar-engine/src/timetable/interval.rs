//! Timetables of data intervals: they follow each other without gaps, and a run is due when its interval is over.

use isobar_model::dag::Delta;
use jiff::Timestamp;

use super::steps::{Steps, boundary_before};
use super::{Answer, DataInterval, TimetableError, over};
use crate::dagplan::{NextRun, Restriction};

/// Intervals between the moments of `steps`.
#[derive(Clone, Debug)]
pub(super) struct IntervalRule {
    steps: Steps,
}

impl IntervalRule {
    pub(super) fn new(steps: Steps) -> Self {
        Self { steps }
    }

    pub(super) fn next(
        &self,
        covered: Option<DataInterval>,
        within: &Restriction,
        now: Timestamp,
    ) -> Answer<Option<NextRun>> {
        let earliest = match within.earliest {
            earliest if !within.catchup => Some(self.skip_to_latest(earliest, now)?),
            Some(earliest) => Some(self.steps.at_or_next(earliest)?),
            None => None,
        };
        let start = match (covered, earliest) {
            (None, None) => return Ok(None),
            (None, Some(earliest)) => earliest,
            (Some(covered), earliest) => self.after(covered, earliest)?,
        };
        if within.latest.is_some_and(|latest| start > latest) {
            return Ok(None);
        }
        Ok(Some(over((start, self.steps.next(start)?))))
    }

    /// The start after an interval already covered, aligned anew in case the schedule has changed since.
    fn after(&self, covered: DataInterval, earliest: Option<Timestamp>) -> Answer<Timestamp> {
        let aligned = self.steps.at_or_prev(covered.1)?;
        let start = earliest.map_or(aligned, |earliest| earliest.max(aligned));
        if start > covered.0 {
            return Ok(start);
        }
        let next = self.steps.next(start)?;
        if next <= covered.0 {
            return Err(TimetableError::NotForward("the schedule".to_owned()));
        }
        Ok(next)
    }

    /// Without catchup: the start of the interval that has just ended, or the Dag's start if that is later.
    fn skip_to_latest(&self, earliest: Option<Timestamp>, now: Timestamp) -> Answer<Timestamp> {
        let start = match &self.steps {
            Steps::Cron(cron) => {
                let last_start = cron.prev(now)?;
                if cron.next(last_start)? == now {
                    last_start
                } else {
                    cron.prev(last_start)?
                }
            }
            Steps::Delta(step) => self.latest_ended(step, earliest, now)?,
        };
        match (earliest, &self.steps) {
            (None, _) => Ok(start),
            (Some(earliest), Steps::Cron(_)) => Ok(start.max(self.steps.at_or_next(earliest)?)),
            (Some(earliest), Steps::Delta(_)) => Ok(start.max(earliest)),
        }
    }

    fn latest_ended(&self, step: &Delta, earliest: Option<Timestamp>, now: Timestamp) -> Answer<Timestamp> {
        let boundary = boundary_before(&self.steps, step, now, earliest.unwrap_or(now))?;
        self.steps.prev(boundary)
    }

    pub(super) fn manual_interval(&self, at: Timestamp) -> Answer<DataInterval> {
        let end = self.steps.at_or_prev(at)?;
        Ok((self.steps.prev(end)?, end))
    }
}
