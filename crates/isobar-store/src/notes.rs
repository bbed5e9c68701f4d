//! Notes that people write on task instances. A note changes no state, so no scheduler is told.

use isobar_auth::TeamScope;
use isobar_model::TiId;
use jiff::Timestamp;

use crate::db::{Val, vals};
use crate::{StoreError, Tx};

/// Writes the note of some task instances; none takes it away.
///
/// # Errors
/// The database failed.
pub async fn set(
    tx: &mut Tx,
    scope: TeamScope,
    ids: &[TiId],
    note: Option<&str>,
    user: &str,
) -> Result<(), StoreError> {
    let now = Timestamp::now();
    for some in ids.chunks(500) {
        let mut values = vals![scope.team(), note, note.map(|_| user), now];
        let placeholders: Vec<String> = some
            .iter()
            .map(|id| {
                values.push(Val::from(*id));
                format!("${}", values.len())
            })
            .collect();
        tx.run(
            &format!(
                "UPDATE task_instance SET note = $2, note_user = $3, updated_at = $4 WHERE team_no = $1 AND id IN ({})",
                placeholders.join(",")
            ),
            values,
        )
        .await?;
    }
    Ok(())
}
