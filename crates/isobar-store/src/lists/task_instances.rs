//! Task instances as the REST API lists them.

use std::collections::HashMap;

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::{DagId, MapIndex, RunId, TaskId, TaskState, TeamId, TiId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::cursor::{Cursor, CursorPage};
use super::matching::{Page, RealRange, Slice, TextMatch, TimeRange};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use super::versions::{self, VersionRow};
use crate::db::{Row, vals};
use crate::triggers::{self, ShownTrigger};
use crate::{StoreError, Tx};

/// A task instance, or one of its earlier tries.
#[derive(Clone, Debug)]
pub struct InstanceRow {
    /// Whose it is.
    pub team: TeamId,
    /// The try's id.
    pub id: TiId,
    /// The Dag.
    pub dag_id: DagId,
    /// The run.
    pub run_id: RunId,
    /// The task.
    pub task_id: TaskId,
    /// The place among mapped instances, -1 where not mapped.
    pub map_index: MapIndex,
    /// Its state.
    pub state: Option<TaskState>,
    /// The try.
    pub try_number: i64,
    /// How many tries there may be.
    pub max_tries: i64,
    /// When the try started.
    pub start_date: Option<Timestamp>,
    /// When the try ended.
    pub end_date: Option<Timestamp>,
    /// Seconds between the two.
    pub duration: Option<f64>,
    /// When its dependencies were met.
    pub scheduled_at: Option<Timestamp>,
    /// When it was queued.
    pub queued_at: Option<Timestamp>,
    /// The machine.
    pub hostname: Option<String>,
    /// The user of the operating system.
    pub unixname: Option<String>,
    /// The process.
    pub pid: Option<i64>,
    /// The pool.
    pub pool: String,
    /// How many slots it takes of it.
    pub pool_slots: i64,
    /// The executor's queue.
    pub queue: Option<String>,
    /// Its weight.
    pub priority_weight: i64,
    /// The operator's class.
    pub operator: Option<String>,
    /// The operator's name for people.
    pub custom_operator_name: Option<String>,
    /// The task's name to show.
    pub display_name: Option<String>,
    /// The executor.
    pub executor: Option<String>,
    /// What the executor was told, JSON.
    pub executor_config: Value,
    /// The version of the Dag.
    pub version_id: Option<Uuid>,
    /// The name shown for this mapped instance.
    pub rendered_map_index: Option<String>,
    /// A person's note.
    pub note: Option<String>,
    /// The number of the trigger it waits for.
    pub trigger_id: Option<i64>,
    /// That trigger, and who runs it.
    pub trigger: Option<ShownTrigger>,
    /// The run's logical date.
    pub logical_date: Option<Timestamp>,
    /// The run's `run_after`.
    pub run_after: Timestamp,
    /// The Dag's name to show.
    pub dag_display_name: String,
    /// The rendered template fields, null for none.
    pub rendered_fields: Value,
    /// The version, as an object of its own.
    pub version: Option<VersionRow>,
}

impl InstanceRow {
    /// The task's name to show.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(self.task_id.as_str())
    }

    /// The name of this mapped instance: what its template gave, else its number.
    #[must_use]
    pub fn shown_map_index(&self) -> Option<String> {
        self.rendered_map_index
            .clone()
            .or_else(|| (self.map_index >= 0).then(|| self.map_index.to_string()))
    }

    pub(crate) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            id: row.ti_id("id")?,
            dag_id: row.text("dag_id")?.into(),
            run_id: row.text("run_id")?.into(),
            task_id: row.text("task_id")?.into(),
            map_index: row.small("map_index")?,
            state: row.maybe_word("state")?,
            try_number: row.int("try_number")?,
            max_tries: row.int("max_tries")?,
            start_date: row.maybe_time("start_date")?,
            end_date: row.maybe_time("end_date")?,
            duration: row.real("duration")?,
            scheduled_at: row.maybe_time("scheduled_at")?,
            queued_at: row.maybe_time("queued_at")?,
            hostname: row.maybe_text("hostname")?,
            unixname: row.maybe_text("unixname")?,
            pid: row.maybe_int("pid")?,
            pool: row.text("pool")?,
            pool_slots: row.int("pool_slots")?,
            queue: row.maybe_text("queue")?,
            priority_weight: row.int("priority_weight")?,
            operator: row.maybe_text("operator")?,
            custom_operator_name: row.maybe_text("custom_operator_name")?,
            display_name: row.maybe_text("display_name")?,
            executor: row.maybe_text("executor")?,
            executor_config: row.json("executor_config")?,
            version_id: row.maybe_uuid("dag_version_id")?,
            rendered_map_index: row.maybe_text("rendered_map_index")?,
            note: row.maybe_text("note")?,
            trigger_id: row.maybe_int("trigger_id")?,
            trigger: None,
            logical_date: row.maybe_time("logical_date")?,
            run_after: row.time("run_after")?,
            dag_display_name: row.text("dag_display_name")?,
            rendered_fields: row.json("rendered_fields")?,
            version: None,
        })
    }
}

