//! Dag versions, and the serialized Dag and source kept with each.

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;
use uuid::Uuid;

use super::matching::{Page, Slice};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::db::{Row, Val, vals, values_list};
use crate::{StoreError, Tx};

/// A version of a Dag.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// Its id.
    pub id: Uuid,
    /// Whose Dag it is of.
    pub team: TeamId,
    /// The Dag.
    pub dag_id: DagId,
    /// Its number, from one.
    pub number: i64,
    /// The bundle.
    pub bundle: String,
    /// The bundle's version, where bundles have versions.
    pub bundle_version: Option<String>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// The Dag's name to show.
    pub dag_display_name: String,
}

impl VersionRow {
    pub(crate) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.uuid("id")?,
            team: row.team("team_no")?,
            dag_id: row.text("dag_id")?.into(),
            number: row.int("version_number")?,
            bundle: row.text("bundle")?,
            bundle_version: row.maybe_text("bundle_version")?,
            created_at: row.time("created_at")?,
            dag_display_name: row.text("dag_display_name")?,
        })
    }
}

const COLUMNS: &str = "v.id, v.team_no, v.dag_id, v.version_number, v.bundle, v.bundle_version, v.created_at, \
    coalesce(d.display_name, v.dag_id) AS dag_display_name";
const FROM: &str = "dag_version v LEFT JOIN dag d ON d.team_no = v.team_no AND d.dag_id = v.dag_id";

/// By what versions can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "v.id" Uuid;
        "version_number" => "v.version_number" Int;
        "bundle_name" => "v.bundle" Text;
        "bundle_version" => "v.bundle_version" Text;
    },
    unique: &[("v.id", Kind::Uuid)],
    default: "id",
};

/// Which versions.
#[derive(Clone, Debug, Default)]
pub struct VersionFilter {
    /// Of this Dag.
    pub dag_id: Option<DagId>,
    /// With this number.
    pub number: Option<i64>,
    /// In this bundle.
    pub bundle: Option<String>,
    /// With this version of the bundle.
    pub bundle_version: Option<String>,
}

/// Lists versions.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &VersionFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<VersionRow>, StoreError> {
    let mut select = Select::new(tx, scope, "v.team_no", COLUMNS, FROM);
    select.equal_if("v.dag_id", filter.dag_id.as_ref());
    select.equal_if("v.version_number", filter.number);
    select.equal_if("v.bundle", filter.bundle.as_ref());
    select.equal_if("v.bundle_version", filter.bundle_version.as_ref());
    select.page(tx, order, page, VersionRow::read).await
}

/// One version by its number, or the latest.
///
/// # Errors
/// The database failed.
pub async fn get(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    number: Option<i64>,
) -> Result<Option<VersionRow>, StoreError> {
    let mut select = Select::new(tx, &scope.into(), "v.team_no", COLUMNS, FROM);
    select.equal("v.dag_id", dag_id);
    match number {
        Some(number) => select.equal("v.version_number", number),
        None => select.and("v.version_number = d.current_version_number"),
    }
    select.one(tx).await?.as_ref().map(VersionRow::read).transpose()
}

/// The versions with these ids, of one scope.
///
/// # Errors
/// The database failed.
pub async fn by_ids(tx: &mut Tx, scope: &ReadScope, ids: &[Uuid]) -> Result<Vec<VersionRow>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = Select::new(tx, scope, "v.team_no", COLUMNS, FROM);
    select.among("v.id", Some(ids.iter().copied()));
    select.all(tx, "").await?.iter().map(VersionRow::read).collect()
}

/// A version's content.
#[derive(Clone, Debug)]
pub struct VersionContent {
    /// Its id.
    pub id: Uuid,
    /// Its number.
    pub number: i64,
    /// The serialized Dag, JSON text.
    pub data: String,
    /// When it was last seen.
    pub last_updated: Timestamp,
    /// The hash over the serialized Dag.
    pub hash: String,
}

/// The serialized Dag of a version; of the latest where `number` is none.
///
/// # Errors
/// The database failed.
pub async fn content(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    number: Option<i64>,
) -> Result<Option<VersionContent>, StoreError> {
    let which = match number {
        Some(_) => "version_number = $3",
        None => {
            "version_number = (SELECT current_version_number FROM dag WHERE team_no = $1 AND dag_id = $2) AND $3 IS NULL"
        }
    };
    let sql = format!(
        "SELECT id, version_number, data, last_updated, hash FROM dag_version WHERE team_no = $1 AND dag_id = $2 AND {which}"
    );
    tx.row(&sql, vals![scope.team(), dag_id, number])
        .await?
        .as_ref()
        .map(content_of)
        .transpose()
}

/// The serialized Dag of the version with this id.
///
/// # Errors
/// The database failed.
pub async fn content_by_id(tx: &mut Tx, scope: TeamScope, id: Uuid) -> Result<Option<VersionContent>, StoreError> {
    tx.row(
        "SELECT id, version_number, data, last_updated, hash FROM dag_version WHERE team_no = $1 AND id = $2",
        vals![scope.team(), id],
    )
    .await?
    .as_ref()
    .map(content_of)
    .transpose()
}

fn content_of(row: &Row) -> Result<VersionContent, StoreError> {
    Ok(VersionContent {
        id: row.uuid("id")?,
        number: row.int("version_number")?,
        data: row.text("data")?,
        last_updated: row.time("last_updated")?,
        hash: row.text("hash")?,
    })
}

/// The source code of a version (its number, the code); of the latest where `number` is none.
///
/// # Errors
/// The database failed.
pub async fn source(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    number: Option<i64>,
) -> Result<Option<(i64, String)>, StoreError> {
    let which = match number {
        Some(_) => "version_number = $3",
        None => "$3 IS NULL ORDER BY version_number DESC LIMIT 1",
    };
    let sql =
        format!("SELECT version_number, source_code FROM dag_version WHERE team_no = $1 AND dag_id = $2 AND {which}");
    tx.row(&sql, vals![scope.team(), dag_id, number])
        .await?
        .map(|row| Ok((row.int("version_number")?, row.text("source_code")?)))
        .transpose()
}

/// The versions under which the instances of some runs were made: (team, Dag, run) and version id, each once.
pub(crate) async fn of_runs(
    tx: &mut Tx,
    keys: Vec<Vec<Val>>,
) -> Result<Vec<(TeamId, DagId, String, Uuid)>, StoreError> {
    let (list, values) = values_list(1, keys);
    let sql = format!(
        "SELECT DISTINCT team_no, dag_id, run_id, dag_version_id FROM task_instance \
         WHERE (team_no, dag_id, run_id) IN (VALUES {list}) AND dag_version_id IS NOT NULL \
         UNION SELECT DISTINCT team_no, dag_id, run_id, dag_version_id FROM task_instance_history \
         WHERE (team_no, dag_id, run_id) IN (VALUES {list}) AND dag_version_id IS NOT NULL"
    );
    tx.rows(&sql, values)
        .await?
        .iter()
        .map(|row| {
            Ok((
                row.team("team_no")?,
                row.text("dag_id")?.into(),
                row.text("run_id")?,
                row.uuid("dag_version_id")?,
            ))
        })
        .collect()
}
