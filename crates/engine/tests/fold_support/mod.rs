//! A workload that changes everything that can change, and folds to compare with snapshots.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test uses a part of it"
)]

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::Client;
use vault::{CollectionEntry, Manifest, Order};

use crate::support::{
    Bench, documents,
    engine::{
        JobContext,
        engine::wall_clock,
        fold::{FoldFailure, Folded, Record, Wish, fold_manifest},
        lease::Asking,
        pipeline::SegmentStore,
    },
    scatter,
};

pub type Entries = Vec<Vec<u8>>;

/// All entries of the oplog, and its last time.
pub async fn oplog(client: &Client) -> (Entries, history::ClusterTime) {
    let find = RawDocumentBuf::try_from(&doc! { "find": "oplog.rs" }).unwrap();
    let mut cursor = client.database("local").run_raw_cursor_command(find).await.unwrap();
    let mut entries = vec![];
    while cursor.advance().await.unwrap() {
        entries.push(cursor.current().as_bytes().to_vec());
    }
    let last = history::entry::Entry::read(entries.last().unwrap()).unwrap().time;
    (entries, last)
}

/// A running job that nobody works on: for folds by hand.
pub async fn store(bench: &Bench) -> SegmentStore {
    bench.request().await;
    let settings = ebbtide_engine::Settings { lease_ms: 3_600_000, ..bench.settings() };
    let asking = Asking::now();
    let lease =
        bench.catalog.jobs().claim("fold", &[], wall_clock(), settings.lease_ms).await.unwrap().unwrap();
    SegmentStore::new(&JobContext::new(bench.engine(settings).services().clone(), lease, asking))
}

pub async fn try_fold(
    bench: &Bench,
    store: &SegmentStore,
    base: &Manifest,
    at: model::ClusterTime,
) -> Result<Folded, FoldFailure> {
    let (entries, last) = oplog(&bench.client).await;
    let record = Record::of_entries(history::ClusterTime::NONE, last, entries);
    fold_manifest(store, base, record, at, base.header().clone(), Wish::WHOLE).await
}

/// Folds as is wished, writes the manifest and opens it.
pub async fn fold_as(
    bench: &Bench,
    store: &SegmentStore,
    base: &Manifest,
    at: model::ClusterTime,
    wish: Wish<'_>,
) -> Manifest {
    let (entries, last) = oplog(&bench.client).await;
    let record = Record::of_entries(history::ClusterTime::NONE, last, entries);
    let folded = fold_manifest(store, base, record, at, base.header().clone(), wish).await;
    let folded = folded.unwrap_or_else(|failure| panic!("{failure}"));
    println!("kept to {at}: {:?}", folded.counters);
    let written = folded.write(store).await.unwrap();
    Manifest::open(&bench.vault, &written.name).await.unwrap()
}

/// Folds, writes the manifest and opens it.
pub async fn fold(bench: &Bench, store: &SegmentStore, base: &Manifest, at: model::ClusterTime) -> Manifest {
    let folded = try_fold(bench, store, base, at).await.unwrap_or_else(|failure| panic!("{failure}"));
    println!("to {at}: {:?}", folded.counters);
    let written = folded.write(store).await.unwrap();
    Manifest::open(&bench.vault, &written.name).await.unwrap()
}

async fn entries(manifest: &Manifest) -> Vec<CollectionEntry> {
    manifest.collections().try_collect().await.unwrap()
}

async fn documents_of(bench: &Bench, manifest: &Manifest, entry: &CollectionEntry) -> Vec<Vec<u8>> {
    let mut documents = vec![];
    for segment in manifest.segments(entry).try_collect::<Vec<_>>().await.unwrap() {
        let segment = bench.vault.read_segment(&segment).await.unwrap();
        documents.extend(segment.documents().map(<[u8]>::to_vec));
    }
    documents
}

fn shown(raw: &[u8]) -> Document {
    Document::from_reader(raw).unwrap()
}

