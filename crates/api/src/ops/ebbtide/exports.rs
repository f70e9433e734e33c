//! Exports as they are: state, progress in bytes, error, warnings.

use catalog::{Deployment, ExportJob};
use http::Method;
use model::role::Action;
use serde_json::{Value, json};

use super::UNVERSIONED;
use crate::{
    access::Scope,
    error::Answer,
    gate::Call,
    ops::{Operation, clusters::any, exports, links, snapshot_view},
    rate::Set,
    reply::Reply,
};

const COLLECTION: &str = "/groups/{groupId}/clusters/{clusterName}/exports";
const ONE: &str = "/groups/{groupId}/clusters/{clusterName}/exports/{exportId}";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "ebbtideListExports",
        method: Method::GET,
        path: COLLECTION,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "ebbtideGetExport",
        method: Method::GET,
        path: ONE,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    exports::listed(&call, &deployment, view).await
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let job = exports::one(&call, &deployment).await?;
    let mut object = view(&call, &deployment, &job);
    let work = call.server.state.catalog.jobs().of_subject(&job.id.to_string()).await;
    let work = work.map_err(|e| call.server.catalog_problem("read a job", e))?;
    if let Some(work) = &work {
        snapshot_view::describe_job(&mut object, work);
    }
    Ok(Reply::object(object))
}

fn view(call: &Call, deployment: &Deployment, job: &ExportJob) -> Value {
    let mut object = json!({
        "clusterName": deployment.name.as_str(),
        "createdAt": job.created_at.to_rfc3339(),
        "customData": job.custom_data,
        "exportBucketId": job.bucket_id.to_string(),
        "groupId": job.project_id.to_string(),
        "id": job.id.to_string(),
        "links": [links::own(format!(
            "{}/api/ebbtide/v1/groups/{}/clusters/{}/exports/{}",
            call.base, job.project_id, deployment.name, job.id
        ))],
        "prefix": job.prefix,
        "snapshotId": job.snapshot_id.to_string(),
        "state": job.state.as_str(),
    });
    if let Some(finished) = job.finished_at {
        object["finishedAt"] = finished.to_rfc3339().into();
    }
    if let Some(error) = &job.error {
        object["error"] = error.as_str().into();
    }
    object
}
