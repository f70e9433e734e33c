//! Deployments: what is backed up and restored to. Atlas calls them clusters.

use model::{
    ContinuousBackup, DeploymentKind, DeploymentName, RestoreWindowDays, WallTime,
    id::{DeploymentId, ProjectId},
};
use serde_json::Value;
use sqlx::{Any, Transaction, any::AnyRow, query};

use crate::{
    Catalog, Conflict, Error, Listing, Obligation, Page, Result, Sealed, compliance,
    error::{is_duplicate, is_orphan},
    exports, new_id, obligations,
    row::{Columns, statement, to_json},
    schedules, timelines,
};

const COLUMNS: &str = "id, project_id, name, kind, uri_sealed, options, replica_set_name, replica_set_id, \
                       mongodb_version, details, checked_at, created_at, removed_at, pit_enabled, restore_window_days";

/// A deployment. A removed one keeps its id, its name and its snapshots.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Its id; adding it again under the same name gives the same id.
    pub id: DeploymentId,
    /// Its project.
    pub project_id: ProjectId,
    /// Its name, unique in the project.
    pub name: DeploymentName,
    /// How the API shows it.
    pub kind: DeploymentKind,
    /// The connection string, sealed with the master key.
    pub uri_sealed: Sealed,
    /// What the operator chose for it.
    pub options: Value,
    /// What was last seen of it.
    pub facts: DeploymentFacts,
    /// Whether its operations are recorded.
    pub continuous: ContinuousBackup,
    /// When it was added first.
    pub created_at: WallTime,
    /// When it was removed, if it is.
    pub removed_at: Option<WallTime>,
}

/// What was last seen of a deployment. A cache for lists: whoever acts asks the deployment itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeploymentFacts {
    /// Name of the replica set.
    pub replica_set_name: Option<String>,
    /// The id that the set got when it was initiated: the same under whatever names it is registered.
    pub replica_set_id: Option<String>,
    /// Version of mongod.
    pub mongodb_version: Option<String>,
    /// Feature compatibility version, members and whatever else is worth showing.
    pub details: Value,
    /// When these were read.
    pub checked_at: Option<WallTime>,
}

/// What is needed to add a deployment.
#[derive(Debug, Clone)]
pub struct NewDeployment {
    /// Its project.
    pub project_id: ProjectId,
    /// Its name.
    pub name: DeploymentName,
    /// How the API shows it.
    pub kind: DeploymentKind,
    /// The connection string, sealed.
    pub uri_sealed: Sealed,
    /// What the operator chose for it.
    pub options: Value,
    /// What the check before adding saw.
    pub facts: DeploymentFacts,
    /// Whether its operations are to be recorded. Without it, one that comes back has what it had ([`Deployments::remove`]
    /// switches the recording off, a rebuilt catalog leaves it on), and a new one the default: it is off.
    pub continuous: Option<ContinuousBackup>,
}

/// Operations on deployments.
#[derive(Debug, Clone, Copy)]
pub struct Deployments<'a>(pub(crate) &'a Catalog);

