//! `airflow.cfg`, as Airflow 3.3.2 reads it, rewritten as the TOML that means the same (rule 9).
//!
//! What is not carried over stands in comments, by name and reason. A value that is not carried over is never repeated:
//! it may be a secret.

mod executors;
pub(crate) mod fates;
mod folders;
mod ini;
mod users;
mod values;
mod writing;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use fates::{Fate, Known, known_keys};
use ini::Ini;
pub use ini::IniError;
use values::Kind;
use writing::Draft;

/// What is to be converted, and what Airflow would have known beside the file.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// The text of `airflow.cfg`.
    pub text: String,
    /// Its path, for the heading.
    pub file: PathBuf,
    /// `AIRFLOW_HOME`: where Airflow's defaults lie.
    pub airflow_home: PathBuf,
    /// For `$NAME` inside values, which Airflow replaces.
    pub environment: BTreeMap<String, String>,
    /// Whether `AIRFLOW__SECTION__KEY` of that environment counts over the file.
    pub with_environment: bool,
}

/// The outcome.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The TOML. It holds what the file held, secrets included.
    pub toml: String,
    /// What is not carried over: where it stood, and why. No values.
    pub left_out: Vec<(String, String)>,
}

/// Rewrites one `airflow.cfg`.
///
/// # Errors
/// The file is not one that Airflow could read.
pub fn convert(conversion: &Conversion) -> Result<Converted, IniError> {
    let ini = Ini::read(conversion)?;
    let mut draft = Draft::default();
    let multi_team = ini
        .get("core", "multi_team")
        .is_some_and(|text| Kind::flag(&text) == Some(true));
    if multi_team {
        draft.set("core", "multi_team", "true".to_owned());
    }
    for (section, key) in ini.keys() {
        match (section.split_once('='), multi_team) {
            (None, _) => one_key(&ini, &section, &key, conversion, &mut draft),
            (Some((team, section)), true) => team_key(&ini, (team, section), &key, &mut draft),
            (Some(_), false) => draft.leave_out(&section, &key, "teams mean nothing while `multi_team` is off"),
        }
    }
    folders::read(&ini, multi_team, conversion, &mut draft);
    executors::read(&ini, multi_team, &mut draft);
    let fresh = ini.get("core", "execute_tasks_new_python_interpreter");
    if fresh.is_some_and(|text| Kind::flag(&text) == Some(true)) {
        draft.launch_cold();
    }
    users::read(&ini, multi_team, &mut draft);
    Ok(draft.finish(conversion, multi_team))
}

/// A key of the whole deployment.
fn one_key(ini: &Ini, section: &str, key: &str, conversion: &Conversion, draft: &mut Draft) {
    let known = fates::find(section, key);
    let fate = match known {
        Some(known) => known.fate,
        None if fates::indirect(section, key).is_some() => return indirect_key(ini, section, key, draft),
        None if fates::knows_section(section) => {
            return draft.leave_out(
                section,
                key,
                "Airflow 3.3.2 has no such key, and reads it nowhere itself",
            );
        }
        // Sections of providers and of Dag authors: tasks ask for them.
        None => Fate::Children,
    };
    let Some(text) = ini.get(section, key) else {
        return draft.leave_out(
            section,
            key,
            "a `%` in it stands for nothing, so Airflow cannot read it either",
        );
    };
    if known.is_some_and(|known| fates::is_default(known, &text, &conversion.airflow_home))
        && (section, key) != ("api", "host")
    {
        return;
    }
    match fate {
        Fate::Same {
            section: ours,
            key: our_key,
            kind,
        } => match kind.toml(&text) {
            Ok(Some(value)) => draft.set(ours, our_key, value),
            Ok(None) => {}
            Err(why) => draft.leave_out(section, key, &why),
        },
        Fate::Children => draft.child(None, section, key, &text),
        // By code of their own, below.
        Fate::Read => {}
        Fate::Needless(why) | Fate::Later(why) => draft.leave_out(section, key, why),
    }
}

/// `key_cmd` and `key_secret`, which Airflow knows for secret keys.
fn indirect_key(ini: &Ini, section: &str, key: &str, draft: &mut Draft) {
    let fate = fates::indirect(section, key).map(|known| known.fate);
    match (fate, key.strip_suffix("_cmd"), ini.get(section, key)) {
        (Some(Fate::Same { section: ours, key: our_key, .. }), Some(_), Some(command)) => {
            draft.set(ours, &format!("{our_key}_cmd"), crate::wording::quote(&command));
        }
        (Some(Fate::Needless(why) | Fate::Later(why)), ..) => draft.leave_out(section, key, why),
        _ => draft.leave_out(
            section,
            key,
            "it names a place in Airflow's secrets backend; give Isobar a source of its own, such as `KEY_secret = \"file:///…\"`",
        ),
    }
}

/// A key of `[team=section]`: Airflow reads it for that team's executors only.
fn team_key(ini: &Ini, (team, section): (&str, &str), key: &str, draft: &mut Draft) {
    let whole = format!("{team}={section}");
    let Some(text) = ini.get(&whole, key) else {
        return draft.leave_out(&whole, key, "a `%` in it stands for nothing");
    };
    match fates::find(section, key).map(|known| known.fate) {
        None if fates::knows_section(section) => draft.leave_out(&whole, key, "Airflow 3.3.2 has no such key"),
        None | Some(Fate::Children) => draft.child(Some(team), section, key, &text),
        Some(Fate::Needless(why) | Fate::Later(why)) => draft.leave_out(&whole, key, why),
        Some(Fate::Same {
            section: "core",
            key: "parallelism",
            kind,
        }) => match kind.toml(&text) {
            Ok(Some(value)) => draft.team(team).parallelism = Some(value),
            Ok(None) => {}
            Err(why) => draft.leave_out(&whole, key, &why),
        },
        Some(Fate::Same {
            section: "core",
            key: "dags_are_paused_at_creation",
            kind,
        }) => {
            if let Ok(Some(value)) = kind.toml(&text) {
                draft.team(team).settings.push(("dags_are_paused_at_creation", value));
            }
        }
        Some(_) => draft.leave_out(
            &whole,
            key,
            "it holds for the whole deployment, and no team has one of its own",
        ),
    }
}
