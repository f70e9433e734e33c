//! The proof: everything is compared with the manifest, before the job says finished.
//!
//! Content first, while all lifetimes are still put aside. What was read back under its staging name and found equal is
//! equal still if it is the same collection and the oplog shows no write to it since; everything else is read back.
//! Then the lifetimes are given back that may be; then options and indexes, byte by byte. A difference that the oplog explains by somebody else's write is told as that;
//! any other fails the job.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::ClusterTime;
use mongo::{
    CollectionInfo, Error, Namespace, fence, time,
    write::{
        ConnectionPool, timeseries, ttl,
        verify::{self, Shape},
    },
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    checkpoint::{Checkpoint, Parked, Switched},
    cutover,
    errors::{job_error, passes},
    load, order, own,
    plan::Way,
    rewind::Decision,
    selected,
    source::{Item, Restore},
    torn, unparked,
};
use crate::{
    connect::to_mongo,
    crash,
    lease::{JobContext, JobError},
};

/// Collections that are read back at a time.
const READERS_MAX: usize = 4;
/// How often one collection is read back when the network fails.
const READ_TRIES_MAX: u32 = 5;
/// Differences that an error names; all are in the log.
const PROBLEMS_NAMED_MAX: usize = 10;
const INDEX_NOT_FOUND: i32 = 27;

/// What was proved.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    /// Collections that others changed after they were proved equal under their staging names.
    pub(crate) changed_by_others: BTreeSet<Namespace>,
    /// Lifetimes that stay put aside, by collection.
    pub(crate) parked: Vec<(Namespace, Parked)>,
    /// What a person should know of views that were selected.
    pub(crate) warnings: Vec<String>,
    /// What a selection tears, as the receipt tells it.
    pub(crate) torn: serde_json::Value,
}

/// Proves the target. Its users write to it again, so a difference may be theirs; the oplog tells.
///
/// # Errors
/// [`JobError::Failed`] names what differs.
pub(crate) async fn prove(
    ctx: &JobContext,
    job: &Arc<Restore>,
    state: &mut Checkpoint,
) -> Result<Proof, JobError> {
    ctx.progress().phase("verify");
    let mut proof = Proof::default();
    if !state.content_proved {
        let unchanged = unchanged_since_staging(ctx, job, state).await?;
        tracing::debug!(
            collections = unchanged.len(),
            "{} collections were proved before the cut-over, and are as they were",
            unchanged.len()
        );
        let mut differing = contents(ctx, job, &unchanged, state).await?;
        differing.extend(order::differing_in_place(ctx, job, &unchanged, state).await?);
        if let Err(error) = sort_out(job, state, differing, &mut proof).await {
            return Err(unparked::told(job, state, error).await);
        }
        // From here on expired documents may go, and a later attempt must not miss them.
        state.content_proved = true;
        ctx.checkpoint(state).await?;
        crash::point("restore.after-content-proof");
    }
    proof.parked = settle_lifetimes(ctx, job, state).await?;
    let found =
        cutover::list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    let mut differing = shapes(job, &found, &proof.parked);
    differing.extend(exchanged(job, state, &found));
    let sorted_out = sort_out(job, state, differing, &mut proof).await;
    sorted_out.map_err(|error| unparked::told_of(job, &proof.parked, error))?;
    if job.options.selection.is_some() {
        proof.warnings = selected::views_on_others(&job.items, &found);
        proof.torn = torn::told(ctx, job, state).await?;
    }
    Ok(proof)
}

