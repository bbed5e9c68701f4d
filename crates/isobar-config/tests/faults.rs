//! Every class of fault is said with its place and its remedy, and all of them in one go.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::Bench;
use insta::assert_snapshot;

#[test]
fn broken_toml_says_where() {
    assert_snapshot!(Bench::new("[core]\nparallelism = \nmulti_team = yes\n").faults(), @r#"
isobar.toml:2:15: string values must be quoted, expected literal string
  hint: in TOML a text stands in quotes: `key = "text"`
isobar.toml:3:14: string values must be quoted, expected literal string
  hint: in TOML a text stands in quotes: `key = "text"`
"#);
    assert_snapshot!(Bench::new("[core]\nparallelism = 1\nparallelism = 2\n").faults(), @r#"
isobar.toml:3:1: duplicate key
  hint: keep one of the two; what may stand several times is written `[[name]]`
"#);
    assert_snapshot!(Bench::new("[core\nparallelism = 1\n").faults(), @r#"
isobar.toml:1:6: unclosed table, expected `]`
  hint: close what is open: every `"`, `[` and `{` needs its partner, and every key its `= value`
"#);
}

#[test]
fn unknown_keys_are_refused_with_a_guess() {
    assert_snapshot!(Bench::new("paralelism = 1\n[core]\nparalelism = 3\n[schedular]\nlease = 5\n").faults(), @r#"
isobar.toml:1:1: unknown key `paralelism` in the file
  hint: known here: `core`, `database`, `server`, `scheduler`, `triggerer`, `parsing`, `tasks`, `logging`, `connections`, `shared`, `team`, `default_team`, `auth`
isobar.toml:3:1: unknown key `paralelism` in `[core]`
  hint: did you mean `parallelism`?
isobar.toml:4:2: unknown key `schedular` in the file
  hint: did you mean `scheduler`?
"#);
}

#[test]
fn wrong_types_and_bounds_are_refused() {
    assert_snapshot!(
        Bench::new(
            "[core]\nparallelism = \"many\"\nmulti_team = 1\ndefault_timezone = \"Mars/Olympus\"\nmax_map_length = 0\n\
             default_task_weight_rule = \"sideways\"\n[server]\nport = 70000\nhost = \"\"\nbase_url = \"ftp://x\"\n\
             [tasks]\nheartbeat_interval = \"soon\"\nheartbeat_timeout = 3\n[logging]\nlevel = \"LOUD\"\n[auth]\nuser = 3\n"
        )
        .faults(), @r#"
isobar.toml:2:15: `parallelism` in `[core]` must be a whole number, not a text
  hint: write it without quotes
isobar.toml:3:14: `multi_team` in `[core]` must be true or false, not a whole number
  hint: give `multi_team` true or false
isobar.toml:4:20: there is no time zone `Mars/Olympus`
  hint: use a name such as `UTC` or `Europe/Berlin`
isobar.toml:5:18: `max_map_length` in `[core]` is 0, out of bounds
  hint: give a whole number, 1 or more
isobar.toml:6:28: `default_task_weight_rule` in `[core]` cannot be `sideways`
  hint: known here: `downstream`, `upstream`, `absolute`
isobar.toml:8:8: `port` in `[server]` is 70000, out of bounds
  hint: give a whole number, 1 to 65535
isobar.toml:9:8: `host` in `[server]` is empty
  hint: write something, or leave the key out
isobar.toml:10:12: `base_url` in `[server]` is not a web address
  hint: write `http://host:port`
isobar.toml:12:22: `heartbeat_interval` in `[tasks]` must be a time such as 30 (seconds) or "5m", not a text
  hint: give `heartbeat_interval` a time such as 30 (seconds) or "5m"
isobar.toml:13:21: `heartbeat_timeout` in `[tasks]` is less than two heartbeats, so living tasks would count as lost
  hint: make it several times `heartbeat_interval`
isobar.toml:15:9: `level` in `[logging]` cannot be `LOUD`
  hint: known here: `DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL`
isobar.toml:17:8: `user` must be one or several tables, not a whole number
  hint: write `[[user]]`
"#);
}

#[test]
fn database_addresses_are_checked_and_never_repeated() {
    let urls = [
        "mysql://u:hunter2@h/d",
        "postgresql+psycopg2://u:hunter2@h/d",
        "sqlite://:memory:",
        "hunter2",
    ];
    let faults = urls
        .map(|url| Bench::new(&format!("[database]\nurl = \"{url}\"\n")).faults())
        .join("\n");
    assert!(!faults.contains("hunter2"), "{faults}");
    assert_snapshot!(faults, @r#"
isobar.toml:2:7: `url` in `[database]` names MySQL, which Isobar does not use
  hint: `sqlite:///absolute/path.db` or `postgresql://user:password@host/database`
isobar.toml:2:7: `url` in `[database]` names a Python driver
  hint: leave the `+driver` out: `postgresql://…`
isobar.toml:2:7: `url` in `[database]` names no SQLite file
  hint: a file is needed: `sqlite:///absolute/path.db`
isobar.toml:2:7: `url` in `[database]` is not the address of a database
  hint: `sqlite:///absolute/path.db` or `postgresql://user:password@host/database`
"#);
}

#[test]
fn team_names_follow_rule_3() {
    assert_snapshot!(Bench::teams(&["ab", "shared", "a--b", "data-eng", "data_eng", "Data-Eng", "data-eng"]).faults(), @r#"
isobar.toml:4:8: team name `ab` must be 3 to 50 letters, digits, `-` or `_`, and start with a letter or digit
  hint: for example `data-engineering`
isobar.toml:8:8: team name `shared` is reserved
  hint: choose another name; `default`, `shared` and `org` have meanings of their own
isobar.toml:12:8: team name `a--b` becomes `A__B` in environment variables, which must hold no `__` and not end in `_`
  hint: use single `-` or `_`, and none at the end
isobar.toml:20:8: team names `data-eng` and `data_eng` both become `DATA_ENG` in environment variables
  hint: choose names that differ in more than case and `-` or `_`
isobar.toml:24:8: team names `data-eng` and `Data-Eng` both become `DATA_ENG` in environment variables
  hint: choose names that differ in more than case and `-` or `_`
isobar.toml:24:8: team names `data_eng` and `Data-Eng` both become `DATA_ENG` in environment variables
  hint: choose names that differ in more than case and `-` or `_`
isobar.toml:28:8: there are two teams called `data-eng`, the other at isobar.toml:16:8
  hint: rename one, or put its settings into the other
isobar.toml:28:8: team names `data_eng` and `data-eng` both become `DATA_ENG` in environment variables
  hint: choose names that differ in more than case and `-` or `_`
isobar.toml:28:8: team names `Data-Eng` and `data-eng` both become `DATA_ENG` in environment variables
  hint: choose names that differ in more than case and `-` or `_`
"#);
}

#[test]
fn folders_exist_stay_apart_and_lead_nowhere_else() {
    let bench = Bench::new(
        r#"
[core]
multi_team = true
home = "alpha/state"
[[team]]
name = "alpha"
folders = ["alpha", "alpha/sub", "missing", "file.txt"]
executors = "local"
[[team]]
name = "beta"
folders = "alpha/sub"
read_folders = ["gamma", "out"]
write_folders = ["out", "alpha/state/keys"]
executors = "local"
[[team]]
name = "gamma"
folders = "gamma"
write_folders = ["out/deep", "gamma"]
executors = "local"
"#,
    );
    bench
        .file("alpha/sub/dag.py", "")
        .file("gamma/dag.py", "")
        .file("file.txt", "")
        .file("elsewhere/secret.py", "");
    bench.link("gamma/leak.py", "elsewhere/secret.py");
    assert_snapshot!(bench.faults(), @r#"
isobar.toml:7:12: the state folder `alpha/state` lies inside the Dag folder `alpha`
  hint: move one of them: `home` in `[core]`, or the Dags into a sub-folder
isobar.toml:7:21: folders `alpha` and `alpha/sub` of team `alpha` overlap, so files would be read twice
  hint: keep the outer one, or choose two that lie apart
isobar.toml:7:34: Dag folder `missing` of team `alpha` does not exist
  hint: make it, or correct the path
isobar.toml:7:45: `file.txt`, a Dag folder of team `alpha`, is not a folder
  hint: name the folder in which the Dag files lie
isobar.toml:11:11: Dag folder `alpha/sub` of team `beta` overlaps `alpha` of team `alpha`
  hint: every Dag file belongs to exactly one team: give each team folders of its own
isobar.toml:11:11: Dag folder `alpha/sub` of team `beta` overlaps `alpha/sub` of team `alpha`
  hint: every Dag file belongs to exactly one team: give each team folders of its own
isobar.toml:12:17: team `beta` could read `gamma`, where Dags of team `gamma` lie
  hint: choose a folder apart from all Dag folders
isobar.toml:13:25: team `beta` could write `alpha`, where Dags of team `alpha` lie
  hint: choose a folder apart from all Dag folders
isobar.toml:13:25: team `beta` could write the state of Isobar in `alpha/state`
  hint: choose a folder apart from the state folder
isobar.toml:17:11: link `leak.py` in Dag folder `gamma` leads out to `elsewhere/secret.py`
  hint: put the file itself into the folder, or make the target one of the team's `folders`
isobar.toml:18:18: teams `beta` and `gamma` could both write into `out/deep`
  hint: let one team write it, and list it in `read_folders` of the other
isobar.toml:18:30: team `gamma` could write `gamma`, where Dags of team `gamma` lie
  hint: choose a folder apart from all Dag folders
"#);
}

#[test]
fn executors_are_named_known_and_listed() {
    let bench = Bench::new(
        r#"
[core]
multi_team = true
[[team]]
name = "none"
folders = "none"
[[team]]
name = "many"
folders = "many"
executors = ["local", "locl", "celery-gpu", "shared:big", "local"]
[[team.executor]]
type = "local"
paralelism = 3
[[team.executor]]
type = "local"
[[team.executor]]
name = "extra"
type = "local"
[[team.executor]]
type = "kubernetes"
namespace = "n"
[[team.executor]]
name = "typeless"
"#,
    );
    bench.file("none/a.py", "").file("many/a.py", "");
    assert_snapshot!(bench.faults(), @r#"
isobar.toml:4:1: team `none` has no executor
  hint: add `[[team.executor]]` with `type = "local"` below the team
isobar.toml:10:23: there is no kind of executor called `locl`
  hint: did you mean `local`?
isobar.toml:10:31: executor `celery-gpu` of team `many`: this kind comes later
  hint: today: `type = "local"`
isobar.toml:10:45: team `many` lists `shared:big`, but executors of the organisation come later
  hint: today each team has executors of its own: `type = "local"`
isobar.toml:13:1: unknown key `paralelism` in `[[team.executor]]`
  hint: did you mean `parallelism`?
isobar.toml:14:1: team `many` has two executors called `local`, the other at isobar.toml:11:1
  hint: give one of them another `name`
isobar.toml:16:1: executor `extra` of team `many` is not in its list `executors`
  hint: add it to the list: `local`, `locl`, `celery-gpu`, `shared:big`, `local`
isobar.toml:20:8: executor `kubernetes` of team `many`: this kind comes later
  hint: today: `type = "local"`
isobar.toml:22:1: an executor has no type
  hint: give it `type = "local"`
"#);
}

#[test]
fn users_hold_known_roles_in_known_teams() {
    let bench = Bench::new(
        r#"
[core]
multi_team = true
[[team]]
name = "analytics"
folders = "a"
executors = "local"
[auth]
manager = "ldap"
secret_key = "short"
[[auth.user]]
name = "ana"
password = ""
teams = { analytcs = "op", analytics = "boss" }
home = "analytix"
[[auth.user]]
name = "ana"
org = "org-boss"
role = "op"
[[auth.user]]
teams = "analytics"
"#,
    );
    bench.file("a/a.py", "");
    assert_snapshot!(bench.faults(), @r#"
isobar.toml:9:11: auth manager `ldap` comes later
  hint: today: `simple`, which is for demonstrations and development
isobar.toml:10:14: `secret_key` in `[auth]` is shorter than 32 characters, and could be guessed
  hint: leave it out and a good one is made, or take the output of `openssl rand -hex 32`
isobar.toml:13:12: the password is empty
  hint: leave it out and one is made
isobar.toml:14:11: there is no team `analytcs`
  hint: did you mean `analytics`?
isobar.toml:14:40: `boss` is not a role in a team
  hint: known here: `viewer`, `user`, `op`, `admin`
isobar.toml:15:8: there is no team `analytix`
  hint: did you mean `analytics`?
isobar.toml:16:1: there are two users `ana`
  hint: keep one of them
isobar.toml:18:7: `org` in `[[auth.user]]` cannot be `org-boss`
  hint: known here: `org-viewer`, `org-admin`
isobar.toml:19:8: with multi-team on, a role is held in a team
  hint: write `teams = { TEAM = "op" }`, or `org = "org-admin"`
isobar.toml:20:1: a user has no name
  hint: give it `name = "…"`
isobar.toml:21:9: `teams` of a user must be a table
  hint: write `teams = { analytics = "op" }`
"#);
}

#[test]
fn with_multi_team_off_teams_are_refused_and_on_the_default_team_is() {
    let off =
        Bench::new("[[team]]\nname = \"analytics\"\n[[auth.user]]\nname = \"x\"\nteams = { analytics = \"op\" }\n");
    assert_snapshot!(off.faults(), @r#"
isobar.toml:1:1: teams are declared, but multi-team is off
  hint: set `multi_team = true` in `[core]`; one team alone is described in `[default_team]`
isobar.toml:5:9: there are no teams while multi-team is off
  hint: write `role = "op"`, or set `multi_team = true` in `[core]`
"#);
    let on = Bench::new("[core]\nmulti_team = true\n[default_team]\nweight = 3\n");
    assert_snapshot!(on.faults(), @r#"
isobar.toml:1:1: multi-team is on, but no team is declared
  hint: declare teams with `[[team]]`, or leave `multi_team` off
isobar.toml:4:1: `weight` of the one built-in team means nothing while multi-team is on
  hint: say it in `[[team]]`, or set `multi_team = false`
"#);
}

#[test]
fn pools_connections_variables_and_consents_are_checked() {
    assert_snapshot!(
        Bench::new(
            r#"
[default_team]
tunable = ["weight"]
os_user = "root"
guaranteed = 4
max_running = 2
requirements = ["-r x.txt", ""]
python = "./no/python"
venv = "nowhere"
[default_team.env]
"1X" = "a"
ISOBAR_HOME = "b"
[[default_team.pool]]
name = "a:b"
[[default_team.pool]]
name = "gpu"
slots = -2
[[default_team.pool]]
name = "gpu"
slots = 1
[default_team.connections]
plain = "hunter2"
number = 3
typeless = { host = "h", pasword = "hunter2" }
odd = { conn_type = "http", extra = "[hunter2]", port = 0 }
[[default_team.consent]]
dags = "[a"
actions = ["trigger", "delete"]
"#
        )
        .faults(), @r#"
isobar.toml:3:12: a team cannot tune `weight`
  hint: known here: `max_running`, `executor.parallelism`, `pools`
isobar.toml:4:11: a team's code never runs as root
  hint: name an unprivileged user
isobar.toml:5:14: team `default` is guaranteed more slots than `max_running` allows
  hint: raise `max_running`, or lower `guaranteed`
isobar.toml:7:17: this is not one requirement
  hint: write one such as `pandas==2.2.3`; options of pip go into a requirements file
isobar.toml:7:29: this is not one requirement
  hint: write one such as `pandas==2.2.3`; options of pip go into a requirements file
isobar.toml:8:10: there is no interpreter `no/python`
  hint: give the path of a `python3`, or a version such as `3.11`
isobar.toml:9:8: `nowhere` is not a virtual environment: it has no `bin/python`
  hint: make it, or leave `venv` out and Isobar makes one from `python` and `requirements`
isobar.toml:9:8: `venv` is used as it is, so `python` and `requirements` beside it would do nothing
  hint: keep `venv`, or the other two
isobar.toml:11:1: `1X` cannot be an environment variable of a team
  hint: use letters, digits and `_`; `ISOBAR_…` and `_AIRFLOW_…` are Isobar's own
isobar.toml:12:1: `ISOBAR_HOME` cannot be an environment variable of a team
  hint: use letters, digits and `_`; `ISOBAR_…` and `_AIRFLOW_…` are Isobar's own
isobar.toml:13:1: pool `a:b` has no slots
  hint: give it `slots = 4`, or -1 for no bound
isobar.toml:14:8: a pool's name holds no `:`
  hint: it parts team and name: `team:pool`
isobar.toml:17:9: `slots` in `[[default_team.pool]]` is -2, out of bounds
  hint: give a whole number, -1 or more
isobar.toml:19:8: there are two pools `gpu`
  hint: keep one of them
isobar.toml:22:9: connection `plain` is not a URI
  hint: write `type://login:password@host:port/schema?extra=…`, or a table with `conn_type`, `host`, …
isobar.toml:23:10: connection `number` must be a text or a table, not a whole number
  hint: write a URI in quotes, or a table with `conn_type`, `host`, …
isobar.toml:24:12: connection `typeless` has no type
  hint: give it `conn_type = "postgres"`, `"http"`, …
isobar.toml:24:26: unknown key `pasword` in `[default_team.connections.typeless]`
  hint: did you mean `password`?
isobar.toml:25:37: `extra` of connection `odd` is not a JSON object
  hint: write a table: `extra = { key = "value" }`
isobar.toml:25:57: `port` in `[default_team.connections.odd]` is 0, out of bounds
  hint: give a whole number, 1 to 65535
isobar.toml:26:1: a consent has no `teams`
  hint: write `teams = ["analytics"]` and `actions = ["trigger"]`
isobar.toml:27:8: `[a` is not a glob: unclosed character class; missing ']'
  hint: `*` stands for any name
isobar.toml:28:23: there is no action `delete` to consent to
  hint: known here: `trigger`, `read`, `clear`
"#);
}

#[test]
fn includes_are_read_once_and_conflicts_are_said() {
    let bench = Bench::new(
        "include = [\"teams/*.toml\", \"no/*.toml\"]\n[core]\nmulti_team = true\n[[team]]\nname = \"alpha\"\nweight = 2\ninclude = \"alpha.toml\"\n[[team]]\nname = \"beta\"\ninclude = \"gone.toml\"\n",
    );
    bench.file("alpha.toml", "weight = 3\ninclude = \"x\"\n");
    bench.file("teams/one.toml", "[core]\nparallelism = 1\n[[team]]\nname = \"one\"\n");
    bench.file("teams/two.toml", "name = \n");
    assert_snapshot!(bench.faults(), @r#"
teams/one.toml:1:2: unknown key `core` in an included file
  hint: an included file holds `[[team]]` tables, or the keys of one team; the rest belongs into the main file
teams/two.toml:1:8: string values must be quoted, expected literal string
  hint: in TOML a text stands in quotes: `key = "text"`
isobar.toml:1:28: no file matches `no/*.toml`
  hint: check the path, or remove the line
alpha.toml:2:1: an included file cannot include another
  hint: name all files in the main file; `include` takes globs
alpha.toml:1:1: `weight` is already given at isobar.toml:6:1
  hint: keep one of the two
isobar.toml:10:11: `gone.toml` cannot be read: No such file or directory (os error 2)
  hint: check the path and its permissions; relative paths start at the file that names them
"#);
}

#[test]
fn the_other_layout_says_what_does_not_fit() {
    let bench = Bench::new(
        r#"
[core]
multi_team = true
[[executor]]
teams = ["team1", "team2"]
extra = 1
[[executor.team1]]
executors = ["celery"]
[[executor.team1.celery]]
class = "CeleryExecutor"
[[executor.team1.celery.configuration]]
key_1 = "value 1"
[executor.team3]
executors = ["local"]
[[team]]
name = "team1"
executors = ["local"]
"#,
    );
    assert_snapshot!(bench.faults(), @r#"
isobar.toml:5:19: team `team2` is listed, but there is no `[executor.team2]`
  hint: did you mean `team1`?
isobar.toml:6:1: unknown key `extra` in `[executor]`
  hint: here stand `teams = ["…"]` and one table `[executor.TEAM]` for each team
isobar.toml:8:1: `executors` is already given at isobar.toml:17:1
  hint: use one of the two layouts for a team, not both
isobar.toml:10:9: executor `CeleryExecutor` of team `team1`: this kind comes later
  hint: today: `type = "local"`
isobar.toml:13:11: team `team3` is not listed in `teams` of `[executor]`
  hint: did you mean `team1`?
isobar.toml:13:11: team `team3` has no Dag folder
  hint: give it `folders = "path/to/dags"`, or a list of folders
isobar.toml:15:1: team `team1` has no Dag folder
  hint: give it `folders = "path/to/dags"`, or a list of folders
"#);
}

#[test]
fn environment_variables_are_blamed_by_name() {
    let bench = Bench::new(
        "[core]\nmulti_team = true\n[[team]]\nname = \"data-eng\"\nfolders = \"d\"\nexecutors = \"local\"\n",
    );
    bench.file("d/x.py", "");
    bench
        .env("ISOBAR__CORE__PARALELISM", "3")
        .env("ISOBAR__CORE__PARALLELISM", "lots")
        .env("ISOBAR__CORE", "x")
        .env("ISOBAR__TEAM__ANALYTICS__WEIGHT", "3")
        .env(
            "ISOBAR__TEAM__DATA_ENG__EXECUTOR__CELERY__BROKER_URL",
            "redis://hunter2",
        )
        .env("ISOBAR__TEAM__DATA_ENG__POOL__GPU__SLOTS", "3")
        .env("ISOBAR__DATABASE__URL_SECRET", "vault://x")
        .env("ISOBAR__AUTH__SECRET_KEY_CMD", "exit 3")
        .env("AIRFLOW__SCHEDULER__CATCHUP_BY_DEFAULT", "perhaps");
    assert_snapshot!(bench.faults(), @r#"
environment variable ISOBAR__CORE: this is not the name of a setting
  hint: write `ISOBAR__SECTION__KEY`, or `ISOBAR__TEAM__NAME__KEY` for a team's
environment variable ISOBAR__TEAM__ANALYTICS__WEIGHT: no `team` is called `ANALYTICS`, or no key of it is named
  hint: declared: `data-eng`; in variables names are upper-case with `_` for `-`
environment variable ISOBAR__TEAM__DATA_ENG__EXECUTOR__CELERY__BROKER_URL: no `executor` is called `CELERY`, or no key of it is named
  hint: declared: `local`; in variables names are upper-case with `_` for `-`
environment variable ISOBAR__TEAM__DATA_ENG__POOL__GPU__SLOTS: no `pool` is declared that it could be about
  hint: declare one with `[[pool]]` in the file; the environment only changes settings
environment variable ISOBAR__CORE__PARALLELISM: `parallelism` in `[core]` must be a whole number, not a text
  hint: give `parallelism` a whole number
environment variable ISOBAR__CORE__PARALELISM: unknown key `paralelism` in `[core]`
  hint: did you mean `parallelism`?
environment variable ISOBAR__DATABASE__URL_SECRET: `url` could not be fetched: there is no source of secrets called `vault`
  hint: today: `file:///path/to/file` and `env://NAME`
environment variable AIRFLOW__SCHEDULER__CATCHUP_BY_DEFAULT: `catchup_by_default` in `[scheduler]` must be true or false, not a text
  hint: give `catchup_by_default` true or false
environment variable ISOBAR__AUTH__SECRET_KEY_CMD: `secret_key` could not be fetched: the command failed (exit status: 3)
  hint: run it by hand in the same environment; it must print the value and exit with 0
"#);
}

#[test]
fn a_value_given_twice_is_refused() {
    assert_snapshot!(Bench::new("[database]\nurl = \"postgresql://h/d\"\nurl_cmd = \"echo x\"\n").faults(), @r#"
isobar.toml:3:1: `url` is given twice: `url` and `url_cmd`
  hint: keep one of them
"#);
}

#[test]
fn a_file_that_is_no_text_or_missing_is_said() {
    let bench = Bench::new("");
    bench.bytes("isobar.toml", b"[core]\n# \xff\xfe\n");
    assert_snapshot!(bench.faults(), @r#"
isobar.toml:2:3: the file is not UTF-8 text here
  hint: save it as UTF-8
"#);
    let bench = Bench::new("");
    std::fs::remove_file(bench.path("isobar.toml")).unwrap();
    assert_snapshot!(bench.faults(), @r#"
isobar.toml:1:1: `isobar.toml` cannot be read: No such file or directory (os error 2)
  hint: check the path and its permissions; relative paths start at the file that names them
"#);
}

#[test]
fn configuration_lies_apart_from_dags_but_for_a_team_s_own_file() {
    let bench = Bench::new(
        "include = \"beta/team.toml\"\n[core]\nmulti_team = true\nhome = \"/tmp/isobar-home\"\n[[team]]\nname = \"alpha\"\nfolders = \"dags\"\nexecutors = \"local\"\nread_folders = \".\"\n",
    );
    bench.file("dags/a.py", "").file("beta/b.py", "");
    bench.file(
        "beta/team.toml",
        "name = \"beta\"\nfolders = \".\"\nexecutors = \"local\"\n",
    );
    assert_snapshot!(bench.faults().replace(bench.path("").to_str().unwrap().trim_end_matches('/'), "."), @r#"
isobar.toml:9:16: team `alpha` could read `beta`, where Dags of team `beta` lie
  hint: choose a folder apart from all Dag folders
isobar.toml:9:16: team `alpha` could read the configuration `isobar.toml`, which lies in `.`
  hint: keep Dags and configuration in folders apart
isobar.toml:9:16: team `alpha` could read the configuration `beta/team.toml`, which lies in `.`
  hint: keep Dags and configuration in folders apart
"#);
}

#[test]
fn what_would_be_passed_over_in_silence_is_refused() {
    let bench = Bench::new(
        "[connections]\nsource = \"secrets-only\"\n[default_team]\nfolders = \"dags\"\n[[auth.user]]\nname = \"ann\"\n\
         teams_cmd = \"echo op\"\n",
    );
    bench.file("dags/a.py", "");
    assert_snapshot!(bench.faults(), @r"
isobar.toml:2:10: `secrets-only` needs a secrets backend, which this version does not have
  hint: remove the key; it would hide and refuse every connection
isobar.toml:7:1: `teams` cannot be given by `teams_cmd`
  hint: write `teams` itself here
");
}
