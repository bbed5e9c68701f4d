//! Included files: one per team, or several by a glob (rule 6).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::Glob;

use crate::problem::Origin;
use crate::reading::Reading;
use crate::tree::{Entry, Node, Table, Value, parse_toml};

/// Reads a file into a tree; the faults go to the reading.
pub(crate) fn read_file(path: &Path, named_at: &Origin, reading: &Reading) -> Option<Table> {
    let file: Arc<Path> = Arc::from(path);
    let on_disk = reading.surroundings.current_folder.join(path);
    reading.note_file(&on_disk);
    let text = match std::fs::read(&on_disk).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
            let at = Origin::in_text(&file, &valid, valid.len());
            reading.problem(&at, "the file is not UTF-8 text here", "save it as UTF-8");
            return None;
        }
        Err(error) => {
            reading.problem(
                named_at,
                format!("`{}` cannot be read: {error}", path.display()),
                "check the path and its permissions; relative paths start at the file that names them",
            );
            return None;
        }
    };
    parse_toml(&file, &text)
        .map_err(|problems| reading.extend(problems))
        .ok()
}

/// Takes `include = …` of the file, and of each `[[team]]`, out of the tree and puts the files' contents in.
pub(crate) fn apply(root: &mut Table, reading: &Reading) {
    let mut included = Vec::new();
    if let Some(entry) = root.remove("include") {
        for (pattern, at) in patterns(&entry, reading) {
            for path in expand(&pattern, &at, reading) {
                included.extend(teams_of_file(&path, &at, reading));
            }
        }
    }
    let place = root.get("team").map(|entry| entry.node.origin.clone());
    let mut teams = match root.remove("team").map(|entry| entry.node) {
        Some(Node {
            value: Value::List(items),
            ..
        }) => items,
        Some(single) => vec![single],
        None => Vec::new(),
    };
    for team in &mut teams {
        if let Value::Table(table) = &mut team.value {
            include_into_team(table, reading);
        }
    }
    let first = included.first().map(|team| team.origin.clone());
    teams.extend(included);
    if let Some(origin) = place.or(first) {
        root.set(
            "team",
            Node {
                value: Value::List(teams),
                origin,
            },
        );
    }
}

fn patterns(entry: &Entry, reading: &Reading) -> Vec<(String, Origin)> {
    let text = |node: &Node| match &node.value {
        Value::Text(text) => Some((text.clone(), node.origin.clone())),
        _ => None,
    };
    let patterns = match &entry.node.value {
        Value::List(items) => items.iter().map(text).collect(),
        _ => text(&entry.node).map(|one| vec![one]),
    };
    patterns.unwrap_or_else(|| {
        let hint = "write `include = \"teams/*.toml\"`, or a list of such texts";
        reading.problem(
            &entry.node.origin,
            "`include` must be a file name or a list of file names",
            hint,
        );
        Vec::new()
    })
}

/// The team or teams that one included file declares.
fn teams_of_file(path: &Path, at: &Origin, reading: &Reading) -> Vec<Node> {
    let Some(mut table) = read_file(path, at, reading) else {
        return Vec::new();
    };
    let start = Origin::start_of(&Arc::from(path));
    if table.get("team").is_none() {
        refuse_nested(&table, reading);
        table.remove("include");
        return vec![Node {
            value: Value::Table(table),
            origin: start,
        }];
    }
    for entry in table.entries().filter(|entry| entry.key != "team") {
        reading.problem(
            &entry.key_origin,
            format!("unknown key `{}` in an included file", entry.key),
            "an included file holds `[[team]]` tables, or the keys of one team; the rest belongs into the main file",
        );
    }
    match table.remove("team").map(|entry| entry.node) {
        Some(Node {
            value: Value::List(items),
            ..
        }) => items,
        Some(single) => vec![single],
        None => Vec::new(),
    }
}

/// `[[team]] include = "teams/x.toml"`: the file's keys become the team's.
fn include_into_team(team: &mut Table, reading: &Reading) {
    let Some(entry) = team.remove("include") else { return };
    let Value::Text(name) = &entry.node.value else {
        reading.problem(
            &entry.node.origin,
            "`include` of a team must be one file name",
            "write `include = \"teams/NAME.toml\"`",
        );
        return;
    };
    let path = beside(name, &entry.node.origin);
    let Some(file) = read_file(&path, &entry.node.origin, reading) else {
        return;
    };
    refuse_nested(&file, reading);
    for added in file.entries().filter(|added| added.key != "include") {
        match team.get(&added.key) {
            Some(present) => reading.problem(
                &added.key_origin,
                format!("`{}` is already given at {}", added.key, present.key_origin),
                "keep one of the two",
            ),
            None => team.put(added.clone()),
        }
    }
}

fn refuse_nested(table: &Table, reading: &Reading) {
    if let Some(entry) = table.get("include") {
        reading.problem(
            &entry.key_origin,
            "an included file cannot include another",
            "name all files in the main file; `include` takes globs",
        );
    }
}

/// A path as written, starting at the file that names it.
fn beside(name: &str, at: &Origin) -> PathBuf {
    match at {
        Origin::File { file, .. } => file.parent().unwrap_or(Path::new("")).join(name),
        Origin::Environment(_) | Origin::Fetched(_) | Origin::Default => PathBuf::from(name),
    }
}

/// The files that a name or a glob stands for, sorted; none is a fault.
fn expand(pattern: &str, at: &Origin, reading: &Reading) -> Vec<PathBuf> {
    let pattern_path = beside(pattern, at);
    if !pattern.contains(['*', '?', '[', '{']) {
        return vec![pattern_path];
    }
    let mut found = vec![PathBuf::new()];
    for part in pattern_path.components() {
        let part_text = part.as_os_str().to_string_lossy();
        if !part_text.contains(['*', '?', '[', '{']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let glob = match Glob::new(&part_text) {
            Ok(glob) => glob.compile_matcher(),
            Err(error) => {
                let hint = "`*` stands for any name: `teams/*.toml`";
                reading.problem(at, format!("`{pattern}` is not a glob: {}", error.kind()), hint);
                return Vec::new();
            }
        };
        found = found
            .iter()
            .flat_map(|folder| matching(folder, &glob, reading))
            .collect();
    }
    if found.is_empty() {
        reading.problem(
            at,
            format!("no file matches `{pattern}`"),
            "check the path, or remove the line",
        );
    }
    found
}

fn matching(folder: &Path, glob: &globset::GlobMatcher, reading: &Reading) -> Vec<PathBuf> {
    let on_disk = reading.surroundings.current_folder.join(folder);
    let Ok(entries) = std::fs::read_dir(on_disk) else {
        return Vec::new();
    };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    let mut paths: Vec<PathBuf> = names
        .filter(|name| !name.to_string_lossy().starts_with('.') && glob.is_match(name))
        .map(|name| folder.join(name))
        .collect();
    paths.sort();
    paths
}
