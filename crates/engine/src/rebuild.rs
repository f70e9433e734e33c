//! Rebuilding a lost catalog from the manifests in the vault.
//!
//! Comes back: projects, deployments (without their connection strings, which are never in the vault: add them again
//! under their names and they have their snapshots), completed snapshots and timelines. Does not come back: API keys and service
//! accounts, jobs, schedules, the audit log, and that somebody deleted a snapshot whose manifest was not collected yet.
//!
//! A manifest says when its snapshot was to expire when it was asked for, and not what somebody has changed that to since.
//! So nothing that comes back expires before [`GRACE_DAYS`] have passed: time to look, and to say anew how long to keep it.

use catalog::{Catalog, DeploymentFacts, Sealed, SnapshotType};
use futures::StreamExt;
use model::{ContinuousBackup, RestoreWindowDays, WallTime, snapshot::SnapshotState};
use serde::Serialize;
use serde_json::{Value, json};
use vault::{CollectionKind, Manifest, ManifestHeader, ObjectName, Order, Vault};

use crate::lease::JobError;

mod timelines;

/// What a rebuild brings back is kept for so many days at least.
pub const GRACE_DAYS: u32 = 30;
/// Nor is it in the vault how long the record of a deployment was to be kept.
const GRACE_WINDOW: RestoreWindowDays = match RestoreWindowDays::new(GRACE_DAYS) {
    Ok(window) => window,
    Err(_) => RestoreWindowDays::MAX,
};
const DAY_MS: i64 = 86_400_000;

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebuilt {
    /// Manifests found.
    pub manifests: u64,
    /// Snapshots entered that were not known, or not known to be completed.
    pub snapshots: u64,
    /// Projects seen.
    pub projects: u64,
    /// Deployments seen.
    pub deployments: u64,
    /// Snapshots among them that their manifest says to expire before the grace is over; they are kept until then.
    pub prolonged: u64,
    /// Nothing that was entered expires before.
    pub kept_until: String,
    /// Timelines entered that were not known.
    pub timelines: u64,
    /// Slices entered that follow the last one of a timeline that was known.
    pub slices: u64,
    /// Manifests and slices that cannot be read or entered, and why.
    pub unreadable: Vec<Unreadable>,
}

/// A manifest or a slice that cannot be read or entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// Its name.
    #[serde(rename = "manifest")]
    pub object: String,
    /// Why.
    pub why: String,
}

impl Unreadable {
    fn new(object: &ObjectName, why: &impl ToString) -> Self {
        Self { object: object.to_string(), why: why.to_string() }
    }
}

/// Whether only this object cannot be read, and others can.
fn is_unreadable(error: &vault::Error) -> bool {
    error.is_damage() || matches!(error, vault::Error::NewerFormat { .. })
}

