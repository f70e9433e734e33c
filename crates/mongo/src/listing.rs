//! The catalog of a deployment at one cluster time.
//!
//! `listCollections` and `listIndexes` know no snapshots: they show the present. So the listing is made first and the
//! time taken after it, and when the oplog shows DDL in between, the databases that it touched are listed again.

use std::collections::{BTreeMap, BTreeSet};

use bson::{
    RawDocumentBuf,
    raw::{RawDocument, cstr},
    rawdoc,
};

use crate::{
    ClusterTime, Deployment, Error, Namespace, Result, ddl, index_spec,
    namespace::{BUCKETS_PREFIX, never_taken_database},
    read, time,
    wire::{Connection, ReplyExt as _},
};

/// Listings before giving up. A pass over one small database takes milliseconds, so this outlasts a job that replaces
/// a collection several times a second.
const ROUNDS_MAX: u32 = 100;

/// What a collection is, as far as reading and writing it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CollectionKind {
    /// An ordinary collection.
    Plain,
    /// Of bounded size, kept in insertion order.
    Capped,
    /// Stored by `_id`, without an `_id` index.
    Clustered,
    /// `system.buckets.X`: the documents of the time-series collection `X`.
    TimeSeriesBuckets,
    /// A time-series collection as users see it; has no documents of its own.
    TimeSeriesView,
    /// A view.
    View,
    /// `system.js`.
    SystemJs,
    /// `system.views`: the definitions of views and time series, kept by the server.
    SystemViews,
}

impl CollectionKind {
    /// Whether there are documents to read.
    pub fn has_documents(self) -> bool {
        !matches!(self, Self::View | Self::TimeSeriesView)
    }
}

/// One collection or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionInfo {
    /// The identity; views have none.
    pub uuid: Option<[u8; 16]>,
    /// Database and name.
    pub namespace: Namespace,
    /// What it is.
    pub kind: CollectionKind,
    /// `options` of `listCollections`, raw.
    pub options: Vec<u8>,
    /// `idIndex` of `listCollections`, raw.
    pub id_index: Option<Vec<u8>>,
    /// Index specs of `listIndexes`, raw, finished builds only, the `_id` index included. That of a clustered collection is without
    /// the lifetime, which is among the options.
    pub indexes: Vec<Vec<u8>>,
    /// Whether it has a default collation other than the simple one, so that its `_id` index orders otherwise.
    pub collation: bool,
}

/// The catalog as it stands at one cluster time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The time; majority committed, and no DDL lies between the listing and it.
    pub at: ClusterTime,
    /// What a snapshot takes, by namespace.
    pub collections: Vec<CollectionInfo>,
    /// What it does not take, and why.
    pub excluded: Vec<(Namespace, String)>,
}

/// The listing of one database.
#[derive(Debug, Default)]
struct Database {
    collections: Vec<CollectionInfo>,
    excluded: Vec<(Namespace, String)>,
}

/// Lists everything, until the listing is true at one cluster time.
///
/// # Errors
/// [`Error::Unstable`] when DDL never pauses long enough; the server's.
pub async fn pin(deployment: &Deployment) -> Result<Pinned> {
    let mut connection = deployment.primary_wire().await?;
    let mut listed: BTreeMap<String, Database> = BTreeMap::new();
    // One connection for listing, time and oplog: the note that reaches a majority proves that this member was the
    // primary while it listed.
    let mut from = time::majority_now_on(&mut connection).await?;
    let mut stale: BTreeSet<String> = databases(&mut connection).await?.into_iter().collect();
    let mut last_change = String::new();
    for _ in 0..ROUNDS_MAX {
        for db in std::mem::take(&mut stale) {
            let listing = list_database(&mut connection, &db).await?;
            listed.insert(db, listing);
        }
        let at = time::majority_now_on(&mut connection).await?;
        for event in ddl::between_on(&mut connection, from, at).await? {
            if concerns_us(&event) {
                last_change = event.to_string();
                stale.extend(
                    event.databases().into_iter().filter(|db| !never_taken_database(db)).map(str::to_owned),
                );
            }
        }
        if stale.is_empty() {
            return Ok(assemble(at, listed));
        }
        from = at;
    }
    Err(Error::Unstable { rounds: ROUNDS_MAX, last_change })
}

/// The names of the databases that a snapshot takes.
///
/// # Errors
/// The server's.
pub async fn databases(connection: &mut Connection) -> Result<Vec<String>> {
    // Else an account that may see only some databases gets those, without an error, and a snapshot lacks the others.
    let list = rawdoc! { "listDatabases": 1, "nameOnly": true, "authorizedDatabases": false, "$db": "admin" };
    let reply = connection.command(&list).await?;
    let names = reply.children("databases").into_iter().filter_map(|database| database.text("name"));
    Ok(names.filter(|name| !never_taken_database(name)).map(str::to_owned).collect())
}

