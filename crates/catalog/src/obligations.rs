//! Obligations: what a job did to a deployment that has to be undone, whatever happens to the job.
//!
//! A write block that is raised, a history window that is widened, collections under staging names: the job
//! records each **before** it does it, and settles it after it was undone. What a dead job leaves is found here.

use model::{
    WallTime,
    id::{DeploymentId, JobId},
};
use serde_json::Value;
use sqlx::{Any, Transaction, any::AnyRow, query};

use crate::{
    Catalog, Lease, Result,
    jobs::fence,
    row::{Columns, statement, to_json},
};

/// Something to be undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Obligation {
    /// Where.
    pub deployment_id: DeploymentId,
    /// Who did it.
    pub job_id: JobId,
    /// What it is, in the engine's words: `writeBlock`, `historyWindow`, `staging`.
    pub kind: String,
    /// What was there before, and what else is needed to undo it.
    pub detail: Value,
    /// When it was recorded.
    pub recorded_at: WallTime,
}

/// Operations on obligations.
#[derive(Debug, Clone, Copy)]
pub struct Obligations<'a>(pub(crate) &'a Catalog);

impl Obligations<'_> {
    /// Records an obligation, durably, before the thing is done. The first detail of a kind stays when it is
    /// recorded again by the same job: a job taken over must not take its own change for the previous state.
    /// Returns the detail that counts.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn record(
        &self,
        lease: &Lease,
        deployment: DeploymentId,
        kind: &str,
        detail: &Value,
        now: WallTime,
    ) -> Result<Value> {
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        query(
            "INSERT INTO obligations (job_id, deployment_id, kind, detail, recorded_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (job_id, deployment_id, kind) DO NOTHING",
        )
        .bind(lease.job_id.to_string())
        .bind(deployment.to_string())
        .bind(kind)
        .bind(to_json(detail))
        .bind(now.0)
        .execute(&mut *transaction)
        .await?;
        let row =
            query("SELECT detail FROM obligations WHERE job_id = $1 AND deployment_id = $2 AND kind = $3")
                .bind(lease.job_id.to_string())
                .bind(deployment.to_string())
                .bind(kind)
                .fetch_one(&mut *transaction)
                .await?;
        let detail = row.json("detail")?;
        transaction.commit().await?;
        Ok(detail)
    }

    /// Changes what is recorded of obligations of one kind on one deployment, under whatever names it is registered, all at
    /// once: what `change` gives takes the place of the detail.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn rewrite(
        &self,
        deployment: DeploymentId,
        kind: &str,
        change: impl Fn(&Obligation) -> Option<Value>,
    ) -> Result<()> {
        let mut transaction = self.0.database.begin().await?;
        let select = statement(format!(
            "SELECT job_id, deployment_id, kind, detail, recorded_at FROM obligations \
             WHERE {SAME_REPLICA_SET} AND kind = $2{}",
            self.0.database.locked()
        ));
        let rows = select.bind(deployment.to_string()).bind(kind).fetch_all(&mut *transaction).await?;
        for row in &rows {
            let standing = obligation(row)?;
            let Some(detail) = change(&standing) else { continue };
            query(
                "UPDATE obligations SET detail = $1 WHERE job_id = $2 AND deployment_id = $3 AND kind = $4",
            )
            .bind(to_json(&detail))
            .bind(standing.job_id.to_string())
            .bind(standing.deployment_id.to_string())
            .bind(kind)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Settles an obligation after it was undone; harmless when it is settled already.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn settle(&self, job: JobId, deployment: DeploymentId, kind: &str) -> Result<()> {
        query("DELETE FROM obligations WHERE job_id = $1 AND deployment_id = $2 AND kind = $3")
            .bind(job.to_string())
            .bind(deployment.to_string())
            .bind(kind)
            .execute(self.0.database.writer())
            .await?;
        Ok(())
    }

    /// Obligations of one job, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn of_job(&self, job: JobId) -> Result<Vec<Obligation>> {
        self.select("job_id = $1", Some(job.to_string())).await
    }

    /// Obligations on one deployment, under whatever names it is registered, of any job, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn of_deployment(&self, deployment: DeploymentId) -> Result<Vec<Obligation>> {
        self.select(SAME_REPLICA_SET, Some(deployment.to_string())).await
    }

    /// Obligations of jobs that have ended, for the reaper, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn orphaned(&self) -> Result<Vec<Obligation>> {
        const ENDED: &str = "EXISTS (SELECT 1 FROM jobs j WHERE j.id = obligations.job_id \
                             AND j.state IN ('succeeded', 'failed', 'cancelled'))";
        self.select(ENDED, None).await
    }

    async fn select(&self, which: &str, of: Option<String>) -> Result<Vec<Obligation>> {
        let mut select = statement(format!(
            "SELECT job_id, deployment_id, kind, detail, recorded_at FROM obligations WHERE {which} \
             ORDER BY recorded_at, job_id, kind LIMIT {OBLIGATIONS_MAX}"
        ));
        if let Some(id) = of {
            select = select.bind(id);
        }
        select.fetch_all(self.0.database.reader()).await?.iter().map(obligation).collect()
    }
}

/// Forgets all obligations on a deployment; these are what they were. Undone when the transaction is not committed.
pub(crate) async fn take_all(
    transaction: &mut Transaction<'static, Any>,
    deployment: DeploymentId,
) -> Result<Vec<Obligation>> {
    let rows = query(
        "DELETE FROM obligations WHERE deployment_id = $1 RETURNING job_id, deployment_id, kind, detail, recorded_at",
    )
    .bind(deployment.to_string())
    .fetch_all(&mut **transaction)
    .await?;
    rows.iter().map(obligation).collect()
}

/// On the deployment `$1`, or on one that is the same replica set.
pub(crate) const SAME_REPLICA_SET: &str = "deployment_id IN (SELECT d.id FROM deployments d WHERE d.id = $1 OR d.replica_set_id = \
                                (SELECT o.replica_set_id FROM deployments o WHERE o.id = $1))";

/// How many are looked at in one go; a job has a handful.
const OBLIGATIONS_MAX: u32 = 1_000;

fn obligation(row: &AnyRow) -> Result<Obligation> {
    Ok(Obligation {
        deployment_id: row.parsed("deployment_id")?,
        job_id: row.parsed("job_id")?,
        kind: row.text("kind")?,
        detail: row.json("detail")?,
        recorded_at: row.time("recorded_at")?,
    })
}
