//! What a child asks of its supervisor: the 55 messages of the Task SDK's `ToSupervisor` union, typed.

use isobar_model::{AirflowTime, MapIndex};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Why a request's body is not a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No `type`, or not a string.
    #[error("the message has no `type`")]
    NoType,
    /// A type that Task SDK 1.3 does not have.
    #[error("unknown message type `{0}`")]
    UnknownType(String),
    /// The fields do not fit the type.
    #[error("a `{kind}` message cannot be read: {reason}")]
    Fields {
        /// The type.
        kind: String,
        /// Which field, and why.
        reason: String,
    },
}

macro_rules! to_supervisor {
    ($($name:ident { $($field:ident: $type:ty $(= $default:literal)?),* $(,)? })*) => {
        $(
            #[doc = concat!("The fields of Airflow's `", stringify!($name), "`.")]
            #[derive(Clone, Debug, PartialEq, Deserialize)]
            #[allow(missing_docs, reason = "fields carry the names of Airflow's messages")]
            pub struct $name {
                $($(#[serde(default = $default)])? pub $field: $type,)*
            }
        )*

        /// One message of a child.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "variants carry the names of Airflow's messages")]
        pub enum ToSupervisor {
            $($name($name),)*
        }

        impl ToSupervisor {
            /// Reads a body, told apart by its `type`. Unknown fields are ignored, as pydantic ignores them.
            ///
            /// # Errors
            /// Says which type or field is wrong.
            pub fn read(mut body: Map<String, Value>) -> Result<Self, MessageError> {
                let Some(Value::String(kind)) = body.remove("type") else {
                    return Err(MessageError::NoType);
                };
                let body = Value::Object(body);
                let read = match kind.as_str() {
                    $(stringify!($name) => serde_json::from_value(body).map(Self::$name),)*
                    _ => return Err(MessageError::UnknownType(kind)),
                };
                read.map_err(|error| MessageError::Fields { kind, reason: error.to_string() })
            }

            /// Airflow's name of the message.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// All types there are.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($name)),*];
        }
    };
}

fn minus_one() -> MapIndex {
    -1
}

fn yes() -> bool {
    true
}

fn one() -> i32 {
    1
}

fn thousand() -> u32 {
    1000
}

/// A member that may be left out, or `null`, or there.
fn nothing<T: Default>() -> T {
    T::default()
}

/// `null` reads as an empty list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOrNull(pub Vec<Value>);

impl<'de> Deserialize<'de> for ListOrNull {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer)?.unwrap_or_default()))
    }
}

