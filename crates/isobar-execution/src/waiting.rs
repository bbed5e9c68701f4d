//! Why a task instance does not start, in Airflow's names and words, which its UI and clients show.

use isobar_auth::{OrgScope, TeamScope};
use isobar_engine::graph::RunGraph;
use isobar_engine::planner::{
    Instance, MapLength, PastFacts, Planner, Preceding, RunFacts, RunSnapshot, SkipChoice, Unmet, UpstreamStates,
};
use isobar_model::dag::SerializedDag;
use isobar_model::{RunState, TaskId, TaskKey, TaskState, TeamId, TriggerRule};
use isobar_store::lists::pools::{self, PoolRow};
use isobar_store::runs::Run;
use isobar_store::task_instances::{self, TaskInstance};
use isobar_store::{StoreError, Tx, dags, loading};
use jiff::Timestamp;

/// Something that an instance waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// Airflow's name of the dependency.
    pub name: &'static str,
    /// The particulars.
    pub reason: String,
}

/// Which instance is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its team.
    pub scope: TeamScope,
    /// Its Dag, in the version that it runs on.
    pub dag: &'a SerializedDag,
    /// Its run.
    pub run: &'a Run,
    /// Itself.
    pub ti: &'a TaskInstance,
    /// The Dag's name as the caller writes it.
    pub written: &'a str,
}

