//! Questions to a team's own Python: asked by rows, claimed by the team's helper, answered in rows.
//!
//! A question has a subject; a newer one of the same subject takes the place of the older, whose late answer then finds no row.

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{DagId, RunKey, TaskKey, TeamId};
use isobar_wire::questions::{OpenQuestion, QuestionKind, Said};
use isobar_wire::wake::Wake;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::counters::{Counter, next_ids};
use crate::db::vals;
use crate::events::{self, EventKind};
use crate::{StoreError, Tx};

/// The first pause before a question that failed is asked again; each further one is twice as long.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// The longest such pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// A question to put.
#[derive(Clone, Debug, PartialEq)]
pub struct NewQuestion {
    /// What is asked.
    pub kind: QuestionKind,
    /// The Dag it is about.
    pub dag_id: DagId,
    /// What tells it from others of its kind and Dag.
    pub subject: String,
    /// The question as the helper reads it.
    pub body: Value,
    /// The Dag version that the helper must know.
    pub version_id: Option<Uuid>,
    /// When nobody waits for the answer any more; none where it is wanted however late it is.
    pub wanted_until: Option<Timestamp>,
}

/// What has been said to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// What was asked.
    pub kind: QuestionKind,
    /// The Dag.
    pub dag_id: DagId,
    /// The subject.
    pub subject: String,
    /// The answer, or why there is none yet; neither while the question is new.
    pub said: Option<Said>,
}

/// Puts a question and wakes the helper after the commit; answers its id.
///
/// # Errors
/// The database failed.
pub async fn ask(tx: &mut Tx, scope: TeamScope, new: &NewQuestion, now: Timestamp) -> Result<i64, StoreError> {
    let id = next_ids(tx, scope, Counter::Question, 1).await?;
    tx.run(
        "INSERT INTO team_question (team_no, id, kind, dag_id, subject, body, version_id, asked_at, wanted_until) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (team_no, dag_id, kind, subject) DO UPDATE SET \
         id = excluded.id, body = excluded.body, version_id = excluded.version_id, asked_at = excluded.asked_at, \
         wanted_until = excluded.wanted_until, claimed_until = NULL, attempts = 0, answered_at = NULL, answer = NULL, problem = NULL",
        vals![
            scope.team(),
            id,
            new.kind.as_str(),
            &new.dag_id,
            &new.subject,
            &new.body,
            new.version_id,
            now,
            new.wanted_until
        ],
    )
    .await?;
    tx.wake(Wake::Questions(scope.team()));
    Ok(id)
}

