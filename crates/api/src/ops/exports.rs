//! Exports of snapshots to buckets.

use catalog::{Conflict, Deployment, ExportJob, NewExport};
use http::Method;
use model::{
    export::{ExportState, Label},
    id::{ExportBucketId, SnapshotId},
    role::Action,
};
use serde_json::{Value, json};

use super::{Operation, SINCE_2023, audit, clusters::cluster, export_buckets, groups::catalog_page, links};
use crate::{
    access::Scope,
    body::{Fields, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

const COLLECTION: &str = "/groups/{groupId}/clusters/{clusterName}/backup/exports";
const ONE: &str = "/groups/{groupId}/clusters/{clusterName}/backup/exports/{exportId}";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupClusterBackupExports",
        method: Method::GET,
        path: COLLECTION,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "createGroupClusterBackupExport",
        method: Method::POST,
        path: COLLECTION,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Download]),
        limit: Set::Backups,
        run: |call| Box::pin(create(call)),
    },
    Operation {
        id: "getGroupClusterBackupExport",
        method: Method::GET,
        path: ONE,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    listed(&call, &deployment, atlas).await
}

/// A page of a deployment's exports.
pub(super) async fn listed(
    call: &Call,
    deployment: &Deployment,
    view: fn(&Call, &Deployment, &ExportJob) -> Value,
) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let listing = call.server.state.catalog.exports().list(deployment.id, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list exports", e))?;
    let results = listing.items.iter().map(|job| view(call, deployment, job)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let job = one(&call, &deployment).await?;
    Ok(Reply::object(atlas(&call, &deployment, &job)))
}

/// The export of the path, if it is this deployment's.
pub(super) async fn one(call: &Call, deployment: &Deployment) -> Answer<ExportJob> {
    let found = call.server.state.catalog.exports().get(call.params.export_job()?).await;
    let found = found.map_err(|e| call.server.catalog_problem("read an export", e))?;
    let found = found.filter(|job| job.deployment_id == deployment.id);
    found.ok_or_else(|| Problem::new(Code::ResourceNotFound).with(call.uri.path()))
}

/// What is asked for.
struct Wanted {
    snapshot: SnapshotId,
    bucket: ExportBucketId,
    custom_data: Vec<Label>,
}

impl Wanted {
    fn read(call: &Call) -> Answer<Self> {
        let known = ["customData", "exportBucketId", "links", "snapshotId"];
        let mut fields = Fields::parse(&call.headers, &call.body, &known)?;
        let snapshot = fields.required_text("snapshotId")?;
        let bucket = fields.required_text("exportBucketId")?;
        let labels = fields.objects("customData", &["key", "value"])?.unwrap_or_default();
        let label = |mut fields: Fields| {
            let key = fields.text("key")?.ok_or_else(|| missing("customData.key"))?;
            let value = fields.text("value")?.ok_or_else(|| missing("customData.value"))?;
            Ok(Label { key, value })
        };
        Ok(Self {
            bucket: bucket.parse().map_err(|_| export_buckets::unknown(&bucket))?,
            snapshot: snapshot.parse().map_err(|_| {
                Problem::new(Code::InvalidSnapshotId).with(snapshot.chars().take(64).collect::<String>())
            })?,
            custom_data: labels.into_iter().map(label).collect::<Answer<_>>()?,
        })
    }
}

async fn create(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let wanted = Wanted::read(&call)?;
    let new = NewExport {
        deployment_id: deployment.id,
        snapshot_id: wanted.snapshot,
        bucket_id: wanted.bucket,
        custom_data: wanted.custom_data.clone(),
        organization: &call.server.state.settings.organization,
        scheduled: false,
    };
    let job = call.server.state.catalog.exports().request(new, call.server.now()).await;
    let job = job.map_err(|e| refused(&call, &deployment, &wanted, e))?;
    call.server.state.poke.notify_one();
    let detail = json!({
        "cluster": deployment.name.as_str(),
        "exportBucketId": job.bucket_id.to_string(),
        "snapshotId": job.snapshot_id.to_string(),
    });
    audit::record(&call, "export.create", job.id, detail);
    Ok(Reply::object(atlas(&call, &deployment, &job)))
}

fn refused(call: &Call, deployment: &Deployment, wanted: &Wanted, error: catalog::Error) -> Problem {
    let unknown_snapshot = || {
        Problem::new(Code::SnapshotNotFound).with(wanted.snapshot.to_string()).with(deployment.name.as_str())
    };
    match error {
        catalog::Error::NotFound { what: "snapshot", .. } => unknown_snapshot(),
        catalog::Error::NotFound { what: "export bucket", .. } => {
            export_buckets::unknown(&wanted.bucket.to_string())
        }
        // The deployment was removed since it was looked up.
        catalog::Error::NotFound { .. } => {
            call.server.forget_deployments();
            Problem::new(Code::ClusterNotFound)
                .with(deployment.name.as_str())
                .with(deployment.project_id.to_string())
        }
        catalog::Error::Illegal(illegal) if illegal.state == "deleted" => unknown_snapshot(),
        catalog::Error::Illegal(illegal) => Problem::new(Code::CannotDownloadIncompleteSnapshot)
            .because(format!("It cannot be exported while it is {}.", illegal.state)),
        catalog::Error::Conflict(conflict @ Conflict::SnapshotExporting) => {
            Problem::new(Code::ResourceBusy).with(conflict.to_string())
        }
        other => call.server.catalog_problem("ask for an export", other),
    }
}

/// `DiskBackupExportJob`.
pub(super) fn atlas(call: &Call, deployment: &Deployment, job: &ExportJob) -> Value {
    let path = links::deployment_path(deployment);
    let progress = job.progress.as_ref();
    let mut object = json!({
        "createdAt": job.created_at.to_rfc3339(),
        "customData": job.custom_data,
        "exportBucketId": job.bucket_id.to_string(),
        "exportStatus": {
            "exportedCollections": progress.map_or(0, |progress| progress.collections_done),
            "totalCollections": progress.map_or(0, |progress| progress.collections_total),
        },
        "id": job.id.to_string(),
        "links": [
            links::own(call.link(&format!("{path}/backup/exports/{}", job.id))),
            links::other("cluster", call.link(&path)),
        ],
        "prefix": job.prefix,
        "snapshotId": job.snapshot_id.to_string(),
        "state": job.state.as_atlas_str(),
    });
    if let Some(finished) = job.finished_at {
        object["finishedAt"] = finished.to_rfc3339().into();
    }
    if let (Some(error), ExportState::Failed) = (&job.error, job.state) {
        object["stateReason"] = json!({"message": error});
    }
    object
}
