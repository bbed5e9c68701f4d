//! What can be wrong with a serialized Dag, and where.

/// A serialized Dag that cannot be read. Nothing in it is trusted, so this is an ordinary answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the serialized Dag cannot be read: at `{path}`: {problem}")]
pub struct DagError {
    /// Where in the JSON, as `dag.tasks[3].__var.retries`.
    pub path: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong at one place of a serialized Dag.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A key that must be there is not.
    #[error("it is missing")]
    Missing,
    /// Another kind of value than Airflow writes here.
    #[error("{expected} was expected, {found} was found")]
    WrongType {
        /// What belongs here.
        expected: &'static str,
        /// The kind of value that was found.
        found: &'static str,
    },
    /// A word that is not one of a closed set.
    #[error(transparent)]
    UnknownName(#[from] crate::UnknownName),
    /// A number or date outside what can be kept.
    #[error("{found} is out of range for {what}")]
    OutOfRange {
        /// What the number is.
        what: &'static str,
        /// The number as written.
        found: String,
    },
    /// A serialization format this reader does not know.
    #[error("version {0} of the format is not supported; parse the Dag file again with Airflow 3.3")]
    UnsupportedVersion(String),
    /// Nested too deeply to be safe to walk.
    #[error("it is nested deeper than {0} levels")]
    TooDeep(usize),
    /// Larger than a Dag may be.
    #[error("there are {found} {what}, and {limit} are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// An id with characters Airflow does not allow, or too long.
    #[error("`{0}` is not a valid id: letters, digits, `_`, `-` and `.` only, at most 250 characters")]
    BadId(String),
    /// The same task is defined, or placed in a group, twice.
    #[error("task `{0}` appears twice")]
    DuplicateTask(String),
    /// An edge, group or expansion names a task that the Dag does not have.
    #[error("there is no task `{0}` in this Dag")]
    UnknownTask(String),
    /// The edges run in a circle.
    #[error("task `{0}` is part of a circle of dependencies")]
    Cycle(String),
    /// A time zone that the zone database does not know.
    #[error("`{0}` is not a time zone known here")]
    UnknownTimeZone(String),
}

/// The result of reading a part of a serialized Dag.
pub(crate) type Read<T> = Result<T, DagError>;

impl DagError {
    pub(crate) fn here(problem: impl Into<Problem>) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
        }
    }

    /// The same error, seen from the object that holds `key`.
    pub(crate) fn under(mut self, key: &str) -> Self {
        let shown = excerpt(key);
        let joint = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{shown}{joint}{}", self.path);
        self
    }

    /// The same error, seen from the list that holds item `index`.
    pub(crate) fn at(mut self, index: usize) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("[{index}]{joint}{}", self.path);
        self
    }
}

/// The start of a text, short enough for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
