//! What the operations need to know of the configuration.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use isobar_auth::MasterKey;
use isobar_config::{Config, ConsentAction, Secret};
use isobar_model::TeamName;
use isobar_model::dag::SerializedDag;
use jiff::SignedDuration;

/// Settings of the operations.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether teams show at all (rule 1).
    pub multi_team: bool,
    /// Longest list or dict that a task may be mapped over.
    pub max_map_length: i64,
    /// New Dags arrive paused, where neither Dag nor team says.
    pub dags_are_paused_at_creation: bool,
    /// `core.rerun_with_latest_version`
    pub rerun_with_latest_version: Option<bool>,
    /// How long a triggerer counts as alive after it said so.
    pub triggerer_alive: SignedDuration,
    /// What single teams say.
    pub teams: Vec<TeamSettings>,
    /// Opens and seals secrets.
    pub master_key: MasterKey,
}

/// What one team says.
#[derive(Clone, Debug)]
pub struct TeamSettings {
    /// The team.
    pub name: TeamName,
    /// New Dags arrive paused.
    pub dags_are_paused_at_creation: Option<bool>,
    /// The environment of its children, in which variables may be set.
    pub env: BTreeMap<String, Secret>,
    /// What others may do with its Dags (rule 20).
    pub consents: Vec<ConsentRule>,
}

/// One consent of a team's configuration, compiled.
#[derive(Clone, Debug)]
pub struct ConsentRule {
    dags: Vec<GlobMatcher>,
    teams: Vec<GlobMatcher>,
    actions: Vec<ConsentAction>,
}

impl Settings {
    /// The settings of a whole configuration.
    #[must_use]
    pub fn from_config(config: &Config, master_key: MasterKey) -> Self {
        let teams = config
            .teams
            .iter()
            .map(|team| TeamSettings {
                name: team.name.clone(),
                dags_are_paused_at_creation: team.dags_are_paused_at_creation,
                env: team.env.clone(),
                consents: team
                    .consents
                    .iter()
                    .map(|consent| ConsentRule {
                        dags: globs(&consent.dags),
                        teams: globs(&consent.teams),
                        actions: consent.actions.clone(),
                    })
                    .collect(),
            })
            .collect();
        Self {
            multi_team: config.core.multi_team,
            max_map_length: i64::from(config.core.max_map_length),
            dags_are_paused_at_creation: config.core.dags_are_paused_at_creation,
            rerun_with_latest_version: config.core.rerun_with_latest_version,
            triggerer_alive: SignedDuration::try_from(config.triggerer.triggerer_health_check_threshold)
                .unwrap_or(SignedDuration::MAX),
            teams,
            master_key,
        }
    }

    /// Whether a Dag of this team that says nothing itself arrives paused.
    #[must_use]
    pub fn paused_at_creation(&self, team: &str) -> bool {
        self.team(team)
            .and_then(|team| team.dags_are_paused_at_creation)
            .unwrap_or(self.dags_are_paused_at_creation)
    }

    /// Whether a run that runs again goes on with the Dag's latest version: as the request says, else as the Dag does, else as
    /// the configuration does, else `otherwise`.
    #[must_use]
    pub fn runs_again_on_latest(&self, asked: Option<bool>, dag: &SerializedDag, otherwise: bool) -> bool {
        asked
            .or(dag.rerun_with_latest_version)
            .or(self.rerun_with_latest_version)
            .unwrap_or(otherwise)
    }

    pub(crate) fn team(&self, name: &str) -> Option<&TeamSettings> {
        self.teams.iter().find(|team| team.name.as_str() == name)
    }
}

impl ConsentRule {
    pub(crate) fn allows(&self, dag_id: &str, caller: &str, action: ConsentAction) -> bool {
        self.actions.contains(&action)
            && self.dags.iter().any(|glob| glob.is_match(dag_id))
            && self.teams.iter().any(|glob| glob.is_match(caller))
    }
}

/// Compiles globs; one that cannot be read matches nothing (the configuration was checked before).
fn globs(texts: &[String]) -> Vec<GlobMatcher> {
    texts.iter().filter_map(|text| glob(text)).collect()
}

/// A glob over names, in which `*` stands for anything.
pub(crate) fn glob(text: &str) -> Option<GlobMatcher> {
    GlobBuilder::new(text).build().ok().map(|glob| glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_request_goes_before_the_dag_and_the_dag_before_the_configuration() {
        let dag = |says: Option<bool>| {
            let mut dag = json!({"dag_id": "d", "fileloc": "/d.py", "timezone": "UTC", "tasks": [],
                "timetable": {"__type": "airflow.timetables.simple.NullTimetable", "__var": {}}});
            if let Some(says) = says {
                dag["rerun_with_latest_version"] = says.into();
            }
            SerializedDag::read(json!({"__version": 3, "dag": dag})).unwrap()
        };
        let mut settings = Settings {
            multi_team: false,
            max_map_length: 1,
            dags_are_paused_at_creation: true,
            rerun_with_latest_version: None,
            triggerer_alive: SignedDuration::from_secs(30),
            teams: Vec::new(),
            master_key: MasterKey::from_text(&"k".repeat(32)).unwrap(),
        };
        let asked =
            |settings: &Settings, asked, says, otherwise| settings.runs_again_on_latest(asked, &dag(says), otherwise);
        assert!(asked(&settings, None, None, true) && !asked(&settings, None, None, false));
        settings.rerun_with_latest_version = Some(true);
        assert!(asked(&settings, None, None, false));
        assert!(!asked(&settings, None, Some(false), true));
        assert!(asked(&settings, Some(true), Some(false), false));
    }
}
