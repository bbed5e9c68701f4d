//! Dags as their files define them: rows, versions, tags, warnings, import errors and what they name of assets.
//!
//! Parses are stored in batches: what is there is read once, compared in memory, and only differences are written.

mod definitions;
mod files;
mod held;
mod lookup;
mod references;
mod watchers;

use std::collections::BTreeSet;

use isobar_auth::TeamScope;
use isobar_model::DagId;
use isobar_wire::agent::KnownFile;
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::events::{self, EventKind};
use crate::{StoreError, Tx, listeners};

pub use files::{files_gone, known_files};
pub use held::{files_naming_pool, held_parses};
pub use lookup::{DagHead, head, team_by_name, team_name, usable_pools, version_json};

/// A Dag as parsed, ready for its row. Its id is the team's own: the team is the scope's, never the file's.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "each field is the column of its name; see the migration for meanings"
)]
pub struct ParsedDag {
    pub dag_id: DagId,
    pub fileloc: String,
    /// Only for a Dag that was never seen before.
    pub paused_at_first: bool,
    pub owners: String,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub timetable_type: String,
    pub timetable_summary: Option<String>,
    pub timetable_description: Option<String>,
    pub timetable_partitioned: bool,
    pub timetable_periodic: bool,
    pub asset_expression: Option<Value>,
    pub max_active_tasks: i32,
    pub max_active_runs: i32,
    pub max_consecutive_failed_runs: i32,
    pub has_task_concurrency_limits: bool,
    pub fail_fast: bool,
    pub allowed_run_types: Option<Value>,
    pub access_control: Option<Value>,
    pub tags: Vec<String>,
    pub owner_links: Vec<(String, String)>,
    /// By which a changed Dag is told from one parsed again.
    pub hash: String,
    /// The serialized Dag, `{"__version":3,"dag":{…}}`.
    pub data: String,
    pub assets: Vec<AssetDefinition>,
    pub aliases: Vec<AliasDefinition>,
    pub references: Vec<AssetReference>,
    pub watchers: Vec<WatcherDefinition>,
}

/// An asset that a Dag defines.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetDefinition {
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// Its group.
    pub group: String,
    /// Whatever the author attached.
    pub extra: Value,
    /// Who may produce and consume it, as the Dag says.
    pub access_control: Option<Value>,
}

/// What watches an asset of a Dag's schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct WatcherDefinition {
    /// The asset's name.
    pub asset_name: String,
    /// Its URI.
    pub asset_uri: String,
    /// The watcher's name.
    pub name: String,
    /// Import path of its trigger.
    pub classpath: String,
    /// The trigger's arguments, in Airflow's tagged encoding.
    pub kwargs: Value,
}

/// An alias that a Dag names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasDefinition {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
}

/// One mention of an asset, an alias or a reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AssetReference {
    /// The task, empty for the Dag's schedule.
    pub task_id: String,
    /// `schedule`, `inlet` or `outlet`.
    pub role: &'static str,
    /// `asset`, `alias`, `name_ref` or `uri_ref`.
    pub kind: &'static str,
    /// The name, empty for `uri_ref`.
    pub name: String,
    /// The URI, empty for `alias` and `name_ref`.
    pub uri: String,
    /// For schedules: globs of the other teams whose events it accepts.
    pub producer_teams: Option<Vec<String>>,
    /// For outlets: globs of the teams that may consume; none where the author said nothing.
    pub consumer_teams: Option<Vec<String>>,
}

/// One parsed file, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedFile {
    /// The file as it was when it was read.
    pub file: KnownFile,
    /// Its text.
    pub source: String,
    /// Its Dags that can be used.
    pub dags: Vec<ParsedDag>,
    /// Path and trace of each import error; with one, the file's Dags keep their last good version and go stale.
    pub import_errors: Vec<(String, String)>,
    /// Dag, type and text of each warning.
    pub warnings: Vec<(String, String, String)>,
    /// The report itself, where it was refused because of a pool and is to be looked at again when pools change.
    pub held: Option<Box<isobar_wire::agent::ParsedFile>>,
    /// When the parse began.
    pub parsed_at: Timestamp,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What storing a batch of parses changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredParses {
    /// Dags that were never seen before.
    pub new: Vec<DagId>,
    /// Dags whose definition changed, or that came back.
    pub changed: Vec<DagId>,
    /// Dags that vanished from their file, or whose file cannot be imported now.
    pub stale: Vec<DagId>,
}

/// Stores what parses of the team's files gave, and replaces what was known of these files.
///
/// # Errors
/// The database failed; then nothing of the batch was written.
pub async fn files_parsed(
    tx: &mut Tx,
    scope: TeamScope,
    files: &[ParsedFile],
    now: Timestamp,
) -> Result<StoredParses, StoreError> {
    let heard = listeners::heard(tx, scope).await?;
    let broken = listeners::broken_before(tx, scope, &heard, files).await?;
    let mut stored = definitions::write(tx, scope, files, now).await?;
    let mut calls = references::write(tx, scope, files, &stored).await?;
    files::write(tx, scope, files, now, &mut stored).await?;
    announce(tx, scope, &stored, now).await?;
    calls.extend(listeners::import_errors(files, &broken));
    calls.retain(|call| heard.contains(&call.hook));
    listeners::tell(tx, scope, calls, now);
    Ok(stored)
}

async fn announce(tx: &mut Tx, scope: TeamScope, stored: &StoredParses, now: Timestamp) -> Result<(), StoreError> {
    let all: BTreeSet<&DagId> = stored.new.iter().chain(&stored.changed).chain(&stored.stale).collect();
    for dag_id in &all {
        events::insert(tx, scope, EventKind::Dag, dag_id, &json!({"why": "parsed"}), now).await?;
    }
    if !all.is_empty() {
        // What they watch may begin or end to be wanted.
        tx.wake(Wake::Triggers(scope.team()));
        tx.wake(Wake::Definitions);
    }
    Ok(())
}

/// A version's number and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VersionRef {
    number: i64,
    id: Uuid,
}
