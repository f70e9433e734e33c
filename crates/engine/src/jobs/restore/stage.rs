//! Loading many collections at a time, under staging names or, with `inPlace`, straight to their own.
//!
//! Those with indexes begin first, and the biggest of them, so that none is left over at the end. Loading is bounded
//! by a budget of connections, index builds by one of their own, so that the indexes of one collection are built while
//! the next one loads. After each collection the checkpoint says so; a job that is taken over goes on with the rest.
//!
//! What lies under staging names is read back when nothing is left to load, beside the last index builds: the shorter
//! the time from there to the cut-over, the less of the oplog has to tell that nothing was written to it since.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use model::collection_restore::CollectionStep;
use mongo::write::{ConnectionPool, KeyCounts, collections};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    checkpoint::{Checkpoint, Staged},
    load::{self, CONNECTIONS_MAX, Loads, MadeNow},
    plan::Way,
    source::{Item, Restore},
    specs,
};
use crate::{
    connect::to_model,
    crash,
    lease::{JobContext, JobError},
};

/// Collections begun and not finished; bounds what waits for a permit.
const COLLECTIONS_MAX: usize = 8;
/// Small collections share a checkpoint, so that ten thousand of them do not write it ten thousand times.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// A collection that took this much work gets a checkpoint of its own.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Where collections are loaded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Staging names, before the cut-over.
    Staging,
    /// Their own names, inside it.
    Place,
}

/// Loads all collections that can be renamed, under their staging names, and proves them.
///
/// # Errors
/// [`JobError`] of the first collection that failed; all others have stopped by then.
pub(crate) async fn stage_all(
    ctx: &JobContext,
    job: &Arc<Restore>,
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    ctx.progress().phase("load");
    state.staged_proved_since = None;
    let items = job.going(Way::Renamed).cloned().collect();
    let since = stage_some(ctx, job, items, state).await?;
    state.staged_proved_since = since.map(|since| to_model(since).as_u64());
    ctx.checkpoint(state).await
}

/// Loads some collections under their staging names, and proves them; nobody has looked from the time on that is given back.
///
/// # Errors
/// As [`stage_all`].
pub(crate) async fn stage_some(
    ctx: &JobContext,
    job: &Arc<Restore>,
    items: Vec<Item>,
    state: &mut Checkpoint,
) -> Result<Option<mongo::ClusterTime>, JobError> {
    for attempt in 1.. {
        let proof = load(ctx, job, items.clone(), Destination::Staging, state).await?;
        let Some((item, how)) = proof.differing.first() else {
            ctx.checkpoint(state).await?;
            return Ok(proof.since);
        };
        if attempt >= load::LOAD_TRIES_MAX {
            return Err(JobError::failed(format!("{} does not hold what was written to it: {how}", item.ns)));
        }
        for (item, how) in &proof.differing {
            tracing::warn!(namespace = %item.ns, attempt, "{} is loaded again: it does not hold what was written to it: {how}", item.ns);
            state.staged.remove(&item.ns.to_string());
            let counters = ctx.progress();
            counters.add(item.entry.documents.wrapping_neg(), item.entry.bytes.wrapping_neg());
            ctx.services().probe("restore.load-again", &item.ns.to_string()).await;
        }
    }
    Ok(None)
}

/// Loads `items` to their own names, as far as the checkpoint does not have them yet.
///
/// # Errors
/// As [`stage_all`].
pub(crate) async fn load_in_place(
    ctx: &JobContext,
    job: &Arc<Restore>,
    items: Vec<Item>,
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    load(ctx, job, items, Destination::Place, state).await.map(drop)
}

/// What reading back has shown.
#[derive(Default)]
struct Proof {
    /// From this time on nobody has looked.
    since: Option<mongo::ClusterTime>,
    differing: Vec<(Item, String)>,
}

/// What a task has come to.
enum Step {
    Loaded(Item, Staged, KeyCounts),
    Indexed(Item, Staged),
    Proved(Item, Option<String>),
}

