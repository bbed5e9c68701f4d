//! The neighbour test: with team alpha's user and alpha's tasks, try to reach what is bravo's, over every route that
//! exists. Nothing succeeds, and answers for bravo's names equal answers for names that do not exist.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use deployment::{Answer, Client, Database, Deployment};
use serde_json::{Value, json};

/// A Dag that both teams own under the same id. What is bravo's own says so.
const TWIN: &str = r#"
from airflow.sdk import DAG, task, Asset

with DAG(dag_id="twin", schedule=None, catchup=False, tags=["of-__TEAM__"]) as dag:
    @task(outlets=[Asset("__TEAM__-asset", uri="file:///__TEAM__/asset")])
    def speak():
        print("the log of __TEAM__")
        return "the xcom of __TEAM__"

    speak()
"#;

/// A Dag of bravo's that can be backfilled.
const DATED: &str = r#"
from datetime import datetime
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

with DAG(dag_id="dated", schedule="@daily", start_date=datetime(2026, 1, 1), end_date=datetime(2026, 1, 9), catchup=False):
    EmptyOperator(task_id="of-bravo")
"#;

/// What alpha's own task tries from inside. Each attempt writes what it got.
const SPY: &str = r#"
import json, os, pathlib
from airflow.sdk import DAG, task

EVIDENCE, BRAVO, SERVER = __PATHS__

with DAG(dag_id="spy", schedule=None, catchup=False) as dag:
    @task
    def spy(ti=None):
        from airflow.sdk import Variable, Connection
        from airflow.sdk.execution_time.xcom import XCom
        from airflow.sdk.execution_time.comms import GetDagRunState, GetDRCount, GetTICount, TriggerDagRun, GetDag, GetAssetByName
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        found = {}

        def attempt(name, action):
            try:
                found[name] = repr(action())
            except BaseException as e:
                found[name] = f"{type(e).__name__}: {e}"

        attempt("own variable", lambda: Variable.get("secret"))
        for whose in ("bravo", "nosuch"):
            attempt(f"{whose} variable", lambda: Variable.get(f"{whose}:secret"))
            attempt(f"{whose} variable written", lambda: Variable.set(f"{whose}:secret", "overwritten by alpha"))
            attempt(f"{whose} connection", lambda: Connection.get(f"{whose}:db").password)
            attempt(f"{whose} xcom", lambda: XCom.get_one(key="return_value", dag_id=f"{whose}:twin", task_id="speak", run_id="first"))
            attempt(f"{whose} run", lambda: SUPERVISOR_COMMS.send(GetDagRunState(dag_id=f"{whose}:twin", run_id="first")))
            attempt(f"{whose} count", lambda: SUPERVISOR_COMMS.send(GetDRCount(dag_id=f"{whose}:twin")))
            attempt(f"{whose} tasks", lambda: SUPERVISOR_COMMS.send(GetTICount(dag_id=f"{whose}:twin")))
            attempt(f"{whose} dag", lambda: SUPERVISOR_COMMS.send(GetDag(dag_id=f"{whose}:twin")))
            attempt(f"{whose} trigger", lambda: SUPERVISOR_COMMS.send(TriggerDagRun(dag_id=f"{whose}:twin", run_id="by_alpha")))
        attempt("bravo variable by its plain name", lambda: Variable.get("only_bravo"))
        attempt("bravo connection by its plain name", lambda: Connection.get("only_bravo").password)
        attempt("bravo asset", lambda: SUPERVISOR_COMMS.send(GetAssetByName(name="bravo-asset")))
        for root in (BRAVO, SERVER + "/home/logs", SERVER + "/home", SERVER):
            for path in [pathlib.Path(root), *pathlib.Path(root).glob("**/*")][:200]:
                if path.is_file() and not any(own in str(path) for own in ("evidence", "teams/alpha", "run/alpha")):
                    attempt(f"file {path}", lambda: path.read_bytes()[:20])
        for folder in (BRAVO, SERVER + "/home/logs/bravo", SERVER + "/home"):
            attempt(f"write {folder}", lambda: (pathlib.Path(folder) / "by_alpha.txt").write_text("x"))
        for pid in os.listdir("/proc"):
            if pid.isdigit() and int(pid) != os.getpid():
                try:
                    environ = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if "bravo" in environ or "ISOBAR_HOME" in environ:
                    found[f"environment of {pid}"] = environ
        pathlib.Path(EVIDENCE, "spy.json").write_text(json.dumps(found, indent=1))
        return "done"

    spy()
