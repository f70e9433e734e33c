//! Project and organization roles, and what each may do.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A role as Atlas names it. Organization roles reach every project of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Everything in every project.
    OrgOwner,
    /// Reads every project.
    OrgReadOnly,
    /// Belongs to the organization; may do nothing in a project by that alone.
    OrgMember,
    /// Makes projects at Atlas; here that is left to owners of the organization, and like a member it may do nothing in a
    /// project by this alone.
    OrgGroupCreator,
    /// Everything in the project.
    GroupOwner,
    /// Takes snapshots, restores, exports, changes retention and schedules.
    GroupBackupManager,
    /// Takes snapshots.
    GroupBackupCreator,
    /// Restores into deployments.
    GroupBackupRecoveryOperator,
    /// Downloads and exports.
    GroupBackupExportOperator,
    /// Reads.
    GroupReadOnly,
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read the project, its deployments, snapshots and legacy jobs.
    Read,
    /// Read restore jobs.
    ReadRestores,
    /// Take a snapshot.
    TakeSnapshot,
    /// Change a snapshot's retention, delete a snapshot; change the schedule that takes them.
    ManageSnapshots,
    /// Restore into a deployment, cancel such a job.
    Restore,
    /// Download a snapshot, cancel such a job.
    Download,
    /// Anything that only an owner may: deployments, serverless jobs, credentials.
    Own,
}

impl Role {
    /// All roles, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::OrgOwner,
        Self::OrgReadOnly,
        Self::OrgMember,
        Self::OrgGroupCreator,
        Self::GroupOwner,
        Self::GroupBackupManager,
        Self::GroupBackupCreator,
        Self::GroupBackupRecoveryOperator,
        Self::GroupBackupExportOperator,
        Self::GroupReadOnly,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrgOwner => "ORG_OWNER",
            Self::OrgReadOnly => "ORG_READ_ONLY",
            Self::OrgMember => "ORG_MEMBER",
            Self::OrgGroupCreator => "ORG_GROUP_CREATOR",
            Self::GroupOwner => "GROUP_OWNER",
            Self::GroupBackupManager => "GROUP_BACKUP_MANAGER",
            Self::GroupBackupCreator => "GROUP_BACKUP_CREATOR",
            Self::GroupBackupRecoveryOperator => "GROUP_BACKUP_RECOVERY_OPERATOR",
            Self::GroupBackupExportOperator => "GROUP_BACKUP_EXPORT_OPERATOR",
            Self::GroupReadOnly => "GROUP_READ_ONLY",
        }
    }

    /// Whether this role reaches every project and not only the one it was given in.
    pub const fn is_organization_wide(self) -> bool {
        matches!(self, Self::OrgOwner | Self::OrgReadOnly | Self::OrgMember | Self::OrgGroupCreator)
    }

    /// Whether whoever holds it belongs to the projects that it holds in, and not to the organization alone.
    pub const fn reaches_projects(self) -> bool {
        !matches!(self, Self::OrgMember | Self::OrgGroupCreator)
    }

    /// Whether this role, held in a project, lets its holder do `action` there.
    pub const fn allows(self, action: Action) -> bool {
        use Action::{Download, ManageSnapshots, Read, ReadRestores, Restore, TakeSnapshot};
        match self {
            Self::OrgOwner | Self::GroupOwner => true,
            Self::OrgMember | Self::OrgGroupCreator => false,
            Self::OrgReadOnly | Self::GroupReadOnly => matches!(action, Read),
            Self::GroupBackupManager => {
                matches!(action, Read | ReadRestores | TakeSnapshot | ManageSnapshots | Restore | Download)
            }
            Self::GroupBackupCreator => matches!(action, Read | TakeSnapshot),
            Self::GroupBackupRecoveryOperator => matches!(action, Read | ReadRestores | Restore),
            Self::GroupBackupExportOperator => matches!(action, Read | ReadRestores | Download),
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|role| role.as_str()).collect();
            format!("unknown role {text:?}; the roles are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 7] = [
        Action::Read,
        Action::ReadRestores,
        Action::TakeSnapshot,
        Action::ManageSnapshots,
        Action::Restore,
        Action::Download,
        Action::Own,
    ];

    fn implies(stronger: Role, weaker: Role) -> bool {
        ACTIONS.into_iter().all(|action| !weaker.allows(action) || stronger.allows(action))
    }

    #[test]
    fn roles_imply_one_another_as_documented() {
        for weaker in Role::ALL {
            assert!(implies(Role::OrgOwner, weaker));
            assert!(implies(Role::GroupOwner, weaker));
        }
        for part in
            [Role::GroupBackupCreator, Role::GroupBackupRecoveryOperator, Role::GroupBackupExportOperator]
        {
            assert!(implies(Role::GroupBackupManager, part));
            assert!(implies(part, Role::GroupReadOnly));
            assert!(!implies(part, Role::GroupBackupManager));
        }
    }

    #[test]
    fn roles_of_the_organization_alone_reach_no_project() {
        let outside: Vec<_> = Role::ALL.into_iter().filter(|role| !role.reaches_projects()).collect();
        assert_eq!(outside, [Role::OrgMember, Role::OrgGroupCreator]);
        for role in Role::ALL {
            assert_eq!(role.reaches_projects(), role.allows(Action::Read), "{role:?}");
        }
    }

    #[test]
    fn only_owners_own() {
        let owners: Vec<_> = Role::ALL.into_iter().filter(|role| role.allows(Action::Own)).collect();
        assert_eq!(owners, [Role::OrgOwner, Role::GroupOwner]);
    }

    #[test]
    fn names_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).expect("json"), role.as_str());
        }
        assert!("group_owner".parse::<Role>().is_err());
    }
}
