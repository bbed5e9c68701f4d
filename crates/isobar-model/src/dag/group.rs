//! Task groups: a tree beside the graph, for names, for looks, and for mapping several tasks as one.

use serde_json::Value;

use super::error::{DagError, Problem, Read, excerpt};
use super::expand::ExpandInput;
use super::graph::{Graph, TaskIdx};
use super::read::{Object, boolean, kind, object, optional, or, required, string, strings, text};

/// A group's place in [`Groups`]; 0 is the root, which holds everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupIdx(pub u32);

impl GroupIdx {
    /// The group that holds the whole Dag.
    pub const ROOT: Self = Self(0);

    /// The same as an index of a slice.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A child of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupChild {
    /// A task.
    Task(TaskIdx),
    /// A group.
    Group(GroupIdx),
}

/// A task group.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskGroup {
    /// Its full id, `outer.inner`; none for the root.
    pub group_id: Option<String>,
    /// The name to show, if it is not the id.
    pub display_name: String,
    /// Whether ids of children begin with this group's.
    pub prefix_group_id: bool,
    /// The group around it.
    pub parent: Option<GroupIdx>,
    /// What it holds, sorted by id.
    pub children: Vec<GroupChild>,
    /// What to show when a pointer rests on it.
    pub tooltip: String,
    /// Documentation in Markdown.
    pub doc_md: Option<String>,
    /// The colour of its box.
    pub ui_color: String,
    /// The colour of its label.
    pub ui_fgcolor: String,
    /// Groups wired before it as a whole.
    pub upstream_group_ids: Vec<String>,
    /// Groups wired after it as a whole.
    pub downstream_group_ids: Vec<String>,
    /// Tasks wired before it as a whole.
    pub upstream_task_ids: Vec<String>,
    /// Tasks wired after it as a whole.
    pub downstream_task_ids: Vec<String>,
    /// What it is mapped over, if it is.
    pub expand_input: Option<ExpandInput>,
    own_id: String,
}

impl TaskGroup {
    /// The label in the UI.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.display_name.is_empty() {
            &self.own_id
        } else {
            &self.display_name
        }
    }
}

/// The groups of a Dag.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    groups: Vec<TaskGroup>,
    of_task: Vec<GroupIdx>,
}

impl Groups {
    /// A group.
    #[must_use]
    pub fn get(&self, group: GroupIdx) -> &TaskGroup {
        &self.groups[group.index()]
    }

    /// Every group, the root first, parents before children.
    pub fn iter(&self) -> impl Iterator<Item = (GroupIdx, &TaskGroup)> {
        (0..).map(GroupIdx).zip(&self.groups)
    }

    /// The group with this full id.
    #[must_use]
    pub fn find(&self, group_id: &str) -> Option<GroupIdx> {
        self.iter()
            .find(|(_, group)| group.group_id.as_deref() == Some(group_id))
            .map(|(idx, _)| idx)
    }

    /// The innermost group that holds a task.
    #[must_use]
    pub fn of_task(&self, task: TaskIdx) -> GroupIdx {
        self.of_task[task.index()]
    }

    /// A group and the groups around it, innermost first, the root last.
    pub fn chain(&self, from: GroupIdx) -> impl Iterator<Item = GroupIdx> {
        std::iter::successors(Some(from), |group| self.get(*group).parent)
    }

    /// The mapped groups around a task, innermost first.
    pub fn mapped_around(&self, task: TaskIdx) -> impl Iterator<Item = (GroupIdx, &ExpandInput)> {
        self.chain(self.of_task(task))
            .filter_map(|group| self.get(group).expand_input.as_ref().map(|input| (group, input)))
    }

    /// Every task inside a group, at any depth, in ascending order.
    #[must_use]
    pub fn tasks_inside(&self, group: GroupIdx) -> Vec<TaskIdx> {
        let mut found = Vec::new();
        let mut waiting = vec![group];
        while let Some(next) = waiting.pop() {
            for child in &self.get(next).children {
                match child {
                    GroupChild::Task(task) => found.push(*task),
                    GroupChild::Group(inner) => waiting.push(*inner),
                }
            }
        }
        found.sort_unstable();
        found
    }

    pub(crate) fn read(value: Option<&Value>, graph: &Graph) -> Read<Self> {
        let mut reader = Reader {
            graph,
            groups: Vec::new(),
            of_task: vec![None; graph.len()],
        };
        match value {
            Some(root) => {
                reader.group(object(root)?, None)?;
            }
            None => reader.flat(),
        }
        Ok(Self {
            groups: reader.groups,
            of_task: reader
                .of_task
                .into_iter()
                .map(|group| group.unwrap_or(GroupIdx::ROOT))
                .collect(),
        })
    }
}

