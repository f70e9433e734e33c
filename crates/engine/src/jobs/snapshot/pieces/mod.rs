//! A first snapshot whose reading takes longer than the deployment's history lasts: what was read at different times is folded
//! to one.
//!
//! The deployment has to be captured. Then the history that is gone under a read costs no more than what was not durable yet:
//!
//! 1. What was read at the first time stays; what is left is read at later times, until nothing is. Collections
//!    are read by their index from then on, which can go on behind the last segment ([`stretch`]).
//! 2. The pieces are a state of no time, but each segment tells its own. So they are listed in a manifest as of the
//!    first time, with the definitions of that time, whose root is nowhere but in memory: nobody may take it for a snapshot.
//! 3. When everything is read, the deployment is listed at a last time T, and the manifest is folded up to T with what was
//!    recorded since the first: to each segment is applied what took effect after its own time. What comes of it is compared
//!    with the listing and completed as every folded snapshot is.
//!
//! A collection that is there at the first time and not in a later listing is not read on. Mostly it was dropped, and the fold
//! knows that; where it comes back, it is read at T. What is made after the first time is made by the record alone.

mod round;
mod stretch;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use catalog::{Completion, Timeline};
use model::ClusterTime;
use mongo::{CollectionInfo, Namespace, listing::Pinned, read::Size};
use serde_json::json;
use vault::{Manifest, ManifestWriter, Principals};

use super::{
    PAUSE_FIRST, PAUSE_MAX, READ_ATTEMPTS_MAX,
    attempt::{Again, Attempt, Begun, Why, later, not_listed},
    collection::{self, CollectionRead},
    folded,
    manifest::meta_of,
    source::Source,
    widen,
};
use crate::{
    connect::{Connected, to_model},
    fold::{FoldFailure, Folded, Hindered, Obstacle, Only, Sparse, Unfoldable, Wish, fold_manifest},
    lease::{JobContext, JobError},
    pipeline::Pinner,
    timeline,
};
use round::{Planned, Remaining, Round};

/// The timeline whose record continues what was read at a time, if the deployment is captured.
pub(super) async fn timeline_at(
    ctx: &JobContext,
    connected: &Connected,
    at: ClusterTime,
) -> Result<Option<Timeline>, JobError> {
    let timelines = ctx.catalog().timelines();
    let current = timelines.current(connected.row.id).await?.filter(|_| connected.row.continuous.pit_enabled);
    let Some(current) = current else { return Ok(None) };
    if timelines.needed_after(&current, at).await?.is_none() {
        return Ok(None);
    }
    // What a capture that stands still will not record need not be read.
    match timeline::reach(ctx, &current, at).await? {
        Ok(reached) => Ok(Some(reached)),
        Err(reason) => {
            tracing::warn!(timeline.id = %current.id, reason, "what was read cannot be kept: {reason}");
            Ok(None)
        }
    }
}

/// Whether the deployment is to be captured, and is.
pub(super) async fn is_captured(ctx: &JobContext, connected: &Connected) -> Result<bool, JobError> {
    let current = ctx.catalog().timelines().current(connected.row.id).await?;
    Ok(connected.row.continuous.pit_enabled && current.is_some())
}

