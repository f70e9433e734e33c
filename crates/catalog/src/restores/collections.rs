//! What becomes of each collection of a collection restore job, as its worker tells.

use std::collections::BTreeMap;

use model::{collection_restore::CollectionStep, id::RestoreJobId, job::Work};
use sqlx::{Any, Transaction, any::AnyRow, query};

use super::Restores;
use crate::{
    Lease, Listing, Page, Result,
    jobs::fence,
    row::{Columns, bulk, placeholders, plain, stored},
};

type Tx = Transaction<'static, Any>;

const COLUMNS: &str =
    "ordinal, source, target, effective_target, step, documents_total, documents_done, error";
/// Rows of one statement.
const BATCH: usize = 50;
/// Jobs whose sums are asked for at once.
const JOBS_BATCH: usize = 200;

/// One collection of a collection restore job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredCollection {
    /// Its place among those of the job.
    pub ordinal: u64,
    /// Its name in the state that is restored; a database alone, where the state has nothing of it.
    pub source: String,
    /// The name that was asked for.
    pub target: String,
    /// The name that it gets.
    pub effective_target: String,
    /// What was done for it.
    pub step: CollectionStep,
    /// Documents that it has.
    pub documents_total: u64,
    /// Documents that are restored.
    pub documents_done: u64,
    /// Why it could not be restored, or will not be.
    pub error: Option<String>,
}

/// Which collections of a job are listed: those of which all holds that is set.
#[derive(Debug, Clone, Default)]
pub struct CollectionFilter {
    /// One of these steps.
    pub steps: Option<Vec<CollectionStep>>,
    /// This source.
    pub source: Option<String>,
    /// This target, as it was asked for.
    pub target: Option<String>,
}

/// The collections of a job in numbers, without those that are not restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectionSums {
    /// All lines that its worker has told, of what is not restored too.
    pub told: u64,
    /// Documents that they have.
    pub documents_total: u64,
    /// Documents that are restored.
    pub documents_done: u64,
    /// Documents of what has its name.
    pub documents_in_place: u64,
    /// Those whose indexes could not be built.
    pub indexes_failed: u64,
    /// Those whose indexes are being built.
    pub indexing: u64,
    /// Those that are loaded with their indexes.
    pub indexed: u64,
    /// Those that are restored.
    pub restored: u64,
}

