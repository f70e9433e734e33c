//! Connections of one job to its deployment, used again and again.

use std::sync::{Mutex, PoisonError};

use mongo::{ClusterTime, Deployment, wire::Connection};

use super::guard::Hit;
use crate::lease::JobError;

/// The deployment that is read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) deployment: Deployment,
    /// The primary's term when the time was taken.
    pub(super) term: i64,
    /// The time to read at.
    pub(super) at: ClusterTime,
    /// Size of its cache, which decides how large collections are read.
    pub(super) cache_bytes: u64,
    idle: Mutex<Vec<Connection>>,
}

impl Source {
    pub(super) fn new(deployment: &Deployment, term: i64, at: ClusterTime, cache_bytes: u64) -> Self {
        Self { deployment: deployment.clone(), term, at, cache_bytes, idle: Mutex::default() }
    }

    /// An idle connection, or a new one.
    pub(super) async fn connection(&self) -> Result<Connection, mongo::Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => self.deployment.read_wire().await,
        }
    }

    /// Takes back a connection on which everything that was asked was also answered.
    pub(super) fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// Why the read of one collection ended without success.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The deployment: maybe it can be read at a later time.
    Mongo(mongo::Error),
    /// Sorted reading gave documents in another order: sort them ourselves.
    OutOfOrder,
    /// The keys of a range take more memory than there is for them: sort them, which needs no list of them.
    LongKeys,
    /// What was read may be another collection's: see [`super::guard`].
    Falsified(Hit),
    /// Anything else.
    Job(JobError),
}

impl From<mongo::Error> for ReadError {
    fn from(error: mongo::Error) -> Self {
        Self::Mongo(error)
    }
}

impl From<JobError> for ReadError {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl From<crate::spill::SpillError> for ReadError {
    fn from(error: crate::spill::SpillError) -> Self {
        Self::Job(error.into())
    }
}

impl From<crate::pipeline::OutOfOrder> for ReadError {
    fn from(_: crate::pipeline::OutOfOrder) -> Self {
        Self::OutOfOrder
    }
}

impl From<history::Malformed> for ReadError {
    fn from(error: history::Malformed) -> Self {
        Self::Job(JobError::failed_by("the deployment gave a document that is no document", error))
    }
}