/// What both tables of tries have, and the run and Dag beside them. `t` is the try, `r` its run.
macro_rules! try_columns {
    () => {
        "t.team_no, t.id, t.dag_id, t.run_id, t.task_id, t.map_index, t.state, t.try_number, t.max_tries, \
         t.start_date, t.end_date, t.duration, t.scheduled_at, t.queued_at, t.hostname, t.unixname, t.pid, t.pool, \
         t.pool_slots, t.queue, t.priority_weight, t.operator, t.custom_operator_name, t.display_name, t.executor, \
         t.executor_config, t.dag_version_id, t.rendered_map_index, r.logical_date, r.run_after, \
         coalesce(d.display_name, t.dag_id) AS dag_display_name"
    };
}
pub(crate) use try_columns;

const COLUMNS: &str = concat!(try_columns!(), ", t.note, t.trigger_id, f.fields AS rendered_fields");
const FROM: &str = "task_instance t \
    JOIN dag_run r ON r.team_no = t.team_no AND r.dag_id = t.dag_id AND r.run_id = t.run_id \
    LEFT JOIN dag d ON d.team_no = t.team_no AND d.dag_id = t.dag_id \
    LEFT JOIN rendered_fields f ON f.team_no = t.team_no AND f.dag_id = t.dag_id AND f.run_id = t.run_id \
    AND f.task_id = t.task_id AND f.map_index = t.map_index";

/// By what task instances can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "t.id" Uuid;
        "state" => "t.state" Text;
        "duration" => "t.duration" Real;
        "start_date" => "t.start_date" Int;
        "end_date" => "t.end_date" Int;
        "map_index" => "t.map_index" Int;
        "try_number" => "t.try_number" Int;
        "logical_date" => "r.logical_date" Int;
        "run_after" => "r.run_after" Int;
        "data_interval_start" => "r.interval_start" Int;
        "data_interval_end" => "r.interval_end" Int;
        "rendered_map_index" => "t.rendered_map_index" Text, "t.map_index" Int;
        "operator" => "t.operator" Text;
    },
    unique: &[("t.id", Kind::Uuid)],
    default: "map_index",
};

/// By what the batch list can be ordered.
pub const BATCH_ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "t.id" Uuid;
        "state" => "t.state" Text;
        "duration" => "t.duration" Real;
        "start_date" => "t.start_date" Int;
        "end_date" => "t.end_date" Int;
        "map_index" => "t.map_index" Int;
    },
    unique: ORDER.unique,
    default: "id",
};

/// Which task instances.
#[derive(Clone, Debug, Default)]
pub struct InstanceFilter {
    /// Of this Dag; of all where none.
    pub dag_id: Option<DagId>,
    /// Of this run; of all where none.
    pub run_id: Option<RunId>,
    /// Of this task.
    pub task_id: Option<TaskId>,
    /// Mapped instances only.
    pub only_mapped: bool,
    /// Of these Dags (team and id); an empty list finds nothing.
    pub dags: Option<Vec<(TeamId, DagId)>>,
    /// Of these runs; an empty list finds nothing.
    pub run_ids: Option<Vec<String>>,
    /// Of these tasks; an empty list finds nothing.
    pub task_ids: Option<Vec<String>>,
    /// The run's `run_after`.
    pub run_after: TimeRange,
    /// The run's logical date.
    pub logical_date: TimeRange,
    /// The start, now where it has not started.
    pub start_date: TimeRange,
    /// The end, now where it has not ended.
    pub end_date: TimeRange,
    /// The last change.
    pub updated_at: TimeRange,
    /// Seconds that it took.
    pub duration: RealRange,
    /// The task's name to show.
    pub display_name: TextMatch,
    /// The Dag's id.
    pub dag_id_match: TextMatch,
    /// The run's id.
    pub run_id_match: TextMatch,
    /// States, any of them; `None` for none yet.
    pub states: Vec<Option<TaskState>>,
    /// Pools, any of them.
    pub pools: Vec<String>,
    /// The pool.
    pub pool_match: TextMatch,
    /// Queues, any of them.
    pub queues: Vec<String>,
    /// The queue.
    pub queue_match: TextMatch,
    /// Executors, any of them.
    pub executors: Vec<String>,
    /// Numbers of the Dag's version, any of them.
    pub versions: Vec<i64>,
    /// Tries, any of them.
    pub try_numbers: Vec<i64>,
    /// Operators, any of them.
    pub operators: Vec<String>,
    /// The operator's name for people.
    pub operator_match: TextMatch,
    /// Map indices, any of them.
    pub map_indices: Vec<i64>,
    /// The name of a mapped instance.
    pub rendered_map_index: TextMatch,
}

