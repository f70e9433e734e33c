//! How far back exact reads reach: `minSnapshotHistoryWindowInSeconds`.
//!
//! A parameter of one mongod, not of the set, and forgotten when it restarts. A job that needs more than the default
//! five minutes raises it on the member that it reads from, records that durably, and puts it back.

use bson::rawdoc;

use crate::{
    Deployment, Error, Result,
    wire::{Address, Connection, ReplyExt as _},
};

const PARAMETER: &str = "minSnapshotHistoryWindowInSeconds";

/// A window that was raised, and how to undo it. What a job must remember durably before [`raise`] returns to nothing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Raised {
    /// Host and port of the member.
    pub host: String,
    /// What it was before.
    pub previous_seconds: i64,
    /// What we made it.
    pub raised_to_seconds: i64,
}

/// The window of the member that reads go to.
///
/// # Errors
/// `Privilege` without `getParameter`.
pub async fn get(deployment: &Deployment) -> Result<i64> {
    get_on(&mut deployment.read_wire().await?).await
}

/// What [`raise`] would do, to be recorded durably before it is done; `None` when the window is long enough.
///
/// # Errors
/// As [`get`].
pub async fn plan(deployment: &Deployment, seconds: i64) -> Result<Option<Raised>> {
    let mut connection = deployment.read_wire().await?;
    let previous_seconds = get_on(&mut connection).await?;
    let host = connection.host().to_owned();
    Ok((previous_seconds < seconds).then_some(Raised { host, previous_seconds, raised_to_seconds: seconds }))
}

/// Does what [`plan`] planned.
///
/// # Errors
/// `Privilege` without `setParameter`: go on with the window there is.
pub async fn raise(deployment: &Deployment, planned: &Raised) -> Result<()> {
    let mut connection = deployment.wire_to(&Address::parse(&planned.host)?).await?;
    set_on(&mut connection, planned.raised_to_seconds).await
}

/// Puts the window back, unless it is no longer what we made it: then somebody else has decided.
///
/// # Errors
/// `Unreachable` when the member is away; should it come back by a restart, it has forgotten the window anyway.
pub async fn put_back(deployment: &Deployment, raised: &Raised) -> Result<()> {
    let mut connection = deployment.wire_to(&Address::parse(&raised.host)?).await?;
    if get_on(&mut connection).await? == raised.raised_to_seconds {
        set_on(&mut connection, raised.previous_seconds).await?;
    }
    Ok(())
}

async fn get_on(connection: &mut Connection) -> Result<i64> {
    let ask = rawdoc! { "getParameter": 1, "minSnapshotHistoryWindowInSeconds": 1, "$db": "admin" };
    let reply = connection.command(&ask).await?;
    reply.number(PARAMETER).ok_or_else(|| Error::protocol(format!("no value of {PARAMETER}")))
}

async fn set_on(connection: &mut Connection, seconds: i64) -> Result<()> {
    let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    let set = rawdoc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": seconds, "$db": "admin" };
    connection.command(&set).await.map(drop)
}