impl Deployments<'_> {
    /// Adds a deployment, or puts back a removed one of that name with its id and snapshots. Where the project has a compliance
    /// policy, it begins with the schedule that this asks for.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyExists`] when the name is taken, [`crate::Conflict::Forbidden`] when a compliance policy asks for
    /// continuous backup and it has none, [`crate::Error::NotFound`] without such a project.
    pub async fn add(&self, new: NewDeployment, now: WallTime) -> Result<Deployment> {
        let sql = format!(
            "INSERT INTO deployments ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, \
             COALESCE($13, 0), COALESCE($14, {default_days})) \
             ON CONFLICT (project_id, name) DO UPDATE SET kind = excluded.kind, uri_sealed = excluded.uri_sealed, \
             options = excluded.options, replica_set_name = excluded.replica_set_name, \
             replica_set_id = excluded.replica_set_id, mongodb_version = excluded.mongodb_version, details = excluded.details, \
             checked_at = excluded.checked_at, removed_at = NULL, pit_enabled = COALESCE($13, deployments.pit_enabled), \
             restore_window_days = COALESCE($14, deployments.restore_window_days) \
             WHERE deployments.removed_at IS NOT NULL RETURNING {COLUMNS}",
            default_days = RestoreWindowDays::DEFAULT.days()
        );
        let mut transaction = self.0.database.begin().await?;
        let policy = compliance::of_locked_project(&mut transaction, new.project_id).await?;
        let row = statement(sql)
            .bind(new_id::<Deployment>(now).to_string())
            .bind(new.project_id.to_string())
            .bind(new.name.as_str())
            .bind(new.kind.as_str())
            .bind(&new.uri_sealed.0)
            .bind(to_json(&new.options))
            .bind(new.facts.replica_set_name.as_deref())
            .bind(new.facts.replica_set_id.as_deref())
            .bind(new.facts.mongodb_version.as_deref())
            .bind(to_json(&new.facts.details))
            .bind(new.facts.checked_at.map(|t| t.0))
            .bind(now.0)
            .bind(new.continuous.map(|continuous| i64::from(continuous.pit_enabled)))
            .bind(new.continuous.map(|continuous| i64::from(continuous.restore_window_days.days())))
            .fetch_optional(&mut *transaction)
            .await;
        match row {
            Ok(Some(row)) => {
                let mut added = deployment(&row)?;
                if let Some(policy) = &policy {
                    compliance::begin(&mut transaction, &mut added, policy, now).await?;
                }
                transaction.commit().await?;
                Ok(added)
            }
            Ok(None) => Err(Error::AlreadyExists { what: "deployment", name: new.name.to_string() }),
            Err(error) if is_duplicate(&error) => {
                Err(Error::AlreadyExists { what: "deployment", name: new.name.to_string() })
            }
            Err(error) if is_orphan(&error) => Err(Error::not_found("project", new.project_id)),
            Err(error) => Err(error.into()),
        }
    }

    /// The deployment of that id, removed or not.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: DeploymentId) -> Result<Option<Deployment>> {
        let row = statement(format!("SELECT {COLUMNS} FROM deployments WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(deployment).transpose()
    }

    /// The deployment of that name, removed or not: look at `removed_at`.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn by_name(&self, project: ProjectId, name: &str) -> Result<Option<Deployment>> {
        let Ok(name) = name.parse::<DeploymentName>() else { return Ok(None) };
        let row = statement(format!("SELECT {COLUMNS} FROM deployments WHERE project_id = $1 AND name = $2"))
            .bind(project.to_string())
            .bind(name.as_str())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(deployment).transpose()
    }

    /// The deployments of a project (of one kind, or all) that are not removed, by name.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(
        &self,
        project: ProjectId,
        kind: Option<DeploymentKind>,
        page: Page,
    ) -> Result<Listing<Deployment>> {
        const WANTED: &str =
            "FROM deployments WHERE project_id = $1 AND ($2 IS NULL OR kind = $2) AND removed_at IS NULL";
        let (project, kind) = (project.to_string(), kind.map(DeploymentKind::as_str));
        let rows = statement(format!("SELECT {COLUMNS} {WANTED} ORDER BY name LIMIT $3 OFFSET $4"))
            .bind(&project)
            .bind(kind)
            .bind(page.limit())
            .bind(page.offset())
            .fetch_all(self.0.database.reader())
            .await?;
        let count = statement(format!("SELECT COUNT(*) AS total {WANTED}")).bind(&project).bind(kind);
        let total = self.0.total(page, count).await?;
        Ok(Listing { items: rows.iter().map(deployment).collect::<Result<_>>()?, total })
    }

    /// Records what was seen of a deployment.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    pub async fn update_facts(&self, id: DeploymentId, facts: &DeploymentFacts) -> Result<()> {
        let done = query(
            "UPDATE deployments SET replica_set_name = $2, replica_set_id = $3, mongodb_version = $4, details = $5, \
             checked_at = $6 WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(facts.replica_set_name.as_deref())
        .bind(facts.replica_set_id.as_deref())
        .bind(facts.mongodb_version.as_deref())
        .bind(to_json(&facts.details))
        .bind(facts.checked_at.map(|t| t.0))
        .execute(self.0.database.writer())
        .await?;
        found(done.rows_affected(), id)
    }

    /// Replaces the connection string, and with it what is known of the deployment by what was seen through the new one:
    /// it has to lead to the replica set that is registered. Where the id of that is not known yet, any will do.
    ///
    /// # Errors
    /// [`crate::Conflict::OtherReplicaSet`], [`crate::Error::NotFound`], also when the deployment is removed.
    pub async fn replace_uri(
        &self,
        id: DeploymentId,
        uri_sealed: &Sealed,
        facts: &DeploymentFacts,
    ) -> Result<Deployment> {
        self.update(id, Some((uri_sealed, facts)), None).await
    }

    /// Changes what is given of a deployment, all or nothing: its connection string as [`Deployments::replace_uri`] does, and
    /// whether it is recorded as [`crate::Timelines::set_continuous_backup`] does.
    ///
    /// # Errors
    /// [`crate::Conflict::OtherReplicaSet`], [`crate::Conflict::Forbidden`] when a compliance policy asks for more,
    /// [`crate::Error::NotFound`], also when the deployment is removed.
    pub async fn update(
        &self,
        id: DeploymentId,
        uri: Option<(&Sealed, &DeploymentFacts)>,
        continuous: Option<ContinuousBackup>,
    ) -> Result<Deployment> {
        let mut transaction = self.0.database.begin().await?;
        let locked = lock(&mut transaction, id).await?;
        if let Some((uri_sealed, facts)) = uri {
            put_uri(&mut transaction, id, &locked, uri_sealed, facts).await?;
        }
        if let Some(wanted) = continuous {
            timelines::set_continuous(&mut transaction, id, locked.project_id, wanted).await?;
        }
        let row = statement(format!("SELECT {COLUMNS} FROM deployments WHERE id = $1"))
            .bind(id.to_string())
            .fetch_one(&mut *transaction)
            .await?;
        let updated = deployment(&row)?;
        transaction.commit().await?;
        Ok(updated)
    }

    /// Removes a deployment: its connection string and its schedule are forgotten, its snapshots stay. Its timeline ends,
    /// it is not recorded any more, and what is exported of it is cancelled.
    ///
    /// # Errors
    /// [`crate::Conflict::DeploymentBusy`] while a snapshot or restore of it is queued or running,
    /// [`crate::Conflict::NotUndone`] while there are obligations on it, [`crate::Error::NotFound`].
    pub async fn remove(&self, id: DeploymentId, now: WallTime) -> Result<()> {
        self.remove_when(id, now, |left| match left {
            [] => Ok(()),
            left => {
                let told = left.iter().map(|o| format!("{} {} of job {}", o.kind, o.detail, o.job_id));
                Err(Conflict::NotUndone { what: told.collect::<Vec<_>>().join(", ") }.into())
            }
        })
        .await
        .map(drop)
    }

    /// Removes a deployment as [`Deployments::remove`] does, and forgets what would have to be undone on it. Tells what
    /// that was.
    ///
    /// # Errors
    /// [`crate::Conflict::DeploymentBusy`], [`crate::Error::NotFound`].
    pub async fn remove_by_force(&self, id: DeploymentId, now: WallTime) -> Result<Vec<Obligation>> {
        self.remove_when(id, now, |_| Ok(())).await
    }

    async fn remove_when(
        &self,
        id: DeploymentId,
        now: WallTime,
        may_forget: fn(&[Obligation]) -> Result<()>,
    ) -> Result<Vec<Obligation>> {
        let mut transaction = self.0.database.begin().await?;
        // The lock comes first: what is asked for while we wait for it is seen by the check below.
        lock(&mut transaction, id).await?;
        let done = query(
            "UPDATE deployments SET removed_at = $2, uri_sealed = '', pit_enabled = 0 WHERE id = $1 \
             AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.deployment_id = $1 AND s.state IN ('queued', 'inProgress')) \
             AND NOT EXISTS (SELECT 1 FROM restore_jobs r WHERE r.target_deployment_id = $1 \
             AND r.state IN ('queued', 'running', 'cancelling', 'cutOver'))",
        )
        .bind(id.to_string())
        .bind(now.0)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Conflict::DeploymentBusy.into());
        }
        timelines::end_of_removed(&mut transaction, id, now).await?;
        schedules::forget(&mut transaction, id).await?;
        exports::cancel_of_removed(&mut transaction, id, now).await?;
        // Of ended jobs, since no other is left.
        let left = obligations::take_all(&mut transaction, id).await?;
        may_forget(&left)?;
        transaction.commit().await?;
        Ok(left)
    }
}

