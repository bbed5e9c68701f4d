//! The Python agent, which travels inside this binary.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

/// The files of `python/isobar_agent`.
const FILES: &[(&str, &str)] = &[
    (
        "__init__.py",
        include_str!("../../../../python/isobar_agent/__init__.py"),
    ),
    ("start.py", include_str!("../../../../python/isobar_agent/start.py")),
    ("zygote.py", include_str!("../../../../python/isobar_agent/zygote.py")),
    (
        "descendants.py",
        include_str!("../../../../python/isobar_agent/descendants.py"),
    ),
    (
        "rehearsal.py",
        include_str!("../../../../python/isobar_agent/rehearsal.py"),
    ),
    (
        "bytecode.py",
        include_str!("../../../../python/isobar_agent/bytecode.py"),
    ),
    (
        "shortcuts.py",
        include_str!("../../../../python/isobar_agent/shortcuts.py"),
    ),
    ("task.py", include_str!("../../../../python/isobar_agent/task.py")),
    (
        "prepared.py",
        include_str!("../../../../python/isobar_agent/prepared.py"),
    ),
    ("examine.py", include_str!("../../../../python/isobar_agent/examine.py")),
    (
        "changing.py",
        include_str!("../../../../python/isobar_agent/changing.py"),
    ),
    ("pages.py", include_str!("../../../../python/isobar_agent/pages.py")),
    ("preload.py", include_str!("../../../../python/isobar_agent/preload.py")),
    ("parse.py", include_str!("../../../../python/isobar_agent/parse.py")),
    ("helper.py", include_str!("../../../../python/isobar_agent/helper.py")),
    (
        "listeners.py",
        include_str!("../../../../python/isobar_agent/listeners.py"),
    ),
    (
        "timetables.py",
        include_str!("../../../../python/isobar_agent/timetables.py"),
    ),
    (
        "callback.py",
        include_str!("../../../../python/isobar_agent/callback.py"),
    ),
    (
        "triggers.py",
        include_str!("../../../../python/isobar_agent/triggers.py"),
    ),
    (
        "sample_dag.py",
        include_str!("../../../../python/isobar_agent/sample_dag.py"),
    ),
];

/// Writes the agent below `under`, in a folder named for its contents, and gives that folder for
/// [`PythonSpec::agent`](super::PythonSpec). Does nothing where it is there already.
///
/// The folder must be one that team code can read and not write.
///
/// # Errors
/// What the file system said.
pub fn install_agent(under: &Path) -> io::Result<PathBuf> {
    let mut hash = Sha256::new();
    for (name, text) in FILES {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    let digest: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let home = under.join(format!("agent-{digest}"));
    if home.is_dir() {
        return Ok(home);
    }
    // Written beside and renamed, so that a half-written agent is never found; several teams may do so at once.
    static DRAFTS: AtomicU32 = AtomicU32::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = under.join(format!("agent-{digest}.{}.{number}", std::process::id()));
    let package = draft.join("isobar_agent");
    fs::create_dir_all(&package)?;
    for (name, text) in FILES {
        fs::write(package.join(name), text)?;
    }
    match fs::rename(&draft, &home) {
        Ok(()) => {}
        Err(_) if home.is_dir() => fs::remove_dir_all(&draft)?,
        Err(error) => return Err(error),
    }
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_package_is_shipped() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/isobar_agent");
        let mut on_disk: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| Path::new(name).extension().is_some_and(|ext| ext == "py"))
            .collect();
        let mut shipped: Vec<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        on_disk.sort();
        shipped.sort();
        assert_eq!(on_disk, shipped);
    }

    #[test]
    fn installing_twice_gives_the_same_folder() {
        let under = tempfile::tempdir().unwrap();
        let first = install_agent(under.path()).unwrap();
        assert_eq!(install_agent(under.path()).unwrap(), first);
        assert!(first.join("isobar_agent/zygote.py").is_file());
    }
}
