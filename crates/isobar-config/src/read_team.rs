//! `[[team]]`, or `[default_team]` while multi-team is off.

use std::collections::BTreeMap;
use std::path::PathBuf;

use isobar_model::{BadTeamName, TeamName};

use crate::problem::{Origin, suggest};
use crate::reader::Reader;
use crate::reading::Placed;
use crate::{Consent, ConsentAction, DefaultPool, Isolation, Launch, Python, Requirements, Secret, Team, Tunable};

/// A team with the places of what is compared with other teams.
pub(crate) struct Declared {
    pub(crate) team: Team,
    pub(crate) at: Origin,
    pub(crate) folders: Vec<Placed<PathBuf>>,
    pub(crate) read_folders: Vec<Placed<PathBuf>>,
    pub(crate) write_folders: Vec<Placed<PathBuf>>,
}

/// Reads one `[[team]]`.
pub(crate) fn team(reader: Reader<'_>) -> Declared {
    let name = reader.text("name");
    if name.is_none() && !reader.has("name") {
        reader.problem("a team has no name", "give it `name = \"…\"`");
    }
    let at = name.as_ref().map_or(reader.at, |name| &name.at).clone();
    let name = name.map_or_else(
        || TeamName::from_stored(String::new()),
        |name| checked_name(&reader, &name),
    );
    let formerly = reader.text("formerly").map(|old| checked_name(&reader, &old));
    let restore = reader.bool("restore", false);
    if formerly.as_ref() == Some(&name) {
        reader.problem_at(
            "formerly",
            "`formerly` is the name that the team has now",
            "remove the line",
        );
    }
    let mut team = Team {
        formerly,
        restore,
        ..Team::new(name)
    };
    let folders = reader.paths("folders");
    if folders.is_empty() && !reader.has("folders") {
        reader.problem(
            format!("team `{}` has no Dag folder", team.name),
            "give it `folders = \"path/to/dags\"`, or a list of folders",
        );
    }
    team.executors = crate::read_executors::executors(&reader, &team.name.to_string(), true);
    let (read_folders, write_folders) = settings(&reader, &mut team, "team");
    reader.finish();
    Declared {
        team,
        at,
        folders,
        read_folders,
        write_folders,
    }
}

/// Reads `[default_team]`: the one built-in team, for which everything has a default (rule 1).
pub(crate) fn default_team(reader: Reader<'_>, default_folder: PathBuf) -> Declared {
    let mut team = Team::new(TeamName::default_team());
    let mut folders = reader.paths("folders");
    if folders.is_empty() && !reader.has("folders") {
        reader.show(
            "folders",
            &crate::wording::quote(&default_folder.to_string_lossy()),
            &Origin::Default,
        );
        folders.push(Placed {
            value: default_folder,
            at: Origin::Default,
        });
    }
    team.executors = crate::read_executors::executors(&reader, "default", false);
    let (read_folders, write_folders) = settings(&reader, &mut team, "default_team");
    let at = reader.at.clone();
    reader.finish();
    Declared {
        team,
        at,
        folders,
        read_folders,
        write_folders,
    }
}

fn checked_name(reader: &Reader<'_>, name: &Placed<String>) -> TeamName {
    TeamName::parse(&name.value).unwrap_or_else(|error| {
        let hint = match &error {
            BadTeamName::Grammar(_) => "for example `data-engineering`",
            BadTeamName::Environment(..) => "use single `-` or `_`, and none at the end",
            BadTeamName::Reserved(_) => "choose another name; `default`, `shared` and `org` have meanings of their own",
        };
        reader.reading.problem(&name.at, error.to_string(), hint);
        TeamName::from_stored(name.value.clone())
    })
}

type Folders = Vec<Placed<PathBuf>>;

