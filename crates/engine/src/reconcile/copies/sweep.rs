//! Deletes what no copy needs any more.

use std::collections::HashSet;

use catalog::{SnapshotCopy, StoredObject};
use futures::{StreamExt as _, TryStreamExt as _};
use model::{copy::CopyState, id::SnapshotId, snapshot::SnapshotState};
use serde_json::json;
use vault::{Manifest, ObjectKind, ObjectName, Vault};

use super::{Did, Place, make::Hindrance};
use crate::{
    crash,
    engine::Services,
    lease::JobError,
    reconcile::{collect::delete_from_vault, unaccounted::Held},
};

/// A place is listed so often, for objects that were put and never entered.
pub(super) const LIST_EVERY_MS: i64 = 24 * 3600 * 1000;
/// Names are handled so many at a time.
const BATCH: usize = 400;
/// So many manifests that nobody can account for are named.
const HELD_MAX: usize = 100;

impl Place<'_> {
    /// Looks what is there: what is not known is entered, and what is not there any more is forgotten.
    pub(super) async fn list(&self, did: &mut Did) -> Result<(), JobError> {
        let copies = self.services.catalog.copies();
        for kind in ObjectKind::COLLECTED.into_iter().chain([ObjectKind::Slice]) {
            let mut listed = self.copy.list(kind).try_chunks(BATCH);
            while let Some(batch) = listed.next().await {
                let found: Vec<StoredObject> = batch
                    .map_err(|e| e.1)?
                    .into_iter()
                    .map(|listed| StoredObject {
                        name: listed.name.to_string(),
                        kind: kind.as_str().to_owned(),
                        stored_bytes: listed.stored_bytes,
                    })
                    .collect();
                copies.adopt(&self.hold.lease, &found).await?;
            }
        }
        did.missed += copies.listed(&self.hold.lease, self.services.now()).await?;
        Ok(())
    }

    /// Finds out what the copies need, and deletes the rest. It is not done too often, and after what stands in its way not soon.
    pub(super) async fn sweep(&self, did: &mut Did) -> Result<(), JobError> {
        let copies = self.services.catalog.copies();
        let again = self.services.now().plus_ms(sweeps_every_ms(self.services));
        let held = self.find_needed().await;
        let is_over = matches!(&held, Ok(held) if held.is_empty());
        if is_over {
            copies.condemn_unneeded(&self.hold.lease).await?;
            // As it is now: what has been copied meanwhile may not be wanted any more, and the other way round.
            let recorded = copies.recorded_in(self.region()).await?;
            copies.condemn_slices(&self.hold.lease, &recorded).await?;
        }
        let told = held.as_ref().ok().filter(|held| !held.is_empty()).map(|held| json!(held));
        let noted = copies.swept(&self.hold.lease, is_over, told.as_ref(), again).await;
        held?;
        noted?;
        self.delete_condemned(did).await
    }

    /// Notes all that is needed. What keeps that from being known.
    async fn find_needed(&self) -> Result<Vec<Held>, JobError> {
        let copies = self.services.catalog.copies();
        let mut held = self.unaccounted().await?;
        if !held.is_empty() {
            return Ok(held);
        }
        for made in copies.in_state(self.region(), CopyState::Made).await? {
            match self.needed_by(&self.copy, &made).await {
                Ok(()) => {}
                Err(Hindrance::Source(error)) => {
                    // Without knowing what it needs nothing can go. It is made whole from the vault, and then this goes on.
                    if let Some(object) = error.damaged_object() {
                        copies.report_damage(self.region(), &[object.to_string()]).await?;
                    }
                    return Err(error.into());
                }
                Err(Hindrance::Place(error)) => return Err(error),
            }
        }
        for wanted in copies.in_state(self.region(), CopyState::Wanted).await? {
            held.extend(self.needed_by_wanted(&wanted).await?);
        }
        Ok(held)
    }

    /// Notes what a copy needs that is to be made, so that what there is of it is not copied again, nor lost if it was whole and the
    /// vault has lost it since. What stands in the way if it may be worth something, and nobody can tell what it needs.
    async fn needed_by_wanted(&self, wanted: &SnapshotCopy) -> Result<Option<Held>, JobError> {
        let why = match self.needed_by(&self.services.vault, wanted).await {
            Ok(()) => return Ok(None),
            Err(Hindrance::Place(error)) => return Err(error),
            Err(Hindrance::Source(error)) if error.is_damage() => error.to_string(),
            Err(Hindrance::Source(error)) => return Err(error.into()),
        };
        match self.needed_by(&self.copy, wanted).await {
            Ok(()) => Ok(None),
            Err(Hindrance::Place(error)) => Err(error),
            Err(Hindrance::Source(vault::Error::Missing { object, .. }))
                if object.to_string() == wanted.manifest =>
            {
                Ok(None)
            }
            Err(Hindrance::Source(error)) if error.is_damage() => {
                Ok(Some(Held::new(&named(&wanted.manifest)?, format!("{why}; and in the copy {error}"))))
            }
            Err(Hindrance::Source(error)) => Err(error.into()),
        }
    }

    /// Notes what a copy needs, as the manifest in `vault` tells it.
    async fn needed_by(&self, vault: &Vault, copy: &SnapshotCopy) -> Result<(), Hindrance> {
        let root: ObjectName = named(&copy.manifest)?;
        let manifest = Manifest::open(vault, &root).await.map_err(Hindrance::Source)?;
        let mut names = manifest.object_names().try_chunks(BATCH);
        while let Some(batch) = names.next().await {
            let batch = batch.map_err(|e| Hindrance::Source(e.1))?;
            let names: Vec<String> = batch.iter().map(ToString::to_string).collect();
            self.services.catalog.copies().needed(&self.hold.lease, &names).await?;
        }
        Ok(())
    }

    /// Manifests there that may count though no copy is known to have them: those of a catalog that was lost, or is older than
    /// they are. One of a snapshot that is there becomes its copy.
    async fn unaccounted(&self) -> Result<Vec<Held>, JobError> {
        let copies = self.services.catalog.copies();
        let mut known = HashSet::new();
        for state in CopyState::ALL {
            known.extend(copies.in_state(self.region(), state).await?.into_iter().map(|copy| copy.manifest));
        }
        let mut held = vec![];
        let mut listed = self.copy.list_manifests();
        while let Some(found) = listed.next().await {
            let name = found?.name;
            if known.contains(&name.to_string()) {
                continue;
            }
            let why = match Manifest::open(&self.copy, &name).await {
                Ok(manifest) => self.account_for(&name, manifest.header().snapshot_id).await?,
                Err(vault::Error::Missing { .. }) => None,
                Err(error) if error.is_damage() || matches!(error, vault::Error::NewerFormat { .. }) => {
                    Some(error.to_string())
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(why) = why {
                let region = self.region();
                tracing::warn!(manifest = %name, %region, "nothing is deleted from the copies in {region} because of {name}: {why}");
                held.push(Held::new(&name, why));
            }
            if held.len() >= HELD_MAX {
                break;
            }
        }
        Ok(held)
    }

    async fn account_for(&self, name: &ObjectName, snapshot: SnapshotId) -> Result<Option<String>, JobError> {
        let catalog = &self.services.catalog;
        let Some(found) = catalog.snapshots().get(snapshot).await? else {
            let why = format!(
                "it is of snapshot {snapshot}, which the catalog does not know: keep it, or delete that file"
            );
            return Ok(Some(why));
        };
        if found.state == SnapshotState::Completed && found.manifest.as_deref() == Some(&name.to_string()) {
            catalog.copies().found(&self.hold.lease, snapshot, self.services.now()).await?;
        }
        Ok(None)
    }

    /// Deletes what nobody relies on any more.
    pub(super) async fn delete_condemned(&self, did: &mut Did) -> Result<(), JobError> {
        let copies = self.services.catalog.copies();
        loop {
            let condemned = copies.condemned(&self.hold.lease, BATCH as u32).await?;
            if condemned.is_empty() {
                return Ok(());
            }
            self.delete(&condemned).await?;
            copies.deleted(&self.hold.lease, &condemned).await?;
            did.deleted += condemned.len() as u64;
        }
    }

    /// Whether the place is still one for copies: somebody may have made a vault of its own of it meanwhile.
    pub(super) async fn check_place(&self) -> Result<(), JobError> {
        if self.copy.is_place(&self.mark).await? {
            return Ok(());
        }
        let why = format!("{} is not a place for these copies any more", self.copy.location());
        Err(JobError::failed(why))
    }

    /// Deletes objects, while that is surely ours to do.
    pub(super) async fn delete(&self, names: &[String]) -> Result<(), JobError> {
        self.check_place().await?;
        let renewed = self.hold.renewed().await?;
        let deletes = delete_from_vault(&self.copy, names, renewed, self.hold.within());
        crash::point("copy.delete.before");
        self.hold.deleting(deletes).await?;
        crash::point("copy.delete.after");
        Ok(())
    }
}

/// How long after one sweep the next one may be made.
fn sweeps_every_ms(services: &Services) -> i64 {
    i64::try_from(services.settings.garbage_grace.as_millis()).unwrap_or(i64::MAX)
}

fn named(text: &str) -> Result<ObjectName, JobError> {
    text.parse().map_err(|e| JobError::failed_by("the catalog names a manifest that is none", e))
}
