//! Hiding secrets in what children print and log, as Airflow's secrets masker does.
//!
//! The child does not mask what it sends to its supervisor, so this is a wall and not a convenience. Where Airflow stops
//! (patterns in values nested more than five deep, tokens inside exceptions) this one does not.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use isobar_config::Config;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// What stands in a secret's place.
const MASK: &str = "***";
/// Never masked: it is Airflow's default password and in every other line.
const SKIPPED: &str = "airflow";
/// A compiled pattern of more bytes than this is not worth its memory; plain search takes over.
const COMPILED_LIMIT: usize = 32 << 20;

/// A token of three base64 parts begins with `{"`, which is `eyJ`.
static TOKEN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"eyJ[.A-Za-z0-9_-]*").expect("the pattern is a constant that compiles"));
static NOT_WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\W+").expect("the pattern is a constant that compiles"));

/// What counts as secret.
#[derive(Clone, Debug)]
pub struct MaskerConfig {
    /// `[core] hide_sensitive_var_conn_fields`: whether a sensitive name hides its value.
    pub hide_sensitive_names: bool,
    /// `[core] sensitive_var_conn_names`: words beyond Airflow's own, in lower case.
    pub more_sensitive_names: Vec<String>,
    /// `[logging] min_length_masked_secret`: shorter values are not masked, in characters.
    pub min_length: usize,
}

impl MaskerConfig {
    /// What the configuration says.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self {
            hide_sensitive_names: config.core.hide_sensitive_var_conn_fields,
            more_sensitive_names: config.core.sensitive_var_conn_names.clone(),
            min_length: config.logging.min_length_masked_secret as usize,
        }
    }
}

impl Default for MaskerConfig {
    fn default() -> Self {
        Self {
            hide_sensitive_names: true,
            more_sensitive_names: Vec::new(),
            min_length: 5,
        }
    }
}

/// The secrets that one child has seen. Each child has its own.
#[derive(Debug, Default)]
pub struct Masker {
    config: MaskerConfig,
    secrets: Mutex<Secrets>,
}

#[derive(Debug, Default)]
struct Secrets {
    known: BTreeSet<String>,
    finder: Finder,
}

#[derive(Debug, Default)]
enum Finder {
    #[default]
    Nothing,
    /// Secrets were added since.
    Stale,
    Pattern(Regex),
    /// Longest first.
    Plain(Vec<String>),
}

impl Masker {
    /// A masker that knows no secret yet.
    #[must_use]
    pub fn new(config: MaskerConfig) -> Self {
        Self {
            config,
            secrets: Mutex::default(),
        }
    }

    /// Whether the value under this name is secret by its name.
    #[must_use]
    pub fn is_sensitive(&self, name: &str) -> bool {
        if !self.config.hide_sensitive_names {
            return false;
        }
        let name = name.trim().to_lowercase();
        let name = NOT_WORD.replace_all(&name, "_");
        isobar_model::SENSITIVE_NAMES.iter().any(|word| name.contains(word))
            || self.config.more_sensitive_names.iter().any(|word| name.contains(word))
    }

