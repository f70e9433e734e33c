//! The target's side of a rewind: looking whether it is what the record says, putting documents back, looking again.

use std::{collections::HashMap, sync::Arc};

use bson::{Bson, RawDocument, RawDocumentBuf};
use bytes::BytesMut;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use history::{SortKey, raw};
use model::ClusterTime;
use mongo::{
    Error, Namespace,
    write::{Barrier, ConnectionPool, LoadOptions, Loader, documents},
};

use super::{
    super::{errors::job_error, pace::Pace},
    differences::{Difference, Differences},
};
use crate::{
    connect::to_mongo,
    crash,
    lease::{JobContext, JobError},
};

const DUPLICATE_KEY: i32 = 11_000;
/// Connections that documents are put back on.
const CONNECTIONS_MAX: usize = 4;
/// Batches of one collection that are looked at, or removed, at a time.
const BATCHES_AT_A_TIME: usize = 3;

/// One collection that is put back.
pub(super) struct Collection<'a> {
    pub(super) ctx: &'a JobContext,
    pub(super) pool: &'a ConnectionPool,
    pub(super) job: &'a str,
    pub(super) pace: &'a Pace,
    pub(super) namespace: &'a Namespace,
    pub(super) differences: &'a Differences,
    /// Whether documents may be replaced one by one: unique keys that move from one to another do not let them.
    pub(super) replaces: bool,
}

/// Which side of a difference a document should be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// As the record says it is.
    Now,
    /// As it was.
    Want,
}

impl Side {
    fn of(self, difference: &Difference) -> Option<&[u8]> {
        match self {
            Self::Now => difference.now.as_deref(),
            Self::Want => difference.want.as_deref(),
        }
    }
}

/// What became of putting documents back.
#[derive(Debug)]
pub(super) enum Written {
    /// All of them are.
    All,
    /// One did not go in beside what is there, in the server's words.
    InTheWay(String),
}

impl Collection<'_> {
    /// The first document that is not what it should be at `at`, as text for people; none when all are.
    pub(super) async fn differing(&self, side: Side, at: ClusterTime) -> Result<Option<String>, JobError> {
        let looked = self.batch_by_batch(|batch| self.look(batch, side, at).boxed()).await?;
        Ok(looked.into_iter().flatten().next())
    }

    async fn look(
        &self,
        batch: Vec<Difference>,
        side: Side,
        at: ClusterTime,
    ) -> Result<Option<String>, JobError> {
        let mut connection = self.pool.take().await.map_err(|e| self.failed("reading", e))?;
        let ids: Vec<&[u8]> = batch.iter().filter_map(named_by).collect();
        let found = documents::find(&mut connection, self.namespace, &ids, to_mongo(at));
        let found = self.ctx.or_stop(found).await?.map_err(|e| self.failed("reading", e))?;
        self.pool.put_back(connection);
        first_difference(&batch, side, found)
    }

    /// Replaces what can be where it lies, which is half the work of removing and inserting it.
    pub(super) async fn replace(&self) -> Result<Written, JobError> {
        if !self.replaces {
            return Ok(Written::All);
        }
        let done = self.batch_by_batch(|batch| self.replace_batch(batch).boxed()).await?;
        Ok(done.into_iter().find(|written| matches!(written, Written::InTheWay(_))).unwrap_or(Written::All))
    }

    async fn replace_batch(&self, batch: Vec<Difference>) -> Result<Written, JobError> {
        let documents: Vec<&[u8]> = batch
            .iter()
            .filter(|difference| self.is_replaced(difference))
            .filter_map(|difference| difference.want.as_deref())
            .collect();
        if documents.is_empty() {
            return Ok(Written::All);
        }
        self.pace.pass(self.ctx).await?;
        self.ctx.check()?;
        let mut changer = documents::Changer::new(self.pool, self.namespace, self.job);
        let replaced = changer.replace(&documents).await;
        let bytes = documents.iter().map(|document| document.len() as u64).sum();
        self.pace.written.add(documents.len() as u64, bytes);
        crash::point("restore.rewind.after-replacements");
        match replaced {
            Ok(replaced) => {
                self.ctx.progress().add(replaced, bytes);
                Ok(Written::All)
            }
            // It refuses single documents: the collection cannot be put back in this way.
            Err(error @ Error::Server { .. }) => Ok(Written::InTheWay(error.to_string())),
            Err(error) => Err(self.failed("replacing documents of", error)),
        }
    }

    fn is_replaced(&self, difference: &Difference) -> bool {
        match (&difference.now, &difference.want) {
            (Some(now), Some(want)) => self.replaces && documents::can_replace(now, want),
            _ => false,
        }
    }

    /// Removes what was not there, and all that is to be removed and inserted: so no unique key is in the way of another
    /// document.
    pub(super) async fn remove(&self) -> Result<(), JobError> {
        self.batch_by_batch(|batch| self.remove_batch(batch).boxed()).await.map(drop)
    }

    async fn remove_batch(&self, batch: Vec<Difference>) -> Result<(), JobError> {
        let removed = batch.iter().filter(|difference| !self.is_replaced(difference));
        let ids: Vec<&[u8]> = removed.filter_map(|difference| difference.now.as_deref()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.pace.pass(self.ctx).await?;
        self.ctx.check()?;
        let mut changer = documents::Changer::new(self.pool, self.namespace, self.job);
        // Of a removed document the oplog gets the id.
        let id_bytes = |document: &&[u8]| {
            raw::field(document, "_id").ok().flatten().map_or(0, |id| id.value.len() as u64)
        };
        let bytes = ids.iter().map(id_bytes).sum();
        let removed = changer.remove(&ids).await.map_err(|e| self.failed("removing documents of", e))?;
        self.pace.written.add(removed, bytes);
        crash::point("restore.rewind.after-removals");
        Ok(())
    }

    /// Works on batches, a few at a time. After the first failure no more are begun, and those under way are waited for: whoever
    /// goes on must find nobody writing.
    async fn batch_by_batch<'s, T>(
        &'s self,
        work: impl Fn(Vec<Difference>) -> BoxFuture<'s, Result<T, JobError>>,
    ) -> Result<Vec<T>, JobError> {
        let (mut under_way, mut done) = (FuturesOrdered::new(), Vec::new());
        let (mut batches, mut ended, mut failed) = (self.differences.batches(), false, None);
        loop {
            while !ended && failed.is_none() && under_way.len() < BATCHES_AT_A_TIME {
                match batches.next().await {
                    Ok(batch) if batch.is_empty() => ended = true,
                    Ok(batch) => under_way.push_back(work(batch)),
                    Err(error) => failed = Some(error),
                }
            }
            match under_way.next().await {
                Some(Ok(one)) => done.push(one),
                Some(Err(error)) => failed = failed.or(Some(error)),
                None => return failed.map_or(Ok(done), Err),
            }
        }
    }

    /// Inserts what was there.
    pub(super) async fn insert(&self, barrier: Barrier) -> Result<Written, JobError> {
        let options = LoadOptions {
            connections: CONNECTIONS_MAX,
            insertion_order: false,
            mark_as: Some(self.job.to_owned()),
            written: Arc::clone(&self.pace.written),
        };
        let mut loader = Loader::open_behind(self.pool, self.namespace, options, barrier);
        let inserted = match self.insert_all(&mut loader).await {
            Ok(()) => loader.close().await.map(drop),
            // Whoever has the lease now must find nobody writing.
            Err(Trouble::Stopped(stop)) => {
                loader.abort().await;
                return Err(stop);
            }
            Err(Trouble::Target(error)) => {
                loader.close().await.ok();
                Err(error)
            }
        };
        crash::point("restore.rewind.after-inserts");
        match inserted {
            Ok(()) => Ok(Written::All),
            Err(error) if error.code() == Some(DUPLICATE_KEY) => Ok(Written::InTheWay(error.to_string())),
            Err(error) => Err(self.failed("putting documents back into", error)),
        }
    }

    async fn insert_all(&self, loader: &mut Loader) -> Result<(), Trouble> {
        let mut batches = self.differences.batches();
        loop {
            let batch = batches.next().await?;
            if batch.is_empty() {
                return Ok(());
            }
            let (mut bytes, mut documents) = (BytesMut::new(), 0);
            let inserted = batch.iter().filter(|difference| !self.is_replaced(difference));
            for want in inserted.filter_map(|difference| difference.want.as_deref()) {
                bytes.extend_from_slice(want);
                documents += 1;
            }
            let length = bytes.len() as u64;
            if documents > 0 {
                for piece in self.pace.pieces(bytes.freeze())? {
                    self.pace.pass(self.ctx).await?;
                    self.ctx.check()?;
                    loader.insert(piece).await.map_err(Trouble::Target)?;
                }
                self.ctx.progress().add(documents, length);
            }
        }
    }

    fn failed(&self, doing: &str, error: Error) -> JobError {
        job_error(doing, self.namespace, error)
    }
}

