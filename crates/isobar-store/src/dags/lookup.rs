//! Reading single Dags, and whose name a team is.

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::db::vals;
use crate::{StoreError, Tx};

/// The part of a `dag` row that callers other than the REST API ask for.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct DagHead {
    pub dag_id: DagId,
    pub bundle: String,
    pub rel_path: String,
    pub owners: Option<String>,
    pub is_paused: bool,
    pub is_stale: bool,
    pub has_import_errors: bool,
    pub fail_fast: bool,
    pub timetable_partitioned: bool,
    pub allowed_run_types: Value,
    pub access_control: Value,
    pub next_logical_date: Option<Timestamp>,
    pub current_version_id: Option<Uuid>,
    /// Sorted.
    pub tags: Vec<String>,
}

/// One Dag of the team, stale ones included.
///
/// # Errors
/// The database failed.
pub async fn head(tx: &mut Tx, scope: TeamScope, dag_id: &str) -> Result<Option<DagHead>, StoreError> {
    let row = tx
        .row(
            "SELECT dag_id, bundle, rel_path, owners, is_paused, is_stale, has_import_errors, fail_fast, \
             timetable_partitioned, allowed_run_types, access_control, next_logical_date, current_version_id \
             FROM dag WHERE team_no = $1 AND dag_id = $2",
            vals![scope.team(), dag_id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let tags = tx
        .rows(
            "SELECT tag FROM dag_tag WHERE team_no = $1 AND dag_id = $2 ORDER BY tag",
            vals![scope.team(), dag_id],
        )
        .await?;
    Ok(Some(DagHead {
        dag_id: row.text("dag_id")?.into(),
        bundle: row.text("bundle")?,
        rel_path: row.text("rel_path")?,
        owners: row.maybe_text("owners")?,
        is_paused: row.flag("is_paused")?,
        is_stale: row.flag("is_stale")?,
        has_import_errors: row.flag("has_import_errors")?,
        fail_fast: row.flag("fail_fast")?,
        timetable_partitioned: row.flag("timetable_partitioned")?,
        allowed_run_types: row.json("allowed_run_types")?,
        access_control: row.json("access_control")?,
        next_logical_date: row.maybe_time("next_logical_date")?,
        current_version_id: row.maybe_uuid("current_version_id")?,
        tags: tags.iter().map(|row| row.text("tag")).collect::<Result<_, _>>()?,
    }))
}

/// The serialized Dag of one version, or of the current one where none is given.
///
/// # Errors
/// The database failed.
pub async fn version_json(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &str,
    version: Option<Uuid>,
) -> Result<Option<Value>, StoreError> {
    let row = match version {
        Some(version) => {
            tx.row(
                "SELECT data FROM dag_version WHERE team_no = $1 AND dag_id = $2 AND id = $3",
                vals![scope.team(), dag_id, version],
            )
            .await?
        }
        None => {
            tx.row(
                "SELECT v.data FROM dag_version v JOIN dag d ON d.team_no = v.team_no AND d.dag_id = v.dag_id \
                 AND d.current_version_number = v.version_number WHERE v.team_no = $1 AND v.dag_id = $2",
                vals![scope.team(), dag_id],
            )
            .await?
        }
    };
    row.map(|row| row.json("data")).transpose()
}

/// The names of pools that the team's Dags may name: its own and shared ones (rule 18).
///
/// # Errors
/// The database failed.
pub async fn usable_pools(tx: &mut Tx, scope: TeamScope) -> Result<Vec<String>, StoreError> {
    let rows = tx
        .rows(
            "SELECT name FROM pool WHERE team_no IN ($1, $2)",
            vals![scope.team(), TeamId::SHARED],
        )
        .await?;
    rows.iter().map(|row| row.text("name")).collect()
}

/// The number of an active team by its name.
///
/// # Errors
/// The database failed.
pub async fn team_by_name(tx: &mut Tx, _scope: &OrgScope, name: &str) -> Result<Option<TeamId>, StoreError> {
    let row = tx
        .row(
            "SELECT team_no FROM team WHERE name = $1 AND state = 'active'",
            vals![name],
        )
        .await?;
    row.map(|row| row.team("team_no")).transpose()
}

/// The name of the scope's team.
///
/// # Errors
/// The database failed.
pub async fn team_name(tx: &mut Tx, scope: TeamScope) -> Result<Option<String>, StoreError> {
    let row = tx
        .row("SELECT name FROM team WHERE team_no = $1", vals![scope.team()])
        .await?;
    row.map(|row| row.text("name")).transpose()
}
