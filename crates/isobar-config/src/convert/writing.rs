//! The TOML that comes out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use isobar_model::TeamName;

use super::{Conversion, Converted};
use crate::TeamRole;
use crate::wording::{quote, quote_key, render_list};

/// What was understood so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    settings: Vec<(String, Vec<(String, String)>)>,
    /// Variables of all children.
    children: BTreeMap<String, String>,
    pub(super) default_team: Team,
    pub(super) teams: Vec<Team>,
    pub(super) users: Vec<User>,
    left_out: Vec<(String, String)>,
}

/// A team as Airflow's file describes it.
#[derive(Debug, Default)]
pub(super) struct Team {
    written: String,
    pub(super) folders: Vec<String>,
    pub(super) read_folders: Vec<String>,
    pub(super) executors: Vec<String>,
    /// Of its executors, as TOML.
    pub(super) parallelism: Option<String>,
    /// More keys, as TOML.
    pub(super) settings: Vec<(&'static str, String)>,
    children: BTreeMap<String, String>,
}

/// A user of Airflow's simple auth manager.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) role: TeamRole,
    pub(super) teams: Vec<String>,
}

/// The order of the sections.
const ORDER: [&str; 8] = [
    "core",
    "server",
    "scheduler",
    "triggerer",
    "parsing",
    "tasks",
    "logging",
    "auth",
];

impl Draft {
    pub(super) fn set(&mut self, section: &str, key: &str, value: String) {
        let entry = (key.to_owned(), value);
        match self.settings.iter_mut().find(|(known, _)| known == section) {
            Some((_, entries)) => entries.push(entry),
            None => self.settings.push((section.to_owned(), vec![entry])),
        }
    }

    pub(super) fn leave_out(&mut self, section: &str, key: &str, why: &str) {
        let entry = (format!("[{section}] {key}"), why.to_owned());
        if !self.left_out.contains(&entry) {
            self.left_out.push(entry);
        }
    }

    pub(super) fn team(&mut self, name: &str) -> &mut Team {
        let position = self
            .teams
            .iter()
            .position(|team| team.written == name)
            .unwrap_or_else(|| {
                self.teams.push(Team {
                    written: name.to_owned(),
                    ..Team::default()
                });
                self.teams.len() - 1
            });
        &mut self.teams[position]
    }

    /// A setting for tasks, of one team or of all.
    pub(super) fn child(&mut self, team: Option<&str>, section: &str, key: &str, text: &str) {
        let section_name = section.replace(['.', '-'], "_").to_uppercase();
        let name = format!("AIRFLOW__{section_name}__{}", key.to_uppercase());
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || text.contains('\0') {
            return self.leave_out(section, key, "its name cannot be an environment variable");
        }
        match team {
            Some(team) => self.team(team).children.insert(name, text.to_owned()),
            None => self.children.insert(name, text.to_owned()),
        };
    }

    /// No task is to find anything imported by another.
    pub(super) fn launch_cold(&mut self) {
        for team in self.teams.iter_mut().chain([&mut self.default_team]) {
            team.settings.push(("launch", "\"cold\"".to_owned()));
        }
    }

    pub(super) fn finish(mut self, conversion: &Conversion, multi_team: bool) -> Converted {
        let names = self.names();
        let mut toml = format!(
            "# Written by `isobar config convert` from `{}`.\n# What it does not carry over stands at the end.\n",
            one_line(&conversion.file.display().to_string())
        );
        self.settings
            .sort_by_key(|(section, _)| ORDER.iter().position(|known| known == section));
        for (section, entries) in &self.settings {
            let _ = write!(toml, "\n[{section}]\n");
            for (key, value) in entries {
                let _ = writeln!(toml, "{key} = {value}");
            }
        }
        if multi_team {
            for (team, name) in self.teams.iter().zip(&names) {
                let _ = write!(toml, "\n[[team]]\nname = {}\n", quote(name));
                self.write_team(team, "team", &mut toml);
            }
        } else {
            toml.push_str("\n[default_team]\n");
            self.write_team(&self.default_team, "default_team", &mut toml);
        }
        for user in &self.users {
            self.write_user(user, &names, multi_team, &mut toml);
        }
        if multi_team && self.teams.is_empty() {
            self.leave_out(
                "core",
                "multi_team",
                "no team is named in the file; declare them with `[[team]]`",
            );
        }
        if !self.left_out.is_empty() {
            toml.push_str("\n# Not carried over:\n");
            for (place, why) in &self.left_out {
                let _ = writeln!(toml, "# - {}: {}", one_line(place), one_line(why));
            }
        }
        Converted {
            toml,
            left_out: self.left_out,
        }
    }

