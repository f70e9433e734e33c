//! One pass of a live check: as many ranges as can be read at one cluster time.

use std::{collections::BTreeMap, sync::Arc};

use catalog::{Defect, LivePlace};
use futures::TryStreamExt as _;
use history::{CollectionId, raw};
use model::{ClusterTime, CollectionUuid};
use mongo::{
    CollectionInfo, CollectionKind,
    listing::Pinned,
    read::{self, DocumentId},
};
use tokio::sync::OwnedSemaphorePermit;
use vault::{CollectionEntry, Manifest, ObjectName, Order};

use super::{
    Difference, Ended, Go, LiveCheck, Passed, Walk, Watch,
    actual::Actual,
    compare::{Compared, compare},
    expected::Expected,
    ranges::{Range, Ranges},
};
use crate::{
    connect::to_model,
    damage,
    fold::{
        FoldFailure,
        changed::{self, Changed, Memory},
        runs::Beside,
    },
    lease::JobError,
    timeline,
};

/// So many bytes of changes are passed over at a time.
const PASSED_OVER_BYTES: usize = 1 << 20;

/// What is compared with what.
struct Sides {
    term: i64,
    pinned: Pinned,
    at: ClusterTime,
    manifest: Manifest,
    /// What it keeps beside its segments.
    beside: Beside,
    /// The collections of the newest snapshot.
    entries: BTreeMap<CollectionId, CollectionEntry>,
}

/// A collection that is compared.
struct Subject<'a> {
    id: CollectionId,
    info: &'a CollectionInfo,
}

impl Subject<'_> {
    const fn uuid(&self) -> CollectionUuid {
        CollectionUuid(self.id.0)
    }
}

impl LiveCheck {
    /// Compares what comes next, until all is compared, `watch` says stop, or the time can be read no more.
    pub(super) async fn pass(&self, walk: &mut Walk, watch: &mut impl Watch) -> Result<Go, Ended> {
        let (sides, mut changed) = self.sides().await?;
        walk.report.passes += 1;
        walk.report.cluster_time = Some(sides.at);
        self.ctx.progress().phase("compare");
        let Some(place) = walk.next.clone() else { return Ok(Go::On) };
        let listed: BTreeMap<CollectionId, &CollectionInfo> = sides
            .pinned
            .collections
            .iter()
            .filter(|info| self.scope.has_namespace(&info.namespace))
            .filter_map(|info| Some((CollectionId(info.uuid?), info)))
            .collect();
        for (id, info) in listed.range(CollectionId(place.collection.0)..) {
            let subject = Subject { id: *id, info };
            if place.collection != subject.uuid() {
                walk.next = Some(LivePlace { collection: subject.uuid(), key: None });
            }
            walk.namespace = Some(info.namespace.to_string());
            changed.skip_to(*id).await?;
            match left_out(&subject, sides.entries.get(id), &changed) {
                Some(Why::Elsewhere) => walk.leave(subject.uuid()),
                Some(Why::Told(reason)) => {
                    walk.report.skip(&info.namespace, reason);
                    walk.leave(subject.uuid());
                }
                None => match self.collection(&sides, &subject, &mut changed, walk, watch).await? {
                    Go::On => continue,
                    Go::Stop => return Ok(Go::Stop),
                },
            }
        }
        walk.next = None;
        watch.passed(Passed { next: None, documents: 0, bytes: 0 }).await?;
        Ok(Go::On)
    }

