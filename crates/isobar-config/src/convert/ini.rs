//! The dialect of `airflow.cfg`: Python's `configparser` with its `%(name)s`, over which Airflow replaces `$NAME` and `~`.

use std::collections::BTreeMap;

use super::Conversion;

/// Why the file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IniError {
    /// A key before any section.
    #[error(
        "line {0}: this stands in no section\n  hint: is it an `airflow.cfg`? Its first line is a header such as `[core]`"
    )]
    NoSection(usize),
    /// Neither a header nor a key.
    #[error("line {0}: this is neither `[section]` nor `key = value`\n  hint: a value of several lines is indented")]
    NotAKey(usize),
    /// Said twice; Airflow refuses that, too.
    #[error(
        "line {line}: `{what}` stands there twice\n  hint: keep the one that is meant; Airflow refuses the file, too"
    )]
    Twice {
        /// The second place.
        line: usize,
        /// The section, or the key with its section.
        what: String,
    },
}

/// Sections with their keys, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Ini {
    sections: Vec<(String, Vec<(String, String)>)>,
    environment: BTreeMap<String, String>,
    /// Values of `AIRFLOW__SECTION__KEY`, which know no `%(name)s`.
    overlaid: BTreeMap<(String, String), String>,
}

/// As deep as Python goes.
const DEEPEST: usize = 10;

impl Ini {
    pub(super) fn read(conversion: &Conversion) -> Result<Self, IniError> {
        let mut ini = Self {
            environment: conversion.environment.clone(),
            ..Self::default()
        };
        let home = conversion.airflow_home.display().to_string();
        ini.environment.entry("AIRFLOW_HOME".to_owned()).or_insert(home);
        ini.parse(&conversion.text)?;
        if conversion.with_environment {
            ini.overlay(&conversion.environment);
        }
        Ok(ini)
    }

    fn parse(&mut self, text: &str) -> Result<(), IniError> {
        let mut indent = 0;
        let mut in_value = false;
        for (number, line) in (1..).zip(text.lines()) {
            let value = line.trim();
            let is_comment = value.starts_with(['#', ';']);
            if value.is_empty() || is_comment {
                if let Some(last) = self.last_value().filter(|_| in_value && !is_comment) {
                    last.push('\n');
                }
                continue;
            }
            let deep = line.chars().take_while(|c| c.is_whitespace()).count();
            if in_value && deep > indent {
                if let Some(last) = self.last_value() {
                    last.push('\n');
                    last.push_str(value);
                }
                continue;
            }
            indent = deep;
            in_value = false;
            if let Some(name) = header(value) {
                if self.section(name).is_some() {
                    return Err(IniError::Twice {
                        line: number,
                        what: format!("[{name}]"),
                    });
                }
                self.sections.push((name.to_owned(), Vec::new()));
                continue;
            }
            let Some((section, keys)) = self.sections.last_mut() else {
                return Err(IniError::NoSection(number));
            };
            let Some((key, value)) = value.split_once(['=', ':']).filter(|(key, _)| !key.trim().is_empty()) else {
                return Err(IniError::NotAKey(number));
            };
            let key = key.trim_end();
            if keys.iter().any(|(known, _)| known == key) {
                return Err(IniError::Twice {
                    line: number,
                    what: format!("[{section}] {key}"),
                });
            }
            keys.push((key.to_owned(), value.trim().to_owned()));
            in_value = true;
        }
        for (_, value) in self.sections.iter_mut().flat_map(|(_, keys)| keys) {
            value.truncate(value.trim_end().len());
        }
        Ok(())
    }

    fn last_value(&mut self) -> Option<&mut String> {
        let (_, keys) = self.sections.last_mut()?;
        keys.last_mut().map(|(_, value)| value)
    }

    fn section(&self, name: &str) -> Option<&[(String, String)]> {
        let found = self.sections.iter().find(|(known, _)| known == name);
        found.map(|(_, keys)| keys.as_slice())
    }

    /// `AIRFLOW__SECTION__KEY` and `AIRFLOW__TEAM___SECTION__KEY`. A `.` of a section is `_` there, so the name is
    /// looked up among the sections that are known.
    fn overlay(&mut self, environment: &BTreeMap<String, String>) {
        for (name, text) in environment {
            let Some(rest) = name.strip_prefix("AIRFLOW__") else {
                continue;
            };
            let (team, rest) = match rest.split_once("___") {
                Some((team, rest)) => (Some(team), rest),
                None => (None, rest),
            };
            let Some((section, key)) = rest.split_once("__") else {
                continue;
            };
            let dotted = super::known_keys()
                .map(|known| known.section)
                .find(|known| known.replace('.', "_").eq_ignore_ascii_case(section));
            let section = dotted.map_or_else(|| section.to_ascii_lowercase(), str::to_owned);
            let section = match team {
                None => section,
                Some(team) => format!("{}={section}", self.team_spelling(team)),
            };
            let key = key.to_ascii_lowercase();
            match self.sections.iter_mut().find(|(known, _)| *known == section) {
                Some((_, keys)) if keys.iter().any(|(known, _)| *known == key) => {}
                Some((_, keys)) => keys.push((key.clone(), String::new())),
                None => self
                    .sections
                    .push((section.clone(), vec![(key.clone(), String::new())])),
            }
            self.overlaid.insert((section, key), text.clone());
        }
    }

