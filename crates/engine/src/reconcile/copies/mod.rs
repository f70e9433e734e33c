//! Keeps other vaults as the copy settings of schedules say: copies snapshots and slices there, and deletes what no copy needs.
//!
//! A copy is the same vault at another place ([`vault::Vault::open_copy`]), with the objects that its snapshots need; of each of
//! them the manifest comes last and goes first, so whatever moment the first vault is lost in, what the other one shows is
//! whole. Objects are looked through on the way: damage is not copied.
//!
//! One process works on a place at a time, for some minutes; then it is decided anew what is wanted. Whoever loses the right to a
//! place stops; a put that comes late is harmless, but for that of a manifest, and that one and deletes begin only while the right
//! surely holds.

mod hold;
mod make;
mod record;
mod sweep;

use model::{
    copy::{CopyState, RegionName},
    id::{DeploymentId, SnapshotId},
    snapshot::SnapshotState,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use vault::{CopyMark, Location, Vault};

use hold::Hold;
pub(crate) use hold::Rights;
pub(super) use hold::give_back;

use crate::{crash, engine::Services, lease::JobError};

/// Objects that one process copies at a time, besides one for each place: each is held in memory, some 20 MB at most.
const COPIES_SHARED: usize = 2;

/// What was done at one place.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Did {
    /// Copies that were made.
    made: u64,
    /// Copies that could not be made; each tells why.
    failed: u64,
    /// Copies that went.
    dropped: u64,
    /// Objects that were copied.
    objects: u64,
    /// Their bytes.
    bytes: u64,
    /// Objects that were there already and were looked through.
    found: u64,
    /// Slices among them.
    slices: u64,
    /// Objects that were deleted.
    deleted: u64,
    /// Objects that had been there and are not any more.
    missed: u64,
    /// Whether there is more to do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    goes_on: bool,
    /// What stood in the way of a part of it.
    #[serde(skip)]
    hindrance: Option<String>,
}

impl Did {
    /// Notes what keeps nothing else from being done. Only a right that is lost ends the turn.
    fn unless_hindered(&mut self, done: Result<(), JobError>) -> Result<(), JobError> {
        match done {
            Err(error) if !matches!(error, JobError::Lost) => self.hindrance = Some(error.full_text()),
            done => done?,
        }
        Ok(())
    }

    fn add(&mut self, more: Self) {
        let Self { made, failed, dropped, objects, bytes, found, slices, deleted, missed, goes_on, .. } =
            more;
        self.made += made;
        self.failed += failed;
        self.dropped += dropped;
        self.objects += objects;
        self.bytes += bytes;
        self.found += found;
        self.slices += slices;
        self.deleted += deleted;
        self.missed += missed;
        self.goes_on = goes_on;
    }

    /// Whether something may be wanted now that was not before.
    const fn is_news(&self) -> bool {
        self.made > 0 || self.dropped > 0 || self.missed > 0 || self.goes_on
    }
}

/// Room for objects under way at one place: one that no other place takes, and what all share.
struct Room {
    own: Semaphore,
    shared: Arc<Semaphore>,
}

impl Room {
    async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        // Neither is ever closed.
        tokio::select! {
            permit = self.own.acquire() => permit.ok(),
            permit = self.shared.acquire() => permit.ok(),
        }
    }
}

/// What all places of one activation have in common.
struct Shared {
    room: Arc<Semaphore>,
    wanted: AtomicU64,
    unwanted: AtomicU64,
    /// How many places are worked at.
    busy: AtomicUsize,
}

/// How long somebody who has nothing to do waits for more while others work.
const LOOKS_AGAIN: Duration = Duration::from_secs(30);

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    let places = services.settings.copy_places.clone();
    let shared = Arc::new(Shared {
        room: Arc::new(Semaphore::new(COPIES_SHARED)),
        wanted: AtomicU64::new(0),
        unwanted: AtomicU64::new(0),
        busy: AtomicUsize::new(places.len()),
    });
    decide(services, &shared).await?;
    let working = places
        .into_iter()
        .map(|(region, location)| keep(services.clone(), region, location, Arc::clone(&shared)));
    let regions = futures::future::join_all(working).await;
    let (wanted, unwanted) = (shared.wanted.load(Relaxed), shared.unwanted.load(Relaxed));
    Ok(json!({ "wanted": wanted, "unwanted": unwanted, "regions": regions }))
}

