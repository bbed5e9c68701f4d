//! Variables of a team. Values are sealed with the team's data key.

use isobar_auth::{MasterKey, TeamScope};

use crate::counters::{Counter, next_ids};
use crate::db::vals;
use crate::seal::{known_team_key, team_key};
use crate::{StoreError, Tx};

/// A variable with its value in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it is for.
    pub description: Option<String>,
}

pub(crate) fn place(key: &str) -> String {
    format!("variable/{key}")
}

/// One variable of the team; none where it has no such key.
///
/// # Errors
/// The database failed, or the value cannot be opened.
pub async fn get(tx: &mut Tx, scope: TeamScope, master: &MasterKey, key: &str) -> Result<Option<Variable>, StoreError> {
    let row = tx
        .row(
            "SELECT sealed, description FROM variable WHERE team_no = $1 AND key = $2",
            vals![scope.team(), key],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let team = known_team_key(tx, scope, master)
        .await?
        .ok_or_else(|| StoreError::Sealed(place(key)))?;
    Ok(Some(Variable {
        key: key.to_owned(),
        value: team.open_text(&place(key), &row.bytes("sealed")?)?,
        description: row.maybe_text("description")?,
    }))
}

/// Writes variables; a description of none takes an old one away, as in Airflow.
///
/// # Errors
/// The database failed, or the team's key cannot be opened.
pub async fn put(
    tx: &mut Tx,
    scope: TeamScope,
    master: &MasterKey,
    variables: &[Variable],
    at: jiff::Timestamp,
) -> Result<(), StoreError> {
    let team = team_key(tx, scope, master).await?;
    for variable in variables {
        let sealed = team.seal(&place(&variable.key), variable.value.as_bytes());
        let changed = tx
            .run(
                "UPDATE variable SET sealed = $1, description = $2, updated_at = $3 WHERE team_no = $4 AND key = $5",
                vals![
                    sealed.clone(),
                    variable.description.as_ref(),
                    at,
                    scope.team(),
                    &variable.key
                ],
            )
            .await?;
        if changed == 0 {
            let id = next_ids(tx, scope, Counter::Variable, 1).await?;
            tx.run(
                "INSERT INTO variable (team_no, key, id, sealed, description, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (team_no, key) DO UPDATE SET sealed = excluded.sealed, \
                 description = excluded.description, updated_at = excluded.updated_at",
                vals![
                    scope.team(),
                    &variable.key,
                    id,
                    sealed,
                    variable.description.as_ref(),
                    at
                ],
            )
            .await?;
        }
    }
    Ok(())
}

/// Deletes one variable; answers whether it was there.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, scope: TeamScope, key: &str) -> Result<bool, StoreError> {
    tx.run(
        "DELETE FROM variable WHERE team_no = $1 AND key = $2",
        vals![scope.team(), key],
    )
    .await
    .map(|rows| rows > 0)
}

/// The keys that begin with `prefix`, sorted, a page of them, and how many there are in all.
///
/// # Errors
/// The database failed.
pub async fn keys(
    tx: &mut Tx,
    scope: TeamScope,
    prefix: &str,
    limit: u32,
    offset: u32,
) -> Result<(Vec<String>, i64), StoreError> {
    let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
    let counted = tx
        .row(
            "SELECT count(*) AS n FROM variable WHERE team_no = $1 AND substr(key, 1, CAST($2 AS INTEGER)) = $3",
            vals![scope.team(), length, prefix],
        )
        .await?;
    let total = counted.map_or(Ok(0), |row| row.int("n"))?;
    let rows = tx
        .rows(
            "SELECT key FROM variable WHERE team_no = $1 AND substr(key, 1, CAST($2 AS INTEGER)) = $3 \
             ORDER BY key LIMIT $4 OFFSET $5",
            vals![scope.team(), length, prefix, limit, offset],
        )
        .await?;
    let keys = rows.iter().map(|row| row.text("key")).collect::<Result<_, _>>()?;
    Ok((keys, total))
}

/// Whether the team has a variable of that key.
///
/// # Errors
/// The database failed.
pub async fn exists(tx: &mut Tx, scope: TeamScope, key: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 AS found FROM variable WHERE team_no = $1 AND key = $2";
    Ok(tx.row(sql, vals![scope.team(), key]).await?.is_some())
}
