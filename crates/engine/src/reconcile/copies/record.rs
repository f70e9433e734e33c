//! Copies the slices of a deployment whose record is wanted at a place, oldest first.

use std::collections::HashSet;

use model::id::DeploymentId;
use vault::ObjectName;

use super::{Did, Place, make::Hindrance};
use crate::lease::JobError;

/// Slices that are looked up at a time.
const BATCH: u32 = 16;

impl Place<'_> {
    /// Copies what is in the vault of a deployment's record by now. A slice that cannot be read is left out, and told of: what
    /// is on both sides of it can be restored.
    pub(super) async fn copy_slices(&self, deployment: DeploymentId, did: &mut Did) -> Result<(), JobError> {
        let copies = self.services.catalog.copies();
        let mut left_out = HashSet::new();
        loop {
            if self.hold.is_over() {
                did.goes_on = true;
                return Ok(());
            }
            let due = copies.slices_due(self.region(), deployment, BATCH).await?;
            if due.iter().all(|name| left_out.contains(name)) {
                return Ok(());
            }
            for text in due {
                let name: ObjectName = text
                    .parse()
                    .map_err(|e| JobError::failed_by("the catalog names a slice that is none", e))?;
                match self.copy_lacking(&[name], did).await {
                    Ok(()) => did.slices += 1,
                    Err(Hindrance::Source(error)) if error.is_damage() => {
                        tracing::warn!(slice = %name, region = %self.region(), error = %error, "a slice is not copied to {}: {error}", self.region());
                        copies.unreadable(&self.hold.lease, &text).await?;
                        left_out.insert(text);
                    }
                    Err(Hindrance::Source(error)) => return Err(error.into()),
                    Err(Hindrance::Place(error)) => return Err(error),
                }
            }
        }
    }
}
