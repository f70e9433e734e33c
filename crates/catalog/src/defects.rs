//! Defects: collections of which it was found that they are not what is recorded of them. The next snapshot reads them
//! from the deployment instead of folding them, and mends that.

use model::{ClusterTime, CollectionUuid, WallTime, id::DeploymentId};
use sqlx::{any::AnyRow, query};

use crate::{
    Catalog, Result,
    row::{Columns, plain},
};

/// A collection that is not what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// Where.
    pub deployment_id: DeploymentId,
    /// The identity of the collection.
    pub collection: CollectionUuid,
    /// Its name when that was found.
    pub namespace: String,
    /// The cluster time of the states that differ.
    pub found: ClusterTime,
    /// When it was found.
    pub found_at: WallTime,
    /// What differs, in words and without documents.
    pub what: String,
}

/// Operations on defects.
#[derive(Debug, Clone, Copy)]
pub struct Defects<'a>(pub(crate) &'a Catalog);

impl Defects<'_> {
    /// Records a defect; the one that is known of the same collection gives way to it. Whether none was known.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn record(&self, defect: &Defect) -> Result<bool> {
        let mut transaction = self.0.database.begin().await?;
        let forgotten = query("DELETE FROM defects WHERE deployment_id = $1 AND collection_uuid = $2")
            .bind(defect.deployment_id.to_string())
            .bind(defect.collection.to_string())
            .execute(&mut *transaction)
            .await?;
        query(
            "INSERT INTO defects (deployment_id, collection_uuid, namespace, found_seconds, found_increment, found_at, \
             what) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (deployment_id, collection_uuid) DO NOTHING",
        )
        .bind(defect.deployment_id.to_string())
        .bind(defect.collection.to_string())
        .bind(plain(&defect.namespace))
        .bind(i64::from(defect.found.seconds))
        .bind(i64::from(defect.found.increment))
        .bind(defect.found_at.0)
        .bind(plain(&defect.what))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(forgotten.rows_affected() == 0)
    }

    /// The defects of a deployment, by the names of the collections.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn of(&self, deployment: DeploymentId) -> Result<Vec<Defect>> {
        let rows = query(
            "SELECT deployment_id, collection_uuid, namespace, found_seconds, found_increment, found_at, what \
             FROM defects WHERE deployment_id = $1 ORDER BY namespace, collection_uuid",
        )
        .bind(deployment.to_string())
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(defect).collect()
    }

    /// Forgets a defect that is mended; one that was found again since stays.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn mended(&self, defect: &Defect) -> Result<()> {
        query(
            "DELETE FROM defects WHERE deployment_id = $1 AND collection_uuid = $2 AND found_seconds = $3 \
             AND found_increment = $4",
        )
        .bind(defect.deployment_id.to_string())
        .bind(defect.collection.to_string())
        .bind(i64::from(defect.found.seconds))
        .bind(i64::from(defect.found.increment))
        .execute(self.0.database.writer())
        .await?;
        Ok(())
    }
}

fn defect(row: &AnyRow) -> Result<Defect> {
    Ok(Defect {
        deployment_id: row.parsed("deployment_id")?,
        collection: row.parsed("collection_uuid")?,
        namespace: row.text("namespace")?,
        found: row.cluster_time("found_seconds", "found_increment")?,
        found_at: row.time("found_at")?,
        what: row.text("what")?,
    })
}
