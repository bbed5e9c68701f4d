//! A team's own `/tmp`. Their worlds lie below the host's `/tmp`, so each also shows that what is needed there stays.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

/// The confinement with a `/tmp` of the team's own; none where this host truly allows none.
fn with_own_tmp(confinement: Confinement) -> Option<Confinement> {
    let tried = rehearse_all_ways(&launcher(), confinement, &system_python(), &[]).unwrap();
    if tried.own_tmp.by.is_none() {
        assert!(
            !host_allows_mounts(),
            "this host allows mount namespaces, yet the team has no /tmp of its own"
        );
        println!("skipped: this host allows us no mount namespace; `unshare` gets none either");
    }
    tried.own_tmp.by.is_some().then_some(tried)
}

/// Asked of another program, so that a fault of ours does not pass for the host's. Root always may.
fn host_allows_mounts() -> bool {
    let asked = Command::new("unshare")
        .args(["--user", "--map-current-user", "--mount", "true"])
        .status();
    Uid::effective().is_root() || asked.is_ok_and(|status| status.success())
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
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
            continue;
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
        make_write_folders(&team, user, &Ways::default()).unwrap();
        let grounds = Grounds {
            hidden: vec![world.at("state"), world.at("conf")],
            ..world.grounds("alpha")
        };
        let Some(confinement) = with_own_tmp(prepare(&team, user, &grounds).unwrap()) else {
            continue;
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
        if with_own_tmp(world.confinement("beta", user)).is_none() {
            continue;
        }
        let confinement = world.confinement("alpha", user);
        leave_a_link_in_the_way(&world, &confinement);
        let tried = rehearse_all_ways(&launcher(), confinement, &system_python(), &[]).unwrap();
        assert_eq!(tried.own_tmp.by, None, "user {user:?}");
        assert_eq!(names_in(&world.at("conf")), ["variables.toml"], "user {user:?}");
    }
}

/// Where the way to the team's Dags would have to be made in its `/tmp`.
fn leave_a_link_in_the_way(world: &World, confinement: &Confinement) {
    let place = confinement.tmp.join(world.at("").strip_prefix("/tmp").unwrap());
    symlink(world.at("conf"), place).unwrap();
}

#[test]
fn a_team_can_neither_move_its_tmp_nor_remove_it() {
    if without_landlock() {
        return;
    }
    for user in users() {
        let world = World::new();
        let plain = world.confinement("alpha", user);
        for confinement in [Some(plain.clone()), with_own_tmp(plain)].into_iter().flatten() {
            for cover in &confinement.own_tmp.covers {
                let tried = text(&[("rename", cover.own.clone()), ("remove folder", cover.own.clone())]);
                assert_eq!(succeeded(&confinement, &tried), [""; 0], "user {user:?}");
            }
        }
    }
}

