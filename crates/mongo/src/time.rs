//! Cluster time: the only clock that orders data.

use bson::rawdoc;

use crate::{
    Deployment, Error, Result,
    wire::{Connection, ReplyExt as _},
};

/// A BSON timestamp. The layers above have a type of their own with the same two numbers.
pub type ClusterTime = bson::Timestamp;

/// Longest wait for the note to reach a majority.
const MAJORITY_WAIT_MILLISECONDS_MAX: i32 = 30_000;

/// A cluster time that is now: on or after every operation acknowledged so far, and known to a majority.
///
/// Appends a note to the oplog, so that the time advances on an idle deployment too and no later operation can get an
/// earlier time.
///
/// # Errors
/// [`Error::TimedOut`] when the note does not reach a majority in time; the server's.
pub async fn majority_now(deployment: &Deployment) -> Result<ClusterTime> {
    majority_now_on(&mut deployment.primary_wire().await?).await
}

/// [`majority_now`] on a connection to the primary. That it succeeds proves that whatever this very member showed
/// before, on this connection, is not undone by an election.
///
/// # Errors
/// As [`majority_now`].
pub async fn majority_now_on(connection: &mut Connection) -> Result<ClusterTime> {
    let note = rawdoc! {
        "appendOplogNote": 1, "data": { "msg": "ebbtide" },
        "writeConcern": { "w": "majority", "wtimeout": MAJORITY_WAIT_MILLISECONDS_MAX },
        "$db": "admin",
    };
    let reply = connection.command(&note).await?;
    if reply.child("writeConcernError").is_some() {
        let what = "reaching a majority of the replica set (is a member down?)".to_owned();
        let limit_seconds = u64::try_from(MAJORITY_WAIT_MILLISECONDS_MAX / 1000).unwrap_or(0);
        return Err(Error::TimedOut { what, limit_seconds });
    }
    reply.operation_time()
}
