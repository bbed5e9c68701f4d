//! Query parameters. Problems are gathered, and answered together as FastAPI does.

use isobar_store::lists::{Page, RealRange, TextMatch, TimeRange};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::problems::{Problem, lenient_time};
use crate::ApiError;

/// The parameters of one request.
#[derive(Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    problems: Vec<Value>,
}

impl Params {
    pub(crate) fn new(query: &str) -> Self {
        let decode = |part: &str| {
            percent_decode_str(&part.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        Self {
            pairs,
            problems: Vec::new(),
        }
    }

    fn raw(&self, name: &str) -> Option<String> {
        self.pairs
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    }

    fn problem(&mut self, name: &str, problem: Problem, input: &str) {
        self.problems
            .push(problem.at(vec!["query".into(), name.into()], &json!(input)));
    }

    /// Ends reading.
    ///
    /// # Errors
    /// 422 with all problems.
    pub(crate) fn done(&mut self) -> Result<(), ApiError> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ApiError::unprocessable(std::mem::take(&mut self.problems)))
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.raw(name)
    }

    /// A parameter that must be there.
    pub(crate) fn required_text(&mut self, name: &str) -> String {
        self.raw(name).unwrap_or_else(|| {
            self.problems
                .push(Problem::missing().at(vec!["query".into(), name.into()], &Value::Null));
            String::new()
        })
    }

    /// Every value of a repeated parameter.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.pairs
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    pub(crate) fn int(&mut self, name: &str) -> Option<i64> {
        let text = self.raw(name)?;
        let read = text.trim().parse().ok();
        if read.is_none() {
            self.problem(name, Problem::unreadable_int(), &text);
        }
        read
    }

    pub(crate) fn ints(&mut self, name: &str) -> Vec<i64> {
        let texts = self.texts(name);
        let mut read = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match text.trim().parse() {
                Ok(number) => read.push(number),
                Err(_) => self
                    .problems
                    .push(Problem::unreadable_int().at(vec!["query".into(), name.into(), index.into()], &json!(text))),
            }
        }
        read
    }

    fn natural(&mut self, name: &str, default: i64) -> i64 {
        let number = self.int(name).unwrap_or(default);
        if number < 0 {
            let text = self.raw(name).unwrap_or_default();
            self.problem(name, Problem::below(0), &text);
            return default;
        }
        number
    }

    /// A map index: -1 or more.
    pub(crate) fn index(&mut self, name: &str) -> Option<i64> {
        let number = self.int(name)?;
        if number < -1 {
            let text = self.raw(name).unwrap_or_default();
            self.problem(name, Problem::below(-1), &text);
            return None;
        }
        Some(number)
    }

    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let text = self.raw(name)?;
        let read = match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "on" | "t" => Some(true),
            "false" | "0" | "no" | "n" | "off" | "f" => Some(false),
            _ => None,
        };
        if read.is_none() {
            self.problem(name, Problem::unreadable_flag(), &text);
        }
        read
    }

    pub(crate) fn time(&mut self, name: &str) -> Option<Timestamp> {
        let text = self.raw(name)?;
        let read = lenient_time(&text).map(|(at, _)| at);
        if read.is_none() {
            self.problem(name, Problem::unreadable_time(&text), &text);
        }
        read
    }

    pub(crate) fn times(&mut self, name: &str) -> TimeRange {
        TimeRange {
            gte: self.time(&format!("{name}_gte")),
            gt: self.time(&format!("{name}_gt")),
            lte: self.time(&format!("{name}_lte")),
            lt: self.time(&format!("{name}_lt")),
        }
    }

    fn real(&mut self, name: &str) -> Option<f64> {
        let text = self.raw(name)?;
        let read = text.trim().parse().ok();
        if read.is_none() {
            self.problem(name, Problem::unreadable_real(), &text);
        }
        read
    }

    pub(crate) fn reals(&mut self, name: &str) -> RealRange {
        RealRange {
            gte: self.real(&format!("{name}_gte")),
            gt: self.real(&format!("{name}_gt")),
            lte: self.real(&format!("{name}_lte")),
            lt: self.real(&format!("{name}_lt")),
        }
    }

    /// `{stem}_pattern` and `{stem}_prefix_pattern`; `~` finds everything.
    pub(crate) fn matching(&self, stem: &str) -> TextMatch {
        TextMatch {
            pattern: self
                .raw(&format!("{stem}_pattern"))
                .map(|text| if text == "~" { "%".to_owned() } else { text }),
            prefix: self
                .raw(&format!("{stem}_prefix_pattern"))
                .map(|text| if text == "~" { String::new() } else { text }),
            alternatives: true,
        }
    }

    /// One of some words.
    pub(crate) fn word<T: std::str::FromStr>(&mut self, name: &str, words: &[&str]) -> Option<T> {
        let text = self.raw(name)?;
        let read = text.parse().ok();
        if read.is_none() {
            self.problem(name, Problem::not_member(words), &text);
        }
        read
    }

    /// One of the values of an enumeration that stays text.
    pub(crate) fn member(&mut self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.raw(name)?;
        let read = words.iter().find(|word| **word == text).copied();
        if read.is_none() {
            self.problem(name, Problem::not_member(words), &text);
        }
        read
    }

    /// One of some literals.
    pub(crate) fn literal(&mut self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.raw(name)?;
        let read = words.iter().find(|word| **word == text).copied();
        if read.is_none() {
            self.problem(name, Problem::not_literal(words), &text);
        }
        read
    }

    /// `limit` and `offset`.
    pub(crate) fn page(&mut self, fallback: u32, maximum: u32) -> Page {
        let limit = self.natural("limit", i64::from(fallback));
        let offset = self.natural("offset", 0);
        Page {
            limit: u32::try_from(limit).unwrap_or(u32::MAX).min(maximum),
            offset: u64::try_from(offset).unwrap_or(0),
        }
    }

    pub(crate) fn order_by(&self) -> Vec<String> {
        self.texts("order_by")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_gathered() {
        let mut params = Params::new("limit=x&offset=-1&paused=maybe&start_date_gte=nonsense");
        params.page(50, 100);
        params.flag("paused");
        params.times("start_date");
        let error = params.done().unwrap_err();
        let kinds: Vec<&str> = error
            .detail()
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| problem["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "int_parsing",
                "greater_than_equal",
                "bool_parsing",
                "datetime_from_date_parsing"
            ]
        );
    }

    #[test]
    fn values_are_decoded() {
        let params = Params::new("tags=a%20b&tags=c+d&x");
        assert_eq!(params.texts("tags"), ["a b", "c d"]);
        assert_eq!(params.text("x").as_deref(), Some(""));
    }
}
