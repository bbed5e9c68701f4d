//! What one team asks of another by consent: put here, carried out by a scheduler under the organisation's scope
//! ([`crate::loading::open_request`]), while whoever asked waits for the answer.

use isobar_auth::TeamScope;
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::db::vals;
use crate::events::{self, EventKind};
use crate::{StoreError, Tx};

/// Puts a request; answers its id.
///
/// # Errors
/// The database failed.
pub async fn ask(
    tx: &mut Tx,
    scope: TeamScope,
    target: TeamId,
    kind: &str,
    body: &Value,
    now: Timestamp,
) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    tx.run(
        "INSERT INTO cross_team_request (id, team_no, target_no, kind, body, made_at) VALUES ($1, $2, $3, $4, $5, $6)",
        vals![id, scope.team(), target, kind, body, now],
    )
    .await?;
    let event = json!({"id": id.to_string()});
    events::insert(tx, scope, EventKind::Request, &DagId::from(""), &event, now).await?;
    Ok(id)
}

/// The answer to a request of this team; none while there is none.
///
/// # Errors
/// The database failed.
pub async fn answer(tx: &mut Tx, scope: TeamScope, id: Uuid) -> Result<Option<Value>, StoreError> {
    let row = tx
        .row(
            "SELECT answer FROM cross_team_request WHERE id = $1 AND team_no = $2",
            vals![id, scope.team()],
        )
        .await?;
    match row {
        Some(row) => Ok(Some(row.json("answer")?).filter(|answer| !answer.is_null())),
        None => Ok(None),
    }
}

/// Takes a request back: after its answer, or where nobody waits any more. One that is answered meanwhile stays carried
/// out.
///
/// # Errors
/// The database failed.
pub async fn forget(tx: &mut Tx, scope: TeamScope, id: Uuid) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM cross_team_request WHERE id = $1 AND team_no = $2",
        vals![id, scope.team()],
    )
    .await
    .map(drop)
}
