//! Writing the manifest, once everything that it names is durable.

use catalog::Completion;
use model::WallTime;
use mongo::{
    CollectionInfo, Facts, Namespace,
    write::staging::{is_staging_name, is_staging_name_of},
};
use serde_json::json;
use vault::{CollectionKind, CollectionMeta, Manifest, ManifestHeader, Order};

use super::{attempt::Everything, collection::CollectionRead};
use crate::{
    connect::Connected,
    crash, fold,
    lease::{JobContext, JobError},
    pipeline::SegmentStore,
};

/// So many namespaces that were not taken are named in the snapshot's notes.
const EXCLUDED_NAMED_MAX: usize = 100;

/// What the manifest says of the snapshot. The cluster time comes later.
pub(super) async fn header(
    ctx: &JobContext,
    snapshot: &catalog::Snapshot,
    connected: &Connected,
    facts: &Facts,
) -> Result<ManifestHeader, JobError> {
    let project = ctx.catalog().projects().get(snapshot.project_id).await?;
    let project = project
        .ok_or_else(|| JobError::failed(format!("project {} is not in the catalog", snapshot.project_id)))?;
    let row = &connected.row;
    Ok(ManifestHeader {
        snapshot_id: snapshot.id,
        project_id: project.id,
        project_name: project.name.to_string(),
        deployment_id: row.id,
        deployment_name: row.name.to_string(),
        deployment_kind: row.kind,
        cluster_time: model::ClusterTime::default(),
        created_at: snapshot.requested_at,
        mongod_version: facts.version_text.clone(),
        fcv: facts.fcv.clone(),
        replica_set_name: facts.replica_set_name.clone(),
        description: snapshot.description.clone(),
        expires_at: snapshot.expires_at,
        amid_restore: false,
        fold_rules: fold::RULES,
        snapshot_type: snapshot.snapshot_type.as_str().to_owned(),
        ebbtide_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Writes the manifest, reads its root back and says what the snapshot is.
pub(super) async fn write(
    ctx: &JobContext,
    header: &ManifestHeader,
    everything: Everything,
    store: &SegmentStore,
) -> Result<Completion, JobError> {
    let Everything { mut manifest, pinner, at, collections, excluded, principals, kept } = everything;
    ctx.progress().phase("manifest");
    crash::point("snapshot.before-manifest");
    let amid_restore = is_amid_restore(ctx, &excluded, header.created_at).await?;
    if amid_restore {
        manifest.mark_amid_restore();
    }
    let count = collections.len() as u64;
    let capped: Vec<_> =
        collections.iter().filter(|read| read.order == Order::Natural).map(capped_note).collect();
    let series = collections.iter().filter(|read| read.info.kind == mongo::CollectionKind::TimeSeriesBuckets);
    let last_as_of = collections
        .iter()
        .map(|read| read.read_through.unwrap_or(read.as_of))
        .max()
        .map_or(at, |last| last.max(at));
    let time_series_bytes: u64 = series.map(|read| read.pages.content.bytes).sum();
    for read in collections {
        ctx.check()?;
        let meta = meta_of(&read);
        manifest.push_collection(meta, read.pages).await?;
    }
    manifest.set_principals(&principals).await?;
    kept.put(&mut manifest)?;
    ctx.check()?;
    let written = manifest.finish(ctx.now()).await?;
    crash::point("snapshot.after-manifest");
    pinner.record().await?;

    let back = Manifest::open(ctx.vault(), &written.name).await?;
    if back.totals() != written.totals
        || back.header().cluster_time != at
        || back.header().snapshot_id != header.snapshot_id
    {
        return Err(JobError::failed(
            "the manifest does not read back as it was written; check the vault's storage",
        ));
    }
    let excluded: Vec<_> = excluded
        .iter()
        .take(EXCLUDED_NAMED_MAX)
        .map(|(namespace, why)| json!({ "namespace": namespace.to_string(), "reason": why }))
        .collect();
    Ok(Completion {
        manifest: written.name.to_string(),
        cluster_time: at,
        last_as_of: Some(last_as_of),
        amid_restore,
        mongod_version: header.mongod_version.clone(),
        fcv: Some(header.fcv.clone()),
        replica_set_name: Some(header.replica_set_name.clone()),
        collections: count,
        documents: back.documents(),
        logical_bytes: written.totals.bytes,
        stored_bytes: written.totals.stored_bytes + written.stored_bytes,
        added_bytes: store.added_bytes(),
        notes: json!({ "capped": capped, "excluded": excluded, "timeSeriesBytes": time_series_bytes }),
    })
}

/// Whether among what is not taken there is something that a restore will rename into view, or may have by now. What one left
/// behind that had ended before the snapshot was asked for stays where it is.
async fn is_amid_restore(
    ctx: &JobContext,
    excluded: &[(Namespace, String)],
    asked_at: WallTime,
) -> Result<bool, JobError> {
    let mut staged = excluded.iter().map(|(ns, _)| ns.collection.as_str()).collect::<Vec<_>>();
    staged.retain(|name| is_staging_name(name));
    if staged.is_empty() {
        return Ok(false);
    }
    let jobs = ctx.catalog().jobs().restores_unfinished_at(asked_at).await?;
    let is_of = |job: &str| staged.iter().any(|name| is_staging_name_of(job, name));
    Ok(jobs.iter().any(|job| is_of(&job.to_string())))
}

/// A capped collection's own time, for whoever asks what the snapshot is worth.
fn capped_note(read: &CollectionRead) -> serde_json::Value {
    json!({ "namespace": read.info.namespace.to_string(), "asOf": read.as_of })
}

/// What a manifest says of a collection that was read.
pub(super) fn meta_of(read: &CollectionRead) -> CollectionMeta {
    let meta = meta_of_info(&read.info, read.order, read.as_of);
    CollectionMeta { read_through: read.read_through, ..meta }
}

/// What a manifest says of a collection that was listed like that.
pub(super) fn meta_of_info(info: &CollectionInfo, order: Order, as_of: model::ClusterTime) -> CollectionMeta {
    CollectionMeta {
        uuid: info.uuid,
        db: info.namespace.db.clone(),
        name: info.namespace.collection.clone(),
        kind: kind_of(info.kind),
        order,
        options: info.options.clone(),
        id_index: info.id_index.clone(),
        indexes: info.indexes.clone(),
        as_of,
        read_through: None,
    }
}

const fn kind_of(kind: mongo::CollectionKind) -> CollectionKind {
    use mongo::CollectionKind as M;
    match kind {
        M::Plain => CollectionKind::Plain,
        M::Capped => CollectionKind::Capped,
        M::Clustered => CollectionKind::Clustered,
        M::TimeSeriesBuckets => CollectionKind::TimeSeriesBuckets,
        M::TimeSeriesView => CollectionKind::TimeSeriesView,
        M::View => CollectionKind::View,
        M::SystemJs => CollectionKind::SystemJs,
        M::SystemViews => CollectionKind::SystemViews,
    }
}
