//! Loading many collections at a time, under staging names or, with `inPlace`, straight to their own.
//!
//! The biggest begin first, so that none of them is left over at the end. Loading is bounded by a budget of
//! connections, index builds by one of their own, so that the indexes of one collection are built while the next
//! one loads. After each collection the checkpoint says so; a job that is taken over goes on with the rest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mongo::write::{ConnectionPool, collections};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    checkpoint::{Checkpoint, Staged},
    load::{self, Loads},
    plan::Way,
    source::{Item, Restore},
};
use crate::{
    crash,
    lease::{JobContext, JobError},
};

/// Connections that load documents at a time; more were no faster.
const CONNECTIONS_MAX: usize = 4;
/// Collections whose indexes are built at a time. Each build may take 200 MB of the server's memory.
const INDEX_BUILDS_MAX: usize = 3;
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

/// Loads all collections that can be renamed, under their staging names.
///
/// # Errors
/// [`JobError`] of the first collection that failed; all others have stopped by then.
pub(crate) async fn stage_all(
    ctx: &JobContext,
    job: &Arc<Restore>,
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    ctx.progress().phase("load");
    let items: Vec<Item> = job.going(Way::Renamed).cloned().collect();
    load_all(ctx, job, items, Destination::Staging, state).await
}

/// Loads `items` that the checkpoint does not have yet.
///
/// # Errors
/// As [`stage_all`].
pub(crate) async fn load_all(
    ctx: &JobContext,
    job: &Arc<Restore>,
    items: Vec<Item>,
    destination: Destination,
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    let loads = Arc::new(Loads {
        ctx: ctx.clone(),
        job: Arc::clone(job),
        pool: ConnectionPool::new(&job.deployment),
        halt: CancellationToken::new(),
    });
    let mut waiting = still_to_do(ctx, job, items, destination, state).await?;
    waiting.sort_by_key(|item| item.entry.bytes);
    let budgets = Budgets {
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        builds: Arc::new(Semaphore::new(INDEX_BUILDS_MAX)),
    };
    let mut running = JoinSet::new();
    let mut saved = Instant::now();
    let mut failure = None;
    loop {
        while failure.is_none() && running.len() < COLLECTIONS_MAX {
            let Some(item) = waiting.pop() else { break };
            running.spawn(load_one(Arc::clone(&loads), budgets.clone(), item, destination));
        }
        let Some(ended) = running.join_next().await else { break };
        let done = ended.unwrap_or_else(|e| {
            Err(JobError::failed_by("a bug in Ebbtide stopped the load of a collection", e))
        });
        let step = match done {
            Ok((item, staged)) => note(ctx, state, &item, staged, destination, &mut saved).await,
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
        Some(error) => Err(error),
        None => ctx.checkpoint(state).await,
    }
}

#[derive(Clone)]
struct Budgets {
    connections: Arc<Semaphore>,
    builds: Arc<Semaphore>,
}

impl Budgets {
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
        if known.is_some() && known == there {
            ctx.progress().add(item.entry.documents, item.entry.bytes);
            ctx.progress().collection_done();
        } else {
            destination.done_mut(state).remove(&name);
            waiting.push(item);
        }
    }
    Ok(waiting)
}

async fn load_one(
    loads: Arc<Loads>,
    budgets: Budgets,
    item: Item,
    destination: Destination,
) -> Result<(Item, Staged), JobError> {
    let into = destination.of(&loads.job, &item);
    let connections = load::connections_for(&item);
    let mut staged = {
        let wanted = u32::try_from(connections).unwrap_or(1);
        let permit = loads.ctx.or_stop(Arc::clone(&budgets.connections).acquire_many_owned(wanted)).await?;
        let _permit = permit.map_err(|_| load::halted())?;
        loads.ctx.progress().message(format!("loading {}", item.ns));
        loads.load(&item, &into, destination == Destination::Place).await?
    };
    if !item.entry.meta.indexes.is_empty() {
        let permit = loads.ctx.or_stop(Arc::clone(&budgets.builds).acquire_owned()).await?;
        let _permit = permit.map_err(|_| load::halted())?;
        loads.ctx.progress().message(format!("building the indexes of {}", item.ns));
        staged.parked.extend(loads.index(&item, &into).await?);
    }
    Ok((item, staged))
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
