//! Dag warnings as the REST API lists them.

use isobar_auth::ReadScope;
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;

use super::matching::{Page, Slice};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::{StoreError, Tx};

/// By what warnings can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "dag_id" => "w.dag_id" Text;
        "warning_type" => "w.warning_type" Text;
        "message" => "w.message" Text;
        "timestamp" => "w.at" Int;
    },
    unique: &[
        ("w.dag_id", Kind::Text),
        ("w.warning_type", Kind::Text),
        ("w.team_no", Kind::Int),
    ],
    default: "dag_id",
};

/// A warning about a Dag.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct WarningRow {
    pub team: TeamId,
    pub dag_id: DagId,
    pub dag_display_name: String,
    pub warning_type: String,
    pub message: String,
    pub at: Timestamp,
}

/// Which warnings.
#[derive(Clone, Debug, Default)]
pub struct WarningFilter {
    /// Of this Dag.
    pub dag: Option<(TeamId, DagId)>,
    /// Of this type.
    pub warning_type: Option<&'static str>,
}

/// One page of the warnings that may be read.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &WarningFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<WarningRow>, StoreError> {
    let mut select = Select::new(
        tx,
        scope,
        "w.team_no",
        "w.team_no, w.dag_id, coalesce(d.display_name, w.dag_id) AS dag_display_name, w.warning_type, w.message, w.at",
        "dag_warning w JOIN dag d ON d.team_no = w.team_no AND d.dag_id = w.dag_id",
    );
    if let Some((team, dag_id)) = &filter.dag {
        select.equal("w.team_no", *team);
        select.equal("w.dag_id", dag_id);
    }
    select.equal_if("w.warning_type", filter.warning_type);
    select
        .page(tx, order, page, |row| {
            Ok(WarningRow {
                team: row.team("team_no")?,
                dag_id: row.text("dag_id")?.into(),
                dag_display_name: row.text("dag_display_name")?,
                warning_type: row.text("warning_type")?,
                message: row.text("message")?,
                at: row.time("at")?,
            })
        })
        .await
}