/// Claims open questions, oldest first. One that is not answered within `hold` may be claimed again. Those that nobody waits for
/// any more are forgotten first: who asked them may be gone.
///
/// # Errors
/// The database failed.
pub async fn claim(
    tx: &mut Tx,
    scope: TeamScope,
    limit: u32,
    now: Timestamp,
    hold: SignedDuration,
) -> Result<Vec<OpenQuestion>, StoreError> {
    tx.run(
        "DELETE FROM team_question WHERE team_no = $1 AND wanted_until IS NOT NULL AND wanted_until <= $2",
        vals![scope.team(), now],
    )
    .await?;
    let skip = tx.dialect().skip_locked();
    let rows = tx
        .rows(
            &format!(
                "UPDATE team_question SET claimed_until = $1 WHERE team_no = $2 AND id IN (SELECT id FROM team_question \
                 WHERE team_no = $2 AND answered_at IS NULL AND (claimed_until IS NULL OR claimed_until <= $3) \
                 ORDER BY id LIMIT $4 {skip}) RETURNING id, dag_id, body, version_id, wanted_until"
            ),
            vals![now + hold, scope.team(), now, limit],
        )
        .await?;
    let mut claimed = rows
        .iter()
        .map(|row| {
            Ok(OpenQuestion {
                id: row.int("id")?,
                dag_id: row.text("dag_id")?.into(),
                body: row.json("body")?,
                version_id: row.maybe_uuid("version_id")?,
                wanted_until: row.maybe_time("wanted_until")?,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    claimed.sort_by_key(|question| question.id);
    Ok(claimed)
}

/// When the next question that was put off, or claimed by a helper that is gone, may be claimed again.
///
/// # Errors
/// The database failed.
pub async fn next_due(tx: &mut Tx, scope: TeamScope) -> Result<Option<Timestamp>, StoreError> {
    let row = tx
        .row(
            "SELECT min(coalesce(claimed_until, asked_at)) AS due FROM team_question \
             WHERE team_no = $1 AND answered_at IS NULL",
            vals![scope.team()],
        )
        .await?;
    row.map_or(Ok(None), |row| row.maybe_time("due"))
}

/// Writes what the helper said. What is not [`Said::Answer`] leaves the question open, to be asked again after a pause that
/// grows with each failure; a question of somebody who waits is closed instead.
///
/// # Errors
/// The database failed.
pub async fn said(tx: &mut Tx, scope: TeamScope, all: &[(i64, Said)], now: Timestamp) -> Result<(), StoreError> {
    for (id, said) in all {
        let row = tx
            .row(
                "SELECT kind, dag_id, subject, attempts FROM team_question \
                 WHERE team_no = $1 AND id = $2 AND answered_at IS NULL",
                vals![scope.team(), *id],
            )
            .await?;
        let Some(row) = row else { continue };
        let kind = kind_of(&row.text("kind")?)?;
        let dag_id = DagId::from(row.text("dag_id")?);
        let closing = kind.somebody_waits() && !matches!(said, Said::Later(_));
        match said {
            Said::Answer(answer) => {
                tx.run(
                    "UPDATE team_question SET answered_at = $3, answer = $4, problem = NULL \
                     WHERE team_no = $1 AND id = $2",
                    vals![scope.team(), *id, now, answer],
                )
                .await?;
            }
            Said::Problem(reason) if closing => {
                tx.run(
                    "UPDATE team_question SET answered_at = $3, problem = $4 WHERE team_no = $1 AND id = $2",
                    vals![scope.team(), *id, now, reason],
                )
                .await?;
            }
            Said::Problem(reason) | Said::Later(reason) => {
                let pause = pause_after(row.int("attempts")?);
                tx.run(
                    "UPDATE team_question SET claimed_until = $3, attempts = attempts + 1, problem = $4 \
                     WHERE team_no = $1 AND id = $2",
                    vals![scope.team(), *id, now + pause, reason],
                )
                .await?;
            }
        }
        if kind.somebody_waits() {
            tx.wake(Wake::Definitions);
        } else {
            events::insert(tx, scope, EventKind::Said, &dag_id, &json!({"id": id}), now).await?;
        }
    }
    Ok(())
}

/// Has a question asked again whose answer cannot be used, after the pause of one that failed.
///
/// # Errors
/// The database failed.
pub async fn ask_again(tx: &mut Tx, scope: TeamScope, id: i64, reason: &str, now: Timestamp) -> Result<(), StoreError> {
    let row = tx
        .row(
            "SELECT attempts FROM team_question WHERE team_no = $1 AND id = $2",
            vals![scope.team(), id],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let pause = pause_after(row.int("attempts")?);
    tx.run(
        "UPDATE team_question SET answered_at = NULL, answer = NULL, claimed_until = $3, attempts = attempts + 1, \
         problem = $4 WHERE team_no = $1 AND id = $2",
        vals![scope.team(), id, now + pause, reason],
    )
    .await?;
    tx.wake(Wake::Questions(scope.team()));
    Ok(())
}

fn pause_after(attempts: i64) -> SignedDuration {
    let doubled = 2_i32.saturating_pow(u32::try_from(attempts).unwrap_or(0).min(10));
    (FIRST_PAUSE * doubled).min(LONGEST_PAUSE)
}

/// Gives claimed questions back: they were not at fault, and may be claimed again at once. The reason is shown meanwhile.
///
/// # Errors
/// The database failed.
pub async fn give_back(
    tx: &mut Tx,
    scope: TeamScope,
    ids: &[i64],
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    for id in ids {
        let row = tx
            .row(
                "UPDATE team_question SET claimed_until = NULL, problem = $3 \
                 WHERE team_no = $1 AND id = $2 AND answered_at IS NULL RETURNING kind, dag_id",
                vals![scope.team(), *id, reason],
            )
            .await?;
        if let Some(row) = row
            && !kind_of(&row.text("kind")?)?.somebody_waits()
        {
            let dag_id = DagId::from(row.text("dag_id")?);
            events::insert(tx, scope, EventKind::Said, &dag_id, &json!({"id": id}), now).await?;
        }
    }
    Ok(())
}

/// What was said to one question; none where a newer one took its place.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, id: i64) -> Result<Option<Answered>, StoreError> {
    let row = tx
        .row(
            "SELECT kind, dag_id, subject, answered_at, answer, problem FROM team_question WHERE team_no = $1 AND id = $2",
            vals![scope.team(), id],
        )
        .await?;
    row.map(|row| {
        let problem = row.maybe_text("problem")?;
        let said = match (row.maybe_time("answered_at")?, problem) {
            (Some(_), None) => Some(Said::Answer(row.json("answer")?)),
            (Some(_), Some(reason)) => Some(Said::Problem(reason)),
            (None, problem) => problem.map(Said::Later),
        };
        Ok(Answered {
            kind: kind_of(&row.text("kind")?)?,
            dag_id: row.text("dag_id")?.into(),
            subject: row.text("subject")?,
            said,
        })
    })
    .transpose()
}

/// Forgets a question: it was answered, or nobody waits any more.
///
/// # Errors
/// The database failed.
pub async fn forget(tx: &mut Tx, scope: TeamScope, id: i64) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM team_question WHERE team_no = $1 AND id = $2",
        vals![scope.team(), id],
    )
    .await
    .map(drop)
}

/// Forgets what was asked about a Dag's schedule: it has another one now.
///
/// # Errors
/// The database failed.
pub async fn forget_of_dag(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    kind: QuestionKind,
) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM team_question WHERE team_no = $1 AND dag_id = $2 AND kind = $3",
        vals![scope.team(), dag_id, kind.as_str()],
    )
    .await
    .map(drop)
}

