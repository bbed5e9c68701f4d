//! What every handler can reach.

use std::path::PathBuf;
use std::sync::Arc;

use isobar_auth::{Auth, MasterKey, OrgScope, TeamScope};
use isobar_config::Config;
use isobar_execution::Execution;
use isobar_model::TeamId;
use isobar_store::Store;
use jiff::SignedDuration;

use crate::dag_cache::DagCache;
use crate::denials::Denials;

/// The state of the HTTP server. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct AppState {
    /// The metadata store.
    pub store: Store,
    /// Who callers are, and the teams there are.
    pub auth: Auth,
    /// What the Task Execution API means.
    pub execution: Arc<Execution>,
    /// The key under which the teams' data keys are sealed.
    pub master_key: Arc<MasterKey>,
    /// The address under which people reach this server.
    pub base_url: String,
    /// The most rows of one page; a larger `limit` becomes this.
    pub maximum_page_limit: u32,
    /// The rows of a page where no `limit` is given.
    pub fallback_page_limit: u32,
    /// How long a triggerer counts as alive after it said so.
    pub triggerer_alive: SignedDuration,
    /// Where task logs are; the team's name is the first folder below.
    pub log_folder: PathBuf,
    /// Names of variables and keys of extras whose values are never shown.
    pub sensitive_names: Arc<[String]>,
    /// For what crosses teams by consent: an asset event goes to consumers of other teams that list this one (rule 19).
    pub(crate) org: OrgScope,
    /// A team that never exists: what a name nobody may see is looked up in.
    pub(crate) nobody: TeamScope,
    pub(crate) dags: Arc<DagCache>,
    pub(crate) denials: Arc<Denials>,
}

impl AppState {
    /// Puts the state together from a checked configuration.
    #[must_use]
    pub fn new(
        store: Store,
        auth: Auth,
        execution: Arc<Execution>,
        master_key: Arc<MasterKey>,
        org: &OrgScope,
        config: &Config,
    ) -> Self {
        let mut sensitive: Vec<String> = if config.core.hide_sensitive_var_conn_fields {
            isobar_model::SENSITIVE_NAMES
                .iter()
                .map(|name| (*name).to_owned())
                .collect()
        } else {
            Vec::new()
        };
        if config.core.hide_sensitive_var_conn_fields {
            sensitive.extend(
                config
                    .core
                    .sensitive_var_conn_names
                    .iter()
                    .map(|name| name.to_lowercase()),
            );
        }
        Self {
            store,
            auth,
            execution,
            master_key,
            base_url: config.server.base_url.clone(),
            maximum_page_limit: config.server.maximum_page_limit,
            fallback_page_limit: config.server.fallback_page_limit,
            triggerer_alive: SignedDuration::try_from(config.triggerer.triggerer_health_check_threshold)
                .unwrap_or(SignedDuration::MAX),
            log_folder: config.logging.folder.clone(),
            sensitive_names: sensitive.into(),
            org: org.clone(),
            nobody: org.team(TeamId(i32::MIN)),
            dags: Arc::default(),
            denials: Arc::default(),
        }
    }
}
