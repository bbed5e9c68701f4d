//! Timetables: when a Dag's next run is due, and what a run made by hand covers.
//!
//! The schedule as written is `isobar_model::dag::Timetable`; [`Timetable::from_model`] compiles it once (cron expressions parsed, zones looked
//! up) and the result answers without I/O. Behaviour is Airflow 3.3's, changes of the clocks included, and is compared with it
//! case by case (`tests/timetable_cases.rs`). What only Python can answer is [`Next::Ask`] or [`TimetableError::NeedsPython`].
//!
//! Where what stands: going from one moment to the next by cron or by a delta in `steps` and `delta`; timetables of moments in `trigger`,
//! of intervals in `interval`, the others in `events`; names of runs in `run_id`; words for people in `describe`. What assets cause is
//! not here (`assets`, and the rollup of partitions is not done yet): such timetables are [`Next::Never`] by the clock.

mod between;
mod delta;
mod describe;
mod events;
mod interval;
mod run_id;
mod steps;
mod trigger;

use isobar_model::dag::{self, SerializedDag};
use jiff::Timestamp;
use serde_json::json;

use crate::cron::{Cron, CronError};
use crate::dagplan::{Next, NextRun, Restriction, Schedule, ScheduleProblem};
use events::Events;
use interval::IntervalRule;
use steps::{CronSteps, Steps};
use trigger::TriggerRule;

pub use between::{Bound, MOST_RUNS};
pub use run_id::run_id;

/// A timetable that cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// A class of the team's plugins: its helper must be asked.
    #[error("timetable `{path}` is Python code of the team; its helper must be asked")]
    NeedsPython {
        /// The import path of the class.
        path: String,
    },
    /// A cron expression that is not one.
    #[error("the cron expression cannot be read: {0}")]
    BadCron(#[from] CronError),
    /// A cron expression that matches no day, such as the 30th of February.
    #[error("`{0}` does not match any moment within 50 years")]
    NeverFires(String),
    /// A step that does not go forward.
    #[error("the schedule's step must be positive, and `{0}` is not")]
    NotForward(String),
    /// A partition key that is not what the schedule writes.
    #[error(
        "Partition key '{key}' does not match the timetable's key_format '{format}': time data '{key}' does not match \
         format '{format}'"
    )]
    BadPartitionKey {
        /// The key.
        key: String,
        /// The schedule's format.
        format: String,
    },
    /// More runs between two dates than are listed.
    #[error("there are more than {0} runs between these dates; take dates that are closer together")]
    TooManyRuns(usize),
    /// Dates at the end of what can be counted.
    #[error("the next run would be outside the years -9999 to 9999")]
    OutOfRange,
}

/// A data interval: its start and its end.
pub type DataInterval = (Timestamp, Timestamp);

type Answer<T> = Result<T, TimetableError>;

/// A compiled timetable.
#[derive(Clone, Debug)]
pub struct Timetable {
    rule: Rule,
    summary: String,
    description: String,
}

#[derive(Clone, Debug)]
enum Rule {
    /// Nothing by the clock: no schedule, or assets alone.
    Never,
    Once,
    Continuous,
    Trigger(Box<TriggerRule>),
    AnyOf(Vec<TriggerRule>),
    Partition(Box<trigger::Partition>),
    Interval(Box<IntervalRule>),
    Events(Events),
    Python {
        path: String,
        /// The timetable as serialized.
        question: serde_json::Value,
    },
}

impl Timetable {
    /// Compiles a Dag's timetable.
    ///
    /// # Errors
    /// A schedule that could never work: a broken cron expression, a step that does not go forward. A custom timetable is no error
    /// here; asking it is.
    pub fn from_model(model: &dag::Timetable) -> Result<Self, TimetableError> {
        Ok(Self {
            rule: Rule::from_model(model)?,
            summary: describe::summary(model),
            description: describe::description(model),
        })
    }

    /// The run after the given one (the latest not made by hand), seen from `now`.
    ///
    /// # Errors
    /// See [`TimetableError`]; never [`TimetableError::NeedsPython`], which is [`Next::Ask`] here.
    pub fn next_run(
        &self,
        last: Option<&NextRun>,
        within: &Restriction,
        now: Timestamp,
    ) -> Result<Next, TimetableError> {
        let covered = last.and_then(|run| run.data_interval);
        let next = match &self.rule {
            Rule::Never => None,
            Rule::Python { .. } => return Ok(Next::Ask),
            Rule::Once => events::once(covered, within, now),
            Rule::Continuous => events::continuous(covered, within, now),
            Rule::Trigger(rule) => rule.next(covered, within, now)?,
            Rule::AnyOf(rules) => trigger::first_of(rules, covered, within, now)?,
            Rule::Partition(rule) => rule.next(last.map(|run| run.run_after), within, now)?,
            Rule::Interval(rule) => rule.next(covered, within, now)?,
            Rule::Events(events) => events.next(covered, within, now),
        };
        Ok(next.map_or(Next::Never, Next::At))
    }

