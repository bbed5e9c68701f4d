//! Task instances: the row, reading it, making it, and archiving a try.

use isobar_auth::TeamScope;
use isobar_model::{DagId, Dispatch, MapIndex, RunId, RunKey, TaskId, TaskKey, TaskState, TeamId, TeamName, TiId};
use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::db::{Row, Val, vals, values_list};
use crate::{StoreError, Tx};

/// Rows of one multi-row `INSERT`, so that SQLite's and PostgreSQL's limits on bound values hold.
const ROWS_A_STATEMENT: usize = 500;

/// A row of `task_instance`.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "each field is the column of its name; see the migration for meanings"
)]
pub struct TaskInstance {
    pub team: TeamId,
    pub dag_id: DagId,
    pub run_id: RunId,
    pub task_id: TaskId,
    pub map_index: MapIndex,
    pub id: TiId,
    pub state: Option<TaskState>,
    pub dispatch: Dispatch,
    pub finishing_until: Option<Timestamp>,
    pub try_number: i32,
    pub max_tries: i32,
    pub start_date: Option<Timestamp>,
    pub end_date: Option<Timestamp>,
    pub duration: Option<f64>,
    pub scheduled_at: Option<Timestamp>,
    pub queued_at: Option<Timestamp>,
    pub last_heartbeat: Option<Timestamp>,
    pub updated_at: Timestamp,
    pub hostname: Option<String>,
    pub unixname: Option<String>,
    pub pid: Option<i64>,
    pub pool: String,
    pub pool_slots: i32,
    pub queue: Option<String>,
    pub priority_weight: i64,
    pub operator: Option<String>,
    pub custom_operator_name: Option<String>,
    pub display_name: Option<String>,
    pub executor: Option<String>,
    pub executor_config: Option<String>,
    pub dag_version_id: Option<Uuid>,
    pub rendered_map_index: Option<String>,
    pub note: Option<String>,
    pub note_user: Option<String>,
    pub retry_delay_override: Option<f64>,
    pub retry_reason: Option<String>,
    pub next_method: Option<String>,
    pub next_kwargs: Value,
    pub trigger_id: Option<i64>,
    pub trigger_timeout: Option<Timestamp>,
    pub external_executor_id: Option<String>,
    pub shaped_for: Option<i64>,
}

impl TaskInstance {
    /// Who the try is that the row shows; `team_name` is the name of its team.
    #[must_use]
    pub fn identity(&self, team_name: &TeamName) -> TaskIdentity {
        TaskIdentity {
            team: self.team,
            team_name: team_name.clone(),
            dag_id: self.dag_id.clone(),
            run_id: self.run_id.clone(),
            task_id: self.task_id.clone(),
            map_index: self.map_index,
            try_number: self.try_number,
            ti_id: self.id,
            dispatch: self.dispatch,
        }
    }

    pub(crate) fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            dag_id: row.text("dag_id")?.into(),
            run_id: row.text("run_id")?.into(),
            task_id: row.text("task_id")?.into(),
            map_index: row.small("map_index")?,
            id: row.ti_id("id")?,
            state: row.maybe_word("state")?,
            dispatch: Dispatch(row.int("dispatch")?),
            finishing_until: row.maybe_time("finishing_until")?,
            try_number: row.small("try_number")?,
            max_tries: row.small("max_tries")?,
            start_date: row.maybe_time("start_date")?,
            end_date: row.maybe_time("end_date")?,
            duration: row.real("duration")?,
            scheduled_at: row.maybe_time("scheduled_at")?,
            queued_at: row.maybe_time("queued_at")?,
            last_heartbeat: row.maybe_time("last_heartbeat")?,
            updated_at: row.time("updated_at")?,
            hostname: row.maybe_text("hostname")?,
            unixname: row.maybe_text("unixname")?,
            pid: row.maybe_int("pid")?,
            pool: row.text("pool")?,
            pool_slots: row.small("pool_slots")?,
            queue: row.maybe_text("queue")?,
            priority_weight: row.int("priority_weight")?,
            operator: row.maybe_text("operator")?,
            custom_operator_name: row.maybe_text("custom_operator_name")?,
            display_name: row.maybe_text("display_name")?,
            executor: row.maybe_text("executor")?,
            executor_config: row.maybe_text("executor_config")?,
            dag_version_id: row.maybe_uuid("dag_version_id")?,
            rendered_map_index: row.maybe_text("rendered_map_index")?,
            note: row.maybe_text("note")?,
            note_user: row.maybe_text("note_user")?,
            retry_delay_override: row.real("retry_delay_override")?,
            retry_reason: row.maybe_text("retry_reason")?,
            next_method: row.maybe_text("next_method")?,
            next_kwargs: row.json("next_kwargs")?,
            trigger_id: row.maybe_int("trigger_id")?,
            trigger_timeout: row.maybe_time("trigger_timeout")?,
            external_executor_id: row.maybe_text("external_executor_id")?,
            shaped_for: row.maybe_int("shaped_for")?,
        })
    }

    /// The run it belongs to.
    #[must_use]
    pub fn run_key(&self) -> RunKey {
        RunKey {
            dag_id: self.dag_id.clone(),
            run_id: self.run_id.clone(),
        }
    }

    /// When waiting for a trigger or a person ends; none where it does not wait, or for ever.
    #[must_use]
    pub fn waits_until(&self) -> Option<Timestamp> {
        self.trigger_timeout
            .filter(|_| matches!(self.state, Some(TaskState::Deferred | TaskState::AwaitingInput)))
    }

    /// Its place inside the run.
    #[must_use]
    pub fn task_key(&self) -> TaskKey {
        TaskKey {
            task_id: self.task_id.clone(),
            map_index: self.map_index,
        }
    }
}

