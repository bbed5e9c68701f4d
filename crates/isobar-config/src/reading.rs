//! What one reading of a configuration depends on, and what it gathers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::problem::{Origin, Problem};
use crate::show::Shown;

/// What the reading depends on besides the files.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) environment: BTreeMap<String, String>,
    /// Where relative paths of environment variables start.
    pub(crate) current_folder: PathBuf,
    /// Off where input is not trusted.
    pub(crate) run_commands: bool,
}

/// What one reading gathers.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) surroundings: Surroundings,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    pub(crate) shown: RefCell<Shown>,
    /// The files that were read, absolute, the main one first.
    files: RefCell<Vec<PathBuf>>,
    /// The state folder, once it is known: what `{home}` stands for.
    home: RefCell<Option<PathBuf>>,
}

impl Reading {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        Self {
            surroundings,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            shown: RefCell::default(),
            files: RefCell::default(),
            home: RefCell::default(),
        }
    }

    pub(crate) fn problem(&self, at: &Origin, what: impl Into<String>, hint: impl Into<String>) {
        let problem = Problem {
            at: at.clone(),
            what: what.into(),
            hint: hint.into(),
        };
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    pub(crate) fn warning(&self, at: &Origin, what: impl Into<String>, hint: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem {
            at: at.clone(),
            what: what.into(),
            hint: hint.into(),
        });
    }

    pub(crate) fn extend(&self, problems: Vec<Problem>) {
        self.problems.borrow_mut().extend(problems);
    }

    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    pub(crate) fn finish(self) -> (Vec<Problem>, Vec<Problem>, Shown) {
        (
            self.problems.into_inner(),
            self.warnings.into_inner(),
            self.shown.into_inner(),
        )
    }

    /// Notes a file that was read.
    pub(crate) fn note_file(&self, path: &Path) {
        self.files.borrow_mut().push(tidy(path));
    }

    /// The files that were read, absolute, the main one first.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.borrow().clone()
    }

    /// From here on `{home}` at the start of a path means that folder.
    pub(crate) fn know_home(&self, home: &Path) {
        *self.home.borrow_mut() = Some(home.to_owned());
    }

    /// Makes a path absolute: relative ones start at the file that names them.
    pub(crate) fn resolve(&self, path: &str, origin: &Origin) -> PathBuf {
        if let (Some(rest), Some(home)) = (path.strip_prefix("{home}"), self.home.borrow().as_ref()) {
            return tidy(&home.join(rest.trim_start_matches('/')));
        }
        let start = match origin {
            Origin::File { file, .. } => file.parent().unwrap_or(Path::new("")),
            Origin::Fetched(source) => return self.resolve(path, source),
            Origin::Environment(_) | Origin::Default => Path::new(""),
        };
        let path = match (path.strip_prefix("~/"), self.surroundings.environment.get("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => PathBuf::from(path),
        };
        tidy(&self.surroundings.current_folder.join(start).join(path))
    }
}

/// Takes `.` and `..` out of a path without asking the disk, for paths that need not exist.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                tidied.pop();
            }
            _ => tidied.push(part),
        }
    }
    tidied
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) at: Origin,
}
