//! The one type behind both traits, and the table from operations to functions.

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::TeamId;
use isobar_store::Store;
use isobar_wire::execution::{Answer, Answering, Caller, ExecutionApi, Operation, Refusal};

use crate::new_run::NewRuns;
use crate::settings::Settings;

/// The Task Execution API and the agent API over a store.
#[derive(Clone)]
pub struct Execution {
    pub(crate) store: Store,
    pub(crate) org: OrgScope,
    pub(crate) settings: Settings,
    pub(crate) new_runs: NewRuns,
}

/// What an operation answers.
pub(crate) type Outcome = Result<Answer, Refusal>;

impl Execution {
    /// Over this store. The organisation's scope is narrowed to the caller's team before anything is read.
    #[must_use]
    pub fn new(store: Store, org: OrgScope, settings: Settings) -> Self {
        Self {
            store,
            org,
            settings,
            new_runs: NewRuns::new(),
        }
    }

    /// The maker of runs, for others that make some (the REST API): they share the graphs that it keeps.
    #[must_use]
    pub fn new_runs(&self) -> &NewRuns {
        &self.new_runs
    }

    /// What the operations know of the configuration.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The caller's own rows.
    pub(crate) fn own(&self, caller: &Caller) -> TeamScope {
        self.org.team(caller.team())
    }

    /// The organisation's rows that every team may read (rule 12).
    pub(crate) fn shared(&self) -> TeamScope {
        self.org.team(TeamId::SHARED)
    }

    async fn carry_out(&self, caller: &Caller, operation: Operation) -> Outcome {
        match operation {
            Operation::Run(start) => self.run(caller, &start).await,
            Operation::State(end) => self.state(caller, end).await,
            Operation::Heartbeat { hostname, pid } => self.heartbeat(caller, &hostname, pid).await,
            Operation::SetRenderedFields(fields) => self.set_rendered_fields(caller, &fields).await,
            Operation::SetRenderedMapIndex(text) => self.set_rendered_map_index(caller, &text).await,
            Operation::SkipDownstream { tasks } => self.skip_downstream(caller, &tasks).await,
            Operation::PreviousSuccessfulDagRun => self.previous_successful_dag_run(caller).await,
            Operation::ValidateInletsAndOutlets => self.validate_inlets_and_outlets(caller).await,
            Operation::RescheduleStartDate { .. } => self.reschedule_start_date(caller).await,
            Operation::CountTasks(filter) => self.count_tasks(caller, filter).await,
            Operation::TaskStates(filter) => self.task_states(caller, filter).await,
            Operation::TaskBreadcrumbs { dag_id, run_id } => self.task_breadcrumbs(caller, &dag_id, &run_id).await,
            Operation::PreviousTask {
                dag_id,
                task_id,
                logical_date,
                map_index,
                state,
                ..
            } => {
                self.previous_task(caller, &dag_id, &task_id, logical_date, map_index, state.as_deref())
                    .await
            }
            Operation::GetConnection { conn_id } => self.get_connection(caller, &conn_id).await,
            Operation::GetVariable { key } => self.get_variable(caller, &key).await,
            Operation::VariableKeys { prefix, limit, offset } => {
                self.variable_keys(caller, prefix.as_deref(), limit, offset).await
            }
            Operation::PutVariable {
                key,
                value,
                description,
            } => self.put_variable(caller, key, value, description).await,
            Operation::DeleteVariable { key } => self.delete_variable(caller, &key).await,
            Operation::GetXCom {
                xcom,
                map_index,
                include_prior_dates,
                offset,
            } => {
                self.get_xcom(caller, &xcom, map_index, include_prior_dates, offset)
                    .await
            }
            Operation::CountXCom { xcom } => self.count_xcom(caller, &xcom).await,
            Operation::XComItem { xcom, offset } => self.xcom_item(caller, &xcom, offset).await,
            Operation::XComSlice {
                xcom,
                start,
                stop,
                step,
                include_prior_dates,
            } => {
                self.xcom_slice(caller, &xcom, (start, stop, step), include_prior_dates)
                    .await
            }
            Operation::SetXCom {
                xcom,
                value,
                map_index,
                dag_result,
                mapped_length,
            } => {
                self.set_xcom(caller, &xcom, &value, map_index, dag_result, mapped_length)
                    .await
            }
            Operation::DeleteXCom { xcom, map_index } => self.delete_xcom(caller, &xcom, map_index).await,
            Operation::TriggerDagRun { dag_id, run_id, body } => {
                self.trigger_dag_run(caller, &dag_id, &run_id, body).await
            }
            Operation::ClearDagRun { dag_id, run_id } => self.clear_dag_run(caller, &dag_id, &run_id).await,
            other => self.carry_out_lookup(caller, other).await,
        }
    }