/// The collections of one database as they are now, and what a snapshot would not take of them.
///
/// # Errors
/// The server's.
pub async fn of_database(
    connection: &mut Connection,
    db: &str,
) -> Result<(Vec<CollectionInfo>, Vec<(Namespace, String)>)> {
    let Database { collections, excluded } = list_database(connection, db).await?;
    Ok((collections, excluded))
}

/// Users come and go in `admin`, and jobs stage there; neither is in the listing.
fn concerns_us(event: &ddl::DdlEvent) -> bool {
    let taken =
        |namespace: Option<Namespace>| namespace.is_none_or(|namespace| namespace.never_taken().is_none());
    let source = event.collection.as_ref().map(|collection| Namespace::new(&event.db, collection));
    match &event.kind {
        ddl::DdlKind::Rename { to, .. } => taken(source) || taken(Namespace::parse(to)),
        _ => taken(source),
    }
}

fn assemble(at: ClusterTime, listed: BTreeMap<String, Database>) -> Pinned {
    let mut pinned = Pinned { at, collections: Vec::new(), excluded: Vec::new() };
    for database in listed.into_values() {
        pinned.collections.extend(database.collections);
        pinned.excluded.extend(database.excluded);
    }
    pinned.collections.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    pinned.excluded.sort();
    pinned
}

async fn list_database(connection: &mut Connection, db: &str) -> Result<Database> {
    let mut database = Database::default();
    let list = rawdoc! { "listCollections": 1, "cursor": {}, "$db": db };
    for info in all(connection, &list, db, "$cmd.listCollections").await? {
        match describe(db, &info)? {
            Ok(collection) => database.collections.push(collection),
            Err(excluded) => database.excluded.push(excluded),
        }
    }
    leave_out_unreadable_views(connection, &mut database).await?;
    for collection in &mut database.collections {
        collection.indexes = indexes(connection, collection).await?;
    }
    Ok(database)
}

/// Not even the role `root` may read `system.views`. Nothing is lost without it: `listCollections` has told the
/// definition of every view.
async fn leave_out_unreadable_views(connection: &mut Connection, database: &mut Database) -> Result<()> {
    let Some(place) =
        database.collections.iter().position(|collection| collection.kind == CollectionKind::SystemViews)
    else {
        return Ok(());
    };
    let namespace = database.collections[place].namespace.clone();
    let mut find = rawdoc! { "find": namespace.collection.as_str(), "limit": 1, "singleBatch": true };
    find.append(cstr!("$db"), namespace.db.as_str());
    let readable = match connection.command(&find).await {
        Ok(_) => read::size(connection, &namespace).await.map(drop),
        Err(error) => Err(error),
    };
    match readable {
        Err(Error::Privilege(_)) => {
            database.collections.remove(place);
            let reason = "the account may not read it; every view is kept by itself".to_owned();
            database.excluded.push((namespace, reason));
            Ok(())
        }
        Err(Error::NamespaceNotFound(_)) => Ok(()),
        other => other,
    }
}

/// One entry of `listCollections`: taken, or excluded with a reason.
fn describe(
    db: &str,
    info: &RawDocument,
) -> Result<std::result::Result<CollectionInfo, (Namespace, String)>> {
    let malformed = |what: &str| Error::protocol(format!("listCollections of {db} without {what}"));
    let name = info.text("name").ok_or_else(|| malformed("a name"))?;
    let namespace = Namespace::new(db, name);
    let options = info.child("options").ok_or_else(|| malformed("options"))?;
    if let Some(reason) = namespace.never_taken() {
        return Ok(Err((namespace, reason.to_owned())));
    }
    if options.truth("temp") {
        return Ok(Err((namespace, "temporary: the server drops it when it restarts".to_owned())));
    }
    let kind = kind(name, info.text("type"), options);
    let uuid = info.child("info").and_then(|inner| inner.uuid("uuid"));
    if uuid.is_none() && kind.has_documents() {
        return Err(malformed("a UUID"));
    }
    Ok(Ok(CollectionInfo {
        uuid,
        namespace,
        kind,
        options: options.as_bytes().to_vec(),
        id_index: info.child("idIndex").map(|index| index.as_bytes().to_vec()),
        indexes: Vec::new(),
        collation: options
            .child("collation")
            .is_some_and(|collation| collation.text("locale") != Some("simple")),
    }))
}

fn kind(name: &str, server_type: Option<&str>, options: &RawDocument) -> CollectionKind {
    match (server_type, name) {
        (Some("view"), _) => CollectionKind::View,
        (Some("timeseries"), _) => CollectionKind::TimeSeriesView,
        (_, "system.js") => CollectionKind::SystemJs,
        (_, "system.views") => CollectionKind::SystemViews,
        (_, name) if name.starts_with(BUCKETS_PREFIX) => CollectionKind::TimeSeriesBuckets,
        _ if options.truth("capped") => CollectionKind::Capped,
        _ if options.truth("clusteredIndex") || options.child("clusteredIndex").is_some() => {
            CollectionKind::Clustered
        }
        _ => CollectionKind::Plain,
    }
}

