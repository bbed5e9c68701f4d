//! Variables in bulk.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_store::Tx;
use isobar_store::variables::{self, Variable};
use serde_json::{Value, json};

use super::bulk::{self, Clash, Entity, Kind, Model, Outcome, python_set};
use super::owners;
use super::variables::{Body, masked, patched, write};
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Target};

/// `PATCH /variables`
pub(super) async fn patch(ask: Ask, body: Bytes) -> Answer {
    let multi_team = ask.names.directory.multi_team();
    let actions = bulk::read(
        &body,
        &Model {
            name: "function-after[validate_team_name(), VariableBody]",
            read: &|fields| Body::read(fields, multi_team),
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
    outcome.audit(&mut tx, "bulk_variables", ask.caller.name()).await?;
    tx.commit().await?;
    ok(&outcome.json())
}

async fn known(ask: &Ask, tx: &mut Tx, target: &Target) -> Result<Option<Variable>, ApiError> {
    Ok(variables::get(tx, target.scope, &ask.state.master_key, &target.name).await?)
}

fn refusal(kind: Kind, names: &[&str]) -> String {
    let names = python_set(names.iter().copied());
    match kind {
        Kind::Create => format!("The variables with these keys: {names} already exist."),
        _ => format!("The variables with these keys: {names} were not found."),
    }
}

async fn create(ask: &Ask, tx: &mut Tx, action: &bulk::Action<Body>, outcome: &mut Outcome) -> Result<(), ApiError> {
    let mut entities = Vec::new();
    let mut there = Vec::new();
    for entity in &action.entities {
        let Entity::Whole(body, raw) = entity else { continue };
        let target = owners::of_new(ask, &body.key, body.team_name.as_deref(), Resource::Variable)?;
        if action.clash == Clash::Overwrite {
            ask.caller
                .act(target.scope.team(), Resource::Variable, Action::Edit)
                .ok_or_else(ApiError::forbidden)?;
        }
        let exists = known(ask, tx, &target).await?.is_some();
        if exists {
            there.push(body.key.as_str());
        }
        entities.push((body, raw, target, exists));
    }
    if action.clash == Clash::Fail && !there.is_empty() {
        outcome.refused(Kind::Create, 409, refusal(Kind::Create, &there));
        return Ok(());
    }
    for (body, raw, target, exists) in entities {
        if exists && action.clash == Clash::Skip {
            continue;
        }
        let variable = Variable {
            key: target.name.clone(),
            value: body.value.clone(),
            description: body.description.clone(),
        };
        write(ask, tx, target.scope, &variable).await?;
        outcome.done(Kind::Create, &body.key, target.scope, &Value::Object(masked(raw)));
    }
    Ok(())
}

async fn update(ask: &Ask, tx: &mut Tx, action: &bulk::Action<Body>, outcome: &mut Outcome) -> Result<(), ApiError> {
    let mut entities = Vec::new();
    let mut gone = Vec::new();
    for entity in &action.entities {
        let Entity::Whole(body, raw) = entity else { continue };
        let target = ask.target(&body.key, Resource::Variable, Action::Edit)?;
        match known(ask, tx, &target).await? {
            Some(old) => entities.push((body, raw, target, old)),
            None => gone.push(body.key.as_str()),
        }
    }
    if action.clash == Clash::Fail && !gone.is_empty() {
        outcome.refused(Kind::Update, 404, refusal(Kind::Update, &gone));
        return Ok(());
    }
    for (body, raw, target, old) in entities {
        let changed =
            owners::unchanged(ask, &target, body.team_name.as_deref()).and_then(|()| patched(old, body, &action.mask));
        let variable = match changed {
            Ok(variable) => variable,
            Err(error) => {
                let text = error.detail().as_str().unwrap_or_default().to_owned();
                outcome.refused(Kind::Update, error.status().as_u16(), text);
                return Ok(());
            }
        };
        write(ask, tx, target.scope, &variable).await?;
        outcome.done(Kind::Update, &body.key, target.scope, &Value::Object(masked(raw)));
    }
    Ok(())
}

async fn delete(ask: &Ask, tx: &mut Tx, action: &bulk::Action<Body>, outcome: &mut Outcome) -> Result<(), ApiError> {
    let mut targets: Vec<Target> = Vec::new();
    let mut gone = Vec::new();
    for entity in &action.entities {
        let key = match entity {
            Entity::Whole(body, _) => &body.key,
            Entity::Name(name) => name,
        };
        let target = ask.target(key, Resource::Variable, Action::Delete)?;
        if known(ask, tx, &target).await?.is_none() {
            gone.push(key.as_str());
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
        variables::delete(tx, target.scope, &target.name).await?;
        outcome.done(Kind::Delete, &target.written, target.scope, &json!(target.name));
    }
    Ok(())
}