/// What `[[team]]` and `[default_team]` have in common.
fn settings(reader: &Reader<'_>, team: &mut Team, place: &str) -> (Folders, Folders) {
    team.python = python(reader);
    let (mut read_folders, write_folders) = (reader.paths("read_folders"), reader.paths("write_folders"));
    let mut plugins = reader.paths("plugins_folder");
    if let Some(second) = plugins.get(1) {
        reader.reading.problem(
            &second.at,
            format!(
                "team `{}` has several plugins folders, and Airflow reads one",
                team.name
            ),
            "name one folder",
        );
    }
    plugins.truncate(1);
    team.plugins_folder = plugins.first().map(|folder| folder.value.clone());
    // Whatever a team's children are to import they must be able to read.
    read_folders.extend(plugins);
    let launches = [Launch::Warm, Launch::Cold].map(|launch| (launch.as_str(), launch));
    team.launch = reader.choice("launch", &launches, "warm", Launch::Warm);
    let isolations = [Isolation::Landlock, Isolation::None].map(|isolation| (isolation.as_str(), isolation));
    team.isolation = reader.choice("isolation", &isolations, "landlock", Isolation::Landlock);
    team.os_user = os_user(reader);
    team.weight = reader.count("weight", 1, 1);
    team.guaranteed = reader.count("guaranteed", 0, 0);
    team.max_running = reader.optional_count("max_running", 1);
    if team.max_running.is_some_and(|most| most < team.guaranteed) {
        reader.problem_at(
            "guaranteed",
            format!(
                "team `{}` is guaranteed more slots than `max_running` allows",
                team.name
            ),
            "raise `max_running`, or lower `guaranteed`",
        );
    }
    let pools = [DefaultPool::Own, DefaultPool::Shared].map(|pool| (pool.as_str(), pool));
    team.default_pool = reader.choice("default_pool", &pools, "own", DefaultPool::Own);
    team.tunable = tunable(reader);
    team.dags_are_paused_at_creation =
        (reader.has("dags_are_paused_at_creation")).then(|| reader.bool("dags_are_paused_at_creation", true));
    team.env = env(&reader.section("env", &format!("[{place}.env]")));
    let seeds = crate::read_seeds::seeds(reader, place);
    (team.pools, team.connections, team.variables) = (seeds.pools, seeds.connections, seeds.variables);
    team.consents = consents(reader, place);
    (read_folders, write_folders)
}

fn python(reader: &Reader<'_>) -> Python {
    let interpreter = reader.text("python").map(|placed| {
        if placed.value.contains('/') {
            let path = reader.reading.resolve(&placed.value, &placed.at);
            if !path.is_file() {
                reader.reading.problem(
                    &placed.at,
                    format!("there is no interpreter `{}`", path.display()),
                    "give the path of a `python3`, or a version such as `3.11`",
                );
            }
            return path.to_string_lossy().into_owned();
        }
        placed.value
    });
    let venv = reader.optional_path("venv");
    if let Some(venv) = venv.as_ref().filter(|venv| !venv.value.join("bin/python").exists()) {
        reader.reading.problem(
            &venv.at,
            format!(
                "`{}` is not a virtual environment: it has no `bin/python`",
                venv.value.display()
            ),
            "make it, or leave `venv` out and Isobar makes one from `python` and `requirements`",
        );
    }
    let requirements = requirements(reader);
    if venv.is_some() && (interpreter.is_some() || requirements != Requirements::None) {
        reader.problem_at(
            "venv",
            "`venv` is used as it is, so `python` and `requirements` beside it would do nothing",
            "keep `venv`, or the other two",
        );
    }
    Python {
        interpreter,
        venv: venv.map(|venv| venv.value),
        requirements,
    }
}

/// A file name, or a list of requirements.
fn requirements(reader: &Reader<'_>) -> Requirements {
    let is_list = reader
        .raw("requirements")
        .is_some_and(|node| matches!(node.value, crate::tree::Value::List(_)));
    if is_list {
        let lines = reader.texts("requirements").unwrap_or_default();
        for line in &lines {
            let text = line.value.trim();
            if text.is_empty() || text.starts_with('-') || text.contains(['\n', '\r']) {
                reader.reading.problem(
                    &line.at,
                    "this is not one requirement",
                    "write one such as `pandas==2.2.3`; options of pip go into a requirements file",
                );
            }
        }
        return Requirements::List(lines.into_iter().map(|line| line.value.trim().to_owned()).collect());
    }
    let Some(file) = reader.optional_path("requirements") else {
        return Requirements::None;
    };
    if !file.value.is_file() {
        reader.reading.problem(
            &file.at,
            format!("there is no requirements file `{}`", file.value.display()),
            "write the file, or a list: `requirements = [\"pandas==2.2.3\"]`",
        );
    }
    Requirements::File(file.value)
}