/// Index specs whose builds are finished. Without `includeBuildUUIDs` a build under way looks like an index, even one
/// that will fail.
async fn indexes(connection: &mut Connection, collection: &CollectionInfo) -> Result<Vec<Vec<u8>>> {
    // A view has none, and those of `system.views` are the server's affair.
    if matches!(collection.kind, CollectionKind::View | CollectionKind::SystemViews) {
        return Ok(Vec::new());
    }
    let Namespace { db, collection } = &collection.namespace;
    let list = rawdoc! { "listIndexes": collection.as_str(), "includeBuildUUIDs": true, "cursor": {}, "$db": db.as_str() };
    match all(connection, &list, db, collection).await {
        Ok(specs) => {
            let built = specs.into_iter().filter(|spec| !is_building(spec));
            Ok(built.map(index_spec::as_kept).map(RawDocumentBuf::into_bytes).collect())
        }
        // Dropped since the collections were listed; the oplog says so too, and the database is listed again.
        Err(Error::NamespaceNotFound(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_building(spec: &RawDocument) -> bool {
    matches!(spec.get("buildUUID"), Ok(Some(_)))
}

/// All documents of a cursor command. For catalogs only: everything is held in memory.
async fn all(
    connection: &mut Connection,
    command: &RawDocument,
    db: &str,
    collection: &str,
) -> Result<Vec<RawDocumentBuf>> {
    let mut found = Vec::new();
    let mut id = take_batch(connection.command(command).await?, "firstBatch", &mut found)?;
    while id != 0 {
        let mut more = rawdoc! { "getMore": id };
        more.append(cstr!("collection"), collection);
        more.append(cstr!("$db"), db);
        id = take_batch(connection.command(&more).await?, "nextBatch", &mut found)?;
    }
    Ok(found)
}

fn take_batch(reply: &RawDocument, name: &str, found: &mut Vec<RawDocumentBuf>) -> Result<i64> {
    let cursor = reply.child("cursor").ok_or_else(|| Error::protocol("a listing without a cursor"))?;
    found.extend(cursor.children(name).into_iter().map(RawDocument::to_owned));
    cursor.number("id").ok_or_else(|| Error::protocol("a cursor without an id"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn taken(info: &RawDocument) -> CollectionInfo {
        describe("app", info).unwrap().unwrap()
    }

    fn uuid() -> bson::Binary {
        bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![1; 16] }
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind_of = |name: &str, server_type: &str, options: RawDocumentBuf| {
            taken(&rawdoc! { "name": name, "type": server_type, "options": options, "info": { "uuid": uuid() } }).kind
        };
        assert_eq!(kind_of("x", "collection", rawdoc! {}), CollectionKind::Plain);
        assert_eq!(kind_of("x", "collection", rawdoc! { "capped": true }), CollectionKind::Capped);
        assert_eq!(
            kind_of("x", "collection", rawdoc! { "clusteredIndex": { "v": 2 } }),
            CollectionKind::Clustered
        );
        assert_eq!(kind_of("x", "view", rawdoc! { "viewOn": "y" }), CollectionKind::View);
        assert_eq!(kind_of("x", "timeseries", rawdoc! { "timeseries": {} }), CollectionKind::TimeSeriesView);
        assert_eq!(
            kind_of("system.buckets.x", "collection", rawdoc! { "clusteredIndex": true }),
            CollectionKind::TimeSeriesBuckets
        );
        assert_eq!(kind_of("system.js", "collection", rawdoc! {}), CollectionKind::SystemJs);
        assert_eq!(kind_of("system.views", "collection", rawdoc! {}), CollectionKind::SystemViews);
    }

    #[test]
    fn temporary_and_internal_ones_are_left_out_with_a_reason() {
        for (name, options) in
            [("tmp.agg_out.1", rawdoc! { "temp": true }), ("system.profile", rawdoc! { "capped": true })]
        {
            let info = rawdoc! { "name": name, "type": "collection", "options": options, "info": { "uuid": uuid() } };
            let (namespace, reason) = describe("app", &info).unwrap().unwrap_err();
            assert_eq!(namespace.collection, name);
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn a_simple_collation_is_none() {
        let info = |locale: &str| rawdoc! { "name": "x", "type": "collection", "options": { "collation": { "locale": locale } }, "info": { "uuid": uuid() } };
        assert!(taken(&info("de")).collation);
        assert!(!taken(&info("simple")).collation);
    }
}
