//! Timelines and slices, as they are.

use std::collections::HashSet;

use model::{
    ClusterTime,
    id::{DeploymentId, TimelineId},
};
use sqlx::{AnyConnection, query};

use super::{COLUMNS, SLICE_COLUMNS, Slice, Timeline, Timelines, slice, timeline};
use crate::{
    Error, Listing, Page, Result,
    objects::{BATCH, names, with_names},
    row::{Columns, placeholders, statement},
};

impl Timelines<'_> {
    /// The timeline of that id.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: TimelineId) -> Result<Option<Timeline>> {
        let row = statement(format!("SELECT {COLUMNS} FROM timelines WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(timeline).transpose()
    }

    /// The open timeline of a deployment.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn current(&self, deployment: DeploymentId) -> Result<Option<Timeline>> {
        let row = statement(format!(
            "SELECT {COLUMNS} FROM timelines WHERE deployment_id = $1 AND ended_at IS NULL"
        ))
        .bind(deployment.to_string())
        .fetch_optional(self.0.database.reader())
        .await?;
        row.as_ref().map(timeline).transpose()
    }

    /// All timelines of all deployments, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn of_all(&self) -> Result<Vec<Timeline>> {
        let rows = statement(format!("SELECT {COLUMNS} FROM timelines ORDER BY started_at, id"))
            .fetch_all(self.0.database.reader())
            .await?;
        rows.iter().map(timeline).collect()
    }

    /// The timelines of a deployment, newest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, deployment: DeploymentId, page: Page) -> Result<Listing<Timeline>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM timelines WHERE deployment_id = $1 ORDER BY started_at DESC, id DESC LIMIT $2 OFFSET $3"
        ))
        .bind(deployment.to_string())
        .bind(page.limit())
        .bind(page.offset())
        .fetch_all(self.0.database.reader())
        .await?;
        let count = query("SELECT COUNT(*) AS total FROM timelines WHERE deployment_id = $1")
            .bind(deployment.to_string());
        let total = self.0.total(page, count).await?;
        Ok(Listing { items: rows.iter().map(timeline).collect::<Result<_>>()?, total })
    }

    /// The slices that have entries from `from` to `to`, both included, in order: the first one is the one with the entry
    /// at `from`, or else with the first one after it. Look at their states: the last ones may not be in the vault yet.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] when there is a hole between them.
    pub async fn slices(&self, id: TimelineId, from: ClusterTime, to: ClusterTime) -> Result<Vec<Slice>> {
        let rows = statement(format!(
            "SELECT {SLICE_COLUMNS} FROM slices WHERE timeline_id = $1 AND (last_seconds, last_increment) >= ($2, $3) \
             AND (first_seconds, first_increment) <= ($4, $5) ORDER BY sequence"
        ))
        .bind(id.to_string())
        .bind(i64::from(from.seconds))
        .bind(i64::from(from.increment))
        .bind(i64::from(to.seconds))
        .bind(i64::from(to.increment))
        .fetch_all(self.0.database.reader())
        .await?;
        let slices: Vec<Slice> = rows.iter().map(slice).collect::<Result<_>>()?;
        for (slice, next) in slices.iter().zip(slices.iter().skip(1)) {
            if slice.sequence.checked_add(1) != Some(next.sequence) || slice.span.last != next.span.after {
                return Err(Error::corrupt(format!(
                    "slice {} of timeline {id} is followed by slice {}",
                    slice.sequence, next.sequence
                )));
            }
        }
        Ok(slices)
    }

    /// The slices of a timeline that are not in the vault yet, in order.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn spooled(&self, id: TimelineId) -> Result<Vec<Slice>> {
        let rows = statement(format!(
            "SELECT {SLICE_COLUMNS} FROM slices WHERE timeline_id = $1 AND state = 'spooled' ORDER BY sequence"
        ))
        .bind(id.to_string())
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(slice).collect()
    }

    /// Which of these slices the catalog names. What is in the vault and is not among them was forgotten or never
    /// recorded; it may be deleted.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn known(&self, wanted: &[String]) -> Result<HashSet<String>> {
        let mut known = HashSet::new();
        for batch in wanted.chunks(BATCH) {
            let sql = format!("SELECT name FROM slices WHERE name IN ({})", placeholders(1, batch.len()));
            // Read where it is written: an older view of the file must not decide what is garbage.
            let rows = with_names(sql, batch).fetch_all(self.0.database.writer()).await?;
            known.extend(names::<Vec<String>>(&rows)?);
        }
        Ok(known)
    }

    /// The deployments, removed ones too, of which there are slices: what retention has to look at.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn recorded(&self) -> Result<Vec<DeploymentId>> {
        let rows = query(
            "SELECT DISTINCT deployment_id FROM timelines WHERE first_sequence < next_sequence ORDER BY deployment_id",
        )
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(|row| row.parsed("deployment_id")).collect()
    }
}

/// All timelines of a deployment, oldest first.
pub(super) async fn all(connection: &mut AnyConnection, deployment: DeploymentId) -> Result<Vec<Timeline>> {
    let rows = statement(format!(
        "SELECT {COLUMNS} FROM timelines WHERE deployment_id = $1 ORDER BY started_at, id"
    ))
    .bind(deployment.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(timeline).collect()
}
