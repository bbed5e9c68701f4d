//! Scopes as SQL. Team numbers are ours, so they stand in the text and leave the plan free to use the index.

use std::fmt::Write;

use isobar_auth::ReadScope;

/// The condition that a row's team is one that may be read: `d.team_no IN (1,2)`, `1=1` or `1=0`.
pub(crate) fn predicate(scope: &ReadScope, column: &str) -> String {
    match scope.teams() {
        None => "1=1".to_owned(),
        Some([]) => "1=0".to_owned(),
        Some([team]) => format!("{column} = {}", team.0),
        Some(teams) => {
            let mut text = format!("{column} IN (");
            for (index, team) in teams.iter().enumerate() {
                let _ = write!(text, "{}{}", if index == 0 { "" } else { "," }, team.0);
            }
            text.push(')');
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_auth::OrgScope;
    use isobar_model::TeamId;

    #[test]
    fn a_scope_becomes_the_narrowest_condition() {
        let org = OrgScope::at_process_start();
        assert_eq!(predicate(&org.read(), "d.team_no"), "1=1");
        assert_eq!(predicate(&org.team(TeamId(3)).into(), "d.team_no"), "d.team_no = 3");
        let nothing = isobar_auth::ReadScope::from(org.team(TeamId(3))).narrowed_to(TeamId(4));
        assert_eq!(predicate(&nothing, "d.team_no"), "1=0");
    }
}
