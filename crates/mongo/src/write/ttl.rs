//! Keeping the server from deleting what was just restored.
//!
//! A restored old state may hold nothing but expired documents, and the TTL monitor would delete them within a minute.
//! Such an index is built parked: with a lifetime so long that nothing expires. It is reported, and [`unpark`] gives
//! it back its own lifetime, which leaves the specification byte for byte what it was (measured on 5.0.4 and 6.0.5).
//! Clustered and time-series collections, whose lifetime is an option of theirs, are created without it.

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};

use super::{
    command,
    raw::{self, RawBuilder, malformed},
};
use crate::{Deployment, Namespace, Result, index_spec::is_clustered, namespace::BUCKETS_PREFIX};

const PRE_IMAGES: &str = "recordPreImages";
pub(super) const FIELD: &str = "expireAfterSeconds";

/// 5.0 refuses lifetimes that reach back before 1970; later versions take the longest there is.
const FIRST_VERSION_WITH_LONGEST_LIFETIME: (u32, u32, u32) = (5, 1, 0);

/// Servers before this one switch `recordPreImages` off in every `collMod` that does not name it.
const PRE_IMAGES_STAY: (u32, u32, u32) = (6, 0, 0);

/// What to do with TTL indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TtlPolicy {
    /// Restore them as they were; expired documents vanish soon.
    Keep,
    /// Park those under which documents would be deleted at once.
    #[default]
    ParkExpiring,
    /// Park all of them.
    ParkAll,
}

/// A lifetime that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedTtl {
    /// The collection (or time series) under its present name.
    pub namespace: Namespace,
    /// The index; `None` when the lifetime is an option of the collection.
    pub index: Option<String>,
    /// Field of the index that holds the date; `None` for an option of the collection.
    pub field: Option<String>,
    /// The lifetime that it had.
    pub expire_after_seconds: i64,
}

impl ParkedTtl {
    /// The same, after the collection was renamed.
    pub fn renamed(self, namespace: Namespace) -> Self {
        Self { namespace, ..self }
    }
}

/// The lifetimes that the indexes of a collection have, by their specifications. That of a clustered collection is an option of
/// the collection, wherever else it may be shown.
///
/// # Errors
/// When a specification is no BSON.
pub fn lifetimes(namespace: &Namespace, specs: &[Vec<u8>]) -> Result<Vec<ParkedTtl>> {
    let mut found = Vec::new();
    for spec in specs.iter().filter(|spec| !is_clustered(spec)) {
        let (Some(seconds), Some(name)) = (lifetime(spec)?, raw::text_field(spec, "name")) else { continue };
        found.push(ParkedTtl {
            namespace: namespace.clone(),
            index: Some(name),
            field: super::indexes::first_key(spec)?,
            expire_after_seconds: seconds,
        });
    }
    Ok(found)
}

/// Puts the lifetime of an index that is there aside: nothing expires until [`unpark`] gives it back. Done twice is done.
///
/// # Errors
/// The server's, sorted.
pub async fn park(deployment: &Deployment, ttl: &ParkedTtl) -> Result<()> {
    let parked = ParkedTtl { expire_after_seconds: parked_seconds(deployment).await?.into(), ..ttl.clone() };
    unpark(deployment, &parked).await
}

/// Gives an index or a collection its own lifetime back. Done twice is done.
///
/// # Errors
/// The server's, sorted.
pub async fn unpark(deployment: &Deployment, parked: &ParkedTtl) -> Result<()> {
    let before_6_0 = deployment.version() < PRE_IMAGES_STAY;
    let pre_images = before_6_0 && records_pre_images(deployment, &parked.namespace).await?;
    let mut modify = unpark_command(parked, pre_images);
    modify.insert("writeConcern", command::majority());
    command::run_document(deployment, &parked.namespace.db, &modify).await?;
    Ok(())
}

/// What somebody types into `mongosh` to do what [`unpark`] does, later. `options` are those of the collection.
pub fn unpark_line(deployment: &Deployment, parked: &ParkedTtl, options: &[u8]) -> String {
    let recorded = history::raw::field(options, PRE_IMAGES).ok().flatten();
    let recorded = recorded.is_some_and(|element| element.value == [1]);
    let command = unpark_command(parked, recorded && deployment.version() < PRE_IMAGES_STAY);
    let db = serde_json::Value::from(parked.namespace.db.as_str());
    format!("db.getSiblingDB({db}).runCommand({})", Bson::Document(command).into_relaxed_extjson())
}

fn unpark_command(parked: &ParkedTtl, pre_images: bool) -> Document {
    let ParkedTtl { namespace, index, expire_after_seconds, .. } = parked;
    let mut modify = doc! { "collMod": &namespace.collection };
    match index {
        Some(name) => modify.insert("index", doc! { "name": name, FIELD: expire_after_seconds }),
        None => modify.insert(FIELD, expire_after_seconds),
    };
    if pre_images {
        modify.insert(PRE_IMAGES, true);
    }
    modify
}

async fn records_pre_images(deployment: &Deployment, namespace: &Namespace) -> Result<bool> {
    let list = doc! { "listCollections": 1, "filter": { "name": &namespace.collection } };
    let reply = command::run_document(deployment, &namespace.db, &list).await?;
    let listed = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let options = listed.ok().and_then(|batch| batch.first()?.as_document()?.get_document("options").ok());
    Ok(options.is_some_and(|options| options.get_bool(PRE_IMAGES).unwrap_or(false)))
}