/// Notes whether a team's cluster policy shapes its task instances, and tells the schedulers where that changed.
///
/// # Errors
/// The database failed.
pub async fn note_python(tx: &mut Tx, scope: TeamScope, shapes: bool, now: Timestamp) -> Result<(), StoreError> {
    let changed = tx
        .run(
            "INSERT INTO team_python (team_no, shapes_instances) VALUES ($1, $2) ON CONFLICT (team_no) DO UPDATE \
             SET shapes_instances = excluded.shapes_instances \
             WHERE team_python.shapes_instances <> excluded.shapes_instances",
            vals![scope.team(), shapes],
        )
        .await?;
    if changed > 0 {
        let body = json!({"shapes_instances": shapes});
        events::insert(tx, scope, EventKind::Team, &DagId::from(""), &body, now).await?;
    }
    Ok(())
}

/// The teams whose cluster policies shape task instances.
///
/// # Errors
/// The database failed.
pub async fn shaping_teams(tx: &mut Tx, _scope: &OrgScope) -> Result<Vec<TeamId>, StoreError> {
    let rows = tx
        .rows("SELECT team_no FROM team_python WHERE shapes_instances = TRUE", vals![])
        .await?;
    rows.iter().map(|row| row.team("team_no")).collect()
}

/// What the team's Python makes of a task instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct Shape {
    pub key: TaskKey,
    pub pool: String,
    pub pool_slots: i32,
    pub queue: String,
    pub priority_weight: i32,
    pub executor: Option<String>,
    pub executor_config: Option<String>,
    pub max_tries: i32,
}

/// Writes shapes. Instances that have started since keep what they have.
///
/// # Errors
/// The database failed.
pub async fn shape(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    clear_number: i64,
    shapes: &[Shape],
) -> Result<(), StoreError> {
    for shape in shapes {
        tx.run(
            "UPDATE task_instance SET pool = $6, pool_slots = $7, queue = $8, priority_weight = $9, executor = $10, \
             executor_config = coalesce($11, executor_config), max_tries = $12, shaped_for = $13 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 \
             AND task_id = $4 AND map_index = $5 AND (state IS NULL OR state NOT IN ('queued', 'running', 'restarting'))",
            vals![
                scope.team(),
                &run.dag_id,
                &run.run_id,
                &shape.key.task_id,
                shape.key.map_index,
                &shape.pool,
                shape.pool_slots,
                &shape.queue,
                shape.priority_weight,
                shape.executor.as_ref(),
                shape.executor_config.as_ref(),
                shape.max_tries,
                clear_number
            ],
        )
        .await?;
    }
    Ok(())
}

fn kind_of(word: &str) -> Result<QuestionKind, StoreError> {
    QuestionKind::from_word(word).ok_or_else(|| StoreError::Corrupt {
        column: "kind".to_owned(),
        problem: format!("`{word}` is no kind of question"),
    })
}
