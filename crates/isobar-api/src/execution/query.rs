//! Query parameters of the Execution API: repeated keys, numbers, dates, with refusals in the shape of validation errors.

use isobar_model::{AirflowTime, parse_time};
use isobar_wire::execution::Refusal;
use percent_encoding::percent_decode_str;
use serde_json::json;

/// The parameters of one request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(text: &str) -> Self {
        let decode = |part: &str| {
            percent_decode_str(&part.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key), decode(value))
            })
            .collect();
        Self(pairs)
    }

    /// The last value of a key, as FastAPI takes it; an empty one is none, since clients write `None` so.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn needed(&self, key: &str) -> Result<String, Refusal> {
        self.text(key).ok_or_else(|| invalid(key, "missing", "Field required"))
    }

    /// All values of a key; none where it is not given.
    pub(super) fn all(&self, key: &str) -> Option<Vec<String>> {
        let found: Vec<String> = self
            .0
            .iter()
            .filter(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
            .collect();
        (!found.is_empty()).then_some(found)
    }

    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Refusal> {
        self.text(key)
            .map(|text| {
                text.parse()
                    .map_err(|_| invalid(key, "int_parsing", "Input should be a valid integer"))
            })
            .transpose()
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, Refusal> {
        let Some(text) = self.text(key) else { return Ok(default) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "on" | "yes" | "t" | "y" => Ok(true),
            "false" | "0" | "off" | "no" | "f" | "n" => Ok(false),
            _ => Err(invalid(key, "bool_parsing", "Input should be a valid boolean")),
        }
    }

    pub(super) fn time(&self, key: &str) -> Result<Option<AirflowTime>, Refusal> {
        self.text(key).map(|text| time(key, &text)).transpose()
    }

    pub(super) fn times(&self, key: &str) -> Result<Option<Vec<AirflowTime>>, Refusal> {
        self.all(key)
            .map(|texts| texts.iter().map(|text| time(key, text)).collect())
            .transpose()
    }
}

fn time(key: &str, text: &str) -> Result<AirflowTime, Refusal> {
    parse_time(text).map(AirflowTime).ok_or_else(|| {
        invalid(
            key,
            "datetime_parsing",
            "Input should be a valid datetime with a timezone",
        )
    })
}

fn invalid(key: &str, kind: &str, message: &str) -> Refusal {
    Refusal::new(422, json!([{"type": kind, "loc": ["query", key], "msg": message}]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_repeat_and_dates_keep_their_plus() {
        let query = Query::read("run_ids=a&run_ids=b%20c&logical_date=2026-01-01T00%3A00%3A00%2B01%3A00&limit=5&x=");
        assert_eq!(query.all("run_ids"), Some(vec!["a".to_owned(), "b c".to_owned()]));
        assert_eq!(query.all("states"), None);
        let time = query.time("logical_date").unwrap().unwrap();
        assert_eq!(json!(time), "2025-12-31T23:00:00Z");
        assert_eq!(query.number::<u32>("limit").unwrap(), Some(5));
        assert_eq!(query.text("x"), None);
        assert_eq!(query.number::<u32>("run_ids").unwrap_err().status, 422);
    }
}
