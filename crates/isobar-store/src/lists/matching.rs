//! What lists are asked for: patterns, ranges and pages.

use jiff::Timestamp;

/// A text to look for. Both parts must hold where both are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextMatch {
    /// Found anywhere, in either case; `%` and `_` are wildcards. An empty text finds every row that has a value.
    pub pattern: Option<String>,
    /// Found at the start, case counts; characters at its end that are no letters or digits are dropped, as in Airflow.
    pub prefix: Option<String>,
    /// Whether `|` stands between alternatives.
    pub alternatives: bool,
}

impl Default for TextMatch {
    fn default() -> Self {
        Self {
            pattern: None,
            prefix: None,
            alternatives: true,
        }
    }
}

impl TextMatch {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pattern.is_none() && self.prefix.is_none()
    }

    /// The alternatives of a text: those between `|`, or the text itself.
    pub(crate) fn terms<'t>(&self, text: &'t str) -> Vec<&'t str> {
        if self.alternatives && text.contains('|') {
            let terms: Vec<&str> = text.split('|').map(str::trim).filter(|term| !term.is_empty()).collect();
            if !terms.is_empty() {
                return terms;
            }
        }
        vec![text]
    }
}

/// The bounds of a prefix as a range: from, and below. Both end in a letter or digit, so that they also hold under a
/// database's own collation.
pub(crate) fn prefix_range(term: &str) -> Option<(String, Option<String>)> {
    let lower = term.trim_end_matches(|c: char| !c.is_alphanumeric());
    if lower.is_empty() {
        return None;
    }
    let mut rest = lower;
    while let Some(last) = rest.chars().next_back() {
        let head = &rest[..rest.len() - last.len_utf8()];
        if let Some(bumped) = char::from_u32(last as u32 + 1).filter(|c| c.is_alphanumeric()) {
            return Some((lower.to_owned(), Some(format!("{head}{bumped}"))));
        }
        rest = head.trim_end_matches(|c: char| !c.is_alphanumeric());
    }
    Some((lower.to_owned(), None))
}

/// Bounds of an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// At or after.
    pub gte: Option<Timestamp>,
    /// After.
    pub gt: Option<Timestamp>,
    /// At or before.
    pub lte: Option<Timestamp>,
    /// Before.
    pub lt: Option<Timestamp>,
}

impl TimeRange {
    /// Whether there is any bound.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.gte.is_some() || self.gt.is_some() || self.lte.is_some() || self.lt.is_some()
    }
}

/// Bounds of a number of seconds. A bound of zero is none, as in Airflow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RealRange {
    /// At least.
    pub gte: Option<f64>,
    /// More than.
    pub gt: Option<f64>,
    /// At most.
    pub lte: Option<f64>,
    /// Less than.
    pub lt: Option<f64>,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many rows.
    pub limit: u32,
    /// After so many rows.
    pub offset: u64,
}

/// One page of a list, and how long the whole list is.
#[derive(Clone, Debug)]
pub struct Slice<T> {
    /// The rows of the page.
    pub rows: Vec<T>,
    /// How many rows match.
    pub total: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_becomes_a_range_that_ends_in_a_letter_or_digit() {
        assert_eq!(prefix_range("test_"), Some(("test".into(), Some("tesu".into()))));
        assert_eq!(prefix_range("az"), Some(("az".into(), Some("b".into()))));
        assert_eq!(prefix_range("__"), None);
        assert_eq!(prefix_range(""), None);
    }

    #[test]
    fn a_bar_stands_between_alternatives() {
        let text = TextMatch::default();
        assert_eq!(text.terms("a | b"), ["a", "b"]);
        assert_eq!(text.terms("|"), ["|"]);
    }
}
