//! Folders that lie inside what a team may write, while that team lays links there.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::*;

/// Folders of the server's, and `shared`, in which team alpha may write.
fn world() -> World {
    let world = World::new();
    for folder in ["shared", "secret"] {
        fs::create_dir(world.at(folder)).unwrap();
    }
    world
}

/// A team that may write these.
fn writing(world: &World, name: &str, folders: &[&str]) -> Team {
    let mut team = world.team(name);
    team.write_folders = folders.iter().map(|folder| world.at(folder)).collect();
    team
}

fn ways_around(teams: &[&Team]) -> Ways {
    Ways::around(teams.iter().flat_map(|team| team.write_folders.clone()))
}

fn state_of(path: &Path) -> (u32, u32, u32, usize) {
    let found = fs::metadata(path).unwrap();
    (
        found.uid(),
        found.gid(),
        found.mode(),
        fs::read_dir(path).unwrap().count(),
    )
}

#[test]
fn a_link_where_a_team_may_write_leads_the_server_to_give_nothing_away() {
    for user in users() {
        let world = world();
        let before = state_of(&world.at("secret"));
        let alpha = writing(&world, "alpha", &["shared"]);
        symlink(world.at("secret"), world.at("shared/out")).unwrap();
        symlink("../secret", world.at("shared/relative")).unwrap();
        symlink(world.at("secret/new"), world.at("shared/missing")).unwrap();
        for inside in [
            "shared/out",
            "shared/out/new",
            "shared/relative/new/newer",
            "shared/missing",
        ] {
            let beta = writing(&world, "beta", &[inside]);
            let refused = make_write_folders(&beta, user, &ways_around(&[&alpha, &beta])).unwrap_err();
            assert!(matches!(refused, SandboxError::Link { .. }), "{inside}: {refused}");
            assert_eq!(state_of(&world.at("secret")), before, "{inside}, user {user:?}");
        }
        // However the outer folder is spelled.
        symlink(world.at("shared"), world.at("conf/by")).unwrap();
        let by_link = writing(&world, "alpha", &["conf/by"]);
        let beta = writing(&world, "beta", &["shared/out"]);
        make_write_folders(&beta, user, &ways_around(&[&by_link, &beta])).unwrap_err();
        assert_eq!(state_of(&world.at("secret")), before, "user {user:?}");
    }
}

#[test]
fn links_where_no_team_may_write_are_followed_and_folders_inside_anothers_are_made() {
    for user in users() {
        let world = world();
        symlink(world.at("shared"), world.at("conf/by")).unwrap();
        let alpha = writing(&world, "alpha", &["conf/by"]);
        let beta = writing(&world, "beta", &["conf/by/of/beta"]);
        let ways = ways_around(&[&alpha, &beta]);
        make_write_folders(&alpha, user, &ways).unwrap();
        make_write_folders(&beta, user, &ways).unwrap();
        let made = fs::metadata(world.at("shared/of/beta")).unwrap();
        assert_eq!(made.mode() & 0o777, 0o755);
        if let Some(user) = user {
            assert_eq!((made.uid(), made.gid()), (user.uid, user.gid));
        }
    }
}

#[test]
fn a_folder_that_a_team_exchanges_for_a_link_while_it_is_looked_at_stays_the_servers() {
    for user in users() {
        let world = world();
        let before = state_of(&world.at("secret"));
        let alpha = writing(&world, "alpha", &["shared"]);
        let beta = writing(&world, "beta", &["shared/a/b"]);
        let ways = ways_around(&[&alpha, &beta]);
        fs::create_dir(world.at("shared/a")).unwrap();
        symlink(world.at("secret"), world.at("shared/other")).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, other) = (world.at("shared/a"), world.at("shared/other"));
                while !ended.load(Ordering::Relaxed) {
                    renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
                }
            });
            for _ in 0..2_000 {
                // It may give up on a team that plays so.
                let _ = make_write_folders(&beta, user, &ways);
            }
            ended.store(true, Ordering::Relaxed);
        });
        assert_eq!(state_of(&world.at("secret")), before, "user {user:?}");
    }
}

#[test]
fn a_link_in_place_of_what_a_team_reads_in_anothers_folder_opens_nothing() {
    if without_landlock() {
        return;
    }
    for user in users() {
        let world = world();
        for (file, text) in [("secret/key", "of the server"), ("shared/key", "of alpha")] {
            fs::write(world.at(file), text).unwrap();
        }
        fs::create_dir(world.at("shared/out")).unwrap();
        fs::write(world.at("shared/out/key"), "of alpha").unwrap();
        let alpha = writing(&world, "alpha", &["shared"]);
        let mut beta = world.team("beta");
        beta.read_folders = vec![world.at("shared/out")];
        let grounds = Grounds {
            ways: ways_around(&[&alpha]),
            ..world.grounds("beta")
        };
        let plain = prepare(&beta, user, &grounds).unwrap();
        let tried = rehearse_all_ways(&launcher(), plain.clone(), &system_python(), &[]).unwrap();
        let own = text(&[("read", world.at("shared/out/key"))]);
        let foreign = text(&[
            ("read", world.at("shared/out/key")),
            ("read", world.at("secret/key")),
            ("list", world.at("secret")),
        ]);
        for confinement in [&plain, &tried] {
            assert_eq!(succeeded(confinement, &own), own, "user {user:?}");
        }
        fs::rename(world.at("shared/out"), world.at("shared/old")).unwrap();
        symlink(world.at("secret"), world.at("shared/out")).unwrap();
        // A zygote that ended starts again with what was prepared for the first.
        for confinement in [&plain, &tried] {
            let mut child = command(&launcher(), confinement, &system_python(), ["-I", "-c", PROBE]).unwrap();
            let output = child.args(&foreign).output().unwrap();
            let [said, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
            assert!(!said.contains("DONE"), "user {user:?}: {said}");
            assert!(error.contains("link"), "user {user:?}: {error}");
        }
        let refused = prepare(&beta, user, &grounds).unwrap_err();
        assert!(matches!(refused, SandboxError::Link { .. }), "{refused}");
        assert!(refused.to_string().contains("hint: "), "{refused}");
    }
}
