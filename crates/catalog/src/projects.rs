//! Projects: what owns deployments and snapshots. Atlas calls them groups.

use model::{WallTime, id::ProjectId};

use sqlx::{any::AnyRow, query};

use crate::{
    Catalog, Error, Listing, Page, Result,
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
        let row = query("SELECT id, name, created_at FROM projects WHERE id = $1")
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
        let row = query("SELECT id, name, created_at FROM projects WHERE name = $1")
            .bind(plain(name))
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(project).transpose()
    }

    /// All projects, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, page: Page) -> Result<Listing<Project>> {
        let rows =
            query("SELECT id, name, created_at FROM projects ORDER BY created_at, id LIMIT $1 OFFSET $2")
                .bind(page.limit())
                .bind(page.offset())
                .fetch_all(self.0.database.reader())
                .await?;
        let total = self.0.total(page, query("SELECT COUNT(*) AS total FROM projects")).await?;
        Ok(Listing { items: rows.iter().map(project).collect::<Result<_>>()?, total })
    }
}

fn project(row: &AnyRow) -> Result<Project> {
    Ok(Project { id: row.parsed("id")?, name: row.text("name")?, created_at: row.time("created_at")? })
}
