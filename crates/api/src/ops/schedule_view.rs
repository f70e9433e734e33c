//! A schedule as the API shows it.

use catalog::{Deployment, DeploymentSchedule};
use model::{
    RestoreWindowDays,
    schedule::{AutoExport, PolicyItem, Schedule, policy_id},
};
use serde_json::{Value, json};

use super::{copy_settings, links};
use crate::gate::Call;

/// `DiskBackupSnapshotSchedule20240805`, and the older one alike; `kept` is nothing where nobody has set one.
pub(super) fn schedule(
    call: &Call,
    deployment: &Deployment,
    kept: Option<&DeploymentSchedule>,
    window: RestoreWindowDays,
) -> Value {
    let none = Schedule::default();
    let schedule = kept.map_or(&none, |kept| &kept.schedule);
    let auto_export = kept.map(|kept| kept.auto_export).unwrap_or_default();
    let path = links::deployment_path(deployment);
    let mut object = json!({
        "autoExportEnabled": auto_export.is_on(),
        "clusterId": deployment.id.to_string(),
        "clusterName": deployment.name.as_str(),
        "copyPolicyItemsEnabled": false,
        "copySettings": kept.map_or_else(|| json!([]), |kept| copy_settings::view(call, deployment, &kept.copies)),
        "extraRetentionSettings": schedule.extra.settings(),
        "links": [
            links::own(call.link(&format!("{path}/backup/schedule"))),
            links::other("group", call.link(&links::group_path(deployment.project_id))),
        ],
        "policies": [{
            "id": policy_id(deployment.id).to_string(),
            "policyItems": schedule.policy.items().iter().map(item).collect::<Vec<_>>(),
        }],
        "referenceHourOfDay": schedule.reference.hour(),
        "referenceMinuteOfHour": schedule.reference.minute(),
        "restoreWindowDays": window.days(),
        "useOrgAndGroupNamesInExportPrefix": kept.is_some_and(|kept| kept.names_in_exports),
    });
    if let Some(next) = schedule.next_after(call.server.now()) {
        object["nextSnapshot"] = next.to_rfc3339().into();
    }
    describe_export(&mut object, auto_export);
    object
}

/// `AutoExportPolicyView`, where there is one.
fn describe_export(object: &mut Value, auto_export: AutoExport) {
    if let Some(policy) = auto_export.policy() {
        object["export"] = json!({
            "exportBucketId": policy.bucket_id.to_string(),
            "frequencyType": policy.frequency.as_str(),
        });
    }
}

/// `DiskBackupApiPolicyItem`.
fn item(item: &PolicyItem) -> Value {
    json!({
        "frequencyInterval": item.frequency.interval(),
        "frequencyType": item.frequency.kind().as_str(),
        "id": item.id.to_string(),
        "retentionUnit": item.retention.unit().as_str(),
        "retentionValue": item.retention.value(),
    })
}

/// What the audit log keeps of a schedule.
pub(super) fn as_written_down(kept: &DeploymentSchedule) -> Value {
    let DeploymentSchedule { schedule, auto_export, .. } = kept;
    let mut object = json!({
        "autoExportEnabled": auto_export.is_on(),
        "copySettings": copy_settings::as_written_down(&kept.copies),
        "extraRetentionSettings": schedule.extra.settings(),
        "policyItems": schedule.policy.items().iter().map(item).collect::<Vec<_>>(),
        "referenceHourOfDay": schedule.reference.hour(),
        "referenceMinuteOfHour": schedule.reference.minute(),
        "useOrgAndGroupNamesInExportPrefix": kept.names_in_exports,
    });
    describe_export(&mut object, *auto_export);
    object
}
