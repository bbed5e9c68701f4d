//! Pools: list, get, make, patch, delete.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::get;
use isobar_auth::{Action, Resource};
use isobar_store::lists::pools::{self as list_rows, PoolRow};
use isobar_store::pools::{self, DEFAULT_POOL, Pool};
use isobar_store::{StoreError, Tx, audit};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{owners, pools_bulk};
use crate::errors::{Answer, no_content, ok, with_status};
use crate::extract::{Ask, Fields, Target};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    let one = || get(get_one).patch(patch).delete(delete);
    Router::new()
        .route("/pools", get(list).post(create).patch(pools_bulk::patch))
        .route("/pools/", one())
        .route("/pools/{*pool_name}", one())
}

/// A pool as Airflow's `PoolResponse`.
fn json(ask: &Ask, row: &PoolRow) -> Value {
    json!({
        "name": ask.write(row.pool.team, &row.pool.name),
        "slots": row.pool.slots,
        "description": row.pool.description,
        "include_deferred": row.pool.include_deferred,
        "occupied_slots": row.occupied(),
        "running_slots": row.used.running,
        "queued_slots": row.used.queued,
        "scheduled_slots": row.used.scheduled,
        "open_slots": row.open(),
        "deferred_slots": row.used.deferred,
        "team_name": ask.names.team_name(row.pool.team),
    })
}

/// What the body of a new pool says.
pub(super) struct Body {
    pub(super) name: String,
    pub(super) slots: i64,
    pub(super) description: Option<String>,
    pub(super) include_deferred: Option<bool>,
    pub(super) team_name: Option<String>,
    pub(super) has_description: bool,
}

impl Body {
    pub(super) fn read(fields: &mut Fields, multi_team: bool) -> Self {
        // Both names of the field are taken, the API's own first.
        let by_name = fields.has("name") || !fields.has("pool");
        let name = fields.required_text(if by_name { "name" } else { "pool" }, Some(256));
        let slots = fields.required_int("slots", -1);
        let description = fields.text("description", None);
        let include_deferred = if fields.has("include_deferred") {
            Some(fields.required_flag("include_deferred"))
        } else {
            None
        };
        let team_name = owners::team_name(fields, multi_team);
        Self {
            name,
            slots,
            description,
            include_deferred,
            team_name,
            has_description: fields.has("description"),
        }
    }

    /// The same as changes to a pool that is there.
    pub(super) fn changes(&self) -> Changes {
        Changes {
            slots: Some(self.slots),
            description: self.has_description.then(|| self.description.clone()),
            include_deferred: self.include_deferred,
        }
    }
}

/// What is to change in a pool.
pub(super) struct Changes {
    pub(super) slots: Option<i64>,
    pub(super) description: Option<Option<String>>,
    pub(super) include_deferred: Option<bool>,
}

impl Changes {
    /// Only what the mask names; everything where there is none.
    fn masked(mut self, mask: &[String]) -> Self {
        let allows = |name: &str| mask.is_empty() || mask.iter().any(|one| one == name);
        self.slots = self.slots.filter(|_| allows("slots"));
        self.description = self.description.filter(|_| allows("description"));
        self.include_deferred = self.include_deferred.filter(|_| allows("include_deferred"));
        self
    }
}

/// Makes a pool.
pub(super) async fn make(tx: &mut Tx, target: &Target, asked: &Body) -> Result<Pool, StoreError> {
    pools::create(
        tx,
        target.scope,
        &target.name,
        asked.slots,
        asked.description.as_deref(),
        asked.include_deferred.unwrap_or_default(),
        Timestamp::now(),
    )
    .await
}

/// Writes changes over a pool.
pub(super) async fn change(
    tx: &mut Tx,
    target: &Target,
    old: &Pool,
    changes: Changes,
    mask: &[String],
) -> Result<(), StoreError> {
    let changes = changes.masked(mask);
    pools::update(
        tx,
        target.scope,
        &target.name,
        changes.slots.unwrap_or(old.slots),
        changes
            .description
            .unwrap_or_else(|| old.description.clone())
            .as_deref(),
        changes.include_deferred.unwrap_or(old.include_deferred),
        Timestamp::now(),
    )
    .await
    .map(drop)
}

/// Whether a default pool may be changed so.
///
/// # Errors
/// 400 where more than slots and the counting of deferred tasks is meant.
pub(super) fn check_default(name: &str, mask: &[String]) -> Result<(), ApiError> {
    let allowed = |one: &String| matches!(one.trim(), "slots" | "include_deferred");
    if name != DEFAULT_POOL || (!mask.is_empty() && mask.iter().all(allowed)) {
        return Ok(());
    }
    Err(ApiError::bad_request(
        "Only slots and included_deferred can be modified on Default Pool",
    ))
}

/// Airflow checks what a patch gives as if it were a whole pool; `sent` is the body in its field names.
///
/// # Errors
/// 422 where name, slots or the counting of deferred tasks is not given.
pub(super) fn check_whole(sent: &Map<String, Value>) -> Result<(), ApiError> {
    let mut problems = Vec::new();
    for (name, kind, message) in [
        ("pool", "string_type", "Input should be a valid string"),
        ("slots", "int_type", "Input should be a valid integer"),
        ("include_deferred", "bool_type", "Input should be a valid boolean"),
    ] {
        let (kind, message, input) = match sent.get(name) {
            None => ("missing", "Field required", Value::Object(sent.clone())),
            Some(Value::Null) => (kind, message, Value::Null),
            Some(_) => continue,
        };
        problems.push(json!({
            "type": kind,
            "loc": [name],
            "msg": message,
            "input": input,
            "url": format!("https://errors.pydantic.dev/2.14/v/{kind}"),
        }));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ApiError::unprocessable(problems))
    }
}