/// A task instance to be made: without state, at try 0, with a fresh id.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct NewTaskInstance {
    pub key: TaskKey,
    pub max_tries: i32,
    pub pool: String,
    pub pool_slots: i32,
    pub queue: String,
    pub priority_weight: i64,
    pub operator: String,
    pub custom_operator_name: Option<String>,
    pub display_name: Option<String>,
    pub executor: Option<String>,
    pub executor_config: Option<String>,
    pub dag_version_id: Option<Uuid>,
}

/// Makes task instances of one run. Those that exist already are left as they are; answers how many were made.
///
/// # Errors
/// The database failed.
pub async fn insert(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    new: &[NewTaskInstance],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut made = 0;
    for chunk in new.chunks(ROWS_A_STATEMENT) {
        let rows = chunk
            .iter()
            .map(|ti| {
                vals![
                    scope.team(),
                    &run.dag_id,
                    &run.run_id,
                    &ti.key.task_id,
                    ti.key.map_index,
                    TiId::fresh(),
                    ti.max_tries,
                    now,
                    "",
                    ti.pool.as_str(),
                    ti.pool_slots,
                    ti.queue.as_str(),
                    ti.priority_weight,
                    ti.operator.as_str(),
                    ti.custom_operator_name.clone(),
                    ti.display_name.clone(),
                    ti.executor.clone(),
                    ti.executor_config.clone(),
                    ti.dag_version_id,
                ]
            })
            .collect();
        let (list, values) = values_list(1, rows);
        made += tx
            .run(
                &format!(
                    "INSERT INTO task_instance (team_no, dag_id, run_id, task_id, map_index, id, max_tries, updated_at, \
                     hostname, pool, pool_slots, queue, priority_weight, operator, custom_operator_name, display_name, \
                     executor, executor_config, dag_version_id) VALUES {list} ON CONFLICT DO NOTHING"
                ),
                values,
            )
            .await?;
    }
    Ok(made)
}

/// One task instance, none where there is none.
///
/// # Errors
/// The database failed.
pub async fn get(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task: &TaskKey,
) -> Result<Option<TaskInstance>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
             AND map_index = $5",
            vals![scope.team(), &run.dag_id, &run.run_id, &task.task_id, task.map_index],
        )
        .await?;
    row.as_ref().map(TaskInstance::from_row).transpose()
}

/// The task instance whose current try has this id.
///
/// # Errors
/// The database failed.
pub async fn get_by_id(tx: &mut Tx, scope: TeamScope, id: TiId) -> Result<Option<TaskInstance>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM task_instance WHERE id = $1 AND team_no = $2",
            vals![id, scope.team()],
        )
        .await?;
    row.as_ref().map(TaskInstance::from_row).transpose()
}

/// All task instances of a run, by task and map index.
///
/// # Errors
/// The database failed.
pub async fn of_run(tx: &mut Tx, scope: TeamScope, run: &RunKey) -> Result<Vec<TaskInstance>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 ORDER BY task_id, map_index",
            vals![scope.team(), &run.dag_id, &run.run_id],
        )
        .await?;
    rows.iter().map(TaskInstance::from_row).collect()
}

/// Of a run's instances that have not ended the one that began last; of those that never began any.
///
/// # Errors
/// The database failed.
pub async fn last_begun_unfinished(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
) -> Result<Option<TaskInstance>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 \
             AND (state IS NULL OR state NOT IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed')) \
             ORDER BY CASE WHEN start_date IS NULL THEN 1 ELSE 0 END, start_date DESC, task_id, map_index LIMIT 1",
            vals![scope.team(), &run.dag_id, &run.run_id],
        )
        .await?;
    row.as_ref().map(TaskInstance::from_row).transpose()
}

