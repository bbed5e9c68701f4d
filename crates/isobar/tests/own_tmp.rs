//! A `/tmp` of the team's own without privileges: the binary makes it in a user namespace.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use isobar_config::Team;
use isobar_model::TeamName;
use isobar_runtime::sandbox::{
    CONFINE_SUBCOMMAND, Confinement, Grounds, Launcher, Namespace, Ways, command, kernel, prepare,
};

/// Where the tests run as root: somebody who may nothing.
const NOBODY: u32 = 65_534;

fn launcher() -> Launcher {
    let binary =
        std::env::var_os("ISOBAR_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_isobar").into(), PathBuf::from);
    Launcher {
        program: binary,
        arguments: vec![CONFINE_SUBCOMMAND.to_owned()],
    }
}

fn shell(confinement: &Confinement, script: &str) -> Output {
    let mut child = command(&launcher(), confinement, Path::new("/bin/sh"), ["-c", script]).expect("a command");
    if nix::unistd::geteuid().is_root() {
        child.uid(NOBODY).gid(NOBODY);
    }
    child.output().expect("it starts")
}

/// Asked of another program, so that a fault of ours does not pass for the host's.
fn host_allows_mounts() -> bool {
    let mut asked = Command::new("unshare");
    asked.args(["--user", "--map-current-user", "--mount", "true"]);
    if nix::unistd::geteuid().is_root() {
        asked.uid(NOBODY).gid(NOBODY);
    }
    asked.status().is_ok_and(|status| status.success())
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn without_privileges_a_team_gets_its_tmp_in_a_user_namespace_and_nothing_more() {
    if !kernel().landlock {
        println!("skipped: this kernel has no Landlock");
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let at = |path: &str| root.path().canonicalize().expect("a path").join(path);
    for folder in ["", "run", "dags", "secret"] {
        std::fs::create_dir_all(at(folder)).expect("a folder");
        std::fs::set_permissions(at(folder), std::fs::Permissions::from_mode(0o777)).expect("a mode");
    }
    std::fs::write(at("dags/a.py"), "of the team").expect("a file");
    std::fs::write(at("secret/key"), "of the server").expect("a file");
    let mut confinements = BTreeMap::new();
    for name in ["alpha", "beta"] {
        let mut team = Team::new(TeamName::parse(name).expect("a name"));
        team.folders = vec![at("dags")];
        let grounds = Grounds {
            run_folder: at("run").join(name),
            read: vec![],
            ways: Ways::default(),
            hidden: vec![],
        };
        let mut made = prepare(&team, None, &grounds).expect("walls");
        made.own_tmp.by = Some(Namespace::OfUser);
        if nix::unistd::geteuid().is_root() {
            for folder in ["scratch", "scratch/home", "scratch/airflow", "tmp", "var-tmp"] {
                let folder = at("run").join(name).join(folder);
                chown(folder, Some(NOBODY), Some(NOBODY)).expect("an owner");
            }
        }
        confinements.insert(name, made);
    }
    let (alpha, beta) = (&confinements["alpha"], &confinements["beta"]);

    let tried = shell(alpha, "echo $TMPDIR; echo hello > /tmp/greeting && cat /tmp/greeting");
    if !tried.status.success() && !host_allows_mounts() {
        println!(
            "skipped: this host allows no user namespaces, `unshare` gets none either: {}",
            said(&tried)
        );
        return;
    }
    assert_eq!(said(&tried), "/tmp\nhello\n");
    assert_eq!(said(&shell(alpha, "cat /tmp/greeting")), "hello\n");
    assert!(
        said(&shell(beta, "cat /tmp/greeting")).contains("No such file"),
        "the neighbour sees it"
    );

    let dag = shell(alpha, &format!("cat {}", at("dags/a.py").display()));
    assert_eq!(said(&dag), "of the team");
    let key = shell(alpha, &format!("cat {} 2>&1", at("secret/key").display()));
    assert!(!key.status.success(), "{}", said(&key));
    // The user namespace lends its maker root's powers; none of them may be left.
    let powers = shell(
        alpha,
        "grep -E '^(CapPrm|CapEff|CapInh|CapAmb|NoNewPrivs)' /proc/self/status",
    );
    let left: Vec<String> = said(&powers)
        .split_whitespace()
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert_eq!(left[..4], vec!["0000000000000000"; 4][..], "{}", said(&powers));
    assert_eq!(left[4], "1", "{}", said(&powers));
    let more = shell(alpha, "mkdir /tmp/over && mount --bind /tmp/over /tmp");
    assert!(!more.status.success(), "{}", said(&more));
}
