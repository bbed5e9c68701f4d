//! What is wrong with a configuration: where, what, and what to do.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A place in a file, counted from 1.
    File {
        /// The file, as it was named.
        file: Arc<Path>,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An environment variable, by name.
    Environment(Arc<str>),
    /// Fetched by a command or from a secret store, as said at that place.
    Fetched(Arc<Origin>),
    /// Nobody said anything.
    Default,
}

impl Origin {
    /// Whether a text from here may stand for a number, a truth or a list, since it could be nothing but text.
    pub(crate) fn is_untyped(&self) -> bool {
        matches!(self, Self::Environment(_) | Self::Fetched(_))
    }

    /// The place that a person wrote, for what was fetched as for what was not.
    pub(crate) fn written(&self) -> &Self {
        match self {
            Self::Fetched(source) => source.written(),
            _ => self,
        }
    }

    /// The place of a byte in a file's text.
    pub(crate) fn in_text(file: &Arc<Path>, text: &str, byte: usize) -> Self {
        let mut end = byte.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::File {
            file: Arc::clone(file),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The first place of a file.
    pub(crate) fn start_of(file: &Arc<Path>) -> Self {
        Self::File {
            file: Arc::clone(file),
            line: 1,
            column: 1,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Fetched(source) => write!(f, "{source} (fetched)"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One fault, or one thing worth a warning. Holds no secret value, ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}\n  hint: {hint}")]
pub struct Problem {
    /// Where.
    pub at: Origin,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// All faults of a configuration, found in one go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// A ``did you mean `x`?`` for a word that is not among the known ones, else the known ones.
pub(crate) fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let folded = word.to_lowercase();
    let closest = known
        .iter()
        .map(|candidate| (edit_distance(&folded, &candidate.to_lowercase()), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4);
    match closest {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None => format!("known here: {}", quoted_list(known)),
    }
}

/// `a`, `b`, `c`
pub(crate) fn quoted_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words
        .into_iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// How many letters must be put in, taken out or changed (Levenshtein).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (position, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = position + 1;
        for (column, other) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_a_stranger_is_not() {
        assert_eq!(
            suggest("paralelism", ["parallelism", "home"]),
            "did you mean `parallelism`?"
        );
        assert_eq!(
            suggest("zebra", ["parallelism", "home"]),
            "known here: `parallelism`, `home`"
        );
    }

    #[test]
    fn a_place_counts_characters_not_bytes() {
        let file: Arc<Path> = Path::new("f").into();
        let text = "a\né = 1 x";
        let at = Origin::in_text(&file, text, text.find('x').unwrap());
        assert_eq!(at.to_string(), "f:2:7");
        assert_eq!(Origin::in_text(&file, text, 3).to_string(), "f:2:1", "inside `é`");
        assert_eq!(Origin::in_text(&file, text, 999).to_string(), "f:2:8");
    }
}
