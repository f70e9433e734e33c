//! Buckets that snapshots are exported to.

use model::{
    WallTime,
    export::PlaceName,
    id::{ExportBucketId, ProjectId},
};
use sqlx::{Any, Transaction, any::AnyRow};

use crate::{
    Catalog, Conflict, Error, Listing, Page, Result, compliance, new_id,
    row::{Columns, plain, statement},
};

const COLUMNS: &str = "id, project_id, place, iam_role_id, created_at, deleted_at";

/// A bucket that snapshots are exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportBucket {
    /// Its id.
    pub id: ExportBucketId,
    /// Its project.
    pub project_id: ProjectId,
    /// The place in the servers' configuration that it means.
    pub place: PlaceName,
    /// What was given as the role to use; kept, shown, and of no use here.
    pub iam_role_id: String,
    /// When it was registered.
    pub created_at: WallTime,
    /// When it was deleted, if it is.
    pub deleted_at: Option<WallTime>,
}

/// What is needed to register a bucket.
#[derive(Debug, Clone)]
pub struct NewExportBucket {
    /// Its project.
    pub project_id: ProjectId,
    /// The place that it means.
    pub place: PlaceName,
    /// The role that was given with it.
    pub iam_role_id: String,
}

/// Operations on export buckets.
#[derive(Debug, Clone, Copy)]
pub struct ExportBuckets<'a>(pub(crate) &'a Catalog);

impl ExportBuckets<'_> {
    /// Registers a bucket.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a project.
    pub async fn add(&self, new: NewExportBucket, now: WallTime) -> Result<ExportBucket> {
        let mut transaction = self.0.database.begin().await?;
        compliance::of_locked_project(&mut transaction, new.project_id).await?;
        let row = statement(format!(
            "INSERT INTO export_buckets ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, NULL) RETURNING {COLUMNS}"
        ))
        .bind(new_id::<ExportBucket>(now).to_string())
        .bind(new.project_id.to_string())
        .bind(new.place.as_str())
        .bind(plain(&new.iam_role_id))
        .bind(now.0)
        .fetch_one(&mut *transaction)
        .await?;
        let added = bucket(&row)?;
        transaction.commit().await?;
        Ok(added)
    }

    /// The bucket of that id, deleted or not: look at `deleted_at`.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: ExportBucketId) -> Result<Option<ExportBucket>> {
        let row = statement(format!("SELECT {COLUMNS} FROM export_buckets WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(bucket).transpose()
    }

    /// The buckets of a project that are not deleted, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, project: ProjectId, page: Page) -> Result<Listing<ExportBucket>> {
        const WANTED: &str = "FROM export_buckets WHERE project_id = $1 AND deleted_at IS NULL";
        let project = project.to_string();
        let rows = statement(format!("SELECT {COLUMNS} {WANTED} ORDER BY created_at, id LIMIT $2 OFFSET $3"))
            .bind(&project)
            .bind(page.limit())
            .bind(page.offset())
            .fetch_all(self.0.database.reader())
            .await?;
        let count = statement(format!("SELECT COUNT(*) AS total {WANTED}")).bind(&project);
        let total = self.0.total(page, count).await?;
        Ok(Listing { items: rows.iter().map(bucket).collect::<Result<_>>()?, total })
    }

    /// Deletes a bucket; what was exported to it stays where it lies.
    ///
    /// # Errors
    /// [`crate::Conflict::BucketInUse`] while an export to it is queued or under way, or a schedule exports to it;
    /// [`crate::Error::NotFound`], also when it is deleted already.
    pub async fn delete(&self, id: ExportBucketId, now: WallTime) -> Result<()> {
        let mut transaction = self.0.database.begin().await?;
        // The lock comes first: what is asked for while we wait for it is seen by the check below.
        lock(&mut transaction, id).await?;
        let done = statement(format!(
            "UPDATE export_buckets SET deleted_at = $2 WHERE id = $1 AND NOT EXISTS {USED_BY_AN_EXPORT} \
             AND NOT EXISTS {USED_BY_A_SCHEDULE}"
        ))
        .bind(id.to_string())
        .bind(now.0)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Conflict::BucketInUse.into());
        }
        Ok(transaction.commit().await?)
    }
}

const USED_BY_AN_EXPORT: &str = "(SELECT 1 FROM export_jobs e WHERE e.bucket_id = $1 \
                                 AND e.state IN ('queued', 'inProgress', 'cancelling'))";

const USED_BY_A_SCHEDULE: &str =
    "(SELECT 1 FROM schedules s WHERE s.export_bucket_id = $1 AND s.auto_export = 1)";

/// Locks a bucket that is not deleted, so that nothing is asked of it while it is being deleted, and the other way round.
/// Gives its project.
pub(crate) async fn lock(
    transaction: &mut Transaction<'static, Any>,
    id: ExportBucketId,
) -> Result<ProjectId> {
    let row = sqlx::query(
        "UPDATE export_buckets SET place = place WHERE id = $1 AND deleted_at IS NULL RETURNING project_id",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Error::not_found("export bucket", id))?;
    row.parsed("project_id")
}

fn bucket(row: &AnyRow) -> Result<ExportBucket> {
    Ok(ExportBucket {
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        place: row.parsed("place")?,
        iam_role_id: row.text("iam_role_id")?,
        created_at: row.time("created_at")?,
        deleted_at: row.maybe_time("deleted_at")?,
    })
}