    /// The teams' names here. Rule 3 is stricter than Airflow.
    fn names(&mut self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for position in 0..self.teams.len() {
            let written = self.teams[position].written.clone();
            let mut name = fitting(&written);
            while names.iter().any(|known| variable(known) == variable(&name)) {
                name.push('2');
            }
            if name != written {
                self.leave_out(
                    "core",
                    &format!("team `{written}`"),
                    &format!("is called `{name}` here: names must stay apart as environment variables"),
                );
            }
            if self.teams[position].folders.is_empty() {
                let why = "no bundle of Airflow's file names it; give it its `folders`";
                self.leave_out("dag_processor", &format!("team `{written}`"), why);
            }
            names.push(name);
        }
        names
    }

    fn write_team(&self, team: &Team, header: &str, toml: &mut String) {
        let list = |texts: &[String]| render_list(texts.iter().map(String::as_str));
        if team.folders.is_empty() {
            toml.push_str("# folders = [\"…\"]\n");
        } else {
            let _ = writeln!(toml, "folders = {}", list(&team.folders));
        }
        if !team.read_folders.is_empty() {
            let _ = writeln!(toml, "read_folders = {}", list(&team.read_folders));
        }
        for (key, value) in &team.settings {
            let _ = writeln!(toml, "{key} = {value}");
        }
        let plain = team.executors == ["local"] && team.parallelism.is_none();
        if plain {
            toml.push_str("executors = [\"local\"]\n");
        }
        let children: BTreeMap<_, _> = self.children.iter().chain(&team.children).collect();
        if !children.is_empty() {
            let _ = write!(toml, "\n[{header}.env]\n");
            for (name, value) in children {
                let _ = writeln!(toml, "{} = {}", quote_key(name), quote(value));
            }
        }
        if !plain {
            for name in &team.executors {
                let _ = write!(
                    toml,
                    "\n[[{header}.executor]]\nname = {}\ntype = \"local\"\n",
                    quote(name)
                );
                if let Some(parallelism) = &team.parallelism {
                    let _ = writeln!(toml, "parallelism = {parallelism}");
                }
            }
        }
    }

    fn write_user(&self, user: &User, names: &[String], multi_team: bool, toml: &mut String) {
        let _ = write!(toml, "\n[[auth.user]]\nname = {}\n", quote(&user.name));
        let role = user.role.as_str();
        if !multi_team {
            let _ = writeln!(toml, "role = \"{role}\"");
            return;
        }
        let teams: Vec<String> = (self.teams.iter().zip(names))
            .filter(|(team, _)| user.teams.contains(&team.written))
            .map(|(_, name)| format!("{} = \"{role}\"", quote_key(name)))
            .collect();
        if teams.is_empty() {
            let org = if user.role == TeamRole::Admin {
                "org-admin"
            } else {
                "org-viewer"
            };
            let _ = writeln!(toml, "org = \"{org}\"");
        } else {
            let _ = writeln!(toml, "teams = {{ {} }}", teams.join(", "));
        }
    }
}

/// Nothing that a file holds may end a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// The nearest name that rule 3 allows.
fn fitting(written: &str) -> String {
    if TeamName::parse(written).is_ok() {
        return written.to_owned();
    }
    let words = written
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join("-");
    let longer = format!("team-{joined}");
    [joined, longer]
        .into_iter()
        .map(|name| {
            name.chars()
                .take(50)
                .collect::<String>()
                .trim_end_matches('-')
                .to_owned()
        })
        .find(|name| TeamName::parse(name).is_ok())
        .unwrap_or_else(|| "team-unnamed".to_owned())
}
