//! Bulk bodies: `{"actions": [{"action": "create" | "update" | "delete", "entities": […], …}]}`, and their answer.

use std::collections::BTreeMap;

use axum::body::Bytes;
use isobar_auth::TeamScope;
use isobar_model::TeamId;
use isobar_store::audit::{self, Record};
use isobar_store::{StoreError, Tx};
use serde_json::{Map, Value, json};

use crate::ApiError;
use crate::extract::{Fields, Problem};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Create,
    Update,
    Delete,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What happens where something is there already (create), or is not there (update, delete).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    Fail,
    Skip,
    Overwrite,
}

/// One action; its entities with what was sent for each.
pub(super) struct Action<T> {
    pub(super) kind: Kind,
    pub(super) clash: Clash,
    pub(super) mask: Vec<String>,
    pub(super) entities: Vec<Entity<T>>,
}

/// An entity; deletions may give a name alone.
pub(super) enum Entity<T> {
    Whole(T, Map<String, Value>),
    Name(String),
}

/// How one kind of entity is read.
pub(super) struct Model<'a, T> {
    /// The model's name as pydantic writes it into places of problems.
    pub(super) name: &'static str,
    /// Reads one.
    pub(super) read: &'a dyn Fn(&mut Fields) -> T,
}

/// Reads a bulk body.
///
/// # Errors
/// 422 with all problems; each twice, since Airflow reads the body once for the permissions and once for the handler.
pub(super) fn read<T>(body: &Bytes, model: &Model<'_, T>) -> Result<Vec<Action<T>>, ApiError> {
    gather(crate::extract::json_body(body)?, model).map_err(|problems| {
        let again = problems.clone();
        ApiError::unprocessable(problems.into_iter().chain(again).collect())
    })
}

/// Reads a bulk body of a route whose permissions do not depend on it, so that problems are said once.
///
/// # Errors
/// 422 with all problems.
pub(super) fn read_once<T>(body: &Bytes, model: &Model<'_, T>) -> Result<Vec<Action<T>>, ApiError> {
    gather(crate::extract::json_body(body)?, model).map_err(ApiError::unprocessable)
}

fn gather<T>(value: Value, model: &Model<'_, T>) -> Result<Vec<Action<T>>, Vec<Value>> {
    let mut fields = Fields::of(value, vec!["body".into()]).map_err(|problem| vec![problem])?;
    let mut actions = Vec::new();
    let there = fields.require("actions");
    let list = fields.any("actions");
    match list {
        Some(Value::Array(items)) => {
            for (at, item) in items.into_iter().enumerate() {
                match read_action(item, at, model) {
                    Ok(action) => actions.push(action),
                    Err(problems) => fields.take_over(problems),
                }
            }
        }
        Some(other) if there => {
            let place = vec!["body".into(), "actions".into()];
            fields.take_over(vec![Problem::not_list().at(place, &other)]);
        }
        _ => {}
    }
    let problems = fields.problems();
    if problems.is_empty() {
        Ok(actions)
    } else {
        Err(problems)
    }
}

fn read_action<T>(item: Value, at: usize, model: &Model<'_, T>) -> Result<Action<T>, Vec<Value>> {
    let mut place: Vec<Value> = vec!["body".into(), "actions".into(), at.into()];
    let word = item.get("action").cloned().unwrap_or(Value::Null);
    let kind = match word.as_str() {
        Some("create") => Kind::Create,
        Some("update") => Kind::Update,
        Some("delete") => Kind::Delete,
        // Airflow fails with 500 here.
        _ => {
            place.push("action".into());
            let words = ["create", "update", "delete"];
            return Err(vec![Problem::not_member(&words).at(place, &word)]);
        }
    };
    place.push(kind.as_str().into());
    let mut fields = Fields::of(item, place.clone()).map_err(|problem| vec![problem])?;
    fields.any("action");
    let there = fields.require("entities");
    let mut entities = Vec::new();
    let mut inner = place.clone();
    inner.push("entities".into());
    match fields.any("entities") {
        Some(Value::Array(items)) => {
            for (at, item) in items.into_iter().enumerate() {
                let mut place = inner.clone();
                place.push(at.into());
                match read_entity(item, place, kind, model) {
                    Ok(entity) => entities.push(entity),
                    Err(problems) => fields.take_over(problems),
                }
            }
        }
        Some(other) if there => fields.take_over(vec![Problem::not_list().at(inner, &other)]),
        _ => {}
    }
    let mask = if kind == Kind::Update {
        fields.texts("update_mask").unwrap_or_default()
    } else {
        Vec::new()
    };
    let (name, words): (_, &[&str]) = match kind {
        Kind::Create => ("action_on_existence", &["fail", "skip", "overwrite"]),
        _ => ("action_on_non_existence", &["fail", "skip"]),
    };
    let clash = match fields.word::<String>(name, words).as_deref() {
        Some("skip") => Clash::Skip,
        Some("overwrite") => Clash::Overwrite,
        _ => Clash::Fail,
    };
    let problems = fields.problems();
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Action {
        kind,
        clash,
        mask,
        entities,
    })
}

