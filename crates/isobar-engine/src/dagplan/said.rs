//! What Python said of the runs to come: a timetable that has years to make up for is asked about many runs at once.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::event::NextSaid;
use super::schedule::NextRun;

/// What was said longer ago is asked again: a timetable may look at a calendar that changes.
const HOLDS: SignedDuration = SignedDuration::from_mins(1);

/// What follows what, as Python said it.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// A run, and what follows it.
    steps: VecDeque<(Option<NextRun>, NextSaid)>,
    until: Timestamp,
}

impl Said {
    /// The first of these follows `last`, each other one the one before it.
    pub(super) fn about(last: Option<NextRun>, said: Vec<NextSaid>, now: Timestamp) -> Self {
        let mut after = last;
        let steps = said
            .into_iter()
            .map(|step| (std::mem::replace(&mut after, step.next.clone()), step))
            .collect();
        Self {
            steps,
            until: now + HOLDS,
        }
    }

    /// What follows a run; none where that was not said, or too long ago. What was said of earlier runs is forgotten.
    pub(super) fn after(&mut self, last: Option<&NextRun>, now: Timestamp) -> Option<&NextSaid> {
        let place = (self.steps.iter()).position(|(after, _)| after.as_ref() == last);
        match place {
            Some(place) if now <= self.until => drop(self.steps.drain(..place)),
            _ => self.steps.clear(),
        }
        self.steps.front().map(|(_, said)| said)
    }
}
