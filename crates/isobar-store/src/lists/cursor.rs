//! Paging by position instead of by count: the next page starts after the last row's keys, however long the list is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use uuid::Uuid;

use super::ordering::{Kind, Ordering};
use super::select::Select;
use crate::StoreError;
use crate::db::{Dialect, Row, Val};

/// Lists paged by cursor are counted no further than this, as in Airflow.
pub const COUNTED: i64 = 50_000;

/// A position in an ordered list.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    keys: Vec<Val>,
    /// Whether the page before the position is meant.
    pub(crate) backwards: bool,
}

/// A page and its neighbours.
#[derive(Clone, Debug)]
pub struct CursorPage<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// How many rows match, at most [`COUNTED`].
    pub total: i64,
    /// Where the next page starts.
    pub next: Option<Cursor>,
    /// Where the page before ends.
    pub previous: Option<Cursor>,
}

/// What is wrong with a cursor that a caller sent, in Airflow's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCursor {
    /// Not one of ours.
    #[error("Invalid cursor token")]
    Unreadable,
    /// Decodes to something else than a list.
    #[error("Invalid cursor token structure")]
    Structure,
    /// Made for another order.
    #[error("Cursor token does not match current query shape")]
    OtherOrder,
}

impl Cursor {
    /// Writes it for a URL.
    #[must_use]
    pub fn encode(&self) -> String {
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|key| match key {
                Val::Int(v) => Value::from(*v),
                Val::Real(v) => Value::from(*v),
                Val::Bool(v) => Value::from(*v),
                Val::Text(v) => Value::from(v.clone()),
                Val::Uuid(v) => Value::from(v.map(|v| v.to_string())),
                Val::Bytes(_) => Value::Null,
            })
            .collect();
        let token = URL_SAFE_NO_PAD.encode(Value::from(keys).to_string());
        if self.backwards { format!("~{token}") } else { token }
    }

    /// Reads what [`Self::encode`] wrote for the same order.
    ///
    /// # Errors
    /// [`BadCursor`].
    pub fn decode(text: &str, order: &Ordering) -> Result<Self, BadCursor> {
        let (token, backwards) = text.strip_prefix('~').map_or((text, false), |token| (token, true));
        let bytes = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|_| BadCursor::Unreadable)?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| BadCursor::Unreadable)?;
        let Value::Array(values) = value else {
            return Err(BadCursor::Structure);
        };
        if values.len() != order.keys.len() {
            return Err(BadCursor::OtherOrder);
        }
        let keys = values
            .into_iter()
            .zip(&order.keys)
            .map(|(value, (_, kind, _))| key_of(&value, *kind))
            .collect::<Result<_, _>>()?;
        Ok(Self { keys, backwards })
    }

    /// The position of a row that was read with its `order_key_N` columns.
    pub(crate) fn at(row: &Row, order: &Ordering, backwards: bool) -> Result<Self, StoreError> {
        let keys = order
            .keys
            .iter()
            .enumerate()
            .map(|(index, (_, kind, _))| {
                let column = format!("order_key_{index}");
                Ok(match kind {
                    Kind::Int => Val::Int(row.maybe_int(&column)?),
                    Kind::Text => Val::Text(row.maybe_text(&column)?),
                    Kind::Real => Val::Real(row.real(&column)?),
                    Kind::Uuid => Val::Uuid(row.maybe_uuid(&column)?),
                })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Self { keys, backwards })
    }

    /// The condition "after this position", nulls where each database puts them.
    pub(crate) fn condition(&self, select: &mut Select, order: &Ordering) -> String {
        let mut inner = String::new();
        for ((sql, _, descending), key) in order.keys.iter().zip(&self.keys).rev() {
            let descending = *descending != self.backwards;
            let nulls_last = (select.dialect() == Dialect::Postgres) != descending;
            let (loose, strict) = if is_null(key) {
                if nulls_last {
                    (format!("{sql} IS NULL"), "1=0".to_owned())
                } else {
                    ("1=1".to_owned(), format!("{sql} IS NOT NULL"))
                }
            } else {
                let placeholder = select.bind(key.clone());
                let sign = if descending { "<" } else { ">" };
                let or_null = if nulls_last {
                    format!(" OR {sql} IS NULL")
                } else {
                    String::new()
                };
                (
                    format!("({sql} {sign}= {placeholder}{or_null})"),
                    format!("({sql} {sign} {placeholder}{or_null})"),
                )
            };
            inner = if inner.is_empty() {
                strict
            } else {
                format!("({loose} AND ({strict} OR {inner}))")
            };
        }
        if inner.is_empty() { "1=1".to_owned() } else { inner }
    }
}

fn is_null(key: &Val) -> bool {
    matches!(
        key,
        Val::Int(None) | Val::Real(None) | Val::Bool(None) | Val::Text(None) | Val::Uuid(None) | Val::Bytes(None)
    )
}

fn key_of(value: &Value, kind: Kind) -> Result<Val, BadCursor> {
    let null = value.is_null();
    let read = match kind {
        Kind::Int => Val::Int(value.as_i64()),
        Kind::Real => Val::Real(value.as_f64()),
        Kind::Text => Val::Text(value.as_str().map(str::to_owned)),
        Kind::Uuid => Val::Uuid(value.as_str().and_then(|text| text.parse::<Uuid>().ok())),
    };
    if is_null(&read) && !null {
        return Err(BadCursor::Unreadable);
    }
    Ok(read)
}
