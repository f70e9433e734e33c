//! Exports that are not wanted any more: those of a deployment that is removed.

use model::{WallTime, export::ExportEvent, id::DeploymentId};
use sqlx::{Any, Transaction, query};

use crate::{Result, row::statement, transition};

/// Cancels what is exported of a deployment that is locked: at once where nobody writes, else as soon as its worker has
/// stopped.
pub(crate) async fn cancel_of_removed(
    transaction: &mut Transaction<'static, Any>,
    deployment: DeploymentId,
    now: WallTime,
) -> Result<()> {
    let deployment = deployment.to_string();
    // The jobs' rows are locked before those of the exports, as everywhere.
    query(
        "UPDATE jobs SET state = state WHERE subject_id IN (SELECT e.id FROM export_jobs e WHERE e.deployment_id = $1 \
         AND e.state IN ('queued', 'inProgress'))",
    )
    .bind(&deployment)
    .execute(&mut **transaction)
    .await?;
    let moves = transition::export(ExportEvent::CancelRequested);
    statement(format!(
        "UPDATE export_jobs SET state = {next}, finished_at = CASE WHEN {next} = 'cancelled' THEN $2 ELSE finished_at END \
         WHERE deployment_id = $1 AND state IN {from}",
        next = moves.next,
        from = moves.from
    ))
    .bind(&deployment)
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    // Nobody has the job: it ends with its subject. Somebody has, or had it: it stops, without waiting for the time of its
    // next attempt.
    let of_exports = "subject_id IN (SELECT e.id FROM export_jobs e WHERE e.deployment_id = $1 AND e.state =";
    statement(format!(
        "UPDATE jobs SET state = 'cancelled', ended_at = $2, lease_owner = NULL WHERE {of_exports} 'cancelled') \
         AND state IN ('queued', 'running')"
    ))
    .bind(&deployment)
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    statement(format!(
        "UPDATE jobs SET run_at = $2 WHERE {of_exports} 'cancelling') AND state = 'queued' AND run_at > $2"
    ))
    .bind(&deployment)
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
