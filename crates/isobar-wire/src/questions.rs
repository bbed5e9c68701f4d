//! Questions that only a team's own Python can answer: custom timetables, weight rules, cluster policies.
//!
//! The scheduler or the REST API puts them as rows; the team's helper process (`isobar-runtime`'s `helper`) claims and
//! answers them through [`QuestionApi`].

use isobar_model::{DagId, TeamId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::execution::{Answering, Refusal};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuestionKind {
    /// The runs after the latest automated one, by a custom timetable.
    NextRun,
    /// The data interval and id of a run made by hand, by a custom timetable. Somebody waits for it.
    ManualInterval,
    /// All runs between two dates, by a custom timetable. Somebody waits for it.
    RunsBetween,
    /// The instants that wall clocks mean in a custom timetable of partitions. Somebody waits for it.
    PartitionMoments,
    /// To which partitions of a Dag keys of assets belong, and whether enough arrived for one, by custom partition mappers.
    Partitions,
    /// Pool, queue, priority and so on of task instances, by custom weight rules and `task_instance_mutation_hook`.
    Instances,
}

impl QuestionKind {
    /// All there are.
    const ALL: [Self; 6] = [
        Self::NextRun,
        Self::ManualInterval,
        Self::RunsBetween,
        Self::PartitionMoments,
        Self::Partitions,
        Self::Instances,
    ];

    /// The word in rows and frames.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NextRun => "next_run",
            Self::ManualInterval => "manual_interval",
            Self::RunsBetween => "runs_between",
            Self::PartitionMoments => "partition_moments",
            Self::Partitions => "partitions",
            Self::Instances => "instances",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether a caller is kept waiting for the answer, rather than a scheduler that is told by an event.
    #[must_use]
    pub fn somebody_waits(self) -> bool {
        matches!(self, Self::ManualInterval | Self::RunsBetween | Self::PartitionMoments)
    }
}

/// A question that a helper has claimed.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenQuestion {
    /// Its id.
    pub id: i64,
    /// The Dag it is about.
    pub dag_id: DagId,
    /// The question as `isobar_agent/helper.py` reads it: `{"ask": …}`.
    pub body: Value,
    /// The Dag version that it is about, where the helper must know the Dag.
    pub version_id: Option<Uuid>,
    /// When nobody waits for the answer any more.
    pub wanted_until: Option<Timestamp>,
}

/// What was said to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// The answer.
    Answer(Value),
    /// The team's code raised: why, for people.
    Problem(String),
    /// No answer: the helper hung or died over it. It is asked again later.
    Later(String),
}

/// Claimed questions, and when those that are put off are due.
pub type Claimed = (Vec<OpenQuestion>, Option<Timestamp>);

/// What a team's helper needs of the control plane. Implemented by `isobar-execution`.
pub trait QuestionApi: Send + Sync + 'static {
    /// Claims up to `limit` open questions of the team; with them, when those that are put off are due.
    fn claim_questions(&self, team: TeamId, limit: u32) -> Answering<'_, Result<Claimed, Refusal>>;
    /// Stores what was said, all in one unit.
    fn questions_answered(&self, team: TeamId, said: Vec<(i64, Said)>) -> Answering<'_, Result<(), Refusal>>;
    /// Gives claimed questions back that nobody got to, and why.
    fn questions_given_back(&self, team: TeamId, ids: Vec<i64>, reason: String) -> Answering<'_, Result<(), Refusal>>;
    /// The serialized Dag of a version of the team's; none where it is gone.
    fn dag_of_version(&self, team: TeamId, version: Uuid) -> Answering<'_, Result<Option<Value>, Refusal>>;
    /// Says whether the team's cluster policy has a `task_instance_mutation_hook`.
    fn python_found(&self, team: TeamId, shapes_instances: bool) -> Answering<'_, Result<(), Refusal>>;
}
