//! Rule 2: folders that exist, belong to one team, and lead nowhere else.

use std::path::{Path, PathBuf};

use crate::Isolation;
use crate::problem::Origin;
use crate::read_team::Declared;
use crate::reading::{Placed, Reading};

/// A walk stops here; a folder so large was surely not meant.
const MOST_ENTRIES: usize = 200_000;

/// Checks the folders of all teams and puts the resolved paths into the teams.
pub(crate) fn check(teams: &mut [Declared], home: &Path, reading: &Reading) {
    for declared in teams.iter_mut() {
        let name = declared.team.name.to_string();
        declared
            .folders
            .retain_mut(|folder| resolve_folder(folder, &name, reading));
        for folder in declared.read_folders.iter_mut().chain(&mut declared.write_folders) {
            folder.value = resolved(&folder.value);
        }
        declared.team.plugins_folder = declared.team.plugins_folder.take().map(|folder| resolved(&folder));
    }
    let home = resolved(home);
    for (position, declared) in teams.iter().enumerate() {
        check_own(declared, reading);
        for folder in &declared.folders {
            check_home(&folder.value, &folder.at, &home, reading);
            check_links(&folder.value, &declared.folders, &folder.at, reading);
        }
        for other in &teams[position + 1..] {
            check_pair(declared, other, reading);
        }
        check_reach(declared, teams, &home, reading);
        check_files(declared, reading);
    }
    let values = |folders: &[Placed<PathBuf>]| folders.iter().map(|folder| folder.value.clone()).collect();
    for declared in teams {
        declared.team.folders = values(&declared.folders);
        declared.team.read_folders = values(&declared.read_folders);
        declared.team.write_folders = values(&declared.write_folders);
    }
}

/// The path with its links resolved as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut present = path;
    loop {
        if let Ok(found) = present.canonicalize() {
            return missing.iter().rev().fold(found, |path, part| path.join(part));
        }
        let (Some(parent), Some(name)) = (present.parent(), present.file_name()) else {
            return path.to_owned();
        };
        missing.push(name);
        present = parent;
    }
}

fn resolve_folder(folder: &mut Placed<PathBuf>, team: &str, reading: &Reading) -> bool {
    let path = folder.value.display().to_string();
    match folder.value.metadata() {
        Ok(found) if found.is_dir() => {
            folder.value = resolved(&folder.value);
            warn_if_open(folder, &found, reading);
            true
        }
        Ok(_) => {
            let what = format!("`{path}`, a Dag folder of team `{team}`, is not a folder");
            reading.problem(&folder.at, what, "name the folder in which the Dag files lie");
            false
        }
        // Nobody asked for this folder; it is made at first start.
        Err(_) if folder.at == Origin::Default => true,
        Err(error) => {
            let (what, hint) = if error.kind() == std::io::ErrorKind::NotFound {
                (
                    format!("Dag folder `{path}` of team `{team}` does not exist"),
                    "make it, or correct the path",
                )
            } else {
                (
                    format!("Dag folder `{path}` of team `{team}`: {error}"),
                    "let the user that runs Isobar read it",
                )
            };
            reading.problem(&folder.at, what, hint);
            false
        }
    }
}

fn warn_if_open(folder: &Placed<PathBuf>, found: &std::fs::Metadata, reading: &Reading) {
    use std::os::unix::fs::PermissionsExt;
    if found.permissions().mode() & 0o002 != 0 {
        reading.warning(
            &folder.at,
            format!(
                "everybody on this host may write Dags into `{}`",
                folder.value.display()
            ),
            format!("chmod o-w {}", folder.value.display()),
        );
    }
}

fn overlap(left: &Path, right: &Path) -> bool {
    left.starts_with(right) || right.starts_with(left)
}

fn check_own(declared: &Declared, reading: &Reading) {
    for (position, folder) in declared.folders.iter().enumerate() {
        if let Some(other) = declared.folders[position + 1..]
            .iter()
            .find(|other| overlap(&folder.value, &other.value))
        {
            reading.problem(
                &other.at,
                format!(
                    "folders `{}` and `{}` of team `{}` overlap, so files would be read twice",
                    folder.value.display(),
                    other.value.display(),
                    declared.team.name
                ),
                "keep the outer one, or choose two that lie apart",
            );
        }
    }
}

fn check_pair(left: &Declared, right: &Declared, reading: &Reading) {
    for mine in &left.folders {
        for theirs in right
            .folders
            .iter()
            .filter(|theirs| overlap(&mine.value, &theirs.value))
        {
            reading.problem(
                &theirs.at,
                format!(
                    "Dag folder `{}` of team `{}` overlaps `{}` of team `{}`",
                    theirs.value.display(),
                    right.team.name,
                    mine.value.display(),
                    left.team.name
                ),
                "every Dag file belongs to exactly one team: give each team folders of its own",
            );
        }
    }
    for mine in &left.write_folders {
        for theirs in right
            .write_folders
            .iter()
            .filter(|theirs| overlap(&mine.value, &theirs.value))
        {
            reading.problem(
                &theirs.at,
                format!(
                    "teams `{}` and `{}` could both write into `{}`",
                    left.team.name,
                    right.team.name,
                    theirs.value.display()
                ),
                "let one team write it, and list it in `read_folders` of the other",
            );
        }
    }
}

