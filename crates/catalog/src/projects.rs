//! Projects: what owns deployments and snapshots. Atlas calls them groups.

use model::{WallTime, id::ProjectId};

use sqlx::{Any, Transaction, any::AnyRow, query};

use crate::{
    Catalog, Conflict, Error, Listing, Page, Result, compliance,
    error::is_duplicate,
    new_id,
    row::{Columns, plain},
};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name, unique on this server.
    pub name: String,
    /// When it was made.
    pub created_at: WallTime,
}

/// Operations on projects.
#[derive(Debug, Clone, Copy)]
pub struct Projects<'a>(pub(crate) &'a Catalog);

impl Projects<'_> {
    /// Makes a project.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyExists`] when the name is taken.
    pub async fn create(&self, name: &str, now: WallTime) -> Result<Project> {
        let project = Project { id: new_id(now), name: plain(name), created_at: now };
        let inserted = query("INSERT INTO projects (id, name, created_at) VALUES ($1, $2, $3)")
            .bind(project.id.to_string())
            .bind(&project.name)
            .bind(now.0)
            .execute(self.0.database.writer())
            .await;
        match inserted {
            Ok(_) => Ok(project),
            Err(error) if is_duplicate(&error) => {
                Err(Error::AlreadyExists { what: "project", name: project.name })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The project of that id.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: ProjectId) -> Result<Option<Project>> {
        let row = query("SELECT id, name, created_at FROM projects WHERE id = $1 AND deleted_at IS NULL")
            .bind(id.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(project).transpose()
    }

    /// The project of that name.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn by_name(&self, name: &str) -> Result<Option<Project>> {
        let row = query("SELECT id, name, created_at FROM projects WHERE name = $1 AND deleted_at IS NULL")
            .bind(plain(name))
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(project).transpose()
    }

    /// Gives a project another name.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyExists`] when the name is taken, [`crate::Error::NotFound`].
    pub async fn rename(&self, id: ProjectId, name: &str) -> Result<Project> {
        let name = plain(name);
        let renamed = query(
            "UPDATE projects SET name = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING id, name, created_at",
        )
        .bind(id.to_string())
        .bind(&name)
        .fetch_optional(self.0.database.writer())
        .await;
        match renamed {
            Ok(Some(row)) => project(&row),
            Ok(None) => Err(Error::not_found("project", id)),
            Err(error) if is_duplicate(&error) => Err(Error::AlreadyExists { what: "project", name }),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a project that has nothing any more: no deployments, no snapshots, no compliance policy. Roles in it are taken from
    /// everybody, and credentials that have no other are deleted; its export buckets are forgotten. What tells of it, such as the
    /// audit log, stays.
    ///
    /// # Errors
    /// [`Conflict::ProjectHasDeployments`], [`Conflict::ProjectHasSnapshots`], [`Conflict::ProjectHasPolicy`],
    /// [`crate::Error::NotFound`].
    pub async fn delete(&self, id: ProjectId, now: WallTime) -> Result<()> {
        let mut transaction = self.0.database.begin().await?;
        // Locked first: whoever registers a deployment locks it too.
        if compliance::of_locked_project(&mut transaction, id).await?.is_some() {
            return Err(Conflict::ProjectHasPolicy.into());
        }
        let deployments = count(
            &mut transaction,
            "SELECT COUNT(*) AS number FROM deployments WHERE project_id = $1 AND removed_at IS NULL",
            id,
        )
        .await?;
        if deployments > 0 {
            return Err(Conflict::ProjectHasDeployments { deployments }.into());
        }
        let snapshots = count(
            &mut transaction,
            "SELECT COUNT(*) AS number FROM snapshots WHERE project_id = $1 \
             AND state IN ('queued', 'inProgress', 'completed')",
            id,
        )
        .await?;
        if snapshots > 0 {
            return Err(Conflict::ProjectHasSnapshots { snapshots }.into());
        }
        for statement in [
            "DELETE FROM credentials WHERE id IN (SELECT credential_id FROM grants WHERE project_id = $1) AND NOT EXISTS \
             (SELECT 1 FROM grants g WHERE g.credential_id = credentials.id AND g.project_id <> $1)",
            "DELETE FROM grants WHERE project_id = $1",
        ] {
            query(statement).bind(id.to_string()).execute(&mut *transaction).await?;
        }
        query("UPDATE export_buckets SET deleted_at = $2 WHERE project_id = $1 AND deleted_at IS NULL")
            .bind(id.to_string())
            .bind(now.0)
            .execute(&mut *transaction)
            .await?;
        // Nobody calls a project like that.
        query("UPDATE projects SET name = ' ' || id, deleted_at = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(now.0)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// All projects, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, page: Page) -> Result<Listing<Project>> {
        let rows =
            query("SELECT id, name, created_at FROM projects WHERE deleted_at IS NULL ORDER BY created_at, id LIMIT $1 OFFSET $2")
                .bind(page.limit())
                .bind(page.offset())
                .fetch_all(self.0.database.reader())
                .await?;
        let total = self
            .0
            .total(page, query("SELECT COUNT(*) AS total FROM projects WHERE deleted_at IS NULL"))
            .await?;
        Ok(Listing { items: rows.iter().map(project).collect::<Result<_>>()?, total })
    }
}

async fn count(
    transaction: &mut Transaction<'static, Any>,
    select: &'static str,
    project: ProjectId,
) -> Result<u64> {
    let row = query(select).bind(project.to_string()).fetch_one(&mut **transaction).await?;
    Ok(row.int("number")?.unsigned_abs())
}

fn project(row: &AnyRow) -> Result<Project> {
    Ok(Project { id: row.parsed("id")?, name: row.text("name")?, created_at: row.time("created_at")? })
}