fn missing(written: &str) -> ApiError {
    ApiError::not_found(format!("The Pool with name: `{written}` was not found"))
}

async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Pool)?;
    let page = ask.page();
    let name = ask.query.matching("pool_name");
    ask.query.done()?;
    let order = list_rows::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = list_rows::list(&mut tx, &scope, &name, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| json(&ask, row)).collect();
    ok(&json!({"pools": rows, "total_entries": found.total}))
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.target(ask.part("pool_name"), Resource::Pool, Action::Read)?;
    let mut tx = ask.state.store.read().await?;
    let row = list_rows::get(&mut tx, target.scope, &target.name).await?;
    ok(&json(&ask, &row.ok_or_else(|| missing(&target.written))?))
}

async fn create(ask: Ask, body: Bytes) -> Answer {
    if !ask.might(Resource::Pool, Action::Create) {
        return Err(ApiError::forbidden());
    }
    let mut fields = Fields::of_body(&body)?;
    let asked = Body::read(&mut fields, ask.names.directory.multi_team());
    fields.done()?;
    let target = owners::of_new(&ask, &asked.name, asked.team_name.as_deref(), Resource::Pool)?;
    let mut tx = ask.state.store.begin().await?;
    let pool = match make(&mut tx, &target, &asked).await {
        Err(StoreError::Exists { .. }) => return Err(ApiError::not_unique("slot_pool", "pool")),
        other => other?,
    };
    let record =
        audit::Record::new("post_pool", ask.caller.name()).extra(owners::audited(fields.raw().clone(), "POST"));
    audit::write(&mut tx, target.scope, &[record]);
    let row = list_rows::get(&mut tx, target.scope, &pool.name).await?;
    tx.commit().await?;
    look_again(&ask, &target).await;
    with_status(
        StatusCode::CREATED,
        &json(&ask, &row.ok_or_else(|| missing(&target.written))?),
    )
}

async fn patch(ask: Ask, body: Bytes) -> Answer {
    let target = ask.target(ask.part("pool_name"), Resource::Pool, Action::Edit)?;
    let mut fields = Fields::of_body(&body)?;
    let by_pool = fields.has("pool") || !fields.has("name");
    let name = fields.text(if by_pool { "pool" } else { "name" }, None);
    let slots = fields.int_from("slots", -1);
    let description = fields.text("description", None);
    let include_deferred = fields.flag("include_deferred");
    let team_name = owners::team_name(&mut fields, ask.names.directory.multi_team());
    fields.done()?;
    if let Some(name) = name.filter(|name| !name.is_empty())
        && ask.names.read(&name) != ask.names.read(&target.written)
    {
        return Err(ApiError::bad_request(
            "Invalid body, pool name from request body doesn't match uri parameter",
        ));
    }
    let mask = ask.query.texts("update_mask");
    let mut tx = ask.state.store.begin().await?;
    let old = pools::get(&mut tx, target.scope, &target.name)
        .await?
        .ok_or_else(|| missing(&target.written))?;
    owners::unchanged(&ask, &target, team_name.as_deref())?;
    check_default(&target.name, &mask)?;
    if target.name != DEFAULT_POOL {
        check_whole(&in_order(fields.raw()))?;
    }
    let changes = Changes {
        slots,
        description: fields.has("description").then_some(description),
        include_deferred,
    };
    change(&mut tx, &target, &old, changes, &mask).await?;
    let mut sent = Map::new();
    sent.insert("pool_name".to_owned(), json!(target.name));
    sent.extend(fields.raw().clone());
    let record = audit::Record::new("patch_pool", ask.caller.name()).extra(owners::audited(sent, "PATCH"));
    audit::write(&mut tx, target.scope, &[record]);
    let row = list_rows::get(&mut tx, target.scope, &target.name).await?;
    tx.commit().await?;
    ok(&json(&ask, &row.ok_or_else(|| missing(&target.written))?))
}

/// The body as Airflow's model of a patch writes it: its own order, the name as `pool`.
fn in_order(sent: &Map<String, Value>) -> Map<String, Value> {
    let mut ordered = Map::new();
    for name in ["pool", "slots", "description", "include_deferred", "team_name"] {
        let given = sent.get(name).or_else(|| sent.get("name").filter(|_| name == "pool"));
        if let Some(value) = given {
            ordered.insert(name.to_owned(), value.clone());
        }
    }
    ordered
}

async fn delete(ask: Ask) -> Answer {
    let target = ask.target(ask.part("pool_name"), Resource::Pool, Action::Delete)?;
    if target.name == DEFAULT_POOL {
        return Err(ApiError::bad_request("Default Pool can't be deleted"));
    }
    let mut tx = ask.state.store.begin().await?;
    if !pools::delete(&mut tx, target.scope, &target.name, Timestamp::now()).await? {
        return Err(missing(&target.written));
    }
    let record = audit::Record::new("delete_pool", ask.caller.name())
        .extra(json!({"pool_name": target.name, "method": "DELETE"}));
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    look_again(&ask, &target).await;
    no_content()
}

/// Dags that hang on this pool are checked again (rule 18). The pool is changed already: a failure here is logged, and the
/// next parse of the file finds out.
pub(super) async fn look_again(ask: &Ask, target: &Target) {
    if let Err(refusal) = ask.state.execution.pools_changed(target.scope, &target.name).await {
        tracing::warn!(pool = %target.name, %refusal, "the Dags that name a changed pool could not be checked again");
    }
}
