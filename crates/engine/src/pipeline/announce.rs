//! Tells the catalog of each page and root of a manifest before it is stored.

use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, PoisonError},
};

use catalog::StoredObject;
use futures::future::BoxFuture;
use vault::{Announce, ObjectName};

use super::SegmentStore;
use crate::lease::JobError;

/// Objects are recorded as stored so many at a time.
const RECORD_AT_A_TIME: usize = 256;

/// Pins what a manifest writer is about to store, and remembers what was new.
#[derive(Clone)]
pub struct Pinner {
    store: SegmentStore,
    new: Arc<Mutex<Vec<ObjectName>>>,
}

impl Announce for Pinner {
    fn announce(&self, name: ObjectName) -> BoxFuture<'_, Result<(), Box<dyn StdError + Send + Sync>>> {
        Box::pin(async move {
            if !self.store.pinned(&[name]).await?.contains(&name) {
                self.new.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            }
            Ok(())
        })
    }
}

impl Pinner {
    /// A pinner for the job of that store.
    pub fn new(store: &SegmentStore) -> Self {
        Self { store: store.clone(), new: Arc::default() }
    }

    /// Records what was new and is durable by now.
    ///
    /// # Errors
    /// What the vault or the catalog says.
    pub async fn record(&self) -> Result<(), JobError> {
        let mut new = std::mem::take(&mut *self.new.lock().unwrap_or_else(PoisonError::into_inner));
        new.sort_unstable();
        new.dedup();
        for names in new.chunks(RECORD_AT_A_TIME) {
            let mut objects = Vec::with_capacity(names.len());
            for name in names {
                // An attempt that ended early may have announced what it did not store.
                if let Some(stored_bytes) = self.store.ctx().vault().stored_bytes(name).await? {
                    self.store.add_bytes(stored_bytes);
                    objects.push(StoredObject {
                        name: name.to_string(),
                        kind: name.kind.as_str().to_owned(),
                        stored_bytes,
                    });
                }
            }
            self.store.ctx().catalog().objects().stored(self.store.ctx().lease(), &objects).await?;
        }
        Ok(())
    }
}
