//! Which files of a bundle are Dag files: Python files and zip archives that no ignore file names and that mention
//! Airflow and Dags or assets.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::bundle::{Bundle, Stamp, open_inside};
use super::ignore::{self, IgnoreSyntax, Rule};

/// The file that says what to leave out.
pub(super) const IGNORE_FILE: &str = ".airflowignore";

/// Which files count.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) safe_mode: bool,
    pub(super) syntax: IgnoreSyntax,
    /// All folders of the team, links resolved; links may lead from one to another, not elsewhere.
    pub(super) folders: Vec<PathBuf>,
}

/// What was decided on a file while it had a certain stamp, so that an unchanged file is not read again.
pub(super) type Verdicts = HashMap<PathBuf, (Stamp, bool)>;

/// The Dag files of a bundle, by path below it. Blocking.
///
/// A folder that cannot be read is warned of and left out, except for the bundle's own.
///
/// # Errors
/// Where the bundle's own folder cannot be read: then nothing is known, and no file may count as gone.
pub(super) fn list(bundle: &Bundle, rules: &Rules, verdicts: &mut Verdicts) -> io::Result<BTreeMap<String, Stamp>> {
    let mut walk = Walk {
        bundle,
        rules,
        verdicts,
        visited: HashSet::new(),
        found: BTreeMap::new(),
    };
    walk.visited.insert(bundle.folder.clone());
    walk.folder(&bundle.folder, "", &[])?;
    Ok(walk.found)
}

struct Walk<'a> {
    bundle: &'a Bundle,
    rules: &'a Rules,
    verdicts: &'a mut Verdicts,
    visited: HashSet<PathBuf>,
    found: BTreeMap<String, Stamp>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, below: &str, inherited: &[Rule]) -> io::Result<()> {
        let mut ignoring = inherited.to_vec();
        if let Some(text) = self.ignore_file(folder) {
            let (rules, bad) = ignore::read(&text, below, self.rules.syntax);
            ignoring.extend(rules);
            for pattern in bad {
                tracing::warn!(bundle = %self.bundle.name, folder = below, pattern, "an ignore pattern is not valid");
            }
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = folder.join(&name);
            let rel_path = if below.is_empty() {
                name.clone()
            } else {
                format!("{below}/{name}")
            };
            // Follows links, as Airflow does.
            let Ok(found) = fs::metadata(&path) else { continue };
            if ignore::is_ignored(&ignoring, &rel_path, found.is_dir()) {
                continue;
            }
            if found.is_dir() {
                self.sub_folder(&path, &rel_path, &ignoring);
            } else if found.is_file() && name != IGNORE_FILE && self.is_dag_file(&path, &found) {
                self.found.insert(rel_path, Stamp::of(&found));
            }
        }
        Ok(())
    }

    fn sub_folder(&mut self, path: &Path, rel_path: &str, ignoring: &[Rule]) {
        // Python writes it, and nothing in it is a source.
        if path.ends_with("__pycache__") {
            return;
        }
        let Ok(real) = fs::canonicalize(path) else { return };
        if !self.rules.folders.iter().any(|folder| real.starts_with(folder)) {
            tracing::warn!(bundle = %self.bundle.name, folder = rel_path, "a link leads out of the team's folders: skipped");
            return;
        }
        if !self.visited.insert(real) {
            tracing::warn!(bundle = %self.bundle.name, folder = rel_path, "a folder is linked more than once: skipped");
            return;
        }
        if let Err(error) = self.folder(path, rel_path, ignoring) {
            tracing::warn!(bundle = %self.bundle.name, folder = rel_path, %error, "a folder cannot be read: skipped");
        }
    }

    fn ignore_file(&self, folder: &Path) -> Option<String> {
        let mut text = String::new();
        let file = open_inside(&folder.join(IGNORE_FILE), &self.rules.folders).ok()?;
        file.take(1 << 20).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn is_dag_file(&mut self, path: &Path, found: &fs::Metadata) -> bool {
        let stamp = Stamp::of(found);
        if let Some((then, verdict)) = self.verdicts.get(path)
            && *then == stamp
        {
            return *verdict;
        }
        let verdict = looks_like_one(path, self.rules);
        self.verdicts.insert(path.to_owned(), (stamp, verdict));
        verdict
    }
}

