//! `airflow.cfg` becomes TOML that loads and means the same (rule 9).
#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use std::time::Duration;

use bench::Bench;
use isobar_config::convert::{Conversion, Converted, Fate, convert, known_keys};
use isobar_config::{Config, Executor, Launch, LogLevel, TeamRole};

/// As `airflow config list` of Airflow 3.3.2 wrote it at its first start, without the comments.
const DEFAULTS: &str = include_str!("data/airflow-3.3.2.cfg");
const TEAMS: &str = include_str!("data/airflow-teams.cfg");

/// Converts with `AIRFLOW_HOME` in a bench; the TOML is its configuration afterwards.
fn converted(bench: &Bench, cfg: &str, environment: &[(&str, &str)]) -> Converted {
    let home = bench.path("airflow");
    let outcome = convert(&Conversion {
        text: cfg.replace("@AIRFLOW_HOME@", &home.display().to_string()),
        file: home.join("airflow.cfg"),
        airflow_home: home,
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        with_environment: true,
    })
    .unwrap();
    bench.file("isobar.toml", &outcome.toml);
    outcome
}

fn bench() -> Bench {
    let bench = Bench::new("");
    for folder in ["dags", "analytics", "science", "more"] {
        bench.file(&format!("airflow/{folder}/dag.py"), "");
    }
    bench
}

#[test]
fn what_airflow_writes_at_its_first_start_means_what_isobar_does_by_itself() {
    let bench = bench();
    let outcome = converted(&bench, DEFAULTS, &[]);
    let loaded = bench.load();
    let plain = Config::with_home(bench.path(".isobar"));
    let config = &loaded.config;
    assert_eq!(config.teams[0].folders, [bench.path("airflow/dags")]);
    assert_eq!(config.server.host, "0.0.0.0", "Airflow listens everywhere");
    assert_eq!(config.core, plain.core);
    assert_eq!(config.scheduler, plain.scheduler);
    assert_eq!(config.triggerer, plain.triggerer);
    assert_eq!(config.parsing, plain.parsing);
    assert_eq!(config.tasks, plain.tasks);
    assert_eq!(config.logging, plain.logging);
    assert!(matches!(config.auth.users.as_slice(), [admin] if admin.name == "admin"));
    assert_eq!(config.teams[0].executors, plain.teams[0].executors);
    assert!(config.teams[0].env.is_empty(), "nobody chose anything for tasks");
    let mut left_out: Vec<&str> = outcome.left_out.iter().map(|(place, _)| place.as_str()).collect();
    left_out.sort_unstable();
    let made_up = ["[api] secret_key", "[api_auth] jwt_secret", "[core] fernet_key"];
    assert_eq!(left_out, made_up, "what Airflow made up for itself");
}

#[test]
fn every_key_that_airflow_lists_has_a_fate() {
    let mut section = "";
    let mut seen = 0;
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let line = line.strip_prefix("# ").unwrap_or(line);
        let Some((key, _)) = line
            .split_once(" =")
            .filter(|_| line.starts_with(|c: char| c.is_ascii_lowercase()))
        else {
            continue;
        };
        assert!(
            known_keys().any(|known| known.section == section && known.key == key),
            "[{section}] {key}"
        );
        seen += 1;
    }
    assert_eq!(seen, known_keys().count());
    for known in known_keys() {
        if let Fate::Needless(why) | Fate::Later(why) = known.fate {
            assert!(!why.is_empty(), "[{}] {}", known.section, known.key);
        }
    }
}

