//! Garbage collection: deletes the objects of the vault that no snapshot needs.
//!
//! The rules that keep it from taking what a running job relies on are the catalog's ([`catalog::Collector`]); here
//! is the walk. What the live manifests reach may be millions of names, and so may the objects be: both are walked in
//! the order of their names, the reachable ones through an external sort, so memory does not grow with the vault.

use std::time::Duration;

use catalog::{Cycle, ObjectRow, StoredObject};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use vault::{Manifest, ObjectKind, ObjectName, Vault};

use super::{
    is_due, remember,
    unaccounted::{self, Held},
};
use crate::{
    engine::Services,
    lease::{JobError, Moment},
    sort::{Merge, RunBuffer, Spill, SpillError},
};

/// The right to collect lasts so long without being renewed; far longer than a delete in the vault takes.
const CYCLE_LEASE_MS: i64 = 10 * 60 * 1000;
/// A delete begins within this time after the right was renewed, or not at all: a process that was frozen could otherwise
/// delete what has been stored anew since somebody else took the right. The rest is for a delete that takes long.
const DELETES_WITHIN: Duration = Duration::from_secs(3 * 60);
/// Rows, names and deletes are handled so many at a time.
const BATCH: usize = 500;
/// Deletes under way at a time.
const DELETES_AT_A_TIME: usize = 8;
/// Names sorted in memory, in bytes, before they spill.
const NAMES_BYTES: usize = 8 << 20;
/// The store is searched for objects that the catalog does not know every so often.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);
/// When the last cycle began, in the catalog's settings.
const LAST_CYCLE: &str = "collector.lastCycleAt";
/// When the store was last searched for strangers.
const LAST_SWEEP: &str = "collector.lastSweepAt";

#[derive(Debug, Default)]
struct Done {
    manifests: u64,
    adopted: u64,
    marked: u64,
    deleted: u64,
    deleted_bytes: u64,
    held: Vec<Held>,
}

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    if !is_due(services, LAST_CYCLE, services.settings.garbage_grace).await? {
        return Ok(json!({ "due": false }));
    }
    let Some(cycle) = services.catalog.collector().begin_cycle(services.now(), CYCLE_LEASE_MS).await? else {
        return Ok(json!({ "due": true, "busy": "another process collects" }));
    };
    let done = collect(services, &cycle).await;
    services.catalog.collector().end_cycle(&cycle).await?;
    let done = done?;
    remember(services, LAST_CYCLE).await?;
    Ok(json!({
        "due": true,
        "manifestsDeleted": done.manifests,
        "objectsAdopted": done.adopted,
        "objectsMarked": done.marked,
        "objectsDeleted": done.deleted,
        "bytesDeleted": done.deleted_bytes,
        "heldByManifests": done.held,
    }))
}

async fn collect(services: &Services, cycle: &Cycle) -> Result<Done, JobError> {
    let mut done = Done { manifests: delete_dead_manifests(services).await?, ..Done::default() };
    done.held = unaccounted::look(services).await?;
    let unfinished = services.catalog.collector().unfinished_deletes(cycle).await?;
    if done.held.is_empty() {
        delete(services, cycle, unfinished, &mut done).await?;
    } else {
        // They may have been stored anew since this catalog was copied. Jobs wait for what is being deleted, so it is not left like
        // that either.
        let names: Vec<String> = unfinished.into_iter().map(|object| object.name).collect();
        services.catalog.collector().finish_delete(cycle, &names).await?;
    }
    if is_due(services, LAST_SWEEP, SWEEP_EVERY).await? {
        done.adopted = adopt_strangers(services, cycle).await?;
        remember(services, LAST_SWEEP).await?;
    }
    if !done.held.is_empty() {
        return Ok(done);
    }
    let reachable = reachable(services, cycle).await?;
    walk(services, cycle, reachable, &mut done).await?;
    Ok(done)
}

/// The manifest goes before what it names, so that a rebuilt catalog never shows a snapshot with holes.
async fn delete_dead_manifests(services: &Services) -> Result<u64, JobError> {
    let dead = services.catalog.snapshots().dead_manifests().await?;
    let count = dead.len() as u64;
    for (snapshot, manifest) in dead {
        if let Ok(name) = manifest.parse::<ObjectName>() {
            services.vault.delete(&name).await?;
        }
        services.catalog.snapshots().forget_manifest(snapshot).await?;
    }
    Ok(count)
}

