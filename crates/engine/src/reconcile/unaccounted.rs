//! Manifests in the vault that the catalog cannot account for, and that therefore hold the garbage collection up.
//!
//! What no manifest of the catalog needs is garbage, so the catalog has to know every manifest that counts. It may not:
//! the database may have been put back from a copy that is older than the last snapshots, or in which they are still to be
//! taken, and a rebuilt one lacks the snapshots whose manifests could not be read. Rather than delete what such a snapshot
//! needs, nothing is deleted until somebody has looked: `ebbtide admin rebuild-catalog` enters what can be read; a manifest
//! that is beyond repair is deleted by hand, and a newer Ebbtide reads what is in its format.

use std::collections::HashSet;

use futures::StreamExt;
use model::snapshot::SnapshotState;
use serde::Serialize;
use vault::{Manifest, ObjectName};

use crate::{engine::Services, lease::JobError};

/// So many are named.
const NAMED_MAX: usize = 100;
/// Names are looked up so many at a time.
const BATCH: usize = 500;

/// A manifest that nobody can account for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Held {
    /// Its name.
    manifest: String,
    /// What is the matter with it.
    why: String,
}

impl Held {
    /// This manifest, for that reason.
    pub(super) fn new(manifest: &ObjectName, why: String) -> Self {
        Self { manifest: manifest.to_string(), why }
    }
}

/// Looks for such manifests.
pub(super) async fn look(services: &Services) -> Result<Vec<Held>, JobError> {
    let live = services.catalog.snapshots().live_manifests().await?;
    let live: HashSet<String> = live.into_iter().map(|(_, manifest)| manifest).collect();
    let mut held = vec![];
    let mut listed = services.vault.list_manifests().chunks(BATCH);
    while let Some(batch) = listed.next().await {
        for listed in batch {
            let name = listed?.name;
            if live.contains(&name.to_string()) {
                continue;
            }
            if let Some(why) = why_held(services, &name).await? {
                tracing::warn!(manifest = %name, "nothing is collected in the vault because of {name}: {why}");
                held.push(Held::new(&name, why));
            }
            if held.len() >= NAMED_MAX {
                return Ok(held);
            }
        }
    }
    Ok(held)
}

/// Why a manifest that no snapshot names may count all the same; `None` when it is surely garbage.
async fn why_held(services: &Services, name: &ObjectName) -> Result<Option<String>, JobError> {
    let header = match Manifest::open(&services.vault, name).await {
        Ok(manifest) => manifest.header().clone(),
        // Deleted since it was listed.
        Err(vault::Error::Missing { .. }) => return Ok(None),
        Err(error) if error.is_damage() || matches!(error, vault::Error::NewerFormat { .. }) => {
            return Ok(Some(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    // Asked first: a job says here what it is about to store, and that goes in the moment in which its snapshot ends.
    let is_pinned = services.catalog.is_pinned(&name.to_string()).await?;
    let known = services.catalog.snapshots().get(header.snapshot_id).await?;
    let of = format!("it is of snapshot {} of {}", header.snapshot_id, header.deployment_name);
    Ok(match known.map(|snapshot| snapshot.state) {
        None => Some(format!("{of}, which the catalog does not know; run rebuild-catalog")),
        // No job that this catalog knows of wrote it. It holds no longer than until the snapshot ends.
        Some(SnapshotState::Queued | SnapshotState::InProgress) if !is_pinned => {
            Some(format!("{of}, which was completed, and the catalog has not seen that; run rebuild-catalog"))
        }
        // Of a deleted snapshot, or left by an attempt that died after it had stored it: the catalog knows what it is.
        Some(_) => None,
    })
}
