//! Legacy Backup: the pages from before Cloud Backup, over the same snapshots, restore jobs and schedules. Atlas refuses
//! these calls for Cloud Backup clusters; here that is one of three modes.

mod checkpoints;
mod job_input;
mod job_view;
mod jobs;
mod schedule;
mod schedule_input;
mod snapshots;

use catalog::Deployment;
use http::Method;
use model::role::Action;

use super::{Operation, links};
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    rate::Set,
    state::LegacyMode,
    version::Version,
};

/// Deprecated since Cloud Backup replaced it; no end is announced.
const VERSIONS: &[Version] =
    &[Version::current(2023, 1, 1).deprecated("Mon, 23 Mar 2020 00:00:00 GMT", None)];
const READ: Scope = Scope::Project(&[Action::Read]);
const OWN: Scope = Scope::Project(&[Action::Own]);

macro_rules! legacy {
    ($id:literal, $method:ident, $path:literal, $scope:expr, $run:expr) => {
        Operation {
            id: $id,
            method: Method::$method,
            path: concat!("/groups/{groupId}/clusters/{clusterName}", $path),
            versions: VERSIONS,
            scope: $scope,
            limit: Set::Backups,
            run: |call| Box::pin($run(call)),
        }
    };
}

pub(super) static OPERATIONS: &[Operation] = &[
    legacy!("listGroupClusterSnapshots", GET, "/snapshots", READ, snapshots::list),
    legacy!("getGroupClusterSnapshot", GET, "/snapshots/{snapshotId}", READ, snapshots::get),
    legacy!("updateGroupClusterSnapshot", PATCH, "/snapshots/{snapshotId}", OWN, snapshots::update),
    legacy!("deleteGroupClusterSnapshot", DELETE, "/snapshots/{snapshotId}", OWN, snapshots::delete),
    legacy!("getGroupClusterSnapshotSchedule", GET, "/snapshotSchedule", READ, schedule::get),
    legacy!("updateGroupClusterSnapshotSchedule", PATCH, "/snapshotSchedule", OWN, schedule::update),
    legacy!("listGroupClusterBackupCheckpoints", GET, "/backupCheckpoints", READ, checkpoints::list),
    legacy!(
        "getGroupClusterBackupCheckpoint",
        GET,
        "/backupCheckpoints/{checkpointId}",
        READ,
        checkpoints::get
    ),
    legacy!("listGroupClusterRestoreJobs", GET, "/restoreJobs", READ, jobs::list),
    legacy!("createGroupClusterRestoreJob", POST, "/restoreJobs", OWN, jobs::create),
    legacy!("getGroupClusterRestoreJob", GET, "/restoreJobs/{restoreJobId}", READ, jobs::get),
];

/// What a legacy page has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// What there is.
    Everything,
    /// As if there were nothing.
    Nothing,
}

/// Whether the page shows anything, or the refusal that names the newer one.
fn shown(call: &Call, deployment: &Deployment, instead: &str) -> Answer<Shown> {
    match call.server.state.settings.legacy_mode {
        LegacyMode::Mirror => Ok(Shown::Everything),
        LegacyMode::Empty => Ok(Shown::Nothing),
        LegacyMode::Refuse => Err(elsewhere(deployment, instead)),
    }
}

/// Only where legacy pages are served in full: there is no empty schedule, and nothing is begun that would not be shown.
fn require_everything(call: &Call, deployment: &Deployment, instead: &str) -> Answer<()> {
    match shown(call, deployment, instead)? {
        Shown::Everything => Ok(()),
        Shown::Nothing => Err(elsewhere(deployment, instead)),
    }
}

/// 400 `INCORRECT_BACKUP_API_ENDPOINT`, as Atlas answers.
fn elsewhere(deployment: &Deployment, instead: &str) -> Problem {
    let instead = format!("/api/atlas/v2{}{instead}", links::deployment_path(deployment));
    Problem::new(Code::IncorrectBackupApiEndpoint).with(instead)
}
