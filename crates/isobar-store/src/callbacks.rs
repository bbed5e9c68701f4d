//! Callbacks that no worker could run and that wait for the team's dag-processor. They run at least once.

use isobar_auth::TeamScope;
use isobar_wire::agent::{PendingCallback, READ_AGAIN};
use isobar_wire::wake::Wake;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::counters::{Counter, next_ids};
use crate::db::vals;
use crate::task_calls::among;
use crate::{StoreError, Tx};

/// Queues a callback for the processor of the team.
///
/// # Errors
/// The database failed.
pub async fn add(
    tx: &mut Tx,
    scope: TeamScope,
    bundle: &str,
    rel_path: &str,
    request: &Value,
    at: Timestamp,
) -> Result<i64, StoreError> {
    let id = next_ids(tx, scope, Counter::Callback, 1).await?;
    tx.run(
        "INSERT INTO callback (team_no, id, bundle, rel_path, request, made_at) VALUES ($1, $2, $3, $4, $5, $6)",
        vals![scope.team(), id, bundle, rel_path, request, at],
    )
    .await?;
    tx.wake(Wake::Callbacks(scope.team()));
    Ok(id)
}

/// Asks the processor of the team to read a file again; asking twice before it does is asking once.
///
/// # Errors
/// The database failed.
pub async fn read_again(
    tx: &mut Tx,
    scope: TeamScope,
    bundle: &str,
    rel_path: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let request = json!({"type": READ_AGAIN});
    let asked = tx
        .row(
            "SELECT id FROM callback WHERE team_no = $1 AND bundle = $2 AND rel_path = $3 AND request = $4 \
             AND claimed_until IS NULL LIMIT 1",
            vals![scope.team(), bundle, rel_path, &request],
        )
        .await?;
    if asked.is_none() {
        add(tx, scope, bundle, rel_path, &request, at).await?;
    }
    Ok(())
}

/// Claims callbacks, oldest first. One that is not done within `hold` may be claimed again.
///
/// # Errors
/// The database failed.
pub async fn claim(
    tx: &mut Tx,
    scope: TeamScope,
    limit: u32,
    now: Timestamp,
    hold: SignedDuration,
) -> Result<Vec<PendingCallback>, StoreError> {
    let skip = tx.dialect().skip_locked();
    let rows = tx
        .rows(
            &format!(
                "UPDATE callback SET claimed_until = $1 WHERE team_no = $2 AND id IN (SELECT id FROM callback \
                 WHERE team_no = $2 AND (claimed_until IS NULL OR claimed_until < $3) ORDER BY id LIMIT $4 {skip}) \
                 RETURNING id, bundle, rel_path, request"
            ),
            vals![now + hold, scope.team(), now, limit],
        )
        .await?;
    let mut claimed = rows
        .iter()
        .map(|row| {
            Ok(PendingCallback {
                id: row.int("id")?,
                bundle: row.text("bundle")?,
                rel_path: row.text("rel_path")?,
                request: row.json("request")?,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    claimed.sort_by_key(|callback| callback.id);
    Ok(claimed)
}

/// Forgets callbacks that ran.
///
/// # Errors
/// The database failed.
pub async fn done(tx: &mut Tx, scope: TeamScope, ids: &[i64]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut values = vals![scope.team()];
    let list = among(&mut values, ids);
    tx.run(
        &format!("DELETE FROM callback WHERE team_no = $1 AND id {list}"),
        values,
    )
    .await
    .map(drop)
}
