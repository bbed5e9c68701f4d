//! `dags_folder`, `dag_bundle_config_list` and `plugins_folder`.

use std::path::Path;

use serde_json::Value;

use super::ini::Ini;
use super::writing::Draft;
use super::{Conversion, fates};

const LOCAL_BUNDLE: &str = "airflow.dag_processing.bundles.local.LocalDagBundle";

pub(super) fn read(ini: &Ini, multi_team: bool, conversion: &Conversion, draft: &mut Draft) {
    let default = || conversion.airflow_home.join("dags").display().to_string();
    let dags_folder = ini.get("core", "dags_folder").unwrap_or_else(default);
    let bundles = ini.get("dag_processor", "dag_bundle_config_list").unwrap_or_default();
    if bundles.trim().is_empty() {
        bundle(None, "dags-folder", Some(&dags_folder), multi_team, draft);
    } else if let Ok(Value::Array(bundles)) = serde_json::from_str(&bundles) {
        for one in &bundles {
            let text = |key: &str| one.get(key).and_then(Value::as_str);
            let name = text("name").unwrap_or("(without a name)");
            let path = match text("classpath") {
                Some(LOCAL_BUNDLE) => {
                    let kwargs = one.get("kwargs").and_then(|kwargs| kwargs.get("path"));
                    Some(kwargs.and_then(Value::as_str).unwrap_or(&dags_folder))
                }
                _ => None,
            };
            bundle(text("team_name"), name, path, multi_team, draft);
        }
    } else {
        draft.leave_out(
            "dag_processor",
            "dag_bundle_config_list",
            "it is not a JSON list of bundles",
        );
    }
    plugins(ini, multi_team, conversion, draft);
}

fn bundle(team: Option<&str>, name: &str, path: Option<&str>, multi_team: bool, draft: &mut Draft) {
    let place = format!("bundle `{name}`");
    match (path, team) {
        (None, _) => draft.leave_out(
            "dag_processor",
            &place,
            "it is not a folder; bundles of other kinds come later, until then name a checkout as a Dag folder",
        ),
        (Some(path), None) if !multi_team => draft.default_team.folders.push(path.to_owned()),
        (Some(path), Some(team)) if multi_team => draft.team(team).folders.push(path.to_owned()),
        (Some(_), Some(_)) => draft.leave_out("dag_processor", &place, "it names a team, but `multi_team` is off"),
        (Some(_), None) => draft.leave_out(
            "dag_processor",
            &place,
            "it names no team, and every Dag belongs to exactly one; add its folder to the `folders` of a team",
        ),
    }
}

/// Plugins of tasks are read from a folder that the children may read.
fn plugins(ini: &Ini, multi_team: bool, conversion: &Conversion, draft: &mut Draft) {
    let Some(folder) = ini.get("core", "plugins_folder").filter(|folder| !folder.is_empty()) else {
        return;
    };
    let has_files = std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    let is_default = fates::find("core", "plugins_folder")
        .is_some_and(|known| fates::is_default(known, &folder, &conversion.airflow_home));
    if !has_files && is_default {
        return;
    }
    if multi_team || !Path::new(&folder).is_absolute() {
        let why = "plugins are a team's own; name the folder in `read_folders` and in `env` of the teams that use it";
        return draft.leave_out("core", "plugins_folder", why);
    }
    draft.default_team.read_folders.push(folder.clone());
    draft.child(None, "core", "plugins_folder", &folder);
    draft.leave_out(
        "core",
        "plugins_folder",
        "what tasks and Dag files use of it is carried over; plugins of the web server and of the scheduler are not loaded",
    );
}
