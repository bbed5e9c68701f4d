//! Values of the state stores, as bodies bring them.

use serde_json::Value;

use super::python_json::dumps;
use crate::extract::Fields;

/// `[state_store] max_value_storage_bytes`, as Airflow ships it.
const MOST_BYTES: usize = 65_535;
/// `[state_store] default_retention_days`, as Airflow ships it.
pub(super) const RETENTION_DAYS: i64 = 30;

/// The field `value`: anything but null, within Airflow's limit.
pub(super) fn value(fields: &mut Fields) -> Value {
    if !fields.require("value") {
        return Value::Null;
    }
    let value = fields.any("value").unwrap_or_default();
    if value.is_null() {
        fields.refuse(Some("value"), "value cannot be null");
    } else if dumps(&value).len() > MOST_BYTES {
        fields.refuse(
            Some("value"),
            &format!(
                "value exceeds max_value_storage_bytes ({MOST_BYTES}); raise [state_store] max_value_storage_bytes or set it to 0 \
                 to disable the limit"
            ),
        );
    }
    value
}
