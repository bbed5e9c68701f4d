//! Values to bind. Typed also where null, so that PostgreSQL infers no parameter as text.

use isobar_model::{
    DagId, Dispatch, RunId, RunState, RunTrigger, RunType, TaskId, TaskState, TeamId, TeamName, TiId, to_micros,
};
use jiff::Timestamp;
use uuid::Uuid;

/// One bound value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Val {
    Int(Option<i64>),
    Real(Option<f64>),
    Bool(Option<bool>),
    Text(Option<String>),
    Uuid(Option<Uuid>),
    Bytes(Option<Vec<u8>>),
}

/// Builds the list of bound values of a statement: `vals![team, dag_id, Some(3)]`.
macro_rules! vals {
    ($($value:expr),* $(,)?) => { vec![$($crate::db::Val::from($value)),*] };
}
pub(crate) use vals;

macro_rules! val_from {
    ($($type:ty => $variant:ident, |$v:ident| $into:expr;)+) => { $(
        impl From<$type> for Val { fn from($v: $type) -> Self { Self::$variant(Some($into)) } }
        impl From<Option<$type>> for Val { fn from(v: Option<$type>) -> Self { Self::$variant(v.map(|$v| $into)) } }
    )+ };
}

val_from! {
    i64 => Int, |v| v;
    i32 => Int, |v| i64::from(v);
    u32 => Int, |v| i64::from(v);
    f64 => Real, |v| v;
    bool => Bool, |v| v;
    String => Text, |v| v;
    &str => Text, |v| v.to_owned();
    &String => Text, |v| v.clone();
    Uuid => Uuid, |v| v;
    TiId => Uuid, |v| v.0;
    Vec<u8> => Bytes, |v| v;
    Timestamp => Int, |v| to_micros(v);
    TeamId => Int, |v| i64::from(v.0);
    Dispatch => Int, |v| v.0;
    &DagId => Text, |v| v.as_str().to_owned();
    &RunId => Text, |v| v.as_str().to_owned();
    &TaskId => Text, |v| v.as_str().to_owned();
    &TeamName => Text, |v| v.as_str().to_owned();
    TaskState => Text, |v| v.as_str().to_owned();
    RunState => Text, |v| v.as_str().to_owned();
    RunType => Text, |v| v.as_str().to_owned();
    RunTrigger => Text, |v| v.as_str().to_owned();
    &serde_json::Value => Text, |v| v.to_string();
}

/// The text `($1, $2), ($3, $4)` for rows of values, and the values in that order. The first placeholder is `first`.
pub(crate) fn values_list(first: usize, rows: Vec<Vec<Val>>) -> (String, Vec<Val>) {
    use std::fmt::Write;
    let mut text = String::new();
    let mut all = Vec::new();
    let mut next = first;
    for (index, row) in rows.into_iter().enumerate() {
        text.push_str(if index == 0 { "(" } else { ", (" });
        for column in 0..row.len() {
            if column > 0 {
                text.push_str(", ");
            }
            let _ = write!(text, "${next}");
            next += 1;
        }
        text.push(')');
        all.extend(row);
    }
    (text, all)
}
