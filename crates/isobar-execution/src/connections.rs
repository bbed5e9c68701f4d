//! Connections. A team sees its own; grants and shared ones come with a later issue. A foreign id is a missing one.

use isobar_store::connections;
use isobar_wire::execution::{Answer, Caller};
use serde_json::json;

use crate::answers::{broken, not_found};
use crate::execution::{Execution, Outcome};
use crate::standing::may_read;

impl Execution {
    pub(crate) async fn get_connection(&self, caller: &Caller, conn_id: &str) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let found = connections::get(&mut tx, scope, &self.settings.master_key, conn_id)
            .await
            .map_err(broken)?
            .ok_or_else(|| not_found(format!("Connection with ID {conn_id} not found")))?;
        Ok(Answer::ok(json!({
            "conn_id": found.conn_id,
            "conn_type": found.conn_type,
            "host": found.host,
            "schema": found.schema,
            "login": found.login,
            "password": found.password,
            "port": found.port,
            "extra": found.extra,
        })))
    }
}
