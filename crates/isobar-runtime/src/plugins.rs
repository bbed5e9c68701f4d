//! Whether a team's plugins have changed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files looked at; a folder with more is no plugins folder.
const MOST_FILES: usize = 5000;

/// Tells two states of a plugins folder apart by names, sizes and times.
pub(crate) async fn print(folder: Option<PathBuf>) -> u64 {
    let Some(folder) = folder else { return 0 };
    tokio::task::spawn_blocking(move || {
        let mut files = Vec::new();
        list(&folder, &mut files);
        files.sort();
        let mut hash = DefaultHasher::new();
        files.hash(&mut hash);
        hash.finish()
    })
    .await
    .unwrap_or(0)
}

fn list(folder: &Path, files: &mut Vec<(PathBuf, u64, Option<SystemTime>)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if files.len() >= MOST_FILES {
            return;
        }
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            // Python writes compiled files here by itself.
            if entry.file_name() != "__pycache__" {
                list(&path, files);
            }
        } else if let Ok(metadata) = std::fs::metadata(&path) {
            files.push((path, metadata.len(), metadata.modified().ok()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_changed_plugin_shows_and_compiled_files_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let now = || print(Some(folder.path().to_owned()));
        std::fs::write(folder.path().join("a.py"), "1").unwrap();
        let before = now().await;
        std::fs::create_dir(folder.path().join("__pycache__")).unwrap();
        std::fs::write(folder.path().join("__pycache__/a.pyc"), "x").unwrap();
        assert_eq!(now().await, before);
        std::fs::write(folder.path().join("a.py"), "12").unwrap();
        assert_ne!(now().await, before);
    }
}
