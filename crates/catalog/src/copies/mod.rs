//! Copies of snapshots in other vaults: which are wanted, which are there, and what those vaults hold.
//!
//! One process at a time works on a vault that is copied to: it holds its lease ([`Copies::claim`]), and whatever it writes
//! stands behind a check of that. It enters an object after it has put it, and says that one is about to be deleted before it
//! deletes it, so that a name that is entered is one that is there.

mod decide;
mod hold;
mod objects;
mod record;

use std::collections::HashMap;

use model::{
    WallTime,
    copy::{CopyEvent, CopyState, RegionName},
    id::SnapshotId,
};
use sqlx::{any::AnyRow, query};

pub use decide::CopiesDecided;
pub(crate) use decide::let_all_go;
pub use hold::CopyLease;
pub use objects::CopiedState;

use crate::{
    Catalog, Result,
    row::{Columns, bulk, placeholders, plain, statement},
    transition,
};

/// How many ids are looked up at once.
const IDS_MAX: usize = 400;

/// What a place answered may be a page, and all copies that wait for it are told.
const SHARED_ERROR_CHARACTERS_MAX: usize = 1000;
const COLUMNS: &str = "snapshot_id, region, state, manifest, requested_at, made_at, error";

/// A copy of a snapshot in another vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotCopy {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Where.
    pub region: RegionName,
    /// Where it stands.
    pub state: CopyState,
    /// Name of the root of the manifest.
    pub manifest: String,
    /// Since when it is wanted.
    pub requested_at: WallTime,
    /// When it was made last.
    pub made_at: Option<WallTime>,
    /// Why it could not be made so far.
    pub error: Option<String>,
}

/// Operations on copies.
#[derive(Debug, Clone, Copy)]
pub struct Copies<'a>(pub(crate) &'a Catalog);

