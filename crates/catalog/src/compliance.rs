//! Backup compliance policies: the least that every deployment of a project is backed up.
//!
//! A policy is set while all deployments of its project are held, and whatever it forbids is looked up while the deployment is: so
//! none of both is done behind the other's back.

use model::{
    ContinuousBackup, RestoreWindowDays, WallTime,
    compliance::{CompliancePolicy, Forbidden},
    id::{DeploymentId, ProjectId},
};
use sqlx::{Any, Transaction, any::AnyRow, query};

use crate::{
    Catalog, Deployment, Error, NewSnapshot, Result, SnapshotType, deployments,
    row::{Columns, to_json},
    schedules,
};

type Tx = Transaction<'static, Any>;

/// Whether a snapshot's project has a policy, in a statement on snapshots.
pub(crate) const GUARDED: &str =
    "EXISTS (SELECT 1 FROM compliance_policies c WHERE c.project_id = snapshots.project_id)";

/// The policy of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectPolicy {
    /// The project.
    pub project_id: ProjectId,
    /// What it asks for.
    pub policy: CompliancePolicy,
    /// Whether it may be lifted, and replaced by one that asks for less.
    pub released: bool,
    /// When it was set last.
    pub updated_at: WallTime,
}

/// What setting a policy did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySet {
    /// The policy as it is now.
    pub policy: ProjectPolicy,
    /// Names of the deployments whose schedule or restore window was changed to meet it.
    pub changed: Vec<String>,
}

/// Operations on compliance policies.
#[derive(Debug, Clone, Copy)]
pub struct Compliance<'a>(pub(crate) &'a Catalog);