async fn decide(services: &Services, shared: &Shared) -> Result<(), JobError> {
    let decided = services.catalog.copies().decide(services.now()).await?;
    shared.wanted.fetch_add(decided.wanted, Relaxed);
    shared.unwanted.fetch_add(decided.unwanted, Relaxed);
    Ok(())
}

/// Works at one place, turn by turn, as long as there is news, or somebody else works: a place with much to do must not keep others
/// waiting, nor one that is away.
async fn keep(services: Services, region: RegionName, location: Location, shared: Arc<Shared>) -> Value {
    let room = Room { own: Semaphore::new(1), shared: Arc::clone(&shared.room) };
    let (mut sum, mut hindrance) = (None::<Did>, None);
    loop {
        let is_news = match work(&services, &region, &location, &room).await {
            Ok(None) => false,
            Ok(Some(mut did)) => {
                hindrance = did.hindrance.take();
                let is_news = did.is_news();
                sum.get_or_insert_default().add(did);
                is_news
            }
            Err(error) => {
                hindrance = Some(error.full_text());
                false
            }
        };
        if let Some(why) = &hindrance {
            tracing::warn!(%region, "copies in {region} wait: {why}");
        }
        if !is_news && shared.busy.fetch_sub(1, Relaxed) > 1 {
            while shared.busy.load(Relaxed) > 0 && is_idle(&services, &region).await {
                tokio::time::sleep(LOOKS_AGAIN).await;
            }
            if shared.busy.load(Relaxed) == 0 {
                break;
            }
            shared.busy.fetch_add(1, Relaxed);
        } else if !is_news {
            break;
        }
        if let Err(error) = decide(&services, &shared).await {
            hindrance = Some(error.full_text());
            shared.busy.fetch_sub(1, Relaxed);
            break;
        }
    }
    let mut object = json!({ "region": region });
    if let Some(did) = sum {
        object["did"] = json!(did);
    }
    if let Some(why) = hindrance {
        object["hindrance"] = why.into();
    }
    if let Ok(upkeep) = services.catalog.copies().upkeep(&region).await
        && let Some(held) = upkeep.held
    {
        object["held"] = held;
    }
    object
}

async fn is_idle(services: &Services, region: &RegionName) -> bool {
    !matches!(todo(services, region).await, Ok(Some(_)))
}

/// What is to be done at a place.
struct Todo {
    deployments: Vec<DeploymentId>,
    is_sweep_due: bool,
    is_list_due: bool,
}

/// What is to be done at a place; nothing where all is as it should be.
async fn todo(services: &Services, region: &RegionName) -> Result<Option<Todo>, JobError> {
    let (copies, now) = (services.catalog.copies(), services.now());
    let upkeep = copies.upkeep(region).await?;
    // One that was never listed is: another catalog may have begun it.
    let is_list_due = upkeep.listed_at.plus_ms(sweep::LIST_EVERY_MS) <= now;
    let is_sweep_due = upkeep.is_sweep_due && upkeep.sweep_after <= now;
    let deployments = copies.recorded_in(region).await?;
    let mut is_busy = is_sweep_due || upkeep.is_condemned || (upkeep.is_begun && is_list_due);
    is_busy = is_busy || !copies.due(region, now).await?.is_empty();
    is_busy = is_busy || !copies.in_state(region, CopyState::Unwanted).await?.is_empty();
    for deployment in &deployments {
        is_busy = is_busy || !copies.slices_due(region, *deployment, 1).await?.is_empty();
    }
    Ok(is_busy.then_some(Todo { deployments, is_sweep_due, is_list_due }))
}