/// The longest full id of a group in bytes. Airflow allows 200 characters; ids of inner groups repeat those of outer ones.
const LONGEST_ID: usize = 1000;

struct Reader<'g> {
    graph: &'g Graph,
    groups: Vec<TaskGroup>,
    of_task: Vec<Option<GroupIdx>>,
}

impl Reader<'_> {
    /// A Dag without groups: a root that holds every task.
    fn flat(&mut self) {
        let mut tasks: Vec<TaskIdx> = self.graph.tasks().collect();
        tasks.sort_by_key(|task| self.graph.id(*task));
        self.groups.push(TaskGroup {
            group_id: None,
            display_name: String::new(),
            prefix_group_id: true,
            parent: None,
            children: tasks.into_iter().map(GroupChild::Task).collect(),
            tooltip: String::new(),
            doc_md: None,
            ui_color: "CornflowerBlue".to_owned(),
            ui_fgcolor: "#000".to_owned(),
            upstream_group_ids: Vec::new(),
            downstream_group_ids: Vec::new(),
            upstream_task_ids: Vec::new(),
            downstream_task_ids: Vec::new(),
            expand_input: None,
            own_id: String::new(),
        });
    }

    fn group(&mut self, map: &Object, parent: Option<GroupIdx>) -> Read<GroupIdx> {
        let find = |id: &str| self.graph.find(id);
        let own_id = optional(map, "_group_id", string)?;
        let is_mapped = or(map, "is_mapped", false, boolean)?;
        let group_id = own_id.as_ref().map(|id| self.full_id(id, parent));
        if let Some(long) = group_id.as_ref().filter(|id| id.len() > LONGEST_ID) {
            return Err(DagError::here(Problem::BadId(excerpt(long))).under("_group_id"));
        }
        let group = TaskGroup {
            group_id,
            display_name: or(map, "group_display_name", String::new(), string)?,
            prefix_group_id: or(map, "prefix_group_id", true, boolean)?,
            parent,
            children: Vec::new(),
            tooltip: or(map, "tooltip", String::new(), string)?,
            doc_md: optional(map, "doc_md", string)?,
            ui_color: or(map, "ui_color", "CornflowerBlue".to_owned(), string)?,
            ui_fgcolor: or(map, "ui_fgcolor", "#000".to_owned(), string)?,
            upstream_group_ids: or(map, "upstream_group_ids", Vec::new(), strings)?,
            downstream_group_ids: or(map, "downstream_group_ids", Vec::new(), strings)?,
            upstream_task_ids: or(map, "upstream_task_ids", Vec::new(), strings)?,
            downstream_task_ids: or(map, "downstream_task_ids", Vec::new(), strings)?,
            expand_input: if is_mapped {
                Some(required(map, "expand_input", |v| ExpandInput::read(v, &find))?)
            } else {
                None
            },
            own_id: own_id.unwrap_or_default(),
        };
        let idx = GroupIdx(u32::try_from(self.groups.len()).expect("the size of a Dag is limited when it is read"));
        self.groups.push(group);
        let mut children: Vec<(&String, &Value)> = required(map, "children", object)?.iter().collect();
        children.sort_unstable_by_key(|(label, _)| *label);
        for (label, entry) in children {
            let child = self.child(entry, idx).map_err(|e| e.under(label).under("children"))?;
            self.groups[idx.index()].children.push(child);
        }
        Ok(idx)
    }

    fn full_id(&self, own: &str, parent: Option<GroupIdx>) -> String {
        match parent.map(|parent| &self.groups[parent.index()]) {
            Some(TaskGroup {
                group_id: Some(outer),
                prefix_group_id: true,
                ..
            }) if !own.is_empty() => format!("{outer}.{own}"),
            _ => own.to_owned(),
        }
    }

    fn child(&mut self, entry: &Value, inside: GroupIdx) -> Read<GroupChild> {
        let (tag, content) = match entry.as_array().map(Vec::as_slice) {
            Some([tag, content]) => (text(tag)?, content),
            _ => {
                return Err(DagError::here(Problem::WrongType {
                    expected: "a pair of a kind and a child",
                    found: kind(entry),
                }));
            }
        };
        match tag {
            "operator" => {
                let id = text(content)?;
                let task = self
                    .graph
                    .find(id)
                    .ok_or_else(|| DagError::here(Problem::UnknownTask(excerpt(id))))?;
                if self.of_task[task.index()].replace(inside).is_some() {
                    return Err(DagError::here(Problem::DuplicateTask(excerpt(id))));
                }
                Ok(GroupChild::Task(task))
            }
            "taskgroup" => self
                .group(object(content)?, Some(inside))
                .map(GroupChild::Group)
                .map_err(|e| e.at(1)),
            other => Err(DagError::here(crate::UnknownName {
                what: "kind of group child",
                word: excerpt(other),
            })),
        }
    }
}
