//! Timetables of moments: a run is due at each, and its data interval, if it has one, ends there.

use isobar_model::dag::{CronPartition, CronTrigger, Delta, MultipleCronTrigger, RunImmediately};
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::{SignedDuration, Timestamp};

use super::steps::{CronSteps, Steps};
use super::{Answer, DataInterval, TimetableError, delta, over};
use crate::cron::Cron;
use crate::dagplan::{NextRun, Restriction};

/// At least this much after a moment it still counts as just past, where the Dag has no start date.
const JUST_PAST: SignedDuration = SignedDuration::from_mins(5);

/// One rule of moments.
#[derive(Clone, Debug)]
pub(super) struct TriggerRule {
    steps: Steps,
    interval: Delta,
    immediately: RunImmediately,
}

impl TriggerRule {
    pub(super) fn cron(model: &CronTrigger) -> Answer<Self> {
        Ok(Self {
            steps: Steps::Cron(CronSteps::new(Cron::parse(&model.expression)?, &model.timezone)),
            interval: model.interval.clone(),
            immediately: model.run_immediately,
        })
    }

    pub(super) fn crons(model: &MultipleCronTrigger) -> Answer<Vec<Self>> {
        let one = |expression: &String| {
            Ok(Self {
                steps: Steps::Cron(CronSteps::new(Cron::parse(expression)?, &model.timezone)),
                interval: model.interval.clone(),
                immediately: model.run_immediately,
            })
        };
        model.expressions.iter().map(one).collect()
    }

    pub(super) fn delta(step: &Delta, interval: &Delta) -> Answer<Self> {
        Ok(Self {
            steps: Steps::delta(step)?,
            interval: interval.clone(),
            immediately: RunImmediately::Always,
        })
    }

    pub(super) fn next(
        &self,
        covered: Option<DataInterval>,
        within: &Restriction,
        now: Timestamp,
    ) -> Answer<Option<NextRun>> {
        let due = self.next_moment(covered.map(|(_, end)| end), within, now)?;
        due.map(|due| Ok(over((delta::subtract(due, &self.interval)?, due))))
            .transpose()
    }

    pub(super) fn manual_interval(&self, at: Timestamp) -> Answer<DataInterval> {
        Ok((delta::subtract(at, &self.interval)?, at))
    }

    /// The moment after the last one used.
    fn next_moment(&self, last: Option<Timestamp>, within: &Restriction, now: Timestamp) -> Answer<Option<Timestamp>> {
        let after_last = match (last, within.earliest) {
            (Some(last), _) => Some(self.steps.next(last)?),
            (None, None) => Some(self.first(now)?),
            (None, Some(_)) => None,
        };
        let moment = if within.catchup {
            match (after_last, within.earliest) {
                (Some(next), _) => next,
                (None, earliest) => self.steps.at_or_next(earliest.unwrap_or(now))?,
            }
        } else {
            let from_start = within
                .earliest
                .map(|earliest| self.steps.at_or_next(earliest))
                .transpose()?;
            self.steps
                .at_or_prev(now)?
                .max(after_last.unwrap_or(Timestamp::MIN))
                .max(from_start.unwrap_or(Timestamp::MIN))
        };
        Ok(Some(moment).filter(|moment| within.latest.is_none_or(|latest| *moment <= latest)))
    }

    /// The first moment of a Dag without a start date: the one just past, or the next.
    fn first(&self, now: Timestamp) -> Answer<Timestamp> {
        let past = self.steps.at_or_prev(now)?;
        if matches!(self.steps, Steps::Delta(_)) {
            return Ok(past);
        }
        let next = self.steps.at_or_next(now)?;
        let still = match self.immediately {
            RunImmediately::Always => return Ok(past),
            RunImmediately::Within(still) => still,
            RunImmediately::IfRecent => (past.duration_until(next) / 10).max(JUST_PAST),
        };
        Ok(if past.duration_until(now) <= still { past } else { next })
    }
}

