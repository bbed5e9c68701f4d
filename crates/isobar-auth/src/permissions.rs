//! Roles and what each may do: one table that a non-engineer can read (rule 23).
//!
//! The four team roles and what they may do are those of Airflow's simple auth manager, per team.

/// A role in one team, weakest first. Each role may do what the weaker ones may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Also runs, clears and edits Dags.
    User,
    /// Also manages connections, variables, pools and assets.
    Op,
    /// Also tunes what the organisation lets the team tune.
    Admin,
}

/// A role in the organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrgRole {
    /// Reads what a `viewer` of every team reads.
    Viewer,
    /// May do what an `admin` of every team may.
    Admin,
}

/// What a permission is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Dags, their versions, sources and tasks.
    Dag,
    /// Runs.
    Run,
    /// Task instances and their rendered fields.
    TaskInstance,
    /// Task logs.
    Log,
    /// XComs.
    XCom,
    /// Variables; reading them needs `op`, as in Airflow.
    Variable,
    /// Connections; reading them needs `op`, as in Airflow.
    Connection,
    /// Pools.
    Pool,
    /// Assets, aliases and events.
    Asset,
    /// Import errors.
    ImportError,
    /// Dag warnings.
    Warning,
    /// The audit log.
    Audit,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Dag,
        Self::Run,
        Self::TaskInstance,
        Self::Log,
        Self::XCom,
        Self::Variable,
        Self::Connection,
        Self::Pool,
        Self::Asset,
        Self::ImportError,
        Self::Warning,
        Self::Audit,
    ];
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Look.
    Read,
    /// Make a new one.
    Create,
    /// Change one.
    Edit,
    /// Remove one.
    Delete,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Create, Self::Edit, Self::Delete];
}

/// The weakest role in a team that may do this; none where nobody may.
#[must_use]
pub fn weakest_role(resource: Resource, action: Action) -> Option<Role> {
    use Resource::{Asset, Audit, Connection, Dag, ImportError, Log, Pool, Run, TaskInstance, Variable, Warning, XCom};
    match (resource, action) {
        (Variable | Connection, _) => Some(Role::Op),
        (_, Action::Read) => Some(Role::Viewer),
        (Dag | Run | TaskInstance | XCom, _) => Some(Role::User),
        (Pool | Asset, _) => Some(Role::Op),
        (Log | ImportError | Warning | Audit, _) => None,
    }
}

/// Whether a role in a team may do this there.
#[must_use]
pub fn team_role_may(role: Role, resource: Resource, action: Action) -> bool {
    weakest_role(resource, action).is_some_and(|weakest| role >= weakest)
}

/// Whether an organisation role may do this in every team.
#[must_use]
pub fn org_role_may(role: OrgRole, resource: Resource, action: Action) -> bool {
    match role {
        OrgRole::Viewer => action == Action::Read && team_role_may(Role::Viewer, resource, action),
        OrgRole::Admin => team_role_may(Role::Admin, resource, action),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden matrix: who may read, create, edit, delete (`rced`) what.
    #[test]
    fn the_matrix_is_what_the_documentation_says() {
        use std::fmt::Write;
        let mut table = String::from("              viewer user op   admin org-v org-a\n");
        for resource in Resource::ALL {
            let _ = write!(table, "{:<13}", format!("{resource:?}"));
            let cell = |may: &dyn Fn(Action) -> bool| {
                Action::ALL
                    .iter()
                    .zip("rced".chars())
                    .map(|(a, c)| if may(*a) { c } else { '-' })
                    .collect::<String>()
            };
            for role in [Role::Viewer, Role::User, Role::Op, Role::Admin] {
                let _ = write!(table, " {}", cell(&|action| team_role_may(role, resource, action)));
            }
            for role in [OrgRole::Viewer, OrgRole::Admin] {
                let _ = write!(table, " {}", cell(&|action| org_role_may(role, resource, action)));
            }
            table.push('\n');
        }
        let golden = "              viewer user op   admin org-v org-a
Dag           r--- rced rced rced r--- rced
Run           r--- rced rced rced r--- rced
TaskInstance  r--- rced rced rced r--- rced
Log           r--- r--- r--- r--- r--- r---
XCom          r--- rced rced rced r--- rced
Variable      ---- ---- rced rced ---- rced
Connection    ---- ---- rced rced ---- rced
Pool          r--- r--- rced rced r--- rced
Asset         r--- r--- rced rced r--- rced
ImportError   r--- r--- r--- r--- r--- r---
Warning       r--- r--- r--- r--- r--- r---
Audit         r--- r--- r--- r--- r--- r---
";
        assert_eq!(table, golden);
    }
}
