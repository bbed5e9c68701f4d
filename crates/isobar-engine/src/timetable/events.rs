//! The timetables without steps: listed moments, once, and without pause.

use isobar_model::dag;
use jiff::Timestamp;

use super::{DataInterval, over};
use crate::dagplan::{NextRun, Restriction};

/// Listed moments.
#[derive(Clone, Debug)]
pub(super) struct Events {
    /// In the order listed, which the Dag processor sorted.
    dates: Vec<Timestamp>,
    restrict_to_events: bool,
}

impl Events {
    pub(super) fn new(model: &dag::Events) -> Self {
        Self {
            dates: model.dates.clone(),
            restrict_to_events: model.restrict_to_events,
        }
    }

    pub(super) fn next(&self, covered: Option<DataInterval>, within: &Restriction, now: Timestamp) -> Option<NextRun> {
        let earliest = match within.earliest {
            earliest if within.catchup => earliest,
            earliest => Some(earliest.map_or(now, |earliest| earliest.max(now))),
        };
        self.dates
            .iter()
            .find(|date| {
                earliest.is_none_or(|earliest| **date >= earliest) && covered.is_none_or(|(_, end)| **date > end)
            })
            .filter(|date| within.latest.is_none_or(|latest| **date <= latest))
            .map(|date| over((*date, *date)))
    }

    /// The moment itself; if restricted to the events, the last one before it, or the first.
    pub(super) fn manual_interval(&self, at: Timestamp) -> DataInterval {
        let event = match self.dates.first() {
            Some(first) if self.restrict_to_events => {
                *self.dates.iter().rev().find(|date| **date <= at).unwrap_or(first)
            }
            _ => at,
        };
        (event, event)
    }
}

/// `@once`: at the start date or now, catchup or not.
pub(super) fn once(covered: Option<DataInterval>, within: &Restriction, now: Timestamp) -> Option<NextRun> {
    let at = within.earliest.unwrap_or(now);
    let allowed = covered.is_none() && within.latest.is_none_or(|latest| at <= latest);
    allowed.then(|| over((at, at)))
}

/// `@continuous`: from where the last run's interval ended until now.
pub(super) fn continuous(covered: Option<DataInterval>, within: &Restriction, now: Timestamp) -> Option<NextRun> {
    let start_date = within.earliest.unwrap_or(now);
    let (start, end) = match covered {
        Some((_, end)) if end <= now => (end, now),
        Some((start, end)) => (start_date, start_date.checked_add(start.duration_until(end)).ok()?),
        None => (start_date, start_date.max(now)),
    };
    within
        .latest
        .is_none_or(|latest| end <= latest)
        .then(|| over((start, end)))
}
