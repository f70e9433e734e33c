//! Garbage collection beside running jobs.
//!
//! A cycle goes: [`Collector::begin_cycle`], then read the roots (manifests, see
//! [`crate::Snapshots::live_manifests`]) and all that they reach, then walk [`Collector::candidates`]: what is reachable
//! is [`Collector::unmark`]ed, what is not is offered to [`Collector::mark`] and to [`Collector::begin_delete`]. The
//! latter grants only objects that an **earlier** cycle marked, so that between mark and delete the roots were read
//! again: whatever a job completed around the mark is seen by then, and whatever a job pinned since is
//! unmarked. Granted objects are deleted from the vault, then [`Collector::finish_delete`] forgets them.

use model::WallTime;

use sqlx::{Any, Transaction, query};

use crate::{
    Catalog, Error, ObjectRow, Result, StoredObject,
    objects::{BATCH, names, object, retry_deadlocks, with_names},
    row::{Columns, placeholders, stored},
};

/// How many unfinished deletes are handed out at once.
const UNFINISHED_MAX: i64 = 1_000;

/// The right to collect: one holder at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// Number of the cycle, the fencing token.
    pub generation: i64,
}

/// Operations of the garbage collector.
#[derive(Debug, Clone, Copy)]
pub struct Collector<'a>(pub(crate) &'a Catalog);

