//! What may happen to a team's Python while its server runs: it cannot be warmed, or its environment is another one.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use isobar_config::{Config, Team};
use isobar_runtime::environment::{Environment, EnvironmentSpec};

/// How often a running server looks whether a team's environment is still the one it started.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long the Pythons of a server that died may take to kill what they had started.
const ENDING: Duration = Duration::from_secs(15);

/// Returns when the team's environment has become another: made anew by `isobar teams apply`, or changed by whoever
/// keeps its `venv`.
pub(crate) async fn changed(environment: &Environment, spec: &EnvironmentSpec) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let (environment, spec) = (environment.clone(), spec.clone());
        if tokio::task::spawn_blocking(move || environment.is_outdated(&spec))
            .await
            .unwrap_or(false)
        {
            return;
        }
    }
}

/// The lock of the Python that takes over while tasks of the one before still run. They take turns.
pub(crate) fn lock_of_generation(lock: &Path, generation: usize) -> PathBuf {
    match generation % 2 {
        0 => lock.to_owned(),
        _ => lock.with_file_name("zygote-2.lock"),
    }
}

/// Waits until no Python of a server that died holds the second lock; the first is waited for by Python itself.
pub(crate) async fn wait_for_predecessor(lock: &Path) {
    let lock = lock_of_generation(lock, 1);
    let begin = tokio::time::Instant::now();
    while is_held(&lock) && begin.elapsed() < ENDING {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The team can put anything there, so nothing is followed or waited for.
fn is_held(lock: &Path) -> bool {
    let flags = (nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits();
    let Ok(file) = File::options().read(true).custom_flags(flags).open(lock) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

/// Where a server writes down that a team's Python could not be warmed, for `isobar doctor`.
fn note(config: &Config, team: &Team) -> PathBuf {
    config.home.join("cold").join(team.name.as_str())
}

/// Writes down why the team starts cold; none: it started as it should.
pub(crate) fn remember_cold(config: &Config, team: &Team, reason: Option<&str>) {
    let path = note(config, team);
    let done = match reason {
        None if path.exists() => fs::remove_file(&path),
        None => Ok(()),
        Some(reason) => fs::create_dir_all(config.home.join("cold")).and_then(|()| fs::write(&path, reason)),
    };
    if let Err(error) = done {
        tracing::warn!(team = %team.name, %error, "`{}` cannot be written", path.display());
    }
}

/// Why the team's Python could not be warmed when it was last started, and when that was.
pub(crate) fn cold_because(config: &Config, team: &Team) -> Option<(String, SystemTime)> {
    let path = note(config, team);
    let reason = fs::read_to_string(&path).ok()?;
    let when = fs::metadata(&path).and_then(|found| found.modified()).ok()?;
    // The team's own words: one line of them.
    let reason = reason
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect();
    Some((reason, when))
}