impl Compliance<'_> {
    /// The policy of a project, if it has one.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, project: ProjectId) -> Result<Option<ProjectPolicy>> {
        let row = query("SELECT policy, released, updated_at FROM compliance_policies WHERE project_id = $1")
            .bind(project.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.map(|row| read(project, &row)).transpose()
    }

    /// Sets the policy of a project, and takes back that it was released. With `overwrite`, schedules and restore windows that
    /// fall short of it are changed to meet it.
    ///
    /// # Errors
    /// [`crate::Conflict::Forbidden`] when the policy that holds is not released and asks for more, or when a deployment falls
    /// short of the new one; [`Error::NotFound`] without such a project.
    pub async fn set(
        &self,
        project: ProjectId,
        policy: &CompliancePolicy,
        overwrite: bool,
        now: WallTime,
    ) -> Result<PolicySet> {
        let mut transaction = self.0.database.begin().await?;
        let before = lock(&mut transaction, project).await?;
        if let Some(before) = before.filter(|before| !before.released) {
            let missing = before.policy.missing_in_successor(policy);
            if !missing.is_empty() {
                return Err(Forbidden::Weaker(missing).into());
            }
        }
        let row = query(
            "INSERT INTO compliance_policies (project_id, policy, released, created_at, updated_at) \
             VALUES ($1, $2, 0, $3, $3) ON CONFLICT (project_id) DO UPDATE SET policy = excluded.policy, released = 0, \
             updated_at = excluded.updated_at RETURNING policy, released, updated_at",
        )
        .bind(project.to_string())
        .bind(to_json(policy))
        .bind(now.0)
        .fetch_one(&mut *transaction)
        .await?;
        let set = read(project, &row)?;
        let (mut changed, mut unmet) = (vec![], vec![]);
        for (id, name) in members(&mut transaction, project).await? {
            let missing = bring_into_line(&mut transaction, id, policy, overwrite, now).await?;
            changed.extend((!missing.told.is_empty()).then(|| name.clone()));
            let is_left = !overwrite || missing.is_not_recorded;
            unmet.extend((is_left && !missing.told.is_empty()).then(|| missing.of(&name)));
        }
        if !unmet.is_empty() {
            return Err(Forbidden::Unmet(unmet).into());
        }
        transaction.commit().await?;
        Ok(PolicySet { policy: set, changed })
    }

    /// Allows that the policy of a project is lifted or replaced by one that asks for less, until it is set anew.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the project has none.
    pub async fn release(&self, project: ProjectId) -> Result<()> {
        let done = query("UPDATE compliance_policies SET released = 1 WHERE project_id = $1")
            .bind(project.to_string())
            .execute(self.0.database.writer())
            .await?;
        if done.rows_affected() == 0 { Err(Error::not_found("compliance policy", project)) } else { Ok(()) }
    }

    /// Lifts the policy of a project. What it had changed stays as it is. `false` when there was none.
    ///
    /// # Errors
    /// [`crate::Conflict::Forbidden`] unless it is released.
    pub async fn lift(&self, project: ProjectId) -> Result<bool> {
        let mut transaction = self.0.database.begin().await?;
        match lock(&mut transaction, project).await? {
            None => return Ok(false),
            Some(policy) if !policy.released => return Err(Forbidden::NotReleased.into()),
            Some(_) => {}
        }
        query("DELETE FROM compliance_policies WHERE project_id = $1")
            .bind(project.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

fn read(project_id: ProjectId, row: &AnyRow) -> Result<ProjectPolicy> {
    Ok(ProjectPolicy {
        project_id,
        policy: row.json("policy")?,
        released: row.flag("released")?,
        updated_at: row.time("updated_at")?,
    })
}

/// The policy of a project that is locked from now on.
async fn lock(transaction: &mut Tx, project: ProjectId) -> Result<Option<ProjectPolicy>> {
    query("UPDATE projects SET name = name WHERE id = $1 AND deleted_at IS NULL RETURNING id")
        .bind(project.to_string())
        .fetch_optional(&mut **transaction)
        .await?
        .ok_or_else(|| Error::not_found("project", project))?;
    let row = query("SELECT policy, released, updated_at FROM compliance_policies WHERE project_id = $1")
        .bind(project.to_string())
        .fetch_optional(&mut **transaction)
        .await?;
    row.map(|row| read(project, &row)).transpose()
}

/// The policy of a project that is locked from now on, so that a deployment comes into it with the policy or before it.
pub(crate) async fn of_locked_project(
    transaction: &mut Tx,
    project: ProjectId,
) -> Result<Option<CompliancePolicy>> {
    Ok(lock(transaction, project).await?.map(|kept| kept.policy))
}

/// The policy of a project of which a deployment is locked.
pub(crate) async fn of(transaction: &mut Tx, project: ProjectId) -> Result<Option<CompliancePolicy>> {
    let row = query("SELECT policy FROM compliance_policies WHERE project_id = $1")
        .bind(project.to_string())
        .fetch_optional(&mut **transaction)
        .await?;
    row.map(|row| row.json("policy")).transpose()
}

/// Refuses a snapshot on demand that would be kept too short.
pub(crate) async fn check_on_demand(
    transaction: &mut Tx,
    project: ProjectId,
    new: &NewSnapshot,
    now: WallTime,
) -> Result<()> {
    let (SnapshotType::OnDemand, Some(days)) = (new.snapshot_type, new.retention_days) else { return Ok(()) };
    match of(transaction, project).await?.and_then(|policy| policy.on_demand) {
        Some(least) if days < least.retention.days_from(now) => {
            Err(Forbidden::ShortSnapshot(least.retention).into())
        }
        _ => Ok(()),
    }
}

/// Refuses that operations are recorded no more, or kept too short.
pub(crate) async fn check_continuous(
    transaction: &mut Tx,
    project: ProjectId,
    wanted: ContinuousBackup,
) -> Result<()> {
    match of(transaction, project).await?.and_then(|policy| policy.continuous) {
        Some(_) if !wanted.pit_enabled => Err(Forbidden::NotRecorded.into()),
        Some(least) if wanted.restore_window_days.days() < least.days() => {
            Err(Forbidden::Window(least).into())
        }
        _ => Ok(()),
    }
}

/// Brings a deployment that was just added into line.
pub(crate) async fn begin(
    transaction: &mut Tx,
    added: &mut Deployment,
    policy: &CompliancePolicy,
    now: WallTime,
) -> Result<()> {
    let missing = bring_into_line(transaction, added.id, policy, true, now).await?;
    if missing.is_not_recorded {
        let mended = format!("{} has not: continuous backup; register it with `--pit`", added.name);
        return Err(Forbidden::Unmet(vec![mended]).into());
    }
    if let Some(least) = policy.continuous {
        let window = &mut added.continuous.restore_window_days;
        *window = if window.days() < least.days() { least } else { *window };
    }
    Ok(())
}

/// The deployments of a project, each of them locked from now on.
async fn members(transaction: &mut Tx, project: ProjectId) -> Result<Vec<(DeploymentId, String)>> {
    let rows =
        query("SELECT id, name FROM deployments WHERE project_id = $1 AND removed_at IS NULL ORDER BY id")
            .bind(project.to_string())
            .fetch_all(&mut **transaction)
            .await?;
    let mut members = vec![];
    for row in &rows {
        let id: DeploymentId = row.parsed("id")?;
        match deployments::lock(transaction, id).await {
            Ok(_) => members.push((id, row.text("name")?)),
            // It was removed in this moment.
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(members)
}

/// In what a deployment falls short of a policy, or fell.
struct Missing {
    told: Vec<String>,
    is_not_recorded: bool,
}

impl Missing {
    fn of(&self, name: &str) -> String {
        let more = if self.is_not_recorded {
            format!("; switch that on with `ebbtide cluster update {name} --pit on`")
        } else {
            String::new()
        };
        format!("{name} has not: {}{more}", self.told.join(", "))
    }
}

/// Changes what a deployment that is locked has less than the policy asks for, if that is wanted, and tells it. Whether it can be
/// recorded has to be looked at first, so that is never switched on here.
async fn bring_into_line(
    transaction: &mut Tx,
    id: DeploymentId,
    policy: &CompliancePolicy,
    overwrite: bool,
    now: WallTime,
) -> Result<Missing> {
    let missing = schedules::bring_into_line(transaction, id, policy, overwrite, now).await?;
    let mut told: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let mut is_not_recorded = false;
    if let Some(least) = policy.continuous {
        let row = query("SELECT pit_enabled, restore_window_days FROM deployments WHERE id = $1")
            .bind(id.to_string())
            .fetch_one(&mut **transaction)
            .await?;
        is_not_recorded = !row.flag("pit_enabled")?;
        if is_not_recorded {
            told.push("continuous backup".to_owned());
        }
        if deployments::window(&row)?.days() < least.days() {
            told.push(format!("a restore window of {} days", least.days()));
            if overwrite {
                widen(transaction, id, least).await?;
            }
        }
    }
    Ok(Missing { told, is_not_recorded })
}

async fn widen(transaction: &mut Tx, id: DeploymentId, window: RestoreWindowDays) -> Result<()> {
    query("UPDATE deployments SET restore_window_days = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(i64::from(window.days()))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
