//! Snapshots as they are: state, progress, sizes, notes. Of deployments of every kind; a serverless tenant's snapshots
//! are asked for here, since Atlas has no call for it.

use catalog::SnapshotFilter;
use http::Method;
use model::role::Action;

use super::UNVERSIONED;
use crate::{
    access::Scope,
    error::Answer,
    gate::Call,
    ops::{Operation, clusters::any, snapshot_view, snapshots},
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

const COLLECTION: &str = "/groups/{groupId}/clusters/{clusterName}/snapshots";
const ONE: &str = "/groups/{groupId}/clusters/{clusterName}/snapshots/{snapshotId}";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "ebbtideListSnapshots",
        method: Method::GET,
        path: COLLECTION,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "ebbtideTakeSnapshot",
        method: Method::POST,
        path: COLLECTION,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::TakeSnapshot]),
        limit: Set::Backups,
        run: |call| Box::pin(take(call)),
    },
    Operation {
        id: "ebbtideGetSnapshot",
        method: Method::GET,
        path: ONE,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "ebbtideDeleteSnapshot",
        method: Method::DELETE,
        path: ONE,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(delete(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let deployment = any(&call, call.params.cluster()).await?;
    let (items, total) = snapshots::listed(&call, SnapshotFilter::of(deployment.id), asked).await?;
    let copies = snapshot_view::Copies::look_up(&call, &items).await?;
    let shown = |snapshot| snapshot_view::own(&call, &deployment, snapshot, &copies, None);
    let results = items.iter().map(shown).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, total)))
}

async fn take(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let snapshot = snapshots::request(&call, &deployment).await?;
    let copies = snapshot_view::Copies::look_up(&call, std::slice::from_ref(&snapshot)).await?;
    Ok(Reply::created(snapshot_view::own(&call, &deployment, &snapshot, &copies, None)))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let snapshot = snapshots::one(&call, &deployment).await?;
    let job = call.server.state.catalog.jobs().of_subject(&snapshot.id.to_string()).await;
    let job = job.map_err(|e| call.server.catalog_problem("read a work item", e))?;
    let copies = snapshot_view::Copies::look_up(&call, std::slice::from_ref(&snapshot)).await?;
    Ok(Reply::object(snapshot_view::own(&call, &deployment, &snapshot, &copies, job.as_ref())))
}

async fn delete(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    snapshots::remove(&call, &deployment).await
}
