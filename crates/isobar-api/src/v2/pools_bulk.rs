//! Pools in bulk.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_store::Tx;
use isobar_store::pools::{self, DEFAULT_POOL};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::bulk::{self, Clash, Entity, Kind, Model, Outcome, python_set};
use super::owners;
use super::pools::{Body, change, check_default, check_whole, look_again, make};
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Target};

/// `PATCH /pools`
pub(super) async fn patch(ask: Ask, body: Bytes) -> Answer {
    let multi_team = ask.names.directory.multi_team();
    let actions = bulk::read(
        &body,
        &Model {
            name: "function-after[validate_team_name(), PoolBody]",
            read: &|fields| Body::read(fields, multi_team),
        },
    )?;
    let mut outcome = Outcome::default();
    let mut moved = Vec::new();
    let mut tx = ask.state.store.begin().await?;
    for action in &actions {
        outcome.asked(action.kind);
        match action.kind {
            Kind::Create => moved.extend(create(&ask, &mut tx, action, &mut outcome).await?),
            Kind::Update => update(&ask, &mut tx, action, &mut outcome).await?,
            Kind::Delete => moved.extend(delete(&ask, &mut tx, action, &mut outcome).await?),
        }
    }
    outcome.audit(&mut tx, "bulk_pools", ask.caller.name()).await?;
    tx.commit().await?;
    for target in &moved {
        look_again(&ask, target).await;
    }
    ok(&outcome.json())
}

fn refusal(kind: Kind, names: &[&str]) -> String {
    let names = python_set(names.iter().copied());
    match kind {
        Kind::Create => format!("The pools with these pool names: {names} already exist."),
        _ => format!("The pools with these pool names: {names} were not found."),
    }
}

/// Answers the pools that were written.
async fn create(
    ask: &Ask,
    tx: &mut Tx,
    action: &bulk::Action<Body>,
    outcome: &mut Outcome,
) -> Result<Vec<Target>, ApiError> {
    let mut entities: Vec<_> = Vec::new();
    let mut there = Vec::new();
    for entity in &action.entities {
        let Entity::Whole(body, raw) = entity else { continue };
        let target = owners::of_new(ask, &body.name, body.team_name.as_deref(), Resource::Pool)?;
        if action.clash == Clash::Overwrite {
            ask.caller
                .act(target.scope.team(), Resource::Pool, Action::Edit)
                .ok_or_else(ApiError::forbidden)?;
        }
        let old = pools::get(tx, target.scope, &target.name).await?;
        if old.is_some() {
            there.push(body.name.as_str());
        }
        entities.push((body, raw, target, old));
    }
    if action.clash == Clash::Fail && !there.is_empty() {
        outcome.refused(Kind::Create, 409, refusal(Kind::Create, &there));
        return Ok(Vec::new());
    }
    let mut made = Vec::new();
    for (body, raw, target, old) in entities {
        match old {
            Some(_) if action.clash == Clash::Skip => continue,
            Some(old) => change(tx, &target, &old, body.changes(), &[]).await?,
            None => match make(tx, &target, body).await {
                Err(isobar_store::StoreError::Exists { .. }) => {
                    return Err(ApiError::not_unique("slot_pool", "pool"));
                }
                pool => drop(pool?),
            },
        }
        outcome.done(Kind::Create, &body.name, target.scope, &Value::Object(raw.clone()));
        made.push(target);
    }
    Ok(made)
}

async fn update(ask: &Ask, tx: &mut Tx, action: &bulk::Action<Body>, outcome: &mut Outcome) -> Result<(), ApiError> {
    let mut entities = Vec::new();
    let mut gone = Vec::new();
    for entity in &action.entities {
        let Entity::Whole(body, raw) = entity else { continue };
        let target = ask.target(&body.name, Resource::Pool, Action::Edit)?;
        match pools::get(tx, target.scope, &target.name).await? {
            Some(old) => entities.push((body, raw, target, old)),
            None => gone.push(body.name.as_str()),
        }
    }
    if action.clash == Clash::Fail && !gone.is_empty() {
        outcome.refused(Kind::Update, 404, refusal(Kind::Update, &gone));
        return Ok(());
    }
    for (body, raw, target, old) in entities {
        let allowed = owners::unchanged(ask, &target, body.team_name.as_deref())
            .and_then(|()| check_default(&target.name, &action.mask));
        if let Err(error) = allowed {
            let text = error.detail().as_str().unwrap_or_default().to_owned();
            outcome.refused(Kind::Update, error.status().as_u16(), text);
            return Ok(());
        }
        if target.name != DEFAULT_POOL {
            check_whole(&in_order(raw))?;
        }
        change(tx, &target, &old, body.changes(), &action.mask).await?;
        outcome.done(Kind::Update, &body.name, target.scope, &Value::Object(raw.clone()));
    }
    Ok(())
}

/// The entity as Airflow's model writes it: its own order, the name as `pool` at the end.
fn in_order(sent: &Map<String, Value>) -> Map<String, Value> {
    let mut ordered = Map::new();
    for name in ["slots", "description", "include_deferred", "team_name"] {
        if let Some(value) = sent.get(name) {
            ordered.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(name) = sent.get("name").or_else(|| sent.get("pool")) {
        ordered.insert("pool".to_owned(), name.clone());
    }
    ordered
}

/// Answers the pools that are gone.
async fn delete(
    ask: &Ask,
    tx: &mut Tx,
    action: &bulk::Action<Body>,
    outcome: &mut Outcome,
) -> Result<Vec<Target>, ApiError> {
    let mut targets: Vec<Target> = Vec::new();
    let mut gone = Vec::new();
    for entity in &action.entities {
        let name = match entity {
            Entity::Whole(body, _) => &body.name,
            Entity::Name(name) => name,
        };
        let target = ask.target(name, Resource::Pool, Action::Delete)?;
        // Airflow would delete it here; what every task falls back to must stay.
        if target.name == DEFAULT_POOL {
            outcome.refused(Kind::Delete, 400, "Default Pool can't be deleted");
            return Ok(Vec::new());
        }
        if pools::get(tx, target.scope, &target.name).await?.is_none() {
            gone.push(name.as_str());
        } else if !targets
            .iter()
            .any(|known| known.scope == target.scope && known.name == target.name)
        {
            targets.push(target);
        }
    }
    if action.clash == Clash::Fail && !gone.is_empty() {
        outcome.refused(Kind::Delete, 404, refusal(Kind::Delete, &gone));
        return Ok(Vec::new());
    }
    for target in &targets {
        pools::delete(tx, target.scope, &target.name, Timestamp::now()).await?;
        outcome.done(Kind::Delete, &target.written, target.scope, &json!(target.name));
    }
    Ok(targets)
}
