//! Deletes snapshots and archives whose time is over.
//!
//! A snapshot is deleted by a tombstone in the catalog; its objects are the collector's business. An archive has
//! nothing but itself, so it goes at once.

use serde_json::{Value, json};

use super::clock;
use crate::{engine::Services, jobs::download, lease::JobError};

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    if !clock::may_decide(services).await? {
        return Ok(json!({ "clockJumped": true }));
    }
    let snapshots = expire_snapshots(services).await?;
    let downloads = services.catalog.restores().expire_due(services.now()).await?.len();
    let archives = delete_dead_archives(services).await?;
    Ok(json!({ "snapshotsExpired": snapshots, "downloadsExpired": downloads, "archivesDeleted": archives }))
}

async fn expire_snapshots(services: &Services) -> Result<usize, JobError> {
    let now = services.now();
    let mut expired = 0;
    loop {
        let batch = services.catalog.snapshots().expired(now).await?;
        if batch.is_empty() {
            return Ok(expired);
        }
        let before = expired;
        for snapshot in batch {
            // Or somebody else was quicker, or has it kept for longer.
            if services.catalog.snapshots().expire(snapshot.id, now).await? {
                tracing::info!(snapshot.id = %snapshot.id, "snapshot {} has expired and is deleted", snapshot.id);
                expired += 1;
            }
        }
        if expired == before {
            return Ok(expired);
        }
    }
}

async fn delete_dead_archives(services: &Services) -> Result<usize, JobError> {
    let mut deleted = 0;
    loop {
        let batch = services.catalog.restores().dead_archives().await?;
        if batch.is_empty() {
            return Ok(deleted);
        }
        for job in batch {
            // By the job and not by what it recorded: a job that died half way recorded less than it wrote.
            download::discard(services, job.id).await?;
            services.catalog.restores().forget_archive(job.id).await?;
            deleted += 1;
        }
    }
}
