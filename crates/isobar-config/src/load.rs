//! From files and environment to a checked configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use isobar_model::TeamName;

use crate::problem::{Origin, Problem, Problems};
use crate::read_team::Declared;
use crate::reader::Reader;
use crate::reading::{Reading, Surroundings};
use crate::show::Shown;
use crate::tree::{Entry, Node, Table, Value};
use crate::{Config, environment, folders, include, layout, read_auth, read_settings, read_team};

/// A checked configuration, with what is worth saying about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed but unwise.
    pub warnings: Vec<Problem>,
    shown: Shown,
}

impl Loaded {
    /// The effective configuration as TOML: every value with the place it came from, secrets as `***`.
    #[must_use]
    pub fn show(&self) -> String {
        self.shown.render()
    }
}

/// The file to read where none is named: `ISOBAR_CONFIG`, else `isobar.toml` in `current_folder`, else in `ISOBAR_HOME`.
#[must_use]
pub fn find_file(environment: &BTreeMap<String, String>, current_folder: &Path) -> Option<PathBuf> {
    if let Some(named) = environment.get("ISOBAR_CONFIG").filter(|named| !named.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let here = current_folder.join("isobar.toml");
    let in_home = environment
        .get("ISOBAR_HOME")
        .map(|home| Path::new(home).join("isobar.toml"));
    std::iter::once(here).chain(in_home).find(|path| path.is_file())
}

/// The environment of this process, for [`load`] and [`find_file`]. What is not UTF-8 cannot be a setting and is left out.
#[must_use]
pub fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .collect()
}