/// Airflow's test: a Python file (by name) that mentions `airflow` and `dag` or `asset`; or a zip archive (by
/// content), whatever its name.
fn looks_like_one(path: &Path, rules: &Rules) -> bool {
    let Ok(mut file) = open_inside(path, &rules.folders) else {
        return false;
    };
    let is_python = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("py"));
    let mut bytes = vec![0; 4];
    let read = file.read(&mut bytes).unwrap_or(0);
    bytes.truncate(read);
    if bytes == *b"PK\x03\x04" || bytes == *b"PK\x05\x06" {
        return true;
    }
    if !is_python {
        return false;
    }
    if !rules.safe_mode {
        return true;
    }
    if file.take(64 << 20).read_to_end(&mut bytes).is_err() {
        return false;
    }
    bytes.make_ascii_lowercase();
    let mentions = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    mentions(b"airflow") && (mentions(b"dag") || mentions(b"asset"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const DAG: &str = "from airflow.sdk import DAG";

    fn listed(folder: &Path, safe_mode: bool) -> Vec<String> {
        let folder = fs::canonicalize(folder).unwrap();
        let bundle = Bundle {
            name: "dags-folder".into(),
            folder: folder.clone(),
        };
        let rules = Rules {
            safe_mode,
            syntax: IgnoreSyntax::Glob,
            folders: vec![folder],
        };
        list(&bundle, &rules, &mut Verdicts::new())
            .unwrap()
            .into_keys()
            .collect()
    }

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn dag_files_are_python_files_that_speak_of_airflow() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                ("a.py", DAG),
                ("sub/b.PY", "AIRFLOW asset"),
                ("helper.py", "import os"),
                ("only_airflow.py", "import airflow"),
                ("notes.txt", DAG),
                ("packed.zip", "PK\x03\x04"),
                ("__pycache__/a.py", DAG),
            ],
        );
        assert_eq!(listed(folder.path(), true), ["a.py", "packed.zip", "sub/b.PY"]);
        assert_eq!(listed(folder.path(), false).len(), 5);
    }

    #[test]
    fn ignore_files_hold_for_their_folder_and_below() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                (".airflowignore", "skipped/\n*_old.py\n"),
                ("a.py", DAG),
                ("a_old.py", DAG),
                ("skipped/b.py", DAG),
                ("sub/.airflowignore", "/c.py\n!d_old.py\n"),
                ("sub/c.py", DAG),
                ("sub/deep/c.py", DAG),
                ("sub/d_old.py", DAG),
            ],
        );
        assert_eq!(listed(folder.path(), true), ["a.py", "sub/d_old.py", "sub/deep/c.py"]);
    }

    #[test]
    fn links_lead_neither_out_nor_in_circles() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), &[("secret.py", DAG), ("more/x.py", DAG)]);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("sub/a.py", DAG)]);
        symlink(outside.path().join("secret.py"), folder.path().join("out.py")).unwrap();
        symlink(outside.path(), folder.path().join("out")).unwrap();
        symlink(folder.path(), folder.path().join("sub/round")).unwrap();
        symlink("sub/a.py", folder.path().join("inside.py")).unwrap();
        assert_eq!(listed(folder.path(), true), ["inside.py", "sub/a.py"]);
    }

    #[test]
    fn a_missing_bundle_is_an_error_and_not_an_empty_one() {
        let bundle = Bundle {
            name: "b".into(),
            folder: "/nonexistent/isobar".into(),
        };
        let rules = Rules {
            safe_mode: true,
            syntax: IgnoreSyntax::Glob,
            folders: vec![],
        };
        assert!(list(&bundle, &rules, &mut Verdicts::new()).is_err());
    }
}

/// Ignore files, one after the other, on one tree: Airflow's own listing is the oracle.
#[cfg(test)]
mod against_airflow {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    const ORACLE: &str = r#"
import sys, json, os
from airflow._shared.module_loading.file_discovery import find_path_from_directory
root, cases = sys.argv[1], json.load(sys.stdin)
for text, syntax in cases:
    open(os.path.join(root, ".airflowignore"), "w").write(text)
    print(json.dumps(sorted(os.path.relpath(p, root) for p in find_path_from_directory(root, ".airflowignore", syntax))))
"#;