"#;

fn two_teams() -> Deployment {
    let seeds = |team: &str| {
        format!(
            "[team.variables]\nsecret = \"the secret of {team}\"\nonly_{team} = \"only of {team}\"\n\
             [team.connections.db]\nconn_type = \"postgres\"\nhost = \"{team}.example\"\npassword = \"the password of {team}\"\n\
             [team.connections.only_{team}]\nconn_type = \"http\"\npassword = \"only of {team}\"\n\
             [[team.pool]]\nname = \"pool_of_{team}\"\nslots = 3\n"
        )
    };
    let place = Deployment::on(Database::Sqlite)
        .team("alpha", &seeds("alpha"))
        .team("bravo", &seeds("bravo"))
        .user("ann", "alpha = \"admin\"")
        .user("bob", "bravo = \"admin\"")
        .dag("alpha", "twin.py", &TWIN.replace("__TEAM__", "alpha"))
        .dag("bravo", "twin.py", &TWIN.replace("__TEAM__", "bravo"))
        .dag("bravo", "dated.py", DATED)
        .dag(
            "bravo",
            "broken.py",
            "from airflow.sdk import DAG\nraise RuntimeError('the error of bravo')",
        );
    let paths = format!(
        "{:?}, {:?}, {:?}",
        place.evidence("alpha"),
        place.dags("bravo"),
        place.path()
    );
    place.dag("alpha", "spy.py", &SPY.replace("__PATHS__", &paths))
}

fn first_run(client: &Client) {
    client.wait_for_dag("twin");
    let answer = client.post(
        "/api/v2/dags/twin/dagRuns",
        &json!({ "dag_run_id": "first", "logical_date": null }),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(client.wait_for_run("twin", "first", 60)["state"], "success");
}

/// A backfill that has ended; answers its id.
fn backfill(client: &Client) -> i64 {
    client.wait_for_dag("dated");
    let body = json!({"dag_id": "dated", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"});
    let made = client.post("/api/v2/backfills", &body);
    assert_eq!(made.status, 200, "{}", made.body);
    let id = made.body["id"].as_i64().expect("an id");
    client.wait_for(&format!("/api/v2/backfills/{id}"), 60, |answer| {
        !answer.body["completed_at"].is_null()
    });
    id
}

/// The path templates of every route under `/api/v2`, read from the sources, so that a new route cannot be forgotten.
fn every_template() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../isobar-api/src/v2")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = fs::read_to_string(entry.path()).expect("a source");
            for part in text.split(".route(").skip(1) {
                let template = template(part.trim_start(), &text);
                found.insert(template.unwrap_or_else(|| {
                    panic!(
                        "{}: this test cannot read the route `{}`",
                        entry.path().display(),
                        part.lines().next().unwrap_or_default()
                    )
                }));
            }
        }
    }
    assert!(found.len() > 30, "the routes were found: {found:?}");
    found
}

/// What stands first between the parentheses of `.route(…)`: a text, a constant of the file, or one made of such.
fn template(part: &str, source: &str) -> Option<String> {
    let text = |from: &str| Some(from.strip_prefix('"')?.split('"').next()?.to_owned());
    let constant = |name: &str| text(source.split(&format!("const {name}: &str = ")).nth(1)?);
    let part = part.trim_start_matches('&').trim_start();
    if let Some(formatted) = part.strip_prefix("format!(").and_then(|rest| text(rest.trim_start())) {
        let (name, rest) = formatted.strip_prefix('{')?.split_once('}')?;
        return Some(constant(name)? + &rest.replace("{{", "{").replace("}}", "}"));
    }
    if let Some(rest) = part.strip_prefix("at(").and_then(text) {
        return Some(constant("ALL")? + &rest);
    }
    text(part).or_else(|| {
        constant(
            part.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .next()?,
        )
    })
}

/// A template filled with the names of one team: `bravo`, whose things exist, or one that does not exist.
fn fill(template: &str, names: &dyn Fn(&str) -> String) -> String {
    let parts = template.split('/').map(
        |part| match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => names(name.trim_start_matches('*')),
            None => part.to_owned(),
        },
    );
    parts.collect::<Vec<_>>().join("/")
}

