//! The declared teams against the known ones: rules 3, 4 and 5.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::Bench;
use insta::assert_snapshot;
use isobar_config::{KnownTeam, TeamsPlan};
use isobar_model::{TeamId, TeamName};

fn known(teams: &[(i32, &str, bool)]) -> Vec<KnownTeam> {
    let team = |(id, name, archived): &(i32, &str, bool)| KnownTeam {
        id: TeamId(*id),
        name: TeamName::from_stored((*name).to_owned()),
        archived: *archived,
        dags_with_history: 0,
    };
    teams.iter().map(team).collect()
}

fn plan(names: &[(&str, &str)], known: &[KnownTeam]) -> String {
    let mut toml = "[core]\nmulti_team = true\n".to_owned();
    for (position, (name, more)) in names.iter().enumerate() {
        toml.push_str(&format!(
            "[[team]]\nname = \"{name}\"\nfolders = \"d{position}\"\nexecutors = \"local\"\n{more}\n"
        ));
    }
    let bench = Bench::new(&toml);
    for position in 0..names.len() {
        bench.file(&format!("d{position}/dag.py"), "");
    }
    TeamsPlan::new(&bench.load().config, known).to_string()
}

#[test]
fn new_teams_are_made_known_ones_kept_and_missing_ones_archived() {
    assert_snapshot!(plan(
        &[("alpha", ""), ("beta", "")],
        &known(&[
            (0, "default", false),
            (1, "alpha", false),
            (2, "gamma", false),
            (3, "long-gone", true)
        ])
    ), @r#"
archive  gamma (its rows are kept and hidden)
keep     alpha
create   beta
"#);
}

#[test]
fn a_team_is_renamed_by_formerly_once_and_for_all() {
    let names = [("omega", "formerly = \"alpha\"")];
    assert_snapshot!(plan(&names, &known(&[(1, "alpha", false)])), @"rename   alpha to omega");
    assert_snapshot!(plan(&names, &known(&[(1, "omega", false)])), @"keep     omega");
    assert_snapshot!(plan(&names, &[]), @"create   omega");
}

#[test]
fn names_may_be_handed_on_in_a_row_but_not_in_a_circle() {
    let handed_on = [
        ("beta", "formerly = \"alpha\""),
        ("gamma", "formerly = \"beta\""),
        ("alpha", "formerly = \"x-y-z\""),
    ];
    assert_snapshot!(plan(
        &handed_on[..2],
        &known(&[(1, "alpha", false), (2, "beta", false)])
    ), @r#"
rename   beta to gamma
rename   alpha to beta
"#);
    let circle = [("beta", "formerly = \"alpha\""), ("alpha", "formerly = \"beta\"")];
    assert_snapshot!(plan(&circle, &known(&[(1, "alpha", false), (2, "beta", false)])), @r#"
refused: teams `alpha`, `beta` exchange their names
  hint: rename one of them to a third name first
"#);
}

#[test]
fn an_archived_name_needs_a_word() {
    let archived = known(&[(1, "alpha", true)]);
    assert_snapshot!(plan(&[("alpha", "")], &archived), @r#"
refused: team `alpha` was archived, and its rows would come back
  hint: write `restore = true` in its `[[team]]`, or choose another name
"#);
    assert_snapshot!(plan(&[("alpha", "restore = true")], &archived), @"restore  alpha");
}

#[test]
fn a_renaming_onto_a_living_team_is_refused() {
    assert_snapshot!(plan(
        &[("beta", "formerly = \"alpha\"")],
        &known(&[(1, "alpha", false), (2, "beta", false)])
    ), @r#"
refused: team `alpha` cannot become `beta`: both exist
  hint: archive `beta` first by leaving it out of one `isobar teams apply`, or remove `formerly`
"#);
    assert_snapshot!(plan(
        &[("beta", "formerly = \"alpha\""), ("alpha", "")],
        &known(&[(1, "alpha", false)])
    ), @r#"
keep     alpha
refused: team `beta` was formerly `alpha`, but `alpha` is still declared
  hint: remove `formerly`, or the other `[[team]]`
"#);
}

#[test]
fn a_renaming_onto_an_archived_name_is_refused() {
    assert_snapshot!(plan(&[("beta", "formerly = \"alpha\"")], &known(&[(1, "alpha", false), (2, "beta", true)])), @r#"
refused: team `alpha` cannot become `beta`: an archived team has that name
  hint: choose another name; an archived team keeps its own
"#);
}

#[test]
fn teamless_history_keeps_multi_team_off() {
    let mut teams = known(&[(0, "default", false)]);
    teams[0].dags_with_history = 3;
    assert_snapshot!(plan(&[("alpha", "")], &teams), @r#"
create   alpha
refused: 3 Dags with history belong to no team, so multi-team cannot be turned on
  hint: move them with `isobar teams move`, or delete them
"#);
}

#[test]
fn turning_multi_team_off_archives_the_teams_and_says_so() {
    let plan = TeamsPlan::new(
        &Bench::new("").load().config,
        &known(&[(0, "default", false), (1, "alpha", false)]),
    );
    assert_snapshot!(plan, @"archive  alpha (its rows are kept and hidden)");
    assert!(plan.changes());
}