to_supervisor! {
    AwaitInputTask { next_method: String, timeout: Value = "nothing", next_kwargs: Value = "nothing", rendered_map_index: Option<String> = "nothing" }
    ClearAssetStateStoreByName { name: String }
    ClearAssetStateStoreByUri { uri: String }
    ClearTaskStateStore { ti_id: String }
    CreateHITLDetailPayload { ti_id: String, options: Vec<Value>, subject: String, body: Value = "nothing", defaults: Value = "nothing", multiple: Value = "nothing", params: Value = "nothing", assigned_users: Value = "nothing" }
    DeferTask { classpath: String, next_method: String, trigger_kwargs: Value = "nothing", trigger_timeout: Value = "nothing", queue: Value = "nothing", next_kwargs: Value = "nothing", rendered_map_index: Option<String> = "nothing" }
    DeleteAssetStateStoreByName { name: String, key: String }
    DeleteAssetStateStoreByUri { uri: String, key: String }
    DeleteTaskStateStore { ti_id: String, key: String }
    DeleteVariable { key: String }
    DeleteXCom { key: String, dag_id: String, run_id: String, task_id: String, map_index: Option<MapIndex> = "nothing" }
    GetAssetByName { name: String }
    GetAssetByUri { uri: String }
    GetAssetEventByAsset { name: Option<String>, uri: Option<String>, after: Option<AirflowTime> = "nothing", before: Option<AirflowTime> = "nothing", limit: Option<u32> = "nothing", ascending: bool = "yes" }
    GetAssetEventByAssetAlias { alias_name: String, after: Option<AirflowTime> = "nothing", before: Option<AirflowTime> = "nothing", limit: Option<u32> = "nothing", ascending: bool = "yes" }
    GetAssetsByAlias { alias_name: String }
    GetAssetStateStoreByName { name: String, key: String }
    GetAssetStateStoreByUri { uri: String, key: String }
    GetConnection { conn_id: String }
    GetDag { dag_id: String }
    GetDagRun { dag_id: String, run_id: String }
    GetDagRunState { dag_id: String, run_id: String }
    GetDRCount { dag_id: String, logical_dates: Option<Vec<AirflowTime>> = "nothing", run_ids: Option<Vec<String>> = "nothing", states: Option<Vec<String>> = "nothing" }
    GetHITLDetailResponse { ti_id: String }
    GetPreviousDagRun { dag_id: String, logical_date: AirflowTime, state: Option<String> = "nothing" }
    GetPreviousTI { dag_id: String, task_id: String, logical_date: Option<AirflowTime> = "nothing", map_index: MapIndex = "minus_one", state: Option<String> = "nothing" }
    GetPrevSuccessfulDagRun { ti_id: String }
    GetTaskBreadcrumbs { dag_id: String, run_id: String }
    GetTaskRescheduleStartDate { ti_id: String, try_number: i32 = "one" }
    GetTaskStates { dag_id: String, map_index: Option<MapIndex> = "nothing", task_ids: Option<Vec<String>> = "nothing", task_group_id: Option<String> = "nothing", logical_dates: Option<Vec<AirflowTime>> = "nothing", run_ids: Option<Vec<String>> = "nothing" }
    GetTaskStateStore { ti_id: String, key: String }
    GetTICount { dag_id: String, map_index: Option<MapIndex> = "nothing", task_ids: Option<Vec<String>> = "nothing", task_group_id: Option<String> = "nothing", logical_dates: Option<Vec<AirflowTime>> = "nothing", run_ids: Option<Vec<String>> = "nothing", states: Option<Vec<String>> = "nothing" }
    GetVariable { key: String }
    GetVariableKeys { prefix: Option<String> = "nothing", limit: u32 = "thousand", offset: u32 = "nothing" }
    GetXCom { key: String, dag_id: String, run_id: String, task_id: String, map_index: Option<MapIndex> = "nothing", include_prior_dates: bool = "nothing" }
    GetXComCount { key: String, dag_id: String, run_id: String, task_id: String }
    GetXComSequenceItem { key: String, dag_id: String, run_id: String, task_id: String, offset: i64 }
    GetXComSequenceSlice { key: String, dag_id: String, run_id: String, task_id: String, start: Option<i64> = "nothing", stop: Option<i64> = "nothing", step: Option<i64> = "nothing", include_prior_dates: bool = "nothing" }
    MaskSecret { value: Value, name: Option<String> = "nothing" }
    PutVariable { key: String, value: Option<String>, description: Option<String> }
    RescheduleTask { reschedule_date: AirflowTime, end_date: AirflowTime }
    ResendLoggingFD {}
    RetryTask { end_date: AirflowTime, rendered_map_index: Option<String> = "nothing", retry_delay_seconds: Option<f64> = "nothing", retry_reason: Option<String> = "nothing" }
    SetAssetStateStoreByName { name: String, key: String, value: Value }
    SetAssetStateStoreByUri { uri: String, key: String, value: Value }
    SetRenderedFields { rendered_fields: Value }
    SetRenderedMapIndex { rendered_map_index: String }
    SetTaskStateStore { ti_id: String, key: String, value: Value, expires_at: Option<AirflowTime> = "nothing" }
    SetXCom { key: String, value: Value, dag_id: String, run_id: String, task_id: String, map_index: Option<MapIndex> = "nothing", dag_result: bool = "nothing", mapped_length: Option<i64> = "nothing" }
    SkipDownstreamTasks { tasks: Vec<Value> }
    SucceedTask { end_date: AirflowTime, task_outlets: ListOrNull = "nothing", outlet_events: ListOrNull = "nothing", rendered_map_index: Option<String> = "nothing" }
    TaskState { state: String, end_date: Option<AirflowTime> = "nothing", rendered_map_index: Option<String> = "nothing" }
    TriggerDagRun { dag_id: String, run_id: String, logical_date: Option<AirflowTime> = "nothing", run_after: Option<AirflowTime> = "nothing", conf: Value = "nothing", reset_dag_run: Option<bool> = "nothing", partition_key: Option<String> = "nothing", note: Option<String> = "nothing" }
    UpdateHITLDetail { ti_id: String, chosen_options: Vec<Value>, params_input: Value = "nothing" }
    ValidateInletsAndOutlets { ti_id: String }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<ToSupervisor, MessageError> {
        let Value::Object(body) = body else {
            panic!("a test body is a map")
        };
        ToSupervisor::read(body)
    }

    #[test]
    fn there_are_55_messages() {
        assert_eq!(ToSupervisor::KINDS.len(), 55);
    }

    #[test]
    fn defaults_are_those_of_the_sdk() {
        let got = read(json!({"type": "GetVariableKeys"})).unwrap();
        let wanted = GetVariableKeys {
            prefix: None,
            limit: 1000,
            offset: 0,
        };
        assert_eq!(got, ToSupervisor::GetVariableKeys(wanted));
        let ToSupervisor::SucceedTask(succeeded) = read(
            json!({"type": "SucceedTask", "end_date": "2026-01-01T00:00:00Z", "task_outlets": null, "state": "success"}),
        )
        .unwrap() else {
            panic!("not SucceedTask")
        };
        assert_eq!(succeeded.task_outlets.0, Vec::<Value>::new());
    }

    #[test]
    fn a_bad_message_says_what_is_wrong_with_it() {
        assert_eq!(read(json!({})), Err(MessageError::NoType));
        assert_eq!(
            read(json!({"type": "Nonsense"})),
            Err(MessageError::UnknownType("Nonsense".into()))
        );
        let error = read(json!({"type": "GetVariable"})).unwrap_err().to_string();
        assert_eq!(error, "a `GetVariable` message cannot be read: missing field `key`");
        let error = read(json!({"type": "GetVariable", "key": 5})).unwrap_err().to_string();
        assert!(error.contains("expected a string"), "{error}");
    }
}