/// Reads a configuration: the file with what it includes, then `environment` over it (rules 6 and 7).
///
/// Runs the commands of `_cmd` keys. Checks that folders exist; makes none.
///
/// # Errors
/// Every fault that was found, each with its place and remedy.
pub fn load(path: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<Loaded, Problems> {
    let current_folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    load_with(
        path,
        Surroundings {
            environment: environment.clone(),
            current_folder,
            run_commands: true,
        },
    )
}

pub(crate) fn load_with(path: Option<&Path>, surroundings: Surroundings) -> Result<Loaded, Problems> {
    let reading = Reading::new(surroundings);
    let mut root = Table::default();
    if let Some(path) = path {
        root = include::read_file(path, &Origin::start_of(&path.into()), &reading).unwrap_or_default();
        // What a broken file would have said is unknown, so nothing else is judged.
        if reading.has_problems() {
            return Err(Problems(reading.finish().0));
        }
    }
    include::apply(&mut root, &reading);
    if reading.has_problems() {
        return Err(Problems(reading.finish().0));
    }
    layout::apply(&mut root, &reading);
    environment::apply(&mut root, &reading);
    let config = read(&root, path, &reading);
    let (mut problems, warnings, shown) = reading.finish();
    sort_by_place(&mut problems);
    if problems.is_empty() {
        Ok(Loaded {
            config,
            warnings,
            shown,
        })
    } else {
        Err(Problems(problems))
    }
}

/// As a person reads: file by file in the order in which they came up, line by line; then the environment.
fn sort_by_place(problems: &mut [Problem]) {
    let mut files = Vec::new();
    for problem in problems.iter() {
        if let Origin::File { file, .. } = problem.at.written()
            && !files.contains(file)
        {
            files.push(file.clone());
        }
    }
    problems.sort_by_key(|problem| match problem.at.written() {
        Origin::File { file, line, column } => (
            files.iter().position(|known| known == file).unwrap_or(usize::MAX),
            *line,
            *column,
        ),
        _ => (usize::MAX, 0, 0),
    });
}

fn read(root: &Table, path: Option<&Path>, reading: &Reading) -> Config {
    let start = path.map_or(Origin::Default, |path| Origin::start_of(&path.into()));
    let whole = Reader::new(reading, root, &start, "");
    let (core, home) = read_settings::core(whole.section("core", "[core]"), &reading.resolve(".isobar", &start));
    reading.know_home(&home);
    let database = read_settings::database(whole.section("database", "[database]"), &home);
    let server = read_settings::server(whole.section("server", "[server]"));
    let scheduler = read_settings::scheduler(whole.section("scheduler", "[scheduler]"));
    let triggerer = read_settings::triggerer(whole.section("triggerer", "[triggerer]"));
    let parsing = read_settings::parsing(whole.section("parsing", "[parsing]"));
    let tasks = read_settings::tasks(whole.section("tasks", "[tasks]"));
    let logging = read_settings::logging(whole.section("logging", "[logging]"), &home);
    let connections = read_settings::connections(whole.section("connections", "[connections]"));
    let shared = read_settings::shared(whole.section("shared", "[shared]"));
    let mut declared = if core.multi_team {
        refuse_default_team(&whole);
        several_teams(&whole)
    } else {
        refuse_teams(&whole);
        vec![read_team::default_team(
            whole.section("default_team", "[default_team]"),
            home.join("dags"),
        )]
    };
    check_names(&declared, reading);
    check_guarantees(&declared, core.parallelism, reading);
    folders::check(&mut declared, &home, reading);
    let teams: Vec<_> = declared.into_iter().map(|declared| declared.team).collect();
    let names: Vec<TeamName> = teams.iter().map(|team| team.name.clone()).collect();
    let auth = read_auth::auth(whole.section("auth", "[auth]"), &home, &names, core.multi_team);
    whole.finish();
    Config {
        file: path.map(|path| reading.surroundings.current_folder.join(path)),
        files: reading.files(),
        home,
        core,
        database,
        server,
        scheduler,
        triggerer,
        parsing,
        tasks,
        logging,
        auth,
        connections,
        shared,
        teams,
    }
}

fn several_teams(whole: &Reader<'_>) -> Vec<Declared> {
    let tables = whole.tables("team");
    if tables.is_empty() {
        whole.problem(
            "multi-team is on, but no team is declared",
            "declare teams with `[[team]]`, or leave `multi_team` off",
        );
    }
    tables
        .into_iter()
        .map(|(table, at)| read_team::team(Reader::new(whole.reading, table, at, "[[team]]")))
        .collect()
}

/// With multi-team on, what is said about the one built-in team is said in vain.
fn refuse_default_team(whole: &Reader<'_>) {
    let Some(Node {
        value: Value::Table(table),
        ..
    }) = whole.raw("default_team")
    else {
        return;
    };
    for Entry { key, key_origin, .. } in table.entries() {
        let what = format!("`{key}` of the one built-in team means nothing while multi-team is on");
        match key_origin {
            // Airflow's variables may be there for Airflow's sake.
            Origin::Environment(name) if name.starts_with("AIRFLOW__") => {
                whole.reading.warning(key_origin, what, "say it in `[[team]]`");
            }
            _ => whole
                .reading
                .problem(key_origin, what, "say it in `[[team]]`, or set `multi_team = false`"),
        }
    }
}

fn refuse_teams(whole: &Reader<'_>) {
    if let Some(node) = whole.raw("team") {
        whole.reading.problem(
            &node.origin,
            "teams are declared, but multi-team is off",
            "set `multi_team = true` in `[core]`; one team alone is described in `[default_team]`",
        );
    }
}

/// Rule 3: names stay apart as environment variables, and a former name is nobody's present one.
fn check_names(teams: &[Declared], reading: &Reading) {
    for (position, declared) in teams.iter().enumerate() {
        let name = &declared.team.name;
        for earlier in teams[..position]
            .iter()
            .filter(|earlier| !earlier.team.name.as_str().is_empty())
        {
            let other = &earlier.team.name;
            if other == name {
                let what = format!("there are two teams called `{name}`, the other at {}", earlier.at);
                reading.problem(&declared.at, what, "rename one, or put its settings into the other");
            } else if other.as_variable() == name.as_variable() {
                reading.problem(
                    &declared.at,
                    format!(
                        "team names `{other}` and `{name}` both become `{}` in environment variables",
                        name.as_variable()
                    ),
                    "choose names that differ in more than case and `-` or `_`",
                );
            }
        }
        let Some(formerly) = &declared.team.formerly else {
            continue;
        };
        if let Some(twin) = teams[..position]
            .iter()
            .find(|other| other.team.formerly.as_ref() == Some(formerly))
        {
            reading.problem(
                &declared.at,
                format!(
                    "teams `{}` and `{name}` both claim to have been `{formerly}`",
                    twin.team.name
                ),
                "a team becomes one team; remove one `formerly`",
            );
        }
    }
}

/// What is guaranteed must exist.
fn check_guarantees(teams: &[Declared], parallelism: u32, reading: &Reading) {
    let mut promised = 0u64;
    for declared in teams {
        promised += u64::from(declared.team.guaranteed);
        if promised > u64::from(parallelism) {
            reading.problem(
                &declared.at,
                format!(
                    "with team `{}`, {promised} slots are guaranteed, of {parallelism}",
                    declared.team.name
                ),
                "raise `parallelism` in `[core]`, or lower `guaranteed` of a team",
            );
            return;
        }
    }
}
