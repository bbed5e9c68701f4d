//! The users of Airflow's simple auth manager.

use super::ini::Ini;
use super::writing::{Draft, User};
use crate::TeamRole;
use crate::wording::quote;

const SIMPLE: &str = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager";

pub(super) fn read(ini: &Ini, multi_team: bool, draft: &mut Draft) {
    if ini
        .get("core", "auth_manager")
        .is_some_and(|manager| !manager.is_empty() && manager != SIMPLE)
    {
        let why = "other auth managers than `simple` come later; until then write an `[[auth.user]]` for each person";
        draft.leave_out("core", "auth_manager", why);
        return;
    }
    let users = ini.get("core", "simple_auth_manager_users").unwrap_or_default();
    let written: Vec<&str> = users
        .split(',')
        .map(str::trim)
        .filter(|user| !user.is_empty())
        .collect();
    if written == ["admin:admin"] || written.is_empty() {
        // The one user that there is anyway.
    } else {
        for user in written {
            one(user, multi_team, draft);
        }
    }
    let file = ini
        .get("core", "simple_auth_manager_passwords_file")
        .unwrap_or_default();
    if !file.is_empty() && file != "None" {
        draft.set("auth", "passwords_file", quote(&file));
    }
}

fn one(written: &str, multi_team: bool, draft: &mut Draft) {
    let mut parts = written.split(':');
    let (name, role, teams) = (parts.next(), parts.next(), parts.next());
    let role = role.and_then(|role| {
        TeamRole::ALL
            .into_iter()
            .find(|known| known.as_str() == role.to_lowercase())
    });
    let (Some(name), Some(role)) = (name, role) else {
        return draft.leave_out(
            "core",
            "simple_auth_manager_users",
            "a user in it has no role that is known here",
        );
    };
    let teams: Vec<String> = teams
        .unwrap_or_default()
        .split('|')
        .filter(|team| !team.is_empty())
        .map(str::to_owned)
        .collect();
    if multi_team && teams.is_empty() {
        // Airflow's user without a team reaches what has no team, and an admin everything.
        let org = if role == TeamRole::Admin {
            "org-admin"
        } else {
            "org-viewer"
        };
        draft.leave_out(
            "core",
            &format!("user `{name}`"),
            &format!("has no team in Airflow; here `org = \"{org}\"`, since nothing is without a team"),
        );
    }
    draft.users.push(User {
        name: name.to_owned(),
        role,
        teams,
    });
}
