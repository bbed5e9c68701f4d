//! From the tree to the settings of the whole deployment.

use std::path::{Path, PathBuf};

use isobar_model::WeightRule;

use crate::reader::Reader;
use crate::wording::quote;
use crate::{
    ConnectionSource, Connections, Core, Database, LogLevel, Logging, Parsing, Scheduler, Secret, Server, Shared,
    Tasks, Triggerer,
};

/// `[core]` and, read with it, the state folder.
pub(crate) fn core(reader: Reader<'_>, default_home: &Path) -> (Core, PathBuf) {
    let default = Core::default();
    let home = match reader
        .reading
        .surroundings
        .environment
        .get("ISOBAR_HOME")
        .filter(|home| !home.is_empty())
    {
        Some(home) => {
            reader.raw("home");
            let origin = crate::problem::Origin::Environment("ISOBAR_HOME".into());
            let home = reader.reading.resolve(home, &origin);
            reader.show("home", &quote(&home.to_string_lossy()), &origin);
            home
        }
        None => reader.path("home", default_home.to_owned()),
    };
    let weight_rules = [
        ("downstream", WeightRule::Downstream),
        ("upstream", WeightRule::Upstream),
        ("absolute", WeightRule::Absolute),
    ];
    let core = Core {
        multi_team: reader.bool("multi_team", default.multi_team),
        parallelism: reader.count("parallelism", 1, default.parallelism),
        dags_are_paused_at_creation: reader.bool("dags_are_paused_at_creation", default.dags_are_paused_at_creation),
        max_active_runs_per_dag: reader.count("max_active_runs_per_dag", 1, default.max_active_runs_per_dag),
        max_active_tasks_per_dag: reader.count("max_active_tasks_per_dag", 1, default.max_active_tasks_per_dag),
        max_consecutive_failed_dag_runs_per_dag: reader.count(
            "max_consecutive_failed_dag_runs_per_dag",
            0,
            default.max_consecutive_failed_dag_runs_per_dag,
        ),
        default_task_retries: reader.count("default_task_retries", 0, default.default_task_retries),
        default_task_retry_delay: reader.duration("default_task_retry_delay", default.default_task_retry_delay),
        max_task_retry_delay: reader.duration("max_task_retry_delay", default.max_task_retry_delay),
        default_task_execution_timeout: reader.optional_duration("default_task_execution_timeout"),
        default_task_weight_rule: reader.choice(
            "default_task_weight_rule",
            &weight_rules,
            "downstream",
            default.default_task_weight_rule,
        ),
        default_pool_task_slot_count: slots(
            &reader,
            "default_pool_task_slot_count",
            default.default_pool_task_slot_count,
        ),
        max_map_length: reader.count("max_map_length", 1, default.max_map_length),
        default_timezone: reader.text_or("default_timezone", &default.default_timezone),
        num_dag_runs_to_retain_rendered_fields: reader.count(
            "num_dag_runs_to_retain_rendered_fields",
            0,
            default.num_dag_runs_to_retain_rendered_fields,
        ),
        rerun_with_latest_version: reader
            .has("rerun_with_latest_version")
            .then(|| reader.bool("rerun_with_latest_version", false)),
        hide_sensitive_var_conn_fields: reader
            .bool("hide_sensitive_var_conn_fields", default.hide_sensitive_var_conn_fields),
        sensitive_var_conn_names: (reader.texts("sensitive_var_conn_names").unwrap_or_default().into_iter())
            .map(|placed| placed.value)
            .collect(),
    };
    let zones_known = !jiff::tz::db().is_definitively_empty();
    if zones_known && jiff::tz::TimeZone::get(&core.default_timezone).is_err() {
        reader.problem_at(
            "default_timezone",
            format!("there is no time zone `{}`", core.default_timezone),
            "use a name such as `UTC` or `Europe/Berlin`",
        );
    }
    reader.finish();
    (core, home)
}

/// A number of slots: -1 = without bound.
pub(crate) fn slots(reader: &Reader<'_>, key: &str, default: i32) -> i32 {
    let read = reader
        .number(key, -1, i64::from(i32::MAX))
        .and_then(|placed| i32::try_from(placed.value).ok());
    if read.is_none() && !reader.has(key) {
        reader.show(key, &default.to_string(), &crate::problem::Origin::Default);
    }
    read.unwrap_or(default)
}

