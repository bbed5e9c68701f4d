//! Questions that tasks put to people, and the answers.

use isobar_auth::TeamScope;
use isobar_model::{TiId, to_micros};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::db::{Row, vals};
use crate::{StoreError, Tx};

/// A question and, once given, its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HitlDetail {
    /// The question as the task put it: `options`, `subject`, `body`, `defaults`, `multiple`, `params`, `assigned_users`.
    pub detail: Value,
    /// When it was put.
    pub created_at: Timestamp,
    /// When it was answered.
    pub responded_at: Option<Timestamp>,
    /// The answer: `chosen_options`, `params_input`, `responded_by_user`; null while there is none.
    pub response: Value,
}

impl HitlDetail {
    pub(crate) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            detail: row.json("detail")?,
            created_at: row.time("created_at")?,
            responded_at: row.maybe_time("responded_at")?,
            response: row.json("response")?,
        })
    }

    /// Whether somebody, or the time-out, has answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.responded_at.is_some()
    }

    /// The answer as the task's method takes it, in the form that Airflow's serializer writes.
    pub(crate) fn event(&self, timed_out: bool) -> Value {
        let or = |value: &Value, other: Value| if value.is_null() { other } else { value.clone() };
        json!({
            "chosen_options": or(&self.response["chosen_options"], json!([])),
            "params_input": or(&self.response["params_input"], json!({})),
            "responded_at": self.responded_at.map(instant),
            "responded_by_user": self.response["responded_by_user"],
            "timedout": timed_out,
        })
    }

    /// What counts as the answer where nobody gave one: the defaults, and what the form's fields hold at first.
    pub(crate) fn default_response(&self) -> Option<Value> {
        let defaults = self.detail["defaults"].as_array()?;
        let params: Map<String, Value> = self.detail["params"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, param)| {
                let value = param.as_object().and_then(|param| param.get("value")).unwrap_or(param);
                (key.clone(), value.clone())
            })
            .collect();
        Some(json!({"chosen_options": defaults, "params_input": params, "responded_by_user": null}))
    }
}

/// An instant as Airflow's serializer writes a `datetime` in UTC.
fn instant(at: Timestamp) -> Value {
    json!({
        "__classname__": "datetime.datetime",
        "__version__": 2,
        "__data__": {
            "timestamp": to_micros(at) as f64 / 1e6,
            "tz": {
                "__classname__": "builtins.tuple",
                "__version__": 1,
                "__data__": ["UTC", "pendulum.tz.timezone.FixedTimezone", 1, true],
            },
        },
    })
}

/// The question of a try; none where it put none.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, ti_id: TiId) -> Result<Option<HitlDetail>, StoreError> {
    let row = tx
        .row(
            "SELECT detail, created_at, responded_at, response FROM hitl_detail WHERE team_no = $1 AND ti_id = $2",
            vals![scope.team(), ti_id],
        )
        .await?;
    row.as_ref().map(HitlDetail::read).transpose()
}

/// Puts a question. Where the try has put one already that one stays, and an old answer is taken away.
///
/// # Errors
/// The database failed.
pub async fn ask(tx: &mut Tx, scope: TeamScope, ti_id: TiId, detail: &Value, now: Timestamp) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO hitl_detail (team_no, ti_id, detail, created_at, subject, body) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (team_no, ti_id) DO UPDATE SET responded_at = NULL, response = NULL, responder_id = NULL, \
         responder_name = NULL",
        vals![
            scope.team(),
            ti_id,
            detail,
            now,
            detail["subject"].as_str(),
            detail["body"].as_str()
        ],
    )
    .await
    .map(drop)
}

/// Answers a question; false where it is missing or has an answer already.
///
/// # Errors
/// The database failed.
pub async fn answer(
    tx: &mut Tx,
    scope: TeamScope,
    ti_id: TiId,
    response: &Value,
    now: Timestamp,
) -> Result<bool, StoreError> {
    tx.run(
        "UPDATE hitl_detail SET responded_at = $1, response = $2, responder_id = $5, responder_name = $6 \
         WHERE team_no = $3 AND ti_id = $4 AND responded_at IS NULL",
        vals![
            now,
            response,
            scope.team(),
            ti_id,
            response["responded_by_user"]["id"].as_str(),
            response["responded_by_user"]["name"].as_str()
        ],
    )
    .await
    .map(|rows| rows > 0)
}
