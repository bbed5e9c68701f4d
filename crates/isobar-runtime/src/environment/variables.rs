//! The environment variables of a team's children: all of Airflow's configuration that they get. There is no
//! `airflow.cfg` and no database address.

use std::collections::BTreeMap;

use isobar_config::{Config, ExecutorKind, Team};
use serde_json::json;

use crate::processor::Bundle;

/// The variables, beside those of [`crate::sandbox::Confinement::environment`]. The team's own come last and may
/// replace any but the names that would undo the separation.
#[must_use]
pub fn variables(config: &Config, team: &Team) -> BTreeMap<String, String> {
    let mut variables = airflow(config, team);
    for (name, value) in &team.env {
        if !OURS.contains(&name.as_str()) {
            variables.insert(name.clone(), value.expose().to_owned());
        }
    }
    variables
}

/// What a team's `env` cannot change: Isobar's own choices, on which its walls or its protocol rest.
const OURS: &[&str] = &[
    "AIRFLOW_HOME",
    "AIRFLOW__CORE__MULTI_TEAM",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST",
    "HOME",
    "TMPDIR",
    crate::sandbox::CONFINEMENT_VARIABLE,
];

fn airflow(config: &Config, team: &Team) -> BTreeMap<String, String> {
    let core = &config.core;
    let word = |flag: bool| if flag { "True" } else { "False" }.to_owned();
    let bundles: Vec<_> = (Bundle::of_team(team).iter())
        .map(|bundle| {
            json!({
                "name": &*bundle.name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": bundle.folder},
            })
        })
        .collect();
    let dags_folder = Bundle::of_team(team)
        .first()
        .map(|bundle| bundle.folder.display().to_string());
    let seconds = |time: std::time::Duration| time.as_secs().to_string();
    let set = [
        ("CORE__LOAD_EXAMPLES", "False".to_owned()),
        ("CORE__MULTI_TEAM", "False".to_owned()),
        ("CORE__DAGS_FOLDER", dags_folder.unwrap_or_default()),
        ("CORE__EXECUTOR", executors(team)),
        ("CORE__DEFAULT_TIMEZONE", core.default_timezone.clone()),
        ("CORE__DEFAULT_TASK_RETRIES", core.default_task_retries.to_string()),
        ("CORE__DEFAULT_TASK_RETRY_DELAY", seconds(core.default_task_retry_delay)),
        ("CORE__MAX_TASK_RETRY_DELAY", seconds(core.max_task_retry_delay)),
        (
            "CORE__DEFAULT_TASK_EXECUTION_TIMEOUT",
            core.default_task_execution_timeout.map(seconds).unwrap_or_default(),
        ),
        (
            "CORE__DEFAULT_TASK_WEIGHT_RULE",
            core.default_task_weight_rule.as_str().to_owned(),
        ),
        (
            "CORE__MAX_ACTIVE_RUNS_PER_DAG",
            core.max_active_runs_per_dag.to_string(),
        ),
        (
            "CORE__MAX_ACTIVE_TASKS_PER_DAG",
            core.max_active_tasks_per_dag.to_string(),
        ),
        (
            "CORE__MAX_CONSECUTIVE_FAILED_DAG_RUNS_PER_DAG",
            core.max_consecutive_failed_dag_runs_per_dag.to_string(),
        ),
        (
            "CORE__DAGBAG_IMPORT_TIMEOUT",
            config.parsing.import_timeout.as_secs_f64().to_string(),
        ),
        ("CORE__DAG_DISCOVERY_SAFE_MODE", word(config.parsing.safe_mode)),
        (
            "CORE__HIDE_SENSITIVE_VAR_CONN_FIELDS",
            word(core.hide_sensitive_var_conn_fields),
        ),
        (
            "SCHEDULER__CATCHUP_BY_DEFAULT",
            word(config.scheduler.catchup_by_default),
        ),
        (
            "SCHEDULER__CREATE_CRON_DATA_INTERVALS",
            word(config.scheduler.create_cron_data_intervals),
        ),
        (
            "SCHEDULER__CREATE_DELTA_DATA_INTERVALS",
            word(config.scheduler.create_delta_data_intervals),
        ),
        ("LOGGING__LOGGING_LEVEL", config.logging.level.as_str().to_owned()),
        ("API__BASE_URL", config.server.base_url.clone()),
        ("DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json!(bundles).to_string()),
    ];
    let plugins = (team.plugins_folder.iter()).map(|folder| ("CORE__PLUGINS_FOLDER", folder.display().to_string()));
    set.into_iter()
        .chain(plugins)
        .map(|(name, value)| (format!("AIRFLOW__{name}"), value))
        .collect()
}

/// The names that a task's `executor=` may have. Airflow wants a class of its own behind each; it only looks at the
/// names here, and never loads them.
fn executors(team: &Team) -> String {
    let mut kinds_seen: Vec<ExecutorKind> = Vec::new();
    let entries: Vec<String> = (team.executors.iter())
        .map(|executor| {
            let (module, class) = match executor.kind {
                ExecutorKind::Local => ("airflow.executors.local_executor", "LocalExecutor"),
            };
            // A type name means the team's first of that type.
            if kinds_seen.contains(&executor.kind) {
                format!("{0}:isobar.executors.{0}.Executor_{0}", executor.name)
            } else {
                kinds_seen.push(executor.kind);
                format!("{}:{module}.{class}", executor.name)
            }
        })
        .collect();
    entries.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_config::{Executor, Secret};

    #[test]
    fn a_team_may_set_variables_but_not_those_that_its_separation_rests_on() {
        let mut config = Config::with_home("/state");
        config.teams[0].env = BTreeMap::from([
            ("STAGE".to_owned(), Secret::new("test")),
            ("AIRFLOW_HOME".to_owned(), Secret::new("/elsewhere")),
            ("AIRFLOW__CORE__MULTI_TEAM".to_owned(), Secret::new("True")),
        ]);
        let variables = variables(&config, &config.teams[0]);
        assert_eq!(variables["STAGE"], "test");
        assert_eq!(variables["AIRFLOW__CORE__MULTI_TEAM"], "False");
        assert!(!variables.contains_key("AIRFLOW_HOME"));
        assert!(
            !variables
                .keys()
                .any(|name| name.contains("SQL_ALCHEMY") || name.contains("FERNET"))
        );
    }

    #[test]
    fn a_type_name_means_the_first_executor_of_that_type() {
        let mut config = Config::with_home("/state");
        config.teams[0].executors.push(Executor {
            name: "gpu".to_owned(),
            ..Executor::local()
        });
        let expected = "local:airflow.executors.local_executor.LocalExecutor,gpu:isobar.executors.gpu.Executor_gpu";
        assert_eq!(executors(&config.teams[0]), expected);
    }
}
