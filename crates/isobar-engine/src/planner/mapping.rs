//! Dynamic task mapping: how many instances a task has, and which instances of an upstream task belong to which.

use std::ops::Range;

use isobar_model::MapIndex;

use super::book::Book;
use super::rule::Counts;
use crate::graph::{Expand, RunGraph, TaskNo};

/// The innermost mapped group that holds both tasks.
pub(super) fn common_mapped_group(graph: &RunGraph, one: TaskNo, other: TaskNo) -> Option<u32> {
    let groups = &graph.derived(one).mapped_groups;
    graph
        .derived(other)
        .mapped_groups
        .iter()
        .copied()
        .find(|group| groups.contains(group))
}

/// Whether the task is mapped itself, or in a mapped group inside the given one.
pub(super) fn mapped_further_inside(graph: &RunGraph, task: TaskNo, container: u32) -> bool {
    graph.task(task).expand.is_some() || graph.derived(task).mapped_groups.first() != Some(&container)
}

impl Book {
    /// Which instances of `down` depend on just this instance of `up`; none: any of them may.
    pub(super) fn instances_below(&self, up: TaskNo, index: MapIndex, down: TaskNo) -> Option<Range<MapIndex>> {
        let ancestor = common_mapped_group(&self.graph, down, up)?;
        let of_group = i64::try_from(self.group_count(ancestor)?)
            .ok()
            .filter(|count| *count > 0)?;
        let count = i64::try_from(self.mapped_count(down)?).ok()?;
        let index = i64::from(index);
        if index < 0 {
            return None;
        }
        let place = if mapped_further_inside(&self.graph, up, ancestor) {
            index.checked_div(count / of_group)?
        } else {
            index
        };
        let first_at = |place: i64| MapIndex::try_from((place * count + of_group - 1) / of_group).ok();
        Some(first_at(place)?..first_at(place + 1)?)
    }

    /// How many instances the task has by what is known now; none: not known yet. Only for tasks that need expansion.
    pub(super) fn mapped_count(&self, task: TaskNo) -> Option<u64> {
        let own = match &self.graph.task(task).expand {
            Some(expand) => self.length(expand)?,
            None => 1,
        };
        let groups = self.graph.derived(task).mapped_groups.first();
        match groups {
            Some(group) => Some(own.saturating_mul(self.group_count(*group)?)),
            None => Some(own),
        }
    }

    /// How often the tasks of a mapped group are mapped, groups around it included.
    pub(super) fn group_count(&self, group: u32) -> Option<u64> {
        let graph = &self.graph;
        let mut product = 1_u64;
        let mut at = Some(group);
        while let Some(number) = at {
            let spec = graph.group(number);
            if let Some(expand) = &spec.expand {
                product = product.saturating_mul(self.length(expand)?);
            }
            at = spec.parent;
        }
        Some(product)
    }

    fn length(&self, expand: &Expand) -> Option<u64> {
        expand.length(&|task| self.result_length(task))
    }

    /// The length of a task's result. A mapped task has one when all its instances have ended: how many pushed a result.
    fn result_length(&self, task: TaskNo) -> Option<u64> {
        if self.graph.task(task).expand.is_none() {
            return self.lengths[task.at()];
        }
        self.will_be_complete(task).then(|| u64::from(self.task(task).results))
    }

    /// The instances of `up` that matter to this instance of `task`: a range of indices (and the unmapped one), or none for all.
    pub(super) fn relevant(&self, task: TaskNo, index: MapIndex, up: TaskNo) -> Option<Range<i64>> {
        let graph = &self.graph;
        let in_group = !graph.derived(task).mapped_groups.is_empty();
        if index < 0 && in_group && is_fast(graph, task) && !self.expansion_depends_on(task, up) {
            return None;
        }
        let count = self.mapped_count(task).filter(|count| *count > 0)?;
        let ancestor = common_mapped_group(graph, task, up)?;
        let of_group = i64::try_from(self.group_count(ancestor)?).ok()?;
        let count = i64::try_from(count).ok()?;
        let place = (i64::from(index) * of_group).div_euclid(count);
        if !mapped_further_inside(graph, up, ancestor) {
            return Some(place..place + 1);
        }
        let further = count.checked_div(of_group)?;
        Some(place * further..(place + 1) * further)
    }

    fn expansion_depends_on(&self, task: TaskNo, up: TaskNo) -> bool {
        let graph = &self.graph;
        let own = graph.task(task).expand.as_ref();
        let groups = graph
            .derived(task)
            .mapped_groups
            .iter()
            .filter_map(|group| graph.group(*group).expand.as_ref());
        own.into_iter()
            .chain(groups)
            .any(|expand| expand.dependencies.contains(&up))
    }

    /// Counts the instances of some upstream tasks that matter to one instance.
    pub(super) fn count_upstream(&self, task: TaskNo, index: MapIndex, upstream: &[TaskNo]) -> Counts {
        let graph = &self.graph;
        let in_group = !graph.derived(task).mapped_groups.is_empty();
        let rows_count = upstream.iter().any(|up| graph.derived(*up).needs_expansion);
        let mut counts = Counts::default();
        for up in upstream {
            let relevant = if in_group {
                self.relevant(task, index, *up)
            } else {
                None
            };
            let mut found = self.count_instances(*up, relevant);
            if !rows_count {
                found.total = 1;
                found.setups = u32::from(graph.task(*up).is_setup);
            }
            counts.merge(&found);
        }
        counts
    }

    fn count_instances(&self, up: TaskNo, relevant: Option<Range<i64>>) -> Counts {
        let book = self.task(up);
        let is_setup = self.graph.task(up).is_setup;
        let Some(range) = relevant else {
            let mut all = book.own;
            all.setups = if is_setup { all.total } else { 0 };
            return all;
        };
        let mut counts = Counts::default();
        let last = i64::try_from(book.mapped.len()).unwrap_or(i64::MAX);
        let inside = usize::try_from(range.start.clamp(0, last)).unwrap_or(0)
            ..usize::try_from(range.end.clamp(0, last)).unwrap_or(0);
        for inst in book.unmapped.iter().chain(book.mapped[inside].iter().flatten()) {
            counts.total += 1;
            counts.setups += u32::from(is_setup);
            counts.add(inst.state, is_setup);
        }
        counts
    }
}

/// Rules that a part of the upstream can satisfy.
fn is_fast(graph: &RunGraph, task: TaskNo) -> bool {
    use isobar_model::TriggerRule::{NoneFailedMinOneSuccess, OneDone, OneFailed, OneSuccess};
    matches!(
        graph.task(task).trigger_rule,
        OneSuccess | OneFailed | OneDone | NoneFailedMinOneSuccess
    )
}
