//! Reads one table key by key, with types, and notes what was known, what was wrong and where each value came from.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use crate::indirection::{fetch_secret, run_command};
use crate::problem::{Origin, suggest};
pub(crate) use crate::reading::{Placed, Reading};
use crate::tree::{Entry, Node, Table, Value};
use crate::wording::{as_json_text, as_text, quote, quote_key, render_duration, render_list, texts_of};

/// Reads one table. Every key it is asked for counts as known; the rest are faults when it is done.
pub(crate) struct Reader<'a> {
    pub(crate) reading: &'a Reading,
    table: &'a Table,
    /// Where the table begins.
    pub(crate) at: &'a Origin,
    /// `[core]` or `[[team]]`
    header: String,
    section: usize,
    known: RefCell<Vec<String>>,
}

static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::default);
static NOWHERE: Origin = Origin::Default;

impl<'a> Reader<'a> {
    pub(crate) fn new(reading: &'a Reading, table: &'a Table, at: &'a Origin, header: &str) -> Self {
        let section = reading.shown.borrow_mut().open(header);
        Self {
            reading,
            table,
            at,
            header: header.to_owned(),
            section,
            known: RefCell::default(),
        }
    }

    /// Notes a fault of this table as a whole.
    pub(crate) fn problem(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.reading.problem(self.at, what, hint);
    }

    /// Notes a fault of one key's value, or of the table where the key is not written.
    pub(crate) fn problem_at(&self, key: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.reading.problem(self.place_of(key), what, hint);
    }

