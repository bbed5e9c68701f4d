//! Whatever stands in a file or an environment variable, loading answers; it never panics, and it never runs away.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use isobar_config::load;
use proptest::prelude::*;

/// Words that mean something, so that random texts come near to real ones. None can start a command.
const WORDS: &[&str] = &[
    "core",
    "multi_team",
    "parallelism",
    "team",
    "executor",
    "executors",
    "teams",
    "team1",
    "name",
    "folders",
    "type",
    "class",
    "configuration",
    "local",
    "LocalExecutor",
    "celery",
    "include",
    "default_team",
    "variables",
    "connections",
    "pool",
    "slots",
    "env",
    "auth",
    "user",
    "role",
    "org",
    "home",
    "database",
    "url",
    "server",
    "port",
    "true",
    "false",
    "0",
    "-1",
    "99999999999999999999",
    "1e400",
    "nan",
    "inf",
    "\"\"",
    "\"*\"",
    "\"[\"",
    "\"a\"",
    "\"é\"",
    "\"sqlite://x\"",
    "\"http://[::1\"",
    "\"/\"",
    "1979-05-27",
    "0xFF",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "\n",
    "\n",
    "\n",
    " ",
    "\"",
    "'''",
    "#",
    "\u{0}",
    "\u{feff}",
    "shared",
    "consent",
    "dags",
    "actions",
    "weight",
    "guaranteed",
    "requirements",
    "python",
    "timeout",
    "parsing",
    "\"1h\"",
    "\"-5m\"",
    "1.5",
    "-1.5",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(WORDS), 0..60).prop_map(|words| words.concat()),
        prop::collection::vec(prop::sample::select(WORDS), 0..60).prop_map(|words| words.join(" ")),
        line_by_line(),
        any::<String>(),
    ]
}

/// Well-formed TOML with known names in unknown places, which reaches the readers behind the grammar.
fn line_by_line() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(&WORDS[..32]);
    let value = prop::sample::select(
        &[
            "true",
            "3",
            "-1",
            "1.5",
            "\"local\"",
            "\"\"",
            "[\"local\", \"x\"]",
            "[1]",
            "{ name = \"x\" }",
            "[{ type = \"local\" }]",
            "1979-05-27",
            "9223372036854775807",
            "\"sqlite:x\"",
            "[[\"a\"]]",
            "{}",
        ][..],
    );
    let line = prop_oneof![
        3 => (name(), value).prop_map(|(name, value)| format!("{name} = {value}")),
        1 => name().prop_map(|name| format!("[{name}]")),
        1 => name().prop_map(|name| format!("[[{name}]]")),
        1 => (name(), name()).prop_map(|(outer, inner)| format!("[[{outer}.{inner}]]")),
        1 => (name(), name()).prop_map(|(outer, inner)| format!("[{outer}.{inner}]")),
    ];
    prop::collection::vec(line, 0..20).prop_map(|lines| {
        // Later duplicates would end in the grammar; keep the first of each table.
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_file_makes_it_panic(toml in text()) {
        prop_assume!(!toml.contains("_cmd"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("isobar.toml");
        std::fs::write(&file, toml).unwrap();
        let _ = load(Some(&file), &BTreeMap::new()).map(|loaded| loaded.show());
    }

    #[test]
    fn no_environment_makes_it_panic(
        names in prop::collection::vec(prop::collection::vec(prop::sample::select(&WORDS[..40]), 0..6), 0..4),
        value in text(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("isobar.toml");
        std::fs::write(&file, "[core]\nmulti_team = true\n[[team]]\nname = \"team1\"\nexecutors = [\"local\"]\n").unwrap();
        let environment = names.iter().flat_map(|name| {
            let name = name.join("__").to_uppercase();
            [(format!("ISOBAR__{name}"), value.clone()), (format!("AIRFLOW__{name}"), value.clone())]
        });
        let _ = load(Some(&file), &environment.collect()).map(|loaded| loaded.show());
        let _ = load(None, &names.iter().map(|name| (format!("ISOBAR__{}", name.join("__")), value.clone())).collect());
    }

    #[test]
    fn what_is_shown_can_be_read_as_toml(number in 1u32..9999, text in "[a-z\"\\\\\u{0}-\u{1f}é]{1,8}") {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("isobar.toml");
        let written = toml::Value::String(text.clone()).to_string();
        std::fs::write(&file, format!("[core]\nparallelism = {number}\nsensitive_var_conn_names = [{written}]\n")).unwrap();
        let shown = load(Some(&file), &BTreeMap::new()).unwrap().show();
        let parsed: toml::Table = toml::from_str(&shown).unwrap();
        prop_assert_eq!(parsed["core"]["parallelism"].as_integer(), Some(i64::from(number)));
        prop_assert_eq!(parsed["core"]["sensitive_var_conn_names"][0].as_str(), Some(text.as_str()));
    }
}
