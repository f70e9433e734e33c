//! The fold of a snapshot in the vault with a record of operations: the manifest of a later time, without a look at the
//! deployment. Snapshots that follow one another and restores to a point in time are both this.
//!
//! 1. The record is consumed once ([`entries`], `delta`): definitions are advanced, changes of documents are gathered by
//!    collection and key, what cannot be folded is noted with its reason.
//! 2. Every collection that is there at the time asked for gets its list of segments: that of the base where nothing
//!    changed, else what `rewrite` and `capped` make of it. The lists are those that a fresh snapshot would have, unless
//!    changes that touch little are kept beside them ([`runs`]).
//! 3. What comes out is not written yet: [`Folded`] has what a manifest needs, everything in it durable and pinned.
//!
//! Nothing is guessed. Collections that cannot be folded end the fold, or are left aside; all of them are named.

mod base;
mod capped;
pub(crate) mod changed;
mod definitions;
mod delta;
pub mod entries;
mod failure;
mod lister;
mod only;
pub mod past;
mod principals;
mod rewrite;
pub(crate) mod runs;
#[cfg(test)]
mod tests;
mod views;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use history::CollectionId;
use model::ClusterTime;
use mongo::Namespace;
use vault::{
    CollectionKind, CollectionMeta, Manifest, ManifestHeader, ManifestRef, ManifestWriter, Order, Principals,
    SegmentPages,
};

use crate::{
    lease::{JobContext, JobError},
    pipeline::{Pinner, SegmentStore},
};
use base::Base;
use delta::{DELTA_BYTES_MAX, Delta, SortedChanges};
pub use entries::Record;
use failure::Ended;
pub use failure::{FoldFailure, Obstacle, Unfoldable};
use lister::Listing;
pub use only::Only;
use rewrite::Span;
use runs::Keeping;
pub use runs::{Kept, Sparse};

/// The rules of today's fold, as manifests name them. They are counted up when a fold turns out to have made states that are
/// not what the deployment had, so that no snapshot is folded from one that may be wrong ([`is_sound`]).
///
/// 1. Documents that were deleted could come back: where a segment lost its first documents, changes of the time before the
///    one in front of it was kept were applied to that once more.
/// 2. They stay deleted.
pub const RULES: u32 = 2;

/// Whether a state in the vault may be the base of the next snapshot: by rules that have been replaced it may be wrong, and what
/// is folded from it would be so too.
#[must_use]
pub const fn is_sound(header: &ManifestHeader) -> bool {
    header.fold_rules >= RULES
}

/// Lists whose last segments are on their way to the store while the next collections are folded.
const LISTINGS_MAX: usize = 8;

/// One collection, view or time series of a folded state, its segments durable and listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedCollection {
    /// What the manifest says of it.
    pub meta: CollectionMeta,
    /// Its segments.
    pub pages: SegmentPages,
}

/// What a fold did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries of the record that were read.
    pub entries: u64,
    /// Writes of documents that were folded.
    pub writes: u64,
    /// Segments of the base that are used again.
    pub segments_kept: u64,
    /// Segments that were cut anew; some may be equal to ones that were there.
    pub segments_new: u64,
    /// What the segments that were read take in the store.
    pub bytes_read: u64,
    /// Documents whose changes are kept beside their segments.
    pub documents_kept_beside: u64,
}

impl Counters {
    fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            writes: self.writes + other.writes,
            segments_kept: self.segments_kept + other.segments_kept,
            segments_new: self.segments_new + other.segments_new,
            bytes_read: self.bytes_read + other.bytes_read,
            documents_kept_beside: self.documents_kept_beside + other.documents_kept_beside,
        }
    }
}

/// A state of the deployment, durable but for the manifest. How much it added to the vault is told by
/// [`SegmentStore::added_bytes`].
pub struct Folded {
    /// A manifest that was begun, and has no collection yet.
    pub manifest: ManifestWriter,
    /// Has to record what is new once the manifest is written.
    pub pinner: Pinner,
    /// The time of the state.
    pub at: ClusterTime,
    /// By namespace, views included.
    pub collections: Vec<FoldedCollection>,
    /// None when the base has none.
    pub principals: Option<Principals>,
    /// What has changed since the times of the segments.
    pub kept: Kept,
    /// Collections that are there and could not be folded: they are not among the others.
    pub aside: Vec<Unfoldable>,
    /// What was done.
    pub counters: Counters,
}

