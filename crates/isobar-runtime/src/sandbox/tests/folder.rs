//! What the server does to folders while their team plays with the names.

use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::*;

#[test]
fn a_folder_that_a_team_exchanges_for_a_link_gives_it_nothing() {
    for user in users() {
        let world = World::new();
        let victim = world.at("conf");
        let owner = |path: &PathBuf| fs::metadata(path).map(|found| (found.uid(), found.gid(), found.mode() & 0o777));
        let before = owner(&victim).unwrap();
        let mut alpha = world.team("alpha");
        alpha.isolation = isobar_config::Isolation::None;
        let grounds = world.grounds("alpha");
        prepare(&alpha, user, &grounds).unwrap();
        let (home, other) = (
            world.at("state/run/alpha/scratch/home"),
            world.at("state/run/alpha/scratch/other"),
        );
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    // A link again, where the two were folders.
                    let _ = fs::remove_dir(&other);
                    let _ = symlink(&victim, &other);
                    let _ = renameat2(AT_FDCWD, &home, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE);
                }
            });
            for _ in 0..2_000 {
                // It may give up on a team that plays so.
                let _ = prepare(&alpha, user, &grounds);
            }
            ended.store(true, Ordering::Relaxed);
        });
        assert_eq!(owner(&victim).unwrap(), before, "user {user:?}");
    }
}

#[test]
fn a_link_or_a_file_in_place_of_a_teams_folder_gives_way_to_a_folder() {
    let world = World::new();
    let mut alpha = world.team("alpha");
    alpha.isolation = isobar_config::Isolation::None;
    let grounds = world.grounds("alpha");
    let confinement = prepare(&alpha, None, &grounds).unwrap();
    for path in [&confinement.home, &confinement.airflow_home, &confinement.tmp] {
        fs::remove_dir(path).unwrap();
    }
    symlink(world.at("conf"), &confinement.home).unwrap();
    symlink("nowhere", &confinement.airflow_home).unwrap();
    fs::write(&confinement.tmp, "").unwrap();
    let again = prepare(&alpha, None, &grounds).unwrap();
    for path in [&again.home, &again.airflow_home, &again.tmp] {
        let found = fs::symlink_metadata(path).unwrap();
        assert!(found.is_dir(), "{}", path.display());
        assert_eq!(found.permissions().mode() & 0o777, 0o700);
    }
    assert_eq!(
        fs::metadata(world.at("conf")).unwrap().permissions().mode() & 0o777,
        0o777
    );
}
