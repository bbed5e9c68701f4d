//! "Look now": the hint that something was committed. Rows are the truth; a lost hint costs a sweep, never a change.

use isobar_model::TeamId;

/// What there is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// Event rows wait to be claimed by a scheduler.
    Events,
    /// Callbacks wait for the team's dag-processor.
    Callbacks(TeamId),
    /// Questions wait for the team's helper.
    Questions(TeamId),
    /// Triggers of the team came, or are no longer wanted.
    Triggers(TeamId),
    /// The team's listeners are to be told of something.
    Listeners(TeamId),
    /// Dags, pools, variables or teams changed.
    Definitions,
}

/// Somebody who can be told to look. Inside one process this is a notification; on PostgreSQL also `NOTIFY`.
pub trait Waker: Send + Sync + 'static {
    /// Tells without waiting; must never block or fail.
    fn wake(&self, what: Wake);
}