#[test]
fn what_somebody_chose_is_carried_over_as_airflow_reads_it() {
    let bench = bench();
    let cfg = "[core]\ndags_folder = ${AIRFLOW_HOME}/dags\nparallelism = 7\ndags_are_paused_at_creation = f # no\n\
        default_timezone = Europe/Berlin\nsensitive_var_conn_names = pin, iban\nload_examples = False\n\
        dagbag_import_timeout = 2.5\nmax_map_length = many\nexecutor = CeleryExecutor,small:LocalExecutor\nexecute_tasks_new_python_interpreter = True\n\
        simple_auth_manager_users = ana:op,root:admin\n\
        [logging]\nlogging_level = debug\n[api_auth]\njwt_secret_cmd = cat /run/key\n\
        [smtp]\nsmtp_host = mail.%(domain)s\ndomain = example.com\n[my_company]\nrate = 5%%\n";
    let outcome = converted(&bench, cfg, &[("AIRFLOW__SCHEDULER__CATCHUP_BY_DEFAULT", "True")]);
    assert!(outcome.toml.contains("secret_key_cmd = \"cat /run/key\""));
    bench.file("isobar.toml", &outcome.toml.replace("cat /run/key", "printf %040d 7"));
    let config = bench.load().config;
    assert_eq!(config.core.parallelism, 7);
    assert!(!config.core.dags_are_paused_at_creation);
    assert_eq!(config.core.default_timezone, "Europe/Berlin");
    assert_eq!(config.core.sensitive_var_conn_names, ["pin", "iban"]);
    assert_eq!(config.parsing.import_timeout, Duration::from_millis(2500));
    assert_eq!(config.logging.level, LogLevel::Debug);
    assert!(config.scheduler.catchup_by_default, "the environment was asked");
    assert_eq!(config.auth.users.len(), 2);
    assert!(config.auth.users[0].teams.values().eq([&TeamRole::Op]));
    let team = &config.teams[0];
    assert_eq!(team.launch, Launch::Cold);
    assert_eq!(
        team.executors,
        [Executor {
            name: "small".to_owned(),
            ..Executor::local()
        }]
    );
    assert_eq!(team.env["AIRFLOW__SMTP__SMTP_HOST"].expose(), "mail.example.com");
    assert_eq!(team.env["AIRFLOW__MY_COMPANY__RATE"].expose(), "5%");
    let why = |place: &str| {
        outcome
            .left_out
            .iter()
            .find(|(known, _)| known == place)
            .map(|(_, why)| why.as_str())
    };
    assert_eq!(
        why("[core] max_map_length"),
        Some("its value is not a number, so the default holds")
    );
    assert_eq!(why("[core] executor"), Some("`CeleryExecutor` comes later"));
    assert!(why("[core] load_examples").is_some());
}

#[test]
fn teams_have_their_folders_executors_users_and_settings() {
    let bench = bench();
    let outcome = converted(
        &bench,
        TEAMS,
        &[("AIRFLOW__DATA_SCIENCE___SMTP__SMTP_HOST", "science.example.com")],
    );
    let config = bench.load().config;
    assert!(config.core.multi_team);
    let team = |name| config.team(name).unwrap_or_else(|| panic!("{name}: {}", outcome.toml));
    let (analytics, science, old) = (team("analytics"), team("data_science"), team("old-team"));
    assert_eq!(
        analytics.folders,
        [bench.path("airflow/analytics"), bench.path("airflow/more")]
    );
    assert_eq!(science.folders, [bench.path("airflow/science")]);
    assert_eq!(
        old.folders,
        [bench.path("airflow/dags")],
        "a bundle without a path is `dags_folder`"
    );
    assert_eq!(analytics.executors[0].parallelism, Some(3));
    assert_eq!(analytics.executors[0].name, "local");
    assert_eq!(science.executors.len(), 1);
    assert_eq!(analytics.env["AIRFLOW__SMTP__SMTP_HOST"].expose(), "mail.example.com");
    assert_eq!(science.env["AIRFLOW__SMTP__SMTP_HOST"].expose(), "science.example.com");
    let user = |name: &str| config.auth.users.iter().find(|user| user.name == name).unwrap();
    assert_eq!(user("ana").teams.len(), 2);
    assert!(user("root").org.is_some());
    let places: Vec<&str> = outcome.left_out.iter().map(|(place, _)| place.as_str()).collect();
    for place in [
        "[dag_processor] bundle `git`",
        "[dag_processor] bundle `nobodys`",
        "[core] executor of team `data_science`",
        "[analytics=celery] broker_url",
        "[core] team `old__team`",
    ] {
        assert!(places.contains(&place), "{place} is not among {places:?}");
    }
    let said = format!("{:?}", outcome.left_out);
    assert!(
        !outcome.toml.contains("hunter2") && !said.contains("hunter2"),
        "a password that leads nowhere"
    );
}

#[test]
fn the_page_about_airflows_keys_is_true() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/airflow-cfg.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut expected = String::new();
    let mut section = "";
    for known in known_keys() {
        if known.section != section {
            section = known.section;
            expected.push_str(&format!("\n### `[{section}]`\n\n| key | becomes |\n| --- | --- |\n"));
        }
        let becomes = match known.fate {
            Fate::Same { section, key, .. } => format!("`{section}.{key}`"),
            Fate::Children => "in the environment of the team's children".to_owned(),
            Fate::Read => "see above".to_owned(),
            Fate::Needless(why) => format!("not needed: {why}"),
            Fate::Later(why) => format!("not yet: {why}"),
        };
        expected.push_str(&format!("| `{}` | {becomes} |\n", known.key));
    }
    if std::env::var_os("ISOBAR_WRITE_DOCS").is_some() {
        let (head, _) = page.split_once("\n### ").unwrap_or((page.as_str(), ""));
        std::fs::write(path, format!("{}\n{expected}", head.trim_end())).unwrap();
        return;
    }
    assert!(
        page.ends_with(&expected),
        "write it again: ISOBAR_WRITE_DOCS=1 cargo test -p isobar-config --test convert page"
    );
}
