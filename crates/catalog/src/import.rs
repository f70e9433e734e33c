//! Building the catalog again from what the vault tells. All of it can be done twice without harm.

use model::{job::JobState, snapshot::SnapshotState};
use sqlx::{Any, Transaction, query};

use crate::{
    Catalog, Deployment, Error, Project, Result, Snapshot,
    error::is_duplicate,
    row::{Columns, plain, stored, to_json},
};

type Tx = Transaction<'static, Any>;

/// Of a name that an id of 24 digits is added to, so that both have the 64 characters that a name may have.
const NAME_CHARACTERS_KEPT: usize = 39;

impl Catalog {
    /// Enters a project; an existing one of that id stays as it is. Where another one has the name by now, since a project was
    /// renamed or deleted after the vault was told of it, it gets its id added to its name.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn import_project(&self, project: &Project) -> Result<()> {
        let name = plain(&project.name);
        match self.insert_project(project, &name).await {
            Err(error) if is_duplicate(&error) => {
                let short: String = name.chars().take(NAME_CHARACTERS_KEPT).collect();
                Ok(self.insert_project(project, &format!("{short} {}", project.id)).await?)
            }
            other => Ok(other?),
        }
    }

    async fn insert_project(&self, project: &Project, name: &str) -> Result<(), sqlx::Error> {
        query("INSERT INTO projects (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING")
            .bind(project.id.to_string())
            .bind(name)
            .bind(project.created_at.0)
            .execute(self.database.writer())
            .await
            .map(drop)
    }

    /// Enters a deployment as a removed one, since its connection string is not in the vault: adding it again
    /// under its name gives it back with its snapshots, and with its continuous backup. An existing one of that id stays as it is.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyExists`] when another deployment of the project has the name.
    pub async fn import_deployment(&self, deployment: &Deployment) -> Result<()> {
        let inserted = query(
            "INSERT INTO deployments (id, project_id, name, kind, uri_sealed, options, replica_set_name, \
             mongodb_version, details, created_at, removed_at, pit_enabled, restore_window_days) \
             VALUES ($1, $2, $3, $4, '', $5, $6, $7, $8, $9, $9, $10, $11) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(deployment.id.to_string())
        .bind(deployment.project_id.to_string())
        .bind(deployment.name.as_str())
        .bind(deployment.kind.as_str())
        .bind(to_json(&deployment.options))
        .bind(deployment.facts.replica_set_name.as_deref())
        .bind(deployment.facts.mongodb_version.as_deref())
        .bind(to_json(&deployment.facts.details))
        .bind(deployment.created_at.0)
        .bind(i64::from(deployment.continuous.pit_enabled))
        .bind(i64::from(deployment.continuous.restore_window_days.days()))
        .execute(self.database.writer())
        .await;
        match inserted {
            Err(error) if is_duplicate(&error) => {
                Err(Error::AlreadyExists { what: "deployment", name: deployment.name.to_string() })
            }
            other => Ok(other.map(drop)?),
        }
    }

    /// Enters a completed snapshot; `false` when it is known as such already, or was deleted. One that is still to be taken, or
    /// that failed, is completed and its job ends, as in a catalog that was put back from a copy that is older than its end.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn import_snapshot(&self, snapshot: &Snapshot) -> Result<bool> {
        let mut transaction = self.database.begin().await?;
        end_job(&mut transaction, snapshot).await?;
        if enter_snapshot(&mut transaction, snapshot).await? == 0 {
            return Ok(false);
        }
        // What was about to be deleted may be of this one. Forgotten, it is nothing that a snapshot relies on without storing it anew,
        // and the collector finds it in the vault again.
        query("DELETE FROM objects WHERE state = 'deleting'").execute(&mut *transaction).await?;
        // A cycle of the collector that has read the roots without this one must not go on by them.
        query("UPDATE collector SET generation = generation + 1 WHERE id = 1")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Whether a job that has not ended has pinned the object. A job pins the root of its manifest before it stores it.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn is_pinned(&self, name: &str) -> Result<bool> {
        // Read where it is written: an older view of the file must not decide what is garbage.
        let pin = query("SELECT name FROM job_objects WHERE name = $1 LIMIT 1")
            .bind(name)
            .fetch_optional(self.database.writer())
            .await?;
        Ok(pin.is_some())
    }
}

