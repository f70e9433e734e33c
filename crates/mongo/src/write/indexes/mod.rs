//! Building indexes after the data, from the specifications that `listIndexes` once gave.
//!
//! The indexes of one collection go into one command, so that the collection is scanned once, or into a few that run
//! at a time: each build is the work of one thread of the server, most of which is sorting and inserting keys. Several
//! members must be ready before a build commits (the commit quorum); a member that is down can hold it up forever. So a build
//! has a deadline, and an error names the members that are missing. What an aborted build left is removed.

mod keys;
mod parts;
mod quorum;
mod repair;

use std::time::Duration;

use bson::{RawDocumentBuf, doc};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use keys::KeyCounts;
pub use quorum::CommitQuorum;
pub use repair::{Repair, repair};

use super::{
    collections::{self, OUTDATED_INDEX_FIELDS},
    command,
    raw::{self, RawBuilder, malformed},
    ttl::{self, ParkedTtl, TtlPolicy},
};
use crate::{Deployment, Error, Namespace, Result, index_spec::is_clustered};

/// How often members are looked at while a build runs.
const MEMBERS_LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest build, where the caller sets no deadline.
const BUILD_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How much later than the server the client gives up.
const REPLY_GRACE: Duration = Duration::from_secs(30);
/// NamespaceNotFound and IndexNotFound.
const NOT_THERE: [i32; 2] = [26, 27];

/// How to build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Members that must be ready before the build commits.
    pub commit_quorum: CommitQuorum,
    /// The build is aborted when it takes longer.
    pub deadline: Option<Duration>,
    /// The build is aborted when so many members are down for so long that it cannot commit.
    pub members_down_max: Duration,
    /// What to do with TTL indexes.
    pub ttl: TtlPolicy,
    /// Builds at a time at most, each of which scans the collection.
    pub builds_max: usize,
    /// What the indexes are shared out by.
    pub keys: KeyCounts,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            commit_quorum: CommitQuorum::Majority,
            deadline: None,
            members_down_max: Duration::from_secs(600),
            ttl: TtlPolicy::default(),
            builds_max: 1,
            keys: KeyCounts::default(),
        }
    }
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildReport {
    /// Names of the indexes, the `_id` index and clustered ones left out.
    pub built: Vec<String>,
    /// TTL indexes that do not delete for now.
    pub parked: Vec<ParkedTtl>,
}

/// Builds all `specs` that a collection does not have by nature. Indexes that are there already stay.
///
/// # Errors
/// [`Error::TimedOut`], naming members that are down; code 11000 when a unique index does not fit the data; else the
/// server's, sorted. After an error none of the indexes that were being built is there.
pub async fn build(
    deployment: &Deployment,
    namespace: &Namespace,
    specs: &[Vec<u8>],
    options: &BuildOptions,
) -> Result<BuildReport> {
    let plan = Plan::of(deployment, namespace, specs, options.ttl).await?;
    if plan.specs.is_empty() {
        return Ok(BuildReport::default());
    }
    if let Err(error) = parts::run(deployment, namespace, &plan, options).await {
        for names in parts::of(&plan, options) {
            abort(deployment, namespace, names).await;
        }
        return Err(error);
    }
    let parked = settle_ttl(deployment, plan.parked, options.ttl).await?;
    Ok(BuildReport { built: plan.names, parked })
}

