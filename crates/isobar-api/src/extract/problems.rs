//! Problems of one value, in the words and shape of pydantic, which clients read.

use serde_json::{Value, json};

/// One problem: its type, its words, and its context.
pub(crate) struct Problem {
    kind: &'static str,
    message: String,
    context: Option<Value>,
}

impl Problem {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            context: None,
        }
    }

    fn with(mut self, context: Value) -> Self {
        self.context = Some(context);
        self
    }

    /// As an entry of `detail`.
    pub(crate) fn at(self, place: Vec<Value>, input: &Value) -> Value {
        let place = Value::Array(place);
        let mut entry = json!({"type": self.kind, "loc": place, "msg": self.message, "input": input});
        if let Some(context) = self.context {
            entry["ctx"] = context;
        }
        entry
    }

    pub(crate) fn missing() -> Self {
        Self::new("missing", "Field required")
    }

    pub(crate) fn extra() -> Self {
        Self::new("extra_forbidden", "Extra inputs are not permitted")
    }

    pub(crate) fn not_text() -> Self {
        Self::new("string_type", "Input should be a valid string")
    }

    pub(crate) fn too_long(most: usize) -> Self {
        let s = if most == 1 { "" } else { "s" };
        Self::new(
            "string_too_long",
            format!("String should have at most {most} character{s}"),
        )
        .with(json!({"max_length": most}))
    }

    /// A text that a regular expression refuses.
    pub(crate) fn mismatch(pattern: &str) -> Self {
        Self::new(
            "string_pattern_mismatch",
            format!("String should match pattern '{pattern}'"),
        )
        .with(json!({"pattern": pattern}))
    }

    pub(crate) fn unreadable_int() -> Self {
        Self::new(
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
        )
    }

    pub(crate) fn not_int() -> Self {
        Self::new("int_type", "Input should be a valid integer")
    }

    pub(crate) fn fractional() -> Self {
        Self::new(
            "int_from_float",
            "Input should be a valid integer, got a number with a fractional part",
        )
    }

    pub(crate) fn below(least: i64) -> Self {
        Self::new(
            "greater_than_equal",
            format!("Input should be greater than or equal to {least}"),
        )
        .with(json!({"ge": least}))
    }

    pub(crate) fn unreadable_real() -> Self {
        Self::new(
            "float_parsing",
            "Input should be a valid number, unable to parse string as a number",
        )
    }

    pub(crate) fn not_real() -> Self {
        Self::new("float_type", "Input should be a valid number")
    }

    pub(crate) fn unreadable_flag() -> Self {
        Self::new(
            "bool_parsing",
            "Input should be a valid boolean, unable to interpret input",
        )
    }

    pub(crate) fn not_flag() -> Self {
        Self::new("bool_type", "Input should be a valid boolean")
    }

    pub(crate) fn not_list() -> Self {
        Self::new("list_type", "Input should be a valid list")
    }

    pub(crate) fn not_object() -> Self {
        Self::new(
            "model_attributes_type",
            "Input should be a valid dictionary or object to extract fields from",
        )
    }

    pub(crate) fn not_dict() -> Self {
        Self::new("dict_type", "Input should be a valid dictionary")
    }

    /// Not one of an enumeration's values.
    pub(crate) fn not_member(words: &[&str]) -> Self {
        let expected = one_of(words);
        Self::new("enum", format!("Input should be {expected}")).with(json!({"expected": expected}))
    }

    /// Not one of a literal's values.
    pub(crate) fn not_literal(words: &[&str]) -> Self {
        let expected = one_of(words);
        Self::new("literal_error", format!("Input should be {expected}")).with(json!({"expected": expected}))
    }

    pub(crate) fn unreadable_time(text: &str) -> Self {
        let reason = if text.len() < 10 {
            "input is too short"
        } else if text.as_bytes().iter().take(4).any(|byte| !byte.is_ascii_digit()) {
            "invalid character in year"
        } else {
            "invalid datetime separator, expected `T`, `t`, `_` or space"
        };
        Self::new(
            "datetime_from_date_parsing",
            format!("Input should be a valid datetime or date, {reason}"),
        )
        .with(json!({"error": reason}))
    }

    pub(crate) fn not_time() -> Self {
        Self::new("datetime_type", "Input should be a valid datetime")
    }

    pub(crate) fn without_zone() -> Self {
        Self::new("timezone_aware", "Input should have timezone info")
    }

    /// What a validator of Airflow's own refuses.
    pub(crate) fn value(message: &str) -> Self {
        Self::new("value_error", format!("Value error, {message}")).with(json!({"error": {}}))
    }
}

/// `'a', 'b' or 'c'`.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Reads a date and time as pydantic does: with an offset, without one (then UTC), or a date alone.
pub(crate) fn lenient_time(text: &str) -> Option<(jiff::Timestamp, bool)> {
    // A `+` of an offset that a client forgot to escape arrives as a space.
    let repaired = match text.rfind(' ') {
        Some(at) if at >= 16 && !text[at + 1..].is_empty() && text.len() - at <= 6 => {
            format!("{}+{}", &text[..at], &text[at + 1..])
        }
        _ => text.to_owned(),
    };
    if let Ok(at) = repaired.parse::<jiff::Timestamp>() {
        return Some((at, true));
    }
    if let Ok(at) = repaired.parse::<jiff::civil::DateTime>() {
        return at
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|at| (at.timestamp(), false));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        return jiff::Timestamp::from_second(number).ok().map(|at| (at, true));
    }
    None
}

/// The offset from UTC that a written time names.
pub(crate) fn offset_of(text: &str) -> Option<jiff::tz::Offset> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    pieces.to_numeric_offset()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_pydantic_reads_them() {
        let utc = |text: &str| lenient_time(text).map(|(at, zoned)| (at.to_string(), zoned));
        assert_eq!(utc("2026-01-01T00:00:00Z"), Some(("2026-01-01T00:00:00Z".into(), true)));
        assert_eq!(
            utc("2026-01-01T00:00:00 01:00"),
            Some(("2025-12-31T23:00:00Z".into(), true))
        );
        assert_eq!(utc("2026-01-01"), Some(("2026-01-01T00:00:00Z".into(), false)));
        assert_eq!(utc("2026-01-01 10:00:00"), Some(("2026-01-01T10:00:00Z".into(), false)));
        assert_eq!(utc("nonsense"), None);
    }

    #[test]
    fn a_list_of_words_reads_as_english() {
        assert_eq!(one_of(&["a", "b", "c"]), "'a', 'b' or 'c'");
    }
}
