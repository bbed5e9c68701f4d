//! A configuration before it means anything: values, each with the place it came from.

use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::problem::{Origin, Problem};

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// What a value can be.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A date or time, which no key wants.
    Time(String),
    List(Vec<Node>),
    Table(Table),
}

impl Node {
    /// A text that an environment variable holds.
    pub(crate) fn from_environment(name: &str, text: &str) -> Self {
        Self {
            value: Value::Text(text.to_owned()),
            origin: Origin::Environment(name.into()),
        }
    }

    /// The kind of value, as a person would say it.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Bool(_) => "true or false",
            Value::Time(_) => "a date or time",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// The tables that stand here: `[x]` counts as one, `[[x]]` as many.
    pub(crate) fn tables(&self) -> Option<Vec<(&Table, &Origin)>> {
        match &self.value {
            Value::Table(table) => Some(vec![(table, &self.origin)]),
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Table(table) => Some((table, &item.origin)),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }
}

/// Keys and values in the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(Vec<Entry>);

/// One key of a table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) key_origin: Origin,
    pub(crate) node: Node,
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.key == key)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut()
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        let position = self.0.iter().position(|entry| entry.key == key)?;
        Some(self.0.remove(position))
    }

    /// Puts a value in, over one that is there.
    pub(crate) fn set(&mut self, key: &str, node: Node) {
        let entry = Entry {
            key: key.to_owned(),
            key_origin: node.origin.clone(),
            node,
        };
        self.put(entry);
    }

    /// Puts an entry in, over one that is there.
    pub(crate) fn put(&mut self, entry: Entry) {
        match self.get_mut(&entry.key) {
            Some(present) => *present = entry,
            None => self.0.push(entry),
        }
    }

    /// The text under a key, where there is one.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.node.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads TOML, or says everything that is wrong with its grammar.
pub(crate) fn parse_toml(file: &Arc<Path>, text: &str) -> Result<Table, Vec<Problem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table(file, text, root.get_ref()));
    }
    let problems = errors.iter().map(|error| {
        let span = error.span().unwrap_or_default();
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        Problem {
            at: Origin::in_text(file, text, span.start),
            hint: grammar_hint(&message).to_owned(),
            what: message,
        }
    });
    Err(problems.collect())
}

/// Reads one TOML value that stands alone, as an environment variable may hold.
pub(crate) fn parse_value(origin: &Origin, text: &str) -> Option<Value> {
    let file: Arc<Path> = Path::new("").into();
    let parsed = DeValue::parse(text).ok()?;
    let mut node = node(&file, text, parsed.get_ref(), 0);
    replace_origin(&mut node, origin);
    Some(node.value)
}

fn replace_origin(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| replace_origin(item, origin)),
        Value::Table(table) => {
            for entry in table.entries_mut() {
                entry.key_origin = origin.clone();
                replace_origin(&mut entry.node, origin);
            }
        }
        _ => {}
    }
}

fn grammar_hint(message: &str) -> &'static str {
    if message.contains("quoted") || message.contains("bare") || message.contains("literal") {
        "in TOML a text stands in quotes: `key = \"text\"`"
    } else if message.contains("duplicate") {
        "keep one of the two; what may stand several times is written `[[name]]`"
    } else if message.contains("unclosed") || message.contains("missing") {
        "close what is open: every `\"`, `[` and `{` needs its partner, and every key its `= value`"
    } else {
        "TOML has lines such as `key = \"text\"`, sections `[name]` and repeated sections `[[name]]`: https://toml.io"
    }
}

fn table(file: &Arc<Path>, text: &str, source: &DeTable<'_>) -> Table {
    let mut entries: Vec<_> = source.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries.into_iter().map(|(key, value)| Entry {
        key: key.get_ref().to_string(),
        key_origin: Origin::in_text(file, text, key.span().start),
        node: node(file, text, value.get_ref(), value.span().start),
    });
    Table(entries.collect())
}

fn node(file: &Arc<Path>, text: &str, source: &DeValue<'_>, start: usize) -> Node {
    let value = match source {
        DeValue::String(string) => Value::Text(string.to_string()),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Float(digits.as_str().parse().unwrap_or(f64::INFINITY)),
        },
        DeValue::Float(digits) => Value::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| node(file, text, item.get_ref(), item.span().start))
                .collect(),
        ),
        DeValue::Table(inner) => Value::Table(table(file, text, inner)),
    };
    Node {
        value,
        origin: Origin::in_text(file, text, start),
    }
}
