//! The second, short life of our binary: become the team's, put up the wall, become the program.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitiesSecureBits, clear_ambient_capability_set, set_capabilities_secure_bits};

use super::folder;
use super::own_tmp::NoOwnTmp;
use super::{CONFINE_SUBCOMMAND, CONFINEMENT_VARIABLE, Confinement, Namespace, SandboxError, system};

/// The newest Landlock ABI whose every right we have read and tried; older kernels give what they have.
const TRIED_ABI: ABI = ABI::V6;

/// Confines this process as [`CONFINEMENT_VARIABLE`] says and becomes the program in `arguments` (what follows the
/// `--`). Returns only on failure. For the hidden subcommand of the binary; call it before any thread is started.
///
/// # Errors
/// The step that failed. Nothing of the team's may run then: print it and exit.
pub fn confine_and_exec(arguments: impl IntoIterator<Item = OsString>) -> Result<Infallible, SandboxError> {
    let by_hand = || SandboxError::NotByHand(CONFINE_SUBCOMMAND);
    let spec = std::env::var(CONFINEMENT_VARIABLE).map_err(|_| by_hand())?;
    let confinement: Confinement = serde_json::from_str(&spec).map_err(|_| by_hand())?;
    let mut arguments = arguments.into_iter().skip_while(|argument| argument == "--");
    let program = arguments.next().ok_or_else(by_hand)?;

    confine(&confinement)?;
    let error = Command::new(&program)
        .args(arguments)
        .env_remove(CONFINEMENT_VARIABLE)
        .exec();
    Err(SandboxError::Unreachable {
        who: who(&confinement),
        hint: hint_to_reach(Path::new(&program), &confinement),
        team: confinement.team,
        path: program.into(),
        source: error,
    })
}

/// Keeps other processes of our own user from reading our memory and environment through `/proc` or `ptrace`, as
/// Airflow's supervisor does. For servers and supervisors that hold tokens; call it once at start.
///
/// # Errors
/// Where the kernel refuses.
pub fn hide_own_memory() -> Result<(), SandboxError> {
    prctl::set_dumpable(false).map_err(|errno| SandboxError::Step {
        team: "(server)".to_owned(),
        step: "hide its memory",
        reason: errno.to_string(),
    })
}

fn confine(confinement: &Confinement) -> Result<(), SandboxError> {
    let step = |step: &'static str| {
        let team = confinement.team.clone();
        move |errno: nix::Error| SandboxError::Step {
            team,
            step,
            reason: errno.to_string(),
        }
    };
    umask(Mode::from_bits_truncate(confinement.umask));
    let own_tmp = |by: Namespace| {
        let entered = confinement.own_tmp.enter(by);
        entered.map_err(|reason| no_own_tmp(confinement, &reason))
    };
    if confinement.own_tmp.by == Some(Namespace::Privileged) {
        own_tmp(Namespace::Privileged)?;
    }
    give_up_root(confinement)?;
    // Capabilities that a service manager lent to the server are not the team's. A kernel without them has none.
    let _ = clear_ambient_capability_set();
    if let Some(user) = confinement.user {
        let (uid, gid) = user.ids();
        setgroups(&[]).map_err(step("leave the server's groups"))?;
        setresgid(gid, gid, gid).map_err(step("take the team's group"))?;
        setresuid(uid, uid, uid).map_err(step("take the team's user"))?;
    }
    if confinement.own_tmp.by == Some(Namespace::OfUser) {
        own_tmp(Namespace::OfUser)?;
        // Whoever makes a user namespace is as root in it.
        give_up_root(confinement)?;
    }
    prctl::set_no_new_privs().map_err(step("give up new privileges"))?;
    if confinement.landlock {
        restrict(confinement)?;
    }
    Ok(())
}

/// An exec as user 0 would bring every capability back; where the server stays root, its children must not be.
fn give_up_root(confinement: &Confinement) -> Result<(), SandboxError> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    set_capabilities_secure_bits(bits).map_err(|errno| SandboxError::Step {
        team: confinement.team.clone(),
        step: "give up root's capabilities",
        reason: errno.to_string(),
    })
}