/// The run that the first of several rules wants: with catchup the earliest; without, the latest that is due or else the next.
pub(super) fn first_of(
    rules: &[TriggerRule],
    covered: Option<DataInterval>,
    within: &Restriction,
    now: Timestamp,
) -> Answer<Option<NextRun>> {
    let mut best: Option<NextRun> = None;
    let rank = |run: &NextRun| {
        let logical = run
            .logical_date()
            .map_or(i128::MAX, |at| i128::from(at.as_microsecond()));
        let due = logical <= i128::from(now.as_microsecond());
        if within.catchup || !due { logical } else { -logical }
    };
    for rule in rules {
        if let Some(run) = rule.next(covered, within, now)?
            && best.as_ref().is_none_or(|best| rank(&run) < rank(best))
        {
            best = Some(run);
        }
    }
    Ok(best)
}

/// All rules share one interval; should they ever not, the one that starts first.
pub(super) fn widest_manual_interval(rules: &[TriggerRule], at: Timestamp) -> Answer<DataInterval> {
    let mut widest = (at, at);
    for rule in rules {
        widest = widest.min(rule.manual_interval(at)?);
    }
    Ok(widest)
}

/// The farthest that a partition may lie from its run, in steps.
const MOST_STEPS: u32 = 10_000;

/// Moments that each name a partition.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    rule: TriggerRule,
    cron: CronSteps,
    offset: i32,
    key_format: String,
}

impl Partition {
    pub(super) fn new(model: &CronPartition) -> Answer<Self> {
        let cron = CronSteps::new(Cron::parse(&model.expression)?, &model.timezone);
        Ok(Self {
            rule: TriggerRule {
                steps: Steps::Cron(cron.clone()),
                interval: Delta::ZERO,
                immediately: model.run_immediately,
            },
            cron,
            offset: model.run_offset,
            key_format: model.key_format.clone(),
        })
    }

    pub(super) fn next(
        &self,
        last: Option<Timestamp>,
        within: &Restriction,
        now: Timestamp,
    ) -> Answer<Option<NextRun>> {
        let Some(due) = self.rule.next_moment(last, within, now)? else {
            return Ok(None);
        };
        if self.offset.unsigned_abs() > MOST_STEPS {
            return Err(TimetableError::OutOfRange);
        }
        let mut date = due;
        for _ in 0..self.offset.unsigned_abs() {
            date = if self.offset > 0 {
                self.cron.next(date)?
            } else {
                self.cron.prev(date)?
            };
        }
        Ok(Some(NextRun {
            run_after: due,
            data_interval: None,
            partition_key: Some(self.key_of(date)?),
            partition_date: Some(date),
        }))
    }

    fn key_of(&self, date: Timestamp) -> Answer<String> {
        let shown = date.to_zoned(self.cron.zone().clone());
        strtime::format(&self.key_format, &shown).map_err(|_| TimetableError::OutOfRange)
    }

    /// The date that a key names in the timetable's zone.
    pub(super) fn date_of(&self, key: &str) -> Answer<Timestamp> {
        let there = strtime::parse(&self.key_format, key)
            .ok()
            .and_then(|parsed| {
                let date = parsed.to_date().ok()?;
                let time = parsed.to_time().unwrap_or(jiff::civil::Time::midnight());
                Some(date.to_datetime(time))
            })
            .ok_or_else(|| TimetableError::BadPartitionKey {
                key: key.to_owned(),
                format: self.key_format.clone(),
            })?;
        self.cron.instant(there)
    }

    /// The instant of a wall-clock time in the timetable's zone.
    pub(super) fn localized(&self, wall: DateTime) -> Answer<Timestamp> {
        self.cron.instant(wall)
    }

    /// The partition at this date or the first after it, as a backfill makes its run: due at the partition's own date.
    pub(super) fn at_or_after(&self, date: Timestamp) -> Answer<NextRun> {
        self.run_of(self.rule.steps.at_or_next(date)?)
    }

    /// The partition after this date.
    pub(super) fn after(&self, date: Timestamp) -> Answer<NextRun> {
        self.run_of(self.cron.next(date)?)
    }

    fn run_of(&self, date: Timestamp) -> Answer<NextRun> {
        Ok(NextRun {
            run_after: date,
            data_interval: None,
            partition_key: Some(self.key_of(date)?),
            partition_date: Some(date),
        })
    }
}