/// Ends the job that would take the snapshot, and lets go of what it pinned. The epoch moves on, so that whoever holds it
/// writes nothing any more.
async fn end_job(transaction: &mut Tx, snapshot: &Snapshot) -> Result<()> {
    let ended = query(
        "UPDATE jobs SET state = $2, lease_owner = NULL, lease_epoch = lease_epoch + 1, ended_at = $3 \
         WHERE subject_id = $1 AND state IN ('queued', 'running') RETURNING id",
    )
    .bind(snapshot.id.to_string())
    .bind(JobState::Succeeded.as_str())
    .bind(completed_at(snapshot))
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some(job) = ended {
        query("DELETE FROM job_objects WHERE job_id = $1")
            .bind(job.text("id")?)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// Inserts a completed snapshot, or completes one that is known and has never been; how many rows that changed.
async fn enter_snapshot(transaction: &mut Tx, snapshot: &Snapshot) -> Result<u64> {
    let done = query(
        "INSERT INTO snapshots (id, project_id, deployment_id, state, snapshot_type, description, retention_days, \
         requested_at, completed_at, expires_at, cluster_seconds, cluster_increment, manifest, mongod_version, fcv, \
         replica_set_name, collections, documents, logical_bytes, stored_bytes, added_bytes, notes, \
         last_as_of_seconds, last_as_of_increment, amid_restore) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, \
         $24, $25) \
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, completed_at = excluded.completed_at, \
         expires_at = excluded.expires_at, cluster_seconds = excluded.cluster_seconds, \
         cluster_increment = excluded.cluster_increment, manifest = excluded.manifest, \
         mongod_version = excluded.mongod_version, fcv = excluded.fcv, replica_set_name = excluded.replica_set_name, \
         collections = excluded.collections, documents = excluded.documents, logical_bytes = excluded.logical_bytes, \
         stored_bytes = excluded.stored_bytes, added_bytes = excluded.added_bytes, notes = excluded.notes, \
         last_as_of_seconds = excluded.last_as_of_seconds, last_as_of_increment = excluded.last_as_of_increment, \
         amid_restore = excluded.amid_restore, error = NULL \
         WHERE snapshots.state IN ('queued', 'inProgress', 'failed') AND snapshots.manifest IS NULL",
    )
    .bind(snapshot.id.to_string())
    .bind(snapshot.project_id.to_string())
    .bind(snapshot.deployment_id.to_string())
    .bind(SnapshotState::Completed.as_str())
    .bind(snapshot.snapshot_type.as_str())
    .bind(snapshot.description.as_deref().map(plain))
    .bind(snapshot.retention_days.map(i64::from))
    .bind(snapshot.requested_at.0)
    .bind(completed_at(snapshot))
    .bind(snapshot.expires_at.map(|t| t.0))
    .bind(snapshot.cluster_time.map(|t| i64::from(t.seconds)))
    .bind(snapshot.cluster_time.map(|t| i64::from(t.increment)))
    .bind(snapshot.manifest.as_deref())
    .bind(snapshot.mongod_version.as_deref())
    .bind(snapshot.fcv.as_deref())
    .bind(snapshot.replica_set_name.as_deref())
    .bind(stored(snapshot.collections))
    .bind(stored(snapshot.documents))
    .bind(stored(snapshot.logical_bytes))
    .bind(stored(snapshot.stored_bytes))
    .bind(stored(snapshot.added_bytes))
    .bind(to_json(&snapshot.notes))
    .bind(snapshot.last_as_of.map(|t| i64::from(t.seconds)))
    .bind(snapshot.last_as_of.map(|t| i64::from(t.increment)))
    .bind(i64::from(snapshot.amid_restore))
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected())
}

fn completed_at(snapshot: &Snapshot) -> i64 {
    snapshot.completed_at.unwrap_or(snapshot.requested_at).0
}
