//! What a restore job works with: its row, the snapshot's manifest, the target.

use std::{collections::BTreeMap, sync::Arc};

use catalog::RestoreJob;
use futures::TryStreamExt as _;
use model::{
    id::{RestoreJobId, SnapshotId},
    restore::RestoreState,
};
use mongo::{CollectionInfo, Deployment, Namespace, write::staging};
use vault::{CollectionEntry, CollectionKind, Manifest, ObjectName, Totals};

use super::{
    RestoreOptions,
    checkpoint::Checkpoint,
    collections::{self, Chosen, Told},
    pace::Pace,
    plan::{self, Removals, Wanted, Way},
    point_in_time,
    selected::{self, Picked},
    standing::Made,
};
use crate::{
    connect::{Connected, connect},
    fold::runs::Beside,
    lease::{JobContext, JobError},
    observed,
};

/// A restore job with everything it needs, opened.
pub(crate) struct Restore {
    /// The row that states the intent.
    pub(crate) row: RestoreJob,
    /// What was asked for beyond it.
    pub(crate) options: RestoreOptions,
    /// The snapshot.
    pub(crate) manifest: Manifest,
    /// Everything in it that is restored, in the manifest's order, which is the same in every attempt.
    pub(crate) items: Vec<Item>,
    /// What a person should know of what was selected and is not restored.
    pub(crate) left_out: Vec<String>,
    /// The target's row.
    pub(crate) target: catalog::Deployment,
    /// The target.
    pub(crate) deployment: Deployment,
    /// The work item's id as text: the mark of everything the job makes.
    pub(crate) job: String,
    /// Asked before documents are written to the target.
    pub(crate) pace: Pace,
    /// What the catalog is told of each collection.
    pub(crate) told: Told,
    /// What was made where nothing may stand.
    pub(crate) made: Made,
}

/// One collection, view or time series of the snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its name on the target.
    pub(crate) ns: Namespace,
    /// Its name in the snapshot.
    pub(crate) from: Namespace,
    /// How it gets there.
    pub(crate) way: Way,
    /// Its place in the manifest.
    pub(crate) ordinal: u64,
    /// What the manifest says of it.
    pub(crate) entry: CollectionEntry,
    /// What has to be applied to its segments, where they are older than the manifest.
    pub(crate) beside: Option<Arc<Beside>>,
}

impl Restore {
    /// Reads the rows, opens the manifest (or makes that of a point in time) and connects to the target.
    ///
    /// # Errors
    /// [`JobError`], naming what is missing.
    pub(crate) async fn open(
        ctx: &JobContext,
        id: RestoreJobId,
        state: &mut Checkpoint,
    ) -> Result<Self, JobError> {
        let row = ctx.catalog().restores().get(id).await?;
        let row =
            row.ok_or_else(|| JobError::failed(format!("the restore job {id} is gone from the catalog")))?;
        let options = RestoreOptions::read(Some(&row.options))?;
        let manifest = match row.point_in_time {
            Some(point) => point_in_time::manifest(ctx, &row, &options, point.time(), state).await?,
            None => open_manifest(ctx, row.snapshot_id).await?,
        };
        let entries: Vec<_> = manifest.collections().try_collect().await?;
        let items = (0..).zip(entries).map(|(ordinal, entry)| Item::new(ordinal, entry)).collect();
        let chosen = match &options.collection_restore {
            Some(asked) => collections::choose(ctx, asked, items, &row, &manifest).await?,
            None => selected::pick(items, options.selection.as_ref(), &row, &manifest)?.into(),
        };
        let Chosen { picked: Picked { mut items, left_out }, not_restored } = chosen;
        let target =
            row.target.as_ref().ok_or_else(|| JobError::failed("the restore job names no target"))?;
        let connected = connect(ctx.services(), target.deployment_id).await;
        let Connected { row: target, deployment } = connected.map_err(|e| match (row.state, e) {
            // Once the cut-over has begun it has to be finished, however long the target is away.
            (RestoreState::CutOver, JobError::Failed { message, source }) => {
                JobError::Retry { message, source }
            }
            (_, error) => error,
        })?;
        let deployment = deployment.with_permit(ctx.permit());
        observed::warn_if_untested(ctx, &deployment).await?;
        let job = ctx.lease().job_id.to_string();
        let pace = Pace::new(&target, &deployment);
        let mut told = Told::default();
        if let Some(asked) = &options.collection_restore {
            collections::put_beside(asked, &mut items, &deployment, &target, state).await?;
            told = collections::tell(ctx, asked, &items, not_restored).await?;
        }
        let made = Made::of(state);
        Ok(Self { row, options, manifest, items, left_out, target, deployment, job, pace, told, made })
    }

