//! `[auth]` and `[[auth.user]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use isobar_model::TeamName;

use crate::problem::{Origin, suggest};
use crate::reader::Reader;
use crate::tree::Value;
use crate::wording::quote_key;
use crate::{Auth, AuthManagerKind, OrgRole, Secret, TeamRole, User};

/// Reads `[auth]`; `teams` are the declared ones, `multi_team` says whether users may name them.
pub(crate) fn auth(reader: Reader<'_>, home: &Path, teams: &[TeamName], multi_team: bool) -> Auth {
    let mut auth = Auth::in_home(home);
    manager(&reader);
    auth.passwords_file = reader.path("passwords_file", auth.passwords_file);
    auth.token_lifetime = reader.duration("token_lifetime", auth.token_lifetime);
    auth.cli_token_lifetime = reader.duration("cli_token_lifetime", auth.cli_token_lifetime);
    auth.secret_key_file = reader.path("secret_key_file", auth.secret_key_file);
    if let Some(key) = reader.secret("secret_key") {
        if key.value.chars().count() < 32 {
            reader.reading.problem(
                &key.at,
                "`secret_key` in `[auth]` is shorter than 32 characters, and could be guessed",
                "leave it out and a good one is made, or take the output of `openssl rand -hex 32`",
            );
        }
        auth.secret_key = Some(Secret::new(key.value));
    }
    let mut names = BTreeSet::new();
    for (table, at) in reader.tables("user") {
        let user_reader = Reader::new(reader.reading, table, at, "[[auth.user]]");
        let user = user(user_reader, teams, multi_team);
        if !user.name.is_empty() && !names.insert(user.name.clone()) {
            reader
                .reading
                .problem(at, format!("there are two users `{}`", user.name), "keep one of them");
        }
        auth.users.push(user);
    }
    if auth.users.is_empty() {
        auth.users.push(lone_admin());
    }
    reader.finish();
    auth
}

/// Who may log in where nobody is declared: `admin`, with a generated password.
fn lone_admin() -> User {
    User {
        name: "admin".to_owned(),
        password: None,
        teams: BTreeMap::new(),
        org: Some(OrgRole::Admin),
        home: None,
    }
}

fn manager(reader: &Reader<'_>) {
    let Some(manager) = reader.text("manager") else {
        if !reader.has("manager") {
            reader.show("manager", "\"simple\"", &Origin::Default);
        }
        return;
    };
    match manager.value.as_str() {
        "simple" => {}
        later @ ("oidc" | "ldap" | "cedar" | "webhook" | "rules") => reader.reading.problem(
            &manager.at,
            format!("auth manager `{later}` comes later"),
            "today: `simple`, which is for demonstrations and development",
        ),
        other => reader.reading.problem(
            &manager.at,
            format!("there is no auth manager `{other}`"),
            suggest(other, [AuthManagerKind::Simple.as_str()]),
        ),
    }
}

fn user(reader: Reader<'_>, teams: &[TeamName], multi_team: bool) -> User {
    let name = reader.text("name").map(|name| name.value).unwrap_or_default();
    if name.is_empty() && !reader.has("name") {
        reader.problem("a user has no name", "give it `name = \"…\"`");
    }
    let password = reader.secret("password");
    if password.as_ref().is_some_and(|password| password.value.is_empty()) {
        reader.problem_at("password", "the password is empty", "leave it out and one is made");
    }
    let mut roles = team_roles(&reader, teams, multi_team);
    let role = reader.optional_choice("role", &TeamRole::ALL.map(|role| (role.as_str(), role)));
    match role {
        Some(_) if multi_team => reader.problem_at(
            "role",
            "with multi-team on, a role is held in a team",
            "write `teams = { TEAM = \"op\" }`, or `org = \"org-admin\"`",
        ),
        Some(role) => drop(roles.insert(TeamName::default_team(), role)),
        None => {}
    }
    let org = reader.optional_choice("org", &OrgRole::ALL.map(|role| (role.as_str(), role)));
    let home = home(&reader, teams, &roles, org);
    if roles.is_empty() && org.is_none() && !["teams", "org", "role"].iter().any(|key| reader.has(key)) {
        let hint = if multi_team {
            "give `teams = { TEAM = \"viewer\" }` or `org`"
        } else {
            "give `role = \"op\"`"
        };
        reader.problem(format!("user `{name}` has no role, and could see nothing"), hint);
    }
    reader.finish();
    User {
        name,
        password: password.map(|password| Secret::new(password.value)),
        teams: roles,
        org,
        home,
    }
}

fn team_roles(reader: &Reader<'_>, teams: &[TeamName], multi_team: bool) -> BTreeMap<TeamName, TeamRole> {
    let mut roles = BTreeMap::new();
    let Some(node) = reader.raw("teams") else { return roles };
    let Value::Table(table) = &node.value else {
        reader.problem_at(
            "teams",
            "`teams` of a user must be a table",
            "write `teams = { analytics = \"op\" }`",
        );
        return roles;
    };
    if !multi_team {
        reader.problem_at(
            "teams",
            "there are no teams while multi-team is off",
            "write `role = \"op\"`, or set `multi_team = true` in `[core]`",
        );
        return roles;
    }
    let mut shown = Vec::new();
    for entry in table.entries() {
        let word = match &entry.node.value {
            Value::Text(word) => word.as_str(),
            _ => "",
        };
        let role = TeamRole::ALL.into_iter().find(|role| role.as_str() == word);
        let team = teams.iter().find(|team| team.as_str() == entry.key);
        if role.is_none() {
            reader.reading.problem(
                &entry.node.origin,
                format!("`{word}` is not a role in a team"),
                suggest(word, TeamRole::ALL.map(TeamRole::as_str)),
            );
        }
        if team.is_none() {
            reader.reading.problem(
                &entry.key_origin,
                format!("there is no team `{}`", entry.key),
                suggest(&entry.key, teams.iter().map(TeamName::as_str)),
            );
        }
        if let (Some(team), Some(role)) = (team, role) {
            shown.push(format!("{} = \"{}\"", quote_key(team.as_str()), role.as_str()));
            roles.insert(team.clone(), role);
        }
    }
    reader.show_value("teams", &format!("{{ {} }}", shown.join(", ")));
    roles
}

/// The team that a plain name means: as written, else the user's only team.
fn home(
    reader: &Reader<'_>,
    teams: &[TeamName],
    roles: &BTreeMap<TeamName, TeamRole>,
    org: Option<OrgRole>,
) -> Option<TeamName> {
    let Some(written) = reader.text("home") else {
        return if roles.len() == 1 {
            roles.keys().next().cloned()
        } else {
            None
        };
    };
    let Some(team) = teams.iter().find(|team| team.as_str() == written.value) else {
        reader.reading.problem(
            &written.at,
            format!("there is no team `{}`", written.value),
            suggest(&written.value, teams.iter().map(TeamName::as_str)),
        );
        return None;
    };
    if !roles.contains_key(team) && org.is_none() {
        reader.reading.problem(
            &written.at,
            format!("the user has no role in the home team `{team}`"),
            "give one in `teams`, or choose another home",
        );
    }
    Some(team.clone())
}
