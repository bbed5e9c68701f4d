//! The agent API: what a team's dag-processor (later triggerer and helper) asks of and reports to the control plane.

use isobar_model::{AirflowTime, TeamId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::execution::{Answering, Refusal};

/// A Dag file as the control plane last saw it, so that a restart parses only what changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFile {
    /// The bundle.
    pub bundle: String,
    /// Path below the bundle's folder.
    pub rel_path: String,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Size in bytes.
    pub size: i64,
    /// The fingerprint of the environment that parsed it; another one means: parse again.
    pub fingerprint: String,
}

/// What one parse of one file gave. Replaces all that was known of that file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParsedFile {
    /// The file, as it was when it was read.
    pub file: KnownFile,
    /// Absolute path, shown as `fileloc`.
    pub fileloc: String,
    /// The source text, for the Dag source page; cut off at 10 MiB.
    pub source: String,
    /// Serialized Dags: the `data` member of each (`{"__version":3,"dag":{…}}`).
    pub dags: Vec<Value>,
    /// Stored warnings as the child reported them: `[{dag_id, warning_type, message}]`.
    pub warnings: Vec<Value>,
    /// `path -> trace back`; a whole-file failure (time-out, crash) is one entry for the file itself.
    pub import_errors: Vec<(String, String)>,
    /// When the parse began.
    pub parsed_at: AirflowTime,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The `type` of a [`PendingCallback`]'s request that is no callback: the file is to be read again.
pub const READ_AGAIN: &str = "ReadAgain";

/// A callback that no worker could run and that a parse child runs instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingCallback {
    /// Its row's id; acknowledged with [`AgentApi::callbacks_done`].
    pub id: i64,
    /// The bundle.
    pub bundle: String,
    /// Path of the file below the bundle.
    pub rel_path: String,
    /// The message for the child: a `DagCallbackRequest`, `TaskCallbackRequest` or `EmailRequest`.
    pub request: Value,
}

/// What the team's dag-processor needs of the control plane. Implemented by `isobar-execution`.
pub trait AgentApi: Send + Sync + 'static {
    /// The files known of this team.
    fn known_files(&self, team: TeamId) -> Answering<'_, Result<Vec<KnownFile>, Refusal>>;
    /// Stores what parses gave: Dags, versions, import errors, warnings. Files are units: one bad file spoils no other.
    fn files_parsed(&self, team: TeamId, files: Vec<ParsedFile>) -> Answering<'_, Result<(), Refusal>>;
    /// Files that are gone: `(bundle, path)`. Their Dags become stale, their import errors go.
    fn files_gone(&self, team: TeamId, files: Vec<(String, String)>) -> Answering<'_, Result<(), Refusal>>;
    /// Claims up to `limit` pending callbacks of the team.
    fn claim_callbacks(&self, team: TeamId, limit: u32) -> Answering<'_, Result<Vec<PendingCallback>, Refusal>>;
    /// Callbacks that ran, well or badly.
    fn callbacks_done(&self, team: TeamId, ids: Vec<i64>) -> Answering<'_, Result<(), Refusal>>;
}
