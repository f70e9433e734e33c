//! Objects of the vault: which are stored, and which jobs rely on them.

use std::collections::HashSet;

use model::IllegalTransition;
use sqlx::{Any, Transaction, any::AnyRow, query};

use crate::{
    Catalog, Error, Lease, Result,
    row::{Columns, bulk, placeholders, stored},
};

/// How many names go into one statement and one transaction: few enough not to keep others waiting.
pub(crate) const BATCH: usize = 400;

/// How often a batch is tried when PostgreSQL finds that it and another one wait for each other.
const DEADLOCK_TRIES: usize = 5;

/// An object that is durable in the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its name.
    pub name: String,
    /// Its kind, as the vault calls it.
    pub kind: String,
    /// Its bytes in the vault.
    pub stored_bytes: u64,
}

/// What [`Objects::pin`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinReport {
    /// These are durable in the vault, as far as anybody knows, and stay there while the job lives. Never those that
    /// were found damaged.
    pub stored: HashSet<String>,
    /// The collector is deleting these right now. They are pinned; ask again in a moment, until they are gone,
    /// before uploading them.
    pub deleting: HashSet<String>,
}

/// A row of the table of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// The object.
    pub object: StoredObject,
    /// Whether an earlier cycle found it unreachable.
    pub marked: bool,
}

/// Sums over the objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectStats {
    /// How many there are.
    pub objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// How many of them are marked or being deleted.
    pub marked: u64,
    /// How many of them were found damaged or missing, and were not stored anew since.
    pub damaged: u64,
}

/// Operations on objects by the jobs that write and reuse them.
#[derive(Debug, Clone, Copy)]
pub struct Objects<'a>(pub(crate) &'a Catalog);

impl Objects<'_> {
    /// Pins objects for a job **before** it uploads them or relies on them, unmarks those that the collector had
    /// marked, and tells which are stored already. All in one transaction per batch; pins end with the job.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn pin(&self, lease: &Lease, names: &[String]) -> Result<PinReport> {
        let mut report = PinReport::default();
        for batch in names.chunks(BATCH) {
            let found = retry_deadlocks(|| self.pin_batch(lease, batch)).await?;
            report.stored.extend(found.stored);
            report.deleting.extend(found.deleting);
        }
        Ok(report)
    }

    /// Records objects that are durable in the vault now. They have to be pinned.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn stored(&self, lease: &Lease, objects: &[StoredObject]) -> Result<()> {
        for batch in objects.chunks(BATCH) {
            retry_deadlocks(|| async {
                let mut transaction = self.0.database.begin().await?;
                crate::jobs::fence(&mut transaction, lease).await?;
                enter(&mut transaction, batch).await?;
                transaction.commit().await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Notes that objects were found damaged or missing in the vault. From now on they count as not stored: the next job
    /// that needs one stores it anew. What refers to them stays as it is. Tells how many were not known to be damaged.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn report_damage(&self, names: &[String]) -> Result<u64> {
        let mut newly = 0;
        for batch in names.chunks(BATCH) {
            newly += retry_deadlocks(|| async {
                let sql = format!(
                    "UPDATE objects SET damaged = 1 WHERE damaged = 0 AND name IN ({})",
                    placeholders(1, batch.len())
                );
                Ok(with_names(sql, batch).execute(self.0.database.writer()).await?.rows_affected())
            })
            .await?;
        }
        Ok(newly)
    }

    /// Notes that objects that were found damaged are whole again.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn mended(&self, names: &[String]) -> Result<()> {
        for batch in names.chunks(BATCH) {
            retry_deadlocks(|| async {
                let sql = format!(
                    "UPDATE objects SET damaged = 0 WHERE damaged = 1 AND name IN ({})",
                    placeholders(1, batch.len())
                );
                Ok(with_names(sql, batch).execute(self.0.database.writer()).await.map(drop)?)
            })
            .await?;
        }
        Ok(())
    }

    /// Which of these are stored. A hint: only [`Objects::pin`] makes it stay so.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn known(&self, names: &[String]) -> Result<HashSet<String>> {
        let mut known = HashSet::new();
        for batch in names.chunks(BATCH) {
            let mut select = bulk(format!(
                "SELECT name FROM objects WHERE state IN ('live', 'marked') AND name IN ({})",
                placeholders(1, batch.len())
            ));
            for name in batch {
                select = select.bind(name);
            }
            known.extend(self::names::<Vec<_>>(&select.fetch_all(self.0.database.reader()).await?)?);
        }
        Ok(known)
    }

    /// Sums.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn stats(&self) -> Result<ObjectStats> {
        // PostgreSQL sums whole numbers into decimals, which would not be read back: hence the casts.
        let row = query(
            "SELECT COUNT(*) AS objects, CAST(COALESCE(SUM(stored_bytes), 0) AS BIGINT) AS stored_bytes, \
             CAST(COALESCE(SUM(CASE WHEN state = 'live' THEN 0 ELSE 1 END), 0) AS BIGINT) AS marked, \
             CAST(COALESCE(SUM(damaged), 0) AS BIGINT) AS damaged FROM objects",
        )
        .fetch_one(self.0.database.reader())
        .await?;
        Ok(ObjectStats {
            objects: row.count("objects")?,
            stored_bytes: row.count("stored_bytes")?,
            marked: row.count("marked")?,
            damaged: row.count("damaged")?,
        })
    }

    async fn pin_batch(&self, lease: &Lease, names: &[String]) -> Result<PinReport> {
        let mut transaction = self.0.database.begin().await?;
        // The fence, and the sign for the collector that this job has looked since the current cycle began.
        let done = query(
            "UPDATE jobs SET pinned_in = (SELECT c.generation FROM collector c WHERE c.id = 1) \
             WHERE id = $1 AND lease_epoch = $2 AND state = 'running'",
        )
        .bind(lease.job_id.to_string())
        .bind(lease.epoch)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::LeaseLost { what: format!("job {}", lease.job_id) });
        }
        insert_pins(&mut transaction, lease, names).await?;
        // All rows are written, marked or not: the lock on them is what makes the collector see the pins.
        let live = with_names(
            format!(
                "UPDATE objects SET state = 'live' WHERE state IN ('live', 'marked') AND name IN ({}) \
                 RETURNING name, damaged",
                placeholders(1, names.len())
            ),
            names,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let deleting = with_names(
            format!(
                "SELECT name FROM objects WHERE state = 'deleting' AND name IN ({})",
                placeholders(1, names.len())
            ),
            names,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let mut stored = HashSet::new();
        for row in &live {
            if !row.flag("damaged")? {
                stored.insert(row.text("name")?);
            }
        }
        let report = PinReport { stored, deleting: self::names(&deleting)? };
        transaction.commit().await?;
        Ok(report)
    }
}

