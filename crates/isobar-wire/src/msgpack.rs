//! msgpack as the Task SDK writes it, to JSON values and back.
//!
//! * Extension -1 (a timestamp) becomes an ISO 8601 string in UTC; other extensions are refused.
//! * Keys that are not strings become the strings that Python's `json` would make of them.
//! * Binary becomes base64, as pydantic writes bytes into JSON.
//! * NaN and the infinities have no JSON form: they become `null`, and the reader is told. Airflow's supervisor refuses
//!   an XCom that holds one (its HTTP client does); whoever stores values should refuse likewise rather than store `null`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isobar_model::render_time;
use jiff::Timestamp;
use rmpv::ValueRef;
use serde_json::{Map, Number, Value};

/// Nesting that is accepted; Python's own recursion limit stops its writer near 1000.
const MAX_DEPTH: usize = 512;
const TIMESTAMP_EXTENSION: i8 = -1;

/// Why bytes cannot be read as a value.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum MsgpackError {
    /// Not msgpack, or cut off, or nested too deeply.
    #[error("not valid msgpack: {0}")]
    Invalid(String),
    /// Bytes are left after the value.
    #[error("{0} bytes are left over after the value")]
    Trailing(usize),
    /// An extension type that the channel does not use.
    #[error("unknown msgpack extension type {0}")]
    UnknownExtension(i8),
    /// Extension -1, but not a timestamp.
    #[error("an impossible timestamp of {0} bytes")]
    BadTimestamp(usize),
}

/// A value that was read.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    /// The value.
    pub value: Value,
    /// Whether NaN or an infinity became `null`.
    pub lost_numbers: bool,
}

/// Reads exactly one value.
///
/// # Errors
/// See [`MsgpackError`].
pub fn decode(mut bytes: &[u8]) -> Result<Decoded, MsgpackError> {
    let value = rmpv::decode::read_value_ref_with_max_depth(&mut bytes, MAX_DEPTH)
        .map_err(|error| MsgpackError::Invalid(error.to_string()))?;
    if !bytes.is_empty() {
        return Err(MsgpackError::Trailing(bytes.len()));
    }
    let mut lost_numbers = false;
    let value = to_json(value, &mut lost_numbers)?;
    Ok(Decoded { value, lost_numbers })
}

fn to_json(value: ValueRef<'_>, lost: &mut bool) -> Result<Value, MsgpackError> {
    Ok(match value {
        ValueRef::Nil => Value::Null,
        ValueRef::Boolean(truth) => Value::Bool(truth),
        ValueRef::Integer(whole) => match (whole.as_i64(), whole.as_u64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(whole)) => whole.into(),
            (None, None) => Value::Null,
        },
        ValueRef::F32(number) => finite(f64::from(number), lost),
        ValueRef::F64(number) => finite(number, lost),
        ValueRef::String(text) => Value::String(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        ValueRef::Binary(bytes) => Value::String(STANDARD.encode(bytes)),
        ValueRef::Array(items) => {
            let items: Result<Vec<_>, _> = items.into_iter().map(|item| to_json(item, lost)).collect();
            Value::Array(items?)
        }
        ValueRef::Map(entries) => {
            let mut map = Map::with_capacity(entries.len());
            for (key, value) in entries {
                map.insert(key_text(key, lost)?, to_json(value, lost)?);
            }
            Value::Object(map)
        }
        ValueRef::Ext(TIMESTAMP_EXTENSION, bytes) => Value::String(timestamp(bytes)?),
        ValueRef::Ext(kind, _) => return Err(MsgpackError::UnknownExtension(kind)),
    })
}

fn finite(number: f64, lost: &mut bool) -> Value {
    Number::from_f64(number).map_or_else(
        || {
            *lost = true;
            Value::Null
        },
        Value::Number,
    )
}

