//! The proposal's other layout, `[[executor.TEAM.NAME]]`, and its form for one team, rewritten into `[[team]]` with
//! `[[team.executor]]`, the one layout that the rest of this crate knows (rule 6).

use crate::problem::{Origin, quoted_list, suggest};
use crate::reading::Reading;
use crate::tree::{Entry, Node, Table, Value};

/// Rewrites `executor = …` at the top of the tree, where it stands.
pub(crate) fn apply(root: &mut Table, reading: &Reading) {
    if let Some(entry) = root.remove("executor") {
        rewrite(root, &entry, reading);
    }
    if let Some(Entry {
        node: Node {
            value: Value::List(teams),
            ..
        },
        ..
    }) = root.get_mut("team")
    {
        for team in teams {
            if let Value::Table(table) = &mut team.value {
                name_bare_executors(table);
            }
        }
    }
    if let Some(Entry {
        node: Node {
            value: Value::Table(table),
            ..
        },
        ..
    }) = root.get_mut("default_team")
    {
        name_bare_executors(table);
    }
}

fn rewrite(root: &mut Table, entry: &Entry, reading: &Reading) {
    let Some(tables) = entry.node.tables() else {
        reading.problem(
            &entry.node.origin,
            format!("`executor` must be one or several tables, not {}", entry.node.kind()),
            "write `[[team.executor]]` below its `[[team]]`",
        );
        return;
    };
    let is_executor = |table: &Table| table.text("type").is_some() || table.text("class").is_some();
    if tables.iter().all(|(table, _)| is_executor(table)) {
        let items = tables.iter().map(|(table, at)| Node {
            value: Value::Table((*table).clone()),
            origin: (*at).clone(),
        });
        let list = Node {
            value: Value::List(items.collect()),
            origin: entry.node.origin.clone(),
        };
        put_into_default_team(root, "executor", list, reading);
        return;
    }
    let merged = merge(&tables, reading);
    match (merged.get("teams"), merged.get("executors")) {
        (None, Some(_)) => {
            let team = team_from(&merged, reading);
            for part in team.entries() {
                put_into_default_team(root, &part.key, part.node.clone(), reading);
            }
        }
        _ => rewrite_teams(root, &merged, reading),
    }
}

fn rewrite_teams(root: &mut Table, merged: &Table, reading: &Reading) {
    let listed: Option<Vec<(String, Origin)>> = merged.get("teams").map(|entry| texts(&entry.node, "teams", reading));
    let parts: Vec<&Entry> = merged.entries().filter(|entry| entry.key != "teams").collect();
    if let Some(listed) = &listed {
        for (name, at) in listed.iter().filter(|(name, _)| merged.get(name).is_none()) {
            reading.problem(
                at,
                format!("team `{name}` is listed, but there is no `[executor.{name}]`"),
                suggest(name, parts.iter().map(|part| part.key.as_str())),
            );
        }
    }
    for part in parts {
        let Some(tables) = part.node.tables() else {
            reading.problem(
                &part.key_origin,
                format!("unknown key `{}` in `[executor]`", part.key),
                "here stand `teams = [\"…\"]` and one table `[executor.TEAM]` for each team",
            );
            continue;
        };
        if listed
            .as_ref()
            .is_some_and(|listed| !listed.iter().any(|(name, _)| *name == part.key))
        {
            let names = listed.iter().flatten().map(|(name, _)| name.as_str());
            reading.problem(
                &part.key_origin,
                format!("team `{}` is not listed in `teams` of `[executor]`", part.key),
                suggest(&part.key, names),
            );
        }
        let team = team_from(&merge(&tables, reading), reading);
        put_team(root, &part.key, &part.key_origin, &team, reading);
    }
}

/// `[executor.TEAM]` as the keys of a `[[team]]`: tables that `executors` lists are executors, the rest is the team's.
fn team_from(table: &Table, reading: &Reading) -> Table {
    let listed: Vec<String> = (table.get("executors").into_iter())
        .flat_map(|entry| texts(&entry.node, "executors", reading))
        .map(|(name, _)| name)
        .collect();
    let mut team = Table::default();
    let mut executors = Vec::new();
    for entry in table.entries() {
        let tables = entry.node.tables().filter(|tables| !tables.is_empty());
        let has_class = tables.iter().flatten().any(|(table, _)| table.get("class").is_some());
        match tables {
            Some(tables) if listed.contains(&entry.key) || has_class => {
                executors.push(executor_from(
                    &entry.key,
                    &entry.key_origin,
                    merge(&tables, reading),
                    reading,
                ));
            }
            _ => team.put(entry.clone()),
        }
    }
    if let Some(first) = executors.first() {
        let origin = first.origin.clone();
        team.set(
            "executor",
            Node {
                value: Value::List(executors),
                origin,
            },
        );
    }
    team
}