#[test]
fn a_link_in_place_of_a_teams_tmp_shows_it_nothing() {
    if without_landlock() {
        return;
    }
    for user in users() {
        for folder in 0..2 {
            let world = World::new();
            fs::create_dir(world.at("secret")).unwrap();
            fs::set_permissions(world.at("secret"), fs::Permissions::from_mode(0o777)).unwrap();
            fs::write(world.at("secret/key"), "of the server").unwrap();
            fs::set_permissions(world.at("secret/key"), fs::Permissions::from_mode(0o666)).unwrap();
            let plain = world.confinement("alpha", user);
            let ways = [Some(plain.clone()), with_own_tmp(plain)];
            let cover = ways[0].as_ref().unwrap().own_tmp.covers[folder].clone();
            fs::rename(&cover.own, cover.own.with_extension("old")).unwrap();
            symlink(world.at("secret"), &cover.own).unwrap();
            // A zygote that ended starts again with what was prepared for the first.
            for confinement in ways.iter().flatten() {
                let tried = text(&[
                    ("read", cover.host.join("key")),
                    ("write", cover.host.join("planted")),
                    ("read", cover.own.join("key")),
                    ("write", cover.own.join("planted")),
                    ("read", world.at("secret/key")),
                ]);
                let mut child = command(&launcher(), confinement, &system_python(), ["-I", "-c", PROBE]).unwrap();
                let output = child.args(&tried).output().unwrap();
                let [said, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
                assert!(!said.contains("DONE"), "user {user:?}: {said}");
                assert!(error.contains("is not the folder that Isobar made"), "{error}");
                assert_eq!(names_in(&world.at("secret")), ["key"], "user {user:?}");
            }
            // The server's next start makes it anew.
            let confinement = world.confinement("alpha", user);
            let mine = text(&[("write", cover.own.join("mine"))]);
            assert_eq!(succeeded(&confinement, &mine), mine, "user {user:?}");
            assert_eq!(names_in(&world.at("secret")), ["key"], "user {user:?}");
        }
    }
}

#[test]
fn what_a_team_may_only_read_brings_no_mount_that_it_can_write_however_it_is_spelled() {
    if !Uid::effective().is_root() || without_landlock() {
        println!("skipped: mounting needs root");
        return;
    }
    // Of this thread and its children alone.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    let memory = |at: &str| mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=1777")).unwrap();
    memory("/mnt");
    fs::create_dir_all("/mnt/real/inner").unwrap();
    memory("/mnt/real/inner");
    for user in users() {
        let world = World::new();
        assert!(with_own_tmp(world.confinement("beta", user)).is_some());
        symlink("/mnt/real", world.at("conf/link")).unwrap();
        let mut team = world.team("alpha");
        team.read_folders = vec![world.at("conf/link")];
        let grounds = world.grounds("alpha");
        let confinement = prepare(&team, user, &grounds).unwrap();
        let tried = rehearse_all_ways(&launcher(), confinement, &system_python(), &[]).unwrap();
        let planted = text(&[("write", world.at("conf/link/inner/planted"))]);
        assert_eq!(succeeded(&tried, &planted), [""; 0], "user {user:?}");
        assert_eq!(names_in(Path::new("/mnt/real/inner")), [""; 0], "user {user:?}");
    }
}

#[test]
fn the_shared_memory_of_a_team_is_limited() {
    if without_landlock() {
        return;
    }
    let world = World::new();
    let Some(confinement) = with_own_tmp(world.confinement("alpha", None)) else {
        return;
    };
    let script = "import os; all = os.statvfs('/dev/shm'); print('SIZE', all.f_blocks * all.f_frsize)";
    let mut child = command(&launcher(), &confinement, &system_python(), ["-I", "-c", script]).unwrap();
    let said = String::from_utf8(child.output().unwrap().stdout).unwrap();
    assert!(said.contains(&format!("SIZE {}\n", 256 << 20)), "{said}");
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line.push_str(&format!("{field}={value:?} "));
        });
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn each_team_that_has_no_tmp_is_told_why() {
    if without_landlock() {
        return;
    }
    if with_own_tmp(World::new().confinement("alpha", None)).is_none() {
        return;
    }
    let world = World::new();
    let log = Log::default();
    for name in ["alpha", "beta"] {
        let confinement = world.confinement(name, None);
        leave_a_link_in_the_way(&world, &confinement);
        let tried = || rehearse_all_ways(&launcher(), confinement, &system_python(), &[]).unwrap();
        tracing::subscriber::with_default(log.clone(), tried);
    }
    let lines = log.0.lock().unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, name) in lines.iter().zip(["alpha", "beta"]) {
        assert!(line.contains(&format!("team={name} ")), "{line}");
        let reason = format!(
            "`{}` cannot be shown in it: ENOTDIR",
            world.at("dags").join(name).display()
        );
        assert!(line.contains(&reason), "{line}");
    }
}

#[test]
fn a_team_that_was_given_tmp_by_name_has_the_hosts() {
    if without_landlock() {
        return;
    }
    let world = World::new();
    let mut team = world.team("alpha");
    team.read_folders = vec!["/tmp".into()];
    let grounds = world.grounds("alpha");
    let confinement = prepare(&team, None, &grounds).unwrap();
    let covered = confinement
        .own_tmp
        .covers
        .iter()
        .map(|cover| cover.host.to_str().unwrap());
    assert_eq!(covered.collect::<Vec<_>>(), ["/var/tmp"]);
}