fn restrict(confinement: &Confinement) -> Result<(), SandboxError> {
    let failed = |error: landlock::RulesetError| SandboxError::Step {
        team: confinement.team.clone(),
        step: "set up Landlock",
        reason: error.to_string(),
    };
    let look: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let read = AccessFs::from_read(TRIED_ABI);
    let all = AccessFs::from_all(TRIED_ABI);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.scope(Scope::from_all(TRIED_ABI)))
        .and_then(Ruleset::create)
        .map_err(failed)?;

    let etc = system::ETC.iter().map(|name| format!("/etc/{name}"));
    let mut wanted: Vec<(String, BitFlags<AccessFs>)> = Vec::new();
    wanted.extend(system::PROGRAMS.iter().map(|path| ((*path).to_owned(), read)));
    wanted.extend(
        etc.chain(system::FACTS.iter().map(|path| (*path).to_owned()))
            .map(|path| (path, look)),
    );
    wanted.extend(system::DEVICES.iter().map(|path| ((*path).to_owned(), all)));
    if confinement.user.is_some() || confinement.own_tmp.by.is_some() {
        wanted.push((system::SHARED_MEMORY.to_owned(), all));
    }
    for (path, access) in wanted {
        // Hosts differ in which of these exist.
        if let Ok(opened) = PathFd::new(&path) {
            rules = allow(rules, opened, access).map_err(failed)?;
        }
    }
    let own = (confinement.read.iter().map(|path| (path.as_path(), read)))
        .chain(confinement.write.iter().map(|path| (path.as_path(), all)))
        .chain(confinement.own_tmp.covered().map(|path| (path, all)));
    for (path, access) in own {
        rules = match confinement.own_tmp.covers.iter().find(|cover| cover.own == path) {
            Some(cover) => {
                let opened = cover.opened().map_err(|reason| no_own_tmp(confinement, &reason))?;
                allow(rules, opened, access)
            }
            None => {
                let opened = folder::unlinked(path).map_err(|errno| match errno {
                    Errno::ELOOP => SandboxError::Exchanged {
                        team: confinement.team.clone(),
                        path: path.to_owned(),
                    },
                    _ => unreachable_path(confinement, path),
                })?;
                allow(rules, opened, access)
            }
        }
        .map_err(failed)?;
    }
    let status = rules.restrict_self().map_err(failed)?;
    let enforced = !matches!(status.ruleset, RulesetStatus::NotEnforced);
    if enforced && matches!(status.landlock, LandlockStatus::Available { .. }) {
        Ok(())
    } else {
        Err(SandboxError::NoLandlock {
            team: confinement.team.clone(),
        })
    }
}

fn no_own_tmp(confinement: &Confinement, reason: &NoOwnTmp) -> SandboxError {
    SandboxError::Step {
        team: confinement.team.clone(),
        step: "give it a /tmp of its own",
        reason: reason.to_string(),
    }
}

fn allow(
    rules: RulesetCreated,
    opened: impl AsFd,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let access = if folder::is_folder(&opened) {
        access
    } else {
        access & AccessFs::from_file(TRIED_ABI)
    };
    rules.add_rule(PathBeneath::new(opened, access))
}

fn unreachable_path(confinement: &Confinement, path: &Path) -> SandboxError {
    SandboxError::Unreachable {
        team: confinement.team.clone(),
        path: path.to_owned(),
        who: who(confinement),
        source: std::fs::metadata(path)
            .err()
            .unwrap_or_else(|| std::io::Error::other("it cannot be opened")),
        hint: hint_to_reach(path, confinement),
    }
}

fn who(confinement: &Confinement) -> String {
    confinement
        .user
        .map(|user| format!(" by user {}", user.uid))
        .unwrap_or_default()
}

/// Names the first folder on the way that stops us, as seen by the user we have become.
fn hint_to_reach(path: &Path, confinement: &Confinement) -> String {
    let mut ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
    ancestors.reverse();
    let closed = ancestors.into_iter().find(|folder| {
        let inside = folder.join(".");
        matches!(std::fs::metadata(inside), Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied)
    });
    match (closed, confinement.user) {
        (Some(folder), Some(_)) => format!(
            "the folder `{0}` is closed to the team's user: `chmod o+x {0}`, or move what the team needs out of it \
             (where it is a `venv`, leave that out: Isobar makes an environment within reach)",
            folder.display()
        ),
        _ => "check that it exists and that the team's user may read it".to_owned(),
    }
}
