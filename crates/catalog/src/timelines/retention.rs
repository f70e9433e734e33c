//! Slices whose time is over.

use std::collections::HashSet;

use model::{ClusterTime, RestoreWindowDays, WallTime, chain::expendable_before, id::DeploymentId};
use sqlx::{Any, AnyConnection, Transaction, query};

use super::{
    SLICE_COLUMNS, Slice, Timeline, Timelines,
    bases::{Branch, Order, branches},
    slice,
};
use crate::{
    Error, Result,
    deployments::window,
    objects::{BATCH, with_names},
    row::{Columns, placeholders, statement, stored},
};

/// How many slices are looked at or forgotten at once.
const EXPIRED_MAX: u32 = 1_000;

impl Timelines<'_> {
    /// Slices that no restore to a time inside the deployment's window reads, at most `limit`, oldest first: for each
    /// timeline the first ones that it has. None while a snapshot or a restore of the deployment is queued or running.
    ///
    /// What stays is all that is newer than the window's beginning, and what a fold to that beginning reads: from the
    /// last snapshot before it on, or what that needs of transactions that were open there. A timeline that ended before
    /// the window began goes as a whole.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for the deployment.
    pub async fn expired(&self, deployment: DeploymentId, now: WallTime, limit: u32) -> Result<Vec<Slice>> {
        let mut connection = self.0.database.reader().acquire().await?;
        let window = window_of(&mut connection, deployment).await?;
        let mut expired = Vec::new();
        if is_busy(&mut connection, deployment).await? {
            return Ok(expired);
        }
        for branch in branches(&mut connection, deployment).await? {
            let left =
                limit.min(EXPIRED_MAX).saturating_sub(u32::try_from(expired.len()).unwrap_or(u32::MAX));
            if left == 0 {
                break;
            }
            let before = expendable(&mut connection, &branch, window, now).await?;
            expired.extend(front(&mut connection, &branch.timeline, before, left).await?);
        }
        Ok(expired)
    }

    /// Forgets slices whose time is over, and moves the beginnings of their timelines behind them. **Then** they are to be
    /// deleted from the vault: these are their names. Those whose time is not over (any more), or that would leave a hole,
    /// are not forgotten and not among them.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for the deployment.
    pub async fn forget(
        &self,
        deployment: DeploymentId,
        names: &[String],
        now: WallTime,
    ) -> Result<Vec<String>> {
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        let mut transaction = self.0.database.begin().await?;
        self.lock(&mut transaction, deployment).await?;
        let window = window_of(&mut transaction, deployment).await?;
        let mut forgotten = Vec::new();
        if is_busy(&mut transaction, deployment).await? {
            return Ok(forgotten);
        }
        for branch in branches(&mut transaction, deployment).await? {
            let before = expendable(&mut transaction, &branch, window, now).await?;
            let mut going = front(&mut transaction, &branch.timeline, before, EXPIRED_MAX).await?;
            let wanted = going.iter().take_while(|slice| names.contains(slice.name.as_str())).count();
            going.truncate(wanted);
            drop_front(&mut transaction, &branch.timeline, &going).await?;
            forgotten.extend(going.into_iter().map(|slice| slice.name));
        }
        transaction.commit().await?;
        Ok(forgotten)
    }

    /// Holds the deployment, the snapshots that restores may begin with and the timelines: what is asked for while we wait
    /// is seen afterwards, and what is asked for later waits for us.
    async fn lock(
        &self,
        transaction: &mut Transaction<'static, Any>,
        deployment: DeploymentId,
    ) -> Result<()> {
        query("UPDATE deployments SET removed_at = removed_at WHERE id = $1")
            .bind(deployment.to_string())
            .execute(&mut **transaction)
            .await?;
        for rows in [
            "SELECT id FROM snapshots WHERE deployment_id = $1 AND state = 'completed' ORDER BY id",
            "SELECT id FROM timelines WHERE deployment_id = $1 ORDER BY id",
        ] {
            statement(format!("{rows}{}", self.0.database.locked()))
                .bind(deployment.to_string())
                .fetch_all(&mut **transaction)
                .await?;
        }
        Ok(())
    }
}

