//! From queued instances to executors, after the commit; and back: what is to be cancelled.

use isobar_store::task_instances::TaskInstance;
use isobar_store::transitions::QueuedTask;
use isobar_wire::execution::TaskIdentity;
use isobar_wire::workload::{Workload, log_path};

use crate::memory::{Held, Memory, RunRef};
use crate::pass::{Cancels, Pass, Queued};
use crate::setting::Setting;

/// Hands workloads to the executors of their teams, in admission's order.
pub(crate) fn hand_out(memory: &mut Memory, setting: &Setting, queued: Queued) {
    for (run, task) in queued {
        let Some((executor, workload)) = workload(memory, setting, &run, &task) else {
            tracing::error!(team = %run.team, dag = %run.key.dag_id, run = %run.key.run_id, task = %task.key.task_id,
                "a queued task cannot be handed out: its Dag or its executor is gone");
            continue;
        };
        memory.held.entry(run).or_default().insert(
            task.key,
            Held {
                identity: workload.identity.clone(),
                executor: executor.clone(),
                ended: false,
            },
        );
        if let Some(executor) = setting.executor(&executor) {
            executor.submit(workload);
        }
    }
}

fn workload(
    memory: &Memory,
    setting: &Setting,
    run: &RunRef,
    task: &QueuedTask,
) -> Option<(isobar_engine::admission::ExecutorKey, Workload)> {
    let live = memory.runs.get(run)?;
    let dag = memory.dags.get(&run.dag())?;
    let team = setting.teams.get(&run.team)?;
    let number = live.version.graph.find(&task.key.task_id)?;
    let named = match live.shapes.known.get(&task.key) {
        Some(shape) => shape.executor.as_deref(),
        None => live.version.graph.task(number).executor.as_deref(),
    };
    let executor = setting.executor_of(run.team, named)?;
    let identity = TaskIdentity {
        team: run.team,
        team_name: team.name.clone(),
        dag_id: run.key.dag_id.clone(),
        run_id: run.key.run_id.clone(),
        task_id: task.key.task_id.clone(),
        map_index: task.key.map_index,
        try_number: task.try_number,
        ti_id: task.ti_id,
        dispatch: task.dispatch,
    };
    let workload = Workload {
        dag_version_id: task.dag_version_id.unwrap_or(live.version.id),
        dag_rel_path: dag.row.rel_path.clone(),
        bundle: dag.row.bundle.clone(),
        bundle_version: live.row.bundle_version.clone(),
        log_path: log_path(&identity),
        queue: task.queue.clone().unwrap_or_else(|| "default".to_owned()),
        executor: executor.name.clone(),
        pool_slots: task.pool_slots,
        priority_weight: i32::try_from(task.priority_weight).unwrap_or(i32::MAX),
        identity,
    };
    Some((executor, workload))
}

/// Cancels what was found to be outdated.
pub(crate) fn cancel(setting: &Setting, cancels: Cancels) {
    for (executor, identity) in cancels {
        if let Some(executor) = setting.executor(&executor) {
            tracing::info!(team = %identity.team, dag = %identity.dag_id, run = %identity.run_id, task = %identity.task_id,
                "stopping a task: it was cleared, marked or deleted");
            executor.cancel(&identity);
        }
    }
}

impl Pass<'_> {
    /// Cancels workloads whose row says that they should not run any more. A task whose own end was written is left to finish.
    pub(crate) fn cancel_outdated(&mut self, run: &RunRef, instances: &[TaskInstance]) {
        let Some(held) = self.memory.held.get(run) else { return };
        for (key, held) in held {
            let row = instances
                .iter()
                .find(|ti| ti.map_index == key.map_index && ti.task_id == key.task_id);
            let wanted = row.is_some_and(|ti| {
                let at_work = ti.state.is_some_and(isobar_model::TaskState::occupies_slot);
                let ended_itself = ti.finishing_until.is_some() && !at_work;
                ti.dispatch == held.identity.dispatch && (ended_itself || (at_work && ti.id == held.identity.ti_id))
            });
            if !wanted && !held.ended {
                self.cancels.push((held.executor.clone(), held.identity.clone()));
            }
        }
    }

    /// Cancels all workloads of a run that is gone.
    pub(crate) fn cancel_all(&mut self, run: &RunRef) {
        self.cancel_outdated(run, &[]);
    }
}
