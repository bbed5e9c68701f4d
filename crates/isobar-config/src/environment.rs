//! The environment layers: `AIRFLOW__SECTION__KEY` for what means the same, over it `ISOBAR__SECTION__KEY`, both over
//! the files (rule 7).

use crate::airflow_keys::isobar_path;
use crate::airflow_team_variables as team_variables;
use crate::problem::{Origin, quoted_list};
use crate::reading::Reading;
use crate::tree::{Node, Table, Value};

/// Deeper than any key that exists; a bound on recursion.
const DEEPEST: usize = 12;

/// Tables whose keys are names that people choose, not ours.
const LISTS: [&str; 5] = ["team", "executor", "user", "pool", "consent"];

/// Puts what the environment says into the tree.
pub(crate) fn apply(root: &mut Table, reading: &Reading) {
    let environment = &reading.surroundings.environment;
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix("AIRFLOW__") else {
            continue;
        };
        if let Some((team, rest)) = rest.split_once("___") {
            team_variables::place(root, team, rest, Node::from_environment(name, text), reading);
            continue;
        }
        if let Some(path) = isobar_path(rest) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            place(root, &path, Node::from_environment(name, text), reading);
        }
    }
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix("ISOBAR__") else {
            continue;
        };
        let node = Node::from_environment(name, text);
        let path: Vec<&str> = rest.split("__").collect();
        if path.len() < 2 || path.len() > DEEPEST || path.iter().any(|segment| segment.is_empty()) {
            reading.problem(
                &node.origin,
                "this is not the name of a setting",
                "write `ISOBAR__SECTION__KEY`, or `ISOBAR__TEAM__NAME__KEY` for a team's",
            );
            continue;
        }
        place(root, &path, node, reading);
    }
}

/// A name as a segment of an environment variable.
pub(crate) fn as_segment(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

fn place(table: &mut Table, path: &[&str], node: Node, reading: &Reading) {
    let Some((segment, rest)) = path.split_first() else {
        return;
    };
    let segment = segment.to_ascii_uppercase();
    let key = written_key(table, &segment);
    if rest.is_empty() {
        set(table, &key, node);
        return;
    }
    let known = table.get_mut(&key).map(|entry| &mut entry.node.value);
    match known {
        Some(Value::Table(inner)) if key == "env" => set_as_written(inner, rest, node),
        Some(Value::Table(inner)) if matches!(key.as_str(), "variables" | "connections") => {
            place_free(inner, rest, node, reading);
        }
        Some(Value::Table(inner)) => place(inner, rest, node, reading),
        Some(Value::List(items)) => place_in_list(items, &key, rest, node, reading),
        Some(_) => reading.problem(
            &node.origin,
            format!(
                "`{key}` is a single value and has nothing called `{}` in it",
                rest.join("__")
            ),
            "check the name of the variable",
        ),
        None if LISTS.contains(&key.as_str()) => reading.problem(
            &node.origin,
            format!("no `{key}` is declared that it could be about"),
            format!("declare one with `[[{key}]]` in the file; the environment only changes settings"),
        ),
        None => {
            table.set(
                &key,
                Node {
                    value: Value::Table(Table::default()),
                    origin: node.origin.clone(),
                },
            );
            place(table, path, node, reading);
        }
    }
}

/// `ISOBAR__TEAM__ANALYTICS__…`: the element of the list with that name.
fn place_in_list(items: &mut [Node], key: &str, path: &[&str], node: Node, reading: &Reading) {
    let wanted = path[0].to_ascii_uppercase();
    let names: Vec<String> = items
        .iter()
        .map(|item| element_name(item).unwrap_or_default().to_owned())
        .collect();
    let position = names.iter().position(|name| as_segment(name) == wanted);
    match position.map(|position| &mut items[position].value) {
        Some(Value::Table(inner)) if path.len() > 1 => place(inner, &path[1..], node, reading),
        _ => {
            let declared = names.iter().map(String::as_str).filter(|name| !name.is_empty());
            reading.problem(
                &node.origin,
                format!("no `{key}` is called `{}`, or no key of it is named", path[0]),
                format!(
                    "declared: {}; in variables names are upper-case with `_` for `-`",
                    quoted_list(declared)
                ),
            );
        }
    }
}

fn element_name(item: &Node) -> Option<&str> {
    let Value::Table(table) = &item.value else { return None };
    table
        .text("name")
        .or_else(|| table.text("type"))
        .or_else(|| table.text("class"))
}

/// The key as the table writes it, else in lower case.
fn written_key(table: &Table, segment: &str) -> String {
    let written = table.entries().find(|entry| as_segment(&entry.key) == segment);
    written.map_or_else(|| segment.to_ascii_lowercase(), |entry| entry.key.clone())
}

/// Sets a known key; what older layers said by `_cmd` or `_secret` about the same setting is gone.
fn set(table: &mut Table, key: &str, node: Node) {
    let plain = plain_key(key);
    for rival in [plain.to_owned(), format!("{plain}_cmd"), format!("{plain}_secret")] {
        let older = table
            .get(&rival)
            .is_some_and(|entry| !is_from_isobar(&entry.node.origin));
        if older {
            table.remove(&rival);
        }
    }
    table.set(key, node);
}

fn is_from_isobar(origin: &Origin) -> bool {
    matches!(origin, Origin::Environment(name) if name.starts_with("ISOBAR__"))
}

fn plain_key(key: &str) -> &str {
    ["_cmd", "_secret"]
        .iter()
        .find_map(|suffix| key.strip_suffix(suffix))
        .unwrap_or(key)
}

/// The children's environment variables keep their spelling, and a name such as `CLIENT_SECRET` is only a name.
fn set_as_written(table: &mut Table, path: &[&str], node: Node) {
    table.set(&path.join("__"), node);
}

/// Variables and connections: `…__FOO`, `…__FOO_CMD`, `…__FOO_SECRET`, and `…__FOO__PASSWORD` for a part of one.
fn place_free(table: &mut Table, path: &[&str], node: Node, reading: &Reading) {
    let segment = path[0].to_ascii_uppercase();
    if path.len() > 1 {
        place(table, path, node, reading);
        return;
    }
    let suffixes = [("_CMD", "cmd"), ("_SECRET", "secret")];
    let indirect = suffixes
        .iter()
        .find_map(|(suffix, word)| Some((segment.strip_suffix(suffix)?, *word)));
    match indirect.filter(|(plain, _)| !plain.is_empty()) {
        Some((plain, word)) => {
            let origin = node.origin.clone();
            let mut source = Table::default();
            source.set(word, node);
            table.set(
                &written_key(table, plain),
                Node {
                    value: Value::Table(source),
                    origin,
                },
            );
        }
        None => table.set(&written_key(table, &segment), node),
    }
}