/// What becomes of a fold in which single collections cannot be folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindered {
    /// It fails, and names all of them.
    Fail,
    /// They are left out, and told.
    LeaveAside,
}

impl Folded {
    /// Writes the manifest. The row in the catalog is the caller's affair.
    ///
    /// # Errors
    /// What the vault or the catalog says.
    pub async fn write(self, store: &SegmentStore) -> Result<ManifestRef, JobError> {
        let Self { mut manifest, pinner, collections, principals, kept, .. } = self;
        let ctx = store.ctx();
        for FoldedCollection { meta, pages } in collections {
            ctx.check()?;
            manifest.push_collection(meta, pages).await?;
        }
        if let Some(principals) = &principals {
            manifest.set_principals(principals).await?;
        }
        kept.put(&mut manifest)?;
        ctx.check()?;
        let written = manifest.finish(ctx.now()).await?;
        pinner.record().await?;
        Ok(written)
    }
}

/// How a state is folded.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// What of it.
    pub only: Only<'a>,
    /// What becomes of the rest where something cannot be folded.
    pub hindered: Hindered,
    /// What becomes of changes that touch little.
    pub sparse: Sparse,
}

impl Wish<'_> {
    /// All of it, as a fresh snapshot would be.
    pub const WHOLE: Self = Self { only: Only::Everything, hindered: Hindered::Fail, sparse: Sparse::Apply };
}

/// Folds `record` into the snapshot `base` up to `at`, which is not before it. `header` is what the new manifest says of
/// itself; its time is set to `at`. What is new goes through `store`, and everything that is reused is pinned for its job.
///
/// The documents of a capped collection may be of a later time in the base than everything else, and later than `at`: they
/// stay what they are then, and their own time is in the manifest, as in that of a snapshot.
///
/// Where not everything is wanted, the manifest has only what is, and what stands in the way of the rest is in nobody's way.
/// The whole record is read all the same: what has a name at `at` may have had another one before.
///
/// # Errors
/// [`FoldFailure`].
pub async fn fold_manifest(
    store: &SegmentStore,
    base: &Manifest,
    record: Record<'_>,
    at: ClusterTime,
    header: ManifestHeader,
    wish: Wish<'_>,
) -> Result<Folded, FoldFailure> {
    let Wish { only, hindered, sparse } = wish;
    let ctx = store.ctx();
    let until = of_model(at);
    record.check(of_model(base.header().cluster_time), until)?;
    let base = Base::read(ctx, base).await?;
    // Whoever waits here holds nothing that another needs.
    let _memory = ctx.sort_memory(DELTA_BYTES_MAX).await?;
    let delta = delta::gather(ctx, &base, record, until).await?;
    tracing::debug!(entries = delta.entries, writes = delta.writes, "the record is gathered");
    let Plan { collections, views, principals, mut aside } = plan(&base, &delta, at, only)?;
    fail_on(&aside, hindered)?;

    let pinner = Pinner::new(store);
    let fold_rules = header.fold_rules.min(base.manifest.header().fold_rules);
    let header = ManifestHeader { cluster_time: at, fold_rules, ..header };
    let manifest = ManifestWriter::new(ctx.vault(), header, Arc::new(pinner.clone()));
    let counters = Counters { entries: delta.entries, writes: delta.writes, ..Counters::default() };
    let keeping = (sparse == Sparse::Keep)
        .then(|| Keeping::begin(store, &manifest, &base.manifest, delta.changes.total_bytes()));
    let delta = beside_runs(ctx, &base.manifest, delta).await?;
    let mut folding = Folding { store, base: &base, manifest: &manifest, at, keeping, counters };
    let (mut folded, obstacles) = folding.all(collections, delta).await?;
    let Folding { keeping, counters, .. } = folding;
    let mut kept = match keeping {
        Some(keeping) => keeping.finish(at).await?,
        None => Kept::default(),
    };
    fail_on(&obstacles, hindered)?;
    aside.extend(obstacles);
    let is_folded = |id: &CollectionId| folded.iter().any(|collection| collection.meta.uuid == Some(id.0));
    kept.documents.retain(|id, _| is_folded(id));
    folded.extend(views.into_iter().map(|meta| FoldedCollection { meta, pages: SegmentPages::default() }));
    folded.sort_by_cached_key(|collection| Namespace::new(&collection.meta.db, &collection.meta.name));
    Ok(Folded { manifest, pinner, at, collections: folded, principals, kept, aside, counters })
}

