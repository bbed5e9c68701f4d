//! Pools, connections and variables that the configuration declares, written into the store. What is declared wins
//! over what was changed since; what is not declared is left alone.

use isobar_auth::{MasterKey, TeamScope};
use isobar_config::{Config, Team};
use isobar_execution::Execution;
use isobar_store::connections::{self, Connection};
use isobar_store::variables::{self, Variable};
use isobar_store::{StoreError, Tx, pools};
use jiff::Timestamp;

use crate::setup::Deployment;

const DEFAULT_POOL: &str = "default_pool";

/// Writes what is declared for one team.
pub(crate) async fn write(
    tx: &mut Tx,
    scope: TeamScope,
    config: &Config,
    team: &Team,
    master: &MasterKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    if pools::get(tx, scope, DEFAULT_POOL).await?.is_none() {
        let slots = i64::from(config.core.default_pool_task_slot_count);
        pools::create(tx, scope, DEFAULT_POOL, slots, Some("Default pool"), false, now).await?;
    }
    for pool in &team.pools {
        let slots = i64::from(pool.slots);
        pools::declare(
            tx,
            scope,
            &pool.name,
            slots,
            pool.description.as_deref(),
            pool.include_deferred,
            now,
        )
        .await?;
    }
    let declared: Vec<Connection> = team.connections.iter().map(connection).collect();
    connections::put(tx, scope, master, &declared, now).await?;
    let declared: Vec<Variable> = team.variables.iter().map(variable).collect();
    variables::put(tx, scope, master, &declared, now).await
}

/// Writes what is declared for every team (rule 12). What is no longer declared goes: shared things have no other owner.
pub(crate) async fn write_shared(
    tx: &mut Tx,
    scope: TeamScope,
    config: &Config,
    master: &MasterKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    for gone in pools::all_of(tx, scope).await? {
        if !config.shared.pools.iter().any(|kept| kept.name == gone.name) {
            pools::delete(tx, scope, &gone.name, now).await?;
        }
    }
    for pool in &config.shared.pools {
        let (slots, description) = (i64::from(pool.slots), pool.description.as_deref());
        pools::declare(tx, scope, &pool.name, slots, description, pool.include_deferred, now).await?;
    }
    let declared: Vec<Connection> = config.shared.connections.iter().map(connection).collect();
    for gone in connections::ids(tx, scope).await? {
        if !declared.iter().any(|kept| kept.conn_id == gone) {
            connections::delete(tx, scope, &gone).await?;
        }
    }
    connections::put(tx, scope, master, &declared, now).await?;
    let declared: Vec<Variable> = config.shared.variables.iter().map(variable).collect();
    for gone in variables::keys(tx, scope, "", u32::MAX, 0).await?.0 {
        if !declared.iter().any(|kept| kept.key == gone) {
            variables::delete(tx, scope, &gone).await?;
        }
    }
    variables::put(tx, scope, master, &declared, now).await
}

/// Looks again at Dags that hang on declared pools (rule 18): they may have been refused before the pools were there.
pub(crate) async fn look_again(deployment: &Deployment, execution: &Execution) {
    for known in deployment.directory.all().iter() {
        let Some(team) = deployment.config.team(known.name.as_str()) else {
            continue;
        };
        for pool in &team.pools {
            if let Err(error) = execution.pools_changed(deployment.org.team(known.id), &pool.name).await {
                tracing::error!(team = %known.name, pool = %pool.name, %error, "the Dags that name this pool could not be looked at again");
            }
        }
    }
}

fn connection(declared: &isobar_config::Connection) -> Connection {
    Connection {
        conn_id: declared.id.clone(),
        conn_type: declared.conn_type.clone(),
        description: declared.description.clone(),
        host: declared.host.clone(),
        schema: declared.schema.clone(),
        login: declared.login.clone(),
        password: declared.password.as_ref().map(|secret| secret.expose().to_owned()),
        port: declared.port.map(i64::from),
        extra: declared.extra.as_ref().map(|secret| secret.expose().to_owned()),
    }
}

fn variable(declared: &isobar_config::Variable) -> Variable {
    Variable {
        key: declared.key.clone(),
        value: declared.value.expose().to_owned(),
        description: declared.description.clone(),
    }
}
