//! Creating, renaming and dropping collections, from raw options.

use bson::{Bson, Document, doc, spec::BinarySubtype};

use super::{
    command::{self, NAMESPACE_EXISTS},
    raw::{RawBuilder, malformed},
};
use crate::{Deployment, Error, Namespace, Result, namespace::never_taken_database};

/// Fields of an `_id` index specification that older servers write and newer ones refuse.
pub(super) const OUTDATED_INDEX_FIELDS: [&str; 1] = ["ns"];

/// Options that listings show and `create` refuses: a collection that `$out` was just writing comes back as a plain one.
pub(super) const UNSAID_OPTIONS: [&str; 1] = ["temp"];

/// Collections listed in one reply; a database with more of them is listed by several.
const LISTING_BATCH: i32 = 10_000;

/// Creates a collection with `options` and `idIndex` exactly as `listCollections` once gave them.
///
/// # Errors
/// The server's, sorted; code 48 when the name is taken.
pub async fn create(
    deployment: &Deployment,
    db: &str,
    name: &str,
    options: &[u8],
    id_index: Option<&[u8]>,
) -> Result<()> {
    let mut create = RawBuilder::new().text("create", name);
    for option in history::raw::elements(&super::raw::without(options, &UNSAID_OPTIONS)?) {
        create = create.element(&option.map_err(malformed)?);
    }
    if let Some(id_index) = id_index {
        create = create.document("idIndex", &super::raw::without(id_index, &OUTDATED_INDEX_FIELDS)?);
    }
    command::run(deployment, db, create.command()?).await?;
    Ok(())
}

/// [`create`], after dropping what has the name: for staging names and for what a killed attempt left.
///
/// # Errors
/// The server's, sorted.
pub async fn create_anew(
    deployment: &Deployment,
    db: &str,
    name: &str,
    options: &[u8],
    id_index: Option<&[u8]>,
) -> Result<()> {
    match create(deployment, db, name, options, id_index).await {
        Err(error) if error.code() == Some(NAMESPACE_EXISTS) => {
            drop(deployment, db, name).await?;
            create(deployment, db, name, options, id_index).await
        }
        result => result,
    }
}

/// Whether a collection has no document, or is not there.
///
/// # Errors
/// The server's, sorted.
pub async fn is_empty(deployment: &Deployment, namespace: &Namespace) -> Result<bool> {
    let find = doc! {
        "find": &namespace.collection, "projection": { "_id": 1 }, "limit": 1, "singleBatch": true,
    };
    let reply = command::run_document(deployment, &namespace.db, &find).await?;
    let found = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    Ok(found.map_err(|_| Error::Protocol("find without a cursor".to_owned()))?.is_empty())
}