/// `[database]`
pub(crate) fn database(reader: Reader<'_>, home: &Path) -> Database {
    let mut database = Database::in_home(home);
    match reader.secret("url") {
        Some(url) => {
            if let Some(address) = checked_url(&reader, &url.value, &url.at) {
                database.url = Secret::new(address);
            }
        }
        None if !reader.has("url") => {
            reader.show("url", &quote(database.url.expose()), &crate::problem::Origin::Default);
        }
        None => {}
    }
    database.pool_size = reader.count("pool_size", 4, database.pool_size);
    reader.finish();
    database
}

fn checked_url(reader: &Reader<'_>, url: &str, at: &crate::problem::Origin) -> Option<String> {
    let hint = "`sqlite:///absolute/path.db` or `postgresql://user:password@host/database`";
    let refuse = |what: &str, hint: &str| {
        reader.reading.problem(at, what, hint);
        None
    };
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = path.split('?').next().unwrap_or_default();
        if path.is_empty() || path.contains(":memory:") {
            return refuse(
                "`url` in `[database]` names no SQLite file",
                "a file is needed: `sqlite:///absolute/path.db`",
            );
        }
        return Some(format!("sqlite://{}", reader.reading.resolve(path, at).display()));
    }
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        "postgres" | "postgresql" => Some(url.to_owned()),
        _ if scheme.starts_with("postgresql+") || scheme.starts_with("postgres+") => refuse(
            "`url` in `[database]` names a Python driver",
            "leave the `+driver` out: `postgresql://…`",
        ),
        "mysql" => refuse("`url` in `[database]` names MySQL, which Isobar does not use", hint),
        _ => refuse("`url` in `[database]` is not the address of a database", hint),
    }
}