/// All that stands between an instance without state, or a scheduled one, and its being queued; by name.
///
/// # Errors
/// The database failed.
pub async fn reasons(tx: &mut Tx, org: &OrgScope, asked: Asked<'_>, now: Timestamp) -> Result<Vec<Reason>, StoreError> {
    let Asked {
        scope,
        dag,
        run,
        ti,
        written,
    } = asked;
    let Some(task) = dag.task_by_id(ti.task_id.as_str()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let mut add = |name: &'static str, reason: String| found.push(Reason { name, reason });
    if ti.state != Some(TaskState::Scheduled) {
        add("Task Instance State", "Task is in the 'None' state.".to_owned());
    }
    if run.state != RunState::Running {
        let state = run.state;
        add(
            "Dagrun Running",
            format!("Task instance's dagrun was not in the 'running' state but in the state '{state}'."),
        );
    }
    if dags::head(tx, scope, run.dag_id.as_str())
        .await?
        .is_some_and(|head| head.is_paused)
    {
        add("Dag Not Paused", format!("Task's DAG '{written}' is paused."));
    }
    for reason in dates(dag, task, run.logical_date, now) {
        add("Logical Date", reason);
    }
    if let Some(reason) = pool(tx, org, scope, ti).await? {
        add("Pool Slots Available", reason);
    }
    let running = task_instances::count_at_work(tx, scope, &run.dag_id, None, None).await?;
    if running >= i64::from(dag.max_active_tasks) {
        add(
            "Task Instance Slots Available",
            format!(
                "The maximum number of running tasks ({}) for this task's DAG '{written}' has been reached.",
                dag.max_active_tasks
            ),
        );
    }
    let full = |limit: Option<i32>, count: i64| limit.is_some_and(|limit| count >= i64::from(limit));
    let of_task = task_instances::count_at_work(tx, scope, &run.dag_id, Some(&ti.task_id), None).await?;
    let of_run = task_instances::count_at_work(tx, scope, &run.dag_id, Some(&ti.task_id), Some(&run.run_id)).await?;
    if full(task.max_active_tis_per_dag, of_task) {
        add(
            "Task Concurrency",
            "The max task concurrency has been reached.".to_owned(),
        );
    } else if full(task.max_active_tis_per_dagrun, of_run) {
        add(
            "Task Concurrency",
            "The max task concurrency per run has been reached.".to_owned(),
        );
    }
    for unmet in unmet(tx, scope, dag, run, ti, now).await? {
        let (name, reason) = worded(&unmet, now);
        add(name, reason);
    }
    found.sort_by_key(|reason| reason.name);
    Ok(found)
}

fn python(at: Timestamp) -> String {
    isobar_engine::dagplan::suffix_of(at)
}

fn dates(
    dag: &SerializedDag,
    task: &isobar_model::dag::Task,
    logical_date: Option<Timestamp>,
    now: Timestamp,
) -> Vec<String> {
    let Some(date) = logical_date else { return Vec::new() };
    let mut found = Vec::new();
    if date > now {
        let (date, now) = (python(date), python(now));
        found.push(format!(
            "Logical date {date} is in the future (the current date is {now})."
        ));
    }
    let mut compare = |outside: bool, bound: Option<Timestamp>, words: &str| {
        if let Some(bound) = bound.filter(|_| outside) {
            let (date, bound) = (python(date), python(bound));
            found.push(format!("The logical date is {date} but this is {words} {bound}."));
        }
    };
    let after = |bound: Option<Timestamp>| bound.is_some_and(|bound| date > bound);
    let before = |bound: Option<Timestamp>| bound.is_some_and(|bound| date < bound);
    compare(after(task.end_date), task.end_date, "after the task's end date");
    compare(after(dag.end_date), dag.end_date, "after the task's DAG's end date");
    compare(before(task.start_date), task.start_date, "before the task's start date");
    compare(
        before(dag.start_date),
        dag.start_date,
        "before the task's DAG's start date",
    );
    found
}

/// The pool, the team's own or the organisation's.
async fn pool(tx: &mut Tx, org: &OrgScope, scope: TeamScope, ti: &TaskInstance) -> Result<Option<String>, StoreError> {
    let name = &ti.pool;
    let pool: Option<PoolRow> = match pools::get(tx, scope, name).await? {
        Some(pool) => Some(pool),
        None => pools::get(tx, org.team(TeamId::SHARED), name).await?,
    };
    let Some(pool) = pool else {
        return Ok(Some(format!(
            "Tasks using non-existent pool '{name}' will not be scheduled"
        )));
    };
    let open = pool.open();
    let wanted = i64::from(ti.pool_slots);
    let full = pool.pool.slots != -1 && open < wanted;
    Ok(full.then(|| {
        format!("Not scheduling since there are {open} open slots in pool {name} and require {wanted} pool slots")
    }))
}

/// What the engine's rules have against it. The planner is fed a run that does not run: so it decides nothing.
async fn unmet(
    tx: &mut Tx,
    scope: TeamScope,
    dag: &SerializedDag,
    run: &Run,
    ti: &TaskInstance,
    now: Timestamp,
) -> Result<Vec<Unmet>, StoreError> {
    let Ok(graph) = RunGraph::from_dag(dag) else {
        return Ok(Vec::new());
    };
    let contents = loading::run_contents(tx, scope, &run.key()).await?;
    let past = past(tx, scope, &graph, run).await?;
    let snapshot = RunSnapshot {
        run: RunFacts {
            run_id: run.run_id.clone(),
            run_type: run.run_type,
            state: RunState::Queued,
            logical_date: run.logical_date,
            start_date: run.start_date,
            run_after: run.run_after,
            paused: false,
        },
        instances: contents
            .instances
            .iter()
            .map(|ti| Instance {
                key: ti.task_key(),
                state: ti.state,
                try_number: ti.try_number,
                end_date: ti.end_date,
                retry_delay_override: None,
                reschedule_date: contents.reschedules.get(&ti.id.0).copied(),
                has_result: false,
            })
            .collect(),
        lengths: contents
            .lengths
            .iter()
            .map(|length| MapLength {
                task_id: length.task_id.clone(),
                length: length.length.and_then(|length| u64::try_from(length).ok()),
            })
            .collect(),
        choices: contents
            .choices
            .iter()
            .map(|choice| {
                let key = TaskKey {
                    task_id: choice.task_id.clone(),
                    map_index: choice.map_index,
                };
                SkipChoice::read(key, &choice.value)
            })
            .collect(),
        past,
        failed: Vec::new(),
        verify: false,
    };
    let planner = Planner::load(std::sync::Arc::new(graph), snapshot, now, &mut Vec::new());
    Ok(planner.unmet(&ti.task_key(), now))
}

async fn past(tx: &mut Tx, scope: TeamScope, graph: &RunGraph, run: &Run) -> Result<PastFacts, StoreError> {
    let Some(date) = run.logical_date.filter(|_| graph.past_tasks().next().is_some()) else {
        return Ok(PastFacts::default());
    };
    if run.backfill_id.is_some() && run.backfill_ordinal == Some(1) {
        return Ok(PastFacts::first_of_backfill());
    }
    let before = loading::preceding_run(tx, scope, &run.dag_id, date, !graph.spec().catchup).await?;
    let Some(before) = before else {
        return Ok(PastFacts::default());
    };
    let preceding = Preceding {
        logical_date: before.logical_date,
        unsuccessful: loading::unsuccessful_by_task(tx, scope, &before.key()).await?,
    };
    let mut existed_before = Vec::new();
    for task in preceding.tasks_to_look_for(graph) {
        if loading::existed_before(tx, scope, &run.dag_id, &task.task_id, date).await? {
            existed_before.push(task.task_id.clone());
        }
    }
    Ok(PastFacts::of(&preceding, graph, existed_before))
}

fn worded(unmet: &Unmet, now: Timestamp) -> (&'static str, String) {
    match unmet {
        Unmet::NotFollowed { by } => (
            "Not Previously Skipped",
            format!("Skipping because of previous XCom result from parent task {by}"),
        ),
        Unmet::MapDependency => (
            "Mapped dependencies have succeeded",
            "At least one of task's mapped dependencies has not succeeded!".to_owned(),
        ),
        Unmet::Setups {
            setups,
            states,
            upstream,
        } => (
            "Trigger Rule",
            format!(
                "All setup tasks must complete successfully. Relevant setups: {}: {}",
                set(setups),
                standing(states, upstream)
            ),
        ),
        Unmet::Rule {
            rule,
            total,
            setups,
            states,
            upstream,
        } => {
            let asks = rule_asks(*rule, *total, *setups, states, upstream.len());
            let standing = standing(states, upstream);
            (
                "Trigger Rule",
                format!("Task's trigger rule '{rule}' requires {asks} {standing}"),
            )
        }
        Unmet::Scope { rule, missing, tasks } => (
            "Trigger Rule",
            format!(
                "Task's trigger rule '{rule}' requires all tasks between setup and teardown to have completed, but found \
                 {missing} in-scope task(s) not done. in_scope_task_ids={}",
                set(tasks)
            ),
        ),
        Unmet::PastMissing => (
            "Previous Dagrun State",
            "depends_on_past is true for this task's DAG, but the previous task instance has not run yet.".to_owned(),
        ),
        Unmet::Past { unsuccessful } => (
            "Previous Dagrun State",
            format!(
                "depends_on_past is true for this task, but {unsuccessful} previous task instance(s) are not in a \
                 successful state."
            ),
        ),
        Unmet::PastDownstream => (
            "Previous Dagrun State",
            "The tasks downstream of the previous task instance(s) haven't completed, and wait_for_downstream is True."
                .to_owned(),
        ),
        Unmet::Rescheduled(due) => (
            "Ready To Reschedule",
            format!(
                "Task is not ready for reschedule yet but will be rescheduled automatically. Current date is {} and task \
                 will be rescheduled at {}.",
                python(now),
                python(*due)
            ),
        ),
    }
}

/// A set of ids as Python shows it.
fn set(ids: &[TaskId]) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    format!("{{{}}}", quoted.join(", "))
}