/// Does what is to be done at a place, if anything is and nobody else is at it.
async fn work(
    services: &Services,
    region: &RegionName,
    location: &Location,
    room: &Room,
) -> Result<Option<Did>, JobError> {
    let Some(todo) = todo(services, region).await? else { return Ok(None) };
    let Some(hold) = Hold::claim(services, region).await? else { return Ok(None) };
    let done = hold
        .while_held(async {
            let (known, generation) = (hold.lease.place.as_deref(), hold.lease.generation);
            let opened = services.vault.open_copy(location, region.as_str(), known, generation).await?;
            let (copy, before, mark) = opened;
            let behind = before.map(|before| before.generation).filter(|last| *last >= generation);
            services.catalog.copies().settle(&hold.lease, &mark.place, behind).await?;
            if behind.is_some() {
                // With a new claim, and the place listed.
                return Ok(Did { goes_on: true, ..Did::default() });
            }
            Place { services, hold: &hold, copy, mark, room }.work(&todo).await
        })
        .await;
    if let Err(error @ (JobError::Failed { .. } | JobError::Retry { .. })) = &done {
        // It stands in the way of every copy there, and whoever looks at one of them has to see it.
        match services.catalog.copies().all_failed(&hold.lease, &error.full_text(), services.now()).await {
            // Damage to what is there already takes the right to the place away, until it is claimed anew.
            Ok(()) | Err(catalog::Error::LeaseLost { .. }) => {}
            Err(unsaid) => {
                tracing::warn!(%region, "the copies in {region} cannot be told what they wait for: {unsaid}")
            }
        }
    }
    let released = hold.release().await;
    let done = done?;
    released?;
    Ok(Some(done))
}

/// A vault that is copied to, while it is ours.
struct Place<'a> {
    services: &'a Services,
    hold: &'a Hold<'a>,
    copy: Vault,
    mark: CopyMark,
    room: &'a Room,
}

impl Place<'_> {
    fn region(&self) -> &RegionName {
        &self.hold.lease.region
    }

    async fn work(&self, todo: &Todo) -> Result<Did, JobError> {
        let mut did = Did::default();
        if todo.is_list_due {
            self.list(&mut did).await?;
        }
        // What cannot be deleted, such as under an object lock, must not keep anything from being copied.
        let deleted = self.drop_and_delete(&mut did).await;
        did.unless_hindered(deleted)?;
        // What is recorded is little and goes on all the time: it does not wait for large snapshots.
        for deployment in &todo.deployments {
            self.copy_slices(*deployment, &mut did).await?;
        }
        for wanted in self.services.catalog.copies().due(self.region(), self.services.now()).await? {
            if self.hold.is_over() {
                did.goes_on = true;
                return Ok(did);
            }
            self.make(&wanted, &mut did).await?;
        }
        if (todo.is_sweep_due || todo.is_list_due) && did.hindrance.is_none() {
            let swept = self.sweep(&mut did).await;
            did.unless_hindered(swept)?;
        }
        Ok(did)
    }

    async fn drop_and_delete(&self, did: &mut Did) -> Result<(), JobError> {
        self.drop_unwanted(did).await?;
        self.delete_condemned(did).await
    }

    /// Deletes the manifests of copies that are not wanted any more, and forgets these.
    async fn drop_unwanted(&self, did: &mut Did) -> Result<(), JobError> {
        let copies = self.services.catalog.copies();
        for copy in copies.in_state(self.region(), CopyState::Unwanted).await? {
            copies.condemn(&self.hold.lease, &copy.manifest).await?;
            self.delete(&[copy.manifest]).await?;
            crash::point("copy.delete.before-forgotten");
            copies.forget(&self.hold.lease, copy.snapshot_id).await?;
            did.dropped += 1;
        }
        Ok(())
    }

    /// Whether a snapshot is still there.
    async fn is_kept(&self, snapshot: SnapshotId) -> Result<bool, JobError> {
        let found = self.services.catalog.snapshots().get(snapshot).await?;
        Ok(found.is_some_and(|found| found.state == SnapshotState::Completed))
    }
}
