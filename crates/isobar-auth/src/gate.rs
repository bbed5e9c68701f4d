//! The gate: logins in, tokens out, tokens in, principals and task identities out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;

use crate::directory::Directory;
use crate::manager::{AuthManager, LoginError};
use crate::master_key::MasterKey;
use crate::principal::Principal;
use crate::tokens::{Denied, TaskClaims, TaskTokenScope, task, user};

/// How long tokens live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// A browser's or client's token.
    pub user: Duration,
    /// A command-line client's token.
    pub cli: Duration,
    /// A task's token once it runs; refreshed on use. Airflow: 600 s.
    pub execution: Duration,
    /// A task's token while it is queued. Airflow: 600 s.
    pub workload: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let ten_minutes = Duration::from_secs(600);
        Self {
            user: Duration::from_secs(86_400),
            cli: Duration::from_secs(3600),
            execution: ten_minutes,
            workload: ten_minutes,
        }
    }
}

/// Checks who somebody is. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

struct Inner {
    master: MasterKey,
    directory: Directory,
    manager: Box<dyn AuthManager>,
    lifetimes: Lifetimes,
    /// Logged-out tokens of users, by `jti`, until they would have expired.
    revoked: Mutex<HashMap<String, i64>>,
}

impl Auth {
    /// A gate for these teams and this manager.
    pub fn new(master: MasterKey, directory: Directory, manager: impl AuthManager, lifetimes: Lifetimes) -> Self {
        let inner = Inner {
            master,
            directory,
            manager: Box::new(manager),
            lifetimes,
            revoked: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The teams this gate knows.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// The auth manager.
    #[must_use]
    pub fn manager(&self) -> &dyn AuthManager {
        &*self.inner.manager
    }

    /// The lifetimes of tokens.
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        self.inner.lifetimes
    }

    /// Checks a password and answers a token.
    ///
    /// # Errors
    /// Name and password are not those of a user.
    pub fn login(&self, name: &str, password: &str, lifetime: Duration) -> Result<String, LoginError> {
        let principal = self.inner.manager.login(name, password)?;
        Ok(user::mint(
            &self.inner.master,
            principal.name(),
            lifetime,
            Timestamp::now(),
        ))
    }

    /// Who a user's token speaks for, with the roles of this moment.
    ///
    /// # Errors
    /// The token is forged, expired, revoked, or of a user who is gone.
    pub fn user(&self, token: &str) -> Result<Principal, Denied> {
        let claims = user::read(&self.inner.master, token)?;
        if self.revoked().contains_key(&claims.jti) {
            return Err(Denied::Revoked);
        }
        self.inner.manager.principal(&claims.sub).ok_or(Denied::Unknown)
    }

    /// Ends a user's token before its time (logout).
    pub fn revoke(&self, token: &str) {
        let Ok(claims) = user::read(&self.inner.master, token) else {
            return;
        };
        let now = Timestamp::now().as_second();
        let mut revoked = self.revoked();
        revoked.retain(|_, expires| *expires > now);
        revoked.insert(claims.jti, claims.exp);
    }

    fn revoked(&self) -> std::sync::MutexGuard<'_, HashMap<String, i64>> {
        self.inner.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token for one dispatch of one task (rule 22); none where its team is not active.
    #[must_use]
    pub fn task_token(&self, identity: &TaskIdentity, scope: TaskTokenScope) -> Option<String> {
        let epoch = self.inner.directory.by_id(identity.team)?.token_epoch;
        let lifetime = match scope {
            TaskTokenScope::Workload => self.inner.lifetimes.workload,
            TaskTokenScope::Execution => self.inner.lifetimes.execution,
        };
        Some(task::mint(
            &self.inner.master,
            identity,
            epoch,
            scope,
            lifetime,
            Timestamp::now(),
        ))
    }

    /// Which dispatch of which task a token speaks for. Whether that dispatch is still the present one, only the
    /// row can say.
    ///
    /// # Errors
    /// The token is forged, expired, revoked with its team, or its team is not active.
    pub fn task(&self, token: &str) -> Result<TaskClaims, Denied> {
        task::read(&self.inner.master, &self.inner.directory, token)
    }
}
