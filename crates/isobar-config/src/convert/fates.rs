//! What becomes of each of Airflow's keys.

use std::path::Path;
use std::sync::LazyLock;

use super::values::Kind;

/// One key that Airflow 3.3.2 lists.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Airflow's section.
    pub section: &'static str,
    /// Airflow's key.
    pub key: &'static str,
    /// Airflow's default, lines parted by `\n` in two letters.
    pub default: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A key of ours means the same.
    Same {
        /// Our section.
        section: &'static str,
        /// Our key.
        key: &'static str,
        /// How the value is written.
        #[expect(private_interfaces, reason = "readers of the table need only know that there is one")]
        kind: Kind,
    },
    /// Tasks read it: it goes into the environment of the team's children.
    Children,
    /// Read together with others: Dag folders, executors, users.
    Read,
    /// Nothing here needs it, and why.
    Needless(&'static str),
    /// Not carried over today, and what holds instead.
    Later(&'static str),
}

const TABLE: &str = include_str!("airflow_3_3_2.tsv");

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| TABLE.lines().filter_map(row).collect());

fn row(line: &'static str) -> Option<Known> {
    if line.starts_with('#') {
        return None;
    }
    let mut cells = line.split('\t');
    let mut cell = || cells.next().unwrap_or_default();
    let (section, key, default, fate, words) = (cell(), cell(), cell(), cell(), cell());
    let fate = match fate {
        "children" => Fate::Children,
        "read" => Fate::Read,
        "needless" => Fate::Needless(words),
        "later" => Fate::Later(words),
        same => {
            let (section, key) = words.split_once('.')?;
            let kind = Kind::from_word(same.strip_prefix("same ")?)?;
            Fate::Same { section, key, kind }
        }
    };
    Some(Known {
        section,
        key,
        default,
        fate,
    })
}

/// Every key that Airflow 3.3.2 lists, with what becomes of it.
pub fn known_keys() -> impl Iterator<Item = &'static Known> {
    KNOWN.iter()
}

pub(crate) fn find(section: &str, key: &str) -> Option<&'static Known> {
    known_keys().find(|known| known.section == section && known.key == key)
}

/// The key that `key_cmd` or `key_secret` is about.
pub(super) fn indirect(section: &str, key: &str) -> Option<&'static Known> {
    let plain = ["_cmd", "_secret"].iter().find_map(|suffix| key.strip_suffix(suffix))?;
    find(section, plain)
}

/// Whether Airflow's own core defines the section.
pub(crate) fn knows_section(section: &str) -> bool {
    known_keys().any(|known| known.section == section)
}

/// Whether the value is what Airflow takes where nobody says anything; what it makes up at first start counts, too.
pub(super) fn is_default(known: &Known, text: &str, airflow_home: &Path) -> bool {
    let lines = |text: &str| {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<String>()
    };
    let default = known
        .default
        .replace("{AIRFLOW_HOME}", &airflow_home.display().to_string());
    known.default != "{MADE}" && lines(&default.replace("\\n", "\n")).eq_ignore_ascii_case(&lines(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_understood_and_says_what_the_environment_layer_says() {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(KNOWN.len(), rows);
        for (section, key, our_section, our_key) in crate::airflow_keys::SAME_MEANING {
            let known = find(section, key).unwrap_or_else(|| panic!("{section}.{key}"));
            match known.fate {
                Fate::Same {
                    section: ours,
                    key: theirs,
                    ..
                } => assert_eq!((ours, theirs), (*our_section, *our_key)),
                other => assert_eq!(other, Fate::Read, "{section}.{key}"),
            }
        }
        let same = known_keys()
            .filter(|known| matches!(known.fate, Fate::Same { .. }))
            .count();
        let read = ["multi_team", "dags_folder", "executor"].len();
        assert_eq!(same + read, crate::airflow_keys::SAME_MEANING.len());
    }
}
