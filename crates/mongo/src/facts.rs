//! What a deployment is: everything that a job or a report wants to know of it.

use bson::{Bson, Document, doc};

use crate::{ClusterTime, Deployment, Error, Result, oplog, wire};

/// A member of the replica set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Host and port.
    pub host: String,
    /// `PRIMARY`, `SECONDARY`, `ARBITER`, `(not reachable/healthy)` and so on, in the server's words.
    pub state: String,
    /// Whether it answers.
    pub healthy: bool,
}

/// Everything worth knowing before a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Of the primary.
    pub version: (u32, u32, u32),
    /// As the server writes it.
    pub version_text: String,
    /// Outside of what Ebbtide is tested with, and accepted all the same.
    pub untested: bool,
    /// Feature compatibility version, such as `6.0`.
    pub fcv: String,
    /// The replica set's name.
    pub replica_set_name: String,
    /// The id that the set got when it was initiated, as hex.
    pub replica_set_id: Option<String>,
    /// All members.
    pub members: Vec<Member>,
    /// Whether the server checks privileges.
    pub auth_enabled: bool,
    /// `(database, user)` of the account in use.
    pub authenticated_user: Option<(String, String)>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Size of WiredTiger's cache on the primary.
    pub cache_bytes: u64,
    /// First and last entry of the oplog.
    pub oplog: Option<(ClusterTime, ClusterTime)>,
    /// Most bytes that the oplog may hold.
    pub oplog_bytes_max: u64,
    /// The storage engine's name.
    pub engine: String,
}

pub(crate) async fn gather(deployment: &Deployment) -> Result<Facts> {
    let identity = deployment.identity().clone();
    let fcv = deployment.run_admin(doc! { "getParameter": 1, "featureCompatibilityVersion": 1 }).await?;
    let status =
        deployment.run_admin(doc! { "serverStatus": 1, "metrics": 0, "locks": 0, "tcmalloc": 0 }).await?;
    refuse_shards(&status)?;
    let replica_set_id = replica_set_id(deployment).await?;
    let members = deployment.run_admin(doc! { "replSetGetStatus": 1 }).await?;
    let oplog_stats = deployment.run("local", doc! { "collStats": "oplog.rs" }).await?;
    Ok(Facts {
        version: identity.version,
        version_text: identity.version_text,
        untested: identity.untested,
        fcv: nested(&fcv, &["featureCompatibilityVersion", "version"])
            .and_then(Bson::as_str)
            .unwrap_or_default()
            .to_owned(),
        replica_set_name: identity.replica_set_name,
        replica_set_id,
        members: members
            .get_array("members")
            .map(|members| members.iter().filter_map(member).collect())
            .unwrap_or_default(),
        auth_enabled: identity.auth_enabled,
        authenticated_user: authenticated_user(deployment).await?,
        tls: identity.tls,
        cache_bytes: nested(&status, &["wiredTiger", "cache", "maximum bytes configured"])
            .map_or(0, whole_number),
        oplog: oplog_ends(&mut deployment.primary_wire().await?).await?,
        oplog_bytes_max: oplog_stats.get("maxSize").map_or(0, whole_number),
        engine: nested(&status, &["storageEngine", "name"])
            .and_then(Bson::as_str)
            .unwrap_or_default()
            .to_owned(),
    })
}

/// The id that the replica set got when it was initiated, as hex: what tells whether the deployment behind a name is
/// still the same.
///
/// # Errors
/// The server's.
pub async fn replica_set_id(deployment: &Deployment) -> Result<Option<String>> {
    let config = deployment.run_admin(doc! { "replSetGetConfig": 1 }).await?;
    let id = nested(&config, &["config", "settings", "replicaSetId"]).and_then(Bson::as_object_id);
    Ok(id.map(|id| id.to_hex()))
}

/// `(database, user)` of the account in use. No privilege is needed to ask.
///
/// # Errors
/// The server's.
pub async fn authenticated_user(deployment: &Deployment) -> Result<Option<(String, String)>> {
    let status = deployment.run_admin(doc! { "connectionStatus": 1 }).await?;
    let users = nested(&status, &["authInfo", "authenticatedUsers"]).and_then(Bson::as_array);
    Ok(users
        .and_then(|users| users.first())
        .and_then(Bson::as_document)
        .and_then(|user| Some((user.get_str("db").ok()?.to_owned(), user.get_str("user").ok()?.to_owned()))))
}

/// First and last entry of the oplog of the member that `connection` leads to.
pub(crate) async fn oplog_ends(
    connection: &mut wire::Connection,
) -> Result<Option<(ClusterTime, ClusterTime)>> {
    Ok(oplog::ends(connection).await?.map(|(first, last)| (first.time, last.time)))
}

/// A shard looks like any replica set to a client, but holds orphans and only a part of the data.
fn refuse_shards(status: &Document) -> Result<()> {
    if status.contains_key("sharding") {
        return Err(Error::Unsupported(
            "the replica set is a shard of a sharded cluster; sharded clusters are not supported yet"
                .to_owned(),
        ));
    }
    Ok(())
}

fn member(member: &Bson) -> Option<Member> {
    let member = member.as_document()?;
    Some(Member {
        host: member.get_str("name").ok()?.to_owned(),
        state: member.get_str("stateStr").unwrap_or_default().to_owned(),
        healthy: member.get("health").map_or(0, whole_number) == 1,
    })
}

fn nested<'a>(document: &'a Document, path: &[&str]) -> Option<&'a Bson> {
    let (first, rest) = path.split_first()?;
    let value = document.get(first)?;
    if rest.is_empty() { Some(value) } else { nested(value.as_document()?, rest) }
}

/// Servers send sizes as any number type; none is negative or near 2^53.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole_number(value: &Bson) -> u64 {
    match value {
        Bson::Int32(number) => u64::try_from(*number).unwrap_or(0),
        Bson::Int64(number) => u64::try_from(*number).unwrap_or(0),
        Bson::Double(number) => *number as u64,
        _ => 0,
    }
}
