//! Connections. A team reads its own, then shared ones (rule 12; grants come with a later issue). A foreign id is a
//! missing one.

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
        let master = &self.settings.master_key;
        let own = connections::get(&mut tx, scope, master, conn_id)
            .await
            .map_err(broken)?;
        let found = match own {
            Some(own) => Some(own),
            None => connections::get(&mut tx, self.shared(), master, conn_id)
                .await
                .map_err(broken)?,
        };
        let found = found.ok_or_else(|| not_found(format!("Connection with ID {conn_id} not found")))?;
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