/// How many instances of a Dag run; of one task, those that are deferred or ask a person as well.
///
/// # Errors
/// The database failed.
pub async fn count_at_work(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    task_id: Option<&TaskId>,
    run_id: Option<&RunId>,
) -> Result<i64, StoreError> {
    let states = match task_id {
        Some(_) => "('running', 'deferred', 'awaiting_input')",
        None => "('running')",
    };
    // The longer list is the condition of the index `task_instance_active`, word for word.
    let row = tx
        .row(
            &format!(
                "SELECT count(*) AS n FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND state IN ('scheduled', \
                 'queued', 'running', 'restarting', 'up_for_retry', 'up_for_reschedule', 'deferred', 'awaiting_input') \
                 AND state IN {states} AND task_id = coalesce($3, task_id) AND run_id = coalesce($4, run_id)"
            ),
            vals![
                scope.team(),
                dag_id,
                task_id.map(TaskId::to_string),
                run_id.map(RunId::to_string)
            ],
        )
        .await?;
    row.map_or(Ok(0), |row| row.int("n"))
}

/// Whether this id is that of an earlier try (answered with 410 instead of 404).
///
/// # Errors
/// The database failed.
pub async fn is_archived(tx: &mut Tx, scope: TeamScope, id: TiId) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS one FROM task_instance_history WHERE id = $1 AND team_no = $2",
            vals![id, scope.team()],
        )
        .await?;
    Ok(row.is_some())
}

/// The condition that an instance of a run is one of these, and its values; the first placeholder is `first`.
///
/// PostgreSQL knows nothing of a run that has just begun and takes it for one row: it would compare each instance with each
/// pair of a `VALUES` list. A list for one column is looked up by index or by hash whatever it believes.
pub(crate) fn among(first: usize, keys: &[TaskKey]) -> (String, Vec<Val>) {
    let placeholders = || -> String {
        let list: Vec<String> = (0..keys.len()).map(|at| format!("${}", first + 1 + at)).collect();
        list.join(", ")
    };
    match keys {
        [one, others @ ..] if others.iter().all(|key| key.map_index == one.map_index) => {
            let mut values = vals![one.map_index];
            values.extend(keys.iter().map(|key| Val::from(&key.task_id)));
            (
                format!("map_index = ${first} AND task_id IN ({})", placeholders()),
                values,
            )
        }
        [one, others @ ..] if others.iter().all(|key| key.task_id == one.task_id) => {
            let mut values = vals![&one.task_id];
            values.extend(keys.iter().map(|key| Val::from(key.map_index)));
            (
                format!("task_id = ${first} AND map_index IN ({})", placeholders()),
                values,
            )
        }
        _ => {
            let rows = keys.iter().map(|key| vals![&key.task_id, key.map_index]).collect();
            let (list, values) = values_list(first, rows);
            (format!("(task_id, map_index) IN (VALUES {list})"), values)
        }
    }
}

/// Moves the current try of instances to the history and gives each a new id. A try that is archived already stays as
/// it is; an unfinished one counts as failed, ended now unless an end was set (as Airflow's `prepare_db_for_next_try`).
pub(crate) async fn archive_try(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    keys: &[TaskKey],
    now: Timestamp,
) -> Result<(), StoreError> {
    for chunk in keys.chunks(ROWS_A_STATEMENT) {
        let (among, values) = among(5, chunk);
        let mut all = vals![scope.team(), &run.dag_id, &run.run_id, now];
        all.extend(values);
        tx.run(
            &format!(
                "INSERT INTO task_instance_history (team_no, dag_id, run_id, task_id, map_index, try_number, id, state, \
                 max_tries, start_date, end_date, duration, scheduled_at, queued_at, hostname, unixname, pid, pool, \
                 pool_slots, queue, priority_weight, operator, custom_operator_name, display_name, executor, \
                 executor_config, dag_version_id, rendered_map_index) \
                 SELECT team_no, dag_id, run_id, task_id, map_index, try_number, id, \
                 CASE WHEN state IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed') THEN state \
                 ELSE 'failed' END, \
                 max_tries, start_date, \
                 CASE WHEN state IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed') THEN end_date \
                 ELSE coalesce(end_date, $4) END, \
                 CASE WHEN state IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed') THEN duration \
                 ELSE coalesce(duration, (coalesce(end_date, $4) - start_date) / 1000000.0) END, \
                 scheduled_at, queued_at, hostname, unixname, pid, pool, pool_slots, queue, priority_weight, operator, \
                 custom_operator_name, display_name, executor, executor_config, dag_version_id, rendered_map_index \
                 FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND {among} \
                 ON CONFLICT DO NOTHING"
            ),
            all.clone(),
        )
        .await?;
        let (among, values) = self::among(4, chunk);
        let mut all = vals![scope.team(), &run.dag_id, &run.run_id];
        all.extend(values);
        tx.run(
            &format!(
                "DELETE FROM task_reschedule WHERE team_no = $1 AND ti_id IN (SELECT id FROM task_instance \
                 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND {among})"
            ),
            all,
        )
        .await?;
        for key in chunk {
            tx.run(
                "UPDATE task_instance SET id = $6 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
                 AND map_index = $5",
                vals![
                    scope.team(),
                    &run.dag_id,
                    &run.run_id,
                    &key.task_id,
                    key.map_index,
                    TiId::fresh()
                ],
            )
            .await?;
        }
    }
    Ok(())
}
