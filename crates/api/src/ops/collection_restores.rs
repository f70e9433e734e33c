//! Collection restore jobs: databases and collections of a snapshot or a point in time, restored by themselves. They are
//! restore jobs of another kind, with lists and answers of their own; `/api/ebbtide/v1` shows both, and cancels both.

use std::sync::Arc;

use catalog::{CollectionFilter, Deployment, RestoreFilter, RestoreJob, RestoredCollection};
use http::Method;
use model::{
    collection_restore::{CollectionState, CollectionStep},
    restore::RestoreResource,
    role::Action,
};
use serde_json::json;

use super::{
    Operation, SINCE_MARCH_2025, clusters::cluster, collection_restore_input,
    collection_restore_view as view, groups::catalog_page, links, restore_create, restore_jobs,
};
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

const JOBS: &str = "/groups/{groupId}/clusters/{clusterName}/collectionRestoreJobs";
const JOB: &str = "/groups/{groupId}/clusters/{clusterName}/collectionRestoreJobs/{restoreJobId}";
const COLLECTIONS: &str =
    "/groups/{groupId}/clusters/{clusterName}/collectionRestoreJobs/{restoreJobId}/collections";
const COLLECTION: &str = "/groups/{groupId}/clusters/{clusterName}/collectionRestoreJobs/{restoreJobId}/collections/{sourceNamespace}";
/// So much of a name is shown back.
const SHOWN_CHARACTERS: usize = 256;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupClusterCollectionRestoreJobs",
        method: Method::GET,
        path: JOBS,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "createGroupClusterCollectionRestoreJob",
        method: Method::POST,
        path: JOBS,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::Restore]),
        limit: Set::Backups,
        run: |call| Box::pin(create(call)),
    },
    Operation {
        id: "getGroupClusterCollectionRestoreJob",
        method: Method::GET,
        path: JOB,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "listGroupClusterCollectionRestoreJobCollections",
        method: Method::GET,
        path: COLLECTIONS,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(list_collections(call)),
    },
    Operation {
        id: "getGroupClusterCollectionRestoreJobCollection",
        method: Method::GET,
        path: COLLECTION,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(get_collection(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let deployment = cluster(&call).await?;
    let restores = call.server.state.catalog.restores();
    let resource = Some(RestoreResource::CollectionRestoreJob);
    let filter = RestoreFilter { deployment_id: deployment.id, resource };
    let listing = restores.list(filter, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list collection restore jobs", e))?;
    let ids: Vec<_> = listing.items.iter().map(|job| job.id).collect();
    let sums = restores.collection_sums(&ids).await;
    let sums = sums.map_err(|e| call.server.catalog_problem("count what is restored", e))?;
    let results = listing.items.iter().map(|job| view::job(job, sums.get(&job.id)));
    let results = results.collect::<Answer<Vec<_>>>()?;
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

async fn create(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let (wanted, restore) = collection_restore_input::parse(&call.headers, &call.body)?;
    let options = json!({ view::OPTION: restore });
    let resource = RestoreResource::CollectionRestoreJob;
    let job = restore_create::create(&call, &deployment, &wanted, resource, options).await?;
    let path = links::deployment_path(&deployment);
    let location = call.link(&format!("{path}/collectionRestoreJobs/{}", job.id));
    Ok(Reply::created_at(location, view::job(&job, None)?))
}

async fn get(call: Call) -> Answer<Reply> {
    let (_, job) = one(&call).await?;
    let sums = call.server.state.catalog.restores().collection_sums(&[job.id]).await;
    let sums = sums.map_err(|e| call.server.catalog_problem("count what is restored", e))?;
    Ok(Reply::object(view::job(&job, sums.get(&job.id))?))
}

async fn list_collections(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let state = call.query.get("state").map(str::parse::<CollectionState>).transpose();
    let state = state.map_err(|_| Problem::new(Code::InvalidQueryParameter).with("state"))?;
    let (_, job) = one(&call).await?;
    let text = |name| call.query.get(name).map(str::to_owned);
    let filter = CollectionFilter {
        steps: state.map(|state| CollectionStep::shown_as(state, job.state).collect()),
        source: text("sourceNamespace"),
        target: text("targetNamespace"),
    };
    let (lines, total) = collections(&call, &job, &filter, asked).await?;
    let wanted = view::asked(&job)?.asked().index_strategy;
    let results = lines.iter().map(|line| view::collection(job.state, wanted, line)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, total)))
}

async fn get_collection(call: Call) -> Answer<Reply> {
    let (deployment, job) = one(&call).await?;
    let source = call.params.get("sourceNamespace").unwrap_or_default();
    let filter = CollectionFilter { source: Some(source.to_owned()), ..CollectionFilter::default() };
    let (lines, _) = collections(&call, &job, &filter, PageRequest::FIRST).await?;
    let unknown = || {
        Problem::new(Code::CollectionNotFound)
            .with(source.chars().take(SHOWN_CHARACTERS).collect::<String>())
            .with(deployment.name.as_str())
            .with(format!("that the collection restore job {} restores", job.id))
    };
    let line = lines.first().ok_or_else(unknown)?;
    let wanted = view::asked(&job)?.asked().index_strategy;
    Ok(Reply::object(view::collection(job.state, wanted, line)))
}

/// The job of the path, if it is one of this deployment's and of this kind.
async fn one(call: &Call) -> Answer<(Arc<Deployment>, RestoreJob)> {
    let deployment = cluster(call).await?;
    let job = restore_jobs::one_of(call, &deployment, RestoreResource::CollectionRestoreJob).await?;
    Ok((deployment, job))
}

async fn collections(
    call: &Call,
    job: &RestoreJob,
    filter: &CollectionFilter,
    asked: PageRequest,
) -> Answer<(Vec<RestoredCollection>, u64)> {
    let found = call.server.state.catalog.restores().collections(job.id, filter, catalog_page(asked)).await;
    let found = found.map_err(|e| call.server.catalog_problem("list what is restored", e))?;
    Ok((found.items, found.total.unwrap_or_default()))
}
