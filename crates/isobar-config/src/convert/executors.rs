//! `core.executor`: `LocalExecutor`, `a:LocalExecutor,CeleryExecutor`, and with teams `LocalExecutor;team=…;other=…`.

use super::ini::Ini;
use super::writing::Draft;
use crate::ExecutorKind;

/// One executor as Airflow writes it.
struct Written {
    alias: Option<String>,
    class: String,
}

pub(super) fn read(ini: &Ini, multi_team: bool, draft: &mut Draft) {
    let text = ini
        .get("core", "executor")
        .unwrap_or_else(|| "LocalExecutor".to_owned());
    let mut everywhere = Vec::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((team, list)) if !team.trim().is_empty() => {
                if multi_team {
                    let local = locals(&written(list), &format!("executor of team `{}`", team.trim()), draft);
                    draft.team(team.trim()).executors = local;
                } else {
                    draft.leave_out("core", "executor", "it names teams, but `multi_team` is off");
                }
            }
            _ => everywhere = written(part.trim_start_matches('=')),
        }
    }
    let local = locals(&everywhere, "executor", draft);
    if !multi_team {
        draft.default_team.executors = local;
        return;
    }
    let several = draft.teams.len() > 1;
    for team in draft.teams.iter_mut().filter(|team| team.executors.is_empty()) {
        team.executors.clone_from(&local);
    }
    if several && !everywhere.is_empty() {
        draft.leave_out(
            "core",
            "executor",
            "executors for all teams come later; a team that has none of its own gets its own of the same kind",
        );
    }
}

fn written(list: &str) -> Vec<Written> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| match name.split_once(':') {
            Some((alias, class)) => Written {
                alias: Some(alias.to_owned()),
                class: class.to_owned(),
            },
            None => Written {
                alias: None,
                class: name.to_owned(),
            },
        })
        .collect()
}

/// The local ones; the others are said. Never empty: a team without an executor would be a fault.
fn locals(executors: &[Written], place: &str, draft: &mut Draft) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for executor in executors {
        if ExecutorKind::Local.answers_to(&executor.class) {
            let name = executor.alias.clone().unwrap_or_else(|| "local".to_owned());
            if !names.contains(&name) {
                names.push(name);
            }
            continue;
        }
        let class = executor.class.rsplit('.').next().unwrap_or_default();
        draft.leave_out("core", place, &format!("`{class}` comes later"));
    }
    if names.is_empty() {
        if !executors.is_empty() {
            draft.leave_out("core", place, "until then its tasks run on this host, by `local`");
        }
        names.push("local".to_owned());
    }
    names
}