/// A deployment that is held for the rest of a transaction.
pub(crate) struct Locked {
    pub(crate) project_id: ProjectId,
    pub(crate) name: DeploymentName,
    pub(crate) replica_set_id: Option<String>,
}

/// Locks a deployment that is not removed, so that nothing is asked of it while it is being removed, and the
/// other way round.
pub(crate) async fn lock(transaction: &mut Transaction<'static, Any>, id: DeploymentId) -> Result<Locked> {
    let row = query(
        "UPDATE deployments SET removed_at = removed_at WHERE id = $1 AND removed_at IS NULL \
         RETURNING project_id, name, replica_set_id",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Error::not_found("deployment", id))?;
    Ok(Locked {
        project_id: row.parsed("project_id")?,
        name: row.parsed("name")?,
        replica_set_id: row.maybe_text("replica_set_id")?,
    })
}

/// Replaces the connection string of a deployment that is locked, and what is known of it.
async fn put_uri(
    transaction: &mut Transaction<'static, Any>,
    id: DeploymentId,
    locked: &Locked,
    uri_sealed: &Sealed,
    facts: &DeploymentFacts,
) -> Result<()> {
    if let Some(registered) = &locked.replica_set_id
        && facts.replica_set_id.as_ref() != Some(registered)
    {
        return Err(Conflict::OtherReplicaSet { registered: registered.clone() }.into());
    }
    query(
        "UPDATE deployments SET uri_sealed = $2, replica_set_name = $3, replica_set_id = $4, mongodb_version = $5, \
         details = $6, checked_at = $7 WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(&uri_sealed.0)
    .bind(facts.replica_set_name.as_deref())
    .bind(facts.replica_set_id.as_deref())
    .bind(facts.mongodb_version.as_deref())
    .bind(to_json(&facts.details))
    .bind(facts.checked_at.map(|t| t.0))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn found(rows: u64, id: DeploymentId) -> Result<()> {
    if rows == 0 { Err(Error::not_found("deployment", id)) } else { Ok(()) }
}

/// The restore window of a deployment's row.
pub(crate) fn window(row: &AnyRow) -> Result<RestoreWindowDays> {
    let days = row.small("restore_window_days")?;
    RestoreWindowDays::new(days).map_err(|bad| Error::corrupt(format!("column restore_window_days: {bad}")))
}

fn deployment(row: &AnyRow) -> Result<Deployment> {
    Ok(Deployment {
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        name: row.parsed("name")?,
        kind: row.parsed("kind")?,
        uri_sealed: Sealed(row.text("uri_sealed")?),
        options: row.json("options")?,
        facts: DeploymentFacts {
            replica_set_name: row.maybe_text("replica_set_name")?,
            replica_set_id: row.maybe_text("replica_set_id")?,
            mongodb_version: row.maybe_text("mongodb_version")?,
            details: row.json("details")?,
            checked_at: row.maybe_time("checked_at")?,
        },
        continuous: ContinuousBackup {
            pit_enabled: row.flag("pit_enabled")?,
            restore_window_days: window(row)?,
        },
        created_at: row.time("created_at")?,
        removed_at: row.maybe_time("removed_at")?,
    })
}
