//! Cancel against cut-over: one row, one conditional update each, one winner.

use model::{
    WallTime,
    id::RestoreJobId,
    job::Work,
    restore::{CancelRefusal, RestoreEvent, RestoreState},
};
use sqlx::{Any, Transaction, query};

use super::{Restores, delivery};
use crate::{
    Error, Lease, Result,
    jobs::fence,
    row::{Columns, statement},
    transition,
};

type Tx = Transaction<'static, Any>;

impl Restores<'_> {
    /// Asks to cancel; decided against [`Restores::begin_cut_over`] by one conditional update of the same row.
    /// The inner result is the new state, or why it is too late. An archive whose time is over has expired, whether that was
    /// written down or not.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    pub async fn request_cancel(
        &self,
        id: RestoreJobId,
        now: WallTime,
    ) -> Result<Result<RestoreState, CancelRefusal>> {
        let mut transaction = self.0.database.begin().await?;
        // The job's row is locked before the restore job's, as everywhere.
        query("UPDATE jobs SET state = state WHERE subject_id = $1")
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
        delivery::expire_due(&mut *transaction, Some(id), now).await?;
        let moves = transition::restore(RestoreEvent::CancelRequested);
        let row = statement(format!(
            "UPDATE restore_jobs SET state = {next}, finished_at = CASE WHEN {next} = 'cancelled' \
             THEN COALESCE(finished_at, $2) ELSE finished_at END WHERE id = $1 AND state IN {from} RETURNING state",
            next = moves.next,
            from = moves.from
        ))
        .bind(id.to_string())
        .bind(now.0)
        .fetch_optional(&mut *transaction)
        .await?;
        let answer = match row {
            Some(row) => {
                let state = row.parsed("state")?;
                tell_job(&mut transaction, id, state, now).await?;
                Ok(state)
            }
            None => Err(refusal(&mut transaction, id).await?),
        };
        transaction.commit().await?;
        Ok(answer)
    }

    /// Begins (or, taken over, goes on with) the cut-over of the lease's restore job. `false`: a cancel came
    /// first, and the target must not be touched.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn begin_cut_over(&self, lease: &Lease, _now: WallTime) -> Result<bool> {
        let Work::Restore { restore_job_id: id } = lease.work else {
            let (state, event) = (lease.work.kind().to_owned(), "CutOver".to_owned());
            return Err(model::IllegalTransition { machine: "job", state, event }.into());
        };
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        let moves = transition::restore(RestoreEvent::CutOver);
        let done = statement(format!(
            "UPDATE restore_jobs SET state = {} WHERE id = $1 AND state IN {}",
            moves.next, moves.from
        ))
        .bind(id.to_string())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() > 0 {
            transaction.commit().await?;
            return Ok(true);
        }
        let state = state(&mut transaction, id).await?;
        state.next(RestoreEvent::CutOver).map_or_else(
            |illegal| if state == RestoreState::Cancelling { Ok(false) } else { Err(illegal.into()) },
            |_| {
                Err(Error::corrupt(format!(
                    "restore job {id} is in state {} and yet cannot be moved",
                    state.as_str()
                )))
            },
        )
    }
}

/// Nobody has the job: it ends with its subject. Somebody has, or had it: it cleans up, without waiting for
/// the time of its next attempt.
async fn tell_job(transaction: &mut Tx, id: RestoreJobId, state: RestoreState, now: WallTime) -> Result<()> {
    let update = if state == RestoreState::Cancelled {
        "UPDATE jobs SET state = 'cancelled', ended_at = $2, lease_owner = NULL \
         WHERE subject_id = $1 AND state IN ('queued', 'running')"
    } else {
        "UPDATE jobs SET run_at = $2 WHERE subject_id = $1 AND state = 'queued' AND run_at > $2"
    };
    query(update).bind(id.to_string()).bind(now.0).execute(&mut **transaction).await?;
    Ok(())
}

async fn refusal(transaction: &mut Tx, id: RestoreJobId) -> Result<CancelRefusal> {
    let state = state(transaction, id).await?;
    match state.cancel() {
        Err(refusal) => Ok(refusal),
        Ok(_) => Err(Error::corrupt(format!(
            "restore job {id} is in state {} and yet cannot be moved",
            state.as_str()
        ))),
    }
}

async fn state(transaction: &mut Tx, id: RestoreJobId) -> Result<RestoreState> {
    query("SELECT state FROM restore_jobs WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(&mut **transaction)
        .await?
        .ok_or_else(|| Error::not_found("restore job", id))?
        .parsed("state")
}
