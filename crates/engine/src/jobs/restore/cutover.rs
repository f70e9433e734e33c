//! The cut-over: the target's names come to mean the snapshot.
//!
//! From its first step on there is only forward, and every step finds out on the target itself whether it was done:
//! an attempt that takes over does the rest. The order keeps what is missing for a moment small: collections that
//! lie ready are renamed over the old ones first, then goes what the snapshot does not have, and what no server can
//! rename is loaded last.

use std::{collections::BTreeMap, sync::Arc};

use bytes::BytesMut;
use futures::TryStreamExt as _;
use history::ContentSum;
use mongo::{
    CollectionInfo, Deployment, Error, Namespace, listing, time,
    write::{collections, system_js, views},
};

use super::{
    checkpoint::{Checkpoint, Content, Staged},
    errors::job_error,
    plan::Way,
    segments,
    source::{Item, Restore},
    stage,
    standing::{self, NAMESPACE_EXISTS},
};
use crate::{
    crash,
    lease::{JobContext, JobError},
};

/// Switches the target, or goes on with it.
///
/// # Errors
/// [`JobError`]: a retry goes on where this attempt ended.
pub(crate) async fn run(
    ctx: &JobContext,
    job: &Arc<Restore>,
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    if job.options.in_place {
        // First, because the room is needed.
        remove_foreign(ctx, job).await?;
        crash::point("restore.cutover.after-removals");
        stage::load_in_place(ctx, job, job.going(Way::Renamed).cloned().collect(), state).await?;
    } else {
        let lost = rename_all(ctx, job, state).await?;
        crash::point("restore.cutover.after-renames");
        remove_foreign(ctx, job).await?;
        crash::point("restore.cutover.after-removals");
        stage::load_in_place(ctx, job, lost, state).await?;
    }
    let buckets = job.going(Way::Buckets).cloned().collect();
    stage::load_in_place(ctx, job, buckets, state).await?;
    crash::point("restore.cutover.after-time-series");
    replace_functions(ctx, job, state).await?;
    crash::point("restore.cutover.after-functions");
    make_views(ctx, job).await?;
    crash::point("restore.cutover.after-views");
    time::majority_now(&job.deployment)
        .await
        .map_err(|e| job_error("finishing the cut-over on", &job.target.name, e))?;
    Ok(())
}

/// Renames every staging collection over its target. Gives back those whose staging collection is gone although they
/// are not in place either: somebody dropped it, and it has to be loaded again.
async fn rename_all(ctx: &JobContext, job: &Restore, state: &Checkpoint) -> Result<Vec<Item>, JobError> {
    let mut lost = Vec::new();
    for (position, item) in job.going(Way::Renamed).enumerate() {
        ctx.check()?;
        let staged = state.staged.get(&item.ns.to_string());
        let uuid =
            staged.and_then(|staged| hex::decode(&staged.uuid).ok()).and_then(|bytes| bytes.try_into().ok());
        let from = item.staging(&job.job);
        let renamed = match uuid {
            // Without an identity it was never staged: a rename could put something else in its place.
            None => Err(Error::NamespaceNotFound(from.to_string())),
            Some(uuid) => {
                let (deployment, db, to) = (&job.deployment, &item.ns.db, &item.ns.collection);
                if standing::must_be_free(job, item) {
                    collections::rename_if_free(deployment, db, &from.collection, to, Some(uuid)).await
                } else {
                    collections::rename_over(deployment, db, &from.collection, to, Some(uuid)).await
                }
            }
        };
        match renamed {
            Ok(()) => job.told.in_place(item),
            Err(Error::NamespaceNotFound(_)) if !state.loaded.contains_key(&item.ns.to_string()) => {
                tracing::warn!(namespace = %item.ns, "the staging collection of {} is gone; it is loaded in place", item.ns);
                lost.push(item.clone());
            }
            Err(Error::NamespaceNotFound(_)) => lost.push(item.clone()),
            Err(error) if standing::must_be_free(job, item) && error.code() == Some(NAMESPACE_EXISTS) => {
                return Err(standing::made_meanwhile(item));
            }
            Err(error) => return Err(job_error("switching", &item.ns, error)),
        }
        if position == 0 {
            crash::point("restore.cutover.after-first-rename");
        }
    }
    Ok(lost)
}

