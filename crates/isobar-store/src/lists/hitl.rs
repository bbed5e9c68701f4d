//! Questions that tasks put to people, as the REST API lists them, each with its task instance.

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::{DagId, MapIndex, RunId, TaskId, TaskState};

use super::matching::{Page, Slice, TextMatch, TimeRange};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use super::task_instances::{InstanceRow, add_related, try_columns};
use super::tries;
use crate::db::Row;
use crate::hitl::{self, HitlDetail};
use crate::{StoreError, Tx};

/// A question and the try that put it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The try.
    pub instance: InstanceRow,
    /// The question, and its answer once there is one.
    pub detail: HitlDetail,
}

const COLUMNS: &str = concat!(
    try_columns!(),
    ", t.note, t.trigger_id, f.fields AS rendered_fields, h.detail, h.created_at, h.responded_at, h.response"
);
const FROM: &str = "hitl_detail h JOIN task_instance t ON t.id = h.ti_id AND t.team_no = h.team_no \
    JOIN dag_run r ON r.team_no = t.team_no AND r.dag_id = t.dag_id AND r.run_id = t.run_id \
    LEFT JOIN dag d ON d.team_no = t.team_no AND d.dag_id = t.dag_id \
    LEFT JOIN rendered_fields f ON f.team_no = t.team_no AND f.dag_id = t.dag_id AND f.run_id = t.run_id \
    AND f.task_id = t.task_id AND f.map_index = t.map_index";

/// By what questions can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "ti_id" => "h.ti_id" Uuid;
        "subject" => "h.subject" Text;
        "responded_at" => "h.responded_at" Int;
        "created_at" => "h.created_at" Int;
        "responded_by_user_id" => "h.responder_id" Text;
        "responded_by_user_name" => "h.responder_name" Text;
        "dag_id" => "t.dag_id" Text;
        "run_id" => "t.run_id" Text;
        "task_display_name" => "coalesce(t.display_name, t.task_id)" Text;
        "run_after" => "r.run_after" Int;
        "rendered_map_index" => "t.rendered_map_index" Text, "t.map_index" Int;
        "task_instance_operator" => "t.operator" Text;
        "task_instance_state" => "t.state" Text;
    },
    unique: &[("h.ti_id", Kind::Uuid)],
    default: "ti_id",
};

/// Which questions.
#[derive(Clone, Debug, Default)]
pub struct QuestionFilter {
    /// Of this Dag; of all where none.
    pub dag_id: Option<DagId>,
    /// Of this run; of all where none.
    pub run_id: Option<RunId>,
    /// The Dag's id.
    pub dag_id_match: TextMatch,
    /// Of this task.
    pub task_id: Option<String>,
    /// The task's id.
    pub task_id_match: TextMatch,
    /// Of this map index.
    pub map_index: Option<i64>,
    /// States of the task instance, any of them; `None` for none yet.
    pub states: Vec<Option<TaskState>>,
    /// Answered or not.
    pub answered: Option<bool>,
    /// Answered by one of these users.
    pub responder_ids: Vec<String>,
    /// Answered by one of these users.
    pub responder_names: Vec<String>,
    /// The subject.
    pub subject: TextMatch,
    /// The body.
    pub body: TextMatch,
    /// When it was put.
    pub created_at: TimeRange,
}

/// Lists the questions of present tries.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &QuestionFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<Question>, StoreError> {
    let mut select = Select::new(tx, scope, "t.team_no", COLUMNS, FROM);
    select.equal_if("t.dag_id", filter.dag_id.as_ref());
    select.equal_if("t.run_id", filter.run_id.as_ref());
    select.matches("t.dag_id", &filter.dag_id_match);
    select.equal_if("t.task_id", filter.task_id.as_ref());
    select.matches("t.task_id", &filter.task_id_match);
    select.equal_if("t.map_index", filter.map_index);
    select.one_of("t.state", filter.states.iter().copied());
    match filter.answered {
        Some(true) => select.and("h.responded_at IS NOT NULL"),
        Some(false) => select.and("h.responded_at IS NULL"),
        None => {}
    }
    select.one_of("h.responder_id", filter.responder_ids.iter().map(Some));
    select.one_of("h.responder_name", filter.responder_names.iter().map(Some));
    select.matches("h.subject", &filter.subject);
    select.matches("h.body", &filter.body);
    select.within("h.created_at", &filter.created_at);
    let mut slice = select.page(tx, order, page, read).await?;
    let mut instances: Vec<InstanceRow> = slice.rows.iter().map(|row| row.instance.clone()).collect();
    add_related(tx, scope, &mut instances).await?;
    for (row, instance) in slice.rows.iter_mut().zip(instances) {
        row.instance = instance;
    }
    Ok(slice)
}

fn read(row: &Row) -> Result<Question, StoreError> {
    Ok(Question {
        instance: InstanceRow::read(row)?,
        detail: HitlDetail::read(row)?,
    })
}

/// The question of one earlier or present try; the outer `None` where there is no such try.
///
/// # Errors
/// The database failed.
pub async fn of_try(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    run_id: &RunId,
    task_id: &TaskId,
    map_index: MapIndex,
    try_number: i64,
) -> Result<Option<(InstanceRow, Option<HitlDetail>)>, StoreError> {
    let Some(instance) = tries::get(tx, scope, dag_id, run_id, task_id, map_index, try_number).await? else {
        return Ok(None);
    };
    let detail = hitl::get(tx, scope, instance.id).await?;
    Ok(Some((instance, detail)))
}