fn os_user(reader: &Reader<'_>) -> Option<String> {
    let user = reader.text("os_user")?;
    if matches!(user.value.as_str(), "root" | "0") {
        reader.reading.problem(
            &user.at,
            "a team's code never runs as root",
            "name an unprivileged user",
        );
    }
    Some(user.value)
}

fn tunable(reader: &Reader<'_>) -> Vec<Tunable> {
    let words = reader.texts("tunable").unwrap_or_default();
    let read = |word: &Placed<String>| {
        let tunable = Tunable::ALL.into_iter().find(|tunable| tunable.as_str() == word.value);
        if tunable.is_none() {
            reader.reading.problem(
                &word.at,
                format!("a team cannot tune `{}`", word.value),
                suggest(&word.value, Tunable::ALL.map(Tunable::as_str)),
            );
        }
        tunable
    };
    words.iter().filter_map(read).collect()
}

fn env(reader: &Reader<'_>) -> BTreeMap<String, Secret> {
    let mut variables = BTreeMap::new();
    for entry in reader.free_entries() {
        let name = entry.key.as_str();
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || name.starts_with("ISOBAR_") || name.starts_with("_AIRFLOW_") {
            reader.reading.problem(
                &entry.key_origin,
                format!("`{name}` cannot be an environment variable of a team"),
                "use letters, digits and `_`; `ISOBAR_…` and `_AIRFLOW_…` are Isobar's own",
            );
        }
        let Some(value) = reader.free_secret(entry) else {
            continue;
        };
        if value.value.contains('\0') {
            reader.reading.problem(
                &value.at,
                format!("the value of `{name}` holds a zero byte"),
                "take it out",
            );
        }
        variables.insert(entry.key.clone(), Secret::new(value.value));
    }
    variables
}

fn consents(reader: &Reader<'_>, place: &str) -> Vec<Consent> {
    let mut consents = Vec::new();
    for (table, at) in reader.tables("consent") {
        let consent = Reader::new(reader.reading, table, at, &format!("[[{place}.consent]]"));
        let globs = |key: &str| -> Vec<String> {
            let globs = consent.texts(key).unwrap_or_default();
            for glob in &globs {
                if let Err(error) = globset::Glob::new(&glob.value) {
                    let what = format!("`{}` is not a glob: {}", glob.value, error.kind());
                    consent.reading.problem(&glob.at, what, "`*` stands for any name");
                }
            }
            globs.into_iter().map(|glob| glob.value).collect()
        };
        let (dags, teams) = (globs("dags"), globs("teams"));
        let actions = consent.texts("actions").unwrap_or_default();
        let action = |word: &Placed<String>| {
            let action = ConsentAction::ALL
                .into_iter()
                .find(|action| action.as_str() == word.value);
            if action.is_none() {
                consent.reading.problem(
                    &word.at,
                    format!("there is no action `{}` to consent to", word.value),
                    suggest(&word.value, ConsentAction::ALL.map(ConsentAction::as_str)),
                );
            }
            action
        };
        let actions: Vec<ConsentAction> = actions.iter().filter_map(action).collect();
        for (key, missing) in [("teams", !consent.has("teams")), ("actions", !consent.has("actions"))] {
            if missing {
                let hint = "write `teams = [\"analytics\"]` and `actions = [\"trigger\"]`";
                consent.problem(format!("a consent has no `{key}`"), hint);
            }
        }
        let dags = if consent.has("dags") {
            dags
        } else {
            vec!["*".to_owned()]
        };
        consent.finish();
        consents.push(Consent { dags, teams, actions });
    }
    consents
}
