//! Stepping from one scheduled moment to the next: by cron in a zone, or by a delta.

use isobar_model::dag::{Delta, RelativeDelta, Zone};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Answer, TimetableError, delta, describe};
use crate::cron::Cron;

/// How scheduled moments follow each other.
#[derive(Clone, Debug)]
pub(super) enum Steps {
    /// By a cron expression.
    Cron(CronSteps),
    /// By a step from wherever one stands.
    Delta(Delta),
}

/// A cron expression in its zone.
#[derive(Clone, Debug)]
pub(super) struct CronSteps {
    cron: Cron,
    zone: TimeZone,
}

impl Steps {
    pub(super) fn delta(step: &Delta) -> Answer<Self> {
        // The month in which a calendar step is tried out is no matter: one that goes back goes back from any.
        let probe = Timestamp::UNIX_EPOCH;
        if delta::add(probe, step)? <= probe {
            return Err(TimetableError::NotForward(describe::delta(step)));
        }
        Ok(Self::Delta(step.clone()))
    }

    /// The first moment after `at`.
    pub(super) fn next(&self, at: Timestamp) -> Answer<Timestamp> {
        match self {
            Self::Cron(cron) => cron.next(at),
            Self::Delta(step) => delta::add(at, step),
        }
    }

    /// The last moment before `at`.
    pub(super) fn prev(&self, at: Timestamp) -> Answer<Timestamp> {
        match self {
            Self::Cron(cron) => cron.prev(at),
            Self::Delta(step) => delta::subtract(at, step),
        }
    }

    /// `at` if it is a moment, else the next one. Every instant is a moment of a delta.
    pub(super) fn at_or_next(&self, at: Timestamp) -> Answer<Timestamp> {
        match self {
            Self::Delta(_) => Ok(at),
            Self::Cron(cron) => {
                let next = cron.next(at)?;
                Ok(if cron.prev(next)? == at { at } else { next })
            }
        }
    }

    /// `at` if it is a moment, else the one before. Every instant is a moment of a delta.
    pub(super) fn at_or_prev(&self, at: Timestamp) -> Answer<Timestamp> {
        match self {
            Self::Delta(_) => Ok(at),
            Self::Cron(cron) => {
                let prev = cron.prev(at)?;
                Ok(if cron.next(prev)? == at { at } else { prev })
            }
        }
    }
}

impl CronSteps {
    pub(super) fn new(cron: Cron, zone: &Zone) -> Self {
        Self {
            cron,
            zone: zone.rules().clone(),
        }
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    pub(super) fn next(&self, at: Timestamp) -> Answer<Timestamp> {
        let here = self.zone.to_datetime(at);
        let there = self.cron.next_after(here).ok_or_else(|| self.never())?;
        if self.cron.covers_every_hour() {
            return at
                .checked_add(here.duration_until(there))
                .map_err(|_| TimetableError::OutOfRange);
        }
        self.instant(there)
    }

    pub(super) fn prev(&self, at: Timestamp) -> Answer<Timestamp> {
        let here = self.zone.to_datetime(at);
        let there = self.cron.prev_before(here).ok_or_else(|| self.never())?;
        if self.cron.covers_every_hour() {
            return at
                .checked_sub(there.duration_until(here))
                .map_err(|_| TimetableError::OutOfRange);
        }
        self.instant(there)
    }

    /// The instant of a wall-clock time: the second of two alike, and as much later as the clocks were put forward.
    pub(super) fn instant(&self, there: jiff::civil::DateTime) -> Answer<Timestamp> {
        self.zone
            .to_ambiguous_timestamp(there)
            .later()
            .map_err(|_| TimetableError::OutOfRange)
    }

    fn never(&self) -> TimetableError {
        TimetableError::NeverFires(self.cron.expression().to_owned())
    }
}

/// How many steps are taken at most: monthly steps since the year 1 are fewer. A step such as "a month on and 31 days back" would take for ever.
const MOST_STEPS: u32 = 50_000;

/// The last boundary at or before `at` of intervals of one length.
///
/// Fixed lengths count from 1970; months and years count from `anchor`, one step at a time, since the 31st of a month depends on
/// the way one came.
pub(super) fn boundary_before(steps: &Steps, step: &Delta, at: Timestamp, anchor: Timestamp) -> Answer<Timestamp> {
    let length = match step {
        Delta::Calendar(calendar) if has_months(calendar) => {
            let mut boundary = anchor;
            for _ in 0..MOST_STEPS {
                let next = steps.next(boundary)?;
                if next > at {
                    return Ok(boundary);
                }
                if next <= boundary {
                    break;
                }
                boundary = next;
            }
            return Err(TimetableError::NotForward(describe::delta(step)));
        }
        Delta::Calendar(calendar) => SignedDuration::from_secs(delta::fixed_seconds(calendar)),
        Delta::Exact(length) => *length,
    };
    let (length, micros) = (length.as_micros(), i128::from(at.as_microsecond()));
    if length <= 0 {
        return Err(TimetableError::NotForward(describe::delta(step)));
    }
    i64::try_from(micros - micros.rem_euclid(length))
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .ok_or(TimetableError::OutOfRange)
}

fn has_months(step: &RelativeDelta) -> bool {
    step.months != 0 || step.years != 0
}
