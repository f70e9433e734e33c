//! Loading documents into one collection as the bytes they are.
//!
//! Documents go in unordered over several connections, or in order over one where the order is the data (capped
//! collections). Each batch is acknowledged by the primary alone; [`Loader::finish`] then waits until a majority has
//! all of them, in the term in which the load began. After any error the collection is in an unknown state: drop it,
//! create it again, load again. Nothing is retried in here, so a batch is never sent twice, and a duplicate key means
//! that the collection was not empty.
//!
//! The server puts its own time in the place of a top-level `Timestamp(0,0)` when it inserts a document, and a later
//! `$set` is no cure: it cannot name fields with dots and dollars, and where a name occurs twice it damages the
//! document or (6.0.5) aborts the server. Such documents are inserted by an upsert that matches nothing and
//! whose pipeline is the literal document: that keeps every byte, measured on 5.0.4 and 6.0.5.

mod barrier;
mod batch;
mod session;
mod worker;
mod written;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    task::JoinSet,
};

pub use barrier::Barrier;
pub use session::session_prefix;
pub use written::Written;

pub(super) use self::session::Session;
use self::{
    batch::Batch,
    worker::{Tally, Worker},
};
use super::ConnectionPool;
use crate::{ClusterTime, Deployment, Error, Namespace, Result};

/// More connections than this never helped.
const CONNECTIONS_MAX: usize = 16;

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Connections at most; small collections use fewer.
    pub connections: usize,
    /// Keep the order of the documents (capped collections): one connection, one batch after another.
    pub insertion_order: bool,
    /// Mark the entries in the oplog as written by this job (see [`session_prefix`]). Costs about 100 bytes of oplog
    /// per document; not needed for staging names, which are known as ours anyway.
    pub mark_as: Option<String>,
    /// Counts every batch as soon as it is acknowledged, also of loads that fail later.
    pub written: Arc<Written>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { connections: 4, insertion_order: false, mark_as: None, written: Arc::default() }
    }
}

/// What was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadReport {
    /// Documents.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Documents with a top-level `Timestamp(0,0)`, which needed the longer way.
    pub mended: u64,
    /// A majority has everything as of this time; `None` after [`Loader::close`].
    pub durable_at: Option<ClusterTime>,
}

/// A load under way. Dropped, it ends its connections.
#[derive(Debug)]
pub struct Loader {
    pool: ConnectionPool,
    namespace: Namespace,
    options: LoadOptions,
    barrier: Barrier,
    sender: mpsc::Sender<Batch>,
    receiver: Arc<AsyncMutex<mpsc::Receiver<Batch>>>,
    failure: Failure,
    workers: JoinSet<Option<Tally>>,
}

/// The first error of any worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    fn set(&self, error: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn get(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Loader {
    /// Begins a load into a collection that is there and empty.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn open(deployment: &Deployment, namespace: &Namespace, options: LoadOptions) -> Result<Self> {
        Self::open_on(&ConnectionPool::new(deployment), namespace, options).await
    }

    /// [`Loader::open`] on connections that are kept for the next collection.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn open_on(pool: &ConnectionPool, namespace: &Namespace, options: LoadOptions) -> Result<Self> {
        let barrier = Barrier::begin(pool.deployment()).await?;
        Ok(Self::open_behind(pool, namespace, options, barrier))
    }

    /// [`Loader::open_on`] behind a barrier that began earlier and serves many collections; each is then ended by
    /// [`Loader::close`], and all of them by one [`Barrier::wait`].
    pub fn open_behind(
        pool: &ConnectionPool,
        namespace: &Namespace,
        options: LoadOptions,
        barrier: Barrier,
    ) -> Self {
        let connections =
            if options.insertion_order { 1 } else { options.connections.clamp(1, CONNECTIONS_MAX) };
        let (sender, receiver) = mpsc::channel(connections);
        Self {
            pool: pool.clone(),
            namespace: namespace.clone(),
            options: LoadOptions { connections, ..options },
            barrier,
            sender,
            receiver: Arc::new(AsyncMutex::new(receiver)),
            failure: Failure::default(),
            workers: JoinSet::new(),
        }
    }

    /// Hands over documents that lie back to back; waits while all connections are busy. An error may belong to
    /// documents of an earlier call.
    ///
    /// # Errors
    /// The server's, sorted. The load is over then.
    pub async fn insert(&mut self, documents: Bytes) -> Result<()> {
        for batch in batch::split(&documents, self.options.insertion_order)? {
            self.add_worker_if_busy();
            if self.sender.send(batch).await.is_err() {
                return Err(self
                    .failure
                    .get()
                    .unwrap_or_else(|| Error::Protocol("the load ended early".to_owned())));
            }
        }
        Ok(())
    }

    /// Connections are opened as batches pile up, so that a small collection opens one.
    fn add_worker_if_busy(&mut self) {
        let waiting = self.sender.max_capacity() - self.sender.capacity();
        if self.workers.is_empty() || (waiting > 0 && self.workers.len() < self.options.connections) {
            let worker = Worker {
                pool: self.pool.clone(),
                namespace: self.namespace.clone(),
                insertion_order: self.options.insertion_order,
                session: self.options.mark_as.as_deref().map(Session::new),
                failure: self.failure.clone(),
                written: Arc::clone(&self.options.written),
            };
            self.workers.spawn(worker.run(self.receiver.clone()));
        }
    }

    /// Waits until everything is written and known to a majority, in the term in which the load began.
    ///
    /// # Errors
    /// [`Error::TermChanged`] when there was an election: what was loaded may be gone. Else the server's, sorted.
    pub async fn finish(self) -> Result<LoadReport> {
        let (barrier, pool) = (self.barrier, self.pool.clone());
        let report = self.close().await?;
        let durable_at = barrier.wait(pool.deployment()).await.inspect_err(|_| pool.clear())?;
        Ok(LoadReport { durable_at: Some(durable_at), ..report })
    }

    /// Waits until everything is written by the primary. A [`Barrier`] must follow before anybody relies on it.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn close(self) -> Result<LoadReport> {
        let Self { pool, sender, failure, mut workers, .. } = self;
        drop(sender);
        let mut report = LoadReport::default();
        while let Some(ended) = workers.join_next().await {
            match ended {
                Ok(tally) => report.add(tally.unwrap_or_default()),
                Err(error) => failure.set(Error::Protocol(format!("a loading task died: {error}"))),
            }
        }
        match failure.get() {
            Some(error) => {
                pool.clear();
                Err(error)
            }
            None => Ok(report),
        }
    }

    /// Ends the load now. When it returns, no connection of the load is open any more.
    pub async fn abort(mut self) {
        self.workers.shutdown().await;
    }
}

impl LoadReport {
    fn add(&mut self, tally: Tally) {
        self.documents += tally.documents;
        self.bytes += tally.bytes;
        self.mended += tally.mended;
    }
}
