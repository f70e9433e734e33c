//! The right to work on a vault that is copied to.

use model::{WallTime, copy::RegionName};
use sqlx::{Any, Transaction, query};

use super::Copies;
use crate::{
    Error, Result,
    row::{Columns, statement},
};

/// The right to work on such a vault: one holder at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyLease {
    /// The vault.
    pub region: RegionName,
    /// The fencing token; also the number of the sweeps that its holder makes.
    pub generation: i64,
    /// Which place that is, where something was put there before.
    pub place: Option<String>,
}

impl Copies<'_> {
    /// Claims a vault, unless somebody else's claim is alive. Choose a lease far longer than one delete there can take.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn claim(
        &self,
        region: &RegionName,
        now: WallTime,
        lease_ms: i64,
    ) -> Result<Option<CopyLease>> {
        query(
            "INSERT INTO copy_vaults (region, generation, lease_until, sweep_due, sweep_after, listed_at) \
             VALUES ($1, 0, 0, 0, 0, 0) ON CONFLICT (region) DO NOTHING",
        )
        .bind(region.as_str())
        .execute(self.0.database.writer())
        .await?;
        let row = query(
            "UPDATE copy_vaults SET generation = generation + 1, lease_until = $3 WHERE region = $1 AND lease_until <= $2 \
             RETURNING generation, place",
        )
        .bind(region.as_str())
        .bind(now.0)
        .bind(now.plus_ms(lease_ms).0)
        .fetch_optional(self.0.database.writer())
        .await?;
        row.map(|row| {
            let (generation, place) = (row.int("generation")?, row.maybe_text("place")?);
            Ok(CopyLease { region: region.clone(), generation, place })
        })
        .transpose()
    }

    /// Renews the claim.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`]: stop at once.
    pub async fn renew(&self, lease: &CopyLease, now: WallTime, lease_ms: i64) -> Result<()> {
        let done = query("UPDATE copy_vaults SET lease_until = $3 WHERE region = $1 AND generation = $2")
            .bind(lease.region.as_str())
            .bind(lease.generation)
            .bind(now.plus_ms(lease_ms).0)
            .execute(self.0.database.writer())
            .await?;
        held(lease, done.rows_affected())
    }

    /// Gives the claim back, so that the next one need not wait for it to run out.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn release(&self, lease: &CopyLease) -> Result<()> {
        query("UPDATE copy_vaults SET lease_until = 0 WHERE region = $1 AND generation = $2")
            .bind(lease.region.as_str())
            .bind(lease.generation)
            .execute(self.0.database.writer())
            .await?;
        Ok(())
    }

    /// Notes which place it is that is worked at. `behind` tells that somebody has worked there with a generation that this catalog
    /// has forgotten, as one does that was put back from an older copy: then the place is to be listed, and the claim is over.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn settle(&self, lease: &CopyLease, place: &str, behind: Option<i64>) -> Result<()> {
        let mut transaction = self.begin(lease).await?;
        query("UPDATE copy_vaults SET place = $2 WHERE region = $1")
            .bind(lease.region.as_str())
            .bind(place)
            .execute(&mut *transaction)
            .await?;
        if let Some(generation) = behind {
            query("UPDATE copy_vaults SET generation = $2, lease_until = 0, listed_at = 0 WHERE region = $1")
                .bind(lease.region.as_str())
                .bind(generation)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Forgets everything about a region: what is at its place stays there, and another place may take the name. Refused while
    /// somebody works there.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`] while somebody works there.
    pub async fn forget_region(&self, region: &RegionName, now: WallTime) -> Result<()> {
        let mut transaction = self.0.database.begin().await?;
        // The row stays, and with it the number of the next claim: who was frozen over this holds nothing any more.
        let freed = query(
            "UPDATE copy_vaults SET generation = generation + 1, place = NULL, sweep_due = 0, sweep_after = 0, held = NULL, \
             listed_at = 0 WHERE region = $1 AND lease_until <= $2",
        )
        .bind(region.as_str())
        .bind(now.0)
        .execute(&mut *transaction)
        .await?;
        if freed.rows_affected() == 0 {
            let row = query("SELECT lease_until FROM copy_vaults WHERE region = $1")
                .bind(region.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
            if row.is_some() {
                return Err(Error::LeaseLost { what: format!("the copies in {region}") });
            }
        }
        for table in ["copied_objects", "snapshot_copies"] {
            statement(format!("DELETE FROM {table} WHERE region = $1"))
                .bind(region.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Begins a transaction that holds the claim until its end.
    pub(super) async fn begin(&self, lease: &CopyLease) -> Result<Transaction<'static, Any>> {
        let mut transaction = self.0.database.begin().await?;
        let done =
            query("UPDATE copy_vaults SET generation = generation WHERE region = $1 AND generation = $2")
                .bind(lease.region.as_str())
                .bind(lease.generation)
                .execute(&mut *transaction)
                .await?;
        held(lease, done.rows_affected())?;
        Ok(transaction)
    }
}

fn held(lease: &CopyLease, rows: u64) -> Result<()> {
    if rows == 0 { Err(Error::LeaseLost { what: format!("the copies in {}", lease.region) }) } else { Ok(()) }
}
