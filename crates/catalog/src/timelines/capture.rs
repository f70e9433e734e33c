//! What is to be recorded, and who records it.

use model::{
    ContinuousBackup, WallTime,
    id::{DeploymentId, ProjectId},
};
use serde_json::Value;
use sqlx::{Any, Transaction, any::AnyRow, query};

use super::{COLUMNS, Timeline, Timelines, timeline};
use crate::{
    Error, Result, compliance,
    obligations::SAME_REPLICA_SET,
    row::{Columns, plain, statement, to_json},
};

/// The deployment `d` is to be recorded.
const WANTED: &str = "d.pit_enabled = 1 AND d.removed_at IS NULL";

/// The deployment `d` is not to be recorded any more, and there is something left to do: a timeline to end, or slices to
/// bring into the vault. What a removed one has open was imported, and waits until it is added again.
const UNFINISHED: &str = "NOT (d.pit_enabled = 1 AND d.removed_at IS NULL) AND ((d.removed_at IS NULL \
    AND EXISTS (SELECT 1 FROM timelines t WHERE t.deployment_id = d.id AND t.ended_at IS NULL)) \
    OR EXISTS (SELECT 1 FROM timelines t JOIN slices s ON s.timeline_id = t.id \
    WHERE t.deployment_id = d.id AND s.state = 'spooled'))";

/// The right to record a deployment: one holder at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureLease {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The fencing token: every write carries it.
    pub epoch: i64,
}

/// What the holder of a capture learns when it renews its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Go on.
    Continue,
    /// The lease holds, and the deployment is not to be recorded any more: bring what is spooled into the vault, end the
    /// timeline and release the lease.
    NotWanted,
    /// Somebody else has it: stop, and write nothing.
    Lost,
}

/// How the recording of a deployment stands, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Capture {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// Who holds it, if anybody does.
    pub owner: Option<String>,
    /// Until when.
    pub lease_until: WallTime,
    /// What the holder saw last, in the engine's words.
    pub status: Value,
    /// When it saw that.
    pub updated_at: WallTime,
}