impl Collector<'_> {
    /// Begins a cycle, unless somebody else's is alive. Choose a lease far longer than one delete in the vault can take.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn begin_cycle(&self, now: WallTime, lease_ms: i64) -> Result<Option<Cycle>> {
        let row = query(
            "UPDATE collector SET generation = generation + 1, lease_until = $2 WHERE id = 1 AND lease_until <= $1 \
             RETURNING generation",
        )
        .bind(now.0)
        .bind(now.plus_ms(lease_ms).0)
        .fetch_optional(self.0.database.writer())
        .await?;
        row.map(|row| Ok(Cycle { generation: row.int("generation")? })).transpose()
    }

    /// Renews the lease. Call it before each batch of deletes in the vault.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`]: stop at once.
    pub async fn renew(&self, cycle: &Cycle, now: WallTime, lease_ms: i64) -> Result<()> {
        let done = query("UPDATE collector SET lease_until = $2 WHERE id = 1 AND generation = $1")
            .bind(cycle.generation)
            .bind(now.plus_ms(lease_ms).0)
            .execute(self.0.database.writer())
            .await?;
        held(done.rows_affected())
    }

    /// Ends the cycle, so that the next one need not wait for the lease to run out.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn end_cycle(&self, cycle: &Cycle) -> Result<()> {
        query("UPDATE collector SET lease_until = 0 WHERE id = 1 AND generation = $1")
            .bind(cycle.generation)
            .execute(self.0.database.writer())
            .await?;
        Ok(())
    }

    /// Enters objects that were found in the vault but are not known (left by a crash, or by a lost catalog).
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn adopt(&self, cycle: &Cycle, found: &[StoredObject]) -> Result<()> {
        for batch in found.chunks(BATCH) {
            let mut transaction = self.begin(cycle).await?;
            for object in batch {
                query(
                    "INSERT INTO objects (name, kind, stored_bytes, state, marked_in) VALUES ($1, $2, $3, 'live', 0) \
                     ON CONFLICT (name) DO NOTHING",
                )
                .bind(&object.name)
                .bind(&object.kind)
                .bind(stored(object.stored_bytes))
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    /// The objects after `after` by name, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn candidates(&self, after: Option<&str>, limit: u32) -> Result<Vec<ObjectRow>> {
        let rows = query(
            "SELECT name, kind, stored_bytes, state FROM objects WHERE name > $1 AND state <> 'deleting' \
             ORDER BY name LIMIT $2",
        )
        .bind(after.unwrap_or(""))
        .bind(i64::from(limit))
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter()
            .map(|row| Ok(ObjectRow { object: object(row)?, marked: row.text("state")? == "marked" }))
            .collect()
    }

    /// Marks unreachable objects that no job has pinned; how many are newly marked.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn mark(&self, cycle: &Cycle, unreachable: &[String]) -> Result<u64> {
        let set = format!("state = 'marked', marked_in = {}", cycle.generation);
        let marked = self.change(cycle, unreachable, &set, &format!("state = 'live' AND {UNPINNED}")).await?;
        Ok(marked.len() as u64)
    }

    /// Takes marks off objects that are reachable after all.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn unmark(&self, cycle: &Cycle, reachable: &[String]) -> Result<u64> {
        Ok(self.change(cycle, reachable, "state = 'live'", "state = 'marked'").await?.len() as u64)
    }

    /// Of objects that this cycle found unreachable, those that may be deleted from the vault now: marked by an
    /// earlier cycle, pinned by no job, and every snapshot job that was alive at the mark has ended or
    /// pinned something since. They are held in a state in which no job relies on them.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn begin_delete(&self, cycle: &Cycle, unreachable: &[String]) -> Result<Vec<String>> {
        let condition = format!(
            "state = 'marked' AND marked_in < {} AND {UNPINNED} AND {NOBODY_FROM_THEN}",
            cycle.generation
        );
        self.change(cycle, unreachable, "state = 'deleting'", &condition).await
    }

    /// What an earlier cycle began to delete and did not finish. Delete these again, then finish them.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn unfinished_deletes(&self, cycle: &Cycle) -> Result<Vec<StoredObject>> {
        let mut transaction = self.begin(cycle).await?;
        let rows = query(
            "SELECT name, kind, stored_bytes FROM objects WHERE state = 'deleting' ORDER BY name LIMIT $1",
        )
        .bind(UNFINISHED_MAX)
        .fetch_all(&mut *transaction)
        .await?;
        rows.iter().map(object).collect()
    }

    /// Forgets objects that were deleted from the vault.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn finish_delete(&self, cycle: &Cycle, deleted: &[String]) -> Result<()> {
        for batch in deleted.chunks(BATCH) {
            retry_deadlocks(move || async move {
                let mut transaction = self.begin(cycle).await?;
                let sql = format!(
                    "DELETE FROM objects WHERE state = 'deleting' AND name IN ({})",
                    placeholders(1, batch.len())
                );
                with_names(sql, batch).execute(&mut *transaction).await?;
                transaction.commit().await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Begins a transaction that holds the collector's lease until its end.
    async fn begin(&self, cycle: &Cycle) -> Result<Transaction<'static, Any>> {
        let mut transaction = self.0.database.begin().await?;
        let done = query("UPDATE collector SET generation = generation WHERE id = 1 AND generation = $1")
            .bind(cycle.generation)
            .execute(&mut *transaction)
            .await?;
        held(done.rows_affected())?;
        Ok(transaction)
    }

    /// Sets the named objects for which the condition holds; which ones those were.
    async fn change(
        &self,
        cycle: &Cycle,
        names_wanted: &[String],
        set: &str,
        condition: &str,
    ) -> Result<Vec<String>> {
        let mut changed = Vec::new();
        for batch in names_wanted.chunks(BATCH) {
            let wanted = placeholders(1, batch.len());
            let lock = format!("UPDATE objects SET state = state WHERE name IN ({wanted})");
            let update =
                format!("UPDATE objects SET {set} WHERE name IN ({wanted}) AND {condition} RETURNING name");
            let done: Vec<String> = retry_deadlocks(|| async {
                let mut transaction = self.begin(cycle).await?;
                // Two statements, for PostgreSQL's sake: the first waits for those who are pinning these objects,
                // the second sees what they pinned. One alone would decide by what it saw before it waited.
                with_names(lock.clone(), batch).execute(&mut *transaction).await?;
                let rows = with_names(update.clone(), batch).fetch_all(&mut *transaction).await?;
                transaction.commit().await?;
                names(&rows)
            })
            .await?;
            changed.extend(done);
        }
        Ok(changed)
    }
}

/// No job has it pinned.
const UNPINNED: &str = "NOT EXISTS (SELECT 1 FROM job_objects p WHERE p.name = objects.name)";

/// Every snapshot job that had been begun when it was marked has ended, or has pinned something in a later cycle.
const NOBODY_FROM_THEN: &str = "NOT EXISTS (SELECT 1 FROM jobs j WHERE j.kind = 'snapshot' \
    AND j.state IN ('queued', 'running') AND j.lease_epoch > 0 AND j.pinned_in <= objects.marked_in)";

fn held(rows: u64) -> Result<()> {
    if rows == 0 { Err(Error::LeaseLost { what: "the garbage collection".to_owned() }) } else { Ok(()) }
}
