//! What is never shown: values whose names say that they are secret.

use serde_json::{Map, Value};

/// Parts of names whose values Airflow hides.
pub(crate) const ALWAYS_SENSITIVE: [&str; 14] = [
    "access_token",
    "api_key",
    "apikey",
    "authorization",
    "keyfile_dict",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "secret",
    "secret_key",
    "service_account",
    "token",
    "proxy",
];
/// What stands in place of a hidden value.
pub(crate) const HIDDEN: &str = "***";

/// Whether a name says that its value is secret.
pub(crate) fn is_sensitive(name: &str, words: &[String]) -> bool {
    let name = name.trim().to_lowercase();
    words.iter().any(|word| name.contains(word.as_str()))
}

/// Hides secret values inside a JSON value that stands under a name.
pub(crate) fn hide(value: &Value, name: Option<&str>, words: &[String]) -> Value {
    if name.is_some_and(|name| is_sensitive(name, words)) {
        return hide_all(value);
    }
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), hide(value, Some(key), words)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => items.iter().map(|item| hide(item, None, words)).collect(),
        other => other.clone(),
    }
}

/// Hides every text inside; null and empty texts stay, as in Airflow.
fn hide_all(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), hide_all(value))).collect()),
        Value::Array(items) => items.iter().map(hide_all).collect(),
        Value::Null => Value::Null,
        Value::String(text) if text.is_empty() => value.clone(),
        _ => HIDDEN.into(),
    }
}