/// Tells what others changed from what is wrong.
async fn sort_out(
    job: &Restore,
    state: &Checkpoint,
    differing: Vec<(Namespace, String)>,
    proof: &mut Proof,
) -> Result<(), JobError> {
    if differing.is_empty() {
        return Ok(());
    }
    let nothing = Switched::default();
    let switched = state.switched.as_ref().unwrap_or(&nothing);
    // Looked for after the differences were found, so that it reaches up to them.
    let after = own::writes_after(job, state, ClusterTime::from_u64(switched.at)).await?;
    let touched = |name: &str| switched.touched.contains(name) || after.writes.namespaces.contains(name);
    let by_others = |ns: &Namespace| {
        touched(&ns.to_string())
            || touched(&timeseries::buckets_of(ns).to_string())
            || (touched(&format!("{}.system.views", ns.db)) && is_defined_there(job, ns))
    };
    let mut problems = Vec::new();
    for (ns, difference) in differing {
        if by_others(&ns) {
            tracing::warn!(namespace = %ns, "others have changed {ns} since it was restored: {difference}");
            proof.changed_by_others.insert(ns);
        } else {
            problems.push(format!("{ns}: {difference}"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    for problem in &problems {
        tracing::error!(target_deployment = %job.target.name, "after the restore {problem}");
    }
    let named = problems.iter().take(PROBLEMS_NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    let more = problems.len().saturating_sub(PROBLEMS_NAMED_MAX);
    let more = if more > 0 { format!(" (and {more} more, see the log)") } else { String::new() };
    let unknown = switched.foreign["reason"].as_str().map(str::to_owned).or(after.unknown);
    let unknown = unknown
        .map(|reason| format!("; others may have changed it, which cannot be told any more: {reason}"))
        .unwrap_or_default();
    Err(JobError::failed(format!(
        "the target is not equal to the snapshot: {named}{more}{unknown}; restore it again"
    )))
}

/// Whether the definition of it stands in `system.views`: of a view or a time series, or of something the snapshot does
/// not have, which may be one.
fn is_defined_there(job: &Restore, ns: &Namespace) -> bool {
    let item = job.items.iter().find(|item| item.ns == *ns);
    item.is_none_or(|item| matches!(item.way, Way::View | Way::TimeSeries))
}

/// The collections whose content was proved under their staging names and cannot have changed since: the same
/// collections, by UUID, to which the oplog shows no write.
async fn unchanged_since_staging(
    ctx: &JobContext,
    job: &Restore,
    state: &Checkpoint,
) -> Result<BTreeSet<Namespace>, JobError> {
    let Some(since) = state.staged_proved_since else { return Ok(BTreeSet::new()) };
    let fail = |error| job_error("looking for writes to", &job.target.name, error);
    let found = cutover::list(&job.deployment).await.map_err(fail)?;
    let uuids: BTreeMap<&Namespace, [u8; 16]> =
        found.iter().filter_map(|info| Some((&info.namespace, info.uuid?))).collect();
    let mut same: BTreeMap<[u8; 16], &Namespace> = BTreeMap::new();
    for item in job.going(Way::Renamed) {
        let staged = state.staged.get(&item.ns.to_string());
        let there = uuids.get(&item.ns).filter(|uuid| staged.is_some_and(|s| s.uuid == hex::encode(uuid)));
        same.extend(there.map(|uuid| (*uuid, &item.ns)));
    }
    let until = time::majority_now(&job.deployment).await.map_err(fail)?;
    let since = to_mongo(ClusterTime::from_u64(since));
    let asked = same.keys().copied().collect();
    let touched = match ctx.or_stop(fence::touched(&job.deployment, since, until, &asked)).await? {
        Ok(touched) => touched,
        // Nobody can tell, any more or just now: read everything.
        Err(error) if matches!(error, Error::OplogGap { .. }) || passes(&error) => return Ok(BTreeSet::new()),
        Err(error) => return Err(fail(error)),
    };
    Ok(same.into_iter().filter(|(uuid, _)| !touched.contains(uuid)).map(|(_, ns)| ns.clone()).collect())
}

/// Reads everything back but what is known to be `unchanged`, several collections at a time; tells which differ.
async fn contents(
    ctx: &JobContext,
    job: &Arc<Restore>,
    unchanged: &BTreeSet<Namespace>,
    state: &Checkpoint,
) -> Result<Vec<(Namespace, String)>, JobError> {
    let budget = Arc::new(Semaphore::new(READERS_MAX));
    let pool = ConnectionPool::new(&job.deployment);
    let wanted = |item: &&Item| holds_documents(item.way) && !unchanged.contains(&item.ns);
    let mut items: Vec<Item> = state.as_loaded(&job.items).filter(|item| wanted(&item)).collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.entry.bytes));
    let mut running = JoinSet::new();
    for item in items {
        let (ctx, pool, budget) = (ctx.clone(), pool.clone(), Arc::clone(&budget));
        running.spawn(async move {
            let permit = ctx.or_stop(budget.acquire_owned()).await?;
            let _permit = permit.map_err(|e| JobError::failed_by("the budget of readers is closed", e))?;
            ctx.progress().message(format!("reading back {}", item.ns));
            content(&ctx, &pool, &item).await
        });
    }
    let mut differing = Vec::new();
    while let Some(ended) = running.join_next().await {
        let found = ended
            .map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the proof of a collection", e))?;
        differing.extend(found?);
    }
    Ok(differing)
}

async fn content(
    ctx: &JobContext,
    pool: &ConnectionPool,
    item: &Item,
) -> Result<Option<(Namespace, String)>, JobError> {
    for attempt in 1.. {
        let read = async {
            let mut connection = pool.take().await?;
            let found = verify::content_on(&mut connection, &item.ns, None).await?;
            pool.put_back(connection);
            Ok(found)
        };
        match ctx.or_stop(read).await? {
            Ok(found) if found == item.entry.content => return Ok(None),
            Ok(found) => return Ok(Some((item.ns.clone(), load::differing(&item.entry.content, &found)))),
            Err(error) if attempt < READ_TRIES_MAX && passes(&error) => {
                pool.clear();
                ctx.or_stop(tokio::time::sleep(std::time::Duration::from_secs(1 << attempt))).await?;
            }
            Err(error) => return Err(job_error("reading back", &item.ns, error)),
        }
    }
    Ok(None)
}

const fn holds_documents(way: Way) -> bool {
    matches!(way, Way::Renamed | Way::Buckets | Way::Functions)
}

/// Gives lifetimes back: all of them, or those under which nothing is deleted at once. Tells which stay put aside.
async fn settle_lifetimes(
    ctx: &JobContext,
    job: &Restore,
    state: &Checkpoint,
) -> Result<Vec<(Namespace, Parked)>, JobError> {
    let mut kept = Vec::new();
    for item in job.items.iter().filter(|item| holds_documents(item.way) || item.way == Way::Kept) {
        for parked in parked_of(state, &item.ns) {
            ctx.check()?;
            let fail = |e| job_error("giving the lifetime back to", &item.ns, e);
            let at = parked.at(&item.ns);
            if job.options.park_ttl && ttl::would_delete_now(&job.deployment, &at).await.map_err(fail)? {
                kept.push((item.ns.clone(), parked.clone()));
                continue;
            }
            // The lifetime of a time series is an option of the series, not of its buckets.
            let owner = timeseries::series_of(&item.ns)
                .filter(|_| parked.index.is_none())
                .unwrap_or_else(|| item.ns.clone());
            match ttl::unpark(&job.deployment, &parked.at(&owner)).await {
                // Its users have dropped it since; what else is wrong with it is told below.
                Err(Error::NamespaceNotFound(_) | Error::Server { code: INDEX_NOT_FOUND, .. }) => {}
                unparked => unparked.map_err(fail)?,
            }
        }
    }
    Ok(kept)
}

/// What was put aside when a collection was loaded, wherever that was.
fn parked_of<'a>(state: &'a Checkpoint, ns: &Namespace) -> &'a [Parked] {
    let name = ns.to_string();
    let loaded = state.loaded.get(&name).or_else(|| state.staged.get(&name));
    let stayed = || state.rewind.as_ref().and_then(Decision::rewind)?.parked.get(&name);
    loaded.map(|staged| &staged.parked).or_else(stayed).map_or(&[], Vec::as_slice)
}

/// What stayed has to be the collection that it was: its documents were not read.
fn exchanged(job: &Restore, state: &Checkpoint, found: &[CollectionInfo]) -> Vec<(Namespace, String)> {
    let Some(plan) = state.rewind.as_ref().and_then(Decision::rewind) else { return vec![] };
    let uuids: BTreeMap<&Namespace, Option<[u8; 16]>> =
        found.iter().map(|info| (&info.namespace, info.uuid)).collect();
    let stayed = job.going(Way::Kept).filter(|item| plan.changes_in_place(&item.ns.to_string()));
    let other = stayed.filter(|item| uuids.get(&item.ns).is_some_and(|uuid| *uuid != item.entry.meta.uuid));
    other
        .map(|item| (item.ns.clone(), "it is another collection than the one that stayed".to_owned()))
        .collect()
}

/// Compares names, options and indexes.
fn shapes(
    job: &Restore,
    found: &[CollectionInfo],
    parked: &[(Namespace, Parked)],
) -> Vec<(Namespace, String)> {
    let mut there: BTreeMap<&Namespace, &CollectionInfo> =
        found.iter().map(|info| (&info.namespace, info)).collect();
    let mut differing = Vec::new();
    for item in job.items.iter().filter(|item| item.way != Way::Server) {
        let Some(info) = there.remove(&item.ns) else {
            differing.push((item.ns.clone(), "it is missing".to_owned()));
            continue;
        };
        let meta = &item.entry.meta;
        let wanted =
            Shape { options: &meta.options, id_index: meta.id_index.as_deref(), indexes: &meta.indexes };
        let is = Shape { options: &info.options, id_index: info.id_index.as_deref(), indexes: &info.indexes };
        let buckets = timeseries::buckets_of(&item.ns);
        let lifetimes: Vec<_> = parked
            .iter()
            .filter(|(ns, _)| *ns == item.ns || (item.way == Way::TimeSeries && *ns == buckets))
            .map(|(ns, parked)| parked.at(ns))
            .collect();
        differing.extend(
            verify::differences(&wanted, &is, &lifetimes).into_iter().map(|how| (item.ns.clone(), how)),
        );
    }
    // What was not selected is not compared.
    if job.options.selection.is_some() {
        return differing;
    }
    let left = there.into_values().filter(|info| Way::of(info.kind) != Way::Server);
    // Emptied functions stay as an empty collection.
    let left = left.filter(|info| Way::of(info.kind) != Way::Functions);
    differing.extend(left.map(|info| (info.namespace.clone(), "the snapshot does not have it".to_owned())));
    differing
}
