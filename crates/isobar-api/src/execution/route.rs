//! From method, path, query and body to an operation: every route of Airflow's Execution API, version 2026-06-30.

use axum::http::Method;
use isobar_model::UNMAPPED;
use isobar_wire::execution::{AssetRef, Operation, Refusal, TaskFilter, XComKey};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::query::Query;

/// What a token must be for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// The named task instance's own token, also one that only begins the task.
    Start(Uuid),
    /// The named task instance's own token.
    Self_(Uuid),
    /// Any running task's token.
    Any,
}

/// An operation and who may ask for it.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) operation: Operation,
    pub(super) wants: Wants,
}

/// The answer of the two routes without a token.
pub(super) fn health(path: &str) -> Value {
    if path == "health" {
        json!({"status": "healthy"})
    } else {
        json!({"ok": ["isobar"], "failing": {}})
    }
}

struct Request<'a> {
    method: &'a Method,
    query: Query,
    body: &'a [u8],
}

/// Finds the operation.
pub(super) fn route(method: &Method, path: &str, query: &str, body: &[u8]) -> Result<Routed, Refusal> {
    let parts: Vec<String> = path
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let request = Request {
        method,
        query: Query::read(query),
        body,
    };
    let found = match parts.as_slice() {
        ["task-instances", rest @ ..] => request.task_instances(rest)?,
        ["task-reschedules", id, "start_date"] if *method == Method::GET => {
            let try_number = request.query.number("try_number")?;
            Some(own(id, Operation::RescheduleStartDate { try_number })?)
        }
        ["connections", conn_id] if *method == Method::GET => Some(any(Operation::GetConnection {
            conn_id: (*conn_id).to_owned(),
        })),
        ["variables", key @ ..] if !key.is_empty() => request.variables(&key.join("/"))?,
        ["xcoms", dag, run, task, key @ ..] if !key.is_empty() => request.xcoms([dag, run, task], key)?,
        ["dag-runs", rest @ ..] => request.dag_runs(rest)?,
        ["dags", dag_id] if *method == Method::GET => Some(any(Operation::GetDag {
            dag_id: (*dag_id).to_owned(),
        })),
        ["assets", by] if *method == Method::GET => request.assets(by)?,
        ["asset-events", by] if *method == Method::GET => request.asset_events(by)?,
        ["hitlDetails", id] => request.hitl(id)?,
        ["store", "ti", id, key @ ..] => request.task_store(id, &key.join("/"))?,
        ["store", "asset", by, what] => request.asset_store(by, what)?,
        _ => None,
    };
    found.ok_or_else(|| Refusal::new(404, "Not Found"))
}

fn any(operation: Operation) -> Routed {
    Routed {
        operation,
        wants: Wants::Any,
    }
}

fn uuid(text: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(
            422,
            json!([{"type": "uuid_parsing", "loc": ["path", "task_instance_id"], "msg": "Input should be a valid UUID"}]),
        )
    })
}

fn own(id: &str, operation: Operation) -> Result<Routed, Refusal> {
    Ok(Routed {
        operation,
        wants: Wants::Self_(uuid(id)?),
    })
}

/// `PUT .../heartbeat`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Heartbeat {
    hostname: String,
    pid: i32,
}

/// `PUT /variables/{key}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariableBody {
    #[serde(alias = "value")]
    val: Option<String>,
    #[serde(default)]
    description: Option<String>,
}

/// `PUT /store/…`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreBody {
    value: Value,
    #[serde(default)]
    expires_at: Option<isobar_model::AirflowTime>,
}

/// `PATCH .../skip-downstream`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SkipBody {
    tasks: Vec<Value>,
}

