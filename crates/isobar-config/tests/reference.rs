//! `docs/configuration.md` is true: every key stands there with its default, and its examples load.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::Bench;

fn reference() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    std::fs::read_to_string(path).unwrap()
}

/// The part of the page below a heading.
fn part<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let body = &page[start + heading.len() + 1..];
    body.find("\n## ").map_or(body, |end| &body[..end])
}

#[test]
fn every_key_stands_in_the_reference_with_its_default() {
    let page = reference();
    let bench = Bench::new("");
    let mut section = String::new();
    for line in bench.plain(&bench.load().show()).lines() {
        if line.starts_with('[') {
            section = match line {
                "[default_team]" => "## `[[team]]`".to_owned(),
                "[default_team.env]" => "### `[team.env]`".to_owned(),
                header => format!("## `{header}`"),
            };
        }
        let Some((key, rest)) = line.split_once(" = ") else {
            continue;
        };
        let default = rest.split("  #").next().unwrap();
        let part = part(&page, &section);
        let row = part.lines().find(|row| row.starts_with(&format!("| `{key}` | ")));
        let row = row.unwrap_or_else(|| panic!("`{key}` of {section} is not in the reference"));
        let is_path = default.contains(".isobar") || key == "folders";
        assert!(
            is_path || row.starts_with(&format!("| `{key}` | `{default}` |")),
            "{row} says not {default}"
        );
    }
}

#[test]
fn every_example_of_the_reference_loads() {
    let page = reference();
    let mut examples = 0;
    for block in page.split("```toml\n").skip(1) {
        let toml = block.split("```").next().unwrap();
        if toml.contains("include = \"teams/*.toml\"") {
            continue;
        }
        let core = if toml.contains("multi_team") {
            ""
        } else {
            "core = { multi_team = true }\n"
        };
        let folders = if toml.contains("[executor]") {
            "[[team]]\nname = \"analytics\"\nfolders = \"dags\"\n"
        } else {
            ""
        };
        let bench = Bench::new(&format!("{core}{toml}{folders}"));
        bench.env("WAREHOUSE_PASSWORD", "pw");
        for folder in ["dags", "analytics/dags", "data-science/dags"] {
            bench.file(&format!("{folder}/dag.py"), "");
        }
        match bench.try_load() {
            Ok(_) => {}
            // The one secret that is not there.
            Err(problems) => assert!(
                problems
                    .0
                    .iter()
                    .all(|problem| problem.what.contains("/run/secrets/token")),
                "{toml}\n{problems}"
            ),
        }
        examples += 1;
    }
    assert!(examples >= 4, "{examples} examples found");
}

#[test]
fn the_rocket_example_loads_without_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/rocket/isobar.toml");
    let environment = [("ISOBAR_HOME".to_owned(), home.path().display().to_string())].into();
    let loaded = isobar_config::load(Some(std::path::Path::new(path)), &environment).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = &loaded.config;
    let names: Vec<_> = config.teams.iter().map(|team| team.name.as_str()).collect();
    assert_eq!(names, ["data-engineering", "analytics", "data-science"]);
    let [engineering, analytics, science] = &config.teams[..] else {
        panic!("three teams")
    };
    assert_eq!(engineering.connections[0].id, analytics.connections[0].id);
    assert_ne!(engineering.connections[0].host, analytics.connections[0].host);
    assert_eq!(science.pools[0].name, "training");
    assert!(
        analytics
            .read_folders
            .iter()
            .all(|folder| engineering.write_folders.contains(folder))
    );
    let erin = config.auth.users.iter().find(|user| user.name == "erin").unwrap();
    assert_eq!(
        (erin.teams.len(), erin.home.as_ref().unwrap().as_str()),
        (3, "data-engineering")
    );
}
