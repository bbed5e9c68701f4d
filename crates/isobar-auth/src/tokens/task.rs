//! Tasks' tokens (rule 22): they name team, Dag, run, task, map index, try and dispatch, and are signed with a key of
//! their own team, so that no team's key signs for another.

use std::time::Duration;

use isobar_model::{DagId, Dispatch, MapIndex, RunId, TaskId, TiId};
use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Denied;
use crate::directory::Directory;
use crate::master_key::MasterKey;

const AUDIENCE: &str = "urn:airflow.apache.org:task";
const PURPOSE: &str = "task";

/// What a task's token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskTokenScope {
    /// To begin the task, nothing else.
    Workload,
    /// Everything a running task may do.
    Execution,
}

/// An accepted token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskClaims {
    /// Which dispatch of which task.
    pub identity: TaskIdentity,
    /// What it is good for.
    pub scope: TaskTokenScope,
    /// When it was minted, seconds since 1970.
    pub issued_at: i64,
    /// When it expires, seconds since 1970.
    pub expires_at: i64,
}

impl TaskClaims {
    /// Whether an answer should carry a fresh token: a fifth of its life or 30 s are left (Airflow's rule).
    #[must_use]
    pub fn wants_refresh(&self, now: Timestamp) -> bool {
        let left = self.expires_at - now.as_second();
        self.scope == TaskTokenScope::Execution && left <= ((self.expires_at - self.issued_at) / 5).max(30)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: Uuid,
    scope: TaskTokenScope,
    aud: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    team: i32,
    dag: String,
    run: String,
    task: String,
    map: MapIndex,
    #[serde(rename = "try")]
    try_number: i32,
    dispatch: i64,
}

pub(crate) fn mint(
    master: &MasterKey,
    identity: &TaskIdentity,
    epoch: i64,
    scope: TaskTokenScope,
    lifetime: Duration,
    now: Timestamp,
) -> String {
    let iat = now.as_second();
    let claims = Claims {
        sub: identity.ti_id.0,
        scope,
        aud: AUDIENCE.to_owned(),
        jti: Uuid::new_v4().simple().to_string(),
        iat,
        nbf: iat,
        exp: iat.saturating_add_unsigned(lifetime.as_secs()),
        team: identity.team.0,
        dag: identity.dag_id.to_string(),
        run: identity.run_id.to_string(),
        task: identity.task_id.to_string(),
        map: identity.map_index,
        try_number: identity.try_number,
        dispatch: identity.dispatch.0,
    };
    let mut header = Header::new(Algorithm::HS512);
    header.kid = Some(identity.team.to_string());
    let key = EncodingKey::from_secret(&master.derive(PURPOSE, Some(identity.team), epoch));
    jsonwebtoken::encode(&header, &claims, &key).expect("HS512 signs any claims")
}

pub(crate) fn read(master: &MasterKey, directory: &Directory, token: &str) -> Result<TaskClaims, Denied> {
    // The key id only chooses which team's key must fit; the claims are believed once it does, and must name that team.
    let claimed = jsonwebtoken::decode_header(token)?
        .kid
        .and_then(|kid| kid.parse().ok())
        .ok_or(Denied::Invalid)?;
    let team = directory.by_id(isobar_model::TeamId(claimed)).ok_or(Denied::Unknown)?;
    let mut rules = Validation::new(Algorithm::HS512);
    rules.set_audience(&[AUDIENCE]);
    rules.set_required_spec_claims(&["exp", "aud", "sub"]);
    rules.validate_nbf = true;
    rules.leeway = 10;
    let key = DecodingKey::from_secret(&master.derive(PURPOSE, Some(team.id), team.token_epoch));
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules)?.claims;
    if claims.team != team.id.0 {
        return Err(Denied::Invalid);
    }
    Ok(TaskClaims {
        identity: TaskIdentity {
            team: team.id,
            team_name: team.name,
            dag_id: DagId::from(claims.dag),
            run_id: RunId::from(claims.run),
            task_id: TaskId::from(claims.task),
            map_index: claims.map,
            try_number: claims.try_number,
            ti_id: TiId(claims.sub),
            dispatch: Dispatch(claims.dispatch),
        },
        scope: claims.scope,
        issued_at: claims.iat,
        expires_at: claims.exp,
    })
}

