//! Values as Airflow understands them, written as TOML.

use crate::LogLevel;
use crate::wording::{quote, render_list};

/// How a value is understood and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Count {
        least: i64,
    },
    Seconds,
    Text,
    List,
    Path,
    Level,
    Zone,
    /// The key from which others are derived.
    Key,
}

impl Kind {
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "flag" => Self::Flag,
            "count" => Self::Count { least: 0 },
            "count from 1" => Self::Count { least: 1 },
            "slots" => Self::Count { least: -1 },
            "seconds" => Self::Seconds,
            "text" => Self::Text,
            "list" => Self::List,
            "path" => Self::Path,
            "level" => Self::Level,
            "zone" => Self::Zone,
            "key" => Self::Key,
            _ => return None,
        })
    }

    /// As Airflow reads a boolean; a comment behind it is allowed there.
    pub(super) fn flag(text: &str) -> Option<bool> {
        let word = text.split('#').next().unwrap_or_default().trim().to_lowercase();
        match word.as_str() {
            "t" | "true" | "1" => Some(true),
            "f" | "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// The value as TOML; none where an empty text says nothing.
    pub(super) fn toml(self, text: &str) -> Result<Option<String>, String> {
        let text = text.trim();
        if text.is_empty() || text == "None" {
            return Ok(None);
        }
        let refused = |what: &str| Err(format!("its value is not {what}, so the default holds"));
        let value = match self {
            Self::Flag => match Self::flag(text) {
                Some(flag) => flag.to_string(),
                None => return refused("`True` or `False`"),
            },
            Self::Count { least } => match text.parse::<i64>() {
                Ok(number) if number >= least => number.to_string(),
                Ok(_) => return refused(&format!("{least} or more")),
                Err(_) => return refused("a number"),
            },
            Self::Seconds => match text.parse::<f64>() {
                Ok(seconds) if seconds >= 0.0 && seconds.fract() == 0.0 && seconds < 1e12 => format!("{seconds:.0}"),
                Ok(seconds) if seconds >= 0.0 && seconds.is_finite() => seconds.to_string(),
                _ => return refused("a number of seconds"),
            },
            Self::Level => {
                let upper = text.to_uppercase();
                match LogLevel::ALL.into_iter().find(|level| level.as_str() == upper) {
                    Some(level) => quote(level.as_str()),
                    None => return refused("a level of `isobar`"),
                }
            }
            Self::Zone if text == "system" => {
                return Err(
                    "`system` depends on the host; write the name of its zone, such as `Europe/Berlin`".to_owned(),
                );
            }
            Self::Zone if text.eq_ignore_ascii_case("utc") => quote("UTC"),
            Self::Key if text.chars().count() < 32 => {
                return Err("it is shorter than 32 characters; Isobar makes a better one".to_owned());
            }
            Self::List => {
                let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
                render_list(words.into_iter())
            }
            Self::Text | Self::Path | Self::Zone | Self::Key => quote(text),
        };
        Ok(Some(value))
    }
}