/// Objects that a crash or a lost catalog left unknown become known, so that they can be collected.
async fn adopt_strangers(services: &Services, cycle: &Cycle) -> Result<u64, JobError> {
    let mut adopted = 0;
    for kind in ObjectKind::COLLECTED {
        let mut listed = services.vault.list(kind).chunks(BATCH);
        while let Some(batch) = listed.next().await {
            let batch = batch.into_iter().collect::<vault::Result<Vec<_>>>()?;
            let names: Vec<String> = batch.iter().map(|listed| listed.name.to_string()).collect();
            let known = services.catalog.objects().known(&names).await?;
            let strangers: Vec<StoredObject> = batch
                .iter()
                .zip(names)
                .filter(|(_, name)| !known.contains(name))
                .map(|(listed, name)| StoredObject {
                    name,
                    kind: kind.as_str().to_owned(),
                    stored_bytes: listed.stored_bytes,
                })
                .collect();
            services.catalog.collector().renew(cycle, services.now(), CYCLE_LEASE_MS).await?;
            if !strangers.is_empty() {
                services.catalog.collector().adopt(cycle, &strangers).await?;
                adopted += strangers.len() as u64;
            }
        }
    }
    Ok(adopted)
}

/// The names of all objects that the live manifests need, to be walked in order.
async fn reachable(services: &Services, cycle: &Cycle) -> Result<Merge, JobError> {
    let dir = &services.settings.spill_dir;
    let mut merge = Merge::new(dir);
    let mut buffer = RunBuffer::new(NAMES_BYTES);
    let mut spill: Option<Spill> = None;
    for (snapshot, manifest) in services.catalog.snapshots().live_manifests().await? {
        services.catalog.collector().renew(cycle, services.now(), CYCLE_LEASE_MS).await?;
        let name = manifest.parse().map_err(|e| {
            JobError::failed_by(format!("the manifest of snapshot {snapshot} has no good name"), e)
        })?;
        // A live manifest that cannot be read ends the cycle: deleting without knowing what it needs is no option.
        let manifest = Manifest::open(&services.vault, &name).await?;
        let mut names = manifest.object_names();
        while let Some(name) = names.next().await {
            let name = name?.to_string();
            if buffer.is_full_for(name.as_bytes(), &[]) {
                let open = match &mut spill {
                    Some(open) => open,
                    None => spill.insert(Spill::create(dir)?),
                };
                merge.add_run(open.write(&mut buffer)?);
            }
            buffer.push(name.as_bytes(), &[]);
        }
    }
    merge.add_rest(buffer);
    Ok(merge)
}

/// Goes through all objects and all reachable names side by side.
async fn walk(services: &Services, cycle: &Cycle, reachable: Merge, done: &mut Done) -> Result<(), JobError> {
    let mut reachable = Names::of(reachable);
    let mut after: Option<String> = None;
    loop {
        let rows = services.catalog.collector().candidates(after.as_deref(), BATCH as u32).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.object.name.clone());
        let mut needed = vec![];
        let mut unneeded = vec![];
        for row in rows {
            if reachable.has(&row.object.name).await? { needed.push(row) } else { unneeded.push(row) }
        }
        services.catalog.collector().renew(cycle, services.now(), CYCLE_LEASE_MS).await?;
        settle(services, cycle, needed, unneeded, done).await?;
    }
    reachable.end().await
}

async fn settle(
    services: &Services,
    cycle: &Cycle,
    needed: Vec<ObjectRow>,
    unneeded: Vec<ObjectRow>,
    done: &mut Done,
) -> Result<(), JobError> {
    let collector = services.catalog.collector();
    let unmark: Vec<String> =
        needed.into_iter().filter(|row| row.marked).map(|row| row.object.name).collect();
    if !unmark.is_empty() {
        collector.unmark(cycle, &unmark).await?;
    }
    if unneeded.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unneeded.iter().map(|row| row.object.name.clone()).collect();
    let granted = collector.begin_delete(cycle, &names).await?;
    let (granted, others): (Vec<_>, Vec<_>) =
        unneeded.into_iter().map(|row| row.object).partition(|object| granted.contains(&object.name));
    let others: Vec<String> = others.into_iter().map(|object| object.name).collect();
    if !others.is_empty() {
        done.marked += collector.mark(cycle, &others).await?;
    }
    delete(services, cycle, granted, done).await
}

async fn delete(
    services: &Services,
    cycle: &Cycle,
    objects: Vec<StoredObject>,
    done: &mut Done,
) -> Result<(), JobError> {
    for batch in objects.chunks(BATCH) {
        let asking = Moment::now();
        services.catalog.collector().renew(cycle, services.now(), CYCLE_LEASE_MS).await?;
        let names: Vec<String> = batch.iter().map(|object| object.name.clone()).collect();
        delete_from_vault(&services.vault, &names, asking, DELETES_WITHIN).await?;
        services.catalog.collector().finish_delete(cycle, &names).await?;
        done.deleted += batch.len() as u64;
        done.deleted_bytes += batch.iter().map(|object| object.stored_bytes).sum::<u64>();
    }
    Ok(())
}

