//! Whether a caller may still speak, and as whom (rule 22).
//!
//! A task's token is good for writing while its try runs under its dispatch. With the terminal commit it falls to
//! `finishing`: it reads its own team's rows, and writes its own extra-link XComs and rendered fields, until the window ends.

use isobar_auth::TeamScope;
use isobar_model::{RunKey, TaskKey, TaskState};
use isobar_store::Tx;
use isobar_store::task_calls::{Standing, standing};
use isobar_wire::execution::{Caller, Refusal, TaskIdentity};
use jiff::Timestamp;

use crate::answers::{broken, refusal};

/// How far a caller's token goes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Nothing.
    Nothing,
    /// Reading, and the few things an ending try still writes of itself.
    Finishing,
    /// Everything that the caller's team may.
    Everything,
}

/// The run that a task belongs to.
pub(crate) fn run_of(task: &TaskIdentity) -> RunKey {
    RunKey {
        dag_id: task.dag_id.clone(),
        run_id: task.run_id.clone(),
    }
}

/// The task's place in its run.
pub(crate) fn key_of(task: &TaskIdentity) -> TaskKey {
    TaskKey {
        task_id: task.task_id.clone(),
        map_index: task.map_index,
    }
}

fn reach(task: &TaskIdentity, row: &Standing, now: Timestamp) -> Reach {
    if row.dispatch != task.dispatch {
        return Reach::Nothing;
    }
    // A retry gives the row a new id with the terminal commit; the dispatch is still this try's.
    if row.ti_id == task.ti_id && row.state == Some(TaskState::Running) {
        Reach::Everything
    } else if row.finishing_until.is_some_and(|until| now < until) {
        Reach::Finishing
    } else {
        Reach::Nothing
    }
}

/// How far the caller's token goes. Parses and triggers have no row; their connection is their identity.
///
/// With `hold` it stays so until the unit ends. Not for units that lock a run afterwards: those lock runs first.
pub(crate) async fn reach_of(tx: &mut Tx, scope: TeamScope, caller: &Caller, hold: bool) -> Result<Reach, Refusal> {
    let Caller::Task(task) = caller else {
        return Ok(Reach::Everything);
    };
    let row = standing(tx, scope, &run_of(task), &key_of(task), hold)
        .await
        .map_err(broken)?;
    Ok(row.map_or(Reach::Nothing, |row| reach(task, &row, Timestamp::now())))
}

/// Lets through who may read.
pub(crate) async fn may_read(tx: &mut Tx, scope: TeamScope, caller: &Caller) -> Result<(), Refusal> {
    need(reach_of(tx, scope, caller, false).await?, Reach::Finishing)
}

/// Lets through who may write for its team, and keeps it so until the unit ends.
pub(crate) async fn may_write(tx: &mut Tx, scope: TeamScope, caller: &Caller) -> Result<(), Refusal> {
    need(reach_of(tx, scope, caller, true).await?, Reach::Everything)
}

/// Lets through who may start and clear runs.
pub(crate) async fn may_change_runs(tx: &mut Tx, scope: TeamScope, caller: &Caller) -> Result<(), Refusal> {
    need(reach_of(tx, scope, caller, false).await?, Reach::Everything)
}

fn need(found: Reach, least: Reach) -> Result<(), Refusal> {
    if found >= least { Ok(()) } else { Err(over()) }
}

/// The answer to a try that is over.
pub(crate) fn over() -> Refusal {
    refusal(
        403,
        "access_denied",
        "This try of the task is not running any more, its token opens nothing",
    )
}

/// The task that calls, where only a task may.
pub(crate) fn task_of(caller: &Caller) -> Result<&TaskIdentity, Refusal> {
    match caller {
        Caller::Task(task) => Ok(task),
        Caller::Parse { .. } | Caller::Trigger { .. } => {
            Err(refusal(403, "access_denied", "Only a running task may ask this"))
        }
    }
}