    /// The second half of the table: runs, Dags, assets, stores and questions to people.
    async fn carry_out_lookup(&self, caller: &Caller, operation: Operation) -> Outcome {
        match operation {
            Operation::GetDagRun { dag_id, run_id } => self.get_dag_run(caller, &dag_id, &run_id).await,
            Operation::DagRunState { dag_id, run_id } => self.dag_run_state(caller, &dag_id, &run_id).await,
            Operation::CountDagRuns {
                dag_id,
                logical_dates,
                run_ids,
                states,
            } => {
                self.count_dag_runs(caller, &dag_id, logical_dates, run_ids, states)
                    .await
            }
            Operation::PreviousDagRun {
                dag_id,
                logical_date,
                state,
            } => {
                self.previous_dag_run(caller, &dag_id, logical_date, state.as_deref())
                    .await
            }
            Operation::GetDag { dag_id } => self.get_dag(caller, &dag_id).await,
            Operation::AssetByName { name } => self.asset_by_name(caller, &name).await,
            Operation::AssetByUri { uri } => self.asset_by_uri(caller, &uri).await,
            Operation::AssetsByAlias { alias } => self.assets_by_alias(caller, &alias).await,
            Operation::AssetEventsByAsset {
                name,
                uri,
                after,
                before,
                ascending,
                limit,
                partition_key,
            } => {
                let window = crate::assets::window(after, before, ascending, limit, partition_key);
                self.events_by_asset(caller, name.as_deref(), uri.as_deref(), &window)
                    .await
            }
            Operation::AssetEventsByAlias {
                alias,
                after,
                before,
                ascending,
                limit,
                partition_key,
            } => {
                let window = crate::assets::window(after, before, ascending, limit, partition_key);
                self.events_by_alias(caller, &alias, &window).await
            }
            Operation::GetTaskStore { key } => self.get_task_store(caller, &key).await,
            Operation::SetTaskStore { key, value, expires_at } => {
                self.set_task_store(caller, &key, &value, expires_at).await
            }
            Operation::DeleteTaskStore { key } => self.delete_task_store(caller, Some(&key)).await,
            Operation::ClearTaskStore => self.delete_task_store(caller, None).await,
            Operation::GetAssetStore { asset, key } => self.get_asset_store(caller, &asset, &key).await,
            Operation::SetAssetStore { asset, key, value } => self.set_asset_store(caller, &asset, &key, &value).await,
            Operation::DeleteAssetStore { asset, key } => self.delete_asset_store(caller, &asset, Some(&key)).await,
            Operation::ClearAssetStore { asset } => self.delete_asset_store(caller, &asset, None).await,
            Operation::CreateHitlDetail(body) => self.create_hitl_detail(caller, body).await,
            Operation::UpdateHitlDetail { ti_id, body } => self.update_hitl_detail(caller, &ti_id, &body).await,
            Operation::GetHitlDetail { ti_id } => self.get_hitl_detail(caller, &ti_id).await,
            other => Err(Refusal::new(404, format!("There is no operation `{other:?}`"))),
        }
    }
}

impl ExecutionApi for Execution {
    fn call<'a>(&'a self, caller: &'a Caller, operation: Operation) -> Answering<'a, Outcome> {
        Box::pin(self.carry_out(caller, operation))
    }
}