    /// Remembers a secret: a string, or a list or map of them. With a name, only if that is a sensitive one.
    pub fn add(&self, secret: &Value, name: Option<&str>) {
        match secret {
            Value::String(text) => self.add_text(text, name),
            Value::Array(items) => {
                for item in items {
                    self.add(item, name);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    self.add(value, Some(key));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add_text(&self, secret: &str, name: Option<&str>) {
        let long_enough = secret.chars().take(self.config.min_length).count() == self.config.min_length;
        if !long_enough || secret.is_empty() || secret.to_lowercase() == SKIPPED {
            return;
        }
        if name.is_some_and(|name| !self.is_sensitive(name)) {
            return;
        }
        let mut secrets = self.secrets();
        if secrets.known.insert(secret.to_owned()) {
            secrets.finder = Finder::Stale;
        }
    }

    /// Remembers what a connection hides: its password, its whole `extra`, and the sensitive members of `extra`.
    pub fn add_connection(&self, connection: &Value) {
        self.add(&connection["password"], None);
        self.add(&connection["extra"], None);
        if let Some(extra) = connection["extra"].as_str()
            && let Ok(members @ Value::Object(_)) = serde_json::from_str(extra)
        {
            self.add(&members, None);
        }
    }

    /// The text with every known secret replaced by `***`.
    #[must_use]
    pub fn redact_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut secrets = self.secrets();
        secrets.compile();
        match &secrets.finder {
            Finder::Nothing | Finder::Stale => Cow::Borrowed(text),
            Finder::Pattern(pattern) => pattern.replace_all(text, MASK),
            Finder::Plain(longest_first) => {
                let mut text = Cow::Borrowed(text);
                for secret in longest_first {
                    if text.contains(secret) {
                        text = Cow::Owned(text.replace(secret, MASK));
                    }
                }
                text
            }
        }
    }

    /// Hides secrets in a log event: known values anywhere, tokens, and all text under a sensitive name.
    pub fn redact(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(redacted) = TOKEN.replace_all(text, "eyJ***") {
                    *text = redacted;
                }
                if let Cow::Owned(redacted) = self.redact_text(text) {
                    *text = redacted;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    if self.is_sensitive(key) {
                        hide_all(value);
                    } else {
                        self.redact(value);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secrets {
    fn compile(&mut self) {
        if !matches!(self.finder, Finder::Stale) {
            return;
        }
        // Longest first, so that a secret that begins with another leaves no end of itself behind.
        let mut longest_first: Vec<String> = self.known.iter().cloned().collect();
        longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let pattern: Vec<String> = longest_first.iter().map(|secret| regex::escape(secret)).collect();
        let compiled = RegexBuilder::new(&pattern.join("|")).size_limit(COMPILED_LIMIT).build();
        self.finder = compiled.map_or(Finder::Plain(longest_first), Finder::Pattern);
    }
}

/// Replaces all text; numbers and the like stay, as they do in Airflow.
fn hide_all(value: &mut Value) {
    match value {
        Value::String(text) => MASK.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(hide_all),
        Value::Object(map) => map.values_mut().for_each(hide_all),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn redacted(masker: &Masker, mut value: Value) -> Value {
        masker.redact(&mut value);
        value
    }

    #[test]
    fn a_secret_is_hidden_wherever_it_stands() {
        let masker = Masker::default();
        masker.add(&json!("hunter2!"), None);
        let event = json!({"event": "pw hunter2! and again hunter2!", "deep": [[[[[[["hunter2!"]]]]]]]});
        let wanted = json!({"event": "pw *** and again ***", "deep": [[[[[[["***"]]]]]]]});
        assert_eq!(redacted(&masker, event), wanted);
    }

    #[test]
    fn short_secrets_and_the_word_airflow_are_left() {
        let masker = Masker::default();
        for secret in ["abcd", "", "Airflow", "ÄÖÜß"] {
            masker.add(&json!(secret), None);
        }
        assert_eq!(
            masker.redact_text("abcd airflow Airflow ÄÖÜß"),
            "abcd airflow Airflow ÄÖÜß"
        );
    }

    #[test]
    fn a_named_secret_counts_only_under_a_sensitive_name() {
        let masker = Masker::default();
        masker.add(&json!("plain-value"), Some("greeting"));
        masker.add(&json!("key-value"), Some("My-API key"));
        masker.add(&json!({"user": "someone-else", "db_password": ["nested-value"]}), None);
        let text = "plain-value key-value someone-else nested-value";
        assert_eq!(masker.redact_text(text), "plain-value *** someone-else ***");
    }

    #[test]
    fn a_longer_secret_is_hidden_whole() {
        let masker = Masker::default();
        masker.add(&json!(["secret", "secret-and-more"]), None);
        assert_eq!(masker.redact_text("x secret-and-more y secret z"), "x *** y *** z");
    }

    #[test]
    fn what_means_something_in_a_pattern_is_taken_literally() {
        let masker = Masker::default();
        masker.add(&json!("a.*(b|c)$[^"), None);
        assert_eq!(masker.redact_text("a.*(b|c)$[^ axxb"), "*** axxb");
    }

    #[test]
    fn tokens_are_shortened_and_sensitive_names_hide_all_text() {
        let masker = Masker::default();
        let event = json!({"event": "got eyJhbGciOi.x-y_z and", "access_token": {"a": ["b", 5]}, "n": 1});
        let wanted = json!({"event": "got eyJ*** and", "access_token": {"a": ["***", 5]}, "n": 1});
        assert_eq!(redacted(&masker, event), wanted);
    }

    #[test]
    fn a_connection_hides_its_password_and_extra() {
        let masker = Masker::default();
        masker.add_connection(&json!({
            "login": "someone", "password": "p4ssw0rd", "extra": r#"{"token": "t0k3n-value", "region": "eu-north"}"#
        }));
        let text = r#"someone p4ssw0rd t0k3n-value eu-north {"token": "t0k3n-value", "region": "eu-north"}"#;
        assert_eq!(masker.redact_text(text), "someone *** *** eu-north ***");
    }
}
