//! A team's own `/tmp`. Their worlds lie below the host's `/tmp`, so each also shows that what is needed there stays.

use std::path::Path;

use super::*;

/// The confinement with a `/tmp` of the team's own; none where this host allows none.
fn with_own_tmp(confinement: Confinement) -> Option<Confinement> {
    let tried = rehearse_all_ways(&launcher(), confinement, &system_python(), &[]).unwrap();
    if tried.own_tmp.by.is_none() {
        println!("skipped: this host lets us mount nothing");
    }
    tried.own_tmp.by.is_some().then_some(tried)
}

#[test]
fn a_team_shares_its_own_tmp_with_nobody() {
    if without_landlock() {
        return;
    }
    for user in users() {
        let world = World::new();
        let neighbour = user.map(|user| OsUser {
            uid: user.uid + 1,
            gid: user.gid + 1,
        });
        let Some(alpha) = with_own_tmp(world.confinement("alpha", user)) else {
            return;
        };
        let beta = with_own_tmp(world.confinement("beta", neighbour)).unwrap();
        let name = format!("isobar-{}", std::process::id());
        for folder in ["/tmp", "/var/tmp"] {
            let (file, inside) = (Path::new(folder).join(&name), Path::new(folder).join(&name).join("in"));
            let made = text(&[
                ("make", file.clone()),
                ("write", inside.clone()),
                ("list", folder.into()),
            ]);
            assert_eq!(succeeded(&alpha, &made), made, "user {user:?}");
            assert!(!file.exists(), "the host's own {folder} has it");
            // The next process of the team.
            let found = text(&[("list", file.clone()), ("read", inside.clone())]);
            assert_eq!(succeeded(&alpha, &found), found, "user {user:?}");
            assert_eq!(succeeded(&beta, &found), [""; 0], "user {user:?}");
        }
        let own = text(&[("write", "/dev/shm/mine".into()), ("list", "/tmp".into())]);
        assert_eq!(succeeded(&beta, &own), own, "user {user:?}");
        assert!(!Path::new("/dev/shm/mine").exists());
    }
}

#[test]
fn what_a_team_needs_below_tmp_stays_where_it_is_and_nothing_else_does() {
    if without_landlock() {
        return;
    }
    for user in users() {
        let world = World::new();
        assert!(
            world.at("").starts_with("/tmp"),
            "this test is about folders below /tmp"
        );
        let mut team = world.team("alpha");
        team.read_folders = vec![world.at("conf/variables.toml")];
        team.write_folders = vec![world.at("dags/alpha/out")];
        make_write_folders(&team, user).unwrap();
        let grounds = Grounds {
            run_folder: world.at("state/run/alpha"),
            read: vec![],
            hidden: vec![world.at("state"), world.at("conf")],
        };
        let Some(confinement) = with_own_tmp(prepare(&team, user, &grounds).unwrap()) else {
            return;
        };
        let own = text(&[
            ("read", world.at("dags/alpha/a.py")),
            ("read", world.at("conf/variables.toml")),
            ("write", confinement.home.join("mine")),
            ("write", confinement.tmp.join("mine")),
            ("write", world.at("dags/alpha/out/mine")),
            ("read", "/tmp/mine".into()),
        ]);
        assert_eq!(succeeded(&confinement, &own), own, "user {user:?}");
        let foreign = text(&[
            ("read", world.at("dags/beta/b.py")),
            ("list", world.at("dags/beta")),
            ("write", world.at("dags/alpha/a.py")),
            ("truncate", world.at("dags/alpha/a.py")),
            ("remove", world.at("dags/alpha/a.py")),
            ("make", world.at("dags/alpha/planted")),
            ("write", world.at("conf/variables.toml")),
            ("read", world.at("state/isobar.db")),
            ("list", "/tmp/../home".into()),
        ]);
        assert_eq!(succeeded(&confinement, &foreign), [""; 0], "user {user:?}");
        // A folder on the way is the team's own, not the host's.
        succeeded(&confinement, &text(&[("write", world.at("dags/planted"))]));
        assert!(!world.at("dags/planted").exists(), "user {user:?}");
    }
}

#[test]
fn a_link_that_a_team_leaves_in_its_tmp_leads_nobody_astray() {
    if without_landlock() {
        return;
    }
    for user in users() {
        let world = World::new();
        let confinement = world.confinement("alpha", user);
        let place = confinement.tmp.join(world.at("").strip_prefix("/tmp").unwrap());
        std::os::unix::fs::symlink(world.at("conf"), place).unwrap();
        let tried = rehearse_all_ways(&launcher(), confinement, &system_python(), &[]).unwrap();
        assert_eq!(tried.own_tmp.by, None, "user {user:?}");
        let left: Vec<_> = fs::read_dir(world.at("conf"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["variables.toml"], "user {user:?}");
    }
}

#[test]
fn a_team_that_was_given_tmp_by_name_has_the_hosts() {
    let world = World::new();
    let mut team = world.team("alpha");
    team.read_folders = vec!["/tmp".into()];
    let grounds = Grounds {
        run_folder: world.at("state/run/alpha"),
        read: vec![],
        hidden: vec![],
    };
    let Ok(confinement) = prepare(&team, None, &grounds) else {
        println!("skipped: no Landlock");
        return;
    };
    let covered = confinement
        .own_tmp
        .covers
        .iter()
        .map(|(host, _)| host.to_str().unwrap());
    assert_eq!(covered.collect::<Vec<_>>(), ["/var/tmp"]);
}
