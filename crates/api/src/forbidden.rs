//! What a backup compliance policy forbids, in the words of the API.

use model::compliance::Forbidden;

use crate::error::{Code, Problem};

const RELEASE: &str =
    "Whoever runs the server can release the policy, with `ebbtide admin release-compliance-policy`.";

/// The answer to what a policy forbids.
pub(crate) fn problem(forbidden: &Forbidden) -> Problem {
    let code = match forbidden {
        Forbidden::Deletion | Forbidden::CopyDeletion => Code::CannotDeleteSnapshotWithBackupCompliancePolicy,
        Forbidden::ShorterRetention => Code::CannotDecreaseSnapshotRetentionWithBackupCompliancePolicy,
        Forbidden::ShortSnapshot(_) => Code::SnapshotRetentionLessThanBackupCompliancePolicy,
        Forbidden::Schedule(_) => Code::BackupPolicyNotMeetingBackupCompliancePolicyRequirements,
        Forbidden::NotRecorded => Code::CannotDisablePitWithBackupCompliancePolicy,
        Forbidden::Window(_) => Code::CannotDecreasePitWindowWithBcp,
        Forbidden::Unmet(_) => Code::BackupPoliciesNotMeetingBackupCompliancePolicyRequirements,
        Forbidden::Weaker(_) | Forbidden::NotReleased => Code::BackupCompliancePolicySettingsInvalid,
    };
    let why = match forbidden {
        Forbidden::Deletion => "It goes by itself when its time is over.".to_owned(),
        Forbidden::CopyDeletion => {
            "The policy protects copies: one goes with its snapshot, when the time of that is over."
                .to_owned()
        }
        Forbidden::Weaker(_) => format!("It cannot ask for less: {forbidden}. {RELEASE}"),
        Forbidden::NotReleased => format!("It cannot be lifted: {forbidden}. {RELEASE}"),
        forbidden => format!("This cannot be: {forbidden}."),
    };
    Problem::new(code).because(why)
}