    /// The team as the file spells it; upper case is all that a variable keeps.
    fn team_spelling(&self, upper: &str) -> String {
        let in_headers = self
            .sections
            .iter()
            .filter_map(|(name, _)| Some(name.split_once('=')?.0));
        let executors = self.raw("core", "executor").unwrap_or_default();
        let in_executors = executors
            .split(';')
            .filter_map(|part| Some(part.split_once('=')?.0.trim()));
        let mut all = in_headers.chain(in_executors);
        all.find(|team| team.to_uppercase() == upper)
            .map_or_else(|| upper.to_ascii_lowercase(), str::to_owned)
    }

    /// All keys, in the order of the file.
    pub(super) fn keys(&self) -> Vec<(String, String)> {
        let all = self.sections.iter().filter(|(name, _)| name != "DEFAULT");
        all.flat_map(|(section, keys)| keys.iter().map(|(key, _)| (section.clone(), key.clone())))
            .collect()
    }

    fn raw(&self, section: &str, key: &str) -> Option<&str> {
        let place = (section.to_owned(), key.to_owned());
        if let Some(text) = self.overlaid.get(&place) {
            return Some(text);
        }
        [section, "DEFAULT"].iter().find_map(|section| {
            let (_, value) = self.section(section)?.iter().find(|(known, _)| known == key)?;
            Some(value.as_str())
        })
    }

    /// The value as Airflow reads it. None: not there, or not readable.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<String> {
        let place = (section.to_owned(), key.to_owned());
        let text = match self.overlaid.get(&place) {
            Some(text) => text.clone(),
            None => self.interpolated(section, self.raw(section, key)?, 0)?,
        };
        Some(self.expanded(text))
    }

    fn interpolated(&self, section: &str, text: &str, depth: usize) -> Option<String> {
        if depth > DEEPEST {
            return None;
        }
        let mut done = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            done.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                done.push('%');
                rest = after;
            } else {
                let (name, after) = rest.strip_prefix('(')?.split_once(")s")?;
                done.push_str(&self.interpolated(section, self.raw(section, name)?, depth + 1)?);
                rest = after;
            }
        }
        done.push_str(rest);
        Some(done)
    }

    /// `$NAME`, `${NAME}` and a leading `~/`, again and again until nothing changes; unknown names stay as they are.
    fn expanded(&self, mut text: String) -> String {
        for _ in 0..DEEPEST {
            let next = self.expanded_once(&text);
            if next == text {
                break;
            }
            text = next;
        }
        text
    }

    fn expanded_once(&self, text: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            done.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (name, length) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
                Some((name, _)) => (name, name.len() + 2),
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    let name = &after[..end.unwrap_or(after.len())];
                    (name, name.len())
                }
            };
            match self.environment.get(name).filter(|_| !name.is_empty()) {
                Some(value) => done.push_str(value),
                None => done.push_str(&rest[at..=at + length]),
            }
            rest = &after[length..];
        }
        done.push_str(rest);
        match (done.strip_prefix('~'), self.environment.get("HOME")) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
            _ => done,
        }
    }
}

/// Python takes everything up to the last bracket.
fn header(line: &str) -> Option<&str> {
    let inner = line.strip_prefix('[')?;
    let (name, _) = inner.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Ini, IniError> {
        Ini::read(&Conversion {
            text: text.to_owned(),
            file: "airflow.cfg".into(),
            airflow_home: "/opt/airflow".into(),
            environment: [
                ("HOME", "/home/ana"),
                ("BASE", "${HOME}/x"),
                ("AIRFLOW__CORE__DAGS_FOLDER", "/env"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            with_environment: false,
        })
    }

    #[test]
    fn a_file_is_read_as_python_and_airflow_read_it() {
        let text = "[DEFAULT]\nroot = /srv\n[core]\n# a comment\ndags_folder: %(root)s/dags ; kept\nlist = [\n    1,\n\n    # gone\n    2]\nshare = 5%%\n\
            home = ~/dags\nenv = $BASE/$NOBODY/${AIRFLOW_HOME}\nbad = 5%\nempty =\nequals = a=b\n";
        let ini = read(text).unwrap();
        let get = |key| ini.get("core", key);
        assert_eq!(get("dags_folder").as_deref(), Some("/srv/dags ; kept"));
        assert_eq!(get("list").as_deref(), Some("[\n1,\n\n2]"));
        assert_eq!(get("share").as_deref(), Some("5%"));
        assert_eq!(get("home").as_deref(), Some("/home/ana/dags"));
        assert_eq!(get("env").as_deref(), Some("/home/ana/x/$NOBODY//opt/airflow"));
        assert_eq!(get("bad"), None);
        assert_eq!(get("empty").as_deref(), Some(""));
        assert_eq!(get("equals").as_deref(), Some("a=b"));
    }

    #[test]
    fn what_python_refuses_is_refused_with_its_line() {
        let refused = |text| read(text).unwrap_err();
        assert_eq!(refused("a = 1\n"), IniError::NoSection(1));
        assert_eq!(refused("[core]\nwhat\n"), IniError::NotAKey(2));
        let twice = |line, what: &str| IniError::Twice {
            line,
            what: what.to_owned(),
        };
        assert_eq!(refused("[core]\na = 1\na = 2\n"), twice(3, "[core] a"));
        assert_eq!(refused("[core]\n[core]\n"), twice(2, "[core]"));
    }
}