/// Reads what is left, and folds everything to one time.
pub(super) async fn take(
    attempt: &Attempt<'_>,
    timeline: Timeline,
    begun: Begun,
    sizes: &mut HashMap<Namespace, Size>,
) -> Result<Completion, JobError> {
    let mut pieces = Pieces::of(attempt, timeline, begun)?;
    let ctx = attempt.ctx;
    let mut idle = 0;
    loop {
        ctx.check()?;
        let why = match attempt.list().await?.map_err(not_listed) {
            Ok((term, pinned)) if pieces.remaining.is_empty() => {
                learn_all_sizes(attempt, term, &pinned, sizes).await?;
                return pieces.fold(term, pinned).await;
            }
            Ok((term, pinned)) => {
                let (advances, why) = pieces.round(term, pinned, sizes).await?;
                idle = if advances { 0 } else { idle + 1 };
                why
            }
            Err(Again::Stop(error)) => return Err(error),
            Err(Again::Later(why)) => {
                idle += 1;
                Some(why)
            }
        };
        let Some(why) = why else { continue };
        let left = pieces.remaining.len();
        tracing::info!(namespace = %why.namespace, cause = why.cause, left, "{}: {}; what was read is kept, and the rest, of {left} collections, is read at a later time", why.namespace, why.cause);
        ctx.progress().message(format!("{}: {}; reading on at a later time", why.namespace, why.cause));
        if idle >= READ_ATTEMPTS_MAX {
            return Err(pieces.comes_no_farther(&why));
        }
        pieces.require_record().await?;
        if why.too_old {
            widen(ctx, attempt.connected, &why).await?;
        }
        if why.needs_time {
            let pause = (PAUSE_FIRST * 2_u32.pow(idle)).min(PAUSE_MAX);
            ctx.or_stop(tokio::time::sleep(pause)).await?;
        }
    }
}

/// The sizes of what is there in the end, whatever it was called before. One that cannot be told is not counted.
async fn learn_all_sizes(
    attempt: &Attempt<'_>,
    term: i64,
    pinned: &Pinned,
    sizes: &mut HashMap<Namespace, Size>,
) -> Result<(), JobError> {
    let source = Source::new(&attempt.connected.deployment, term, pinned.at, attempt.cache_bytes);
    let documents = pinned.collections.iter().filter(|info| info.kind.has_documents());
    let listed: Vec<CollectionInfo> = documents.cloned().collect();
    let names: HashSet<&Namespace> = listed.iter().map(|info| &info.namespace).collect();
    sizes.retain(|namespace, _| names.contains(namespace));
    if let Err(error) = attempt.ctx.or_stop(collection::learn_sizes(&source, &listed, sizes)).await? {
        tracing::debug!(error = %error, "not all sizes can be told: {error}");
    }
    Ok(())
}

/// What was read of a deployment at different times.
struct Pieces<'a> {
    attempt: &'a Attempt<'a>,
    timeline: Timeline,
    manifest: ManifestWriter,
    pinner: Pinner,
    /// The first time: that of the definitions, users and roles.
    at: ClusterTime,
    principals: Principals,
    /// Views and time series, as they were listed at the first time.
    views: Vec<CollectionInfo>,
    /// Collections that are read to their ends.
    done: Vec<CollectionRead>,
    /// Those that are not yet.
    remaining: Vec<Remaining>,
    /// Those that later listings did not have.
    gone: Vec<CollectionInfo>,
    /// When something was read that was kept.
    times: Vec<ClusterTime>,
}

impl<'a> Pieces<'a> {
    fn of(attempt: &'a Attempt<'a>, timeline: Timeline, begun: Begun) -> Result<Self, JobError> {
        let Begun { at, manifest, pinner, principals, listed, done } = begun;
        let uuids: HashSet<_> = done.iter().filter_map(|read| read.info.uuid).collect();
        let (with_documents, views) =
            listed.into_iter().partition::<Vec<_>, _>(|info| info.kind.has_documents());
        if let Some(unknown) = with_documents.iter().find(|info| info.uuid.is_none()) {
            return Err(JobError::failed(format!(
                "{} has no identity, so it cannot be read in pieces",
                unknown.namespace
            )));
        }
        let remaining = with_documents
            .into_iter()
            .filter(|info| !info.uuid.is_some_and(|uuid| uuids.contains(&uuid)))
            .map(Remaining::new)
            .collect();
        Ok(Self {
            attempt,
            timeline,
            manifest,
            pinner,
            at,
            principals,
            views,
            done,
            remaining,
            gone: Vec::new(),
            times: vec![at],
        })
    }

