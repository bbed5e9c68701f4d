//! The task state store and the asset state store.

use isobar_auth::TeamScope;
use isobar_model::AirflowTime;
use isobar_store::assets::{self, Named};
use isobar_store::stores::Writer;
use isobar_store::{Tx, stores};
use isobar_wire::execution::{Answer, AssetRef, Caller, Refusal};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answers::{broken, invalid, not_found};
use crate::execution::{Execution, Outcome};
use crate::standing::{key_of, may_read, may_write, run_of, task_of};

async fn asset_id(tx: &mut Tx, scope: TeamScope, asset: &AssetRef) -> Result<i64, Refusal> {
    let (named, missing) = match asset {
        AssetRef::Name(name) => (Named::Name(name), format!("Asset with name='{name}' not found")),
        AssetRef::Uri(uri) => (Named::Uri(uri), format!("Asset with uri='{uri}' not found")),
    };
    let found = assets::find(tx, scope, named).await.map_err(broken)?;
    found.first().map(|asset| asset.id).ok_or_else(|| not_found(missing))
}

fn not_null(value: &Value) -> Result<(), Refusal> {
    if value.is_null() {
        return Err(invalid("value", "Value error, value cannot be null", value));
    }
    Ok(())
}

impl Execution {
    pub(crate) async fn get_task_store(&self, caller: &Caller, key: &str) -> Outcome {
        let task = task_of(caller)?;
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        stores::get_task_value(&mut tx, scope, &run_of(task), &key_of(task), key, Timestamp::now())
            .await
            .map_err(broken)?
            .map(|value| Answer::ok(json!({"value": value})))
            .ok_or_else(|| not_found(format!("Task state store key '{key}' not found")))
    }

    pub(crate) async fn set_task_store(
        &self,
        caller: &Caller,
        key: &str,
        value: &Value,
        expires_at: Option<AirflowTime>,
    ) -> Outcome {
        let task = task_of(caller)?;
        not_null(value)?;
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        let item = stores::TaskValue {
            key,
            value,
            expires_at: expires_at.map(|at| at.0),
        };
        stores::set_task_value(&mut tx, scope, &run_of(task), &key_of(task), item, Timestamp::now())
            .await
            .map_err(broken)?;
        tx.commit().await.map_err(broken)?;
        Ok(Answer::done())
    }

    pub(crate) async fn delete_task_store(&self, caller: &Caller, key: Option<&str>) -> Outcome {
        let task = task_of(caller)?;
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        stores::delete_task_values(&mut tx, scope, &run_of(task), &key_of(task), key)
            .await
            .map_err(broken)?;
        tx.commit().await.map_err(broken)?;
        Ok(Answer::done())
    }

    pub(crate) async fn get_asset_store(&self, caller: &Caller, asset: &AssetRef, key: &str) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let id = asset_id(&mut tx, scope, asset).await?;
        stores::get_asset_value(&mut tx, scope, id, key)
            .await
            .map_err(broken)?
            .map(|value| Answer::ok(json!({"value": value})))
            .ok_or_else(|| not_found(format!("Asset state store key '{key}' not found")))
    }

    pub(crate) async fn set_asset_store(&self, caller: &Caller, asset: &AssetRef, key: &str, value: &Value) -> Outcome {
        not_null(value)?;
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        let id = asset_id(&mut tx, scope, asset).await?;
        let writer = match task_of(caller) {
            Ok(task) => Writer::Task {
                dag_id: &task.dag_id,
                run_id: &task.run_id,
                task_id: &task.task_id,
                map_index: task.map_index,
            },
            Err(_) => Writer::Watcher,
        };
        stores::set_asset_value(&mut tx, scope, id, key, value, writer, Timestamp::now())
            .await
            .map_err(broken)?;
        tx.commit().await.map_err(broken)?;
        Ok(Answer::done())
    }

    pub(crate) async fn delete_asset_store(&self, caller: &Caller, asset: &AssetRef, key: Option<&str>) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        let id = asset_id(&mut tx, scope, asset).await?;
        stores::delete_asset_values(&mut tx, scope, id, key)
            .await
            .map_err(broken)?;
        tx.commit().await.map_err(broken)?;
        Ok(Answer::done())
    }
}