/// Bodies that mean something to some route; the others answer them with 422, equally.
fn bodies() -> Vec<Option<Value>> {
    vec![
        None,
        Some(json!({ "is_paused": true })),
        Some(json!({ "logical_date": null })),
        Some(json!({ "dry_run": false, "only_failed": false })),
        Some(json!({ "state": "failed" })),
        Some(json!({ "new_state": "failed" })),
        Some(json!({ "key": "secret", "value": "overwritten by alpha" })),
        Some(json!({ "key": "fresh", "value": "pushed by alpha" })),
        Some(json!({ "connection_id": "db", "conn_type": "http", "host": "alpha" })),
        Some(json!({ "name": "fresh_pool", "slots": 99 })),
        Some(json!({ "slots": 99 })),
    ]
}

fn same_but_for_names(template: &str, method: &str, one: &Answer, other: &Answer, names: (&str, &str)) {
    let plain = |answer: &Answer, team: &str| answer.body.to_string().replace(team, "TEAM");
    assert_eq!(
        one.status, other.status,
        "{method} {template} tells bravo's from made-up: {} / {}",
        one.body, other.body
    );
    let (a, b) = (plain(one, names.0), plain(other, names.1));
    assert_eq!(a, b, "{method} {template} tells bravo's from made-up");
}

/// A refusal may echo the id that was asked for; what it says beyond that is compared with a made-up id's.
fn nothing_of_bravo(what: &str, answer: &Answer) {
    if answer.status >= 400 {
        return;
    }
    let text = answer.body.to_string();
    for telltale in [
        "of bravo",
        "of-bravo",
        "bravo.example",
        "bravo-asset",
        "only_bravo",
        "pool_of_bravo",
    ] {
        assert!(!text.contains(telltale), "{what} shows `{telltale}`: {text}");
    }
}

/// Everything of bravo that a client can see, for before and after.
fn inventory(bob: &Client) -> Value {
    let lists = [
        "dags",
        "variables",
        "connections",
        "pools",
        "assets",
        "importErrors",
        "dags/~/dagRuns",
        "dags/~/dagRuns/~/taskInstances",
        "assets/events",
    ];
    let mut all: Value = lists
        .iter()
        .map(|list| {
            let answer = bob.get(&format!("/api/v2/{list}?limit=100"));
            assert_eq!(answer.status, 200, "{list}: {}", answer.body);
            ((*list).to_owned(), answer.body)
        })
        .collect();
    all["variable"] = bob.get("/api/v2/variables/secret").body;
    all["xcom"] = bob
        .get("/api/v2/dags/twin/dagRuns/first/taskInstances/speak/xcomEntries/return_value")
        .body;
    all["backfills"] = bob.get("/api/v2/backfills?dag_id=dated").body;
    all["source"] = bob.get("/api/v2/dagSources/twin").body;
    all
}

