//! Files, includes, both layouts and the environment come together as documented.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use std::time::Duration;

use bench::Bench;
use insta::assert_snapshot;
use isobar_config::{DefaultPool, Isolation, LogLevel, OrgRole, Requirements, TeamRole, load};

#[test]
fn ten_lines_are_a_deployment() {
    let bench = Bench::new(
        r#"
[core]
multi_team = true
[[team]]
name = "analytics"
folders = "dags"
[[team.executor]]
type = "local"
"#,
    );
    bench.file("dags/a.py", "");
    let config = bench.load().config;
    let team = config.team("analytics").unwrap();
    assert_eq!(team.folders, [bench.path("dags")]);
    assert_eq!(team.executors[0].name, "local");
    assert_eq!(
        (team.isolation, team.default_pool, team.weight),
        (Isolation::Landlock, DefaultPool::Own, 1)
    );
    assert_eq!(config.home, bench.path(".isobar"));
    assert_eq!(
        config.database.url.expose(),
        format!("sqlite://{}", bench.path(".isobar/isobar.db").display())
    );
    assert_eq!(config.auth.users[0].org, Some(OrgRole::Admin));
    assert_eq!(config.server.base_url, "http://127.0.0.1:8080");
    assert!(config.core.dags_are_paused_at_creation);
}

#[test]
fn nothing_at_all_is_one_plain_team() {
    let config = load(None, &[("ISOBAR_HOME".to_owned(), "/nowhere/isobar".to_owned())].into())
        .unwrap()
        .config;
    assert_eq!(config.teams.len(), 1);
    assert_eq!(config.teams[0].name.as_str(), "default");
    assert_eq!(
        config.teams[0].folders,
        [std::path::PathBuf::from("/nowhere/isobar/dags")]
    );
    assert_eq!(config.teams[0].executors[0].name, "local");
}

#[test]
fn both_layouts_of_the_proposal_mean_the_same() {
    let ours = r#"
[core]
multi_team = true
[[team]]
name = "team1"
folders = "d1"
executors = ["small", "big"]
[[team.executor]]
name = "big"
type = "local"
parallelism = 20
[[team.executor]]
name = "small"
class = "LocalExecutor"
parallelism = 2
[[team]]
name = "team2"
folders = "d2"
executors = ["local"]
"#;
    let theirs = r#"
[core]
multi_team = true
[[executor]]
teams = ["team1", "team2"]
[[executor.team1]]
executors = ["small", "big"]
[[executor.team1.small]]
class = "LocalExecutor"
[[executor.team1.small.configuration]]
parallelism = 2
[[executor.team1.big]]
class = "LocalExecutor"
[[executor.team1.big.configuration]]
parallelism = 20
[[executor.team2]]
executors = ["local"]
folders = "d2"
[[team]]
name = "team1"
folders = "d1"
"#;
    let teams = |toml: &str| {
        let bench = Bench::new(toml);
        bench.file("d1/a.py", "").file("d2/a.py", "");
        let plain = |team: &isobar_config::Team| (team.name.clone(), team.executors.clone());
        bench.load().config.teams.iter().map(plain).collect::<Vec<_>>()
    };
    assert_eq!(teams(ours), teams(theirs));
    assert_eq!(teams(ours)[0].1[0].name, "small");
}

#[test]
fn the_single_team_form_of_the_proposal_speaks_about_the_default_team() {
    let bench = Bench::new(
        "[executor]\nexecutors = [\"one\", \"two\"]\n[executor.one]\nclass = \"LocalExecutor\"\n[executor.two]\nclass = \"LocalExecutor\"\nparallelism = 3\n",
    );
    let executors = bench.load().config.teams[0].executors.clone();
    assert_eq!(
        executors
            .iter()
            .map(|executor| executor.name.as_str())
            .collect::<Vec<_>>(),
        ["one", "two"]
    );
    assert_eq!(executors[1].parallelism, Some(3));
    let bench = Bench::new("[[executor]]\ntype = \"local\"\nparallelism = 7\n");
    assert_eq!(bench.load().config.teams[0].executors[0].parallelism, Some(7));
}

