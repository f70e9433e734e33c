//! Copies one snapshot: everything that its manifest names, then the manifest.

use std::collections::BTreeSet;

use catalog::{CopiedState, SnapshotCopy, StoredObject};
use futures::{StreamExt as _, TryStreamExt as _};
use vault::{Manifest, ObjectName};

use super::{Did, Place};
use crate::{crash, lease::JobError};

/// Names are looked up so many at a time.
const BATCH: usize = 256;
/// So many objects are copied before they are entered.
const ENTERED_TOGETHER: usize = 16;
/// Objects under way at a time at one place. Each also waits for its share of the memory of all places.
const AT_A_TIME: usize = 3;
/// A place or a store that fails is tried again after this time.
const AGAIN_MS: i64 = 60 * 1000;
/// Damage is mended by the next snapshot of the same data, or by nobody.
const AGAIN_AFTER_DAMAGE_MS: i64 = 30 * 60 * 1000;

/// Why an object could not be copied.
pub(super) enum Hindrance {
    /// It cannot be read where it is.
    Source(vault::Error),
    /// Anything else: nothing else can be copied there in this moment either.
    Place(JobError),
}

impl From<JobError> for Hindrance {
    fn from(error: JobError) -> Self {
        Self::Place(error)
    }
}

impl From<catalog::Error> for Hindrance {
    fn from(error: catalog::Error) -> Self {
        Self::Place(error.into())
    }
}

/// What became of an object.
enum Became {
    Copied(StoredObject),
    /// It was there, and is whole.
    Found(StoredObject),
}

/// How far a copy got.
enum Far {
    Made,
    /// Its turn was over before it was made.
    GoesOn,
    /// It is not wanted any more.
    NotWanted,
}