/// Asserts that a folded manifest is the one that a snapshot of the same time is.
pub async fn assert_same(bench: &Bench, folded: &Manifest, fresh: &Manifest, about: &str) {
    let (ours, theirs) = (entries(folded).await, entries(fresh).await);
    let names = |entries: &[CollectionEntry]| -> Vec<_> {
        entries.iter().map(|e| (e.meta.db.clone(), e.meta.name.clone(), e.meta.kind)).collect()
    };
    assert_eq!(names(&ours), names(&theirs), "{about}");
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        let name = format!("{about}: {}.{}", theirs.meta.db, theirs.meta.name);
        assert_eq!(shown(&ours.meta.options), shown(&theirs.meta.options), "{name}");
        let indexes =
            |entry: &CollectionEntry| entry.meta.indexes.iter().map(|i| shown(i)).collect::<Vec<_>>();
        assert_eq!(indexes(&ours), indexes(&theirs), "{name}");
        assert_eq!(ours.content, theirs.content, "{name}");
        if ours.meta.order == Order::Natural {
            let documents = documents_of(bench, folded, &ours).await;
            assert!(documents == documents_of(bench, fresh, &theirs).await, "{name}: another order");
            // Read over a while, a snapshot has times of its own of it.
            let vault::CollectionMeta { as_of, read_through, .. } = theirs.meta;
            let meta = vault::CollectionMeta { as_of, read_through, ..ours.meta };
            assert_eq!(meta, theirs.meta, "{name}");
            continue;
        }
        let listed =
            |manifest: &Manifest, entry: &CollectionEntry| manifest.segments(entry).try_collect::<Vec<_>>();
        assert_eq!(listed(folded, &ours).await.unwrap(), listed(fresh, &theirs).await.unwrap(), "{name}");
        // Bytes of definitions, times and pages included.
        assert_eq!(ours, theirs, "{name}");
    }
    assert_eq!(
        folded.principals().await.unwrap(),
        fresh.principals().await.unwrap(),
        "{about}: users and roles"
    );
}

/// Sends a command that must succeed.
pub async fn run(client: &Client, db: &str, command: Document) {
    let shown = format!("{command}");
    client.database(db).run_command(command).await.unwrap_or_else(|error| panic!("{shown:.300}: {error}"));
}