    /// A time, what the deployment is at it, and what is recorded up to it.
    async fn sides(&self) -> Result<(Sides, Changed), Ended> {
        let (ctx, row) = (&self.ctx, &self.connected.row);
        let deployment = &self.connected.deployment;
        let timelines = ctx.catalog().timelines();
        ctx.progress().phase("list");
        let current = timelines.current(row.id).await?;
        let current = current.ok_or_else(|| no_base(row))?;
        let (term, pinned) = ctx
            .or_stop(async {
                let term = deployment.term().await?;
                Ok::<_, mongo::Error>((term, mongo::listing::pin(deployment).await?))
            })
            .await??;
        let at = to_model(pinned.at);
        ctx.progress().phase("capture");
        let current = timeline::reach(ctx, &current, at).await?.map_err(|reason| {
            JobError::failed(format!("{} cannot be compared with what is recorded of it: {reason}", row.name))
        })?;
        let base = timelines.base_for(row.id, at).await?.filter(|(of, _)| of.id == current.id);
        let (_, base) = base.ok_or_else(|| no_base(row))?;
        let name = base.manifest.as_deref().unwrap_or_default();
        let name: ObjectName = name.parse().map_err(|e| {
            JobError::failed_by(format!("the catalog names no manifest for the snapshot {}", base.id), e)
        })?;
        let manifest = match Manifest::open(ctx.vault(), &name).await {
            Ok(manifest) => manifest,
            Err(error) => return Err(damage::noted(ctx.catalog(), error).await.into()),
        };
        let mut entries = BTreeMap::new();
        let mut collections = manifest.collections();
        loop {
            match ctx.or_stop(collections.try_next()).await? {
                Ok(None) => break,
                Ok(Some(entry)) => {
                    entries.extend(entry.meta.uuid.map(|uuid| (CollectionId(uuid), entry)));
                }
                Err(error) => return Err(damage::noted(ctx.catalog(), error).await.into()),
            }
        }
        let beside = match ctx.or_stop(Beside::of(ctx.vault(), &manifest)).await? {
            Ok(beside) => beside,
            Err(error) => return Err(damage::noted(ctx.catalog(), error).await.into()),
        };
        ctx.progress().phase("gather");
        let record = timeline::record(ctx.services(), &current, &base).await?;
        let memory = Memory::of(ctx).await?;
        let changed = changed::changes(ctx, &manifest, record, at, memory).await.map_err(of_fold)?;
        Ok((Sides { term, pinned, at, manifest, beside, entries }, changed))
    }

    /// Compares a collection from the place on where the walk stands.
    async fn collection(
        &self,
        sides: &Sides,
        subject: &Subject<'_>,
        changed: &mut Changed,
        walk: &mut Walk,
        watch: &mut impl Watch,
    ) -> Result<Go, Ended> {
        let ctx = &self.ctx;
        ctx.progress().message(subject.info.namespace.to_string());
        let mut ranges = Ranges::new(match sides.entries.get(&subject.id) {
            Some(entry) => sides.manifest.segments(entry),
            None => Box::pin(futures::stream::empty()),
        });
        let place = walk.next.clone().filter(|place| place.collection == subject.uuid());
        let key = place.and_then(|place| place.key);
        let mut current = ranges.from(ctx, key.as_deref()).await?;
        if let Some(from) = current.as_ref().and_then(|range| range.from.clone()) {
            pass_over(changed, subject.id, Some(from)).await?;
        }
        walk.report.collections += u64::from(key.is_none());
        while let Some(range) = current.take() {
            if !self.is_drawn(subject, &range) {
                pass_over(changed, subject.id, range.bound).await?;
                current = ranges.next(ctx).await?;
                continue;
            }
            // One cursor serves all ranges up to the next one that is left out.
            let mut memory = self.memory().await?;
            let mut documents = range.documents(ctx).await?;
            let mut beside = range.beside(ctx, &sides.beside, subject.id).await?;
            let from = range.from.as_ref().map(|_| first_id(&documents)).transpose()?;
            let mut connection = self.connected.deployment.read_wire().await?;
            let cursor =
                ctx.or_stop(read::sorted(&mut connection, subject.info, sides.pinned.at, from.as_ref()));
            let mut actual = Actual::new(ctx, cursor.await??);
            let mut range = range;
            loop {
                let expected = Expected::new(changed, subject.id, documents, beside, range.bound.clone());
                let compared = compare(expected, &mut actual, range.bound.as_deref()).await?;
                drop(memory);
                let differs = self.judge(sides, subject, &compared, walk).await?;
                walk.report.ranges += 1;
                walk.report.documents += compared.documents;
                walk.report.bytes += compared.bytes;
                ctx.progress().add(compared.documents, compared.bytes);
                // It is read anew as a whole: the rest of it says nothing more.
                let next = range.bound.filter(|_| !differs);
                match next {
                    Some(key) => {
                        walk.next = Some(LivePlace { collection: subject.uuid(), key: Some(key) });
                    }
                    None => walk.leave(subject.uuid()),
                }
                let (documents_done, bytes) = (compared.documents, compared.bytes);
                let passed = Passed { next: walk.next.as_ref(), documents: documents_done, bytes };
                let go = watch.passed(passed).await?;
                if go == Go::Stop || differs {
                    actual.close().await?;
                    return Ok(go);
                }
                let Some(following) = ranges.next(ctx).await? else { break };
                if !self.is_drawn(subject, &following) {
                    current = Some(following);
                    break;
                }
                memory = self.memory().await?;
                documents = following.documents(ctx).await?;
                beside = following.beside(ctx, &sides.beside, subject.id).await?;
                range = following;
            }
            actual.close().await?;
        }
        walk.leave(subject.uuid());
        ctx.progress().collection_done();
        Ok(Go::On)
    }

