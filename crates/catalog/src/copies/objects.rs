//! What a vault that is copied to holds.

use std::collections::HashMap;

use model::{
    WallTime,
    copy::{CopyEvent, RegionName},
};
use serde_json::Value;
use sqlx::query;

use super::{Copies, CopyLease};
use crate::{
    Result, StoredObject,
    objects::{BATCH, names},
    row::{Columns, bulk, placeholders, statement, stored},
    transition,
};

/// What is known of an object that is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopiedState {
    /// It was put there, whole.
    Held,
    /// It was seen there, and nobody has looked through it.
    Found,
}

impl Copies<'_> {
    /// Which of these objects are there; those that are damaged or about to be deleted are not.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn held(&self, region: &RegionName, wanted: &[String]) -> Result<HashMap<String, CopiedState>> {
        let mut held = HashMap::new();
        for batch in wanted.chunks(BATCH) {
            let mut select = bulk(format!(
                "SELECT name, state FROM copied_objects WHERE region = $1 AND state IN ('held', 'found') AND name IN ({})",
                placeholders(2, batch.len())
            ))
            .bind(region.as_str());
            for name in batch {
                select = select.bind(name);
            }
            for row in &select.fetch_all(self.0.database.writer()).await? {
                let is_held = row.text("state")? == "held";
                held.insert(row.text("name")?, if is_held { CopiedState::Held } else { CopiedState::Found });
            }
        }
        Ok(held)
    }

    /// Enters objects that are durable there now, and whole.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn copied(&self, lease: &CopyLease, objects: &[StoredObject]) -> Result<()> {
        self.enter(
            lease,
            objects,
            "held",
            "state = 'held', needed_in = excluded.needed_in, ",
            lease.generation,
        )
        .await
    }

    /// Enters objects that were seen there. What is known of them stays known.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn adopt(&self, lease: &CopyLease, found: &[StoredObject]) -> Result<()> {
        self.enter(lease, found, "found", "", 0).await
    }

    async fn enter(
        &self,
        lease: &CopyLease,
        objects: &[StoredObject],
        state: &str,
        update: &str,
        needed_in: i64,
    ) -> Result<()> {
        for batch in objects.chunks(BATCH) {
            let mut transaction = self.begin(lease).await?;
            for object in batch {
                statement(format!(
                    "INSERT INTO copied_objects (region, name, stored_bytes, state, deployment_id, needed_in, seen_in) \
                     VALUES ($1, $2, $3, $4, (SELECT t.deployment_id FROM slices s JOIN timelines t ON t.id = s.timeline_id \
                     WHERE s.name = $2), $5, $6) ON CONFLICT (region, name) DO UPDATE SET {update}\
                     stored_bytes = excluded.stored_bytes, seen_in = excluded.seen_in, \
                     deployment_id = COALESCE(excluded.deployment_id, copied_objects.deployment_id)"
                ))
                .bind(lease.region.as_str())
                .bind(&object.name)
                .bind(stored(object.stored_bytes))
                .bind(state)
                .bind(needed_in)
                .bind(lease.generation)
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Notes that the whole place was listed. What was neither seen there nor put there under this lease is not there: if that is
    /// anything, all copies are to be made whole again. Tells how many objects were missed.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn listed(&self, lease: &CopyLease, now: WallTime) -> Result<u64> {
        let mut transaction = self.begin(lease).await?;
        let gone = query(
            "DELETE FROM copied_objects WHERE region = $1 AND seen_in < $2 AND state IN ('held', 'found', 'damaged')",
        )
        .bind(lease.region.as_str())
        .bind(lease.generation)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        // What could not be read where it comes from is tried again.
        query("DELETE FROM copied_objects WHERE region = $1 AND state = 'unreadable'")
            .bind(lease.region.as_str())
            .execute(&mut *transaction)
            .await?;
        if gone > 0 {
            make_all_whole(&mut transaction, &lease.region).await?;
        }
        query("UPDATE copy_vaults SET listed_at = $2, sweep_due = 1 WHERE region = $1")
            .bind(lease.region.as_str())
            .bind(now.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(gone)
    }

    /// Notes that objects were found damaged or missing at a place: they count as not there. Any copy may need them, so all of them
    /// are to be made whole again; whoever works there in this moment begins anew.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn report_damage(&self, region: &RegionName, damaged: &[String]) -> Result<()> {
        let mut transaction = self.0.database.begin().await?;
        // The right to the place is lost and not free: what its holder has begun ends before the next one begins.
        query("UPDATE copy_vaults SET generation = generation + 1 WHERE region = $1")
            .bind(region.as_str())
            .execute(&mut *transaction)
            .await?;
        let mut touched = 0;
        for batch in damaged.chunks(BATCH) {
            let mut update = bulk(format!(
                "UPDATE copied_objects SET state = 'damaged' WHERE region = $1 AND state IN ('held', 'found') AND name IN ({})",
                placeholders(2, batch.len())
            ))
            .bind(region.as_str());
            for name in batch {
                update = update.bind(name);
            }
            touched += update.execute(&mut *transaction).await?.rows_affected();
        }
        // What is known already, or was deleted since it was looked for, is no news, and nobody is disturbed.
        if touched == 0 {
            return Ok(());
        }
        make_all_whole(&mut transaction, region).await?;
        Ok(transaction.commit().await?)
    }

    /// Says of an object that it is to be deleted: from now on nobody relies on it.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn condemn(&self, lease: &CopyLease, name: &str) -> Result<()> {
        let mut transaction = self.begin(lease).await?;
        query("UPDATE copied_objects SET state = 'deleting' WHERE region = $1 AND name = $2")
            .bind(lease.region.as_str())
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Notes in a sweep that copies need these. Tells how many of them nobody had needed in it before.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn needed(&self, lease: &CopyLease, wanted: &[String]) -> Result<u64> {
        let mut newly = 0;
        for batch in wanted.chunks(BATCH) {
            let mut transaction = self.begin(lease).await?;
            let mut update = bulk(format!(
                "UPDATE copied_objects SET needed_in = $2 WHERE region = $1 AND needed_in < $2 AND name IN ({})",
                placeholders(3, batch.len())
            ))
            .bind(lease.region.as_str())
            .bind(lease.generation);
            for name in batch {
                update = update.bind(name);
            }
            newly += update.execute(&mut *transaction).await?.rows_affected();
            transaction.commit().await?;
        }
        Ok(newly)
    }

    /// Says of all objects that the sweep of this lease has found nothing to need, slices left aside, that they are to be deleted:
    /// from now on nobody relies on them.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn condemn_unneeded(&self, lease: &CopyLease) -> Result<()> {
        let mut transaction = self.begin(lease).await?;
        query(
            "UPDATE copied_objects SET state = 'deleting' WHERE region = $1 AND needed_in < $2 AND state <> 'deleting' \
             AND name NOT LIKE 'slice/%'",
        )
        .bind(lease.region.as_str())
        .bind(lease.generation)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Notes that a sweep is over, or has to be tried again, that none is made before that time, and what it was held up by.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn swept(
        &self,
        lease: &CopyLease,
        is_over: bool,
        held: Option<&Value>,
        again: WallTime,
    ) -> Result<()> {
        let mut transaction = self.begin(lease).await?;
        query("UPDATE copy_vaults SET sweep_due = $2, sweep_after = $3, held = $4 WHERE region = $1")
            .bind(lease.region.as_str())
            .bind(i64::from(!is_over))
            .bind(again.0)
            .bind(held.map(ToString::to_string))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Some of what is to be deleted, or was and nobody has said so: manifests first, and nothing else beside them.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn condemned(&self, lease: &CopyLease, limit: u32) -> Result<Vec<String>> {
        let mut transaction = self.begin(lease).await?;
        let mut found: Vec<String> = vec![];
        for which in ["AND name LIKE 'manifest/%'", ""] {
            if found.is_empty() {
                let rows = statement(format!(
                    "SELECT name FROM copied_objects WHERE region = $1 AND state = 'deleting' {which} LIMIT $2"
                ))
                .bind(lease.region.as_str())
                .bind(i64::from(limit))
                .fetch_all(&mut *transaction)
                .await?;
                found = names(&rows)?;
            }
        }
        Ok(found)
    }

    /// Forgets objects that were deleted.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn deleted(&self, lease: &CopyLease, gone: &[String]) -> Result<()> {
        for batch in gone.chunks(BATCH) {
            let mut transaction = self.begin(lease).await?;
            let mut delete = bulk(format!(
                "DELETE FROM copied_objects WHERE region = $1 AND state = 'deleting' AND name IN ({})",
                placeholders(2, batch.len())
            ))
            .bind(lease.region.as_str());
            for name in batch {
                delete = delete.bind(name);
            }
            delete.execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

/// Has all copies of a region made whole again: what is there is not copied again.
async fn make_all_whole(
    transaction: &mut sqlx::Transaction<'static, sqlx::Any>,
    region: &RegionName,
) -> Result<()> {
    let moves = transition::copy(CopyEvent::Damaged);
    statement(format!(
        "UPDATE snapshot_copies SET state = {}, try_after = 0 WHERE region = $1 AND state IN {}",
        moves.next, moves.from
    ))
    .bind(region.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