/// Enters everything that the vault tells into the catalog. Doing it twice does no harm.
///
/// # Errors
/// When the store or the catalog cannot be used. One damaged manifest does not hide the others.
pub async fn rebuild(vault: &Vault, catalog: &Catalog, now: WallTime) -> Result<Rebuilt, JobError> {
    let kept_until = now.plus_ms(i64::from(GRACE_DAYS) * DAY_MS);
    let mut rebuilt = Rebuilt { kept_until: kept_until.to_rfc3339(), ..Rebuilt::default() };
    let mut projects = std::collections::BTreeSet::new();
    let mut deployments = std::collections::BTreeSet::new();
    let recorded = timelines::find(vault, &mut rebuilt).await?;
    for name in manifests(vault, &mut rebuilt).await? {
        let (header, mut snapshot) = match read(vault, catalog, &name).await? {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            Err(error) if is_unreadable(&error) => {
                rebuilt.unreadable.push(Unreadable::new(&name, &error));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if projects.insert(header.project_id) {
            catalog.import_project(&project(&header)).await?;
        }
        if deployments.insert(header.deployment_id) {
            let is_recorded = recorded.is_of(header.deployment_id);
            catalog.import_deployment(&deployment(&header, is_recorded, now)?).await?;
        }
        let prolonged = snapshot.expires_at.is_some_and(|at| at < kept_until);
        if prolonged {
            snapshot.expires_at = Some(kept_until);
        }
        if catalog.import_snapshot(&snapshot).await? {
            rebuilt.snapshots += 1;
            rebuilt.prolonged += u64::from(prolonged);
        }
    }
    recorded.enter(catalog, |id| deployments.contains(&id), now, &mut rebuilt).await?;
    rebuilt.projects = projects.len() as u64;
    rebuilt.deployments = deployments.len() as u64;
    Ok(rebuilt)
}

/// The manifests whose roots can be read. Newest first, so that names are the ones in use last; and where a crash left two
/// manifests of one snapshot, the later one is the one that was completed.
async fn manifests(vault: &Vault, rebuilt: &mut Rebuilt) -> Result<Vec<ObjectName>, JobError> {
    let mut found = vec![];
    let mut listed = vault.list_manifests();
    while let Some(next) = listed.next().await {
        let name = next?.name;
        rebuilt.manifests += 1;
        match Manifest::open(vault, &name).await {
            Ok(manifest) => found.push((manifest.header().cluster_time, name)),
            Err(error) if is_unreadable(&error) => rebuilt.unreadable.push(Unreadable::new(&name, &error)),
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// What a manifest says, or why that cannot be read. None for what a failed snapshot has left and the collector has begun to take
/// away.
async fn read(
    vault: &Vault,
    catalog: &Catalog,
    name: &ObjectName,
) -> Result<vault::Result<Option<(ManifestHeader, catalog::Snapshot)>>, JobError> {
    let manifest = match Manifest::open(vault, name).await {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(error)),
    };
    let header = manifest.header().clone();
    let known = catalog.snapshots().get(header.snapshot_id).await?;
    if known.is_some_and(|known| known.state == SnapshotState::Failed) {
        match all_there(vault, &manifest).await {
            Ok(()) => {}
            Err(error) if error.is_damage() => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(snapshot(&manifest, name).await.map(|snapshot| Some((header, snapshot))))
}

/// Makes sure that the vault has every object of a manifest.
async fn all_there(vault: &Vault, manifest: &Manifest) -> vault::Result<()> {
    let mut names = manifest.object_names();
    while let Some(object) = names.next().await {
        let object = object?;
        if !vault.contains(&object).await? {
            return Err(vault::Error::Missing { object, location: vault.location().to_owned() });
        }
    }
    Ok(())
}

fn project(header: &ManifestHeader) -> catalog::Project {
    catalog::Project {
        id: header.project_id,
        name: header.project_name.clone(),
        created_at: header.created_at,
    }
}

/// A deployment whose operations were recorded goes on being recorded when it is added again.
fn deployment(
    header: &ManifestHeader,
    is_recorded: bool,
    now: WallTime,
) -> Result<catalog::Deployment, JobError> {
    Ok(catalog::Deployment {
        id: header.deployment_id,
        project_id: header.project_id,
        name: header.deployment_name.parse().map_err(|e: String| JobError::failed(e))?,
        kind: header.deployment_kind,
        uri_sealed: Sealed(String::new()),
        options: json!({}),
        facts: DeploymentFacts {
            replica_set_name: Some(header.replica_set_name.clone()),
            replica_set_id: None,
            mongodb_version: Some(header.mongod_version.clone()),
            details: Value::Null,
            checked_at: None,
        },
        continuous: ContinuousBackup { pit_enabled: is_recorded, restore_window_days: GRACE_WINDOW },
        created_at: header.created_at,
        removed_at: Some(now),
    })
}

async fn snapshot(manifest: &Manifest, name: &ObjectName) -> vault::Result<catalog::Snapshot> {
    let header = manifest.header();
    let totals = manifest.totals();
    let mut capped = vec![];
    let mut time_series_bytes = 0;
    let mut last_as_of = header.cluster_time;
    let mut collections = manifest.collections();
    while let Some(collection) = collections.next().await {
        let collection = collection?;
        let meta = collection.meta;
        last_as_of = last_as_of.max(meta.read_through.unwrap_or(meta.as_of));
        if meta.kind == CollectionKind::TimeSeriesBuckets {
            time_series_bytes += collection.bytes;
        }
        if meta.order == Order::Natural {
            capped.push(json!({ "namespace": format!("{}.{}", meta.db, meta.name), "asOf": meta.as_of }));
        }
    }
    Ok(catalog::Snapshot {
        id: header.snapshot_id,
        project_id: header.project_id,
        deployment_id: header.deployment_id,
        state: SnapshotState::Completed,
        snapshot_type: header.snapshot_type.parse().unwrap_or(SnapshotType::OnDemand),
        description: header.description.clone(),
        retention_days: None,
        policy: None,
        requested_at: header.created_at,
        completed_at: Some(manifest.completed_at()),
        expires_at: header.expires_at,
        do_not_delete: false,
        deleted_at: None,
        cluster_time: Some(header.cluster_time),
        last_as_of: Some(last_as_of),
        amid_restore: header.amid_restore,
        manifest: Some(name.to_string()),
        mongod_version: Some(header.mongod_version.clone()),
        fcv: Some(header.fcv.clone()),
        replica_set_name: Some(header.replica_set_name.clone()),
        collections: totals.collections,
        documents: manifest.documents(),
        logical_bytes: totals.bytes,
        stored_bytes: totals.stored_bytes,
        added_bytes: 0,
        error: None,
        notes: json!({ "capped": capped, "rebuilt": true, "timeSeriesBytes": time_series_bytes }),
    })
}