/// The changes of a record together with those that the base keeps beside its segments.
async fn beside_runs(ctx: &JobContext, base: &Manifest, delta: Delta) -> Result<Delta, FoldFailure> {
    let runs = runs::stored(ctx, base);
    // It waits for the vault.
    let work = tokio::task::spawn_blocking(move || {
        let changes = delta.changes.with_runs(runs)?;
        Ok::<_, JobError>(Delta { changes, ..delta })
    });
    let worked = work.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped a fold", e))?;
    Ok(worked?)
}

fn fail_on(obstacles: &[Unfoldable], hindered: Hindered) -> Result<(), FoldFailure> {
    match hindered {
        Hindered::Fail if !obstacles.is_empty() => Err(FoldFailure::Unfoldable(obstacles.to_vec())),
        _ => Ok(()),
    }
}

/// What is there at the time of the fold.
struct Plan {
    collections: BTreeMap<CollectionId, CollectionMeta>,
    views: Vec<CollectionMeta>,
    principals: Option<Principals>,
    /// Collections that cannot be folded.
    aside: Vec<Unfoldable>,
}

/// Everything that is there and wanted, as far as is known by now. Views, users and roles are folded or nothing is.
fn plan(base: &Base, delta: &Delta, at: ClusterTime, only: Only<'_>) -> Result<Plan, FoldFailure> {
    if let Some(everything) = delta.obstacles.everything() {
        return Err(FoldFailure::Unfoldable(vec![everything]));
    }
    let (mut obstacles, mut aside) = (Vec::new(), Vec::new());
    let mut collections = BTreeMap::new();
    let lists_views = lists_system_views(base);
    for (id, collection) in delta.catalog.iter() {
        let Some(meta) = definitions::meta_of(id, collection, at) else { continue };
        let is_listed = meta.kind != CollectionKind::SystemViews || lists_views;
        if !is_listed || !only.wants(&meta.db, &meta.name) {
            continue;
        }
        let found = delta.obstacles.find(Some(id), &collection.namespace);
        let found = found.or_else(|| definitions::doubt(collection));
        match found.or_else(|| disorder(base, id, &meta)) {
            Some(obstacle) if meta.kind == CollectionKind::SystemViews => obstacles.push(obstacle),
            Some(obstacle) => aside.push(obstacle),
            None => {
                let as_of = base.documents_at(id).map_or(at, |as_of| as_of.max(at));
                let read_through = base.collections.get(&id).and_then(|entry| entry.meta.read_through);
                let read_through = read_through.filter(|through| *through > at);
                collections.insert(id, CollectionMeta { as_of, read_through, ..meta });
            }
        }
    }
    let (mut views, hindered) = views::fold(base, delta, at);
    views.retain(|view| only.wants(&view.db, &view.name));
    obstacles
        .extend(hindered.into_iter().filter(|hindered| only.is_hindered(hindered, collections.values())));
    let principals = match only {
        Only::Everything => principals::fold(base, delta)?,
        Only::Selected(_) => Ok(None),
    };
    let principals = principals.unwrap_or_else(|hindered| {
        obstacles.extend(hindered);
        None
    });
    if obstacles.is_empty() {
        Ok(Plan { collections, views, principals, aside })
    } else {
        obstacles.extend(aside);
        Err(FoldFailure::Unfoldable(obstacles))
    }
}

/// Whether a snapshot would have `system.views`: where the base has views and not their documents, the account may not
/// read them.
fn lists_system_views(base: &Base) -> bool {
    let readable = |database: &str| {
        let entries = base.collections.values();
        entries
            .map(|entry| &entry.meta)
            .any(|meta| meta.kind == CollectionKind::SystemViews && meta.db == database)
    };
    base.views.iter().all(|view| readable(&view.meta.db))
}

/// A base that is of no use for the collection, though nothing that was recorded stands in the way.
pub(in crate::fold) fn disorder(base: &Base, id: CollectionId, meta: &CollectionMeta) -> Option<Unfoldable> {
    if base.collections.get(&id)?.meta.order == meta.order {
        return None;
    }
    let what = "it was capped in the base and is not, or the other way round".to_owned();
    let namespace = format!("{}.{}", meta.db, meta.name);
    Some(definitions::unfoldable(&namespace, None, Obstacle::Definition(what)))
}

/// The work on the collections, one after the other in the order of their changes.
struct Folding<'a> {
    store: &'a SegmentStore,
    base: &'a Base,
    manifest: &'a ManifestWriter,
    at: ClusterTime,
    keeping: Option<Keeping<'a>>,
    counters: Counters,
}

