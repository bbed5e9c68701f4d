//! What the running kernel can do for us.

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};

/// What the kernel offers for keeping teams apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Landlock's file-system rules (Linux 5.13).
    pub landlock: bool,
    /// Landlock's rules on truncation (Linux 6.2); without them a team can empty files that it may not write.
    pub truncate: bool,
    /// Landlock's scopes for signals and abstract sockets (Linux 6.12).
    pub scopes: bool,
}

impl Kernel {
    /// What a deployment on this kernel lacks, in sentences for `doctor` and the log; empty where nothing is.
    #[must_use]
    pub fn shortcomings(self, as_root: bool) -> Vec<&'static str> {
        let mut lacks = Vec::new();
        if !self.landlock {
            lacks.push("no Landlock: teams cannot have file-system views of their own (Linux 5.13)");
        }
        if !self.truncate {
            lacks.push("no truncation rules: a team's tasks can empty files that they cannot write (Linux 6.2)");
        }
        if !self.scopes && !as_root {
            lacks.push(
                "no Landlock scopes (Linux 6.12) and not root: tasks of one team can signal processes of another; \
                 run Isobar as root, so that teams get users of their own, or use a newer kernel",
            );
        }
        lacks
    }
}

/// Asks the kernel by making rule sets that are thrown away.
#[must_use]
pub fn kernel() -> Kernel {
    let files = |abi: ABI| {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(abi))
            .and_then(Ruleset::create)
            .is_ok()
    };
    let scopes = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::from_all(ABI::V6))
        .and_then(Ruleset::create)
        .is_ok();
    Kernel {
        landlock: files(ABI::V1),
        truncate: files(ABI::V3),
        scopes,
    }
}
