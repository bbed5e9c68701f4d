//! Listeners of a team's plugins: what they hear of what the control plane does, and who tells them.
//!
//! What happens is written down with the change itself; the team's listener process (`isobar-runtime`'s `listeners`) takes it
//! through [`ListenerApi`] and calls the plugins.

use std::collections::BTreeSet;

use isobar_model::TeamId;
use serde_json::Value;
use uuid::Uuid;

use crate::execution::{Answering, Refusal};

/// Airflow's hooks that its servers call. What a task's own process calls is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named for Airflow's hook")]
pub enum Hook {
    OnDagRunRunning,
    OnDagRunSuccess,
    OnDagRunFailed,
    OnTaskInstanceSuccess,
    OnTaskInstanceFailed,
    OnTaskInstanceSkipped,
    OnAssetCreated,
    OnAssetAliasCreated,
    OnAssetChanged,
    OnAssetEventEmitted,
    OnNewDagImportError,
    OnExistingDagImportError,
}

impl Hook {
    /// All there are.
    pub const ALL: [Self; 12] = [
        Self::OnDagRunRunning,
        Self::OnDagRunSuccess,
        Self::OnDagRunFailed,
        Self::OnTaskInstanceSuccess,
        Self::OnTaskInstanceFailed,
        Self::OnTaskInstanceSkipped,
        Self::OnAssetCreated,
        Self::OnAssetAliasCreated,
        Self::OnAssetChanged,
        Self::OnAssetEventEmitted,
        Self::OnNewDagImportError,
        Self::OnExistingDagImportError,
    ];

    /// Airflow's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnDagRunRunning => "on_dag_run_running",
            Self::OnDagRunSuccess => "on_dag_run_success",
            Self::OnDagRunFailed => "on_dag_run_failed",
            Self::OnTaskInstanceSuccess => "on_task_instance_success",
            Self::OnTaskInstanceFailed => "on_task_instance_failed",
            Self::OnTaskInstanceSkipped => "on_task_instance_skipped",
            Self::OnAssetCreated => "on_asset_created",
            Self::OnAssetAliasCreated => "on_asset_alias_created",
            Self::OnAssetChanged => "on_asset_changed",
            Self::OnAssetEventEmitted => "on_asset_event_emitted",
            Self::OnNewDagImportError => "on_new_dag_import_error",
            Self::OnExistingDagImportError => "on_existing_dag_import_error",
        }
    }

    /// The hook of a name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.as_str() == word)
    }
}

/// A call that a team's listeners have claimed.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingCall {
    /// Its place in the team's order.
    pub id: i64,
    /// Airflow's name of the hook.
    pub hook: String,
    /// What it is called with, as `isobar_agent/listeners.py` reads it.
    pub arguments: Value,
    /// The Dag version that it is about.
    pub version_id: Option<Uuid>,
}

/// What a team's listener process needs of the control plane. Implemented by `isobar-execution`.
pub trait ListenerApi: Send + Sync + 'static {
    /// Says which hooks the team's plugins implement, or besides others where these are not `all`: only those are written down
    /// from now on.
    fn listeners_found(&self, team: TeamId, hooks: BTreeSet<Hook>, all: bool) -> Answering<'_, Result<(), Refusal>>;
    /// Claims the oldest calls for `holder`, a host and its state folder.
    fn claim_calls(&self, team: TeamId, holder: String, limit: u32)
    -> Answering<'_, Result<Vec<PendingCall>, Refusal>>;
    /// Calls that were made, well or badly.
    fn calls_made(&self, team: TeamId, ids: Vec<i64>) -> Answering<'_, Result<(), Refusal>>;
    /// The serialized Dag of a version of the team's; none where it is gone.
    fn dag_of_call(&self, team: TeamId, version: Uuid) -> Answering<'_, Result<Option<Value>, Refusal>>;
}