/// `[server]`
pub(crate) fn server(reader: Reader<'_>) -> Server {
    let default = Server::default();
    let host = reader.text_or("host", &default.host);
    let port = reader
        .number("port", 1, i64::from(u16::MAX))
        .and_then(|placed| u16::try_from(placed.value).ok());
    if port.is_none() && !reader.has("port") {
        reader.show("port", &default.port.to_string(), &crate::problem::Origin::Default);
    }
    let port = port.unwrap_or(default.port);
    let reachable = match host.as_str() {
        "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let base_url = reader.text_or("base_url", &format!("http://{reachable}:{port}"));
    if !(base_url.starts_with("http://") || base_url.starts_with("https://")) {
        reader.problem_at(
            "base_url",
            "`base_url` in `[server]` is not a web address",
            "write `http://host:port`",
        );
    }
    let server = Server {
        host,
        port,
        base_url: base_url.trim_end_matches('/').to_owned(),
        maximum_page_limit: reader.count("maximum_page_limit", 1, default.maximum_page_limit),
        fallback_page_limit: reader.count("fallback_page_limit", 1, default.fallback_page_limit),
    };
    reader.finish();
    server
}

/// `[scheduler]`
pub(crate) fn scheduler(reader: Reader<'_>) -> Scheduler {
    let default = Scheduler::default();
    let scheduler = Scheduler {
        catchup_by_default: reader.bool("catchup_by_default", default.catchup_by_default),
        create_cron_data_intervals: reader.bool("create_cron_data_intervals", default.create_cron_data_intervals),
        create_delta_data_intervals: reader.bool("create_delta_data_intervals", default.create_delta_data_intervals),
        use_job_schedule: reader.bool("use_job_schedule", default.use_job_schedule),
        partition_mapper_max_downstream_keys: reader.count(
            "partition_mapper_max_downstream_keys",
            1,
            default.partition_mapper_max_downstream_keys,
        ),
        task_queued_timeout: positive(&reader, "task_queued_timeout", default.task_queued_timeout),
        num_stuck_in_queued_retries: reader.count(
            "num_stuck_in_queued_retries",
            0,
            default.num_stuck_in_queued_retries,
        ),
        question_timeout: positive(&reader, "question_timeout", default.question_timeout),
        lease: positive(&reader, "lease", default.lease),
        sweep_interval: positive(&reader, "sweep_interval", default.sweep_interval),
    };
    reader.finish();
    scheduler
}

/// `[triggerer]`
pub(crate) fn triggerer(reader: Reader<'_>) -> Triggerer {
    let default = Triggerer::default();
    let triggerer = Triggerer {
        capacity: reader.count("capacity", 1, default.capacity),
        max_trigger_to_select_per_loop: reader.count(
            "max_trigger_to_select_per_loop",
            1,
            default.max_trigger_to_select_per_loop,
        ),
        triggerer_health_check_threshold: positive(
            &reader,
            "triggerer_health_check_threshold",
            default.triggerer_health_check_threshold,
        ),
        runner_health_check_threshold: reader
            .duration("runner_health_check_threshold", default.runner_health_check_threshold),
    };
    reader.finish();
    triggerer
}

/// A length of time that must not be zero.
fn positive(reader: &Reader<'_>, key: &str, default: std::time::Duration) -> std::time::Duration {
    let length = reader.duration(key, default);
    if length.is_zero() {
        reader.problem_at(
            key,
            format!("`{key}` is zero, and would never rest"),
            "give at least a second",
        );
        return default;
    }
    length
}

/// `[parsing]`
pub(crate) fn parsing(reader: Reader<'_>) -> Parsing {
    let default = Parsing::default();
    let parsing = Parsing {
        processes: reader.count("processes", 1, default.processes),
        timeout: positive(&reader, "timeout", default.timeout),
        import_timeout: reader.duration("import_timeout", default.import_timeout),
        rescan_interval: positive(&reader, "rescan_interval", default.rescan_interval),
        safe_mode: reader.bool("safe_mode", default.safe_mode),
    };
    reader.finish();
    parsing
}

/// `[tasks]`
pub(crate) fn tasks(reader: Reader<'_>) -> Tasks {
    let default = Tasks::default();
    let tasks = Tasks {
        heartbeat_interval: positive(&reader, "heartbeat_interval", default.heartbeat_interval),
        heartbeat_timeout: positive(&reader, "heartbeat_timeout", default.heartbeat_timeout),
        success_overtime: reader.duration("success_overtime", default.success_overtime),
        kill_grace: reader.duration("kill_grace", default.kill_grace),
        token_lifetime: positive(&reader, "token_lifetime", default.token_lifetime),
    };
    if tasks.heartbeat_timeout < tasks.heartbeat_interval * 2 {
        reader.problem_at(
            "heartbeat_timeout",
            "`heartbeat_timeout` in `[tasks]` is less than two heartbeats, so living tasks would count as lost",
            "make it several times `heartbeat_interval`",
        );
    }
    reader.finish();
    tasks
}

/// `[logging]`
pub(crate) fn logging(reader: Reader<'_>, home: &Path) -> Logging {
    let default = Logging::in_home(home);
    let logging = Logging {
        folder: reader.path("folder", default.folder),
        level: reader.choice(
            "level",
            &LogLevel::ALL.map(|level| (level.as_str(), level)),
            "INFO",
            default.level,
        ),
        json: reader.bool("json", default.json),
        min_length_masked_secret: reader.count("min_length_masked_secret", 1, default.min_length_masked_secret),
    };
    reader.finish();
    logging
}

/// `[connections]`
pub(crate) fn connections(reader: Reader<'_>) -> Connections {
    let sources = [ConnectionSource::All, ConnectionSource::SecretsOnly].map(|source| (source.as_str(), source));
    let connections = Connections {
        source: reader.choice("source", &sources, "all", ConnectionSource::All),
    };
    if connections.source == ConnectionSource::SecretsOnly {
        reader.problem_at(
            "source",
            "`secrets-only` needs a secrets backend, which this version does not have",
            "remove the key; it would hide and refuse every connection",
        );
    }
    reader.finish();
    connections
}

/// `[shared]`
pub(crate) fn shared(reader: Reader<'_>) -> Shared {
    let seeds = crate::read_seeds::seeds(&reader, "shared");
    reader.finish();
    Shared {
        pools: seeds.pools,
        connections: seeds.connections,
        variables: seeds.variables,
    }
}
