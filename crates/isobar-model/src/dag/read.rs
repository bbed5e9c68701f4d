//! Reading JSON values into typed ones, with errors that know where they are.
//!
//! Readers are plain functions `&Value -> Read<T>`; the path of an error is put together only when one unwinds.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::error::{DagError, Problem, Read, excerpt};

pub(crate) type Object = Map<String, Value>;

pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn wrong<T>(expected: &'static str, value: &Value) -> Read<T> {
    Err(DagError::here(Problem::WrongType {
        expected,
        found: kind(value),
    }))
}

pub(crate) fn out_of_range(what: &'static str, found: impl std::fmt::Display) -> DagError {
    DagError::here(Problem::OutOfRange {
        what,
        found: excerpt(&found.to_string()),
    })
}

pub(crate) fn object(value: &Value) -> Read<&Object> {
    value.as_object().map_or_else(|| wrong("an object", value), Ok)
}

pub(crate) fn list(value: &Value) -> Read<&[Value]> {
    value
        .as_array()
        .map_or_else(|| wrong("a list", value), |l| Ok(l.as_slice()))
}

pub(crate) fn text(value: &Value) -> Read<&str> {
    value.as_str().map_or_else(|| wrong("a text", value), Ok)
}

pub(crate) fn string(value: &Value) -> Read<String> {
    text(value).map(str::to_owned)
}

/// A boolean. Python's truth of numbers is accepted where old files wrote one.
pub(crate) fn boolean(value: &Value) -> Read<bool> {
    value.as_bool().map_or_else(|| wrong("true or false", value), Ok)
}

pub(crate) fn real(value: &Value) -> Read<f64> {
    match value.as_f64() {
        Some(number) if number.is_finite() => Ok(number),
        Some(number) => Err(out_of_range("a number", number)),
        None => wrong("a number", value),
    }
}

/// A whole number in the range of a database integer. Airflow's schema says "number", so `3.0` is accepted too.
pub(crate) fn small(value: &Value) -> Read<i32> {
    let number = match value.as_i64() {
        Some(number) => number,
        None => {
            let number = real(value)?;
            if number.fract() != 0.0 {
                return Err(out_of_range("a whole number", number));
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "`as` saturates; the range is checked below"
            )]
            let whole = number as i64;
            whole
        }
    };
    i32::try_from(number).map_err(|_| out_of_range("a 32-bit number", number))
}

/// A whole number, clipped to the range of a database integer as Airflow clips priority weights.
pub(crate) fn clipped(value: &Value) -> Read<i32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, which is what clipping means"
    )]
    real(value).map(|number| number as i32)
}

const MICROS: f64 = 1e6;

/// Seconds with a fraction, to the microsecond, as Python writes a timedelta.
pub(crate) fn seconds(value: &Value) -> Read<SignedDuration> {
    let number = real(value)?;
    /// A thousand years: Python's own limit is 2.7 million, Airflow's uses are days.
    const LONGEST: f64 = 1000.0 * 366.0 * 86_400.0;
    if number.abs() > LONGEST {
        return Err(out_of_range("a duration in seconds", number));
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
    let micros = (number * MICROS).round_ties_even() as i64;
    Ok(SignedDuration::from_micros(micros))
}

/// Seconds since 1970 with a fraction, as Airflow writes a date and time.
pub(crate) fn instant(value: &Value) -> Read<Timestamp> {
    let number = real(value)?;
    let whole = number.floor();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates and jiff checks the range"
    )]
    let (secs, micros) = (whole as i64, ((number - whole) * MICROS).round_ties_even() as i64);
    secs.checked_mul(1_000_000)
        .and_then(|s| s.checked_add(micros))
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .ok_or_else(|| out_of_range("a date", number))
}

/// Every item of a list, read alike.
pub(crate) fn each<'v, T>(value: &'v Value, mut item: impl FnMut(&'v Value) -> Read<T>) -> Read<Vec<T>> {
    list(value)?
        .iter()
        .enumerate()
        .map(|(index, entry)| item(entry).map_err(|e| e.at(index)))
        .collect()
}

pub(crate) fn strings(value: &Value) -> Read<Vec<String>> {
    each(value, string)
}

/// A key that must be there.
pub(crate) fn required<'v, T>(map: &'v Object, key: &str, item: impl FnOnce(&'v Value) -> Read<T>) -> Read<T> {
    match map.get(key) {
        None => Err(DagError::here(Problem::Missing).under(key)),
        Some(value) => item(value).map_err(|e| e.under(key)),
    }
}

/// A key that may be absent or null.
pub(crate) fn optional<'v, T>(map: &'v Object, key: &str, item: impl FnOnce(&'v Value) -> Read<T>) -> Read<Option<T>> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => item(value).map(Some).map_err(|e| e.under(key)),
    }
}

/// A key with a default for when it is absent or null.
pub(crate) fn or<'v, T>(map: &'v Object, key: &str, default: T, item: impl FnOnce(&'v Value) -> Read<T>) -> Read<T> {
    optional(map, key, item).map(|found| found.unwrap_or(default))
}

/// A Dag's or task's id: Airflow's `KEY_REGEX` and its length limit.
pub(crate) fn id(value: &Value) -> Read<&str> {
    const LONGEST: usize = 250;
    let found = text(value)?;
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if found.is_empty() || found.chars().count() > LONGEST || !found.chars().all(allowed) {
        return Err(DagError::here(Problem::BadId(excerpt(found))));
    }
    Ok(found)
}

/// Refuses what is too deep or too large to walk safely, without recursing itself.
pub(crate) fn within_limits(root: &Value, deepest: usize, most: usize) -> Read<()> {
    let mut waiting = vec![(root, 0)];
    let mut seen = 0_usize;
    while let Some((value, depth)) = waiting.pop() {
        seen += 1;
        if depth > deepest {
            return Err(DagError::here(Problem::TooDeep(deepest)));
        }
        if seen + waiting.len() > most {
            return Err(DagError::here(Problem::TooMany {
                what: "values",
                found: seen + waiting.len(),
                limit: most,
            }));
        }
        match value {
            Value::Array(items) => waiting.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => waiting.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}