/// Loads what the checkpoint does not have yet; reads back what lies under staging names.
async fn load(
    ctx: &JobContext,
    job: &Arc<Restore>,
    items: Vec<Item>,
    destination: Destination,
    state: &mut Checkpoint,
) -> Result<Proof, JobError> {
    let (made, mut made_now) = mpsc::unbounded_channel();
    let loads = Arc::new(Loads {
        ctx: ctx.clone(),
        job: Arc::clone(job),
        pool: ConnectionPool::new(&job.deployment),
        halt: CancellationToken::new(),
        made,
    });
    let all = items.clone();
    let mut waiting = still_to_do(ctx, job, items, destination, state).await?;
    waiting.sort_by_cached_key(|item| (has_indexes(item), item.entry.bytes));
    let budgets = Budgets {
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        builds: Arc::new(Semaphore::new(load::BUILDS_MAX)),
    };
    let mut running = JoinSet::new();
    let (mut loading, mut begun) = (0, 0);
    // With the content that an earlier attempt has loaded; of the others it is told once they are.
    let mut unproved =
        if destination == Destination::Staging { state.as_loaded(&all).collect() } else { vec![] };
    let mut proof = Proof::default();
    let mut saved = Instant::now();
    let mut failure: Option<JobError> = None;
    loop {
        while failure.is_none() && begun < COLLECTIONS_MAX {
            let Some(item) = waiting.pop() else { break };
            // Asked for here, so that permits are given in the order of the list.
            let permit = budgets.connections_for(&item);
            running.spawn(load_one(Arc::clone(&loads), permit, item, destination));
            (loading, begun) = (loading + 1, begun + 1);
        }
        if failure.is_none() && loading == 0 && waiting.is_empty() {
            if !unproved.is_empty() && proof.since.is_none() {
                match loads.time_of_proof().await {
                    Ok(now) => proof.since = Some(now),
                    Err(error) => {
                        failure = Some(error);
                        loads.halt.cancel();
                        budgets.close();
                    }
                }
            }
            while failure.is_none() && begun < COLLECTIONS_MAX {
                let Some(item) = unproved.pop() else { break };
                running.spawn(prove_one(Arc::clone(&loads), item));
                begun += 1;
            }
        }
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            Some(MadeNow { uuid, written }) = made_now.recv() => {
                state.made.get_or_insert_default().insert(uuid);
                match ctx.checkpoint(state).await {
                    Ok(()) => {
                        written.send(()).ok();
                    }
                    Err(error) => {
                        failure.get_or_insert(error);
                        loads.halt.cancel();
                        budgets.close();
                    }
                }
                continue;
            }
            error = job.told.keep_telling(ctx) => {
                failure.get_or_insert(error);
                loads.halt.cancel();
                budgets.close();
                continue;
            }
        };
        let Some(ended) = ended else { break };
        let done = ended.unwrap_or_else(|e| {
            Err(JobError::failed_by("a bug in Ebbtide stopped the load of a collection", e))
        });
        let step = match done {
            Ok(Step::Loaded(item, staged, keys)) => {
                loading -= 1;
                unproved.iter_mut().filter(|other| other.ns == item.ns).for_each(|other| staged.tell(other));
                let mut told = item.clone();
                staged.tell(&mut told);
                job.told.loaded(&told, has_indexes(&item));
                if !has_indexes(&item) {
                    begun -= 1;
                    note(ctx, state, &item, staged, destination, &mut saved).await
                } else {
                    let indexed =
                        index_one(Arc::clone(&loads), budgets.clone(), item, staged, keys, destination);
                    running.spawn(indexed);
                    Ok(())
                }
            }
            Ok(Step::Indexed(item, staged)) => {
                begun -= 1;
                job.told.staged(&item);
                note(ctx, state, &item, staged, destination, &mut saved).await
            }
            Ok(Step::Proved(item, difference)) => {
                begun -= 1;
                proof.differing.extend(difference.map(|how| (item, how)));
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = step {
            // What runs stops at its next segment; it must be over before anybody sweeps.
            failure.get_or_insert(error);
            loads.halt.cancel();
            budgets.close();
        }
    }
    match failure {
        Some(error) => {
            // Which one it was is worth knowing, and the failure is worth more.
            if let Err(hindrance) = job.told.tell(ctx).await {
                let hindrance = hindrance.full_text();
                tracing::warn!(
                    error = hindrance,
                    "the catalog cannot be told which collection failed: {hindrance}"
                );
            }
            Err(error)
        }
        None => {
            job.told.tell(ctx).await?;
            ctx.checkpoint(state).await.map(|()| proof)
        }
    }
}

fn has_indexes(item: &Item) -> bool {
    specs::any_beside_id(&item.entry.meta.indexes)
}

#[derive(Clone)]
struct Budgets {
    connections: Arc<Semaphore>,
    builds: Arc<Semaphore>,
}

impl Budgets {
    /// The permit to load a collection. Asked for in the order of the calls, not in that in which they are waited for.
    fn connections_for(
        &self,
        item: &Item,
    ) -> impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + use<> {
        let wanted = u32::try_from(load::connections_for(item)).unwrap_or(1);
        let mut permit = Box::pin(Arc::clone(&self.connections).acquire_many_owned(wanted));
        // A semaphore is fair from the first poll on.
        let first = permit.as_mut().now_or_never();
        async move {
            match first {
                Some(permit) => permit,
                None => permit.await,
            }
        }
    }

    /// Whoever waits for a permit gives up.
    fn close(&self) {
        self.connections.close();
        self.builds.close();
    }
}

/// What to load: not what an earlier attempt loaded, if it is still there.
async fn still_to_do(
    ctx: &JobContext,
    job: &Restore,
    items: Vec<Item>,
    destination: Destination,
    state: &mut Checkpoint,
) -> Result<Vec<Item>, JobError> {
    let mut waiting = Vec::new();
    for item in items {
        let name = item.ns.to_string();
        let known = destination.done(state).get(&name).map(|staged| staged.uuid.clone());
        let there = match &known {
            Some(_) => {
                collections::uuid_of(&job.deployment, &destination.of(job, &item)).await?.map(hex::encode)
            }
            None => None,
        };
        let told = destination.done(state).get(&name).is_some_and(|staged| staged.tells(&item));
        if known.is_some() && known == there && told {
            ctx.progress().add(item.entry.documents, item.entry.bytes);
            ctx.progress().collection_done();
            let mut told = item.clone();
            if let Some(staged) = destination.done(state).get(&name) {
                staged.tell(&mut told);
            }
            job.told.loaded(&told, false);
        } else {
            destination.done_mut(state).remove(&name);
            waiting.push(item);
        }
    }
    Ok(waiting)
}

async fn load_one(
    loads: Arc<Loads>,
    permit: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send,
    item: Item,
    destination: Destination,
) -> Result<Step, JobError> {
    let into = destination.of(&loads.job, &item);
    let permit = loads.ctx.or_stop(permit).await?;
    let _permit = permit.map_err(|_| load::halted())?;
    loads.ctx.progress().message(format!("loading {}", item.ns));
    let loaded = loads.load(&item, &into, destination == Destination::Place).await;
    let (staged, keys) = loads.told_failure(&item, CollectionStep::Failed, loaded)?;
    Ok(Step::Loaded(item, staged, keys))
}

async fn index_one(
    loads: Arc<Loads>,
    budgets: Budgets,
    item: Item,
    mut staged: Staged,
    keys: KeyCounts,
    destination: Destination,
) -> Result<Step, JobError> {
    let builds = u32::try_from(load::builds_for(&item, &keys)).unwrap_or(1);
    let permit = loads.ctx.or_stop(Arc::clone(&budgets.builds).acquire_many_owned(builds)).await?;
    let _permit = permit.map_err(|_| load::halted())?;
    loads.ctx.progress().message(format!("building the indexes of {}", item.ns));
    let indexed = loads.index(&item, &destination.of(&loads.job, &item), keys).await;
    staged.parked.extend(loads.told_failure(&item, CollectionStep::IndexesFailed, indexed)?);
    Ok(Step::Indexed(item, staged))
}

async fn prove_one(loads: Arc<Loads>, item: Item) -> Result<Step, JobError> {
    loads.ctx.progress().message(format!("reading back {}", item.ns));
    let proved = loads.prove(&item, &Destination::Staging.of(&loads.job, &item)).await;
    let difference = loads.told_failure(&item, CollectionStep::Failed, proved)?;
    Ok(Step::Proved(item, difference))
}

async fn note(
    ctx: &JobContext,
    state: &mut Checkpoint,
    item: &Item,
    staged: Staged,
    destination: Destination,
    saved: &mut Instant,
) -> Result<(), JobError> {
    crash::point("restore.load.before-checkpoint");
    destination.done_mut(state).insert(item.ns.to_string(), staged);
    ctx.progress().collection_done();
    if item.entry.bytes >= CHECKPOINT_BYTES || saved.elapsed() >= CHECKPOINT_EVERY {
        ctx.checkpoint(state).await?;
        *saved = Instant::now();
    }
    crash::point("restore.load.after-collection");
    ctx.services().probe("restore.collection-loaded", &item.ns.to_string()).await;
    Ok(())
}

impl Destination {
    /// Where an item is loaded to.
    fn of(self, job: &Restore, item: &Item) -> mongo::Namespace {
        match self {
            Self::Staging => item.staging(&job.job),
            Self::Place => item.ns.clone(),
        }
    }

    fn done(self, state: &Checkpoint) -> &std::collections::BTreeMap<String, Staged> {
        match self {
            Self::Staging => &state.staged,
            Self::Place => &state.loaded,
        }
    }

    fn done_mut(self, state: &mut Checkpoint) -> &mut std::collections::BTreeMap<String, Staged> {
        match self {
            Self::Staging => &mut state.staged,
            Self::Place => &mut state.loaded,
        }
    }
}