impl Request<'_> {
    fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(self.body)).map_err(|error| {
            let place: Vec<Value> = std::iter::once(json!("body"))
                .chain(error.path().iter().map(|part| json!(part.to_string())))
                .collect();
            Refusal::new(
                422,
                json!([{"type": "value_error", "loc": place, "msg": error.inner().to_string()}]),
            )
        })
    }

    fn task_instances(&self, rest: &[&str]) -> Result<Option<Routed>, Refusal> {
        let routed = match (self.method.as_str(), rest) {
            ("GET", ["count"]) => any(Operation::CountTasks(self.task_filter()?)),
            ("GET", ["states"]) => any(Operation::TaskStates(self.task_filter()?)),
            ("GET", ["breadcrumbs"]) => any(Operation::TaskBreadcrumbs {
                dag_id: self.query.needed("dag_id")?,
                run_id: self.query.needed("run_id")?,
            }),
            ("GET", ["previous", dag_id, task_id]) => any(Operation::PreviousTask {
                dag_id: (*dag_id).to_owned(),
                task_id: (*task_id).to_owned(),
                logical_date: self.query.time("logical_date")?,
                run_id: self.query.text("run_id"),
                map_index: self.query.number("map_index")?.unwrap_or(UNMAPPED),
                state: self.query.text("state"),
            }),
            ("PATCH", [id, "run"]) => Routed {
                operation: Operation::Run(self.json()?),
                wants: Wants::Start(uuid(id)?),
            },
            ("PATCH", [id, "state"]) => own(id, Operation::State(self.json()?))?,
            ("PUT", [id, "heartbeat"]) => {
                let Heartbeat { hostname, pid } = self.json()?;
                own(id, Operation::Heartbeat { hostname, pid })?
            }
            ("PUT", [id, "rtif"]) => own(id, Operation::SetRenderedFields(self.json()?))?,
            ("PATCH", [id, "rendered-map-index"]) => own(id, Operation::SetRenderedMapIndex(self.json()?))?,
            ("PATCH", [id, "skip-downstream"]) => {
                let SkipBody { tasks } = self.json()?;
                own(id, Operation::SkipDownstream { tasks })?
            }
            ("GET", [id, "previous-successful-dagrun"]) => own(id, Operation::PreviousSuccessfulDagRun)?,
            ("GET", [id, "validate-inlets-and-outlets"]) => own(id, Operation::ValidateInletsAndOutlets)?,
            _ => return Ok(None),
        };
        Ok(Some(routed))
    }

    fn task_filter(&self) -> Result<TaskFilter, Refusal> {
        Ok(TaskFilter {
            dag_id: self.query.needed("dag_id")?,
            map_index: self.query.number("map_index")?,
            task_ids: self.query.all("task_ids"),
            task_group_id: self.query.text("task_group_id"),
            logical_dates: self.query.times("logical_dates")?,
            run_ids: self.query.all("run_ids"),
            states: self.query.all("states"),
        })
    }

    fn variables(&self, key: &str) -> Result<Option<Routed>, Refusal> {
        let key_owned = key.to_owned();
        Ok(match self.method.as_str() {
            "GET" if key == "keys" => Some(any(Operation::VariableKeys {
                prefix: self.query.text("prefix"),
                limit: self.query.number("limit")?.unwrap_or(1000),
                offset: self.query.number("offset")?.unwrap_or(0),
            })),
            "GET" => Some(any(Operation::GetVariable { key: key_owned })),
            "PUT" => {
                let body: VariableBody = self.json()?;
                Some(any(Operation::PutVariable {
                    key: key_owned,
                    value: body.val,
                    description: body.description,
                }))
            }
            "DELETE" => Some(any(Operation::DeleteVariable { key: key_owned })),
            _ => None,
        })
    }

    fn xcoms(&self, [dag, run, task]: [&str; 3], key: &[&str]) -> Result<Option<Routed>, Refusal> {
        let xcom = |key: &[&str]| XComKey {
            dag_id: dag.to_owned(),
            run_id: run.to_owned(),
            task_id: task.to_owned(),
            key: key.join("/"),
        };
        let map_index = self.query.number("map_index")?;
        Ok(Some(any(match (self.method.as_str(), key) {
            ("GET", [key @ .., "item", offset]) if !key.is_empty() && offset.parse::<i64>().is_ok() => {
                Operation::XComItem {
                    xcom: xcom(key),
                    offset: offset.parse().unwrap_or_default(),
                }
            }
            ("GET", [key @ .., "slice"]) if !key.is_empty() => Operation::XComSlice {
                xcom: xcom(key),
                start: self.query.number("start")?,
                stop: self.query.number("stop")?,
                step: self.query.number("step")?,
                include_prior_dates: self.query.flag("include_prior_dates", false)?,
            },
            ("HEAD", key) => {
                if map_index.is_some() {
                    return Err(Refusal::new(
                        400,
                        json!({"reason": "invalid_request", "message": "Cannot specify map_index in a HEAD request"}),
                    ));
                }
                Operation::CountXCom { xcom: xcom(key) }
            }
            ("GET", key) => Operation::GetXCom {
                xcom: xcom(key),
                map_index,
                include_prior_dates: self.query.flag("include_prior_dates", false)?,
                offset: self.query.number("offset")?,
            },
            ("POST", key) => Operation::SetXCom {
                xcom: xcom(key),
                value: if self.body.is_empty() {
                    Value::Null
                } else {
                    self.json()?
                },
                map_index,
                dag_result: self.query.flag("dag_result", false)?,
                mapped_length: self.query.number("mapped_length")?,
            },
            ("DELETE", key) => Operation::DeleteXCom {
                xcom: xcom(key),
                map_index,
            },
            _ => return Ok(None),
        })))
    }

    fn dag_runs(&self, rest: &[&str]) -> Result<Option<Routed>, Refusal> {
        let pair = |dag_id: &str, run_id: &str| (dag_id.to_owned(), run_id.to_owned());
        Ok(Some(any(match (self.method.as_str(), rest) {
            ("GET", ["count"]) => Operation::CountDagRuns {
                dag_id: self.query.needed("dag_id")?,
                logical_dates: self.query.times("logical_dates")?,
                run_ids: self.query.all("run_ids"),
                states: self.query.all("states"),
            },
            ("GET", ["previous"]) => {
                self.query.needed("logical_date")?;
                let Some(logical_date) = self.query.time("logical_date")? else {
                    return Ok(None);
                };
                Operation::PreviousDagRun {
                    dag_id: self.query.needed("dag_id")?,
                    logical_date,
                    state: self.query.text("state"),
                }
            }
            ("GET", [dag_id, run_id]) => {
                let (dag_id, run_id) = pair(dag_id, run_id);
                Operation::GetDagRun { dag_id, run_id }
            }
            ("GET", [dag_id, run_id, "state"]) => {
                let (dag_id, run_id) = pair(dag_id, run_id);
                Operation::DagRunState { dag_id, run_id }
            }
            ("POST", [dag_id, run_id]) => {
                let (dag_id, run_id) = pair(dag_id, run_id);
                let body = self.json()?;
                Operation::TriggerDagRun { dag_id, run_id, body }
            }
            ("POST", [dag_id, run_id, "clear"]) => {
                let (dag_id, run_id) = pair(dag_id, run_id);
                Operation::ClearDagRun { dag_id, run_id }
            }
            _ => return Ok(None),
        })))
    }

    fn assets(&self, by: &str) -> Result<Option<Routed>, Refusal> {
        Ok(Some(any(match by {
            "by-name" => Operation::AssetByName {
                name: self.query.needed("name")?,
            },
            "by-uri" => Operation::AssetByUri {
                uri: self.query.needed("uri")?,
            },
            "by-alias" => Operation::AssetsByAlias {
                alias: self.query.needed("alias_name")?,
            },
            _ => return Ok(None),
        })))
    }

    fn asset_events(&self, by: &str) -> Result<Option<Routed>, Refusal> {
        let (after, before) = (self.query.time("after")?, self.query.time("before")?);
        let ascending = self.query.flag("ascending", true)?;
        let limit = self.query.number("limit")?;
        let partition_key = self.query.text("partition_key");
        Ok(Some(any(match by {
            "by-asset" => Operation::AssetEventsByAsset {
                name: self.query.text("name"),
                uri: self.query.text("uri"),
                after,
                before,
                ascending,
                limit,
                partition_key,
            },
            "by-asset-alias" => Operation::AssetEventsByAlias {
                alias: self.query.needed("name")?,
                after,
                before,
                ascending,
                limit,
                partition_key,
            },
            _ => return Ok(None),
        })))
    }

    fn hitl(&self, id: &str) -> Result<Option<Routed>, Refusal> {
        let ti_id = uuid(id)?.to_string();
        Ok(Some(match self.method.as_str() {
            "POST" => own(id, Operation::CreateHitlDetail(self.json()?))?,
            "PATCH" => {
                let body = self.json()?;
                own(id, Operation::UpdateHitlDetail { ti_id, body })?
            }
            "GET" => own(id, Operation::GetHitlDetail { ti_id })?,
            _ => return Ok(None),
        }))
    }

    fn task_store(&self, id: &str, key: &str) -> Result<Option<Routed>, Refusal> {
        let key = key.to_owned();
        Ok(Some(match (self.method.as_str(), key.is_empty()) {
            ("GET", false) => own(id, Operation::GetTaskStore { key })?,
            ("PUT", false) => {
                let StoreBody { value, expires_at } = self.json()?;
                own(id, Operation::SetTaskStore { key, value, expires_at })?
            }
            ("DELETE", false) => own(id, Operation::DeleteTaskStore { key })?,
            ("DELETE", true) => own(id, Operation::ClearTaskStore)?,
            _ => return Ok(None),
        }))
    }

    fn asset_store(&self, by: &str, what: &str) -> Result<Option<Routed>, Refusal> {
        let asset = match by {
            "by-name" => AssetRef::Name(self.query.needed("name")?),
            "by-uri" => AssetRef::Uri(self.query.needed("uri")?),
            _ => return Ok(None),
        };
        Ok(Some(any(match (self.method.as_str(), what) {
            ("GET", "value") => Operation::GetAssetStore {
                asset,
                key: self.query.needed("key")?,
            },
            ("PUT", "value") => {
                let StoreBody { value, .. } = self.json()?;
                let key = self.query.needed("key")?;
                Operation::SetAssetStore { asset, key, value }
            }
            ("DELETE", "value") => Operation::DeleteAssetStore {
                asset,
                key: self.query.needed("key")?,
            },
            ("DELETE", "clear") => Operation::ClearAssetStore { asset },
            _ => return Ok(None),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: &str, target: &str, body: &str) -> Operation {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let method = method.parse().unwrap();
        route(&method, path, query, body.as_bytes()).unwrap().operation
    }

    #[test]
    fn keys_with_slashes_stay_whole_and_suffixes_are_routes() {
        let xcom = |key: &str| XComKey {
            dag_id: "d".to_owned(),
            run_id: "r+1".to_owned(),
            task_id: "g.t".to_owned(),
            key: key.to_owned(),
        };
        assert_eq!(
            operation("GET", "xcoms/d/r+1/g.t/a/b?map_index=3", ""),
            Operation::GetXCom {
                xcom: xcom("a/b"),
                map_index: Some(3),
                include_prior_dates: false,
                offset: None
            }
        );
        assert_eq!(
            operation("GET", "xcoms/d/r+1/g.t/a%2Fb/item/-1", ""),
            Operation::XComItem {
                xcom: xcom("a/b"),
                offset: -1
            }
        );
        assert_eq!(
            operation("GET", "variables/a/b", ""),
            Operation::GetVariable { key: "a/b".to_owned() }
        );
        assert!(matches!(
            operation("GET", "variables/keys?limit=2", ""),
            Operation::VariableKeys { limit: 2, .. }
        ));
        assert!(matches!(
            operation("GET", "dag-runs/count?dag_id=x", ""),
            Operation::CountDagRuns { .. }
        ));
        assert!(matches!(
            operation("GET", "dag-runs/x/y", ""),
            Operation::GetDagRun { .. }
        ));
    }

    #[test]
    fn only_a_start_takes_the_token_of_a_queued_task() {
        let id = Uuid::new_v4();
        let body = r#"{"state":"running","hostname":"h","unixname":"u","pid":1,"start_date":"2026-01-01T00:00:00Z"}"#;
        let found = route(&Method::PATCH, &format!("task-instances/{id}/run"), "", body.as_bytes()).unwrap();
        assert_eq!(found.wants, Wants::Start(id));
        let body = r#"{"state":"success","end_date":"2026-01-01T00:00:00Z"}"#;
        let found = route(
            &Method::PATCH,
            &format!("task-instances/{id}/state"),
            "",
            body.as_bytes(),
        )
        .unwrap();
        assert_eq!(found.wants, Wants::Self_(id));
        let wrong = route(&Method::PATCH, &format!("task-instances/{id}/state"), "", b"{}").unwrap_err();
        assert_eq!(wrong.status, 422);
        assert_eq!(route(&Method::GET, "nowhere", "", b"").unwrap_err().status, 404);
    }
}
