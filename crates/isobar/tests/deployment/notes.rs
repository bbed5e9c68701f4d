//! Notes that tasks and triggers leave as evidence: files with a line for each thing that happened.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The lines of a file of notes; none where there is no such file.
pub fn notes(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a file of notes has so many lines.
pub fn wait_for_notes(path: &Path, count: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let found = notes(path);
        if found.len() >= count {
            return found;
        }
        assert!(
            Instant::now() < end,
            "{} has {} notes, not {count}",
            path.display(),
            found.len()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