    /// Memory for the documents of one range, and the right to read as much from the deployment.
    async fn memory(&self) -> Result<[OwnedSemaphorePermit; 2], JobError> {
        let reader = self.ctx.reader().await?;
        let segments = Arc::clone(&self.ctx.services().budget.segments);
        let segment = self.ctx.or_stop(segments.acquire_owned()).await?;
        Ok([reader, segment.map_err(|_| JobError::Shutdown)?])
    }

    fn is_drawn(&self, subject: &Subject<'_>, range: &Range) -> bool {
        self.scope.draws(self.seed, &subject.id.0, range)
    }

    /// Records a difference, once it is sure that the read counts. Whether there is one.
    async fn judge(
        &self,
        sides: &Sides,
        subject: &Subject<'_>,
        compared: &Compared,
        walk: &mut Walk,
    ) -> Result<bool, Ended> {
        let Some(what) = compared.difference() else { return Ok(false) };
        self.look_behind(sides, subject).await?;
        let namespace = subject.info.namespace.to_string();
        let defect = Defect {
            deployment_id: self.connected.row.id,
            collection: subject.uuid(),
            namespace: namespace.clone(),
            found: sides.at,
            found_at: self.ctx.now(),
            what: what.clone(),
        };
        if self.ctx.catalog().defects().record(&defect).await? {
            tracing::error!(deployment = %self.connected.row.name, namespace, cluster_time = %sides.at, "{namespace} of {} is not what is recorded of it at {}: {what}; the next snapshot reads it anew", self.connected.row.name, sides.at);
        }
        let first_id = compared.first_id().map(str::to_owned);
        walk.report.differs(Difference { namespace, at: sides.at, first_id, what });
        Ok(true)
    }

    /// A collection that was dropped or renamed after the time of the read reads back empty, without an error; and after an
    /// election a member may have shown a drop that was undone.
    async fn look_behind(&self, sides: &Sides, subject: &Subject<'_>) -> Result<(), Ended> {
        let deployment = &self.connected.deployment;
        let now = mongo::time::majority_now(deployment).await?;
        if deployment.term().await? != sides.term {
            return Err(Ended::Again("there was an election while it was read".to_owned()));
        }
        let events = self.ctx.or_stop(mongo::ddl::between(deployment, sides.pinned.at, now)).await??;
        match events.iter().find(|event| event.disturbs(&subject.id.0)) {
            Some(event) => Err(Ended::Again(format!("while it was read: {event}"))),
            None => Ok(()),
        }
    }
}

/// Why a collection is not compared.
enum Why {
    /// Every snapshot compares what it holds.
    Elsewhere,
    Told(String),
}

fn left_out(subject: &Subject<'_>, entry: Option<&CollectionEntry>, changed: &Changed) -> Option<Why> {
    let told = |reason: &str| Some(Why::Told(reason.to_owned()));
    match subject.info.kind {
        CollectionKind::View | CollectionKind::TimeSeriesView | CollectionKind::SystemViews => {
            return Some(Why::Elsewhere);
        }
        CollectionKind::Capped => return told("it is capped, and MongoDB does not read those at a time"),
        _ => {}
    }
    if subject.info.collation {
        return told("it has a collation, so its documents cannot be read in the order of their keys");
    }
    if entry.is_some_and(|entry| entry.meta.order != Order::Sorted) {
        return told("it was capped when the newest snapshot was taken");
    }
    let hindered = changed.hindered(subject.id, &subject.info.namespace.to_string());
    hindered.map(|hindered| Why::Told(format!("the next snapshot reads it anyway: {hindered}")))
}

/// The `_id` of the first of some documents.
fn first_id(documents: &[u8]) -> Result<DocumentId, Ended> {
    let length = raw::document_length(documents)
        .map_err(|error| JobError::failed_by("a document of the snapshot cannot be read", error))?;
    Ok(DocumentId::of(documents.get(..length).unwrap_or_default())?)
}

/// Passes over the changes of a collection below `bound`.
async fn pass_over(changed: &mut Changed, id: CollectionId, bound: Option<Vec<u8>>) -> Result<(), JobError> {
    while !changed.take(id, bound.clone(), PASSED_OVER_BYTES).await?.is_empty() {}
    Ok(())
}

fn no_base(row: &catalog::Deployment) -> JobError {
    JobError::failed(format!(
        "there is no snapshot since the record of {} began, so there is nothing to compare it with; take one",
        row.name
    ))
}

fn of_fold(failure: FoldFailure) -> Ended {
    match failure {
        FoldFailure::Unfoldable(_) => Ended::Job(JobError::failed_by(
            "nothing can be compared until the next snapshot, which reads the deployment as a whole",
            failure,
        )),
        other => JobError::from(other).into(),
    }
}
