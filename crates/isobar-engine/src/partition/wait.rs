//! Wait policies: how much of a window must have arrived.

use std::collections::BTreeSet;

use serde_json::Value;

use super::mapper::{MapperError, class_of};

/// How much of a window must have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// All of it.
    All,
    /// So many parts; negative: all but so many.
    AtLeast(i64),
}

impl Wait {
    pub(super) fn read(value: &Value) -> Result<Self, MapperError> {
        let (path, class, fields) = class_of(value)?;
        match (class, fields["n"].as_i64()) {
            (Some("WaitForAll"), _) => Ok(Self::All),
            (Some("MinimumCount"), Some(count)) => Ok(Self::AtLeast(count)),
            _ => Err(MapperError::unknown("wait policy", path)),
        }
    }

    /// Whether what arrived is enough. What can never be enough is not.
    pub(super) fn satisfied(self, arrived: &BTreeSet<String>, expected: &BTreeSet<String>) -> bool {
        let expects = i64::try_from(expected.len()).unwrap_or(i64::MAX);
        let matched = || i64::try_from(expected.intersection(arrived).count()).unwrap_or(i64::MAX);
        match self {
            Self::All => expected.is_subset(arrived),
            Self::AtLeast(count) if count > 0 => count <= expects && matched() >= count,
            Self::AtLeast(count) => matched() >= (expects + count).max(0),
        }
    }
}