    /// The items that go one way, in the manifest's order.
    pub(crate) fn going(&self, way: Way) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.way == way)
    }

    /// What is restored, in numbers; without what is kept beside segments.
    pub(crate) fn totals(&self) -> Totals {
        self.totals_of(&self.items)
    }

    /// The same, with what `items` tell of themselves by now.
    pub(crate) fn totals_of(&self, items: &[Item]) -> Totals {
        if self.options.selection.is_none() && self.manifest.delta_runs().is_empty() {
            return self.manifest.totals();
        }
        items.iter().map(|item| &item.entry).fold(Totals::default(), |sum, entry| Totals {
            collections: sum.collections + 1,
            segments: sum.segments + entry.segments,
            documents: sum.documents + entry.documents,
            bytes: sum.bytes + entry.bytes,
            stored_bytes: sum.stored_bytes + entry.stored_bytes,
        })
    }

    /// What of `found` the cut-over removes.
    pub(crate) fn removals(&self, found: &[CollectionInfo]) -> Removals {
        let removals = plan::removals(&self.wanted(), found);
        if self.options.selection.is_some() { removals.of_selection() } else { removals }
    }

    /// The names under which things are restored.
    pub(crate) fn wanted(&self) -> BTreeMap<Namespace, Wanted<'_>> {
        self.items
            .iter()
            .map(|item| (item.ns.clone(), Wanted { way: item.way, options: &item.entry.meta.options }))
            .collect()
    }
}

impl Item {
    fn new(ordinal: u64, entry: CollectionEntry) -> Self {
        let ns = Namespace::new(&entry.meta.db, &entry.meta.name);
        Self { from: ns.clone(), ns, way: way_of(entry.meta.kind), ordinal, entry, beside: None }
    }

    /// How it gets there when it does not stay.
    pub(crate) const fn own_way(&self) -> Way {
        way_of(self.entry.meta.kind)
    }

    /// The name under which it is loaded before it takes its place; the same in every attempt of the job.
    pub(crate) fn staging(&self, job: &str) -> Namespace {
        Namespace::new(&self.ns.db, staging::staging_name(job, self.ordinal))
    }
}

/// The vault names the kinds as the listing does, but knows nothing of MongoDB.
const fn way_of(kind: CollectionKind) -> Way {
    match kind {
        CollectionKind::Plain | CollectionKind::Capped | CollectionKind::Clustered => Way::Renamed,
        CollectionKind::TimeSeriesBuckets => Way::Buckets,
        CollectionKind::TimeSeriesView => Way::TimeSeries,
        CollectionKind::View => Way::View,
        CollectionKind::SystemJs => Way::Functions,
        CollectionKind::SystemViews => Way::Server,
    }
}

/// Opens the manifest of a snapshot that a job is about.
///
/// # Errors
/// [`JobError::Failed`] when the snapshot is not there any more, or its manifest cannot be read.
pub(crate) async fn open_manifest(ctx: &JobContext, id: SnapshotId) -> Result<Manifest, JobError> {
    let snapshot = ctx.catalog().snapshots().get(id).await?;
    let name = snapshot.and_then(|snapshot| snapshot.manifest);
    let name = name.ok_or_else(|| JobError::failed(format!("the snapshot {id} has been deleted")))?;
    let name: ObjectName = name.parse().map_err(|e| {
        JobError::failed_by(format!("the catalog names no manifest for the snapshot {id}"), e)
    })?;
    Ok(Manifest::open(ctx.vault(), &name).await?)
}