impl Place<'_> {
    /// Makes a copy, or notes why that cannot be done now.
    ///
    /// # Errors
    /// What keeps all other copies from being made, too.
    pub(super) async fn make(&self, wanted: &SnapshotCopy, did: &mut Did) -> Result<(), JobError> {
        let (snapshot, region) = (wanted.snapshot_id, self.region());
        let before = (did.objects, did.bytes);
        match self.copy_all(wanted, did).await {
            Ok(Far::Made) => {
                let (objects, bytes) = (did.objects - before.0, did.bytes - before.1);
                tracing::info!(snapshot.id = %snapshot, %region, objects, bytes, "snapshot {snapshot} is copied to {region}: {objects} objects, {bytes} bytes that were not there");
                did.made += 1;
                Ok(())
            }
            Ok(Far::GoesOn) => {
                did.goes_on = true;
                Ok(())
            }
            Ok(Far::NotWanted) => Ok(()),
            // Whoever deletes a snapshot deletes what it needs; its copy goes next time.
            Err(Hindrance::Source(_)) if !self.is_kept(snapshot).await? => Ok(()),
            Err(Hindrance::Source(error)) => {
                did.failed += 1;
                let is_damage = error.is_damage();
                if let Some(object) = error.damaged_object() {
                    self.services.catalog.objects().report_damage(&[object.to_string()]).await?;
                }
                let again = if is_damage { AGAIN_AFTER_DAMAGE_MS } else { AGAIN_MS };
                self.note(wanted, &JobError::from(error), again).await
            }
            Err(Hindrance::Place(error)) => {
                self.note(wanted, &error, AGAIN_MS).await?;
                Err(error)
            }
        }
    }

    async fn note(&self, wanted: &SnapshotCopy, error: &JobError, again_ms: i64) -> Result<(), JobError> {
        let (snapshot, region, why) = (wanted.snapshot_id, self.region(), error.full_text());
        tracing::warn!(snapshot.id = %snapshot, %region, "snapshot {snapshot} is not copied to {region} yet: {why}");
        let again = self.services.now().plus_ms(again_ms);
        Ok(self.services.catalog.copies().failed(&self.hold.lease, snapshot, &why, again).await?)
    }

    async fn copy_all(&self, wanted: &SnapshotCopy, did: &mut Did) -> Result<Far, Hindrance> {
        let root: ObjectName = wanted.manifest.parse().map_err(|e| {
            let what = format!("the manifest of snapshot {} has no good name", wanted.snapshot_id);
            JobError::failed_by(what, e)
        })?;
        let manifest = self.readable(&root).await?;
        let mut names = manifest.object_names().try_chunks(BATCH);
        while let Some(batch) = names.next().await {
            let batch: BTreeSet<ObjectName> =
                batch.map_err(|e| Hindrance::Source(e.1))?.into_iter().filter(|name| *name != root).collect();
            self.copy_lacking(&batch.into_iter().collect::<Vec<_>>(), did).await?;
            if self.hold.is_over() {
                return Ok(Far::GoesOn);
            }
        }
        crash::point("copy.before-manifest");
        self.services.probe("copy.before-manifest", self.region().as_str()).await;
        // A manifest without what it names must not come into view after somebody else has swept here.
        let renewed = self.hold.renewed().await?;
        if renewed.elapsed() >= self.hold.within() {
            return Ok(Far::GoesOn);
        }
        self.check_place().await?;
        // It may be there already, and no more than that be left of it: then it is looked through.
        let root = [(root, Some(CopiedState::Found))];
        let put = async { Ok(self.copy_objects(&root, did).await) };
        self.hold.deleting(put).await??;
        crash::point("copy.after-manifest");
        let (copies, now) = (self.services.catalog.copies(), self.services.now());
        let is_made = copies.made(&self.hold.lease, wanted.snapshot_id, now).await?;
        Ok(if is_made { Far::Made } else { Far::NotWanted })
    }

    /// The manifest of a snapshot, from the vault, or where that has lost it, from the copy.
    async fn readable(&self, root: &ObjectName) -> Result<Manifest, Hindrance> {
        match Manifest::open(&self.services.vault, root).await {
            Err(error) if error.is_damage() => {
                Manifest::open(&self.copy, root).await.map_err(|_| Hindrance::Source(error))
            }
            other => other.map_err(Hindrance::Source),
        }
    }

    /// Copies those of these objects that are not there, and looks through those that nobody has looked through.
    pub(super) async fn copy_lacking(&self, names: &[ObjectName], did: &mut Did) -> Result<(), Hindrance> {
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        let held = self.services.catalog.copies().held(self.region(), &texts).await?;
        let states = names.iter().zip(&texts).map(|(name, text)| (*name, held.get(text).copied()));
        let lacking: Vec<_> = states.filter(|(_, state)| *state != Some(CopiedState::Held)).collect();
        self.copy_objects(&lacking, did).await
    }

    /// Copies objects, in no order, and enters them.
    async fn copy_objects(
        &self,
        lacking: &[(ObjectName, Option<CopiedState>)],
        did: &mut Did,
    ) -> Result<(), Hindrance> {
        for together in lacking.chunks(ENTERED_TOGETHER) {
            let copying: Vec<_> =
                together.iter().map(|(name, state)| self.copy_object(*name, *state)).collect();
            let became: Vec<Became> =
                futures::stream::iter(copying).buffer_unordered(AT_A_TIME).try_collect().await?;
            crash::point("copy.before-entered");
            let mut held = Vec::with_capacity(became.len());
            for object in became {
                match object {
                    Became::Copied(object) => {
                        did.objects += 1;
                        did.bytes += object.stored_bytes;
                        held.push(object);
                    }
                    Became::Found(object) => {
                        did.found += 1;
                        held.push(object);
                    }
                }
            }
            self.services.catalog.copies().copied(&self.hold.lease, &held).await?;
        }
        Ok(())
    }

    async fn copy_object(&self, name: ObjectName, state: Option<CopiedState>) -> Result<Became, Hindrance> {
        let _room = self.room.enter().await;
        let stored = |bytes| StoredObject {
            name: name.to_string(),
            kind: name.kind.as_str().to_owned(),
            stored_bytes: bytes,
        };
        if state == Some(CopiedState::Found) {
            match self.copy.sealed(&name).await {
                Ok(object) => return Ok(Became::Found(stored(object.bytes.len() as u64))),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(Hindrance::Place(error.into())),
            }
        }
        let object = self.services.vault.sealed(&name).await.map_err(Hindrance::Source)?;
        let bytes = self.copy.put(&object).await.map_err(|e| Hindrance::Place(e.into()))?;
        Ok(Became::Copied(stored(bytes)))
    }
}