fn read_entity<T>(item: Value, place: Vec<Value>, kind: Kind, model: &Model<'_, T>) -> Result<Entity<T>, Vec<Value>> {
    if kind != Kind::Delete {
        return read_whole(item, place, model);
    }
    if let Value::String(name) = item {
        return Ok(Entity::Name(name));
    }
    let mut as_text = place.clone();
    as_text.push("str".into());
    let not_text = Problem::not_text().at(as_text, &item);
    let mut as_model = place;
    as_model.push(model.name.into());
    read_whole(item, as_model, model).map_err(|mut problems| {
        problems.insert(0, not_text);
        problems
    })
}

fn read_whole<T>(item: Value, place: Vec<Value>, model: &Model<'_, T>) -> Result<Entity<T>, Vec<Value>> {
    let mut fields = Fields::of(item, place).map_err(|problem| vec![problem])?;
    let entity = (model.read)(&mut fields);
    let problems = fields.problems();
    if problems.is_empty() {
        let raw = fields.raw().clone();
        Ok(Entity::Whole(entity, raw))
    } else {
        Err(problems)
    }
}

/// What came of each kind of action.
#[derive(Default)]
pub(super) struct Outcome {
    success: BTreeMap<Kind, Vec<String>>,
    errors: BTreeMap<Kind, Vec<Value>>,
    touched: BTreeMap<TeamId, (TeamScope, Vec<Value>)>,
}

impl Outcome {
    /// That such an action was asked for, so that the answer speaks of it.
    pub(super) fn asked(&mut self, kind: Kind) {
        self.success.entry(kind).or_default();
    }

    /// That it was done; `sent` is for the audit record, without secrets.
    pub(super) fn done(&mut self, kind: Kind, name: &str, scope: TeamScope, sent: &Value) {
        self.success.entry(kind).or_default().push(name.to_owned());
        let (_, entities) = self.touched.entry(scope.team()).or_insert_with(|| (scope, Vec::new()));
        entities.push(json!({"action": kind.as_str(), "entities": [sent]}));
    }

    /// That it was refused.
    pub(super) fn refused(&mut self, kind: Kind, status: u16, text: impl Into<String>) {
        self.errors
            .entry(kind)
            .or_default()
            .push(json!({"error": text.into(), "status_code": status}));
    }

    /// Writes one audit record for each team in which something changed; none of them tells of another team.
    ///
    /// # Errors
    /// The database failed.
    pub(super) async fn audit(&self, tx: &mut Tx, event: &'static str, actor: &str) -> Result<(), StoreError> {
        for (scope, entities) in self.touched.values() {
            let extra = json!({"actions": entities, "method": "PATCH"});
            audit::write(tx, *scope, &[Record::new(event, actor).extra(extra)]);
        }
        Ok(())
    }

    /// The answer.
    pub(super) fn json(&self) -> Value {
        let part = |kind: Kind| match (self.success.get(&kind), self.errors.get(&kind)) {
            (None, None) => Value::Null,
            (success, errors) => json!({
                "success": success.cloned().unwrap_or_default(),
                "errors": errors.cloned().unwrap_or_default(),
            }),
        };
        json!({
            "create": part(Kind::Create),
            "update": part(Kind::Update),
            "delete": part(Kind::Delete),
        })
    }
}

/// Names as Python writes a set of them.
pub(super) fn python_set<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names: Vec<String> = names
        .into_iter()
        .map(|name| super::task_instance_json::python_text(&name.into()))
        .collect();
    names.sort();
    names.dedup();
    format!("{{{}}}", names.join(", "))
}