    /// Reads what is left at the time of a listing, as far as that goes. Tells whether reading has come farther than ever, and what
    /// was in the way of the rest.
    async fn round(
        &mut self,
        term: i64,
        pinned: Pinned,
        sizes: &mut HashMap<Namespace, Size>,
    ) -> Result<(bool, Option<Why>), JobError> {
        let Attempt { ctx, connected, cache_bytes, .. } = *self.attempt;
        let at = to_model(pinned.at);
        ctx.services().probe("snapshot.pinned", "").await;
        let source = Arc::new(Source::new(&connected.deployment, term, pinned.at, cache_bytes));
        let known = pinned.collections.into_iter().filter_map(|info| Some((info.uuid?, info)));
        let known: HashMap<[u8; 16], CollectionInfo> = known.collect();
        let now_of = |remaining: &Remaining| known.get(&remaining.info.uuid?).cloned();
        let now: Vec<CollectionInfo> = self.remaining.iter().filter_map(now_of).collect();
        let began = Instant::now();
        if let Err(error) = ctx.or_stop(collection::learn_sizes(&source, &now, sizes)).await? {
            return match later(Namespace::new("admin", "$cmd.collStats"), error, began) {
                Again::Stop(error) => Err(error),
                Again::Later(why) => Ok((false, Some(why))),
            };
        }
        let (mut by_id, mut advances) = (HashMap::new(), false);
        for remaining in self.remaining.drain(..) {
            match remaining.info.uuid.filter(|uuid| known.contains_key(uuid)) {
                Some(uuid) => drop(by_id.insert(uuid, remaining)),
                None => {
                    self.gone.push(remaining.info);
                    advances = true;
                }
            }
        }
        let sized = |info: CollectionInfo| {
            let size = sizes.get(&info.namespace).copied().unwrap_or_default();
            (info, size)
        };
        let in_order = self.attempt.in_order(now.into_iter().map(sized).collect());
        let planned = in_order.into_iter().filter_map(|(now, size)| {
            Some(Planned { remaining: by_id.remove(&now.uuid?)?, now, bytes: size.bytes })
        });
        ctx.progress().phase("read");
        let round = Round { attempt: self.attempt, manifest: &self.manifest, base_at: self.at, source };
        let mut came = round.run(planned.collect()).await?;
        advances |= !came.done.is_empty();
        for remaining in &mut came.remaining {
            advances |= remaining.advances();
        }
        if !came.done.is_empty() || came.remaining.iter().any(|remaining| remaining.ends_at() == Some(at)) {
            self.times.push(at);
        }
        self.done.append(&mut came.done);
        self.remaining = came.remaining;
        Ok((advances, came.why))
    }

    /// What was read is worth nothing when the record of what follows it breaks off.
    async fn require_record(&self) -> Result<(), JobError> {
        let ctx = self.attempt.ctx;
        let now = ctx.catalog().timelines().get(self.timeline.id).await?;
        let why = match now.map(|now| now.ended) {
            Some(None) => return Ok(()),
            Some(Some(end)) => end.detail,
            None => "it is gone".to_owned(),
        };
        Err(self.cannot_be_folded(&format!("the timeline {} ended: {why}", self.timeline.id)))
    }

    fn comes_no_farther(&self, why: &Why) -> JobError {
        let whole: Vec<String> = self
            .remaining
            .iter()
            .filter(|remaining| !remaining.has_pieces())
            .map(|remaining| remaining.info.namespace.to_string())
            .collect();
        let whole = match whole.first() {
            None => String::new(),
            Some(first) if whole.len() == 1 => format!("; {first} cannot be read in pieces"),
            Some(first) => format!("; {first} and {} more cannot be read in pieces", whole.len() - 1),
        };
        JobError::failed(format!(
            "{}: {}; what was read is kept and the rest read at later times, but in {READ_ATTEMPTS_MAX} attempts nothing more \
             could be read{whole}; raise minSnapshotHistoryWindowInSeconds while the snapshot is taken, or take it when \
             there is less change",
            why.namespace, why.cause
        ))
    }