impl Folding<'_> {
    async fn all(
        &mut self,
        collections: BTreeMap<CollectionId, CollectionMeta>,
        delta: Delta,
    ) -> Result<(Vec<FoldedCollection>, Vec<Unfoldable>), FoldFailure> {
        let (mut changes, mut capped) = (Some(delta.changes), delta.capped);
        let (mut listings, mut obstacles) = (VecDeque::new(), Vec::new());
        let mut folded = Vec::new();
        for (id, meta) in collections {
            self.store.ctx().check()?;
            skip_to(&mut changes, id).await?;
            let ended = match meta.order {
                Order::Natural => self.capped(id, meta.as_of, capped.remove(&id)).await,
                Order::Sorted => self.sorted(id, &mut changes).await,
            };
            match ended {
                Ok(listing) => listings.push_back((meta, listing)),
                // All others are looked at as well, so that everything that stands in the way is told at once.
                Err(Ended::Obstacle(obstacle)) => {
                    let namespace = format!("{}.{}", meta.db, meta.name);
                    obstacles.push(definitions::unfoldable(&namespace, None, obstacle));
                    self.store.ctx().progress().collection_done();
                }
                Err(Ended::Failure(failure)) => return Err(failure),
            }
            while listings.len() > LISTINGS_MAX {
                self.listed(&mut listings, &mut folded).await?;
            }
        }
        while !listings.is_empty() {
            self.listed(&mut listings, &mut folded).await?;
        }
        Ok((folded, obstacles))
    }

    /// Waits for the first list.
    async fn listed(
        &mut self,
        listings: &mut VecDeque<(CollectionMeta, Listing)>,
        folded: &mut Vec<FoldedCollection>,
    ) -> Result<(), FoldFailure> {
        let Some((meta, listing)) = listings.pop_front() else { return Ok(()) };
        let (pages, counters) = listing.pages().await?;
        self.counters = self.counters.and(counters);
        folded.push(FoldedCollection { meta, pages });
        self.store.ctx().progress().collection_done();
        Ok(())
    }

    async fn capped(
        &self,
        id: CollectionId,
        as_of: ClusterTime,
        changes: Option<history::capped::CappedChanges>,
    ) -> Result<Listing, Ended> {
        let (segments, list) = (self.segments(id), self.manifest.segment_list());
        match changes {
            Some(changes) => capped::refold(self.store, segments, changes, list, as_of).await,
            None => Ok(capped::keep(self.store, segments, list, as_of).await?),
        }
    }

    async fn sorted(
        &mut self,
        id: CollectionId,
        changes: &mut Option<SortedChanges>,
    ) -> Result<Listing, Ended> {
        let is_changed = changes.as_ref().is_some_and(|changes| changes.key_in(id).is_some());
        if let Some(entry) = self.base.collections.get(&id).filter(|_| !is_changed) {
            let reused = lister::reuse(self.store, &self.base.manifest, entry, self.at).await?;
            if let Some(reused) = reused {
                return Ok(reused);
            }
        }
        let (segments, list) = (self.segments(id), self.manifest.segment_list());
        let span = Span { base_at: self.base.manifest.header().cluster_time, at: self.at };
        rewrite::rewrite(self.store, id, segments, changes, list, span, self.keeping.as_mut()).await
    }

    /// The segments of the base; none for a collection that it does not have.
    fn segments(&self, id: CollectionId) -> rewrite::Segments {
        match self.base.collections.get(&id) {
            Some(entry) => self.base.manifest.segments(entry),
            None => Box::pin(futures::stream::empty()),
        }
    }
}

/// Passes over the changes of collections that are there no more, or cannot be folded.
async fn skip_to(changes: &mut Option<SortedChanges>, id: CollectionId) -> Result<(), JobError> {
    let Some(mut sorted) = changes.take() else { return Ok(()) };
    if sorted.is_before(id) {
        // It reads from disk.
        let skipped = tokio::task::spawn_blocking(move || sorted.skip_to(id).map(|()| sorted)).await;
        sorted = skipped.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped a fold", e))??;
    }
    *changes = Some(sorted);
    Ok(())
}

/// The time as the fold knows it.
const fn of_model(time: ClusterTime) -> history::ClusterTime {
    history::ClusterTime { seconds: time.seconds, increment: time.increment }
}