/// Drops a collection or view; nothing happens when there is none.
///
/// # Errors
/// The server's, sorted.
pub async fn drop(deployment: &Deployment, db: &str, name: &str) -> Result<()> {
    let drop = doc! { "drop": name, "writeConcern": command::majority() };
    match command::run_document(deployment, db, &drop).await {
        Ok(_) | Err(Error::NamespaceNotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Drops a database with everything in it; nothing happens when there is none.
///
/// # Errors
/// The server's, sorted; databases of the server itself are refused.
pub async fn drop_database(deployment: &Deployment, db: &str) -> Result<()> {
    if never_taken_database(db) || db == "admin" {
        return Err(Error::Unsupported(format!(
            "the database {db} belongs to the server and is never dropped"
        )));
    }
    command::run_document(deployment, db, &doc! { "dropDatabase": 1, "writeConcern": command::majority() })
        .await?;
    Ok(())
}

/// BackgroundOperationInProgressForNamespace.
const INDEX_BUILD_RUNS: i32 = 12587;

/// Puts `from`, whose identity is `uuid` if one is given, in the place of `to`, dropping what lies there. Done already is
/// done: when `to` has that identity.
///
/// # Errors
/// The server's, sorted; [`Error::NamespaceNotFound`] when `from` is gone, or not the one that was meant, and `to` is
/// something else. Then nothing was touched.
pub async fn rename_over(
    deployment: &Deployment,
    db: &str,
    from: &str,
    to: &str,
    uuid: Option<[u8; 16]>,
) -> Result<()> {
    rename(deployment, db, from, to, uuid, true).await
}

/// As [`rename_over`], but drops nothing: what lies there stays.
///
/// # Errors
/// As [`rename_over`]; the server's with code 48 when something else lies there.
pub async fn rename_if_free(
    deployment: &Deployment,
    db: &str,
    from: &str,
    to: &str,
    uuid: Option<[u8; 16]>,
) -> Result<()> {
    rename(deployment, db, from, to, uuid, false).await
}

async fn rename(
    deployment: &Deployment,
    db: &str,
    from: &str,
    to: &str,
    uuid: Option<[u8; 16]>,
    over: bool,
) -> Result<()> {
    let in_the_way = look(deployment, db, to).await?;
    if uuid.is_some() {
        if in_the_way.as_ref().is_some_and(|found| found.uuid == uuid) {
            return Ok(());
        }
        // What was made again under the name, by whomever, is not what was loaded and proved.
        if look(deployment, db, from).await?.is_none_or(|found| found.uuid != uuid) {
            return Err(Error::NamespaceNotFound(format!("{db}.{from}")));
        }
    }
    // A view or a time series cannot be renamed over.
    if in_the_way.is_some_and(|found| found.uuid.is_none()) {
        if !over {
            return Err(Error::Server {
                code: NAMESPACE_EXISTS,
                name: "NamespaceExists".to_owned(),
                message: format!("a view or a time series is called {db}.{to}"),
            });
        }
        drop(deployment, db, to).await?;
    }
    let rename = doc! {
        "renameCollection": format!("{db}.{from}"), "to": format!("{db}.{to}"), "dropTarget": over,
        "writeConcern": command::majority(),
    };
    match command::run_document(deployment, "admin", &rename).await {
        // An index is being built on what is to go. A drop ends the build; a rename refuses to (5.0.4, 6.0.5).
        Err(error)
            if over
                && error.code() == Some(INDEX_BUILD_RUNS)
                && is_index_built_on(deployment, &Namespace::new(db, to)).await? =>
        {
            drop(deployment, db, to).await?;
            command::run_document(deployment, "admin", &rename).await?;
        }
        renamed => {
            renamed?;
        }
    }
    Ok(())
}

/// Whether an index is being built there.
async fn is_index_built_on(deployment: &Deployment, namespace: &Namespace) -> Result<bool> {
    let list = doc! { "listIndexes": &namespace.collection, "includeBuildUUIDs": true };
    let reply = command::run_document(deployment, &namespace.db, &list).await?;
    let found = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let is_being_built = |spec: &Bson| spec.as_document().is_some_and(|spec| spec.contains_key("buildUUID"));
    Ok(found.is_ok_and(|found| found.iter().any(is_being_built)))
}

/// The identity of a collection; `None` when there is none of the name, or a view.
///
/// # Errors
/// The server's, sorted.
pub async fn uuid_of(deployment: &Deployment, namespace: &Namespace) -> Result<Option<[u8; 16]>> {
    Ok(look(deployment, &namespace.db, &namespace.collection).await?.and_then(|found| found.uuid))
}

/// Whether anything has the name: a collection, a view or a time series.
///
/// # Errors
/// The server's, sorted.
pub async fn exists(deployment: &Deployment, namespace: &Namespace) -> Result<bool> {
    Ok(look(deployment, &namespace.db, &namespace.collection).await?.is_some())
}

/// Whether indexes of the collection get a collation when their specification says none.
pub(super) async fn has_collation(deployment: &Deployment, namespace: &Namespace) -> Result<bool> {
    Ok(look(deployment, &namespace.db, &namespace.collection).await?.is_some_and(|found| found.collation))
}

/// What lies under a name.
struct Found {
    name: String,
    /// Views and time series have none.
    uuid: Option<[u8; 16]>,
    /// It has a default collation other than the simple one.
    collation: bool,
}

async fn look(deployment: &Deployment, db: &str, name: &str) -> Result<Option<Found>> {
    Ok(list(deployment, db, doc! { "name": name }).await?.into_iter().next())
}

/// All databases.
pub(super) async fn database_names(deployment: &Deployment) -> Result<Vec<String>> {
    let reply =
        command::run_document(deployment, "admin", &doc! { "listDatabases": 1, "nameOnly": true }).await?;
    let databases = reply.get_array("databases").map_err(|error| Error::Protocol(error.to_string()))?;
    let name = |database: &Bson| Some(database.as_document()?.get_str("name").ok()?.to_owned());
    Ok(databases.iter().filter_map(name).collect())
}

/// Collections whose names start with `prefix`.
pub(super) async fn collection_names_with_prefix(
    deployment: &Deployment,
    db: &str,
    prefix: &str,
) -> Result<Vec<String>> {
    let pattern = format!("^{}", prefix.replace('.', "\\."));
    let found = list(deployment, db, doc! { "name": { "$regex": pattern } }).await?;
    Ok(found.into_iter().map(|found| found.name).filter(|name| name.starts_with(prefix)).collect())
}

async fn list(deployment: &Deployment, db: &str, filter: Document) -> Result<Vec<Found>> {
    let list = doc! { "listCollections": 1, "filter": filter, "cursor": { "batchSize": LISTING_BATCH } };
    let mut reply = command::run_document(deployment, db, &list).await?;
    let mut found = Vec::new();
    loop {
        let cursor = reply.get_document("cursor").map_err(|error| Error::Protocol(error.to_string()))?;
        let batch = cursor.get_array("firstBatch").or_else(|_| cursor.get_array("nextBatch"));
        let batch = batch.map_err(|error| Error::Protocol(error.to_string()))?;
        found.extend(batch.iter().filter_map(Bson::as_document).filter_map(Found::of));
        let (Ok(id @ 1..) | Ok(id @ ..=-1)) = cursor.get_i64("id") else {
            return Ok(found);
        };
        let more = doc! { "getMore": id, "collection": "$cmd.listCollections", "batchSize": LISTING_BATCH };
        reply = command::run_document(deployment, db, &more).await?;
    }
}

impl Found {
    fn of(listed: &Document) -> Option<Self> {
        let uuid = match listed.get_document("info").ok().and_then(|info| info.get("uuid")) {
            Some(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Uuid => {
                binary.bytes.as_slice().try_into().ok()
            }
            _ => None,
        };
        let collation = listed.get_document("options").is_ok_and(|options| options.contains_key("collation"));
        Some(Self { name: listed.get_str("name").ok()?.to_owned(), uuid, collation })
    }
}