    const FILES: &[&str] = &[
        "a.py",
        "b.py",
        "ab.py",
        "x/a.py",
        "x/b.py",
        "x/y/a.py",
        "x/y/z/c.py",
        "y/a.py",
        "y/x/a.py",
        "tests/test_a.py",
        "x/tests/t.py",
        "dir with space/a.py",
        "a-b.py",
        "a.b.py",
        "[a].py",
        "A.py",
        "x.py/a.py",
        "hash#tag.py",
        "!neg.py",
    ];

    const GLOBS: &[&str] = &[
        "a.py",
        "/a.py",
        "*.py",
        "*",
        "**",
        "x",
        "x/",
        "/x",
        "/x/",
        "x/*",
        "x/**",
        "x/*.py",
        "x/**/a.py",
        "**/a.py",
        "**/x",
        "**/x/",
        "**/x/*",
        "x/y",
        "x/y/",
        "/x/y/a.py",
        "y/x",
        "*/a.py",
        "*/x/a.py",
        "?.py",
        "a?.py",
        "[ab].py",
        "[!a].py",
        "[^a].py",
        "[a-b].py",
        "\\[a\\].py",
        "[a.py",
        "tests",
        "tests/",
        "**/tests/**",
        "test_*",
        "dir with space",
        "dir*/",
        "*.py\n!a.py",
        "x/\n!x/a.py",
        "*.py\n!/x/a.py",
        "!a.py",
        "a.py  ",
        "a.py # c",
        "#a.py",
        "hash",
        "\\!neg.py",
        "!neg.py",
        "x/y/**/c.py",
        "x/**/y",
        "**/**/a.py",
        "/**/a.py",
        "/*",
        "/*/",
        "*/",
        "x.py",
        "x.py/",
        "A.py",
        "a.*",
        "*a*",
        "a.b.py",
        "//a.py",
        "x//a.py",
        "/",
        "",
        "\n\n",
        " a.py",
        "x/y/z/",
        "**/y/**",
        "y/**/",
        "*.py\n!x/\n!x/a.py",
        "[]a].py",
        "[[]a].py",
    ];

    const EXPRESSIONS: &[&str] = &[
        "a",
        "^a",
        "a\\.py$",
        "x/",
        "^x/y",
        "tests",
        "[ab]\\.py",
        "(x|y)/a",
        "x$",
        "test_.*",
        "^x$",
        ".*",
        "z/c",
    ];

    #[test]
    fn ignore_files_leave_out_what_airflow_leaves_out() {
        let python = std::env::var("ISOBAR_TEST_PYTHON")
            .expect("set ISOBAR_TEST_PYTHON to the python of an environment with Airflow 3.3.2");
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("dags");
        for file in FILES {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let globs = GLOBS.iter().map(|text| (*text, IgnoreSyntax::Glob, "glob"));
        let expressions = EXPRESSIONS.iter().map(|text| (*text, IgnoreSyntax::Regexp, "regexp"));
        let cases: Vec<_> = globs.chain(expressions).collect();

        let told: Vec<_> = cases.iter().map(|(text, _, name)| (text, name)).collect();
        let mut oracle = Command::new(python)
            .args(["-c", ORACLE])
            .arg(&root)
            .env("AIRFLOW_HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        oracle
            .stdin
            .take()
            .unwrap()
            .write_all(serde_json::to_string(&told).unwrap().as_bytes())
            .unwrap();
        let output = oracle.wait_with_output().unwrap();
        assert!(output.status.success());
        let expected: Vec<Vec<String>> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        assert_eq!(expected.len(), cases.len());

        let bundle = Bundle {
            name: "b".into(),
            folder: root.clone(),
        };
        let mut wrong = Vec::new();
        for ((text, syntax, _), expected) in cases.into_iter().zip(expected) {
            fs::write(root.join(IGNORE_FILE), text).unwrap();
            let rules = Rules {
                safe_mode: false,
                syntax,
                folders: vec![root.clone()],
            };
            let mut found: Vec<String> = list(&bundle, &rules, &mut Verdicts::new())
                .unwrap()
                .into_keys()
                .collect();
            found.sort();
            if found != expected {
                wrong.push(format!("{text:?}: found {found:?}, Airflow {expected:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    }
}
