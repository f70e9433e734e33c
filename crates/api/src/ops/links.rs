//! Links between resources, and where a deployment's resources live.

use catalog::Deployment;
use model::{
    DeploymentKind,
    id::{ProjectId, SnapshotId},
};
use serde_json::{Value, json};

use crate::gate::Call;

/// `self`.
pub(super) fn own(href: String) -> Value {
    json!({"href": href, "rel": "self"})
}

/// A link to another kind of thing.
pub(super) fn other(kind: &str, href: String) -> Value {
    json!({"href": href, "rel": format!("https://cloud.mongodb.com/{kind}")})
}

/// A name as one segment of a path: everything but letters, digits and `-._~` is written as bytes in hexadecimal.
pub(super) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Path of a project.
pub(super) fn group_path(project: ProjectId) -> String {
    format!("/groups/{project}")
}

/// Path of a deployment: which of them depends on its kind.
pub(super) fn deployment_path(deployment: &Deployment) -> String {
    let noun = match deployment.kind {
        DeploymentKind::ReplicaSet => "clusters",
        DeploymentKind::Serverless => "serverless",
        DeploymentKind::Flex => "flexClusters",
    };
    format!("{}/{noun}/{}", group_path(deployment.project_id), deployment.name)
}

/// The four links of a restore job, in Atlas's order.
pub(super) fn of_restore_job(call: &Call, deployment: &Deployment, job: &str, snapshot: SnapshotId) -> Value {
    let path = deployment_path(deployment);
    json!([
        own(call.link(&format!("{path}/backup/restoreJobs/{job}"))),
        other("snapshot", call.link(&format!("{path}/backup/snapshots/{snapshot}"))),
        other("cluster", call.link(&path)),
        other("group", call.link(&group_path(deployment.project_id))),
    ])
}

/// The two links of a snapshot.
pub(super) fn of_snapshot(call: &Call, deployment: &Deployment, snapshot: SnapshotId) -> Value {
    let path = deployment_path(deployment);
    json!([
        own(call.link(&format!("{path}/backup/snapshots/{snapshot}"))),
        other("cluster", call.link(&path))
    ])
}