async fn window_of(connection: &mut AnyConnection, deployment: DeploymentId) -> Result<RestoreWindowDays> {
    let row = query("SELECT restore_window_days FROM deployments WHERE id = $1")
        .bind(deployment.to_string())
        .fetch_optional(connection)
        .await?;
    window(&row.ok_or_else(|| Error::not_found("deployment", deployment))?)
}

/// Whether something may be reading slices of the deployment, or is about to.
async fn is_busy(connection: &mut AnyConnection, deployment: DeploymentId) -> Result<bool> {
    let row = query(
        "SELECT (SELECT COUNT(*) FROM snapshots s WHERE s.deployment_id = $1 AND s.state IN ('queued', 'inProgress')) \
         + (SELECT COUNT(*) FROM restore_jobs r WHERE (r.deployment_id = $1 OR r.target_deployment_id = $1) \
         AND r.state IN ('queued', 'running', 'cancelling', 'cutOver')) AS unfinished",
    )
    .bind(deployment.to_string())
    .fetch_one(connection)
    .await?;
    row.flag("unfinished")
}

/// Slices of the timeline that end before this may go.
async fn expendable(
    connection: &mut AnyConnection,
    branch: &Branch,
    window: RestoreWindowDays,
    now: WallTime,
) -> Result<ClusterTime> {
    let timeline = &branch.timeline;
    let begins = timeline.window_begins(window, now);
    if timeline.first_sequence >= timeline.next_sequence {
        return Ok(timeline.start.time);
    }
    let long_over = timeline.ended.as_ref().is_some_and(|ended| ended.at < window.begins_at(now));
    if long_over && timeline.end.time < begins {
        return Ok(begins);
    }
    let base = match branch.base(connection, begins, Order::LatestFirst).await? {
        Some(base) => Some(base),
        None => branch.base(connection, ClusterTime::from_u64(u64::MAX), Order::EarliestFirst).await?,
    };
    let next = branch.needed_at_end(connection).await?;
    Ok(expendable_before(begins, base.map(|base| base.needed), next))
}

/// The first slices of the timeline, as far as they end before that time.
async fn front(
    connection: &mut AnyConnection,
    timeline: &Timeline,
    before: ClusterTime,
    limit: u32,
) -> Result<Vec<Slice>> {
    let rows = statement(format!(
        "SELECT {SLICE_COLUMNS} FROM slices WHERE timeline_id = $1 AND (last_seconds, last_increment) < ($2, $3) \
         ORDER BY last_seconds, last_increment LIMIT $4"
    ))
    .bind(timeline.id.to_string())
    .bind(i64::from(before.seconds))
    .bind(i64::from(before.increment))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(slice).collect()
}

/// Drops the first slices of a timeline.
async fn drop_front(
    transaction: &mut Transaction<'static, Any>,
    timeline: &Timeline,
    going: &[Slice],
) -> Result<()> {
    let Some(last) = going.last() else { return Ok(()) };
    let names: Vec<String> = going.iter().map(|slice| slice.name.clone()).collect();
    for batch in names.chunks(BATCH) {
        let sql = format!("DELETE FROM slices WHERE name IN ({})", placeholders(1, batch.len()));
        with_names(sql, batch).execute(&mut **transaction).await?;
    }
    let start = last.span.last;
    query(
        "UPDATE timelines SET start_seconds = $2, start_increment = $3, start_term = $4, first_sequence = $5 WHERE id = $1",
    )
    .bind(timeline.id.to_string())
    .bind(i64::from(start.time.seconds))
    .bind(i64::from(start.time.increment))
    .bind(start.term)
    .bind(stored(last.sequence.saturating_add(1)))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