    /// Where a key's value stands, or the table where it does not.
    pub(crate) fn place_of(&self, key: &str) -> &'a Origin {
        self.table.get(key).map_or(self.at, |entry| &entry.node.origin)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        [key, &format!("{key}_cmd"), &format!("{key}_secret")]
            .iter()
            .any(|key| self.table.get(key).is_some())
    }

    fn learn(&self, key: &str) {
        let mut known = self.known.borrow_mut();
        if !known.iter().any(|known| known == key) {
            known.push(key.to_owned());
        }
    }

    /// The raw value of a key, without `_cmd` and `_secret`.
    pub(crate) fn raw(&self, key: &str) -> Option<&'a Node> {
        let is_new = !self.known.borrow().iter().any(|known| known == key);
        for suffix in ["cmd", "secret"].into_iter().filter(|_| is_new) {
            if let Some(entry) = self.table.get(&format!("{key}_{suffix}")) {
                self.reading.problem(
                    &entry.key_origin,
                    format!("`{key}` cannot be given by `{}`", entry.key),
                    format!("write `{key}` itself here"),
                );
            }
        }
        self.learn(key);
        self.table.get(key).map(|entry| &entry.node)
    }

    /// The value of a key; fetched where it is given by command or secret, and then never shown.
    fn value(&self, key: &str) -> Option<(Node, bool)> {
        self.learn(key);
        let (command_key, secret_key) = (format!("{key}_cmd"), format!("{key}_secret"));
        let given: Vec<&Entry> = [key, &command_key, &secret_key]
            .iter()
            .filter_map(|key| self.table.get(key))
            .collect();
        let entry = *given.first()?;
        if let [first, second, ..] = given[..] {
            self.reading.problem(
                &second.key_origin,
                format!("`{key}` is given twice: `{}` and `{}`", first.key, second.key),
                "keep one of them",
            );
        }
        if entry.key == key {
            return Some((entry.node.clone(), false));
        }
        let Value::Text(source) = &entry.node.value else {
            self.wrong_type(&entry.key, &entry.node, "a text");
            return None;
        };
        self.fetch(&entry.node.origin, key, source, entry.key == command_key)
            .map(|node| (node, true))
    }

    fn fetch(&self, at: &Origin, key: &str, source: &str, by_command: bool) -> Option<Node> {
        let surroundings = &self.reading.surroundings;
        let fetched = if by_command {
            run_command(surroundings, source)
        } else {
            fetch_secret(surroundings, source)
        };
        match fetched {
            Ok(text) => Some(Node {
                value: Value::Text(text),
                origin: Origin::Fetched(Arc::new(at.clone())),
            }),
            Err((what, hint)) => {
                self.reading
                    .problem(at, format!("`{key}` could not be fetched: {what}"), hint);
                None
            }
        }
    }

    fn wrong_type(&self, key: &str, node: &Node, wanted: &str) {
        let hint = match (&node.value, wanted) {
            _ if node.origin.is_untyped() => format!("give `{key}` {wanted}"),
            (Value::Text(_), "a whole number" | "true or false") => "write it without quotes".to_owned(),
            (Value::Integer(_) | Value::Float(_) | Value::Bool(_), "a text") => "put it in quotes".to_owned(),
            (_, "a list of texts") => format!("write `{key} = [\"one\", \"two\"]`"),
            (_, "a table") => format!("write it as a section `[{key}]`"),
            _ => format!("give `{key}` {wanted}"),
        };
        self.reading.problem(
            &node.origin,
            format!("`{key}` in `{}` must be {wanted}, not {}", self.header, node.kind()),
            hint,
        );
    }

    pub(crate) fn show(&self, key: &str, rendered: &str, origin: &Origin) {
        self.reading
            .shown
            .borrow_mut()
            .line(self.section, key, rendered, origin);
    }

    /// Shows a value that the reader itself did not read.
    pub(crate) fn show_value(&self, key: &str, rendered: &str) {
        self.show(key, rendered, self.place_of(key));
    }

    fn read<T>(
        &self,
        key: &str,
        wanted: &str,
        convert: impl Fn(&Node) -> Option<T>,
        render: impl Fn(&T) -> String,
    ) -> Option<Placed<T>> {
        let (node, fetched) = self.value(key)?;
        let Some(value) = convert(&node) else {
            self.wrong_type(key, &node, wanted);
            return None;
        };
        self.show(
            key,
            &if fetched { "\"***\"".to_owned() } else { render(&value) },
            &node.origin,
        );
        Some(Placed { value, at: node.origin })
    }

    /// True or false.
    pub(crate) fn bool(&self, key: &str, default: bool) -> bool {
        let convert = |node: &Node| match &node.value {
            Value::Bool(truth) => Some(*truth),
            Value::Text(text) if node.origin.is_untyped() => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "t" | "1" | "yes" | "on" => Some(true),
                "false" | "f" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        self.or_default(
            key,
            self.read(key, "true or false", convert, bool::to_string),
            default,
            bool::to_string,
        )
    }

    fn or_default<T>(&self, key: &str, read: Option<Placed<T>>, default: T, render: impl Fn(&T) -> String) -> T {
        read.map_or_else(
            || {
                if !self.has(key) {
                    self.show(key, &render(&default), &Origin::Default);
                }
                default
            },
            |placed| placed.value,
        )
    }

    /// A whole number within bounds, where it is written.
    pub(crate) fn number(&self, key: &str, least: i64, most: i64) -> Option<Placed<i64>> {
        let convert = |node: &Node| match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) if node.origin.is_untyped() => text.trim().parse().ok(),
            _ => None,
        };
        let placed = self.read(key, "a whole number", convert, i64::to_string)?;
        if (least..=most).contains(&placed.value) {
            return Some(placed);
        }
        let bounds = if most >= i64::from(i32::MAX) {
            format!("{least} or more")
        } else {
            format!("{least} to {most}")
        };
        self.reading.problem(
            &placed.at,
            format!("`{key}` in `{}` is {}, out of bounds", self.header, placed.value),
            format!("give a whole number, {bounds}"),
        );
        None
    }

    /// A count, with a default.
    pub(crate) fn count(&self, key: &str, least: u32, default: u32) -> u32 {
        let read = self.number(key, i64::from(least), i64::from(i32::MAX));
        let read = read.map(|placed| Placed {
            value: u32::try_from(placed.value).expect("checked against bounds inside u32"),
            at: placed.at,
        });
        self.or_default(key, read, default, u32::to_string)
    }

    /// A count, where it is written.
    pub(crate) fn optional_count(&self, key: &str, least: u32) -> Option<u32> {
        let placed = self.number(key, i64::from(least), i64::from(i32::MAX))?;
        u32::try_from(placed.value).ok()
    }

    /// A length of time, where it is written: seconds, or a text such as `"90s"`, `"5m"`, `"1h30m"`.
    pub(crate) fn optional_duration(&self, key: &str) -> Option<std::time::Duration> {
        let convert = |node: &Node| match &node.value {
            Value::Integer(seconds) => u64::try_from(*seconds).ok().map(std::time::Duration::from_secs),
            Value::Float(seconds) => std::time::Duration::try_from_secs_f64(*seconds).ok(),
            Value::Text(text) => match text.trim().parse::<f64>() {
                Ok(seconds) => std::time::Duration::try_from_secs_f64(seconds).ok(),
                Err(_) => text
                    .parse::<jiff::SignedDuration>()
                    .ok()
                    .and_then(|span| span.try_into().ok()),
            },
            _ => None,
        };
        // A century bounds every sum of instant and duration.
        let bounded = |node: &Node| convert(node).filter(|length| length.as_secs() < 3_200_000_000);
        self.read(key, "a time such as 30 (seconds) or \"5m\"", bounded, render_duration)
            .map(|placed| placed.value)
    }

    /// A length of time, with a default.
    pub(crate) fn duration(&self, key: &str, default: std::time::Duration) -> std::time::Duration {
        let read = self.optional_duration(key);
        if read.is_none() && !self.has(key) {
            self.show(key, &render_duration(&default), &Origin::Default);
        }
        read.unwrap_or(default)
    }

    /// A text, where it is written; empty counts as a fault.
    pub(crate) fn text(&self, key: &str) -> Option<Placed<String>> {
        let placed = self.read(key, "a text", as_text, |text| quote(text))?;
        if placed.value.trim().is_empty() {
            self.reading.problem(
                &placed.at,
                format!("`{key}` in `{}` is empty", self.header),
                "write something, or leave the key out",
            );
            return None;
        }
        Some(placed)
    }

    /// A text, with a default.
    pub(crate) fn text_or(&self, key: &str, default: &str) -> String {
        self.or_default(key, self.text(key), default.to_owned(), |text| quote(text))
    }

    /// A text that is never shown.
    pub(crate) fn secret(&self, key: &str) -> Option<Placed<String>> {
        self.read(key, "a text", as_text, |_| "\"***\"".to_owned())
    }

    /// One of several words, where it is written.
    pub(crate) fn optional_choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let placed = self.text(key)?;
        let chosen = choices
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(&placed.value));
        if chosen.is_none() {
            // What was fetched may be a secret in the wrong place.
            let written = if matches!(placed.at, Origin::Fetched(_)) {
                "***"
            } else {
                &placed.value
            };
            self.reading.problem(
                &placed.at,
                format!("`{key}` in `{}` cannot be `{written}`", self.header),
                suggest(&placed.value, choices.iter().map(|(word, _)| *word)),
            );
        }
        chosen.map(|(_, choice)| *choice)
    }

    /// One of several words; the default is written as a word too.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: &str, fallback: T) -> T {
        let read = self.optional_choice(key, choices);
        if read.is_none() && !self.has(key) {
            self.show(key, &quote(default), &Origin::Default);
        }
        read.unwrap_or(fallback)
    }

    /// One text or a list of texts, each with its place.
    pub(crate) fn texts(&self, key: &str) -> Option<Vec<Placed<String>>> {
        let convert = |node: &Node| match &node.value {
            Value::Text(text) if node.origin.is_untyped() && text.trim_start().starts_with('[') => {
                texts_of(&crate::tree::parse_value(&node.origin, text)?, &node.origin)
            }
            Value::Text(text) if node.origin.is_untyped() => Some(
                (text.split(',').map(str::trim).filter(|part| !part.is_empty()))
                    .map(|part| Placed {
                        value: part.to_owned(),
                        at: node.origin.clone(),
                    })
                    .collect(),
            ),
            value => texts_of(value, &node.origin),
        };
        let render = |list: &Vec<Placed<String>>| render_list(list.iter().map(|placed| placed.value.as_str()));
        self.read(key, "a list of texts", convert, render)
            .map(|placed| placed.value)
    }

    /// An absolute path, where it is written.
    pub(crate) fn optional_path(&self, key: &str) -> Option<Placed<PathBuf>> {
        let placed = self.text(key)?;
        Some(Placed {
            value: self.reading.resolve(&placed.value, &placed.at),
            at: placed.at,
        })
    }

    /// An absolute path, with a default.
    pub(crate) fn path(&self, key: &str, default: PathBuf) -> PathBuf {
        let read = self.optional_path(key);
        self.or_default(key, read, default, |path| quote(&path.to_string_lossy()))
    }

    /// One path or several, absolute.
    pub(crate) fn paths(&self, key: &str) -> Vec<Placed<PathBuf>> {
        let texts = self.texts(key).unwrap_or_default();
        texts
            .into_iter()
            .filter_map(|placed| {
                if placed.value.trim().is_empty() {
                    self.reading
                        .problem(&placed.at, format!("`{key}` names an empty path"), "write a path");
                    return None;
                }
                Some(Placed {
                    value: self.reading.resolve(&placed.value, &placed.at),
                    at: placed.at,
                })
            })
            .collect()
    }

    /// A section below this one; an empty one where it is not written.
    pub(crate) fn section(&self, key: &str, header: &str) -> Reader<'a> {
        match self.raw(key) {
            Some(Node {
                value: Value::Table(table),
                origin,
            }) => Reader::new(self.reading, table, origin, header),
            Some(node) => {
                self.wrong_type(key, node, "a table");
                Reader::new(self.reading, &EMPTY, &node.origin, header)
            }
            None => Reader::new(self.reading, &EMPTY, &NOWHERE, header),
        }
    }

    /// The tables of `[[key]]`; each must be opened with [`Reader::new`] when its turn comes.
    pub(crate) fn tables(&self, key: &str) -> Vec<(&'a Table, &'a Origin)> {
        let Some(node) = self.raw(key) else { return Vec::new() };
        let tables = node.tables();
        if tables.is_none() {
            self.reading.problem(
                &node.origin,
                format!("`{key}` must be one or several tables, not {}", node.kind()),
                format!("write `[[{key}]]`"),
            );
        }
        tables.unwrap_or_default()
    }

    /// Every entry of a table whose keys are free.
    pub(crate) fn free_entries(&self) -> Vec<&'a Entry> {
        self.table.entries().inspect(|entry| self.learn(&entry.key)).collect()
    }

    /// A free entry's text: plain, or `{ cmd = … }`, `{ secret = … }`, `{ path = … }`; never shown.
    pub(crate) fn free_secret(&self, entry: &Entry) -> Option<Placed<String>> {
        if let Value::Table(inner) = &entry.node.value {
            if let (Some(path), 1) = (inner.text("path"), inner.entries().count()) {
                let path = self
                    .reading
                    .resolve(path, &entry.node.origin)
                    .to_string_lossy()
                    .into_owned();
                self.show(&quote_key(&entry.key), &quote(&path), &entry.node.origin);
                return Some(Placed {
                    value: path,
                    at: entry.node.origin.clone(),
                });
            }
            for (word, by_command) in [("cmd", true), ("secret", false)] {
                if let (Some(source), 1) = (inner.text(word), inner.entries().count()) {
                    let node = self.fetch(&entry.node.origin, &entry.key, source, by_command)?;
                    self.show(&quote_key(&entry.key), "\"***\"", &entry.node.origin);
                    return as_text(&node).map(|value| Placed {
                        value,
                        at: entry.node.origin.clone(),
                    });
                }
            }
        }
        self.show(&quote_key(&entry.key), "\"***\"", &entry.node.origin);
        Some(Placed {
            value: as_json_text(&entry.node),
            at: entry.node.origin.clone(),
        })
    }

    /// Stops here without complaint about the keys that were not asked for.
    pub(crate) fn forgive(self) {
        let _ = self;
    }

    /// Complains about every key that was not asked for.
    pub(crate) fn finish(self) {
        let known = self.known.borrow();
        for entry in self.table.entries() {
            let plain = ["_cmd", "_secret"]
                .iter()
                .find_map(|suffix| entry.key.strip_suffix(suffix));
            let asked = |key: &str| known.iter().any(|known| known == key);
            if asked(&entry.key) || plain.is_some_and(asked) {
                continue;
            }
            let place = if self.header.is_empty() {
                "the file".to_owned()
            } else {
                format!("`{}`", self.header)
            };
            self.reading.problem(
                &entry.key_origin,
                format!("unknown key `{}` in {place}", entry.key),
                suggest(&entry.key, known.iter().map(String::as_str)),
            );
        }
    }
}