/// What tasks may reach beyond their Dags holds neither Dags of a team that is not theirs nor the state of Isobar.
fn check_reach(declared: &Declared, teams: &[Declared], home: &Path, reading: &Reading) {
    let own = declared.team.name.as_str();
    for (reach, verb) in (declared.read_folders.iter().map(|folder| (folder, "read")))
        .chain(declared.write_folders.iter().map(|folder| (folder, "write")))
    {
        let others = teams
            .iter()
            .filter(|other| other.team.name.as_str() != own || verb == "write");
        for other in others {
            if let Some(folder) = other.folders.iter().find(|folder| overlap(&reach.value, &folder.value)) {
                reading.problem(
                    &reach.at,
                    format!(
                        "team `{own}` could {verb} `{}`, where Dags of team `{}` lie",
                        folder.value.display(),
                        other.team.name
                    ),
                    "choose a folder apart from all Dag folders",
                );
            }
        }
        let state = ["envs", "logs", "run", "keys"].map(|name| home.join(name));
        if home.starts_with(&reach.value) || state.iter().any(|state| reach.value.starts_with(state)) {
            reading.problem(
                &reach.at,
                format!("team `{own}` could {verb} the state of Isobar in `{}`", home.display()),
                "choose a folder apart from the state folder",
            );
        }
    }
}

/// What a confined team may read holds no configuration, in which passwords stand; a file of its own may lie with its Dags.
fn check_files(declared: &Declared, reading: &Reading) {
    if declared.team.isolation == Isolation::None {
        return;
    }
    let files = reading.files();
    let is_own = |file: &Path| {
        files.first().is_some_and(|main| main != file)
            && declared.folders.iter().any(|folder| match folder.at.written() {
                Origin::File { file: named_in, .. } => reading.surroundings.current_folder.join(named_in) == file,
                _ => false,
            })
    };
    for file in files.iter().filter(|file| !is_own(file)) {
        let on_disk = resolved(file);
        let reach = declared
            .folders
            .iter()
            .chain(&declared.read_folders)
            .chain(&declared.write_folders);
        for folder in reach.filter(|folder| on_disk.starts_with(&folder.value)) {
            reading.problem(
                &folder.at,
                format!(
                    "team `{}` could read the configuration `{}`, which lies in `{}`",
                    declared.team.name,
                    file.display(),
                    folder.value.display()
                ),
                "keep Dags and configuration in folders apart",
            );
        }
    }
}

fn check_home(folder: &Path, at: &Origin, home: &Path, reading: &Reading) {
    if home.starts_with(folder) {
        reading.problem(
            at,
            format!(
                "the state folder `{}` lies inside the Dag folder `{}`",
                home.display(),
                folder.display()
            ),
            "move one of them: `home` in `[core]`, or the Dags into a sub-folder",
        );
    }
}

/// No link inside a folder leads out of the team's folders.
fn check_links(folder: &Path, own: &[Placed<PathBuf>], at: &Origin, reading: &Reading) {
    let mut waiting = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(current) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&current) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            seen += 1;
            if seen > MOST_ENTRIES {
                let what = format!(
                    "`{}` holds more than {MOST_ENTRIES} files; the rest is unchecked",
                    folder.display()
                );
                reading.warning(
                    at,
                    what,
                    "name the folder in which the Dag files lie, not one far above",
                );
                return;
            }
            let (Ok(kind), path) = (entry.file_type(), entry.path()) else {
                continue;
            };
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_symlink() {
                check_link(&path, folder, own, at, reading);
            }
        }
    }
}

fn check_link(link: &Path, folder: &Path, own: &[Placed<PathBuf>], at: &Origin, reading: &Reading) {
    let shown = link.strip_prefix(folder).unwrap_or(link).display();
    match link.canonicalize() {
        Ok(target) if own.iter().any(|folder| target.starts_with(&folder.value)) => {}
        Ok(target) => reading.problem(
            at,
            format!(
                "link `{shown}` in Dag folder `{}` leads out to `{}`",
                folder.display(),
                target.display()
            ),
            "put the file itself into the folder, or make the target one of the team's `folders`",
        ),
        // Editors leave such links as locks; they hold no Dag.
        Err(_) => reading.warning(
            at,
            format!("link `{shown}` in Dag folder `{}` leads nowhere", folder.display()),
            "remove it",
        ),
    }
}
