//! Whose Dag a name means (rule 20).
//!
//! A plain name is the own team's. `other-team:dag` names another's, and means it only with that Dag's consent: written
//! in its file (`access_control` with keys `team:<glob>`) or in its team's configuration. Without consent the name stays
//! as it was written and is looked for among the own team's Dags, where no id holds a `:`, so it is answered exactly as a
//! made-up one.

use isobar_auth::TeamScope;
use isobar_config::ConsentAction;
use isobar_store::{StoreError, Tx, dags};
use isobar_wire::execution::Caller;
use serde_json::Value;

use crate::execution::Execution;
use crate::settings::glob;

/// A Dag's name, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meant {
    /// Whose rows to look in.
    pub(crate) scope: TeamScope,
    /// The id to look for.
    pub(crate) dag_id: String,
    /// Whether it is another team's.
    pub(crate) foreign: bool,
}

impl Execution {
    /// What a Dag's name means to this caller for one kind of action.
    pub(crate) async fn meant(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        name: &str,
        action: ConsentAction,
    ) -> Result<Meant, StoreError> {
        let own = Meant {
            scope: self.own(caller),
            dag_id: name.to_owned(),
            foreign: false,
        };
        let Some((team, dag_id)) = name.split_once(':').filter(|_| self.settings.multi_team) else {
            return Ok(own);
        };
        if team == caller.team_name().as_str() {
            return Ok(Meant {
                dag_id: dag_id.to_owned(),
                ..own
            });
        }
        let Some(owner) = dags::team_by_name(tx, &self.org, team).await? else {
            return Ok(own);
        };
        let scope = self.org.team(owner);
        let Some(head) = dags::head(tx, scope, dag_id).await? else {
            return Ok(own);
        };
        let by_team = self.settings.team(team).is_some_and(|team| {
            (team.consents.iter()).any(|rule| rule.allows(dag_id, caller.team_name().as_str(), action))
        });
        if by_team || dag_consents(&head.access_control, caller.team_name().as_str(), action) {
            return Ok(Meant {
                scope,
                dag_id: dag_id.to_owned(),
                foreign: true,
            });
        }
        Ok(own)
    }
}

/// Whether a Dag's `access_control` lets a team do this. Beside our own words, Airflow's are taken: `can_read`,
/// `can_create` (of runs) and `can_edit`. Consent to trigger includes reading (rule 20).
fn dag_consents(access_control: &Value, team: &str, action: ConsentAction) -> bool {
    let Some(entries) = access_control.as_object() else {
        return false;
    };
    entries
        .iter()
        .filter_map(|(key, what)| Some((key.strip_prefix("team:")?, what)))
        .filter(|(pattern, _)| glob(pattern).is_some_and(|glob| glob.is_match(team)))
        .any(|(_, what)| names_action(what, action))
}

fn names_action(what: &Value, action: ConsentAction) -> bool {
    match what {
        Value::String(word) => match action {
            ConsentAction::Trigger => matches!(word.as_str(), "trigger" | "can_create"),
            ConsentAction::Clear => matches!(word.as_str(), "clear" | "can_edit"),
            ConsentAction::Read => matches!(word.as_str(), "read" | "can_read" | "trigger" | "can_create"),
        },
        Value::Array(words) => words.iter().any(|word| names_action(word, action)),
        // `{"DAGs": {"can_read"}, "DAG Runs": {"can_create"}}`, as Airflow writes it by resource
        Value::Object(resources) => resources.values().any(|words| names_action(words, action)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dag_consents_by_team_glob_and_action() {
        let control = json!({
            "team:data-*": {"DAGs": ["can_read"]},
            "team:ops": ["trigger"],
            "viewer": {"DAGs": ["can_edit"]},
        });
        let may = |team, action| dag_consents(&control, team, action);
        assert!(may("data-science", ConsentAction::Read));
        assert!(!may("data-science", ConsentAction::Trigger));
        assert!(!may("viewer", ConsentAction::Clear));
        assert!(may("ops", ConsentAction::Trigger) && may("ops", ConsentAction::Read));
        assert!(!may("ops", ConsentAction::Clear));
        assert!(!dag_consents(&Value::Null, "ops", ConsentAction::Read));
    }
}
