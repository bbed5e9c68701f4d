//! What a message asks of the control plane.

use isobar_model::MapIndex;
use serde_json::{Map, Value, json};

use super::{Request, Shape};
use crate::execution::{AssetRef, Operation, TaskEnd, TaskFilter, XComKey};
use crate::messages::ToSupervisor;

/// Plans a message. Task-instance ids inside messages are not looked at: see [`names_other_task`].
#[must_use]
pub fn plan(message: ToSupervisor) -> Request {
    use Request::{Ask, End, EndAtExit};
    use Shape::{Empty, Typed};
    use ToSupervisor as M;
    match message {
        M::SucceedTask(m) => End(TaskEnd::Success {
            end_date: m.end_date,
            task_outlets: m.task_outlets.0,
            outlet_events: m.outlet_events.0,
            rendered_map_index: m.rendered_map_index,
        }),
        M::RetryTask(m) => End(TaskEnd::UpForRetry {
            end_date: m.end_date,
            retry_delay_seconds: m.retry_delay_seconds,
            retry_reason: m.retry_reason,
            rendered_map_index: m.rendered_map_index,
        }),
        M::DeferTask(m) => End(TaskEnd::Deferred(json!({
            "classpath": m.classpath,
            "trigger_kwargs": m.trigger_kwargs,
            "trigger_timeout": m.trigger_timeout,
            "queue": m.queue,
            "next_method": m.next_method,
            "next_kwargs": m.next_kwargs,
            "rendered_map_index": m.rendered_map_index,
        }))),
        M::AwaitInputTask(m) => End(TaskEnd::AwaitingInput(json!({
            "timeout": m.timeout,
            "next_method": m.next_method,
            "next_kwargs": m.next_kwargs,
            "rendered_map_index": m.rendered_map_index,
        }))),
        M::RescheduleTask(m) => End(TaskEnd::UpForReschedule {
            reschedule_date: m.reschedule_date,
            end_date: m.end_date,
        }),
        M::TaskState(m) => {
            let end_date = m
                .end_date
                .unwrap_or_else(|| isobar_model::AirflowTime(jiff::Timestamp::now()));
            let rendered_map_index = m.rendered_map_index;
            EndAtExit(match m.state.as_str() {
                "skipped" => TaskEnd::Skipped {
                    end_date,
                    rendered_map_index,
                },
                "removed" => TaskEnd::Removed {
                    end_date,
                    rendered_map_index,
                },
                // The SDK sends no other; what it cannot mean must not pass for success.
                _ => TaskEnd::Failed {
                    end_date,
                    rendered_map_index,
                },
            })
        }

        M::GetConnection(m) => Ask(
            Operation::GetConnection {
                conn_id: m.conn_id.clone(),
            },
            Shape::Connection(m.conn_id),
        ),
        M::GetVariable(m) => Ask(Operation::GetVariable { key: m.key.clone() }, Shape::Variable(m.key)),
        M::GetVariableKeys(m) => Ask(
            Operation::VariableKeys {
                prefix: m.prefix,
                limit: m.limit,
                offset: m.offset,
            },
            Typed("VariableKeysResult"),
        ),
        M::PutVariable(m) => Ask(
            Operation::PutVariable {
                key: m.key,
                value: m.value,
                description: m.description,
            },
            Empty,
        ),
        M::DeleteVariable(m) => Ask(Operation::DeleteVariable { key: m.key }, Shape::Ok),

        M::GetXCom(m) => Ask(
            Operation::GetXCom {
                xcom: xcom(m.dag_id, m.run_id, m.task_id, m.key.clone()),
                map_index: mapped(m.map_index),
                include_prior_dates: m.include_prior_dates,
                offset: None,
            },
            Shape::XCom(m.key),
        ),
        M::GetXComCount(m) => Ask(
            Operation::CountXCom {
                xcom: xcom(m.dag_id, m.run_id, m.task_id, m.key),
            },
            Shape::XComCount,
        ),
        M::GetXComSequenceItem(m) => {
            let detail = json!({
                "dag_id": m.dag_id, "run_id": m.run_id, "task_id": m.task_id, "key": m.key, "offset": m.offset,
            });
            Ask(
                Operation::XComItem {
                    xcom: xcom(m.dag_id, m.run_id, m.task_id, m.key),
                    offset: m.offset,
                },
                Shape::OrMissing("XComSequenceIndexResult", "XCOM_NOT_FOUND", detail),
            )
        }
        M::GetXComSequenceSlice(m) => Ask(
            Operation::XComSlice {
                xcom: xcom(m.dag_id, m.run_id, m.task_id, m.key),
                start: m.start,
                stop: m.stop,
                step: m.step,
                include_prior_dates: m.include_prior_dates,
            },
            Shape::Wrapped("XComSequenceSliceResult", "root"),
        ),
        M::SetXCom(m) => Ask(
            Operation::SetXCom {
                xcom: xcom(m.dag_id, m.run_id, m.task_id, m.key),
                value: m.value,
                map_index: mapped(m.map_index),
                dag_result: m.dag_result,
                mapped_length: m.mapped_length.filter(|length| *length >= 0),
            },
            Empty,
        ),
        M::DeleteXCom(m) => Ask(
            Operation::DeleteXCom {
                xcom: xcom(m.dag_id, m.run_id, m.task_id, m.key),
                map_index: mapped(m.map_index),
            },
            Empty,
        ),

        M::SetRenderedFields(m) => Ask(Operation::SetRenderedFields(m.rendered_fields), Shape::RenderedFields),
        M::SetRenderedMapIndex(m) => Ask(Operation::SetRenderedMapIndex(m.rendered_map_index), Empty),
        M::SkipDownstreamTasks(m) => Ask(Operation::SkipDownstream { tasks: m.tasks }, Empty),
        M::ValidateInletsAndOutlets(_) => Ask(Operation::ValidateInletsAndOutlets, Typed("InactiveAssetsResult")),
        M::GetPrevSuccessfulDagRun(_) => Ask(Operation::PreviousSuccessfulDagRun, Typed("PrevSuccessfulDagRunResult")),
        M::GetTaskRescheduleStartDate(m) => Ask(
            Operation::RescheduleStartDate {
                try_number: Some(m.try_number),
            },
            Shape::Wrapped("TaskRescheduleStartDate", "start_date"),
        ),

        M::TriggerDagRun(m) => trigger(m),
        M::GetDagRun(m) => Ask(
            Operation::GetDagRun {
                dag_id: m.dag_id,
                run_id: m.run_id,
            },
            Typed("DagRunResult"),
        ),
        M::GetDagRunState(m) => Ask(
            Operation::DagRunState {
                dag_id: m.dag_id,
                run_id: m.run_id,
            },
            Typed("DagRunStateResult"),
        ),
        M::GetPreviousDagRun(m) => Ask(
            Operation::PreviousDagRun {
                dag_id: m.dag_id,
                logical_date: m.logical_date,
                state: m.state,
            },
            Shape::Wrapped("PreviousDagRunResult", "dag_run"),
        ),
        M::GetDRCount(m) => Ask(
            Operation::CountDagRuns {
                dag_id: m.dag_id,
                logical_dates: m.logical_dates,
                run_ids: m.run_ids,
                states: m.states,
            },
            Shape::Wrapped("DRCount", "count"),
        ),
        M::GetDag(m) => Ask(Operation::GetDag { dag_id: m.dag_id }, Typed("DagResult")),

        M::GetTICount(m) => Ask(
            Operation::CountTasks(TaskFilter {
                dag_id: m.dag_id,
                map_index: mapped(m.map_index),
                task_ids: m.task_ids,
                task_group_id: m.task_group_id,
                logical_dates: m.logical_dates,
                run_ids: m.run_ids,
                states: m.states,
            }),
            Shape::Wrapped("TICount", "count"),
        ),
        M::GetTaskStates(m) => Ask(
            Operation::TaskStates(TaskFilter {
                dag_id: m.dag_id,
                map_index: mapped(m.map_index),
                task_ids: m.task_ids,
                task_group_id: m.task_group_id,
                logical_dates: m.logical_dates,
                run_ids: m.run_ids,
                states: None,
            }),
            Typed("TaskStatesResult"),
        ),
        M::GetPreviousTI(m) => Ask(
            Operation::PreviousTask {
                dag_id: m.dag_id,
                task_id: m.task_id,
                logical_date: m.logical_date,
                run_id: None,
                map_index: m.map_index,
                state: m.state,
            },
            Shape::Wrapped("PreviousTIResult", "task_instance"),
        ),
        M::GetTaskBreadcrumbs(m) => Ask(
            Operation::TaskBreadcrumbs {
                dag_id: m.dag_id,
                run_id: m.run_id,
            },
            Typed("TaskBreadcrumbsResult"),
        ),

        M::GetAssetByName(m) => {
            let detail = json!({"name": m.name});
            Ask(
                Operation::AssetByName { name: m.name },
                Shape::OrMissing("AssetResult", "ASSET_NOT_FOUND", detail),
            )
        }
        M::GetAssetByUri(m) => {
            let detail = json!({"uri": m.uri});
            Ask(
                Operation::AssetByUri { uri: m.uri },
                Shape::OrMissing("AssetResult", "ASSET_NOT_FOUND", detail),
            )
        }
        M::GetAssetsByAlias(m) => Ask(Operation::AssetsByAlias { alias: m.alias_name }, Shape::Assets),
        M::GetAssetEventByAsset(m) => Ask(
            Operation::AssetEventsByAsset {
                name: m.name,
                uri: m.uri,
                after: m.after,
                before: m.before,
                ascending: m.ascending,
                limit: m.limit.filter(|limit| *limit > 0),
                partition_key: None,
            },
            Typed("AssetEventsResult"),
        ),
        M::GetAssetEventByAssetAlias(m) => Ask(
            Operation::AssetEventsByAlias {
                alias: m.alias_name,
                after: m.after,
                before: m.before,
                ascending: m.ascending,
                limit: m.limit.filter(|limit| *limit > 0),
                partition_key: None,
            },
            Typed("AssetEventsResult"),
        ),

        M::GetTaskStateStore(m) => {
            let detail = json!({"key": m.key});
            Ask(
                Operation::GetTaskStore { key: m.key },
                Shape::OrMissing("TaskStateStoreResult", "TASK_STORE_NOT_FOUND", detail),
            )
        }
        M::SetTaskStateStore(m) => Ask(
            Operation::SetTaskStore {
                key: m.key,
                value: m.value,
                expires_at: m.expires_at,
            },
            Shape::Ok,
        ),
        M::DeleteTaskStateStore(m) => Ask(Operation::DeleteTaskStore { key: m.key }, Shape::Ok),
        M::ClearTaskStateStore(_) => Ask(Operation::ClearTaskStore, Shape::Ok),
        M::GetAssetStateStoreByName(m) => get_asset_store(AssetRef::Name(m.name), m.key),
        M::GetAssetStateStoreByUri(m) => get_asset_store(AssetRef::Uri(m.uri), m.key),
        M::SetAssetStateStoreByName(m) => set_asset_store(AssetRef::Name(m.name), m.key, m.value),
        M::SetAssetStateStoreByUri(m) => set_asset_store(AssetRef::Uri(m.uri), m.key, m.value),
        M::DeleteAssetStateStoreByName(m) => delete_asset_store(AssetRef::Name(m.name), m.key),
        M::DeleteAssetStateStoreByUri(m) => delete_asset_store(AssetRef::Uri(m.uri), m.key),
        M::ClearAssetStateStoreByName(m) => clear_asset_store(AssetRef::Name(m.name)),
        M::ClearAssetStateStoreByUri(m) => clear_asset_store(AssetRef::Uri(m.uri)),

        M::CreateHITLDetailPayload(m) => Ask(
            Operation::CreateHitlDetail(json!({
                "ti_id": m.ti_id, "options": m.options, "subject": m.subject, "body": m.body, "defaults": m.defaults,
                "multiple": m.multiple, "params": m.params, "assigned_users": m.assigned_users,
            })),
            Typed("HITLDetailRequestResult"),
        ),
        M::UpdateHITLDetail(m) => Request::NotForTasks(
            Operation::UpdateHitlDetail {
                body: json!({
                    "ti_id": m.ti_id, "chosen_options": m.chosen_options, "params_input": m.params_input,
                }),
                ti_id: m.ti_id,
            },
            Typed("HITLDetailResponseResult"),
        ),
        M::GetHITLDetailResponse(m) => Request::NotForTasks(
            Operation::GetHitlDetail { ti_id: m.ti_id },
            Typed("HITLDetailResponseResult"),
        ),
        M::MaskSecret(m) => Request::Mask {
            value: m.value,
            name: m.name,
        },
        M::ResendLoggingFD(_) => Request::ResendLog,
    }
}

