//! Questions that tasks put to people, and the answers.

use isobar_auth::TeamScope;
use isobar_model::TiId;
use jiff::Timestamp;
use serde_json::Value;

use crate::db::vals;
use crate::{StoreError, Tx};

/// A question and, once given, its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HitlDetail {
    /// The question as the task put it: `options`, `subject`, `body`, `defaults`, `multiple`, `params`, `assigned_users`.
    pub detail: Value,
    /// When it was put.
    pub created_at: Timestamp,
    /// When it was answered.
    pub responded_at: Option<Timestamp>,
    /// The answer: `chosen_options`, `params_input`, `responded_by_user`; null while there is none.
    pub response: Value,
}

/// The question of a try; none where it put none.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, ti_id: TiId) -> Result<Option<HitlDetail>, StoreError> {
    let row = tx
        .row(
            "SELECT detail, created_at, responded_at, response FROM hitl_detail WHERE team_no = $1 AND ti_id = $2",
            vals![scope.team(), ti_id],
        )
        .await?;
    row.map(|row| {
        Ok(HitlDetail {
            detail: row.json("detail")?,
            created_at: row.time("created_at")?,
            responded_at: row.maybe_time("responded_at")?,
            response: row.json("response")?,
        })
    })
    .transpose()
}

/// Puts a question. Where the try has put one already that one stays, and an old answer is taken away.
///
/// # Errors
/// The database failed.
pub async fn ask(tx: &mut Tx, scope: TeamScope, ti_id: TiId, detail: &Value, now: Timestamp) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO hitl_detail (team_no, ti_id, detail, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (team_no, ti_id) DO UPDATE SET responded_at = NULL, response = NULL",
        vals![scope.team(), ti_id, detail, now],
    )
    .await
    .map(drop)
}

/// Answers a question; false where it is missing or has an answer already.
///
/// # Errors
/// The database failed.
pub async fn answer(
    tx: &mut Tx,
    scope: TeamScope,
    ti_id: TiId,
    response: &Value,
    now: Timestamp,
) -> Result<bool, StoreError> {
    tx.run(
        "UPDATE hitl_detail SET responded_at = $1, response = $2 WHERE team_no = $3 AND ti_id = $4 \
         AND responded_at IS NULL",
        vals![now, response, scope.team(), ti_id],
    )
    .await
    .map(|rows| rows > 0)
}