impl Copies<'_> {
    /// The copies of these snapshots, by region.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn of(&self, ids: &[SnapshotId]) -> Result<HashMap<SnapshotId, Vec<SnapshotCopy>>> {
        let mut found: HashMap<SnapshotId, Vec<SnapshotCopy>> = HashMap::new();
        for some in ids.chunks(IDS_MAX) {
            let mut asked = bulk(format!(
                "SELECT {COLUMNS} FROM snapshot_copies WHERE snapshot_id IN ({}) ORDER BY region",
                placeholders(1, some.len())
            ));
            for id in some {
                asked = asked.bind(id.to_string());
            }
            for row in &asked.fetch_all(self.0.database.reader()).await? {
                let copy = copy(row)?;
                found.entry(copy.snapshot_id).or_default().push(copy);
            }
        }
        Ok(found)
    }

    /// The copies in a region that are in this state, those that were asked for first before the others.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn in_state(&self, region: &RegionName, state: CopyState) -> Result<Vec<SnapshotCopy>> {
        // Read where it is written: an older view must not decide what is garbage.
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM snapshot_copies WHERE region = $1 AND state = $2 ORDER BY requested_at, snapshot_id"
        ))
        .bind(region.as_str())
        .bind(state.as_str())
        .fetch_all(self.0.database.writer())
        .await?;
        rows.iter().map(copy).collect()
    }

    /// The copies in a region that are to be made by now.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn due(&self, region: &RegionName, now: WallTime) -> Result<Vec<SnapshotCopy>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM snapshot_copies WHERE region = $1 AND state = $2 AND try_after <= $3 \
             ORDER BY requested_at, snapshot_id"
        ))
        .bind(region.as_str())
        .bind(CopyState::Wanted.as_str())
        .bind(now.0)
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(copy).collect()
    }

    /// Notes that a copy is made. `false` when it is not wanted any more.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn made(&self, lease: &CopyLease, snapshot: SnapshotId, now: WallTime) -> Result<bool> {
        let moves = transition::copy(CopyEvent::Made);
        let mut transaction = self.begin(lease).await?;
        let done = statement(format!(
            "UPDATE snapshot_copies SET state = {}, made_at = $3, error = NULL WHERE snapshot_id = $1 AND region = $2 \
             AND state IN {}",
            moves.next, moves.from
        ))
        .bind(snapshot.to_string())
        .bind(lease.region.as_str())
        .bind(now.0)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Enters a copy of a snapshot that is there and that the vault was found to have the manifest of: it is looked through, and made
    /// whole where it is not.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn found(&self, lease: &CopyLease, snapshot: SnapshotId, now: WallTime) -> Result<()> {
        let mut transaction = self.begin(lease).await?;
        decide::enter(&mut transaction, snapshot, &lease.region, now).await?;
        Ok(transaction.commit().await?)
    }

    /// Notes why a copy could not be made; it is due again at `try_after`.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn failed(
        &self,
        lease: &CopyLease,
        snapshot: SnapshotId,
        error: &str,
        try_after: WallTime,
    ) -> Result<()> {
        let mut transaction = self.begin(lease).await?;
        query("UPDATE snapshot_copies SET error = $3, try_after = $4 WHERE snapshot_id = $1 AND region = $2")
            .bind(snapshot.to_string())
            .bind(lease.region.as_str())
            .bind(plain(error))
            .bind(try_after.0)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Notes why none of the copies that are due in a region can be made, or the beginning of it; they stay due.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn all_failed(&self, lease: &CopyLease, error: &str, now: WallTime) -> Result<()> {
        let why: String = plain(error).chars().take(SHARED_ERROR_CHARACTERS_MAX).collect();
        let mut transaction = self.begin(lease).await?;
        query("UPDATE snapshot_copies SET error = $1 WHERE region = $2 AND state = $3 AND try_after <= $4")
            .bind(why)
            .bind(lease.region.as_str())
            .bind(CopyState::Wanted.as_str())
            .bind(now.0)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Forgets a copy that is not wanted, after its manifest was deleted; what it needed alone is to be swept.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn forget(&self, lease: &CopyLease, snapshot: SnapshotId) -> Result<()> {
        let mut transaction = self.begin(lease).await?;
        query(
            "DELETE FROM copied_objects WHERE region = $1 AND name IN \
             (SELECT manifest FROM snapshot_copies WHERE snapshot_id = $2 AND region = $1 AND state = $3)",
        )
        .bind(lease.region.as_str())
        .bind(snapshot.to_string())
        .bind(CopyState::Unwanted.as_str())
        .execute(&mut *transaction)
        .await?;
        query("DELETE FROM snapshot_copies WHERE snapshot_id = $1 AND region = $2 AND state = $3")
            .bind(snapshot.to_string())
            .bind(lease.region.as_str())
            .bind(CopyState::Unwanted.as_str())
            .execute(&mut *transaction)
            .await?;
        look_after(&mut transaction, &lease.region).await?;
        Ok(transaction.commit().await?)
    }

    /// Whether something may be at a place that no copy needs, from when on that is looked after, and when the place was listed last.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn upkeep(&self, region: &RegionName) -> Result<Upkeep> {
        let row =
            query("SELECT place, sweep_due, sweep_after, held, listed_at FROM copy_vaults WHERE region = $1")
                .bind(region.as_str())
                .fetch_optional(self.0.database.reader())
                .await?;
        let Some(row) = row else { return Ok(Upkeep::default()) };
        let is_condemned = query(
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM copied_objects WHERE region = $1 AND state = 'deleting') \
             THEN 1 ELSE 0 END AS condemned",
        )
        .bind(region.as_str())
        .fetch_one(self.0.database.reader())
        .await?
        .flag("condemned")?;
        Ok(Upkeep {
            is_begun: row.maybe_text("place")?.is_some(),
            is_sweep_due: row.flag("sweep_due")?,
            is_condemned,
            sweep_after: row.time("sweep_after")?,
            held: row.maybe_json("held")?,
            listed_at: row.time("listed_at")?,
        })
    }
}

/// Has a place looked through for what nothing needs any more.
pub(crate) async fn look_after(
    transaction: &mut sqlx::Transaction<'static, sqlx::Any>,
    region: &RegionName,
) -> Result<()> {
    query("UPDATE copy_vaults SET sweep_due = 1 WHERE region = $1")
        .bind(region.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// What there is to look after at a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Whether anything was ever put there.
    pub is_begun: bool,
    /// Whether something may be there that no copy needs.
    pub is_sweep_due: bool,
    /// Whether something is to be deleted, or was and nobody has said so.
    pub is_condemned: bool,
    /// Not before that time.
    pub sweep_after: WallTime,
    /// What held the last sweep up.
    pub held: Option<serde_json::Value>,
    /// When it was listed last.
    pub listed_at: WallTime,
}

fn copy(row: &AnyRow) -> Result<SnapshotCopy> {
    Ok(SnapshotCopy {
        snapshot_id: row.parsed("snapshot_id")?,
        region: row.parsed("region")?,
        state: row.parsed("state")?,
        manifest: row.text("manifest")?,
        requested_at: row.time("requested_at")?,
        made_at: row.maybe_time("made_at")?,
        error: row.maybe_text("error")?,
    })
}
