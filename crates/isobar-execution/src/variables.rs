//! Variables. A team reads its own, then shared ones (rule 12; grants come with a later issue), and writes its own alone
//! (rule 13). A foreign key is a missing one.

use isobar_auth::TeamScope;
use isobar_store::Tx;
use isobar_store::audit;
use isobar_store::variables::{self, Variable};
use isobar_wire::execution::{Answer, Caller, Refusal};
use jiff::Timestamp;
use serde_json::json;

use crate::answers::{broken, invalid, not_found};
use crate::execution::{Execution, Outcome};
use crate::record::record;
use crate::standing::{may_read, may_write};

/// Most keys in one page, as Airflow's.
const MOST_KEYS: u32 = 10_000;

impl Execution {
    pub(crate) async fn get_variable(&self, caller: &Caller, key: &str) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let master = &self.settings.master_key;
        let own = variables::get(&mut tx, scope, master, key).await.map_err(broken)?;
        let found = match own {
            Some(own) => Some(own),
            None => variables::get(&mut tx, self.shared(), master, key)
                .await
                .map_err(broken)?,
        };
        let found = found.ok_or_else(|| not_found(format!("Variable with key '{key}' not found")))?;
        Ok(Answer::ok(json!({"key": found.key, "value": found.value})))
    }

    pub(crate) async fn variable_keys(
        &self,
        caller: &Caller,
        prefix: Option<&str>,
        limit: u32,
        offset: u32,
    ) -> Outcome {
        if !(1..=MOST_KEYS).contains(&limit) {
            return Err(invalid("limit", "limit must lie between 1 and 10000", &json!(limit)));
        }
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let (keys, total) = variables::keys(&mut tx, scope, prefix.unwrap_or(""), limit, offset)
            .await
            .map_err(broken)?;
        Ok(Answer::ok(json!({"keys": keys, "total_entries": total})))
    }

    pub(crate) async fn put_variable(
        &self,
        caller: &Caller,
        key: String,
        value: Option<String>,
        description: Option<String>,
    ) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        self.not_shared(&mut tx, scope, &key).await?;
        let variable = Variable {
            key,
            // Airflow writes `str(None)` where the value is null.
            value: value.unwrap_or_else(|| "None".to_owned()),
            description,
        };
        variables::put(
            &mut tx,
            scope,
            &self.settings.master_key,
            std::slice::from_ref(&variable),
            Timestamp::now(),
        )
        .await
        .map_err(broken)?;
        let record = record("put_variable", caller).extra(json!({"key": variable.key}));
        audit::write(&mut tx, scope, &[record]);
        tx.commit().await.map_err(broken)?;
        Ok(Answer::created(json!({"message": "Variable successfully set"})))
    }

    pub(crate) async fn delete_variable(&self, caller: &Caller, key: &str) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        self.not_shared(&mut tx, scope, key).await?;
        if variables::delete(&mut tx, scope, key).await.map_err(broken)? {
            let record = record("delete_variable", caller).extra(json!({"key": key}));
            audit::write(&mut tx, scope, &[record]);
        }
        tx.commit().await.map_err(broken)?;
        Ok(Answer::done())
    }

    /// Refuses to write over what is shared; a key that the team owns beside it is its own.
    async fn not_shared(&self, tx: &mut Tx, scope: TeamScope, key: &str) -> Result<(), Refusal> {
        let shared = variables::exists(tx, self.shared(), key).await.map_err(broken)?;
        if shared && !variables::exists(tx, scope, key).await.map_err(broken)? {
            let message = format!("Variable '{key}' is shared by the organisation and cannot be changed by a task");
            return Err(Refusal::new(
                403,
                json!({"reason": "access_denied", "message": message}),
            ));
        }
        Ok(())
    }
}