impl Restores<'_> {
    /// Tells what the lease's job restores: these collections, and no others that an earlier attempt may have told.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn begin_collections(&self, lease: &Lease, collections: &[RestoredCollection]) -> Result<()> {
        let id = job_of(lease)?;
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        query("DELETE FROM restored_collections WHERE restore_job_id = $1")
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
        for batch in collections.chunks(BATCH) {
            insert(&mut transaction, id, batch).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Tells how far collections are that [`Restores::begin_collections`] has told.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn tell_collections(&self, lease: &Lease, collections: &[RestoredCollection]) -> Result<()> {
        let id = job_of(lease)?;
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        for collection in collections {
            query(
                "UPDATE restored_collections SET step = $3, documents_total = $4, documents_done = $5, error = $6 \
                 WHERE restore_job_id = $1 AND ordinal = $2",
            )
            .bind(id.to_string())
            .bind(stored(collection.ordinal))
            .bind(collection.step.as_str())
            .bind(stored(collection.documents_total))
            .bind(stored(collection.documents_done))
            .bind(collection.error.as_deref().map(plain))
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Collections of a job, in their order.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn collections(
        &self,
        id: RestoreJobId,
        filter: &CollectionFilter,
        page: Page,
    ) -> Result<Listing<RestoredCollection>> {
        if filter.steps.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Listing { items: vec![], total: Some(0) });
        }
        let mut wanted = "FROM restored_collections WHERE restore_job_id = $1".to_owned();
        let mut values = vec![id.to_string()];
        if let Some(steps) = &filter.steps {
            wanted.push_str(&format!(" AND step IN ({})", placeholders(values.len() + 1, steps.len())));
            values.extend(steps.iter().map(|step| step.as_str().to_owned()));
        }
        for (column, value) in [("source", &filter.source), ("target", &filter.target)] {
            if let Some(value) = value {
                values.push(plain(value));
                wanted.push_str(&format!(" AND {column} = ${}", values.len()));
            }
        }
        let bound =
            |sql: String| values.iter().fold(bulk(sql), |statement, value| statement.bind(value.clone()));
        let (limit, offset) = (values.len() + 1, values.len() + 2);
        let rows =
            bound(format!("SELECT {COLUMNS} {wanted} ORDER BY ordinal LIMIT ${limit} OFFSET ${offset}"))
                .bind(page.limit())
                .bind(page.offset())
                .fetch_all(self.0.database.reader())
                .await?;
        let total = self.0.total(page, bound(format!("SELECT COUNT(*) AS total {wanted}"))).await?;
        Ok(Listing { items: rows.iter().map(collection).collect::<Result<_>>()?, total })
    }

    /// The collections of jobs in numbers. Jobs that have told nothing are left out.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn collection_sums(
        &self,
        ids: &[RestoreJobId],
    ) -> Result<BTreeMap<RestoreJobId, CollectionSums>> {
        let mut sums = BTreeMap::new();
        for batch in ids.chunks(JOBS_BATCH) {
            let of = |steps: &[CollectionStep], value: &str| {
                let steps: Vec<String> = steps.iter().map(|step| format!("'{}'", step.as_str())).collect();
                format!(
                    "CAST(SUM(CASE WHEN step IN ({}) THEN {value} ELSE 0 END) AS BIGINT)",
                    steps.join(", ")
                )
            };
            let restored: Vec<CollectionStep> =
                CollectionStep::ALL.iter().copied().filter(|step| step.is_restored()).collect();
            let mut select = bulk(format!(
                "SELECT restore_job_id, COUNT(*) AS told, {} AS documents_total, {} AS documents_done, {} AS documents_in_place, \
                 {} AS indexes_failed, {} AS indexing, {} AS indexed, {} AS restored FROM restored_collections \
                 WHERE restore_job_id IN ({}) GROUP BY restore_job_id",
                of(&restored, "documents_total"),
                of(&restored, "documents_done"),
                of(&[CollectionStep::InPlace], "documents_done"),
                of(&[CollectionStep::IndexesFailed], "1"),
                of(&[CollectionStep::Indexing], "1"),
                of(&[CollectionStep::Staged, CollectionStep::InPlace], "1"),
                of(&restored, "1"),
                placeholders(1, batch.len()),
            ));
            for id in batch {
                select = select.bind(id.to_string());
            }
            for row in select.fetch_all(self.0.database.reader()).await? {
                let of_job = CollectionSums {
                    told: row.count("told")?,
                    documents_total: row.count("documents_total")?,
                    documents_done: row.count("documents_done")?,
                    documents_in_place: row.count("documents_in_place")?,
                    indexes_failed: row.count("indexes_failed")?,
                    indexing: row.count("indexing")?,
                    indexed: row.count("indexed")?,
                    restored: row.count("restored")?,
                };
                sums.insert(row.parsed("restore_job_id")?, of_job);
            }
        }
        Ok(sums)
    }
}

fn job_of(lease: &Lease) -> Result<RestoreJobId> {
    match lease.work {
        Work::Restore { restore_job_id } => Ok(restore_job_id),
        Work::Snapshot { .. } | Work::Download { .. } | Work::Export { .. } => {
            let (state, event) = (lease.work.kind().to_owned(), "collections that are restored".to_owned());
            Err(model::IllegalTransition { machine: "job", state, event }.into())
        }
    }
}

async fn insert(transaction: &mut Tx, id: RestoreJobId, batch: &[RestoredCollection]) -> Result<()> {
    const COLUMNS_EACH: usize = 8;
    let rows: Vec<String> = (0..batch.len())
        .map(|row| format!("($1, {})", placeholders(2 + row * COLUMNS_EACH, COLUMNS_EACH)))
        .collect();
    let mut insert = bulk(format!(
        "INSERT INTO restored_collections (restore_job_id, {COLUMNS}) VALUES {}",
        rows.join(", ")
    ))
    .bind(id.to_string());
    for collection in batch {
        insert = insert
            .bind(stored(collection.ordinal))
            .bind(plain(&collection.source))
            .bind(plain(&collection.target))
            .bind(plain(&collection.effective_target))
            .bind(collection.step.as_str())
            .bind(stored(collection.documents_total))
            .bind(stored(collection.documents_done))
            .bind(collection.error.as_deref().map(plain));
    }
    insert.execute(&mut **transaction).await?;
    Ok(())
}

fn collection(row: &AnyRow) -> Result<RestoredCollection> {
    Ok(RestoredCollection {
        ordinal: row.count("ordinal")?,
        source: row.text("source")?,
        target: row.text("target")?,
        effective_target: row.text("effective_target")?,
        step: row.parsed("step")?,
        documents_total: row.count("documents_total")?,
        documents_done: row.count("documents_done")?,
        error: row.maybe_text("error")?,
    })
}
