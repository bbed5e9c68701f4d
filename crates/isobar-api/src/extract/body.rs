//! JSON bodies, read field by field; problems are gathered, and answered together as FastAPI does.

use axum::body::Bytes;
use isobar_store::lists::{RealRange, TimeRange};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde_json::{Map, Value, json};

use super::problems::{Problem, lenient_time, offset_of};
use crate::ApiError;

/// Reads the body as JSON.
///
/// # Errors
/// 422 where there is none, or it is not JSON.
pub(crate) fn json_body(bytes: &Bytes) -> Result<Value, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::unprocessable(vec![
            Problem::missing().at(vec!["body".into()], &Value::Null),
        ]));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let at = start_of_token(bytes, &error);
        ApiError::unprocessable(vec![json!({
            "type": "json_invalid",
            "loc": ["body", at],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": "Expecting value"},
        })])
    })
}

/// Where Python's reader says that JSON is wrong: at the first character of the token that is none.
fn start_of_token(bytes: &[u8], error: &serde_json::Error) -> usize {
    let before: usize = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let mut at = (before + error.column().saturating_sub(1)).min(bytes.len().saturating_sub(1));
    while at > 0 && bytes.get(at - 1).is_some_and(u8::is_ascii_alphanumeric) {
        at -= 1;
    }
    at
}

/// An object of a body, being read.
pub(crate) struct Fields {
    map: Map<String, Value>,
    place: Vec<Value>,
    known: Vec<&'static str>,
    problems: Vec<Value>,
}

impl Fields {
    /// The body itself.
    ///
    /// # Errors
    /// 422 where it is not an object.
    pub(crate) fn of_body(bytes: &Bytes) -> Result<Self, ApiError> {
        Self::of(json_body(bytes)?, vec!["body".into()]).map_err(|problem| ApiError::unprocessable(vec![problem]))
    }

