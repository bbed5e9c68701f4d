//! Tags of Dags.

use isobar_auth::ReadScope;

use super::matching::{Page, Slice, TextMatch};
use super::select::Select;
use crate::{StoreError, Tx};

/// The tags of Dags that are not stale, each once, in order (or turned around).
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    name: &TextMatch,
    descending: bool,
    page: Page,
) -> Result<Slice<String>, StoreError> {
    let mut select = Select::new(
        tx,
        scope,
        "t.team_no",
        "DISTINCT t.tag",
        "dag_tag t JOIN dag d ON d.team_no = t.team_no AND d.dag_id = t.dag_id",
    );
    select.and("d.is_stale = FALSE");
    select.matches("t.tag", name);
    let order = if descending {
        " ORDER BY t.tag DESC"
    } else {
        " ORDER BY t.tag"
    };
    let all = select.all(tx, order).await?;
    let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let rows = all
        .iter()
        .skip(offset)
        .take(page.limit as usize)
        .map(|row| row.text("tag"))
        .collect::<Result<_, _>>()?;
    Ok(Slice {
        rows,
        total: i64::try_from(all.len()).unwrap_or(i64::MAX),
    })
}