fn key_text(key: ValueRef<'_>, lost: &mut bool) -> Result<String, MsgpackError> {
    Ok(match to_json(key, lost)? {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

/// Timestamps of 4, 8 and 12 bytes, as the msgpack specification lays them out.
fn timestamp(bytes: &[u8]) -> Result<String, MsgpackError> {
    let bad = || MsgpackError::BadTimestamp(bytes.len());
    let (seconds, nanoseconds) = match *bytes {
        [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
        [a, b, c, d, e, f, g, h] => {
            let packed = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            (
                i64::try_from(packed & 0x3_ffff_ffff).map_err(|_| bad())?,
                u32::try_from(packed >> 34).map_err(|_| bad())?,
            )
        }
        [n0, n1, n2, n3, a, b, c, d, e, f, g, h] => (
            i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            u32::from_be_bytes([n0, n1, n2, n3]),
        ),
        _ => return Err(bad()),
    };
    let nanoseconds = i32::try_from(nanoseconds)
        .ok()
        .filter(|n| *n < 1_000_000_000)
        .ok_or_else(bad)?;
    let at = Timestamp::new(seconds, nanoseconds).map_err(|_| bad())?;
    Ok(render_time(at))
}

/// Appends one value. Instants stay ISO strings, which the Task SDK reads as well as timestamps.
pub fn encode_into(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(truth) => out.push(if *truth { 0xc3 } else { 0xc2 }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => infallible(rmp::encode::write_str(out, text)),
        Value::Array(items) => {
            write_array_len(out, items.len());
            for item in items {
                encode_into(out, item);
            }
        }
        Value::Object(map) => {
            infallible(rmp::encode::write_map_len(out, len32(map.len())));
            for (key, value) in map {
                infallible(rmp::encode::write_str(out, key));
                encode_into(out, value);
            }
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: &Number) {
    if let Some(whole) = number.as_i64() {
        write_int(out, whole);
    } else if let Some(whole) = number.as_u64() {
        infallible(rmp::encode::write_uint(out, whole));
    } else {
        infallible(rmp::encode::write_f64(out, number.as_f64().unwrap_or(f64::NAN)));
    }
}

/// Appends a whole number in its shortest form.
pub(crate) fn write_int(out: &mut Vec<u8>, whole: i64) {
    infallible(rmp::encode::write_sint(out, whole));
}

/// Appends the head of an array.
pub(crate) fn write_array_len(out: &mut Vec<u8>, length: usize) {
    infallible(rmp::encode::write_array_len(out, len32(length)));
}

fn len32(length: usize) -> u32 {
    u32::try_from(length).expect("a JSON value in memory has fewer than 2^32 members")
}

fn infallible<T, E: std::fmt::Debug>(written: Result<T, E>) {
    written.expect("writing to a Vec cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn packed(value: &rmpv::Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    #[test]
    fn timestamps_of_every_length_read_as_airflow_writes_times() {
        let ext = |bytes: Vec<u8>| decode(&packed(&rmpv::Value::Ext(-1, bytes)));
        assert_eq!(ext(vec![0, 0, 0, 1]).unwrap().value, "1970-01-01T00:00:01Z");
        let micros = (500_000_000_u64 << 34) | 1_767_225_600;
        assert_eq!(
            ext(micros.to_be_bytes().to_vec()).unwrap().value,
            "2026-01-01T00:00:00.500000Z"
        );
        let mut before = 250_000_000_u32.to_be_bytes().to_vec();
        before.extend((-1_i64).to_be_bytes());
        assert_eq!(ext(before).unwrap().value, "1969-12-31T23:59:59.250000Z");
        assert_eq!(ext(vec![0; 3]), Err(MsgpackError::BadTimestamp(3)));
        assert_eq!(ext(vec![0xff; 12]), Err(MsgpackError::BadTimestamp(12)));
        assert_eq!(
            decode(&packed(&rmpv::Value::Ext(5, vec![1]))),
            Err(MsgpackError::UnknownExtension(5))
        );
    }

    #[test]
    fn what_json_lacks_is_said_and_not_guessed() {
        let nan = decode(&packed(&rmpv::Value::Array(vec![f64::NAN.into(), 1.5.into()]))).unwrap();
        assert_eq!((nan.value, nan.lost_numbers), (json!([null, 1.5]), true));
        let keys = rmpv::Value::Map(vec![
            (1.into(), 2.into()),
            (true.into(), 3.into()),
            (rmpv::Value::Nil, 4.into()),
        ]);
        let keys = decode(&packed(&keys)).unwrap();
        assert_eq!(
            (keys.value, keys.lost_numbers),
            (json!({"1": 2, "true": 3, "null": 4}), false)
        );
        assert_eq!(decode(&[1, 2]), Err(MsgpackError::Trailing(1)));
    }

    #[test]
    fn endless_nesting_is_refused() {
        assert!(matches!(decode(&vec![0x91; 100_000]), Err(MsgpackError::Invalid(_))));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(Value::from),
            ".{0,40}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::vec((".{0,10}", inner), 0..8)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_comes_back_as_it_went(value in any_json()) {
            let mut bytes = Vec::new();
            encode_into(&mut bytes, &value);
            let back = decode(&bytes).unwrap();
            prop_assert_eq!(back.value, value);
            prop_assert!(!back.lost_numbers);
        }
    }
}
