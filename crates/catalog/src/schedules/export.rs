//! Which snapshots that schedules took are to be exported by themselves.

use model::{
    id::{DeploymentId, ExportBucketId, SnapshotId},
    schedule::{AutoExport, ExportPolicy, Policy},
};
use sqlx::query;

use super::{Schedules, auto_export};
use crate::{Result, row::Columns};

/// A snapshot that its schedule exports, and has not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueExport {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Where to.
    pub bucket_id: ExportBucketId,
}

impl Schedules<'_> {
    /// What is to be exported by now, oldest first. One that somebody exports in this moment waits; one whose export failed is
    /// not exported again by itself.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn exports_due(&self) -> Result<Vec<DueExport>> {
        // One that stands for several items has several ids, with commas between them.
        let rows = query(
            "SELECT s.id AS id, s.deployment_id AS deployment_id, s.frequency AS frequency, s.policy_items AS policy_items, \
             c.items AS items, c.export_bucket_id AS export_bucket_id, c.export_frequency AS export_frequency, \
             c.auto_export AS auto_export FROM schedules c JOIN snapshots s ON s.deployment_id = c.deployment_id \
             WHERE c.auto_export = 1 AND s.state = 'completed' AND s.due_at IS NOT NULL AND s.completed_at >= c.export_from \
             AND (s.frequency LIKE c.export_frequency || '/%' OR s.policy_items LIKE '%,%') \
             AND NOT EXISTS (SELECT 1 FROM export_jobs e WHERE e.snapshot_id = s.id \
             AND (e.scheduled = 1 OR e.state IN ('queued', 'inProgress', 'cancelling'))) ORDER BY s.completed_at, s.id",
        )
        .fetch_all(self.0.database.reader())
        .await?;
        let mut due = vec![];
        for row in &rows {
            let AutoExport::On(export) = auto_export(row)? else { continue };
            let (policy, counted_as) = (row.json::<Policy>("items")?, row.parsed("frequency")?);
            if ExportPolicy::wants(&export, &policy, counted_as, &row.json::<Vec<_>>("policy_items")?) {
                due.push(DueExport {
                    deployment_id: row.parsed("deployment_id")?,
                    snapshot_id: row.parsed("id")?,
                    bucket_id: export.bucket_id,
                });
            }
        }
        Ok(due)
    }
}