fn narrow(select: &mut Select, filter: &InstanceFilter) {
    let now = Timestamp::now();
    select.equal_if("t.dag_id", filter.dag_id.as_ref());
    select.equal_if("t.run_id", filter.run_id.as_ref());
    select.equal_if("t.task_id", filter.task_id.as_ref());
    if filter.only_mapped {
        select.and("t.map_index >= 0");
    }
    if let Some(dags) = &filter.dags {
        let any: Vec<String> = dags
            .iter()
            .map(|(team, dag_id)| {
                let dag_id = select.bind(dag_id);
                format!("(t.team_no = {team} AND t.dag_id = {dag_id})")
            })
            .collect();
        select.and(if any.is_empty() {
            "1=0".to_owned()
        } else {
            format!("({})", any.join(" OR "))
        });
    }
    select.among("t.run_id", filter.run_ids.as_ref());
    select.among("t.task_id", filter.task_ids.as_ref());
    select.within("r.run_after", &filter.run_after);
    select.within("r.logical_date", &filter.logical_date);
    select.within_or_open("t.start_date", &filter.start_date, now);
    select.within_or_open("t.end_date", &filter.end_date, now);
    select.within("t.updated_at", &filter.updated_at);
    select.within_real("t.duration", &filter.duration);
    select.matches("coalesce(t.display_name, t.task_id)", &filter.display_name);
    select.matches("t.dag_id", &filter.dag_id_match);
    select.matches("t.run_id", &filter.run_id_match);
    select.one_of("t.state", filter.states.iter().copied());
    select.one_of("t.pool", filter.pools.iter().map(Some));
    select.matches("t.pool", &filter.pool_match);
    select.one_of("t.queue", filter.queues.iter().map(Some));
    select.matches("t.queue", &filter.queue_match);
    select.one_of("t.executor", filter.executors.iter().map(Some));
    if !filter.versions.is_empty() {
        select.join("JOIN dag_version v ON v.id = t.dag_version_id");
        select.one_of("v.version_number", filter.versions.iter().copied().map(Some));
    }
    select.one_of("t.try_number", filter.try_numbers.iter().copied().map(Some));
    select.one_of("t.operator", filter.operators.iter().map(Some));
    select.matches("coalesce(t.custom_operator_name, t.operator)", &filter.operator_match);
    select.one_of("t.map_index", filter.map_indices.iter().copied().map(Some));
    select.matches(
        "coalesce(t.rendered_map_index, CASE WHEN t.map_index >= 0 THEN CAST(t.map_index AS TEXT) END)",
        &filter.rendered_map_index,
    );
}

/// Lists task instances.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &InstanceFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<InstanceRow>, StoreError> {
    let mut select = Select::new(tx, scope, "t.team_no", COLUMNS, FROM);
    narrow(&mut select, filter);
    let mut slice = select.page(tx, order, page, InstanceRow::read).await?;
    add_related(tx, scope, &mut slice.rows).await?;
    Ok(slice)
}

/// Lists task instances by position.
///
/// # Errors
/// The database failed.
pub async fn list_from(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &InstanceFilter,
    order: &Ordering,
    limit: u32,
    cursor: Option<&Cursor>,
) -> Result<CursorPage<InstanceRow>, StoreError> {
    let mut select = Select::new(tx, scope, "t.team_no", COLUMNS, FROM);
    narrow(&mut select, filter);
    let mut page = select.cursor_page(tx, order, limit, cursor, InstanceRow::read).await?;
    add_related(tx, scope, &mut page.rows).await?;
    Ok(page)
}

