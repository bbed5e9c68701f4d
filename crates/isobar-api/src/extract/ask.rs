//! One request: who asks, where, and what its names mean. Scopes are made here and nowhere else in this crate.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use isobar_auth::{Action, Principal, ReadScope, Resource, TeamScope};
use isobar_model::{DagId, RunId, TaskId, TeamId};
use isobar_store::lists::Page;

use super::params::Params;
use crate::auth::Caller;
use crate::names::{Names, Place};
use crate::{ApiError, AppState};

/// The team of `/teams/{team}/…`, put there by the router.
#[derive(Clone, Debug)]
pub(crate) struct Inside(pub(crate) String);

/// A name that a request means, with the scope to act on it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The scope of its team; of a team that never exists where the caller may not see it.
    pub(crate) scope: TeamScope,
    /// The plain name.
    pub(crate) name: String,
    /// The name as the caller wrote it, for answers that echo it.
    pub(crate) written: String,
}

impl Target {
    pub(crate) fn dag_id(&self) -> DagId {
        self.name.as_str().into()
    }
}

/// A request by a recognised caller.
pub struct Ask {
    pub(crate) state: AppState,
    pub(crate) caller: Principal,
    pub(crate) names: Names,
    pub(crate) query: Params,
    pub(crate) headers: HeaderMap,
    path: Vec<(String, String)>,
}

impl Ask {
    /// A part of the path, as written.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.path
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// A part of the path that must be a whole number.
    ///
    /// # Errors
    /// 422 as FastAPI answers it.
    pub(crate) fn number(&self, name: &'static str) -> Result<i64, ApiError> {
        let text = self.part(name);
        text.parse().map_err(|_| {
            ApiError::unprocessable(vec![
                super::problems::Problem::unreadable_int().at(vec!["path".into(), name.into()], &text.into()),
            ])
        })
    }

    /// A part of the path that must be a whole number and not less than zero.
    ///
    /// # Errors
    /// 422 as FastAPI answers it.
    pub(crate) fn natural(&self, name: &'static str) -> Result<i64, ApiError> {
        let number = self.number(name)?;
        if number < 0 {
            return Err(ApiError::unprocessable(vec![
                super::problems::Problem::below(0).at(vec!["path".into(), name.into()], &self.part(name).into()),
            ]));
        }
        Ok(number)
    }

    pub(crate) fn run_id(&self) -> RunId {
        self.part("dag_run_id").into()
    }

    pub(crate) fn task_id(&self) -> TaskId {
        self.part("task_id").into()
    }

    /// What may be read of a kind, narrowed by the place and by `?team=`.
    ///
    /// # Errors
    /// 403 where no role of the caller allows it anywhere here.
    pub(crate) fn read(&self, resource: Resource) -> Result<ReadScope, ApiError> {
        let whole = self.caller.read(resource);
        let team = match (self.names.place, self.names.asked) {
            (Place::Inside(team), _) => Some(team),
            (Place::Everywhere, Some(asked)) => {
                let team = asked.unwrap_or(self.state.nobody.team());
                if !self.caller.sees(team) {
                    return Ok(ReadScope::from(self.state.nobody));
                }
                Some(team)
            }
            (Place::Everywhere, None) => None,
        };
        let scope = team.map_or_else(|| whole.clone(), |team| whole.narrowed_to(team));
        if scope.teams().is_some_and(<[_]>::is_empty) {
            return Err(self.denied(team.or(self.names.home), resource, Action::Read, ""));
        }
        Ok(scope)
    }

    /// The refusal of something that the caller may not do, after a note in the audit log of the team it concerns.
    fn denied(&self, team: Option<TeamId>, resource: Resource, action: Action, object: &str) -> ApiError {
        self.note_denial(team, resource, action, object);
        ApiError::forbidden()
    }

    fn note_denial(&self, team: Option<TeamId>, resource: Resource, action: Action, object: &str) {
        let Some(team) = team.filter(|team| self.names.directory.by_id(*team).is_some()) else {
            return;
        };
        let (state, actor) = (&self.state, self.caller.name());
        state
            .denials
            .note(&state.store, &state.org, actor, team, (resource, action), object);
    }

    /// What may be changed of a kind, in the teams of [`Self::read`].
    ///
    /// # Errors
    /// 403 where no role of the caller allows it anywhere here.
    pub(crate) fn writable(&self, resource: Resource, action: Action) -> Result<Vec<TeamScope>, ApiError> {
        let readable = self.read(resource)?;
        let scopes: Vec<TeamScope> = self
            .names
            .directory
            .all()
            .iter()
            .filter(|team| readable.covers(team.id))
            .filter_map(|team| self.caller.act(team.id, resource, action))
            .collect();
        if scopes.is_empty() {
            return Err(self.denied(self.names.home, resource, action, ""));
        }
        Ok(scopes)
    }

