//! Airflow's keys that mean the same here, for `AIRFLOW__SECTION__KEY` (rule 7).
//!
//! Absent on purpose: `database.sql_alchemy_conn`, which names Airflow's own tables, and `core.fernet_key`.

/// (Airflow's section, Airflow's key, our section, our key).
pub(crate) const SAME_MEANING: &[(&str, &str, &str, &str)] = &[
    ("core", "multi_team", "core", "multi_team"),
    ("core", "dags_folder", "default_team", "folders"),
    ("core", "executor", "default_team", "executors"),
    ("core", "parallelism", "core", "parallelism"),
    (
        "core",
        "dags_are_paused_at_creation",
        "core",
        "dags_are_paused_at_creation",
    ),
    ("core", "max_active_runs_per_dag", "core", "max_active_runs_per_dag"),
    ("core", "max_active_tasks_per_dag", "core", "max_active_tasks_per_dag"),
    (
        "core",
        "max_consecutive_failed_dag_runs_per_dag",
        "core",
        "max_consecutive_failed_dag_runs_per_dag",
    ),
    ("core", "default_task_retries", "core", "default_task_retries"),
    ("core", "default_task_retry_delay", "core", "default_task_retry_delay"),
    ("core", "max_task_retry_delay", "core", "max_task_retry_delay"),
    (
        "core",
        "default_task_execution_timeout",
        "core",
        "default_task_execution_timeout",
    ),
    ("core", "default_task_weight_rule", "core", "default_task_weight_rule"),
    (
        "core",
        "default_pool_task_slot_count",
        "core",
        "default_pool_task_slot_count",
    ),
    ("core", "max_map_length", "core", "max_map_length"),
    ("core", "default_timezone", "core", "default_timezone"),
    (
        "core",
        "num_dag_runs_to_retain_rendered_fields",
        "core",
        "num_dag_runs_to_retain_rendered_fields",
    ),
    ("core", "rerun_with_latest_version", "core", "rerun_with_latest_version"),
    (
        "core",
        "hide_sensitive_var_conn_fields",
        "core",
        "hide_sensitive_var_conn_fields",
    ),
    ("core", "sensitive_var_conn_names", "core", "sensitive_var_conn_names"),
    ("core", "dagbag_import_timeout", "parsing", "import_timeout"),
    ("core", "dag_discovery_safe_mode", "parsing", "safe_mode"),
    ("core", "killed_task_cleanup_time", "tasks", "kill_grace"),
    ("core", "task_success_overtime", "tasks", "success_overtime"),
    ("api", "host", "server", "host"),
    ("api", "port", "server", "port"),
    ("api", "base_url", "server", "base_url"),
    ("api", "maximum_page_limit", "server", "maximum_page_limit"),
    ("api", "fallback_page_limit", "server", "fallback_page_limit"),
    ("api_auth", "jwt_expiration_time", "auth", "token_lifetime"),
    ("api_auth", "jwt_cli_expiration_time", "auth", "cli_token_lifetime"),
    ("api_auth", "jwt_secret", "auth", "secret_key"),
    ("execution_api", "jwt_expiration_time", "tasks", "token_lifetime"),
    ("scheduler", "catchup_by_default", "scheduler", "catchup_by_default"),
    (
        "scheduler",
        "create_cron_data_intervals",
        "scheduler",
        "create_cron_data_intervals",
    ),
    (
        "scheduler",
        "create_delta_data_intervals",
        "scheduler",
        "create_delta_data_intervals",
    ),
    ("scheduler", "use_job_schedule", "scheduler", "use_job_schedule"),
    (
        "scheduler",
        "partition_mapper_max_downstream_keys",
        "scheduler",
        "partition_mapper_max_downstream_keys",
    ),
    ("scheduler", "task_queued_timeout", "scheduler", "task_queued_timeout"),
    (
        "scheduler",
        "task_instance_heartbeat_timeout",
        "tasks",
        "heartbeat_timeout",
    ),
    ("triggerer", "capacity", "triggerer", "capacity"),
    (
        "triggerer",
        "max_trigger_to_select_per_loop",
        "triggerer",
        "max_trigger_to_select_per_loop",
    ),
    (
        "triggerer",
        "triggerer_health_check_threshold",
        "triggerer",
        "triggerer_health_check_threshold",
    ),
    (
        "triggerer",
        "runner_health_check_threshold",
        "triggerer",
        "runner_health_check_threshold",
    ),
    ("workers", "min_heartbeat_interval", "tasks", "heartbeat_interval"),
    ("dag_processor", "parsing_processes", "parsing", "processes"),
    ("dag_processor", "dag_file_processor_timeout", "parsing", "timeout"),
    ("dag_processor", "refresh_interval", "parsing", "rescan_interval"),
    ("logging", "base_log_folder", "logging", "folder"),
    ("logging", "logging_level", "logging", "level"),
    ("logging", "json_logs", "logging", "json"),
    (
        "logging",
        "min_length_masked_secret",
        "logging",
        "min_length_masked_secret",
    ),
];

/// Our key for what stands after `AIRFLOW__`, `_CMD` and `_SECRET` included; none where nothing means the same.
pub(crate) fn isobar_path(rest: &str) -> Option<[String; 2]> {
    let (section, key) = rest.split_once("__")?;
    let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    let suffix = ["_cmd", "_secret"].into_iter().find(|suffix| key.ends_with(suffix));
    let look_up = |key: &str, suffix: &str| {
        let (_, _, our_section, our_key) = SAME_MEANING
            .iter()
            .find(|(their_section, their_key, ..)| *their_section == section && *their_key == key)?;
        Some([(*our_section).to_owned(), format!("{our_key}{suffix}")])
    };
    // `jwt_secret` is a key of its own, not the secret source of a key `jwt`.
    look_up(&key, "").or_else(|| suffix.and_then(|suffix| look_up(key.strip_suffix(suffix)?, suffix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_an_indirection_keeps_it_and_a_stranger_has_no_meaning() {
        let path = |rest| isobar_path(rest).map(|path| path.join("."));
        assert_eq!(path("API_AUTH__JWT_SECRET").as_deref(), Some("auth.secret_key"));
        assert_eq!(path("API_AUTH__JWT_SECRET_CMD").as_deref(), Some("auth.secret_key_cmd"));
        assert_eq!(path("CORE__PARALLELISM").as_deref(), Some("core.parallelism"));
        assert_eq!(path("DATABASE__SQL_ALCHEMY_CONN"), None);
    }
}
