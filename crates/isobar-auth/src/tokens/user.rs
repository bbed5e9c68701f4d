//! Users' tokens.

use std::time::Duration;

use isobar_model::TeamId;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Denied;
use crate::master_key::MasterKey;

const AUDIENCE: &str = "apache-airflow";
const ORGANISATION: Option<TeamId> = None;

/// What a user's token says. Roles are looked up at each use, so that taking a role away takes effect at once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserClaims {
    pub(crate) sub: String,
    pub(crate) jti: String,
    aud: String,
    iat: i64,
    nbf: i64,
    pub(crate) exp: i64,
}

pub(crate) fn mint(master: &MasterKey, name: &str, lifetime: Duration, now: Timestamp) -> String {
    let iat = now.as_second();
    let claims = UserClaims {
        sub: name.to_owned(),
        jti: Uuid::new_v4().simple().to_string(),
        aud: AUDIENCE.to_owned(),
        iat,
        nbf: iat,
        exp: iat.saturating_add_unsigned(lifetime.as_secs()),
    };
    let key = EncodingKey::from_secret(&master.derive("user", ORGANISATION, 0));
    jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &key).expect("HS512 signs any claims")
}

pub(crate) fn read(master: &MasterKey, token: &str) -> Result<UserClaims, Denied> {
    let mut rules = Validation::new(Algorithm::HS512);
    rules.set_audience(&[AUDIENCE]);
    rules.set_required_spec_claims(&["exp", "aud", "sub"]);
    rules.validate_nbf = true;
    rules.leeway = 10;
    let key = DecodingKey::from_secret(&master.derive("user", ORGANISATION, 0));
    Ok(jsonwebtoken::decode::<UserClaims>(token, &key, &rules)?.claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_until_it_expires() {
        let master = MasterKey::from_text(&"k".repeat(32)).unwrap();
        let token = mint(&master, "ann", Duration::from_secs(60), Timestamp::now());
        assert_eq!(read(&master, &token).unwrap().sub, "ann");
        let old = mint(
            &master,
            "ann",
            Duration::from_secs(60),
            "2020-01-01T00:00:00Z".parse().unwrap(),
        );
        assert_eq!(read(&master, &old).unwrap_err(), Denied::Expired);
        let other = MasterKey::from_text(&"o".repeat(32)).unwrap();
        assert_eq!(read(&other, &token).unwrap_err(), Denied::Invalid);
        assert_eq!(read(&master, "not.a.token").unwrap_err(), Denied::Invalid);
    }
}