/// The id of a task instance that a message names though only the caller's own may be meant.
#[must_use]
pub fn names_other_task(message: &ToSupervisor, own: &str) -> bool {
    use ToSupervisor as M;
    let named = match message {
        M::ClearTaskStateStore(m) => &m.ti_id,
        M::CreateHITLDetailPayload(m) => &m.ti_id,
        M::DeleteTaskStateStore(m) => &m.ti_id,
        M::GetPrevSuccessfulDagRun(m) => &m.ti_id,
        M::GetTaskRescheduleStartDate(m) => &m.ti_id,
        M::GetTaskStateStore(m) => &m.ti_id,
        M::SetTaskStateStore(m) => &m.ti_id,
        M::ValidateInletsAndOutlets(m) => &m.ti_id,
        _ => return false,
    };
    named != own
}

fn xcom(dag_id: String, run_id: String, task_id: String, key: String) -> XComKey {
    XComKey {
        dag_id,
        run_id,
        task_id,
        key,
    }
}

/// The SDK writes "not mapped" as -1 or not at all.
fn mapped(map_index: Option<MapIndex>) -> Option<MapIndex> {
    map_index.filter(|index| *index >= 0)
}

fn trigger(m: crate::messages::TriggerDagRun) -> Request {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    set("logical_date", json!(m.logical_date));
    set("run_after", json!(m.run_after));
    set("conf", if m.conf.is_null() { json!({}) } else { m.conf });
    set("note", json!(m.note));
    set("partition_key", json!(m.partition_key));
    let reset = m.reset_dag_run.unwrap_or_default();
    if reset {
        set("reset_dag_run", json!(true));
    }
    Request::Trigger {
        reset: reset.then(|| Operation::ClearDagRun {
            dag_id: m.dag_id.clone(),
            run_id: m.run_id.clone(),
        }),
        operation: Operation::TriggerDagRun {
            dag_id: m.dag_id,
            run_id: m.run_id,
            body: Value::Object(body),
        },
    }
}

fn get_asset_store(asset: AssetRef, key: String) -> Request {
    let detail = json!({"key": key});
    Request::Ask(
        Operation::GetAssetStore { asset, key },
        Shape::OrMissing("AssetStateStoreResult", "ASSET_STORE_NOT_FOUND", detail),
    )
}

fn set_asset_store(asset: AssetRef, key: String, value: Value) -> Request {
    Request::Ask(Operation::SetAssetStore { asset, key, value }, Shape::Ok)
}

fn delete_asset_store(asset: AssetRef, key: String) -> Request {
    Request::Ask(Operation::DeleteAssetStore { asset, key }, Shape::Ok)
}

fn clear_asset_store(asset: AssetRef) -> Request {
    Request::Ask(Operation::ClearAssetStore { asset }, Shape::Ok)
}
