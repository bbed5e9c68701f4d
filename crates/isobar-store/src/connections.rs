//! Connections of a team. Password and extra are sealed with the team's data key.

use isobar_auth::{MasterKey, TeamScope};

use crate::counters::{Counter, next_ids};
use crate::db::vals;
use crate::seal::{known_team_key, team_key};
use crate::{StoreError, Tx};

/// A connection with its secrets in the clear.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its id.
    pub conn_id: String,
    /// Its type, such as `postgres`.
    pub conn_type: String,
    /// What it is for.
    pub description: Option<String>,
    /// Host.
    pub host: Option<String>,
    /// Schema or database.
    pub schema: Option<String>,
    /// User name.
    pub login: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Port.
    pub port: Option<i64>,
    /// More, as JSON text.
    pub extra: Option<String>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({}, {})", self.conn_id, self.conn_type)
    }
}

/// One connection of the team; none where it has no such id.
///
/// # Errors
/// The database failed, or a secret cannot be opened.
pub async fn get(
    tx: &mut Tx,
    scope: TeamScope,
    master: &MasterKey,
    conn_id: &str,
) -> Result<Option<Connection>, StoreError> {
    let row = tx
        .row(
            "SELECT conn_type, description, host, schema_name, login, port, sealed_password, sealed_extra \
             FROM connection WHERE team_no = $1 AND conn_id = $2",
            vals![scope.team(), conn_id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let password: Option<Vec<u8>> = row.get("sealed_password")?;
    let extra: Option<Vec<u8>> = row.get("sealed_extra")?;
    let key = if password.is_some() || extra.is_some() {
        known_team_key(tx, scope, master).await?
    } else {
        None
    };
    let open = |what: &str, sealed: Option<Vec<u8>>| -> Result<Option<String>, StoreError> {
        let place = format!("connection/{conn_id}/{what}");
        match (sealed, &key) {
            (None, _) => Ok(None),
            (Some(sealed), Some(key)) => key.open_text(&place, &sealed).map(Some),
            (Some(_), None) => Err(StoreError::Sealed(place)),
        }
    };
    Ok(Some(Connection {
        conn_id: conn_id.to_owned(),
        conn_type: row.text("conn_type")?,
        description: row.maybe_text("description")?,
        host: row.maybe_text("host")?,
        schema: row.maybe_text("schema_name")?,
        login: row.maybe_text("login")?,
        password: open("password", password)?,
        port: row.maybe_int("port")?,
        extra: open("extra", extra)?,
    }))
}

/// Writes connections over what was there.
///
/// # Errors
/// The database failed, or the team's key cannot be opened.
pub async fn put(
    tx: &mut Tx,
    scope: TeamScope,
    master: &MasterKey,
    connections: &[Connection],
    at: jiff::Timestamp,
) -> Result<(), StoreError> {
    let key = team_key(tx, scope, master).await?;
    for connection in connections {
        let seal = |what: &str, plain: &Option<String>| {
            (plain.as_ref())
                .map(|plain| key.seal(&format!("connection/{}/{what}", connection.conn_id), plain.as_bytes()))
        };
        let known = tx
            .row(
                "SELECT id FROM connection WHERE team_no = $1 AND conn_id = $2",
                vals![scope.team(), &connection.conn_id],
            )
            .await?;
        let id = match known {
            Some(row) => row.int("id")?,
            None => next_ids(tx, scope, Counter::Connection, 1).await?,
        };
        tx.run(
            "INSERT INTO connection (team_no, conn_id, id, conn_type, description, host, schema_name, login, port, \
             sealed_password, sealed_extra, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
             ON CONFLICT (team_no, conn_id) DO UPDATE SET conn_type = excluded.conn_type, \
             description = excluded.description, host = excluded.host, schema_name = excluded.schema_name, \
             login = excluded.login, port = excluded.port, sealed_password = excluded.sealed_password, \
             sealed_extra = excluded.sealed_extra, updated_at = excluded.updated_at",
            vals![
                scope.team(),
                &connection.conn_id,
                id,
                &connection.conn_type,
                connection.description.as_ref(),
                connection.host.as_ref(),
                connection.schema.as_ref(),
                connection.login.as_ref(),
                connection.port,
                seal("password", &connection.password),
                seal("extra", &connection.extra),
                at,
            ],
        )
        .await?;
    }
    Ok(())
}

/// Deletes one connection; answers whether it was there.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, scope: TeamScope, conn_id: &str) -> Result<bool, StoreError> {
    tx.run(
        "DELETE FROM connection WHERE team_no = $1 AND conn_id = $2",
        vals![scope.team(), conn_id],
    )
    .await
    .map(|rows| rows > 0)
}

/// The ids of all connections of the team.
///
/// # Errors
/// The database failed.
pub async fn ids(tx: &mut Tx, scope: TeamScope) -> Result<Vec<String>, StoreError> {
    let rows = tx
        .rows(
            "SELECT conn_id FROM connection WHERE team_no = $1 ORDER BY conn_id",
            vals![scope.team()],
        )
        .await?;
    rows.iter().map(|row| row.text("conn_id")).collect()
}