#[test]
fn a_file_per_team_by_name_and_by_glob() {
    let bench = Bench::new(
        "include = \"teams/*.toml\"\n[core]\nmulti_team = true\n[[team]]\nname = \"first\"\ninclude = \"first/team.toml\"\n",
    );
    bench
        .file("first/team.toml", "folders = \"dags\"\nexecutors = [\"local\"]\n")
        .file("first/dags/a.py", "");
    bench.file(
        "teams/second.toml",
        "name = \"second\"\nfolders = \"../second\"\n[[executor]]\ntype = \"local\"\n",
    );
    bench.file(
        "teams/third.toml",
        "[[team]]\nname = \"third\"\nfolders = \"../third\"\nexecutors = \"local\"\n",
    );
    bench.file("second/a.py", "").file("third/a.py", "");
    let config = bench.load().config;
    let folders: Vec<_> = config
        .teams
        .iter()
        .map(|team| (team.name.as_str(), team.folders[0].clone()))
        .collect();
    assert_eq!(
        folders,
        [
            ("first", bench.path("first/dags")),
            ("second", bench.path("second")),
            ("third", bench.path("third"))
        ]
    );
}

#[test]
fn the_environment_speaks_over_the_file_and_isobar_over_airflow() {
    let bench = Bench::teams(&["data-eng"]);
    bench
        .env("AIRFLOW__CORE__PARALLELISM", "7")
        .env("AIRFLOW__CORE__MAX_MAP_LENGTH", "9")
        .env("ISOBAR__CORE__PARALLELISM", "8")
        .env("AIRFLOW__LOGGING__LOGGING_LEVEL", "debug")
        .env("AIRFLOW__CORE__DAGS_FOLDER", "/airflow/dags")
        .env("ISOBAR__TASKS__KILL_GRACE", "1m")
        .env("ISOBAR__SERVER__PORT", "9999")
        .env("ISOBAR__TEAM__DATA_ENG__WEIGHT", "5")
        .env("ISOBAR__TEAM__DATA_ENG__EXECUTOR__LOCAL__PARALLELISM", "3")
        .env("ISOBAR__TEAM__DATA_ENG__ENV__CLIENT_SECRET", "plain")
        .env("ISOBAR__TEAM__DATA_ENG__VARIABLES__GREETING", "hi")
        .env("ISOBAR__TEAM__DATA_ENG__CONNECTIONS__WAREHOUSE", "postgres://h/d");
    let loaded = bench.load();
    let (config, team) = (&loaded.config, &loaded.config.teams[0]);
    assert_eq!((config.core.parallelism, config.core.max_map_length), (8, 9));
    assert_eq!(
        (config.logging.level, config.server.base_url.as_str()),
        (LogLevel::Debug, "http://127.0.0.1:9999")
    );
    assert_eq!(config.tasks.kill_grace, Duration::from_secs(60));
    assert_eq!((team.weight, team.executors[0].parallelism), (5, Some(3)));
    assert_eq!(team.env["CLIENT_SECRET"].expose(), "plain");
    assert_eq!(
        (team.variables[0].key.as_str(), team.variables[0].value.expose()),
        ("greeting", "hi")
    );
    assert_eq!(
        (team.connections[0].id.as_str(), team.connections[0].conn_type.as_str()),
        ("warehouse", "postgres")
    );
    assert!(
        loaded.warnings[0].to_string().contains("AIRFLOW__CORE__DAGS_FOLDER"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn values_are_fetched_by_command_and_from_secret_sources() {
    let bench = Bench::new(
        r#"
[core]
parallelism_cmd = "echo 5"
[database]
url_secret = "env://DB"
[auth]
[[auth.user]]
name = "ana"
password_cmd = "printf 'p w\n\n'"
role = "op"
[default_team.env]
TOKEN = { cmd = "echo token" }
PLAIN = "plain"
BESIDE = { path = "../data" }
STATE = { path = "{home}/data" }
[default_team.variables]
number = 3
table = { a = [1, "b"] }
told = { value = "v", description = "d" }
fetched = { secret = "env://DB" }
[default_team.connections]
uri = "http://me:pw@host:80/path"
parts = { conn_type = "postgres", host = "h", port = 5432, password_cmd = "echo pw", extra = { sslmode = "require" } }
"#,
    );
    bench
        .env("DB", "postgresql://u:p@h/d")
        .env("ISOBAR__CORE__PARALLELISM_CMD", "echo 6");
    let config = bench.load().config;
    let team = &config.teams[0];
    assert_eq!(config.core.parallelism, 6);
    assert_eq!(config.database.url.expose(), "postgresql://u:p@h/d");
    assert_eq!(config.auth.users[0].password.as_ref().unwrap().expose(), "p w");
    assert_eq!(config.auth.users[0].teams.values().next(), Some(&TeamRole::Op));
    assert_eq!(team.env["TOKEN"].expose(), "token");
    let beside = bench.path("").parent().unwrap().join("data");
    assert_eq!(team.env["BESIDE"].expose(), beside.to_str().unwrap());
    assert_eq!(team.env["STATE"].expose(), bench.path(".isobar/data").to_str().unwrap());
    let variables: Vec<_> = team
        .variables
        .iter()
        .map(|variable| (variable.key.as_str(), variable.value.expose()))
        .collect();
    assert_eq!(
        variables,
        [
            ("number", "3"),
            ("table", r#"{"a":[1,"b"]}"#),
            ("told", "v"),
            ("fetched", "postgresql://u:p@h/d")
        ]
    );
    assert_eq!(team.variables[2].description.as_deref(), Some("d"));
    let parts = &team.connections[1];
    assert_eq!(
        (parts.port, parts.password.as_ref().unwrap().expose()),
        (Some(5432), "pw")
    );
    assert_eq!(parts.extra.as_ref().unwrap().expose(), r#"{"sslmode":"require"}"#);
}

#[test]
fn a_plain_value_in_the_environment_beats_a_command_in_the_file() {
    let bench = Bench::new("[database]\nurl_cmd = \"exit 1\"\n");
    bench.env("ISOBAR__DATABASE__URL", "postgresql://h/d");
    assert_eq!(bench.load().config.database.url.expose(), "postgresql://h/d");
}

#[test]
fn show_names_the_source_of_every_value_and_no_secret() {
    let bench = Bench::new(
        r#"
[core]
multi_team = true
parallelism = 8
[database]
url = "postgresql://u:hunter2@h/d"
[[team]]
name = "analytics"
folders = ["dags"]
requirements = ["pandas==2.2.3"]
[[team.executor]]
type = "local"
[team.env]
TOKEN = "hunter2"
[team.connections.w]
conn_type = "http"
password = "hunter2"
extra = { token = "hunter2" }
[team.variables]
v = { value = "hunter2" }
[auth]
secret_key_cmd = "echo hunter2hunter2hunter2hunter2hunter2"
[[auth.user]]
name = "ana"
password = "hunter2"
teams = { analytics = "op" }
"#,
    );
    bench.file("dags/a.py", "").env("ISOBAR__CORE__MAX_MAP_LENGTH", "10");
    let loaded = bench.load();
    let shown = loaded.show();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        !format!("{loaded:?}").contains("hunter2"),
        "Debug shows no secret either"
    );
    assert_snapshot!(bench.plain(&shown), @r#"
[core]
home = ".isobar"  # default
multi_team = true  # isobar.toml:3:14
parallelism = 8  # isobar.toml:4:15
dags_are_paused_at_creation = true  # default
max_active_runs_per_dag = 16  # default
max_active_tasks_per_dag = 16  # default
max_consecutive_failed_dag_runs_per_dag = 0  # default
default_task_retries = 0  # default
default_task_retry_delay = 300  # default
max_task_retry_delay = 86400  # default
default_task_weight_rule = "downstream"  # default
default_pool_task_slot_count = 128  # default
max_map_length = 10  # environment variable ISOBAR__CORE__MAX_MAP_LENGTH
default_timezone = "UTC"  # default
num_dag_runs_to_retain_rendered_fields = 30  # default
hide_sensitive_var_conn_fields = true  # default

[database]
url = "***"  # isobar.toml:6:7
pool_size = 16  # default

[server]
host = "127.0.0.1"  # default
port = 8080  # default
base_url = "http://127.0.0.1:8080"  # default
maximum_page_limit = 100  # default
fallback_page_limit = 50  # default

[scheduler]
catchup_by_default = false  # default
create_cron_data_intervals = false  # default
create_delta_data_intervals = false  # default
use_job_schedule = true  # default
partition_mapper_max_downstream_keys = 1000  # default
task_queued_timeout = 600  # default
num_stuck_in_queued_retries = 2  # default
question_timeout = 10  # default
lease = 10  # default
sweep_interval = 30  # default

[triggerer]
capacity = 1000  # default
max_trigger_to_select_per_loop = 50  # default
triggerer_health_check_threshold = 30  # default
runner_health_check_threshold = 30  # default

[parsing]
processes = 2  # default
timeout = 50  # default
import_timeout = 30  # default
rescan_interval = 300  # default
safe_mode = true  # default

[tasks]
heartbeat_interval = 5  # default
heartbeat_timeout = 300  # default
success_overtime = 20  # default
kill_grace = 5  # default
token_lifetime = 600  # default

[logging]
folder = ".isobar/logs"  # default
level = "INFO"  # default
json = false  # default
min_length_masked_secret = 5  # default

[connections]
source = "all"  # default

[[team]]
name = "analytics"  # isobar.toml:8:8
restore = false  # default
folders = ["dags"]  # isobar.toml:9:11
requirements = ["pandas==2.2.3"]  # isobar.toml:10:16
launch = "warm"  # default
isolation = "landlock"  # default
weight = 1  # default
guaranteed = 0  # default
default_pool = "own"  # default

[[team.executor]]
type = "local"  # isobar.toml:12:8

[team.env]
TOKEN = "***"  # isobar.toml:14:9

[team.variables]
v = "***"  # isobar.toml:20:5

[team.connections.w]
conn_type = "http"  # isobar.toml:16:13
extra = "***"  # isobar.toml:18:9
password = "***"  # isobar.toml:17:12

[auth]
manager = "simple"  # default
passwords_file = ".isobar/passwords.json"  # default
token_lifetime = 86400  # default
cli_token_lifetime = 3600  # default
secret_key_file = ".isobar/keys/secret.key"  # default
secret_key = "***"  # isobar.toml:22:18 (fetched)

[[auth.user]]
name = "ana"  # isobar.toml:24:8
password = "***"  # isobar.toml:25:12
teams = { analytics = "op" }  # isobar.toml:26:9
"#);
    toml::from_str::<toml::Table>(&shown).expect("what is shown is TOML");
}

#[test]
fn requirements_are_a_file_or_a_list() {
    let bench = Bench::new("[default_team]\nrequirements = \"req.txt\"\n\n");
    bench.file("req.txt", "pandas\n");
    assert_eq!(
        bench.load().config.teams[0].python.requirements,
        Requirements::File(bench.path("req.txt"))
    );
}

#[test]
fn airflows_spelling_of_a_teams_key_means_that_team() {
    let bench = Bench::teams(&["analytics", "data-eng"]);
    bench
        .env("AIRFLOW__ANALYTICS___CORE__DAGS_ARE_PAUSED_AT_CREATION", "False")
        .env("AIRFLOW__DATA-ENG___SMTP__SMTP_HOST", "mail.example.com")
        .env("AIRFLOW__DATA_ENG___MY_COMPANY__RATE", "7")
        .env("AIRFLOW__DATA_ENG___SCHEDULER__NUM_RUNS", "3")
        .env("AIRFLOW__STRANGER___SMTP__SMTP_HOST", "elsewhere");
    let loaded = bench.load();
    let team = |name: &str| loaded.config.team(name).unwrap();
    assert_eq!(team("analytics").dags_are_paused_at_creation, Some(false));
    assert!(team("analytics").env.is_empty());
    let env = &team("data-eng").env;
    assert_eq!(env["AIRFLOW__SMTP__SMTP_HOST"].expose(), "mail.example.com");
    assert_eq!(env["AIRFLOW__MY_COMPANY__RATE"].expose(), "7");
    assert_eq!(env.len(), 2);
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings)
    };
    assert!(warning.to_string().contains("`num_runs` in `[scheduler]`"), "{warning}");
}
