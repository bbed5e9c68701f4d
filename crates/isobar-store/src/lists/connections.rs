//! Connections as the REST API lists them. Secrets are opened with the key of each row's own team.

use std::collections::BTreeMap;

use isobar_auth::{MasterKey, ReadScope};
use isobar_model::TeamId;

use super::matching::{Page, Slice, TextMatch};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::connections::Connection;
use crate::seal::{TeamKey, key_of_rows};
use crate::{StoreError, Tx};

/// By what connections can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "conn_id" => "c.conn_id" Text;
        "connection_id" => "c.conn_id" Text;
        "conn_type" => "c.conn_type" Text;
        "description" => "c.description" Text;
        "host" => "c.host" Text;
        "port" => "c.port" Int;
        "id" => "c.id" Int;
        "team_name" => "t.name" Text;
    },
    unique: &[("c.id", Kind::Int)],
    default: "id",
};

/// A connection and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Whose it is.
    pub team: TeamId,
    /// The connection, its secrets in the clear.
    pub connection: Connection,
}

/// One page of the connections that may be read.
///
/// # Errors
/// The database failed, or a secret cannot be opened.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    master: &MasterKey,
    conn_id: &TextMatch,
    order: &Ordering,
    page: Page,
) -> Result<Slice<ConnectionRow>, StoreError> {
    let mut select = Select::new(
        tx,
        scope,
        "c.team_no",
        "c.team_no, c.conn_id, c.conn_type, c.description, c.host, c.schema_name, c.login, c.port, \
         c.sealed_password, c.sealed_extra",
        "connection c JOIN team t ON t.team_no = c.team_no",
    );
    select.matches("c.conn_id", conn_id);
    let sealed = select
        .page(tx, order, page, |row| {
            let connection = Connection {
                conn_id: row.text("conn_id")?,
                conn_type: row.text("conn_type")?,
                description: row.maybe_text("description")?,
                host: row.maybe_text("host")?,
                schema: row.maybe_text("schema_name")?,
                login: row.maybe_text("login")?,
                password: None,
                port: row.maybe_int("port")?,
                extra: None,
            };
            let password: Option<Vec<u8>> = row.get("sealed_password")?;
            let extra: Option<Vec<u8>> = row.get("sealed_extra")?;
            Ok((row.team("team_no")?, connection, password, extra))
        })
        .await?;
    let mut keys: BTreeMap<TeamId, Option<TeamKey>> = BTreeMap::new();
    let mut rows = Vec::with_capacity(sealed.rows.len());
    for (team, mut connection, password, extra) in sealed.rows {
        if let std::collections::btree_map::Entry::Vacant(free) = keys.entry(team) {
            free.insert(key_of_rows(tx, team, master).await?);
        }
        let key = keys.get(&team).and_then(Option::as_ref);
        let open = |what: &str, bytes: Option<Vec<u8>>| -> Result<Option<String>, StoreError> {
            let about = format!("connection/{}/{what}", connection.conn_id);
            match (bytes, key) {
                (None, _) => Ok(None),
                (Some(bytes), Some(key)) => key.open_text(&about, &bytes).map(Some),
                (Some(_), None) => Err(StoreError::Sealed(about)),
            }
        };
        let (password, extra) = (open("password", password)?, open("extra", extra)?);
        connection.password = password;
        connection.extra = extra;
        rows.push(ConnectionRow { team, connection });
    }
    Ok(Slice {
        rows,
        total: sealed.total,
    })
}