enum Trouble {
    Stopped(JobError),
    Target(Error),
}

impl From<JobError> for Trouble {
    fn from(error: JobError) -> Self {
        Self::Stopped(error)
    }
}

/// A document whose `_id` the document of a difference has, or had.
fn named_by(difference: &Difference) -> Option<&[u8]> {
    difference.now.as_deref().or(difference.want.as_deref())
}

fn first_difference(
    batch: &[Difference],
    side: Side,
    found: Vec<Vec<u8>>,
) -> Result<Option<String>, JobError> {
    let malformed = |e| JobError::failed_by("the target gave out a malformed document", e);
    let mut by_key: HashMap<Vec<u8>, Vec<u8>> = HashMap::with_capacity(found.len());
    for document in found {
        let key = SortKey::of_document(&document).map_err(malformed)?;
        by_key.insert(key.as_bytes().to_vec(), document);
    }
    let differs =
        |difference: &&Difference| by_key.get(&difference.key).map(Vec::as_slice) != side.of(difference);
    Ok(batch.iter().find(differs).and_then(named_by).map(id_text))
}

/// The `_id` of a document as people write it.
fn id_text(document: &[u8]) -> String {
    let id = RawDocumentBuf::from_bytes(document.to_vec()).ok();
    let id = id.as_deref().and_then(|document: &RawDocument| document.get("_id").ok().flatten());
    match id.map(Bson::try_from) {
        Some(Ok(id)) => id.into_relaxed_extjson().to_string(),
        _ => "an _id that cannot be shown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_document_is_compared_by_its_bytes_and_named() {
        let (one, other) =
            (rawdoc! { "_id": 1, "a": 1 }.into_bytes(), rawdoc! { "_id": 1.0, "a": 1 }.into_bytes());
        let key = SortKey::of_document(&one).unwrap().as_bytes().to_vec();
        let difference = Difference { key, want: Some(one.clone()), now: None };
        let batch = [difference];
        let check = |side, found| first_difference(&batch, side, found).unwrap();
        assert_eq!(check(Side::Now, vec![]), None);
        assert_eq!(check(Side::Want, vec![one]), None);
        assert_eq!(check(Side::Want, vec![]).as_deref(), Some("1"));
        // The same key, and not the same document.
        assert_eq!(check(Side::Want, vec![other.clone()]).as_deref(), Some("1"));
        assert_eq!(check(Side::Now, vec![other]).as_deref(), Some("1"));
    }
}
