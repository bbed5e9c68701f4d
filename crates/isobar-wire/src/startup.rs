//! The first frame of a task: `StartupDetails`.

use isobar_model::render_time;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::workload::Workload;

/// Builds the body of the first frame from the workload and from `context`, the answer to
/// [`Operation::Run`](crate::execution::Operation::Run).
///
/// `start_date` is that of the context where it has one (a resumed task keeps its first start), else `now`.
#[must_use]
pub fn startup_details(workload: &Workload, context: &Value, now: Timestamp) -> Value {
    let identity = &workload.identity;
    let start_date = context
        .get("start_date")
        .filter(|date| !date.is_null())
        .cloned()
        .unwrap_or_else(|| Value::String(render_time(now)));
    json!({
        "type": "StartupDetails",
        "ti": {
            "id": identity.ti_id.0.to_string(),
            "task_id": identity.task_id.as_str(),
            "dag_id": identity.dag_id.as_str(),
            "run_id": identity.run_id.as_str(),
            "try_number": identity.try_number,
            "dag_version_id": workload.dag_version_id.to_string(),
            "map_index": identity.map_index,
            "hostname": null,
            "context_carrier": null,
            "queue": workload.queue,
        },
        "dag_rel_path": workload.dag_rel_path,
        "bundle_info": {"name": workload.bundle, "version": workload.bundle_version},
        "start_date": start_date,
        "ti_context": context,
        "sentry_integration": "",
    })
}
