//! The marker of a complete export, with the fields that Atlas has in it.

use catalog::ExportJob;
use model::organization::Organization;
use serde_json::json;
use vault::ManifestHeader;

/// The content of `.complete`. A deployment has no labels here, so there are none.
pub(super) fn of(
    row: &ExportJob,
    snapshot: &ManifestHeader,
    organization: &Organization,
    files: u64,
) -> Vec<u8> {
    json!({
        "orgId": organization.id,
        "orgName": organization.name,
        "groupId": row.project_id.to_string(),
        "groupName": snapshot.project_name,
        "clusterUniqueId": row.deployment_id.to_string(),
        "clusterName": row.deployment_name.as_str(),
        "snapshotInitiationDate": snapshot.created_at.to_rfc3339(),
        "totalFiles": files,
        "labels": [],
        "customData": row.custom_data,
    })
    .to_string()
    .into_bytes()
}