#[test]
fn no_route_lets_a_neighbour_in() {
    let mut place = two_teams();
    place.start("standalone");
    let (ann, bob) = (place.client("ann"), place.client("bob"));
    first_run(&bob);
    first_run(&ann);
    let backfill = backfill(&bob);
    bob.wait_for("/api/v2/importErrors", 30, |answer| answer.body["total_entries"] == 1);
    let before = inventory(&bob);

    let asset = before["assets"]["assets"][0]["id"]
        .as_i64()
        .expect("bravo's asset has an id");
    let error = before["importErrors"]["import_errors"][0]["import_error_id"]
        .as_i64()
        .expect("bravo's error has an id");
    let version = "1";
    let real = move |name: &str| match name {
        "dag_id" | "file_token" => "bravo:twin".to_owned(),
        "dag_run_id" | "run_id" => "first".to_owned(),
        "task_id" => "speak".to_owned(),
        "map_index" => "-1".to_owned(),
        "task_try_number" | "try_number" => "1".to_owned(),
        "xcom_key" => "return_value".to_owned(),
        "version_number" => version.to_owned(),
        "variable_key" => "bravo:secret".to_owned(),
        "connection_id" => "bravo:db".to_owned(),
        "pool_name" => "bravo:pool_of_bravo".to_owned(),
        "asset_id" => asset.to_string(),
        "import_error_id" => error.to_string(),
        "backfill_id" => backfill.to_string(),
        _ => "1".to_owned(),
    };
    // As far from every id of ours as from each other, and as long, so that only existence differs.
    let made_up = |name: &str| match name {
        "asset_id" => (asset + 17).to_string(),
        "import_error_id" => (error + 17).to_string(),
        "backfill_id" => (backfill + 17).to_string(),
        other => real(other).replace("bravo:", "gamma:"),
    };
    // Health tells of processes, not of teams, and of the present moment.
    for template in every_template()
        .into_iter()
        .filter(|template| template != "/monitor/health")
    {
        for method in ["GET", "POST", "PATCH", "PUT", "DELETE"] {
            for body in bodies() {
                if method == "GET" && body.is_some() {
                    continue;
                }
                let (named, invented) = (fill(&template, &real), fill(&template, &made_up));
                let other = |path: &str| {
                    path.replace(&asset.to_string(), "ID")
                        .replace(&(asset + 17).to_string(), "ID")
                };
                let normal = |mut answer: Answer| {
                    let text = answer
                        .body
                        .to_string()
                        .replace(&error.to_string(), "ID")
                        .replace(&(error + 17).to_string(), "ID");
                    answer.body = Value::String(other(&text).replace("gamma", "bravo"));
                    answer
                };
                if named != invented {
                    let one = ann.send(method, &format!("/api/v2{named}"), body.as_ref());
                    let two = ann.send(method, &format!("/api/v2{invented}"), body.as_ref());
                    // An empty list is an answer too, as long as the made-up id gets the same.
                    assert!(
                        !(200..300).contains(&one.status) || method == "GET",
                        "{method} {named} succeeded: {}",
                        one.body
                    );
                    nothing_of_bravo(&format!("{method} {named}"), &one);
                    same_but_for_names(&template, method, &normal(one), &normal(two), ("bravo", "bravo"));
                } else if method == "GET" {
                    let answer = ann.get(&format!("/api/v2{named}?limit=100"));
                    nothing_of_bravo(&named, &answer);
                    let narrowed = ann.get(&format!("/api/v2{named}?team=bravo"));
                    let invented = ann.get(&format!("/api/v2{named}?team=gamma"));
                    same_but_for_names(&template, "GET ?team=", &narrowed, &invented, ("bravo", "gamma"));
                }
                // Below bravo's own address, with plain names.
                let plain = fill(&template, &|name| real(name).replace("bravo:", ""));
                let one = ann.send(method, &format!("/teams/bravo/api/v2{plain}"), body.as_ref());
                let two = ann.send(method, &format!("/teams/gamma/api/v2{plain}"), body.as_ref());
                assert!(
                    !(200..300).contains(&one.status) || method == "GET",
                    "{method} /teams/bravo{plain} succeeded: {}",
                    one.body
                );
                nothing_of_bravo(&format!("{method} /teams/bravo{plain}"), &one);
                same_but_for_names(&template, method, &one, &two, ("bravo", "gamma"));
            }
        }
    }
    let overview = ann.get("/isobar/overview");
    nothing_of_bravo("the first page", &overview);
    assert!(!overview.body.to_string().contains("bravo"), "{}", overview.body);
    assert_eq!(inventory(&bob), before, "something of bravo's changed");
}

#[test]
fn a_task_reaches_nothing_of_a_neighbour() {
    let mut place = two_teams();
    place.start("standalone");
    let (ann, bob) = (place.client("ann"), place.client("bob"));
    first_run(&bob);
    let before = inventory(&bob);
    ann.wait_for_dag("spy");
    let run = ann.trigger("spy");
    let ended = ann.wait_for_run("spy", &run, 60);
    assert_eq!(ended["state"], "success");
    let text = fs::read_to_string(place.evidence("alpha").join("spy.json")).expect("the spy's report");
    let found: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("the spy's report is JSON");
    assert_eq!(found["own variable"], "'the secret of alpha'");
    for (what, got) in &found {
        let got = got.as_str().unwrap_or_default();
        if what == "own variable" {
            continue;
        }
        assert!(!got.contains("of bravo"), "{what}: {got}");
        // The agent is the same for everybody, and readable: it is what its Python runs.
        let agent = what.starts_with("file ") && what.contains("/home/agent/agent-");
        if !agent && (what.starts_with("file ") || what.starts_with("write ")) {
            assert!(
                got.contains("PermissionError") || got.contains("FileNotFoundError"),
                "{what}: {got}"
            );
        }
        assert!(!what.starts_with("environment of"), "{what}: {got}");
        if let Some(rest) = what
            .strip_prefix("bravo ")
            .filter(|rest| !rest.contains("plain") && *rest != "asset")
        {
            let invented = found[&format!("nosuch {rest}")]
                .as_str()
                .unwrap_or_default()
                .replace("nosuch", "bravo");
            assert_eq!(got, invented, "{what} is told from a made-up name");
        }
    }
    assert_eq!(inventory(&bob), before, "something of bravo's changed");
}
