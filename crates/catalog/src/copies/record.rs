//! Slices of timelines in vaults that are copied to.

use model::{copy::RegionName, id::DeploymentId};
use sqlx::query;

use super::{Copies, CopyLease};
use crate::{
    Result,
    objects::names,
    row::{Columns, bulk, placeholders},
    schedules::copy_settings,
};

impl Copies<'_> {
    /// The deployments whose record is copied to a region.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn recorded_in(&self, region: &RegionName) -> Result<Vec<DeploymentId>> {
        let rows = query("SELECT deployment_id, copy_settings FROM schedules WHERE copy_settings <> '[]'")
            .fetch_all(self.0.database.reader())
            .await?;
        let mut recorded = vec![];
        for row in &rows {
            if copy_settings(row)?.of(region).is_some_and(|setting| setting.oplogs) {
                recorded.push(row.parsed("deployment_id")?);
            }
        }
        Ok(recorded)
    }

    /// Slices of a deployment that are in the vault and not in the one of this region, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn slices_due(
        &self,
        region: &RegionName,
        deployment: DeploymentId,
        limit: u32,
    ) -> Result<Vec<String>> {
        let rows = query(
            "SELECT s.name AS name FROM slices s JOIN timelines t ON t.id = s.timeline_id \
             WHERE t.deployment_id = $1 AND s.state = 'stored' AND NOT EXISTS (SELECT 1 FROM copied_objects c \
             WHERE c.region = $2 AND c.name = s.name AND c.state IN ('held', 'unreadable')) \
             ORDER BY t.started_at, t.id, s.sequence LIMIT $3",
        )
        .bind(deployment.to_string())
        .bind(region.as_str())
        .bind(i64::from(limit))
        .fetch_all(self.0.database.reader())
        .await?;
        names(&rows)
    }

    /// Notes that a slice cannot be read where it comes from. It is tried again after the next listing.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn unreadable(&self, lease: &CopyLease, slice: &str) -> Result<()> {
        let mut transaction = self.begin(lease).await?;
        query(
            "INSERT INTO copied_objects (region, name, stored_bytes, state, needed_in, seen_in) \
             VALUES ($1, $2, 0, 'unreadable', 0, $3) ON CONFLICT (region, name) DO UPDATE SET state = 'unreadable' \
             WHERE copied_objects.state IN ('found', 'damaged')",
        )
        .bind(lease.region.as_str())
        .bind(slice)
        .bind(lease.generation)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Has those slices deleted that are known to be of a deployment whose record is not copied here any more, or does not have them
    /// any more. What nobody knows the deployment of stays: it may be all that is left of a record.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn condemn_slices(&self, lease: &CopyLease, recorded: &[DeploymentId]) -> Result<u64> {
        let is_recorded = if recorded.is_empty() {
            "1 = 0".to_owned()
        } else {
            format!("deployment_id IN ({})", placeholders(2, recorded.len()))
        };
        let mut transaction = self.begin(lease).await?;
        let mut update = bulk(format!(
            "UPDATE copied_objects SET state = 'deleting' WHERE region = $1 AND state IN ('held', 'found', 'damaged') \
             AND name LIKE 'slice/%' AND deployment_id IS NOT NULL \
             AND NOT ({is_recorded} AND EXISTS (SELECT 1 FROM slices s WHERE s.name = copied_objects.name))"
        ))
        .bind(lease.region.as_str());
        for deployment in recorded {
            update = update.bind(deployment.to_string());
        }
        let condemned = update.execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
        Ok(condemned)
    }
}