    fn cannot_be_folded(&self, why: &str) -> JobError {
        cannot_be_folded(self.attempt, self.times.len(), why)
    }

    /// Folds everything to the time of a listing.
    async fn fold(self, term: i64, pinned: Pinned) -> Result<Completion, JobError> {
        let (attempt, at, base_at) = (self.attempt, to_model(pinned.at), self.at);
        let ctx = attempt.ctx;
        ctx.services().probe("snapshot.pinned", "").await;
        ctx.progress().phase("capture");
        let timeline = match timeline::reach(ctx, &self.timeline, at).await? {
            Ok(reached) => reached,
            Err(reason) => return Err(self.cannot_be_folded(&reason)),
        };
        let Some(record) = timeline::record_since(ctx.services(), &timeline, base_at).await? else {
            let what =
                format!("the timeline {} no longer has what was recorded since {base_at}", timeline.id);
            return Err(self.cannot_be_folded(&what));
        };
        ctx.progress().restart();
        ctx.progress().phase("fold");
        let (times, gone) = (self.times.clone(), self.gone.clone());
        let base = self.listed().await?;
        let wish = Wish { only: Only::Everything, hindered: Hindered::LeaveAside, sparse: Sparse::Keep };
        let folded = fold_manifest(attempt.store, &base, record, at, attempt.header.clone(), wish).await;
        let mut folded = match folded {
            Ok(folded) => folded,
            Err(FoldFailure::Job(error)) if !matches!(error, JobError::Failed { .. }) => return Err(error),
            Err(failure) => {
                let text = JobError::from(failure).full_text();
                return Err(cannot_be_folded(attempt, times.len(), &text));
            }
        };
        leave_aside(&mut folded, &gone);
        let mut noted = folded::note(&folded.counters, &timeline);
        noted["times"] = json!(times);
        match folded::complete(attempt, term, pinned, folded, &[]).await? {
            Ok(mut completion) => {
                completion.notes["pieces"] = noted;
                Ok(completion)
            }
            Err(reason) => Err(cannot_be_folded(attempt, times.len(), &reason)),
        }
    }

    /// Lists the pieces as if they were a snapshot of the first time.
    async fn listed(self) -> Result<Manifest, JobError> {
        let Self { attempt, mut manifest, pinner, at, principals, views, done, gone, .. } = self;
        let ctx = attempt.ctx;
        let mut all = done;
        all.extend(views.into_iter().chain(gone).map(|info| CollectionRead::empty(info, at)));
        all.sort_by(|a, b| a.info.namespace.cmp(&b.info.namespace));
        for read in all {
            ctx.check()?;
            manifest.push_collection(meta_of(&read), read.pages).await?;
        }
        manifest.set_principals(&principals).await?;
        let detached = manifest.finish_detached(ctx.now()).await?;
        pinner.record().await?;
        Ok(Manifest::attach(ctx.vault(), &detached)?)
    }
}

/// Takes out of a fold what was not read to its end, should it be there again.
fn leave_aside(folded: &mut Folded, gone: &[CollectionInfo]) {
    let Folded { collections, aside, kept, .. } = folded;
    for info in gone {
        let Some(at) = collections.iter().position(|one| one.meta.uuid == info.uuid) else { continue };
        let meta = collections.remove(at).meta;
        info.uuid.into_iter().for_each(|uuid| kept.forget(uuid));
        aside.push(Unfoldable {
            namespace: Some(format!("{}.{}", meta.db, meta.name)),
            since: None,
            obstacle: Obstacle::NotInBase(info.namespace.to_string()),
        });
    }
}

fn cannot_be_folded(attempt: &Attempt<'_>, times: usize, why: &str) -> JobError {
    let name = &attempt.connected.row.name;
    JobError::failed(format!(
        "the history of {name} does not last for reading everything at one time; it was read at {times}, and that cannot be \
         folded to one: {why}; take the snapshot again"
    ))
}
