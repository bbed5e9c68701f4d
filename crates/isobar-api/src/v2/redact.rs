//! What is never shown: values whose names say that they are secret.

use serde_json::{Map, Value};

/// What stands in place of a hidden value.
pub(crate) const HIDDEN: &str = "***";
/// Below so many levels of a hidden value everything is hidden, not texts alone.
const DEEPEST: usize = 5;

/// Whether a name says that its value is secret. Whatever is no letter, digit or underscore counts as an underscore.
pub(crate) fn is_sensitive(name: &str, words: &[String]) -> bool {
    let mut plain = String::with_capacity(name.len());
    let mut gap = false;
    for c in name.trim().to_lowercase().chars() {
        let word = c.is_alphanumeric() || c == '_';
        if word {
            plain.push(c);
        } else if !gap {
            plain.push('_');
        }
        gap = !word;
    }
    words.iter().any(|word| plain.contains(word.as_str()))
}

/// Hides secret values inside a JSON value that stands under a name.
pub(crate) fn hide(value: &Value, name: Option<&str>, words: &[String]) -> Value {
    hide_at(value, name, words, 0)
}

fn hide_at(value: &Value, name: Option<&str>, words: &[String], depth: usize) -> Value {
    if name.is_some_and(|name| !name.is_empty() && is_sensitive(name, words)) {
        return hide_all(value, depth);
    }
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), hide_at(value, Some(key), words, depth + 1)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => items.iter().map(|item| hide_at(item, None, words, depth + 1)).collect(),
        other => other.clone(),
    }
}

/// Hides every text inside. Numbers stay, as in Airflow.
fn hide_all(value: &Value, depth: usize) -> Value {
    match value {
        _ if depth > DEEPEST => HIDDEN.into(),
        Value::String(_) => HIDDEN.into(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), hide_all(value, depth + 1)))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(|item| hide_all(item, depth + 1)).collect(),
        other => other.clone(),
    }
}

/// What a caller sent over what was shown to them: a secret that came back hidden is the old one.
pub(crate) fn merge(new: &Value, old: &Value, name: Option<&str>, words: &[String]) -> Value {
    merge_at(new, old, name, words, 0, false)
}

fn merge_at(new: &Value, old: &Value, name: Option<&str>, words: &[String], depth: usize, inside: bool) -> Value {
    let came_back = new.as_str() == Some(HIDDEN);
    if depth > DEEPEST {
        return if came_back { old.clone() } else { new.clone() };
    }
    let secret = inside || name.is_some_and(|name| is_sensitive(name, words));
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => Value::Object(
            new.iter()
                .map(|(key, value)| {
                    let merged = old.get(key).map_or_else(
                        || value.clone(),
                        |old| merge_at(value, old, Some(key), words, depth + 1, secret),
                    );
                    (key.clone(), merged)
                })
                .collect(),
        ),
        (Value::Array(new), Value::Array(old)) => new
            .iter()
            .enumerate()
            .map(|(at, value)| {
                old.get(at).map_or_else(
                    || value.clone(),
                    |old| merge_at(value, old, None, words, depth + 1, secret),
                )
            })
            .collect(),
        _ if secret && came_back => old.clone(),
        _ => new.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words() -> Vec<String> {
        isobar_model::SENSITIVE_NAMES
            .iter()
            .map(|word| (*word).to_owned())
            .collect()
    }

    #[test]
    fn texts_under_telling_names_are_hidden_and_numbers_are_not() {
        let value = json!({"a": 1, "api-key": "x", "n": {"token": 3, "t": [{"secret": "s"}]}});
        assert_eq!(
            hide(&value, None, &words()),
            json!({"a": 1, "api-key": "***", "n": {"token": 3, "t": [{"secret": "***"}]}})
        );
        assert_eq!(hide(&json!(""), Some("my_secret"), &words()), json!("***"));
        assert_eq!(
            hide(&json!({"x": ["y", 1]}), Some("password"), &words()),
            json!({"x": ["***", 1]})
        );
    }

    #[test]
    fn what_came_back_hidden_is_the_old_secret() {
        let old = json!({"a": 1, "api_key": "x", "z": "kept"});
        let new = json!({"a": 2, "api_key": "***", "z": "***", "token": "***"});
        assert_eq!(
            merge(&new, &old, None, &words()),
            json!({"a": 2, "api_key": "x", "z": "***", "token": "***"})
        );
        assert_eq!(
            merge(&json!("***"), &json!("old"), Some("password"), &words()),
            json!("old")
        );
    }
}
