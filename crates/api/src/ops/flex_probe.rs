//! Flex clusters: this server has none, and says so in the words that the Atlas CLI waits for (D7). The CLI asks
//! these paths first and goes on to the real ones only after `CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API`.

use http::Method;
use model::role::Action;

use super::{Operation, clusters};
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
    version::Version,
};

const VERSIONS: &[Version] = &[Version::current(2024, 11, 13)];
const READ: Scope = Scope::Project(&[Action::Read]);

macro_rules! probe {
    ($id:literal, $method:ident, $path:literal, $scope:expr) => {
        Operation {
            id: $id,
            method: Method::$method,
            path: $path,
            versions: VERSIONS,
            scope: $scope,
            limit: Set::Clusters,
            run: |call| Box::pin(refuse(call)),
        }
    };
}

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupFlexClusters",
        method: Method::GET,
        path: "/groups/{groupId}/flexClusters",
        versions: VERSIONS,
        scope: READ,
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    probe!("getGroupFlexCluster", GET, "/groups/{groupId}/flexClusters/{clusterName}", READ),
    probe!(
        "downloadGroupFlexClusterBackup",
        POST,
        "/groups/{groupId}/flexClusters/{clusterName}/backup/download",
        Scope::Project(&[Action::Download])
    ),
    probe!(
        "listGroupFlexClusterBackupSnapshots",
        GET,
        "/groups/{groupId}/flexClusters/{clusterName}/backup/snapshots",
        READ
    ),
    probe!(
        "getGroupFlexClusterBackupSnapshot",
        GET,
        "/groups/{groupId}/flexClusters/{clusterName}/backup/snapshots/{snapshotId}",
        READ
    ),
    probe!(
        "listGroupFlexClusterBackupRestoreJobs",
        GET,
        "/groups/{groupId}/flexClusters/{clusterName}/backup/restoreJobs",
        READ
    ),
    probe!(
        "createGroupFlexClusterBackupRestoreJob",
        POST,
        "/groups/{groupId}/flexClusters/{clusterName}/backup/restoreJobs",
        Scope::Project(&[Action::Restore])
    ),
    probe!(
        "getGroupFlexClusterBackupRestoreJob",
        GET,
        "/groups/{groupId}/flexClusters/{clusterName}/backup/restoreJobs/{restoreJobId}",
        READ
    ),
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, vec![], 0)))
}

async fn refuse(call: Call) -> Answer<Reply> {
    let name = call.params.cluster();
    clusters::any(&call, name).await?;
    Err(Problem::new(Code::CannotUseNonFlexClusterInFlexApi).with(name))
}