#[cfg(test)]
mod tests {
    use isobar_model::{TeamId, TeamName};

    use super::*;
    use crate::directory::KnownTeam;

    fn team(id: i32, name: &str, token_epoch: i64) -> KnownTeam {
        KnownTeam {
            id: TeamId(id),
            name: TeamName::parse(name).unwrap(),
            token_epoch,
        }
    }

    fn identity(team: i32, name: &str) -> TaskIdentity {
        TaskIdentity {
            team: TeamId(team),
            team_name: TeamName::parse(name).unwrap(),
            dag_id: "etl".into(),
            run_id: "manual__1".into(),
            task_id: "load".into(),
            map_index: -1,
            try_number: 1,
            ti_id: TiId::fresh(),
            dispatch: Dispatch(7),
        }
    }

    fn master() -> MasterKey {
        MasterKey::from_text(&"m".repeat(32)).unwrap()
    }

    #[test]
    fn a_token_names_its_dispatch() {
        let directory = Directory::new(true, vec![team(1, "alpha", 0)]);
        let whom = identity(1, "alpha");
        let token = mint(
            &master(),
            &whom,
            0,
            TaskTokenScope::Execution,
            Duration::from_secs(600),
            Timestamp::now(),
        );
        assert_eq!(read(&master(), &directory, &token).unwrap().identity, whom);
    }

    #[test]
    fn a_team_signs_for_no_other_team() {
        let directory = Directory::new(true, vec![team(1, "alpha", 0), team(2, "bravo", 0)]);
        // Signed with alpha's key, but claiming bravo in the header or in the claims.
        let forged = {
            let mut whom = identity(1, "alpha");
            let token = mint(
                &master(),
                &whom,
                0,
                TaskTokenScope::Execution,
                Duration::from_secs(600),
                Timestamp::now(),
            );
            whom.team = TeamId(2);
            let parts: Vec<&str> = token.split('.').collect();
            let bravo = mint(
                &master(),
                &whom,
                0,
                TaskTokenScope::Execution,
                Duration::from_secs(600),
                Timestamp::now(),
            );
            let bravo_parts: Vec<&str> = bravo.split('.').collect();
            [
                format!("{}.{}.{}", bravo_parts[0], parts[1], parts[2]),
                format!("{}.{}.{}", parts[0], bravo_parts[1], parts[2]),
                format!("{}.{}.{}", parts[0], bravo_parts[1], bravo_parts[2]),
            ]
        };
        for token in forged {
            assert_eq!(read(&master(), &directory, &token), Err(Denied::Invalid));
        }
    }

    #[test]
    fn raising_the_epoch_revokes_the_team() {
        let whom = identity(1, "alpha");
        let token = mint(
            &master(),
            &whom,
            0,
            TaskTokenScope::Execution,
            Duration::from_secs(600),
            Timestamp::now(),
        );
        let raised = Directory::new(true, vec![team(1, "alpha", 1)]);
        assert_eq!(read(&master(), &raised, &token), Err(Denied::Invalid));
    }

    #[test]
    fn an_archived_team_has_no_tokens_and_an_old_one_expires() {
        let whom = identity(1, "alpha");
        let now = Timestamp::now();
        let token = mint(
            &master(),
            &whom,
            0,
            TaskTokenScope::Workload,
            Duration::from_secs(600),
            now,
        );
        assert_eq!(
            read(&master(), &Directory::new(true, vec![]), &token),
            Err(Denied::Unknown)
        );
        let directory = Directory::new(true, vec![team(1, "alpha", 0)]);
        let old = mint(
            &master(),
            &whom,
            0,
            TaskTokenScope::Workload,
            Duration::from_secs(1),
            "2020-01-01T00:00:00Z".parse().unwrap(),
        );
        assert_eq!(read(&master(), &directory, &old), Err(Denied::Expired));
    }
}
