//! Priorities: how the weights of tasks add up along the graph.

use super::graph::{Graph, TaskIdx};
use super::task::{Task, TaskWeightRule};
use crate::WeightRule;

/// How many tasks' reaches are followed at once, one bit each.
const LANES: usize = 64;

/// The priority of each task in a run, by its weight rule. A custom rule gives the task's own weight until the
/// team's helper has answered.
///
/// Airflow clips each task's own weight to 32 bits and then stores the sum in 32 bits; the sum is clipped here too.
pub(crate) fn priorities(graph: &Graph, tasks: &[Task]) -> Vec<i32> {
    let mut sums: Vec<i64> = tasks.iter().map(|task| i64::from(task.priority_weight)).collect();
    for rule in [WeightRule::Downstream, WeightRule::Upstream] {
        let wanted: Vec<TaskIdx> = graph
            .tasks()
            .filter(|task| tasks[task.index()].weight_rule == TaskWeightRule::BuiltIn(rule))
            .collect();
        for block in wanted.chunks(LANES) {
            add_reach(graph, tasks, rule, block, &mut sums);
        }
    }
    sums.into_iter()
        .map(|sum| i32::try_from(sum).unwrap_or(if sum < 0 { i32::MIN } else { i32::MAX }))
        .collect()
}

/// Adds to each of up to 64 tasks the weights of all it reaches, in one pass over the graph.
fn add_reach(graph: &Graph, tasks: &[Task], rule: WeightRule, block: &[TaskIdx], sums: &mut [i64]) {
    let mut reached = vec![0_u64; graph.len()];
    let mut visit = |task: TaskIdx| {
        let mut mask = reached[task.index()];
        let mut left = mask;
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            sums[block[lane].index()] += i64::from(tasks[task.index()].priority_weight);
            left &= left - 1;
        }
        if let Ok(lane) = block.binary_search(&task) {
            mask |= 1 << lane;
        }
        if mask != 0 {
            let onward = match rule {
                WeightRule::Upstream => graph.upstream(task),
                WeightRule::Downstream | WeightRule::Absolute => graph.downstream(task),
            };
            for next in onward {
                reached[next.index()] |= mask;
            }
        }
    };
    match rule {
        WeightRule::Upstream => graph.tasks().rev().for_each(&mut visit),
        WeightRule::Downstream | WeightRule::Absolute => graph.tasks().for_each(&mut visit),
    }
}