impl Timelines<'_> {
    /// Says whether a deployment is to be recorded, and how long the record is to be kept. Switching it off ends nothing
    /// by itself: whoever records it is told so at its next renewal.
    ///
    /// # Errors
    /// [`crate::Conflict::Forbidden`] when a compliance policy asks for more; [`crate::Error::NotFound`] when the deployment is not
    /// there or removed.
    pub async fn set_continuous_backup(&self, id: DeploymentId, wanted: ContinuousBackup) -> Result<()> {
        self.0.deployments().update(id, None, Some(wanted)).await.map(drop)
    }

    /// The deployments that are to be recorded, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn wanted(&self) -> Result<Vec<DeploymentId>> {
        self.deployments_that(WANTED).await
    }

    /// The deployments that are not to be recorded any more, and of which a timeline has to be ended or slices have to be
    /// brought into the vault, oldest first. Their captures can be claimed too.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn unfinished(&self) -> Result<Vec<DeploymentId>> {
        self.deployments_that(UNFINISHED).await
    }

    /// The open timelines that whatever is written to a deployment goes to: its own, and that of the same replica set where
    /// it is registered under other names. What is not to be recorded any more is left out.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn followed(&self, deployment: DeploymentId) -> Result<Vec<Timeline>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM timelines WHERE ended_at IS NULL AND {SAME_REPLICA_SET} AND EXISTS \
             (SELECT 1 FROM deployments d WHERE d.id = timelines.deployment_id AND {WANTED}) ORDER BY started_at, id"
        ))
        .bind(deployment.to_string())
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(timeline).collect()
    }

    /// Claims the capture of a deployment, if there is something to do and nobody holds it.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn claim(
        &self,
        deployment: DeploymentId,
        owner: &str,
        now: WallTime,
        lease_ms: i64,
    ) -> Result<Option<CaptureLease>> {
        // Keepers ask often; on SQLite a look costs nothing while a statement that writes excludes others.
        if self.capture(deployment).await?.is_some_and(|capture| capture.lease_until > now) {
            return Ok(None);
        }
        let row = statement(format!(
            "INSERT INTO captures (deployment_id, lease_owner, lease_until, lease_epoch, status, updated_at) \
             SELECT d.id, $2, $3, 1, 'null', $4 FROM deployments d WHERE d.id = $1 AND ({WANTED} OR {UNFINISHED}) \
             ON CONFLICT (deployment_id) DO UPDATE SET lease_owner = excluded.lease_owner, \
             lease_until = excluded.lease_until, lease_epoch = captures.lease_epoch + 1 \
             WHERE captures.lease_until <= $4 RETURNING lease_epoch"
        ))
        .bind(deployment.to_string())
        .bind(plain(owner))
        .bind(now.plus_ms(lease_ms).0)
        .bind(now.0)
        .fetch_optional(self.0.database.writer())
        .await?;
        row.map(|row| Ok(CaptureLease { deployment_id: deployment, epoch: row.int("lease_epoch")? }))
            .transpose()
    }

    /// Takes a capture from a holder whose lease still ends then, as it did when it was seen: who lives renews it, so nobody does
    /// where it has stayed like that for longer than a lease lasts, whatever the clock of its holder showed.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn take_over(
        &self,
        seen: &Capture,
        owner: &str,
        now: WallTime,
        lease_ms: i64,
    ) -> Result<Option<CaptureLease>> {
        let row = query(
            "UPDATE captures SET lease_owner = $2, lease_until = $3, lease_epoch = lease_epoch + 1 \
             WHERE deployment_id = $1 AND lease_until = $4 RETURNING lease_epoch",
        )
        .bind(seen.deployment_id.to_string())
        .bind(plain(owner))
        .bind(now.plus_ms(lease_ms).0)
        .bind(seen.lease_until.0)
        .fetch_optional(self.0.database.writer())
        .await?;
        row.map(|row| Ok(CaptureLease { deployment_id: seen.deployment_id, epoch: row.int("lease_epoch")? }))
            .transpose()
    }

    /// Renews the lease, tells what its holder sees, and learns what to do: one statement.
    ///
    /// # Errors
    /// When the database cannot be used; the lease may still be held then.
    pub async fn renew(
        &self,
        lease: &CaptureLease,
        status: &Value,
        now: WallTime,
        lease_ms: i64,
    ) -> Result<Renewal> {
        let row = statement(format!(
            "UPDATE captures SET lease_until = $3, status = $4, updated_at = $5 \
             WHERE deployment_id = $1 AND lease_epoch = $2 AND lease_owner IS NOT NULL \
             RETURNING (SELECT COUNT(*) FROM deployments d WHERE d.id = captures.deployment_id AND {WANTED}) AS wanted"
        ))
        .bind(lease.deployment_id.to_string())
        .bind(lease.epoch)
        .bind(now.plus_ms(lease_ms).0)
        .bind(to_json(status))
        .bind(now.0)
        .fetch_optional(self.0.database.writer())
        .await?;
        Ok(match row {
            None => Renewal::Lost,
            Some(row) if row.flag("wanted")? => Renewal::Continue,
            Some(_) => Renewal::NotWanted,
        })
    }

    /// Gives the capture back: it can be claimed at once.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn release(&self, lease: &CaptureLease) -> Result<()> {
        // The epoch moves on, so that whoever gave it back cannot write by mistake before somebody else takes it.
        // No time of ours is written: where our clock is ahead of others', they would wait for it.
        let done = query(
            "UPDATE captures SET lease_owner = NULL, lease_until = 0, lease_epoch = lease_epoch + 1 \
             WHERE deployment_id = $1 AND lease_epoch = $2",
        )
        .bind(lease.deployment_id.to_string())
        .bind(lease.epoch)
        .execute(self.0.database.writer())
        .await?;
        held(lease, done.rows_affected())
    }

    /// How the recording of a deployment stands; nothing when it never began.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn capture(&self, deployment: DeploymentId) -> Result<Option<Capture>> {
        let row = query(
            "SELECT deployment_id, lease_owner, lease_until, status, updated_at FROM captures WHERE deployment_id = $1",
        )
        .bind(deployment.to_string())
        .fetch_optional(self.0.database.reader())
        .await?;
        row.as_ref().map(capture).transpose()
    }

    async fn deployments_that(&self, condition: &str) -> Result<Vec<DeploymentId>> {
        let rows = statement(format!("SELECT d.id FROM deployments d WHERE {condition} ORDER BY d.id"))
            .fetch_all(self.0.database.reader())
            .await?;
        rows.iter().map(|row| row.parsed("id")).collect()
    }
}

/// Says of a deployment that is locked whether it is to be recorded, and how long the record is to be kept.
pub(crate) async fn set_continuous(
    transaction: &mut Transaction<'static, Any>,
    id: DeploymentId,
    project: ProjectId,
    wanted: ContinuousBackup,
) -> Result<()> {
    compliance::check_continuous(transaction, project, wanted).await?;
    query("UPDATE deployments SET pit_enabled = $2, restore_window_days = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(i64::from(wanted.pit_enabled))
        .bind(i64::from(wanted.restore_window_days.days()))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Makes sure that the lease holds, and goes on holding until the transaction ends: whoever wants to take the capture
/// over has to wait for this row.
pub(super) async fn fence(transaction: &mut Transaction<'static, Any>, lease: &CaptureLease) -> Result<()> {
    let done = query(
        "UPDATE captures SET lease_epoch = lease_epoch WHERE deployment_id = $1 AND lease_epoch = $2 \
         AND lease_owner IS NOT NULL",
    )
    .bind(lease.deployment_id.to_string())
    .bind(lease.epoch)
    .execute(&mut **transaction)
    .await?;
    held(lease, done.rows_affected())
}

fn held(lease: &CaptureLease, rows: u64) -> Result<()> {
    if rows == 0 {
        Err(Error::LeaseLost { what: format!("the capture of deployment {}", lease.deployment_id) })
    } else {
        Ok(())
    }
}

fn capture(row: &AnyRow) -> Result<Capture> {
    Ok(Capture {
        deployment_id: row.parsed("deployment_id")?,
        owner: row.maybe_text("lease_owner")?,
        lease_until: row.time("lease_until")?,
        status: row.json("status")?,
        updated_at: row.time("updated_at")?,
    })
}
