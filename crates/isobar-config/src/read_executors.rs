//! `executors = […]` and `[[team.executor]]` (rule 10).

use crate::problem::{Origin, quoted_list, suggest};
use crate::reader::Reader;
use crate::reading::Placed;
use crate::{Executor, ExecutorKind};

/// Kinds that are planned; naming one is a clear refusal, not a slip of the finger.
const LATER: [&str; 8] = [
    "celery",
    "kubernetes",
    "edge",
    "ecs",
    "aws",
    "batch",
    "lambda",
    "docker",
];

/// Reads a team's executors in their order; `required` says whether having none is a fault.
pub(crate) fn executors(reader: &Reader<'_>, team: &str, required: bool) -> Vec<Executor> {
    let order = reader.texts("executors");
    let tables = reader.tables("executor");
    if tables.is_empty() && order.as_ref().is_none_or(Vec::is_empty) {
        if required {
            reader.problem(
                format!("team `{team}` has no executor"),
                "add `[[team.executor]]` with `type = \"local\"` below the team",
            );
        }
        return vec![Executor::local()];
    }
    let mut executors: Vec<(Executor, Origin)> = Vec::new();
    for (table, at) in tables {
        let header = if required {
            "[[team.executor]]"
        } else {
            "[[default_team.executor]]"
        };
        let Some(executor) = executor(Reader::new(reader.reading, table, at, header), team) else {
            continue;
        };
        if let Some((_, first)) = executors.iter().find(|(known, _)| known.name == executor.name) {
            reader.reading.problem(
                at,
                format!(
                    "team `{team}` has two executors called `{}`, the other at {first}",
                    executor.name
                ),
                "give one of them another `name`",
            );
        }
        executors.push((executor, at.clone()));
    }
    match order {
        Some(order) => in_order(reader, team, &order, executors),
        None => executors.into_iter().map(|(executor, _)| executor).collect(),
    }
}

fn in_order(
    reader: &Reader<'_>,
    team: &str,
    order: &[Placed<String>],
    mut executors: Vec<(Executor, Origin)>,
) -> Vec<Executor> {
    let mut ordered = Vec::new();
    for name in order {
        if let Some(position) = executors.iter().position(|(executor, _)| executor.name == name.value) {
            ordered.push(executors.remove(position).0);
        } else if ordered.iter().any(|executor| executor.name == name.value) {
            let hint = "keep it once";
            reader
                .reading
                .problem(&name.at, format!("executor `{}` is listed twice", name.value), hint);
        } else if let Some(kind) = kind(reader, &name.value, &name.at, team) {
            ordered.push(Executor {
                name: name.value.clone(),
                kind,
                parallelism: None,
            });
        }
    }
    for (executor, at) in executors {
        reader.reading.problem(
            &at,
            format!(
                "executor `{}` of team `{team}` is not in its list `executors`",
                executor.name
            ),
            format!(
                "add it to the list: {}",
                quoted_list(order.iter().map(|name| name.value.as_str()))
            ),
        );
    }
    ordered
}

fn executor(reader: Reader<'_>, team: &str) -> Option<Executor> {
    let (by_type, by_class) = (reader.text("type"), reader.text("class"));
    let Some(written) = by_class.or(by_type.clone()) else {
        if !reader.has("type") && !reader.has("class") {
            reader.problem("an executor has no type", "give it `type = \"local\"`");
        }
        reader.forgive();
        return None;
    };
    let name = reader
        .text("name")
        .or(by_type)
        .map_or_else(|| written.value.clone(), |name| name.value);
    let kind = kind(&reader, &written.value, &written.at, team);
    let Some(kind) = kind else {
        // Its other keys belong to a kind that is not known here.
        reader.forgive();
        return None;
    };
    let executor = Executor {
        name,
        kind,
        parallelism: reader.optional_count("parallelism", 1),
    };
    reader.finish();
    Some(executor)
}

fn kind(reader: &Reader<'_>, word: &str, at: &Origin, team: &str) -> Option<ExecutorKind> {
    if ExecutorKind::Local.answers_to(word) {
        return Some(ExecutorKind::Local);
    }
    let folded = word.to_ascii_lowercase();
    let (what, hint) = if word.starts_with("shared:") {
        (
            format!("team `{team}` lists `{word}`, but executors of the organisation come later"),
            "today each team has executors of its own: `type = \"local\"`".to_owned(),
        )
    } else if LATER.iter().any(|kind| folded.starts_with(kind)) {
        (
            format!("executor `{word}` of team `{team}`: this kind comes later"),
            "today: `type = \"local\"`".to_owned(),
        )
    } else {
        (
            format!("there is no kind of executor called `{word}`"),
            suggest(word, [ExecutorKind::Local.as_str()]),
        )
    };
    reader.reading.problem(at, what, hint);
    None
}