/// The instances of one task in one run, unmapped first: one, or as many as it is mapped over.
///
/// # Errors
/// The database failed.
pub async fn of_task(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    run_id: &RunId,
    task_id: &TaskId,
    map_index: Option<MapIndex>,
) -> Result<Vec<InstanceRow>, StoreError> {
    let read_scope = scope.into();
    let mut select = Select::new(tx, &read_scope, "t.team_no", COLUMNS, FROM);
    select.equal("t.dag_id", dag_id);
    select.equal("t.run_id", run_id);
    select.equal("t.task_id", task_id);
    select.equal_if("t.map_index", map_index);
    let mut rows = read_all(&select.all(tx, " ORDER BY t.map_index").await?)?;
    add_related(tx, &read_scope, &mut rows).await?;
    Ok(rows)
}

/// The instances with these ids, in the order of the ids.
///
/// # Errors
/// The database failed.
pub async fn by_ids(tx: &mut Tx, scope: TeamScope, ids: &[TiId]) -> Result<Vec<InstanceRow>, StoreError> {
    let read_scope = scope.into();
    let mut rows = Vec::with_capacity(ids.len());
    for some in ids.chunks(500) {
        let mut select = Select::new(tx, &read_scope, "t.team_no", COLUMNS, FROM);
        select.among("t.id", Some(some.iter().copied()));
        rows.extend(read_all(&select.all(tx, "").await?)?);
    }
    let place: HashMap<TiId, usize> = ids.iter().enumerate().map(|(index, id)| (*id, index)).collect();
    rows.sort_by_key(|row| place.get(&row.id).copied());
    add_related(tx, &read_scope, &mut rows).await?;
    Ok(rows)
}

/// Whether a run has any instance of a task, and whether one of them is mapped.
///
/// # Errors
/// The database failed.
pub async fn count_mapped(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    run_id: &RunId,
    task_id: &TaskId,
) -> Result<i64, StoreError> {
    tx.row(
        "SELECT count(*) AS n FROM task_instance \
         WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index >= 0",
        vals![scope.team(), dag_id, run_id, task_id],
    )
    .await?
    .map_or(Ok(0), |row| row.int("n"))
}

pub(crate) fn read_all(rows: &[Row]) -> Result<Vec<InstanceRow>, StoreError> {
    rows.iter().map(InstanceRow::read).collect()
}

pub(crate) async fn add_related(tx: &mut Tx, scope: &ReadScope, rows: &mut [InstanceRow]) -> Result<(), StoreError> {
    let mut ids: Vec<Uuid> = rows.iter().filter_map(|row| row.version_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let known: HashMap<Uuid, VersionRow> = versions::by_ids(tx, scope, &ids)
        .await?
        .into_iter()
        .map(|version| (version.id, version))
        .collect();
    for row in rows.iter_mut() {
        row.version = row.version_id.and_then(|id| known.get(&id).cloned());
    }
    add_triggers(tx, rows).await
}

async fn add_triggers(tx: &mut Tx, rows: &mut [InstanceRow]) -> Result<(), StoreError> {
    let ids: Vec<(TeamId, i64)> = rows
        .iter()
        .filter_map(|row| Some((row.team, row.trigger_id?)))
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let known = triggers::shown(tx, &ids).await?;
    for row in rows {
        row.trigger = row.trigger_id.and_then(|id| known.get(&(row.team, id)).cloned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, migrate};
    use isobar_auth::OrgScope;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_instances_of_one_run_are_found_by_key() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}", folder.path().join("x.db").display()))
            .await
            .unwrap();
        let org = OrgScope::at_process_start();
        migrate::migrate(&store, &org).await.unwrap();
        let mut tx = store.read().await.unwrap();
        let mut select = Select::new(&tx, &org.team(TeamId(1)).into(), "t.team_no", COLUMNS, FROM);
        let filter = InstanceFilter {
            dag_id: Some("d".into()),
            run_id: Some("r".into()),
            ..InstanceFilter::default()
        };
        narrow(&mut select, &filter);
        let plan = select.plan(&mut tx, &ORDER.order(&[]).unwrap()).await.unwrap();
        assert!(plan.contains("(team_no=? AND dag_id=? AND run_id=?)"), "{plan}");
        assert!(!plan.contains("SCAN"), "{plan}");
    }
}