    /// What a written name means, and the scope to do something with it.
    ///
    /// A team that the caller does not see and a team that does not exist give the same: the scope of a team without
    /// rows, if the caller might do this at home, else 403.
    ///
    /// # Errors
    /// 403 where the caller sees the team and may not do this there.
    pub(crate) fn target(&self, written: &str, resource: Resource, action: Action) -> Result<Target, ApiError> {
        let (team, name) = self.names.read(written);
        let scope = match team.filter(|team| self.caller.sees(*team)) {
            Some(seen) => self
                .caller
                .act(seen, resource, action)
                .ok_or_else(|| self.denied(Some(seen), resource, action, name))?,
            None if self.might(resource, action) => {
                self.note_denial(team, resource, action, name);
                self.state.nobody
            }
            None => return Err(self.denied(team.or(self.names.home), resource, action, name)),
        };
        Ok(Target {
            scope,
            name: name.to_owned(),
            written: written.to_owned(),
        })
    }

    /// Whether the caller may do this at home (or, without a home, anywhere).
    pub(crate) fn might(&self, resource: Resource, action: Action) -> bool {
        match self.names.home {
            Some(home) => self.caller.act(home, resource, action).is_some(),
            None => self
                .names
                .directory
                .all()
                .iter()
                .any(|team| self.caller.act(team.id, resource, action).is_some()),
        }
    }

    /// The scope to change something that was found and may be read, and so is known to exist.
    ///
    /// # Errors
    /// 403 where the caller may only read it.
    pub(crate) fn own(
        &self,
        team: TeamId,
        name: &str,
        resource: Resource,
        action: Action,
    ) -> Result<TeamScope, ApiError> {
        self.caller
            .act(team, resource, action)
            .ok_or_else(|| self.denied(Some(team), resource, action, name))
    }

    /// The Dag of the path.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub(crate) fn dag(&self, resource: Resource, action: Action) -> Result<Target, ApiError> {
        self.target(self.part("dag_id"), resource, action)
    }

    /// The scope of the team that a new thing belongs to: the place's, `?team=`, the body's `team_name`, or home.
    ///
    /// # Errors
    /// 403 where the caller may not make it there; 404 where there is no such team, or none that the caller sees.
    pub(crate) fn owner_of_new(
        &self,
        written: &str,
        team_name: Option<&str>,
        resource: Resource,
    ) -> Result<Target, ApiError> {
        let mut target =
            match team_name.filter(|_| self.names.place == Place::Everywhere && self.names.directory.multi_team()) {
                Some(team) => {
                    let mut inside = self.names.clone();
                    inside.asked = Some(inside.team(team));
                    let (team, name) = inside.read(written);
                    let scope = match team.filter(|team| self.caller.sees(*team)) {
                        Some(team) => self
                            .caller
                            .act(team, resource, Action::Create)
                            .ok_or_else(ApiError::forbidden)?,
                        None if self.might(resource, Action::Create) => self.state.nobody,
                        None => return Err(ApiError::forbidden()),
                    };
                    Target {
                        scope,
                        name: name.to_owned(),
                        written: written.to_owned(),
                    }
                }
                None => self.target(written, resource, Action::Create)?,
            };
        if target.scope == self.state.nobody {
            return Err(ApiError::not_found("The team was not found"));
        }
        target.written = self.names.write(target.scope.team(), &target.name);
        Ok(target)
    }

    /// `limit` and `offset`.
    pub(crate) fn page(&mut self) -> Page {
        let (fallback, maximum) = (self.state.fallback_page_limit, self.state.maximum_page_limit);
        self.query.page(fallback, maximum)
    }

    /// The name of something of a team, as the caller must write it.
    pub(crate) fn write(&self, team: TeamId, name: &str) -> String {
        self.names.write(team, name)
    }
}

/// Why a request was refused before its handler.
pub struct Refused(Response);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0
    }
}

impl FromRequestParts<AppState> for Ask {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Refused> {
        let Caller(caller) = Caller::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Refused(rejection.into_response()))?;
        let directory = state.auth.directory().clone();
        let query = Params::new(parts.uri.query().unwrap_or(""));
        let place = match parts.extensions.get::<Inside>() {
            None => Place::Everywhere,
            Some(Inside(name)) => {
                let team = directory
                    .by_name(name)
                    .map(|team| team.id)
                    .filter(|team| directory.multi_team() && caller.sees(*team));
                Place::Inside(team.ok_or_else(|| Refused(ApiError::not_found("Not Found").into_response()))?)
            }
        };
        let mut names = Names::new(directory, place, &caller);
        if place == Place::Everywhere
            && names.directory.multi_team()
            && let Some(team) = query.text("team")
        {
            names.asked = Some(names.team(&team));
        }
        let path = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Refused(rejection.into_response()))?
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self {
            state: state.clone(),
            caller,
            names,
            query,
            headers: parts.headers.clone(),
            path,
        })
    }
}
