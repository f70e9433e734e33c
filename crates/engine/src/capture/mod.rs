//! Capture: what the deployments with continuous backup do becomes slices in the vault, seconds later.
//!
//! A keeper in each process looks which deployments want capture and claims those that nobody captures: one holder at a
//! time, fenced by an epoch as jobs are. Each is followed in a task of its own:
//!
//! * [`begin`]: a new timeline begins where no transaction is cut, or the old one goes on after its last slice;
//! * [`follow`]: entries are tailed at majority and gather in a slice of the [`chain`], which is closed by its size, its age, or
//!   because somebody waits for it;
//! * [`keep`]: while the next one is filled, a closed slice is made durable, in the vault or, while that is away, in the spool, before the catalog says that
//!   it exists; the catalog takes only the slice that follows its last one, so there is no gap and no double;
//! * what ends a timeline (the oplog rolled over or back, another replica set) is recorded with its reason, a new one
//!   begins, and [`base`] asks for the snapshot that makes it worth something.

mod base;
mod begin;
mod chain;
mod claim;
mod due;
mod error;
mod finish;
mod follow;
mod keep;
mod spool;
mod status;
mod waiters;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use catalog::{CaptureLease, Renewal};
use model::id::DeploymentId;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use due::{SLICE_AGE, SLICE_BYTES};
pub use waiters::Waiters;

use crate::engine::Services;
use claim::Claims;
use finish::Left;
use status::Status;

/// How often it is looked whether a deployment wants capture.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a record is left alone whose end waits on another disk: whoever has that disk brings it.
const ELSEWHERE_LOOK_EVERY: Duration = Duration::from_secs(600);
/// How long a shutdown waits for slices to be closed.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(15);

/// Captures whatever wants to be captured, until `shutdown`.
pub(crate) async fn run(services: &Services, shutdown: &CancellationToken) {
    let mut following = JoinSet::new();
    let mut held: HashSet<DeploymentId> = HashSet::new();
    let mut left_alone: HashMap<DeploymentId, Instant> = HashMap::new();
    let mut claims = Claims::default();
    while !shutdown.is_cancelled() {
        match to_do(services).await {
            Ok(to_do) => {
                left_alone.retain(|_, since| since.elapsed() < ELSEWHERE_LOOK_EVERY);
                let ToDo { wanted, unfinished } = to_do;
                let unfinished = unfinished.into_iter().filter(|id| !left_alone.contains_key(id));
                let free = |id: &DeploymentId| !held.contains(id);
                for id in wanted.into_iter().chain(unfinished).filter(free).collect::<Vec<_>>() {
                    if let Some(lease) = claims.claim(services, id).await {
                        held.insert(id);
                        let (services, shutdown) = (services.clone(), shutdown.child_token());
                        following.spawn(async move { (id, hold(&services, lease, &shutdown).await) });
                    }
                }
            }
            Err(error) => {
                tracing::error!(error = %error, "it cannot be known what to capture: {error}; trying again");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            Some(ended) = following.join_next(), if !following.is_empty() => match ended {
                Ok((id, left)) => {
                    held.remove(&id);
                    if left == Left::Elsewhere {
                        left_alone.insert(id, Instant::now());
                    }
                }
                // Whose it was is not told; those that go on are claimed by nobody else, and the lost one again.
                Err(panicked) => {
                    tracing::error!(error = %panicked, "a bug in Ebbtide stopped a capture: {panicked}");
                    held.clear();
                }
            },
        }
    }
    let stop_all = async { while following.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, stop_all).await.is_err() {
        tracing::warn!("captures did not stop in time; the next process reads again what was not stored");
    }
}

struct ToDo {
    /// Deployments that are to be recorded.
    wanted: Vec<DeploymentId>,
    /// Those whose record has to be brought to its end.
    unfinished: Vec<DeploymentId>,
}

async fn to_do(services: &Services) -> catalog::Result<ToDo> {
    let timelines = services.catalog.timelines();
    Ok(ToDo { wanted: timelines.wanted().await?, unfinished: timelines.unfinished().await? })
}

/// Follows one deployment for as long as the lease is ours and capture is wanted.
async fn hold(services: &Services, lease: CaptureLease, shutdown: &CancellationToken) -> Left {
    let stop = shutdown.child_token();
    let status = Arc::new(Status::default());
    let beating = keep_alive(services.clone(), lease.clone(), Arc::clone(&status), stop.clone());
    let beating = AbortOnDropHandle::new(tokio::spawn(beating));
    follow::until_stopped(services, &lease, &status, &stop).await;
    let mut left = Left::Nothing;
    if status.is_unwanted() && !shutdown.is_cancelled() {
        left = finish::switched_off(services, &lease, shutdown).await;
    }
    drop(beating);
    if let Err(error) = services.catalog.timelines().release(&lease).await {
        tracing::warn!(deployment.id = %lease.deployment_id, error = %error, "the lease of a capture cannot be given back: {error}; it will run out");
    }
    left
}

/// Renews the lease, writes down how the capture is, and stops it when it is not ours or not wanted any more.
async fn keep_alive(services: Services, lease: CaptureLease, status: Arc<Status>, stop: CancellationToken) {
    let lasts = Duration::from_millis(services.settings.lease_ms.unsigned_abs());
    let mut renewed = tokio::time::Instant::now();
    loop {
        let asked = tokio::time::Instant::now();
        let (now, lease_ms) = (services.now(), services.settings.lease_ms);
        match services.catalog.timelines().renew(&lease, &status.to_json(), now, lease_ms).await {
            Ok(Renewal::Continue) => renewed = asked,
            // The lease is kept until the record has been brought to its end.
            Ok(Renewal::NotWanted) => {
                renewed = asked;
                status.unwanted();
                stop.cancel();
            }
            Ok(Renewal::Lost) => return stop.cancel(),
            Err(error) => {
                tracing::warn!(deployment.id = %lease.deployment_id, error = %error, "the lease of a capture cannot be renewed: {error}");
            }
        }
        if renewed.elapsed() >= lasts {
            // Somebody else may follow the deployment by now. The catalog would take nothing from us any more.
            return stop.cancel();
        }
        tokio::time::sleep((lasts / 3).min(LOOK_EVERY)).await;
    }
}