/// Whether documents would be deleted as soon as the lifetime was given back.
///
/// # Errors
/// The server's, sorted.
pub async fn would_delete_now(deployment: &Deployment, parked: &ParkedTtl) -> Result<bool> {
    let ParkedTtl { namespace, field, expire_after_seconds, .. } = parked;
    let lifetime_ms = expire_after_seconds.saturating_mul(1000);
    let limit =
        DateTime::from_millis(server_time(deployment).await?.timestamp_millis().saturating_sub(lifetime_ms));
    let filter = match field {
        Some(field) => doc! { field.as_str(): { "$lt": limit } },
        None if namespace.collection.starts_with(BUCKETS_PREFIX) => {
            doc! { "_id": { "$lt": first_id_of(limit) } }
        }
        None => doc! { "_id": { "$lt": limit } },
    };
    let find = doc! {
        "find": &namespace.collection, "filter": filter, "projection": { "_id": 1 }, "limit": 1, "singleBatch": true,
    };
    let reply = command::run_document(deployment, &namespace.db, &find).await?;
    Ok(reply
        .get_document("cursor")
        .and_then(|cursor| cursor.get_array("firstBatch"))
        .is_ok_and(|batch| !batch.is_empty()))
}

/// The smallest `_id` of a bucket that begins at this time.
fn first_id_of(time: DateTime) -> ObjectId {
    let seconds = u32::try_from(time.timestamp_millis().div_euclid(1000).max(0)).unwrap_or(u32::MAX);
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// The lifetime that parks an index on this server.
///
/// # Errors
/// When the server does not tell its time.
pub async fn parked_seconds(deployment: &Deployment) -> Result<i32> {
    if deployment.version() >= FIRST_VERSION_WITH_LONGEST_LIFETIME {
        return Ok(i32::MAX);
    }
    let now = server_time(deployment).await?.timestamp_millis() / 1000;
    Ok(i32::try_from(now).unwrap_or(i32::MAX))
}

async fn server_time(deployment: &Deployment) -> Result<DateTime> {
    let hello: Document = deployment.run_admin(doc! { "hello": 1 }).await?;
    hello
        .get_datetime("localTime")
        .copied()
        .map_err(|_| crate::Error::Protocol("hello without localTime".to_owned()))
}

/// The lifetime in an index specification or in a collection's options.
pub(super) fn lifetime(document: &[u8]) -> Result<Option<i64>> {
    Ok(history::raw::field(document, FIELD).map_err(malformed)?.and_then(|element| raw::number(&element)))
}

/// The specification with another lifetime, everything else in its place.
pub(super) fn with_lifetime(spec: &[u8], seconds: i32) -> Result<Vec<u8>> {
    let mut changed = RawBuilder::new();
    for element in history::raw::elements(spec) {
        let element = element.map_err(malformed)?;
        changed = match element.name == FIELD.as_bytes() {
            true => changed.int32(FIELD, seconds),
            false => changed.element(&element),
        };
    }
    Ok(changed.finish())
}

/// Takes the lifetime out of a collection's options, if it has one. `namespace` is the collection, or the time series
/// as users see it.
///
/// # Errors
/// When the options are not BSON.
pub fn park_collection(namespace: &Namespace, options: &[u8]) -> Result<(Vec<u8>, Option<ParkedTtl>)> {
    let Some(expire_after_seconds) = lifetime(options)? else {
        return Ok((options.to_vec(), None));
    };
    let parked = ParkedTtl { namespace: namespace.clone(), index: None, field: None, expire_after_seconds };
    Ok((raw::without(options, &[FIELD])?, Some(parked)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_parked_specification_differs_in_its_lifetime_only() {
        let spec =
            rawdoc! { "v": 2, "key": { "expireAfterSeconds": 1 }, "expireAfterSeconds": 60_i64, "name": "x" };
        assert_eq!(lifetime(spec.as_bytes()).unwrap(), Some(60));
        let parked =
            rawdoc! { "v": 2, "key": { "expireAfterSeconds": 1 }, "expireAfterSeconds": 7, "name": "x" };
        assert_eq!(with_lifetime(spec.as_bytes(), 7).unwrap(), parked.as_bytes());
        assert_eq!(lifetime(rawdoc! { "key": { "expireAfterSeconds": 1 } }.as_bytes()).unwrap(), None);
    }

    #[test]
    fn a_collection_is_parked_by_leaving_the_option_out() {
        let namespace = Namespace::new("app", "x");
        let options = rawdoc! { "timeseries": { "timeField": "t" }, "expireAfterSeconds": 60_i64 };
        let (without, parked) = park_collection(&namespace, options.as_bytes()).unwrap();
        assert_eq!(without, rawdoc! { "timeseries": { "timeField": "t" } }.as_bytes());
        assert_eq!(parked.unwrap().expire_after_seconds, 60);
        assert_eq!(park_collection(&namespace, &without).unwrap(), (without.clone(), None));
    }

    #[test]
    fn bucket_ids_begin_with_their_seconds() {
        assert_eq!(
            first_id_of(DateTime::from_millis(0x6500_0000 * 1000 + 999)).to_hex(),
            "650000000000000000000000"
        );
        assert_eq!(first_id_of(DateTime::from_millis(-1)).to_hex(), "000000000000000000000000");
    }
}
