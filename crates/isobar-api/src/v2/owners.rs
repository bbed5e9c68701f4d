//! Whose a thing is: of something new, from the body; of something numbered, from its id.

use isobar_auth::{Action, Resource, TeamScope};
use isobar_model::TeamId;
use isobar_store::counters::TEAM_STRIDE;
use serde_json::{Value, json};

use crate::ApiError;
use crate::extract::{Ask, Fields, Target};
use crate::names::Place;

/// Reads `team_name`, which must be the last field that a body is asked for: Airflow checks it when all else is well.
pub(super) fn team_name(fields: &mut Fields, multi_team: bool) -> Option<String> {
    let team = fields.text("team_name", Some(50))?;
    if !multi_team && fields.is_complete() {
        fields.refuse(
            None,
            "team_name cannot be set when multi_team mode is disabled. Please contact your administrator.",
        );
    }
    Some(team)
}

/// The scope of the team that something new belongs to (rule 15).
///
/// # Errors
/// 403 and 404 as of [`Ask::owner_of_new`]; 404 too where a team is named inside another's address.
pub(super) fn of_new(
    ask: &Ask,
    written: &str,
    team_name: Option<&str>,
    resource: Resource,
) -> Result<Target, ApiError> {
    if let (Place::Inside(team), Some(named)) = (ask.names.place, team_name)
        && ask.names.directory.by_name(named).is_none_or(|known| known.id != team)
    {
        return Err(ApiError::not_found("The team was not found"));
    }
    let target = ask.owner_of_new(written, team_name, resource)?;
    if target.scope.team() == TeamId::SHARED {
        return Err(ApiError::bad_request(
            "What all teams share is declared in the configuration, under [shared]; what is made here would be gone with \
             the next start",
        ));
    }
    Ok(target)
}

/// A thing never changes its team by a patch: its name would mean another thing for everybody who uses it.
///
/// # Errors
/// 400 where the body names another team than the target's.
pub(super) fn unchanged(ask: &Ask, target: &Target, team_name: Option<&str>) -> Result<(), ApiError> {
    match team_name {
        Some(named) if ask.names.team_name(target.scope.team()) != *named => Err(ApiError::bad_request(
            "team_name cannot be changed; make it anew in the other team and delete it here",
        )),
        _ => Ok(()),
    }
}

/// The scope for something that is known by a team-private id. As with names, a team that the caller does not see looks
/// like one that does not exist.
///
/// # Errors
/// 403 where the caller sees the team and may not do this there.
pub(super) fn of_id(ask: &Ask, id: i64, resource: Resource, action: Action) -> Result<TeamScope, ApiError> {
    let team = i32::try_from(id.div_euclid(TEAM_STRIDE)).ok().map(TeamId);
    let here = team.filter(|team| match (ask.names.place, ask.names.asked) {
        (Place::Inside(inside), _) => *team == inside,
        (Place::Everywhere, Some(asked)) => asked == Some(*team),
        (Place::Everywhere, None) => true,
    });
    let known = here.filter(|team| ask.names.directory.by_id(*team).is_some() && ask.caller.sees(*team));
    match known {
        Some(team) => ask.caller.act(team, resource, action).ok_or_else(ApiError::forbidden),
        None if ask.might(resource, action) => Ok(ask.state.nobody),
        None => Err(ApiError::forbidden()),
    }
}

/// The fields of a body for the audit record, with the method as Airflow adds it.
pub(super) fn audited(mut fields: serde_json::Map<String, Value>, method: &str) -> Value {
    fields.insert("method".to_owned(), json!(method));
    Value::Object(fields)
}
