//! What a batch of file events means for Dag files.

use std::path::{Path, PathBuf};

use regex::Regex;

use super::bundle::{Bundle, FileId, read_source};
use super::listing::IGNORE_FILE;
use super::watch::Changes;

/// What kind of file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A Dag file that we know.
    DagFile,
    /// Another file: a module or some data, which Dag files may use.
    Support,
}

/// A batch of events, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    /// Files and folders came or went, or it is not known what happened: list again.
    pub(super) list: bool,
    /// Files that changed.
    pub(super) files: Vec<(FileId, Kind)>,
}

/// Sorts a batch. Files that editors and Python write for themselves count for nothing.
pub(super) fn sort(changes: &Changes, bundles: &[Bundle], is_dag_file: impl Fn(&FileId) -> bool) -> Sorted {
    let mut sorted = Sorted {
        list: changes.anything,
        files: Vec::new(),
    };
    for path in &changes.paths {
        let Some((bundle, below)) = place(path, bundles) else {
            sorted.list = true;
            continue;
        };
        if below.ends_with(IGNORE_FILE) {
            sorted.list = true;
            continue;
        }
        let Some(rel_path) = below.to_str().filter(|_| !is_noise(below)) else {
            continue;
        };
        let id = FileId {
            bundle: bundle.name.clone(),
            rel_path: rel_path.into(),
        };
        if is_dag_file(&id) {
            sorted.files.push((id, Kind::DagFile));
        } else if path.is_dir() {
            sorted.list = true;
        } else {
            // New, gone, or not a Dag file until now.
            sorted.list = true;
            sorted.files.push((id, Kind::Support));
        }
    }
    sorted
}

/// The innermost bundle that a path lies in.
fn place<'a, 'p>(path: &'p Path, bundles: &'a [Bundle]) -> Option<(&'a Bundle, &'p Path)> {
    (bundles.iter())
        .filter_map(|bundle| Some((bundle, path.strip_prefix(&bundle.folder).ok()?)))
        .min_by_key(|(_, below)| below.components().count())
}

fn is_noise(below: &Path) -> bool {
    let hidden = |part: &str| part.starts_with('.') || part == "__pycache__";
    below.iter().any(|part| part.to_str().is_none_or(hidden))
        || below
            .extension()
            .is_some_and(|extension| ["pyc", "pyo", "swp", "swx", "tmp"].iter().any(|e| extension == *e))
        || below.to_str().is_some_and(|text| text.ends_with('~'))
}

/// Which of `others` import one of the `changed` files by its module name. Blocking.
pub(super) fn importers(changed: &[FileId], others: Vec<(FileId, PathBuf)>, folders: &[PathBuf]) -> Vec<FileId> {
    let names: Vec<String> = changed
        .iter()
        .filter_map(module_name)
        .map(|name| regex::escape(&name))
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let pattern = format!(r"(?m)^[ \t]*(?:from|import)\b.*\b(?:{})\b", names.join("|"));
    let Ok(imports) = Regex::new(&pattern) else {
        return Vec::new();
    };
    (others.into_iter())
        .filter(|(_, path)| read_source(path, folders).is_ok_and(|(_, source)| imports.is_match(&source)))
        .map(|(id, _)| id)
        .collect()
}

fn module_name(id: &FileId) -> Option<String> {
    let path = Path::new(&*id.rel_path);
    let stem = path.file_stem()?.to_str()?;
    if stem == "__init__" {
        return Some(path.parent()?.file_name()?.to_str()?.to_owned());
    }
    Some(stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(paths: &[&str]) -> Sorted {
        let bundles = [Bundle {
            name: "b".into(),
            folder: "/dags".into(),
        }];
        let changes = Changes {
            paths: paths.iter().map(PathBuf::from).collect(),
            anything: false,
        };
        sort(&changes, &bundles, |id| &*id.rel_path == "known.py")
    }

    fn id(rel_path: &str) -> FileId {
        FileId {
            bundle: "b".into(),
            rel_path: rel_path.into(),
        }
    }

    #[test]
    fn a_changed_dag_file_needs_no_listing() {
        let expected = Sorted {
            list: false,
            files: vec![(id("known.py"), Kind::DagFile)],
        };
        assert_eq!(sorted(&["/dags/known.py"]), expected);
    }

    #[test]
    fn what_editors_and_python_write_for_themselves_counts_for_nothing() {
        let noise = [
            "/dags/.known.py.swp",
            "/dags/__pycache__/known.cpython-311.pyc",
            "/dags/.git/index",
            "/dags/a.py~",
        ];
        assert_eq!(sorted(&noise), Sorted::default());
    }

    #[test]
    fn another_file_may_concern_all_and_an_ignore_file_asks_for_a_listing() {
        let expected = Sorted {
            list: true,
            files: vec![(id("lib/helper.py"), Kind::Support)],
        };
        assert_eq!(sorted(&["/dags/lib/helper.py"]), expected);
        assert_eq!(
            sorted(&["/dags/sub/.airflowignore"]),
            Sorted {
                list: true,
                files: vec![]
            }
        );
    }

    #[test]
    fn importers_are_found_by_the_modules_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let texts = [
            ("a.py", "from shared_parts import x"),
            ("b.py", "import os\n# shared_parts"),
            ("c.py", "import lib.shared_parts as p"),
        ];
        let others = texts.map(|(name, text)| {
            std::fs::write(folder.join(name), text).unwrap();
            (id(name), folder.join(name))
        });
        let found = importers(&[id("lib/shared_parts.py")], others.to_vec(), &[folder]);
        assert_eq!(found, [id("a.py"), id("c.py")]);
    }
}