/// Drops indexes by name; those that are not there are no error.
///
/// # Errors
/// The server's, sorted.
pub async fn drop(deployment: &Deployment, namespace: &Namespace, names: &[String]) -> Result<()> {
    for name in names {
        let drop =
            doc! { "dropIndexes": &namespace.collection, "index": name, "writeConcern": command::majority() };
        match command::run_document(deployment, &namespace.db, &drop).await {
            Ok(_) | Err(Error::NamespaceNotFound(_)) => {}
            Err(error) if error.code().is_some_and(|code| NOT_THERE.contains(&code)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What goes into the command.
struct Plan {
    specs: Vec<Vec<u8>>,
    names: Vec<String>,
    parked: Vec<ParkedTtl>,
}

impl Plan {
    async fn of(
        deployment: &Deployment,
        namespace: &Namespace,
        specs: &[Vec<u8>],
        policy: TtlPolicy,
    ) -> Result<Self> {
        let mut plan = Self { specs: Vec::new(), names: Vec::new(), parked: Vec::new() };
        let specs: Vec<_> = specs.iter().filter(|spec| !comes_with_the_collection(spec)).collect();
        let in_collation = !specs.is_empty() && collections::has_collation(deployment, namespace).await?;
        for spec in specs {
            let spec = raw::without(spec, &OUTDATED_INDEX_FIELDS)?;
            let spec = if in_collation { with_explicit_collation(spec)? } else { spec };
            let name = raw::text_field(&spec, "name")
                .ok_or_else(|| Error::Protocol("an index without a name".to_owned()))?;
            let lifetime = ttl::lifetime(&spec)?.filter(|_| policy != TtlPolicy::Keep);
            let spec = match lifetime {
                Some(seconds) => {
                    let parked_seconds = ttl::parked_seconds(deployment).await?;
                    plan.park(namespace, &name, spec, seconds, parked_seconds)?
                }
                None => spec,
            };
            plan.specs.push(spec);
            plan.names.push(name);
        }
        Ok(plan)
    }

    /// The specification with the parking lifetime, unless its own is as long.
    fn park(
        &mut self,
        namespace: &Namespace,
        name: &str,
        spec: Vec<u8>,
        seconds: i64,
        parked_seconds: i32,
    ) -> Result<Vec<u8>> {
        if seconds >= parked_seconds.into() {
            return Ok(spec);
        }
        self.parked.push(ParkedTtl {
            namespace: namespace.clone(),
            index: Some(name.to_owned()),
            field: first_key(&spec)?,
            expire_after_seconds: seconds,
        });
        ttl::with_lifetime(&spec, parked_seconds)
    }
}

/// The `_id` index and the index that a clustered collection is stored by are made by `create`.
fn comes_with_the_collection(spec: &[u8]) -> bool {
    is_clustered(spec) || raw::text_field(spec, "name").as_deref() == Some("_id_")
}

/// Listings show no collation for an index with the simple one; given back like that, it would inherit the collection's.
/// Indexes of the first version know no collations and refuse the field.
fn with_explicit_collation(spec: Vec<u8>) -> Result<Vec<u8>> {
    let field = |name| history::raw::field(&spec, name).map_err(malformed);
    let version = field("v")?.and_then(|version| raw::number(&version));
    if field("collation")?.is_some() || version == Some(1) {
        return Ok(spec);
    }
    let simple = RawBuilder::new().text("locale", "simple").finish();
    let mut explicit = RawBuilder::new();
    for element in history::raw::elements(&spec) {
        explicit = explicit.element(&element.map_err(malformed)?);
    }
    Ok(explicit.document("collation", &simple).finish())
}

pub(super) fn first_key(spec: &[u8]) -> Result<Option<String>> {
    let Some(key) = history::raw::field(spec, "key").map_err(malformed)? else { return Ok(None) };
    let first = history::raw::elements(key.value).next().transpose().map_err(malformed)?;
    Ok(first.map(|element| String::from_utf8_lossy(element.name).into_owned()))
}

/// Runs the command on a connection of its own, and looks at the members meanwhile.
async fn run_watched(
    deployment: &Deployment,
    namespace: &Namespace,
    specs: &[Vec<u8>],
    options: &BuildOptions,
) -> Result<()> {
    let limit = options.deadline.unwrap_or(BUILD_MAX).min(BUILD_MAX);
    let command = create_indexes(namespace, specs, options, limit)?;
    let mut connection = deployment.primary_wire().await?;
    connection.set_reply_timeout(limit + REPLY_GRACE);
    let mut reply = std::pin::pin!(connection.command(&command));
    let mut look = interval(MEMBERS_LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look.tick().await;
    let mut short_since = None;
    loop {
        tokio::select! {
            reply = &mut reply => {
                return match reply {
                    Ok(_) => Ok(()),
                    Err(error) if ran_out_of_time(&error) => {
                        Err(timed_out(deployment, namespace, options, limit).await)
                    }
                    Err(error) => Err(error),
                };
            }
            _ = look.tick() => {}
        }
        let shortage = quorum::shortage(deployment, options.commit_quorum).await;
        let since = shortage.as_ref().map(|_| *short_since.get_or_insert_with(Instant::now));
        short_since = since;
        if since.is_some_and(|since| since.elapsed() >= options.members_down_max) {
            return Err(timed_out(deployment, namespace, options, options.members_down_max).await);
        }
    }
}

fn create_indexes(
    namespace: &Namespace,
    specs: &[Vec<u8>],
    options: &BuildOptions,
    limit: Duration,
) -> Result<RawDocumentBuf> {
    let concern = RawBuilder::new().int32("w", 1).finish();
    let command = RawBuilder::new()
        .text("createIndexes", &namespace.collection)
        .array("indexes", specs.iter().map(Vec::as_slice))
        .int64("maxTimeMS", i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1))
        .document("writeConcern", &concern)
        .text("$db", &namespace.db);
    options.commit_quorum.append_to(command).command()
}

fn ran_out_of_time(error: &Error) -> bool {
    matches!(error, Error::TimedOut { .. })
}

async fn timed_out(
    deployment: &Deployment,
    namespace: &Namespace,
    options: &BuildOptions,
    limit: Duration,
) -> Error {
    let what = match quorum::shortage(deployment, options.commit_quorum).await {
        Some(shortage) => format!("building the indexes of {namespace} ({shortage})"),
        None => format!("building the indexes of {namespace}"),
    };
    Error::TimedOut { what, limit_seconds: limit.as_secs() }
}

/// Removes what an error left, built or half built. The error that led here matters more than one of this.
async fn abort(deployment: &Deployment, namespace: &Namespace, names: &[String]) {
    // A build in progress is aborted only by all of its names together.
    let together = doc! { "dropIndexes": &namespace.collection, "index": names };
    if command::run_document(deployment, &namespace.db, &together).await.is_err()
        && let Err(error) = drop(deployment, namespace, names).await
    {
        tracing::warn!(%namespace, %error, "indexes of an aborted build could not be removed");
    }
}

/// Gives those TTL indexes their lifetime back under which nothing would be deleted at once.
async fn settle_ttl(
    deployment: &Deployment,
    parked: Vec<ParkedTtl>,
    policy: TtlPolicy,
) -> Result<Vec<ParkedTtl>> {
    let mut kept = Vec::new();
    for index in parked {
        if policy == TtlPolicy::ParkAll || ttl::would_delete_now(deployment, &index).await? {
            kept.push(index);
        } else {
            ttl::unpark(deployment, &index).await?;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn indexes_that_a_collection_has_by_nature_are_not_built() {
        assert!(comes_with_the_collection(
            rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }.as_bytes()
        ));
        assert!(comes_with_the_collection(
            rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "by id", "unique": true, "clustered": true }
                .as_bytes()
        ));
        assert!(!comes_with_the_collection(
            rawdoc! { "v": 2, "key": { "_id": "hashed" }, "name": "_id_hashed" }.as_bytes()
        ));
    }

    #[test]
    fn the_simple_collation_is_said_where_another_would_be_inherited() {
        let explicit = |spec: bson::RawDocumentBuf| with_explicit_collation(spec.into_bytes()).unwrap();
        let simple = rawdoc! { "v": 2, "name": "a", "collation": { "locale": "simple" } };
        assert_eq!(explicit(rawdoc! { "v": 2, "name": "a" }), simple.as_bytes());
        for kept in [
            rawdoc! { "v": 1, "name": "a" },
            rawdoc! { "v": 2, "name": "a", "collation": { "locale": "de" } },
        ] {
            assert_eq!(explicit(kept.clone()), kept.as_bytes());
        }
    }

    #[test]
    fn the_field_of_a_ttl_index_is_its_first_key() {
        let spec = rawdoc! { "v": 2, "key": { "at": 1 }, "name": "x" };
        assert_eq!(first_key(spec.as_bytes()).unwrap().as_deref(), Some("at"));
    }
}