    /// The data interval of a run made by hand, for its logical date (or the time it was asked for).
    ///
    /// # Errors
    /// See [`TimetableError`].
    pub fn manual_interval(&self, at: Timestamp) -> Result<DataInterval, TimetableError> {
        match &self.rule {
            Rule::Never | Rule::Once | Rule::Continuous => Ok((at, at)),
            Rule::Trigger(rule) => rule.manual_interval(at),
            Rule::AnyOf(rules) => trigger::widest_manual_interval(rules, at),
            Rule::Partition(_) => Ok((at, at)),
            Rule::Interval(rule) => rule.manual_interval(at),
            Rule::Events(events) => Ok(events.manual_interval(at)),
            Rule::Python { path, .. } => Err(TimetableError::NeedsPython { path: path.clone() }),
        }
    }

    /// The date that a partition key stands for; none where keys of this timetable stand for none.
    ///
    /// # Errors
    /// [`TimetableError::BadPartitionKey`].
    pub fn partition_date(&self, key: &str) -> Result<Option<Timestamp>, TimetableError> {
        match &self.rule {
            Rule::Partition(rule) => rule.date_of(key).map(Some),
            _ => Ok(None),
        }
    }

    /// The timetable that only Python can evaluate, as serialized; none where this one answers by itself.
    #[must_use]
    pub fn question(&self) -> Option<&serde_json::Value> {
        match &self.rule {
            Rule::Python { question, .. } => Some(question),
            _ => None,
        }
    }

    /// A few words that name the schedule: the cron expression, `@once`, `Asset`…
    #[must_use]
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The schedule in English: `At 06:00, only on Monday`.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }
}

impl Rule {
    fn from_model(model: &dag::Timetable) -> Answer<Self> {
        use dag::Timetable as Model;
        Ok(match model {
            Model::Null | Model::PartitionedAtRuntime | Model::AssetTriggered { .. } | Model::PartitionedAsset(_) => {
                Self::Never
            }
            Model::Once => Self::Once,
            Model::Continuous => Self::Continuous,
            Model::CronTrigger(cron) => Self::Trigger(Box::new(TriggerRule::cron(cron)?)),
            Model::MultipleCronTrigger(crons) => Self::AnyOf(TriggerRule::crons(crons)?),
            Model::DeltaTrigger { delta, interval } => Self::Trigger(Box::new(TriggerRule::delta(delta, interval)?)),
            Model::CronPartition(partition) => Self::Partition(Box::new(trigger::Partition::new(partition)?)),
            Model::CronDataInterval { expression, timezone } => {
                let steps = Steps::Cron(CronSteps::new(Cron::parse(expression)?, timezone));
                Self::Interval(Box::new(IntervalRule::new(steps)))
            }
            Model::DeltaDataInterval { delta } => Self::Interval(Box::new(IntervalRule::new(Steps::delta(delta)?))),
            Model::Events(events) => Self::Events(Events::new(events)),
            Model::AssetOrTime { timetable, .. } => Self::from_model(timetable)?,
            Model::Custom { path, var, .. } => Self::Python {
                path: path.clone(),
                question: json!({"__type": path, "__var": var}),
            },
        })
    }
}

impl Schedule for Timetable {
    fn next(&self, last: Option<&NextRun>, within: &Restriction, now: Timestamp) -> Result<Next, ScheduleProblem> {
        self.next_run(last, within, now)
            .map_err(|error| ScheduleProblem(error.to_string()))
    }

    fn ids_name_partitions(&self) -> bool {
        matches!(self.rule, Rule::Partition(_))
    }

    fn question(&self) -> Option<&serde_json::Value> {
        Self::question(self)
    }
}

/// The bounds that a Dag and its tasks put on its timetable: from the earliest start date of any to the Dag's end date,
/// or to the latest end date if every task has one.
#[must_use]
pub fn restriction(dag: &SerializedDag) -> Restriction {
    let starts = dag.tasks().filter_map(|task| dag.task(task).start_date);
    let ends: Vec<_> = dag.tasks().filter_map(|task| dag.task(task).end_date).collect();
    let all_end = ends.len() == dag.tasks().len();
    Restriction {
        earliest: starts.chain(dag.start_date).min(),
        latest: if all_end {
            ends.into_iter().chain(dag.end_date).max()
        } else {
            dag.end_date
        },
        catchup: dag.catchup,
    }
}

/// A run whose data interval ends when it becomes due.
fn over(interval: DataInterval) -> NextRun {
    NextRun {
        run_after: interval.1,
        data_interval: Some(interval),
        partition_key: None,
        partition_date: None,
    }
}
