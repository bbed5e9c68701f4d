//! Values as texts: as TOML writes them, and as Airflow keeps them.

use crate::problem::Origin;
use crate::reading::Placed;
use crate::tree::{Node, Value};

/// The text, where the value is one.
pub(crate) fn as_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

pub(crate) fn texts_of(value: &Value, origin: &Origin) -> Option<Vec<Placed<String>>> {
    match value {
        Value::Text(text) => Some(vec![Placed {
            value: text.clone(),
            at: origin.clone(),
        }]),
        Value::List(items) => items
            .iter()
            .map(|item| {
                as_text(item).map(|value| Placed {
                    value,
                    at: item.origin.clone(),
                })
            })
            .collect(),
        _ => None,
    }
}

/// A free value as Airflow keeps it: texts as they are, everything else as JSON.
pub(crate) fn as_json_text(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => text.clone(),
        _ => as_json(node).to_string(),
    }
}

pub(crate) fn as_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Text(text) | Value::Time(text) => text.clone().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number).map_or(serde_json::Value::Null, Into::into),
        Value::Bool(truth) => (*truth).into(),
        Value::List(items) => items.iter().map(as_json).collect(),
        Value::Table(table) => serde_json::Value::Object(
            table
                .entries()
                .map(|entry| (entry.key.clone(), as_json(&entry.node)))
                .collect(),
        ),
    }
}

/// A text as TOML writes it.
pub(crate) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A key as TOML writes it.
pub(crate) fn quote_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { key.to_owned() } else { quote(key) }
}

/// A list of texts as TOML writes it.
pub(crate) fn render_list<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    format!("[{}]", texts.map(quote).collect::<Vec<_>>().join(", "))
}

/// A length of time in seconds.
pub(crate) fn render_duration(length: &std::time::Duration) -> String {
    let seconds = length.as_secs_f64();
    if length.subsec_nanos() == 0 {
        length.as_secs().to_string()
    } else {
        seconds.to_string()
    }
}