async fn insert_pins(
    transaction: &mut Transaction<'static, Any>,
    lease: &Lease,
    names: &[String],
) -> Result<()> {
    let rows: Vec<String> = (0..names.len()).map(|i| format!("($1, ${})", i + 2)).collect();
    let sql = format!(
        "INSERT INTO job_objects (job_id, name) VALUES {} ON CONFLICT (job_id, name) DO NOTHING",
        rows.join(", ")
    );
    let mut insert = bulk(sql).bind(lease.job_id.to_string());
    for name in names {
        insert = insert.bind(name);
    }
    insert.execute(&mut **transaction).await?;
    Ok(())
}

/// Enters objects that are in the vault, or corrects what is known of them.
async fn enter(transaction: &mut Transaction<'static, Any>, objects: &[StoredObject]) -> Result<()> {
    for object in objects {
        let done = query(
            "INSERT INTO objects (name, kind, stored_bytes, state, marked_in) VALUES ($1, $2, $3, 'live', 0) \
             ON CONFLICT (name) DO UPDATE SET stored_bytes = excluded.stored_bytes, state = 'live', damaged = 0 \
             WHERE objects.state <> 'deleting'",
        )
        .bind(&object.name)
        .bind(&object.kind)
        .bind(stored(object.stored_bytes))
        .execute(&mut **transaction)
        .await?;
        if done.rows_affected() == 0 {
            // Whoever pins first and waits while it is being deleted never comes here.
            let (state, event) = ("deleting".to_owned(), "an upload that did not wait".to_owned());
            return Err(IllegalTransition { machine: "object", state, event }.into());
        }
    }
    Ok(())
}

/// Binds names to a statement that has placeholders for them from `$1` on.
pub(crate) fn with_names(
    sql: String,
    names: &[String],
) -> sqlx::query::Query<'static, Any, sqlx::any::AnyArguments> {
    names.iter().fold(bulk(sql), |statement, name| statement.bind(name.clone()))
}

/// The `name` column of rows.
pub(crate) fn names<C: FromIterator<String>>(rows: &[AnyRow]) -> Result<C> {
    rows.iter().map(|row| row.text("name")).collect()
}

/// An object from its row.
pub(crate) fn object(row: &AnyRow) -> Result<StoredObject> {
    Ok(StoredObject {
        name: row.text("name")?,
        kind: row.text("kind")?,
        stored_bytes: row.count("stored_bytes")?,
    })
}

/// Runs a transaction again that lost against another one. Batches lock many rows, in whatever order the
/// database likes; two that lock the same ones can come to wait for each other.
///
/// Not an `AsyncFn`: the compiler cannot tell that the future of one may be sent to another thread.
pub(crate) async fn retry_deadlocks<T, F: Future<Output = Result<T>>>(work: impl Fn() -> F) -> Result<T> {
    let mut tries = 1;
    loop {
        match work().await {
            Err(error) if error.is_transient() && tries < DEADLOCK_TRIES => tries += 1,
            other => return other,
        }
    }
}