/// Deletes from the store as long as the right that was renewed at `renewed` surely holds.
pub(super) async fn delete_from_vault(
    vault: &Vault,
    names: &[String],
    renewed: Moment,
    within: Duration,
) -> Result<(), JobError> {
    let names: Vec<ObjectName> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let vault = vault.clone();
    let deletes = names.into_iter().map(move |name| {
        let vault = vault.clone();
        async move {
            if renewed.elapsed() >= within {
                let why = "the right to collect ran out in the middle; the next cycle goes on";
                return Err(JobError::failed(why));
            }
            Ok(vault.delete(&name).await?)
        }
    });
    let mut deletes = futures::stream::iter(deletes).buffer_unordered(DELETES_AT_A_TIME);
    // Each is waited for, also after one that failed: none is under way any more when this returns.
    let mut failed = Ok(());
    while let Some(deleted) = deletes.next().await {
        failed = failed.and(deleted);
    }
    failed
}

/// The sorted reachable names, given by a thread that merges them.
struct Names {
    batches: mpsc::Receiver<Vec<String>>,
    merging: tokio::task::JoinHandle<Result<(), SpillError>>,
    current: std::vec::IntoIter<String>,
    next: Option<String>,
    /// The name that was asked for last.
    asked: Option<String>,
    ended: bool,
}

impl Names {
    fn of(merge: Merge) -> Self {
        let (sender, batches) = mpsc::channel::<Vec<String>>(2);
        let merging = tokio::task::spawn_blocking(move || {
            let mut batch: Vec<String> = vec![];
            merge.for_each(|name, _| {
                let name = String::from_utf8_lossy(name);
                if batch.last().is_some_and(|last| *last == name) {
                    return Ok(());
                }
                batch.push(name.into_owned());
                if batch.len() >= BATCH {
                    // A receiver that is gone wants no more; the merge is short enough to run out.
                    let _ = sender.blocking_send(std::mem::take(&mut batch));
                }
                Ok::<_, SpillError>(())
            })?;
            let _ = sender.blocking_send(batch);
            Ok(())
        });
        Self { batches, merging, current: vec![].into_iter(), next: None, asked: None, ended: false }
    }

    /// Whether a name is among them; to be asked in ascending order.
    async fn has(&mut self, name: &str) -> Result<bool, JobError> {
        // Asked in another order, it would say of names that are needed that they are not.
        if self.asked.as_deref().is_some_and(|asked| asked > name) {
            return Err(JobError::failed(
                "the catalog does not list objects in the order of the bytes of their names, so nothing is collected; a database of \
                 PostgreSQL needs the collation C, or one that orders letters and digits as it does",
            ));
        }
        self.asked = Some(name.to_owned());
        loop {
            match self.next.as_deref() {
                Some(next) if next == name => return Ok(true),
                Some(next) if next > name => return Ok(false),
                _ if self.ended => return Ok(false),
                _ => self.next = self.pull().await?,
            }
        }
    }

    async fn pull(&mut self) -> Result<Option<String>, JobError> {
        loop {
            if let Some(next) = self.current.next() {
                return Ok(Some(next));
            }
            match self.batches.recv().await {
                Some(batch) => self.current = batch.into_iter(),
                None => {
                    // A merge that broke off must not look like one that has said all names.
                    (&mut self.merging)
                        .await
                        .map_err(|e| JobError::failed_by("a bug in Ebbtide stopped a merge", e))??;
                    self.ended = true;
                    return Ok(None);
                }
            }
        }
    }

    async fn end(mut self) -> Result<(), JobError> {
        while !self.ended {
            self.pull().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::id::RestoreJobId;
    use vault::{ArchiveWriter, Location, MasterKey, S3Options};

    use super::*;

    #[tokio::test]
    async fn a_catalog_of_another_order_deletes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Names::of(Merge::new(dir.path()));
        assert!(!names.has("b").await.unwrap() && !names.has("c").await.unwrap());
        let refused = names.has("a").await.unwrap_err();
        assert!(refused.to_string().contains("collation C"), "{refused}");
    }

    #[tokio::test]
    async fn a_collector_that_was_frozen_deletes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let place = Location::parse(dir.path().to_str().unwrap(), S3Options::default()).unwrap();
        let vault = Vault::create_or_open(&place, &MasterKey::generate()).await.unwrap();
        let mut writer = ArchiveWriter::new(&vault, RestoreJobId::from_bytes([1; 12]));
        writer.write(b"anything").await.unwrap();
        writer.finish().await.unwrap();
        let name = vault.list(ObjectKind::Archive).next().await.unwrap().unwrap().name;
        let renewed = Moment::now();
        let text = [name.to_string()];
        assert!(delete_from_vault(&vault, &text, renewed, Duration::ZERO).await.is_err());
        assert!(vault.contains(&name).await.unwrap(), "somebody else may have stored it anew");
        delete_from_vault(&vault, &text, renewed, DELETES_WITHIN).await.unwrap();
        assert!(!vault.contains(&name).await.unwrap());
    }
}