/// `[executor.TEAM.NAME]` with its `configuration` as one `[[team.executor]]`.
fn executor_from(name: &str, at: &Origin, mut table: Table, reading: &Reading) -> Node {
    if let Some(configuration) = table.remove("configuration") {
        match configuration.node.tables() {
            Some(tables) => merge(&tables, reading)
                .entries()
                .for_each(|entry| match table.get(&entry.key) {
                    Some(present) => reading.problem(
                        &entry.key_origin,
                        format!("`{}` is already given at {}", entry.key, present.key_origin),
                        "keep one of the two",
                    ),
                    None => table.put(entry.clone()),
                }),
            None => reading.problem(
                &configuration.key_origin,
                "`configuration` must be a table",
                format!("write `[executor.TEAM.{name}.configuration]`"),
            ),
        }
    }
    let text = |text: &str| Node {
        value: Value::Text(text.to_owned()),
        origin: at.clone(),
    };
    if table.get("class").is_none() && table.get("type").is_none() {
        table.set("type", text(name));
    }
    table.set("name", text(name));
    Node {
        value: Value::Table(table),
        origin: at.clone(),
    }
}

/// `executors = ["local"]` without a table of that name becomes one, so that the environment can speak about it.
fn name_bare_executors(team: &mut Table) {
    let Some(listed) = team.get("executors") else { return };
    let names: Vec<(String, Origin)> = match &listed.node.value {
        Value::List(items) => items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Text(name) => Some((name.clone(), item.origin.clone())),
                _ => None,
            })
            .collect(),
        Value::Text(name) => vec![(name.clone(), listed.node.origin.clone())],
        _ => return,
    };
    let origin = listed.node.origin.clone();
    let mut executors = match team.remove("executor").map(|entry| entry.node) {
        Some(Node {
            value: Value::List(items),
            ..
        }) => items,
        Some(single) => vec![single],
        None => Vec::new(),
    };
    for (name, at) in names {
        let is_named = |item: &Node| match &item.value {
            Value::Table(table) => table.text("name").or_else(|| table.text("type")) == Some(&name),
            _ => false,
        };
        if !executors.iter().any(is_named) {
            let mut table = Table::default();
            table.set(
                "type",
                Node {
                    value: Value::Text(name),
                    origin: at.clone(),
                },
            );
            executors.push(Node {
                value: Value::Table(table),
                origin: at,
            });
        }
    }
    if !executors.is_empty() {
        team.set(
            "executor",
            Node {
                value: Value::List(executors),
                origin,
            },
        );
    }
}

fn put_team(root: &mut Table, name: &str, at: &Origin, team: &Table, reading: &Reading) {
    if root.get("team").is_none() {
        root.set(
            "team",
            Node {
                value: Value::List(Vec::new()),
                origin: at.clone(),
            },
        );
    }
    let Some(Entry {
        node: Node {
            value: Value::List(teams),
            ..
        },
        ..
    }) = root.get_mut("team")
    else {
        return;
    };
    let declared = teams.iter_mut().find_map(|node| match &mut node.value {
        Value::Table(table) if table.text("name") == Some(name) => Some(table),
        _ => None,
    });
    if let Some(declared) = declared {
        team.entries()
            .for_each(|entry| put_new(declared, entry.clone(), reading));
        return;
    }
    let mut fresh = team.clone();
    fresh.set(
        "name",
        Node {
            value: Value::Text(name.to_owned()),
            origin: at.clone(),
        },
    );
    teams.push(Node {
        value: Value::Table(fresh),
        origin: at.clone(),
    });
}

fn put_into_default_team(root: &mut Table, key: &str, node: Node, reading: &Reading) {
    if root.get("default_team").is_none() {
        root.set(
            "default_team",
            Node {
                value: Value::Table(Table::default()),
                origin: node.origin.clone(),
            },
        );
    }
    if let Some(Entry {
        node: Node {
            value: Value::Table(table),
            ..
        },
        ..
    }) = root.get_mut("default_team")
    {
        put_new(
            table,
            Entry {
                key: key.to_owned(),
                key_origin: node.origin.clone(),
                node,
            },
            reading,
        );
    }
}

/// Puts an entry in; one that is there already makes a fault.
fn put_new(table: &mut Table, entry: Entry, reading: &Reading) {
    match table.get(&entry.key) {
        Some(present) => reading.problem(
            &entry.key_origin,
            format!("`{}` is already given at {}", entry.key, present.key_origin),
            "use one of the two layouts for a team, not both",
        ),
        None => table.put(entry),
    }
}

/// Several tables of one name as one; a key given twice makes a fault.
fn merge(tables: &[(&Table, &Origin)], reading: &Reading) -> Table {
    let mut merged = Table::default();
    for (table, _) in tables {
        table
            .entries()
            .for_each(|entry| put_new(&mut merged, entry.clone(), reading));
    }
    merged
}

fn texts(node: &Node, key: &str, reading: &Reading) -> Vec<(String, Origin)> {
    let text = |node: &Node| match &node.value {
        Value::Text(text) => Some((text.clone(), node.origin.clone())),
        _ => None,
    };
    let texts = match &node.value {
        Value::List(items) => items.iter().map(text).collect(),
        _ => text(node).map(|one| vec![one]),
    };
    texts.unwrap_or_else(|| {
        let hint = format!("write `{key} = [{}]`", quoted_list(["one", "two"]).replace('`', "\""));
        reading.problem(&node.origin, format!("`{key}` must be a list of texts"), hint);
        Vec::new()
    })
}
