//! Denials in the audit log of the team they concern (rule 26).
//!
//! A denial is written after the answer, so that it takes no longer than a made-up name does, and at most once a minute
//! for each (person, team, kind, action), so that nobody fills another team's log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use isobar_auth::{Action, OrgScope, Resource};
use isobar_model::TeamId;
use isobar_store::{Store, audit};
use serde_json::json;

/// How long the same denial is not written again.
const QUIET: Duration = Duration::from_secs(60);
/// Keys remembered; beyond that nothing more is written until some are a minute old.
const MOST: usize = 10_000;

type Key = (String, TeamId, Resource, Action);

/// Remembers what was written lately.
#[derive(Default)]
pub(crate) struct Denials {
    written: Mutex<HashMap<Key, Instant>>,
}

impl Denials {
    /// Notes that somebody was refused something of a team.
    pub(crate) fn note(
        &self,
        store: &Store,
        org: &OrgScope,
        actor: &str,
        team: TeamId,
        (resource, action): (Resource, Action),
        object: &str,
    ) {
        if !self.is_news((actor.to_owned(), team, resource, action)) {
            return;
        }
        tracing::warn!(actor, %team, ?resource, ?action, "denied");
        let record = audit::Record::new("denied", actor).extra(json!({
            "resource": format!("{resource:?}"),
            "action": format!("{action:?}"),
            "object": object,
        }));
        let (store, scope) = (store.clone(), org.team(team));
        tokio::spawn(async move {
            let written = async {
                let mut tx = store.begin().await?;
                audit::write(&mut tx, scope, &[record]);
                tx.commit().await
            };
            if let Err(error) = written.await {
                tracing::error!(%error, "a denial could not be written to the audit log");
            }
        });
    }

    fn is_news(&self, key: Key) -> bool {
        let now = Instant::now();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= MOST {
            written.retain(|_, at| now.duration_since(*at) < QUIET);
            if written.len() >= MOST {
                return false;
            }
        }
        match written.get(&key) {
            Some(at) if now.duration_since(*at) < QUIET => false,
            _ => {
                written.insert(key, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_denial_is_news_once_a_minute() {
        let denials = Denials::default();
        let key = |team| ("eve".to_owned(), TeamId(team), Resource::Dag, Action::Edit);
        assert!(denials.is_news(key(1)));
        assert!(!denials.is_news(key(1)));
        assert!(denials.is_news(key(2)));
    }
}
