//! Import errors as the REST API lists them. A file belongs to one team, so who may read one of its Dags may read its error.

use isobar_auth::ReadScope;
use isobar_model::TeamId;
use jiff::Timestamp;

use super::matching::{Page, Slice, TextMatch};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::db::Row;
use crate::{StoreError, Tx};

/// By what import errors can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "e.id" Int;
        "import_error_id" => "e.id" Int;
        "timestamp" => "e.at" Int;
        "filename" => "e.rel_path" Text;
        "bundle_name" => "e.bundle" Text;
        "stacktrace" => "e.stack_trace" Text;
    },
    unique: &[("e.id", Kind::Int)],
    default: "id",
};

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportErrorRow {
    /// Whose it is.
    pub team: TeamId,
    /// The id that Airflow's API shows.
    pub id: i64,
    /// The bundle.
    pub bundle: String,
    /// The file, inside the bundle.
    pub rel_path: String,
    /// When it was noticed.
    pub at: Timestamp,
    /// What Python said.
    pub stack_trace: String,
}

impl ImportErrorRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            id: row.int("id")?,
            bundle: row.text("bundle")?,
            rel_path: row.text("rel_path")?,
            at: row.time("at")?,
            stack_trace: row.text("stack_trace")?,
        })
    }
}

/// Which import errors.
#[derive(Clone, Debug, Default)]
pub struct ImportErrorFilter {
    /// A part of the file's path.
    pub file: TextMatch,
    /// The file's path.
    pub exact_file: Option<String>,
    /// The bundle.
    pub bundle: Option<String>,
}

/// One page of the import errors that may be read.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &ImportErrorFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<ImportErrorRow>, StoreError> {
    let mut select = Select::new(tx, scope, "e.team_no", "e.*", "import_error e");
    select.matches("e.rel_path", &filter.file);
    select.equal_if("e.rel_path", filter.exact_file.as_deref());
    select.equal_if("e.bundle", filter.bundle.as_deref());
    select.page(tx, order, page, ImportErrorRow::read).await
}

/// One import error, none where there is none of that id that may be read.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: &ReadScope, id: i64) -> Result<Option<ImportErrorRow>, StoreError> {
    let mut select = Select::new(tx, scope, "e.team_no", "e.*", "import_error e");
    select.by_id("e", id);
    select.one(tx).await?.as_ref().map(ImportErrorRow::read).transpose()
}