/// Drops what the snapshot does not have.
async fn remove_foreign(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
    let found = list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    let removals = job.removals(&found);
    for ns in removals.collections.iter().chain(&removals.before_views) {
        ctx.check()?;
        if let Some(item) = job.items.iter().find(|item| item.ns == *ns && standing::must_be_free(job, item))
        {
            return Err(standing::made_meanwhile(item));
        }
        remove(&job.deployment, ns).await.map_err(|e| job_error("removing", ns, e))?;
    }
    for db in &removals.databases {
        ctx.check()?;
        collections::drop_database(&job.deployment, db)
            .await
            .map_err(|e| job_error("removing the database", db, e))?;
    }
    Ok(())
}

async fn remove(deployment: &Deployment, ns: &Namespace) -> mongo::Result<()> {
    if ns.collection == system_js::NAME {
        return system_js::replace(deployment, &ns.db, bytes::Bytes::new(), None).await.map(drop);
    }
    collections::drop(deployment, &ns.db, &ns.collection).await
}

/// Everything that the target has and a backup would take, as it is now.
///
/// # Errors
/// The server's.
pub(crate) async fn list(deployment: &Deployment) -> mongo::Result<Vec<CollectionInfo>> {
    let mut connection = deployment.primary_wire().await?;
    let mut found = Vec::new();
    for db in listing::databases(&mut connection).await? {
        found.extend(listing::of_database(&mut connection, &db).await?.0);
    }
    Ok(found)
}

/// Stored functions are few and small; they are replaced as a whole.
async fn replace_functions(ctx: &JobContext, job: &Restore, state: &mut Checkpoint) -> Result<(), JobError> {
    for item in job.going(Way::Functions) {
        ctx.check()?;
        let (mut documents, mut content) = (BytesMut::new(), ContentSum::default());
        let segments = segments::read(ctx, &job.manifest, &item.entry, item.beside.as_ref(), 0);
        let mut segments = std::pin::pin!(segments);
        while let Some(segment) = segments.try_next().await? {
            documents.extend_from_slice(&segment.documents);
            content.merge(&segment.content);
        }
        if item.beside.is_some() {
            let loaded = Staged { content: Some(Content::of(&content)), ..Staged::default() };
            state.loaded.insert(item.ns.to_string(), loaded);
        }
        system_js::replace(&job.deployment, &item.ns.db, documents.freeze(), Some(job.job.clone()))
            .await
            .map_err(|e| job_error("replacing", &item.ns, e))?;
        ctx.progress().add(item.entry.documents, item.entry.bytes);
        ctx.progress().collection_done();
    }
    Ok(())
}

/// Makes the views that are not there already as they should be.
async fn make_views(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
    let found = list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    let there: BTreeMap<&Namespace, &[u8]> =
        found.iter().map(|info| (&info.namespace, info.options.as_slice())).collect();
    let mut missing: BTreeMap<&str, Vec<views::View<'_>>> = BTreeMap::new();
    for item in job.going(Way::View) {
        let is_there = there.get(&item.ns);
        if is_there != Some(&item.entry.meta.options.as_slice()) {
            if is_there.is_some() && standing::must_be_free(job, item) {
                return Err(standing::made_meanwhile(item));
            }
            let view = views::View { name: &item.ns.collection, options: &item.entry.meta.options };
            missing.entry(&item.ns.db).or_default().push(view);
        }
    }
    for (db, of_one) in missing {
        ctx.check()?;
        let refused = views::create_in_order(&job.deployment, db, &of_one).await;
        let refused = refused.map_err(|e| job_error("making the views of", db, e))?;
        // One that cannot be made is found missing by the proof; the others are worth having.
        for (ns, error) in refused {
            tracing::warn!(namespace = %ns, %error, "the target refuses the view {ns}: {error}");
        }
    }
    Ok(())
}