fn standing(states: &UpstreamStates, upstream: &[TaskId]) -> String {
    let UpstreamStates {
        success,
        skipped,
        failed,
        upstream_failed,
        removed,
        done,
        success_setup,
        skipped_setup,
    } = states;
    format!(
        "upstream_states=_UpstreamTIStates(success={success}, skipped={skipped}, failed={failed}, \
         upstream_failed={upstream_failed}, removed={removed}, done={done}, success_setup={success_setup}, \
         skipped_setup={skipped_setup}), upstream_task_ids={}",
        set(upstream)
    )
}

/// What a rule that is not satisfied asks for, and what was found.
fn rule_asks(rule: TriggerRule, total: u32, setups: u32, states: &UpstreamStates, tasks: usize) -> String {
    let UpstreamStates {
        success,
        skipped,
        failed,
        upstream_failed,
        removed,
        done,
        success_setup,
        ..
    } = *states;
    let unless = |others: u32| total.saturating_sub(others);
    let undone = i64::try_from(tasks).unwrap_or(0) - i64::from(done);
    match rule {
        TriggerRule::OneSuccess => "one upstream task success, but none were found.".to_owned(),
        TriggerRule::OneFailed => "one upstream task failure, but none were found.".to_owned(),
        TriggerRule::OneDone => {
            "at least one upstream task failure or success but none were failed or success.".to_owned()
        }
        TriggerRule::AllFailed => format!(
            "all upstream tasks to have failed, but found {} non-failure(s).",
            unless(failed + upstream_failed + removed)
        ),
        TriggerRule::AllDone => {
            format!("all upstream tasks to have completed, but found {undone} task(s) that were not done.")
        }
        TriggerRule::AllDoneSetupSuccess if done < total => {
            format!("all upstream tasks to have completed, but found {undone} task(s) that were not done.")
        }
        TriggerRule::AllDoneSetupSuccess => format!(
            "at least one upstream setup task be successful, but found {} task(s) that were not.",
            setups.saturating_sub(success_setup)
        ),
        TriggerRule::NoneFailedMinOneSuccess if unless(success + skipped + removed) == 0 => {
            "at least one upstream task success, but none were found.".to_owned()
        }
        TriggerRule::NoneFailed | TriggerRule::NoneFailedMinOneSuccess => format!(
            "all upstream tasks to have succeeded or been skipped, but found {} non-success(es).",
            unless(success + skipped + removed)
        ),
        TriggerRule::NoneSkipped => {
            format!("all upstream tasks to not have been skipped, but found {skipped} task(s) skipped.")
        }
        TriggerRule::AllSkipped => format!(
            "all upstream tasks to have been skipped, but found {} task(s) in non skipped state.",
            unless(skipped)
        ),
        TriggerRule::AllDoneMinOneSuccess if skipped > 0 => {
            format!("all non-skipped upstream tasks to have completed, but found {skipped} skipped task(s).")
        }
        TriggerRule::AllDoneMinOneSuccess if unless(skipped + removed) > success + failed + upstream_failed => format!(
            "all non-skipped upstream tasks to have completed, but found {} task(s) that were not done.",
            unless(skipped + removed) - (success + failed + upstream_failed)
        ),
        TriggerRule::AllDoneMinOneSuccess => format!(
            "all non-skipped upstream tasks to have completed and at least one upstream task has succeeded, but found \
             {success} successful task(s)."
        ),
        TriggerRule::AllSuccess | TriggerRule::Always => format!(
            "all upstream tasks to have succeeded, but found {} non-success(es).",
            unless(success + removed)
        ),
    }
}