/// What is there before the base.
pub async fn begin(bench: &Bench, version: &str) {
    let client = &bench.client;
    for command in [
        doc! { "create": "capped", "capped": true, "size": 200_000, "max": 50 },
        doc! { "create": "ring", "capped": true, "size": 100_000 },
        doc! { "create": "quiet", "capped": true, "size": 100_000 },
        doc! { "create": "to_capped" },
        doc! { "create": "collated", "collation": { "locale": "de", "strength": 2 } },
        doc! { "create": "strict", "validator": { "n": { "$gte": 0 } } },
        doc! { "create": "weather", "timeseries": { "timeField": "at", "metaField": "station" } },
        doc! { "create": "still", "timeseries": { "timeField": "at" }, "expireAfterSeconds": 1_000_000_000 },
        doc! { "create": "doomed_series", "timeseries": { "timeField": "at" } },
        doc! { "create": "positive", "viewOn": "strict", "pipeline": [{ "$match": { "n": { "$gt": 0 } } }] },
        doc! { "create": "other_view", "viewOn": "strict", "pipeline": [], "collation": { "locale": "fr" } },
        doc! { "create": "doomed_view", "viewOn": "strict", "pipeline": [] },
    ] {
        run(client, "app", command).await;
    }
    run(client, "views", doc! { "create": "of_still", "viewOn": "nothing", "pipeline": [] }).await;
    if version.starts_with('6') {
        let clustered =
            doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
        run(client, "app", clustered).await;
        bench.fill("app", "clustered", documents(500, 300, |n| Bson::Int64(n as i64))).await;
    }
    bench.fill("app", "large", documents(9_000, 5_000, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "untouched", documents(3_000, 5_000, |n| Bson::Int64(n as i64))).await;
    for name in ["renamed", "target", "moved", "doomed", "recreated", "to_capped", "collated", "out", "docs"]
    {
        bench.fill("app", name, documents(200, 500, |n| Bson::String(format!("{:x}", scatter(n))))).await;
    }
    bench.fill("app", "strict", documents(50, 100, |n| Bson::Int64(n as i64))).await;
    bench.fill("gone", "x", documents(50, 100, |n| Bson::Int64(n as i64))).await;
    run(client, "gone", doc! { "create": "view", "viewOn": "x", "pipeline": [] }).await;
    for name in ["capped", "ring", "quiet"] {
        bench.fill("app", name, documents(40, 300, |n| Bson::Int64(n as i64))).await;
    }
    measure(bench, "weather", 0..200).await;
    measure(bench, "still", 0..50).await;
    measure(bench, "doomed_series", 0..50).await;
    bench
        .fill(
            "app",
            "system.js",
            [doc! { "_id": "f", "value": Bson::JavaScriptCode("function() {}".to_owned()) }],
        )
        .await;
    for (name, key) in [("n_1", "n"), ("gone_1", "gone"), ("ttl", "date")] {
        let index = doc! { "key": { key: 1 }, "name": name };
        run(client, "app", doc! { "createIndexes": "docs", "indexes": [index] }).await;
    }
    let role = |name: &str| doc! { "createRole": name, "privileges": [{ "resource": { "db": "app", "collection": "" }, "actions": ["find"] }], "roles": [] };
    for name in ["reader", "doomed"] {
        run(client, "app", role(name)).await;
    }
    for name in ["ann", "bob", "eve"] {
        run(client, "app", doc! { "createUser": name, "pwd": "secret", "roles": ["reader"] }).await;
    }
}

async fn measure(bench: &Bench, series: &str, which: std::ops::Range<i64>) {
    let at = |n: i64| bson::DateTime::from_millis(1_700_000_000_000 + n * 60_000);
    bench.fill("app", series, which.map(|n| doc! { "at": at(n), "station": { "id": n % 7 }, "t": n })).await;
}

/// Writes to documents in all ways.
pub async fn write(bench: &Bench, round: i64) {
    let client = &bench.client;
    let app = client.database("app");
    let large = app.collection::<Document>("large");
    // Some segments of many: in the middle, at the ends, a hole, and new documents.
    large.update_one(doc! { "_id": 100 + round }, doc! { "$set": { "n": -1, "new": round } }).await.unwrap();
    large
        .delete_many(doc! { "_id": { "$gte": 4_000 + 300 * round, "$lt": 4_200 + 300 * round } })
        .await
        .unwrap();
    large.delete_one(doc! { "_id": round }).await.unwrap();
    bench
        .fill("app", "large", documents(200, 5_000, |n| Bson::Int64(20_000 + 1_000 * round + n as i64)))
        .await;
    bench.fill("app", "large", documents(3, 900_000, |n| Bson::Int64(-1_000 * (round + 1) - n as i64))).await;

    let docs = app.collection::<Document>("docs");
    docs.update_many(
        doc! {},
        doc! { "$set": { "list": [1, 2, { "a": [3, 4] }], "sub": { "x": 1, "y": 2 } } },
    )
    .await
    .unwrap();
    for update in [
        doc! { "$set": { "list.2.a.1": round, "sub.z": "new" }, "$inc": { "n": 3_i64 } },
        doc! { "$push": { "list": { "$each": [9, 8], "$position": 1 } }, "$unset": { "sub.x": 1 } },
        doc! { "$pop": { "list": -1 }, "$rename": { "filler": "padding" } },
        doc! { "$push": { "list": { "$each": [], "$slice": 2 } } },
    ] {
        docs.update_many(doc! { "n": { "$mod": [2, 0] } }, update).await.unwrap();
    }
    docs.update_many(
        doc! { "n": { "$mod": [3, 0] } },
        vec![doc! { "$set": { "twice": { "$multiply": ["$n", 2] } } }],
    )
    .await
    .unwrap();
    docs.delete_many(doc! { "n": { "$mod": [7, 3] } }).await.unwrap();
    docs.replace_one(doc! { "_id": "upserted" }, doc! { "round": round }).upsert(true).await.unwrap();
    docs.insert_one(doc! { "_id": format!("r{round}"), "again": 1 }).await.unwrap();
    docs.delete_one(doc! { "_id": format!("r{round}") }).await.unwrap();
    docs.insert_one(doc! { "_id": format!("r{round}"), "again": 2 }).await.unwrap();

    let collated = app.collection::<Document>("collated");
    collated.insert_one(doc! { "_id": format!("Ä{round}") }).await.unwrap();
    transaction(client, round).await;

    // More than they hold.
    bench.fill("app", "capped", documents(30, 300, |n| Bson::Int64(1_000 * (round + 1) + n as i64))).await;
    bench.fill("app", "ring", documents(300, 300, |n| Bson::Int64(1_000 * (round + 1) + n as i64))).await;
    let capped = app.collection::<Document>("capped");
    capped.update_many(doc! { "n": { "$lt": 5 } }, doc! { "$inc": { "n": 100_i64 } }).await.unwrap();

    measure(bench, "weather", 200 * (round + 1)..200 * (round + 1) + 150).await;
    let functions = app.collection::<Document>("system.js");
    let function =
        doc! { "_id": format!("g{round}"), "value": Bson::JavaScriptCode("function(x) {}".to_owned()) };
    functions.insert_one(function).await.unwrap();
}

/// Larger than one entry, where the server was told to split early.
async fn transaction(client: &Client, round: i64) {
    let app = client.database("app");
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for n in 0..5_i64 {
        let (docs, strict) = (app.collection::<Document>("docs"), app.collection::<Document>("strict"));
        docs.insert_one(doc! { "_id": format!("t{round}-{n}"), "n": n }).session(&mut session).await.unwrap();
        let set = doc! { "$set": { "round": round } };
        strict.update_one(doc! { "_id": n }, set).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
}

/// Changes definitions in all ways.
pub async fn define(bench: &Bench, version: &str) {
    let client = &bench.client;
    let rename = |from: &str, to: &str, drop: bool| doc! { "renameCollection": format!("app.{from}"), "to": format!("app.{to}"), "dropTarget": drop };
    run(client, "admin", rename("renamed", "new_name", false)).await;
    run(client, "admin", rename("moved", "target", true)).await;
    let across = doc! { "renameCollection": "app.new_name", "to": "elsewhere.new_name" };
    run(client, "admin", across).await;
    for command in [
        doc! { "drop": "doomed" },
        doc! { "drop": "recreated" },
        doc! { "create": "recreated", "validator": { "x": 1 }, "validationAction": "warn" },
        doc! { "create": "empty" },
        doc! { "create": "late_ring", "capped": true, "size": 50_000 },
        doc! { "convertToCapped": "to_capped", "size": 100_000 },
        doc! { "aggregate": "docs", "pipeline": [{ "$match": { "n": { "$lt": 50 } } }, { "$out": "out" }], "cursor": {} },
        doc! { "aggregate": "docs", "pipeline": [{ "$limit": 5 }, { "$out": "out_new" }], "cursor": {} },
        doc! { "createIndexes": "empty", "indexes": [{ "key": { "a": 1, "b": -1 }, "name": "ab", "unique": true }] },
        doc! { "createIndexes": "docs", "indexes": [
            { "key": { "sub.y": 1 }, "name": "y", "partialFilterExpression": { "n": { "$gt": 3 } } },
            { "key": { "$**": "text" }, "name": "text" },
        ] },
        doc! { "dropIndexes": "docs", "index": "gone_1" },
        doc! { "collMod": "docs", "index": { "name": "n_1", "hidden": true } },
        doc! { "collMod": "docs", "validator": { "never": { "$exists": false } }, "validationLevel": "moderate" },
        // Views.
        doc! { "create": "late_view", "viewOn": "docs", "pipeline": [{ "$limit": 3 }], "collation": { "locale": "de" } },
        doc! { "collMod": "positive", "viewOn": "strict", "pipeline": [{ "$match": { "n": { "$gt": 7 } } }] },
        doc! { "drop": "doomed_view" },
        // Time series.
        doc! { "collMod": "weather", "timeseries": { "granularity": "minutes" } },
        doc! { "collMod": "weather", "expireAfterSeconds": 1_000_000_000 },
        doc! { "createIndexes": "weather", "indexes": [{ "key": { "station.id": 1, "at": 1 }, "name": "by_station" }] },
        doc! { "createIndexes": "weather", "indexes": [{ "key": { "at": -1 }, "name": "by_time" }] },
        doc! { "collMod": "weather", "index": { "name": "by_time", "hidden": true } },
        doc! { "drop": "doomed_series" },
        doc! { "create": "late_series", "timeseries": { "timeField": "at", "metaField": "station", "granularity": "hours" }, "collation": { "locale": "de" }, "expireAfterSeconds": 1_000_000_000 },
    ] {
        run(client, "app", command).await;
    }
    if version.starts_with('6') {
        let index = doc! { "key": { "t": 1 }, "name": "by_value" };
        run(client, "app", doc! { "createIndexes": "weather", "indexes": [index] }).await;
        let hide = doc! { "collMod": "weather", "index": { "name": "by_value", "hidden": true } };
        run(client, "app", hide).await;
        let clustered = doc! {
            "create": "late_clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true, "name": "by id" },
            "collation": { "locale": "de" }, "expireAfterSeconds": 1_000_000_000,
        };
        run(client, "app", clustered).await;
        run(client, "app", doc! { "collMod": "late_clustered", "expireAfterSeconds": 1_500_000_000 }).await;
        run(client, "app", doc! { "collMod": "clustered", "expireAfterSeconds": 1_000_000_000 }).await;
        bench.fill("app", "late_clustered", documents(20, 100, |n| Bson::Int64(n as i64))).await;
    }
    measure(bench, "late_series", 0..30).await;
    for name in ["recreated", "late_ring", "out_new"] {
        bench.fill("app", name, documents(30, 200, |n| Bson::Int64(n as i64))).await;
    }
    run(client, "gone", doc! { "dropDatabase": 1 }).await;
    bench.fill("fresh", "x", documents(50, 100, |n| Bson::Int64(n as i64))).await;
    run(client, "fresh", doc! { "create": "view", "viewOn": "x", "pipeline": [] }).await;
    // Users and roles.
    for command in [
        doc! { "createRole": "writer", "privileges": [{ "resource": { "db": "app", "collection": "docs" }, "actions": ["insert"] }], "roles": ["reader"] },
        doc! { "dropRole": "doomed" },
        doc! { "createUser": "zoe", "pwd": "x", "roles": ["writer"] },
        doc! { "updateUser": "ann", "pwd": "other", "customData": { "a": 1 } },
        doc! { "grantRolesToUser": "bob", "roles": ["writer"] },
        doc! { "dropUser": "eve" },
    ] {
        run(client, "app", command).await;
    }
}