    /// An object at a place of the body.
    pub(crate) fn of(value: Value, place: Vec<Value>) -> Result<Self, Value> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                place,
                known: Vec::new(),
                problems: Vec::new(),
            }),
            other => Err(Problem::not_object().at(place, &other)),
        }
    }

    fn problem(&mut self, name: &str, problem: Problem, input: &Value) {
        let mut place = self.place.clone();
        place.push(name.into());
        self.problems.push(problem.at(place, input));
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.get(name).filter(|value| !value.is_null()).cloned()
    }

    /// Whether the field was given, null included.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Reports that a required field is not there. Null counts as there.
    pub(crate) fn require(&mut self, name: &'static str) -> bool {
        let there = self.has(name);
        if !there {
            let input = Value::Object(self.map.clone());
            self.problem(name, Problem::missing(), &input);
        }
        there
    }

    pub(crate) fn text(&mut self, name: &'static str, most: Option<usize>) -> Option<String> {
        let value = self.take(name)?;
        let Value::String(text) = value else {
            self.problem(name, Problem::not_text(), &value);
            return None;
        };
        if let Some(most) = most
            && text.chars().count() > most
        {
            self.problem(name, Problem::too_long(most), &json!(text));
            return None;
        }
        Some(text)
    }

    /// A text that must be there and not be null.
    pub(crate) fn required_text(&mut self, name: &'static str, most: Option<usize>) -> String {
        if !self.require(name) {
            self.known.push(name);
            return String::new();
        }
        if self.map.get(name).is_some_and(Value::is_null) {
            self.problem(name, Problem::not_text(), &Value::Null);
        }
        self.text(name, most).unwrap_or_default()
    }

    pub(crate) fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        let value = self.take(name)?;
        let Value::Array(items) = value else {
            self.problem(name, Problem::not_list(), &value);
            return None;
        };
        let mut texts = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                other => {
                    let mut place = self.place.clone();
                    place.extend([name.into(), index.into()]);
                    self.problems.push(Problem::not_text().at(place, &other));
                }
            }
        }
        Some(texts)
    }

    pub(crate) fn int(&mut self, name: &'static str) -> Option<i64> {
        let value = self.take(name)?;
        let problem = match &value {
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => return Some(number),
                #[expect(clippy::cast_possible_truncation, reason = "a whole number as pydantic takes it")]
                (None, Some(number)) if number.fract() == 0.0 => return Some(number as i64),
                _ => Problem::fractional(),
            },
            Value::String(text) => match text.trim().parse() {
                Ok(number) => return Some(number),
                Err(_) => Problem::unreadable_int(),
            },
            _ => Problem::not_int(),
        };
        self.problem(name, problem, &value);
        None
    }

    /// A whole number that must be there, not be null, and not be less than this.
    pub(crate) fn required_int(&mut self, name: &'static str, least: i64) -> i64 {
        if !self.require(name) {
            self.known.push(name);
            return least;
        }
        if self.map.get(name).is_some_and(Value::is_null) {
            self.problem(name, Problem::not_int(), &Value::Null);
        }
        self.int_from(name, least).unwrap_or(least)
    }

    /// A whole number that is not less than this.
    pub(crate) fn int_from(&mut self, name: &'static str, least: i64) -> Option<i64> {
        let number = self.int(name)?;
        if number < least {
            self.problem(name, Problem::below(least), &json!(number));
            return None;
        }
        Some(number)
    }

    /// Reports that a text does not match a regular expression.
    pub(crate) fn mismatch(&mut self, name: &str, pattern: &str) {
        let input = self.map.get(name).cloned().unwrap_or(Value::Null);
        self.problem(name, Problem::mismatch(pattern), &input);
    }

    /// The object as it was sent.
    pub(crate) fn raw(&self) -> &Map<String, Value> {
        &self.map
    }

    /// Takes over problems that were found inside one of the fields.
    pub(crate) fn take_over(&mut self, problems: Vec<Value>) {
        self.problems.extend(problems);
    }

    pub(crate) fn natural(&mut self, name: &'static str, default: i64) -> i64 {
        let number = self.int(name).unwrap_or(default);
        if number < 0 {
            self.problem(name, Problem::below(0), &json!(number));
            return default;
        }
        number
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        let read = match &value {
            Value::Bool(flag) => return Some(*flag),
            Value::Number(number) if number.as_i64() == Some(1) => Some(true),
            Value::Number(number) if number.as_i64() == Some(0) => Some(false),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "y" | "on" | "t" => Some(true),
                "false" | "0" | "no" | "n" | "off" | "f" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if read.is_none() {
            let problem = if matches!(value, Value::Number(_) | Value::String(_)) {
                Problem::unreadable_flag()
            } else {
                Problem::not_flag()
            };
            self.problem(name, problem, &value);
        }
        read
    }

    /// A flag that must be there.
    pub(crate) fn required_flag(&mut self, name: &'static str) -> bool {
        if !self.require(name) {
            self.known.push(name);
            return false;
        }
        if self.map.get(name).is_some_and(Value::is_null) {
            self.problem(name, Problem::not_flag(), &Value::Null);
        }
        self.flag(name).unwrap_or_default()
    }

    /// An instant; a zone is needed where `zoned`.
    pub(crate) fn time(&mut self, name: &'static str, zoned: bool) -> Option<Timestamp> {
        let value = self.take(name)?;
        let problem = match &value {
            Value::String(text) => match lenient_time(text) {
                Some((_, false)) if zoned => Problem::without_zone(),
                Some((at, _)) => return Some(at),
                None => Problem::unreadable_time(text),
            },
            #[expect(
                clippy::cast_possible_truncation,
                reason = "microseconds, as far as Python counts them"
            )]
            Value::Number(number) => match number
                .as_f64()
                .and_then(|at| Timestamp::from_microsecond((at * 1e6).round() as i64).ok())
            {
                Some(at) => return Some(at),
                None => Problem::not_time(),
            },
            _ => Problem::not_time(),
        };
        self.problem(name, problem, &value);
        None
    }

    /// An instant that must be there and not be null, and the reading of the clock as it was written.
    pub(crate) fn required_time(&mut self, name: &'static str) -> (Timestamp, DateTime) {
        if !self.require(name) {
            self.known.push(name);
        } else {
            self.not_null(name, Problem::not_time());
        }
        self.written_time(name)
            .unwrap_or((Timestamp::UNIX_EPOCH, DateTime::constant(1970, 1, 1, 0, 0, 0, 0)))
    }

    /// An instant, and the reading of the clock as it was written.
    pub(crate) fn written_time(&mut self, name: &'static str) -> Option<(Timestamp, DateTime)> {
        let at = self.time(name, false)?;
        let offset = self.map.get(name).and_then(Value::as_str).and_then(offset_of);
        Some((at, offset.unwrap_or(Offset::UTC).to_datetime(at)))
    }

    /// Reports a field that is null and may not be.
    pub(crate) fn not_null(&mut self, name: &'static str, problem: Problem) {
        if self.map.get(name).is_some_and(Value::is_null) {
            self.problem(name, problem, &Value::Null);
        }
    }

    /// A flag that may be left out but not be null.
    pub(crate) fn flag_or(&mut self, name: &'static str, default: bool) -> bool {
        self.not_null(name, Problem::not_flag());
        self.flag(name).unwrap_or(default)
    }

    pub(crate) fn times(&mut self, names: [&'static str; 4]) -> TimeRange {
        let [gte, gt, lte, lt] = names;
        TimeRange {
            gte: self.time(gte, true),
            gt: self.time(gt, true),
            lte: self.time(lte, true),
            lt: self.time(lt, true),
        }
    }

    fn real(&mut self, name: &'static str) -> Option<f64> {
        let value = self.take(name)?;
        let read = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if read.is_none() {
            let problem = if value.is_string() {
                Problem::unreadable_real()
            } else {
                Problem::not_real()
            };
            self.problem(name, problem, &value);
        }
        read
    }

    pub(crate) fn reals(&mut self, names: [&'static str; 4]) -> RealRange {
        let [gte, gt, lte, lt] = names;
        RealRange {
            gte: self.real(gte),
            gt: self.real(gt),
            lte: self.real(lte),
            lt: self.real(lt),
        }
    }

    /// A word of a closed set; case counts.
    pub(crate) fn word<T: std::str::FromStr>(&mut self, name: &'static str, words: &[&str]) -> Option<T> {
        let value = self.take(name)?;
        let read = value
            .as_str()
            .filter(|text| words.contains(text))
            .and_then(|text| text.parse().ok());
        if read.is_none() {
            self.problem(name, Problem::not_member(words), &value);
        }
        read
    }

    /// A list of words; null in it stands for none.
    pub(crate) fn words<T: std::str::FromStr>(&mut self, name: &'static str, words: &[&str]) -> Vec<Option<T>> {
        let Some(value) = self.take(name) else {
            return Vec::new();
        };
        let Value::Array(items) = value else {
            self.problem(name, Problem::not_list(), &value);
            return Vec::new();
        };
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_str().map(str::parse) {
                None if item.is_null() => read.push(None),
                Some(Ok(word)) => read.push(Some(word)),
                _ => {
                    let mut place = self.place.clone();
                    place.extend([name.into(), index.into()]);
                    self.problems.push(Problem::not_member(words).at(place, item));
                }
            }
        }
        read
    }

    /// An object; none where null or not given.
    pub(crate) fn object(&mut self, name: &'static str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(map) => Some(map),
            other => {
                self.problem(name, Problem::not_dict(), &other);
                None
            }
        }
    }

    /// Reports a list that is null, where Airflow takes none for nothing.
    pub(crate) fn no_null_list(&mut self, name: &'static str) {
        if self.map.get(name).is_some_and(Value::is_null) {
            self.problem(name, Problem::not_list(), &Value::Null);
        }
    }

    /// Reports an object that is null, where Airflow takes none for nothing.
    pub(crate) fn no_null_object(&mut self, name: &'static str) {
        if self.map.get(name).is_some_and(Value::is_null) {
            self.problem(name, Problem::not_dict(), &Value::Null);
        }
    }

    /// Whatever is there, null included.
    pub(crate) fn any(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.get(name).cloned()
    }

    /// A problem that Airflow's own validators report, at a field or (none) at the whole object.
    pub(crate) fn refuse(&mut self, name: Option<&str>, message: &str) {
        let input = match name {
            Some(name) => self.map.get(name).cloned().unwrap_or(Value::Null),
            None => Value::Object(self.map.clone()),
        };
        let mut place = self.place.clone();
        place.extend(name.map(Value::from));
        self.problems.push(Problem::value(message).at(place, &input));
    }

    /// The problems so far, those of unknown fields included.
    pub(crate) fn problems(&mut self) -> Vec<Value> {
        let unknown: Vec<(String, Value)> = self
            .map
            .iter()
            .filter(|(name, _)| !self.known.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (name, value) in unknown {
            self.problem(&name, Problem::extra(), &value);
        }
        std::mem::take(&mut self.problems)
    }

    /// Whether nothing was wrong so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether nothing was wrong so far and every field was read: only then do Airflow's validators of whole objects run.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_sound() && self.map.keys().all(|name| self.known.contains(&name.as_str()))
    }

    /// Ends reading a body whose unknown fields Airflow overlooks.
    ///
    /// # Errors
    /// 422 with all problems.
    pub(crate) fn done_with_known(&mut self) -> Result<(), ApiError> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ApiError::unprocessable(std::mem::take(&mut self.problems)))
        }
    }

    /// Ends reading.
    ///
    /// # Errors
    /// 422 with all problems.
    pub(crate) fn done(&mut self) -> Result<(), ApiError> {
        let problems = self.problems();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ApiError::unprocessable(problems))
        }
    }
}
