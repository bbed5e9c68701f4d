//! Connections in bulk.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_store::Tx;
use isobar_store::connections::{self, Connection};
use serde_json::{Map, Value, json};

use super::bulk::{self, Clash, Entity, Kind, Model, Outcome, python_set};
use super::connection_body::{Body, laid_over, masked, new_connection, overwritten};
use super::connections::write;
use super::owners;
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Target};

/// `PATCH /connections`
pub(super) async fn patch(ask: Ask, body: Bytes) -> Answer {
    let actions = bulk::read(
        &body,
        &Model {
            name: "function-after[validate_team_name(), ConnectionBody]",
            read: &|fields| Body::read(fields, &ask.names),
        },
    )?;
    let mut outcome = Outcome::default();
    let mut tx = ask.state.store.begin().await?;
    for action in &actions {
        outcome.asked(action.kind);
        match action.kind {
            Kind::Create => create(&ask, &mut tx, action, &mut outcome).await?,
            Kind::Update => update(&ask, &mut tx, action, &mut outcome).await?,
            Kind::Delete => delete(&ask, &mut tx, action, &mut outcome).await?,
        }
    }
    outcome.audit(&mut tx, "bulk_connections", ask.caller.name()).await?;
    tx.commit().await?;
    ok(&outcome.json())
}

async fn known(ask: &Ask, tx: &mut Tx, target: &Target) -> Result<Option<Connection>, ApiError> {
    Ok(connections::get(tx, target.scope, &ask.state.master_key, &target.name).await?)
}

fn refusal(kind: Kind, names: &[&str]) -> String {
    let names = python_set(names.iter().copied());
    match kind {
        Kind::Create => format!("The connections with these connection_ids: {names} already exist."),
        _ => format!("The connections with these connection_ids: {names} were not found."),
    }
}

fn sent(ask: &Ask, raw: &Map<String, Value>) -> Value {
    Value::Object(masked(raw, &ask.state.sensitive_names))
}

async fn create(ask: &Ask, tx: &mut Tx, action: &bulk::Action<Body>, outcome: &mut Outcome) -> Result<(), ApiError> {
    let mut entities = Vec::new();
    let mut there = Vec::new();
    for entity in &action.entities {
        let Entity::Whole(body, raw) = entity else { continue };
        let target = owners::of_new(
            ask,
            &body.connection_id,
            body.team_name.as_deref(),
            Resource::Connection,
        )?;
        if action.clash == Clash::Overwrite {
            ask.caller
                .act(target.scope.team(), Resource::Connection, Action::Edit)
                .ok_or_else(ApiError::forbidden)?;
        }
        let old = known(ask, tx, &target).await?;
        if old.is_some() {
            there.push(body.connection_id.as_str());
        }
        entities.push((body, raw, target, old));
    }
    if action.clash == Clash::Fail && !there.is_empty() {
        outcome.refused(Kind::Create, 409, refusal(Kind::Create, &there));
        return Ok(());
    }
    for (body, raw, target, old) in entities {
        let connection = match old {
            Some(_) if action.clash == Clash::Skip => continue,
            Some(old) => overwritten(old, body),
            None => new_connection(&target.name, body),
        };
        write(ask, tx, target.scope, &connection).await?;
        outcome.done(Kind::Create, &body.connection_id, target.scope, &sent(ask, raw));
    }
    Ok(())
}

/// Airflow takes a mask here and does not look at it; neither does this.
async fn update(ask: &Ask, tx: &mut Tx, action: &bulk::Action<Body>, outcome: &mut Outcome) -> Result<(), ApiError> {
    let mut entities = Vec::new();
    let mut gone = Vec::new();
    for entity in &action.entities {
        let Entity::Whole(body, raw) = entity else { continue };
        let target = ask.target(&body.connection_id, Resource::Connection, Action::Edit)?;
        match known(ask, tx, &target).await? {
            Some(old) => entities.push((body, raw, target, old)),
            None => gone.push(body.connection_id.as_str()),
        }
    }
    if action.clash == Clash::Fail && !gone.is_empty() {
        outcome.refused(Kind::Update, 404, refusal(Kind::Update, &gone));
        return Ok(());
    }
    for (body, raw, target, old) in entities {
        if let Err(error) = owners::unchanged(ask, &target, body.team_name.as_deref()) {
            let text = error.detail().as_str().unwrap_or_default().to_owned();
            outcome.refused(Kind::Update, error.status().as_u16(), text);
            return Ok(());
        }
        let connection = laid_over(old, body, &[], &ask.state.sensitive_names);
        write(ask, tx, target.scope, &connection).await?;
        outcome.done(Kind::Update, &body.connection_id, target.scope, &sent(ask, raw));
    }
    Ok(())
}

async fn delete(ask: &Ask, tx: &mut Tx, action: &bulk::Action<Body>, outcome: &mut Outcome) -> Result<(), ApiError> {
    let mut targets: Vec<Target> = Vec::new();
    let mut gone = Vec::new();
    for entity in &action.entities {
        let conn_id = match entity {
            Entity::Whole(body, _) => &body.connection_id,
            Entity::Name(name) => name,
        };
        let target = ask.target(conn_id, Resource::Connection, Action::Delete)?;
        if known(ask, tx, &target).await?.is_none() {
            gone.push(conn_id.as_str());
        } else if !targets
            .iter()
            .any(|known| known.scope == target.scope && known.name == target.name)
        {
            targets.push(target);
        }
    }
    if action.clash == Clash::Fail && !gone.is_empty() {
        outcome.refused(Kind::Delete, 404, refusal(Kind::Delete, &gone));
        return Ok(());
    }
    for target in targets {
        connections::delete(tx, target.scope, &target.name).await?;
        outcome.done(Kind::Delete, &target.written, target.scope, &json!(target.name));
    }
    Ok(())
}
