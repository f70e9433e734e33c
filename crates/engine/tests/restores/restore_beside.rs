//! A snapshot that keeps changes beside its segments is as good as one that was read: restored, downloaded, rewound to and
//! asked about, when nothing but itself is left.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{collections::BTreeMap, io::Read};

use bson::{Bson, Document, doc};
use catalog::{Delivery, NewRestore, Snapshot};
use futures::TryStreamExt;
use model::{export::ExportState, restore::RestoreState, snapshot::SnapshotState};
use restore_support::{
    assert_no_staging,
    captured::{Captured, pause},
    data, exported, register, request_download, server,
};
use serde_json::json;
use support::{
    Bench, documents,
    engine::{
        engine::wall_clock,
        past::{DocumentId, Origin, Past},
    },
};
use testbed::{Options, Server, data::Set, oracle};
use vault::{ArchiveInfo, ArchiveReader};

const THINGS: u64 = 6_000;

async fn start(version: &str) -> Captured {
    let server = server(Options::version(version), &[Set::Ids, Set::Bytes, Set::TimeSeries]).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    bench.fill("app", "things", documents(THINGS, 300, |n| Bson::Int64(10 * n as i64))).await;
    bench.fill("app", "others", documents(500, 300, |n| Bson::String(format!("{n:03}")))).await;
    let functions = documents(200, 300, |n| Bson::String(format!("f{n:03}")));
    bench.fill("app", "system.js", functions).await;
    let series = doc! { "create": "series", "timeseries": { "timeField": "t", "metaField": "m" } };
    bench.client.database("app").run_command(series).await.unwrap();
    let points =
        (0..400).map(|n| doc! { "t": bson::DateTime::from_millis(n), "m": n, "text": "x".repeat(200) });
    bench.client.database("app").collection::<Document>("series").insert_many(points).await.unwrap();
    let index = doc! { "createIndexes": "things", "indexes": [{ "key": { "n": 1 }, "name": "n_1" }] };
    bench.client.database("app").run_command(index).await.unwrap();
    Captured::over(bench, None).await
}

/// A little here and there, another little in each round: of every kind of write, in front of all that is there and behind it.
async fn little(client: &mongodb::Client, round: i64) {
    let app = client.database("app");
    let things = app.collection::<Document>("things");
    let some = doc! { "_id": { "$mod": [970, 10 * round] } };
    things
        .update_many(some, doc! { "$set": { "round": round }, "$push": { "list": { "n": round } } })
        .await
        .unwrap();
    let list = doc! { "list": { "$exists": true } };
    things.update_many(list, doc! { "$set": { "list.0.again": round } }).await.unwrap();
    things.delete_many(doc! { "_id": { "$gte": 3_000 * round, "$lt": 3_000 * round + 40 } }).await.unwrap();
    let new = [-round, 15 + 500 * round, 10 * THINGS as i64 + round];
    things.insert_many(new.map(|id| doc! { "_id": id, "new": round })).await.unwrap();
    things.delete_one(doc! { "_id": 15 + 500 * (round - 1) }).await.unwrap();
    let whole = doc! { "replaced": round };
    things.replace_one(doc! { "_id": 50_000 + 10 * round }, whole).await.unwrap();
    let functions = app.collection::<Document>("system.js");
    functions
        .update_one(doc! { "_id": format!("f{round:03}") }, doc! { "$set": { "n": -round } })
        .await
        .unwrap();
    let point = doc! { "t": bson::DateTime::from_millis(round), "m": 7 * round, "text": "another" };
    app.collection::<Document>("series").insert_one(point).await.unwrap();
    let others = app.collection::<Document>("others");
    others
        .update_one(doc! { "_id": format!("{:03}", 7 * round) }, doc! { "$unset": { "n": 1 } })
        .await
        .unwrap();
}

async fn folded(captured: &Captured) -> Snapshot {
    let id = captured.bench.request().await;
    let begun = std::time::Instant::now();
    loop {
        let snapshot = captured.bench.catalog.snapshots().get(id).await.unwrap().unwrap();
        match snapshot.state {
            SnapshotState::Queued | SnapshotState::InProgress => pause(begun).await,
            SnapshotState::Completed => {
                assert!(snapshot.notes["folded"].is_object(), "it was read: {}", snapshot.notes);
                return snapshot;
            }
            other => panic!("{other:?}: {:?}", snapshot.error),
        }
    }
}

/// Deletes all other snapshots, and everything that only they need.
async fn alone(bench: &Bench, snapshot: &Snapshot) {
    let filter = bench.catalog.snapshots().live_manifests().await.unwrap();
    for (id, _) in filter.into_iter().filter(|(id, _)| *id != snapshot.id) {
        bench.catalog.snapshots().delete(id, wall_clock()).await.unwrap();
    }
    let engine = bench.engine(bench.settings());
    for _ in 0..3 {
        engine.reconcilers().activate("collector").await.unwrap();
    }
}

async fn restored(captured: &Captured, snapshot: &Snapshot, target: &Server, name: &str) {
    let before = data(&captured.bench.client).await;
    let target_id = register(&captured.bench, name, &target.uri()).await;
    let delivery = Delivery::Automated { target: target_id };
    let job = captured.run(NewRestore { snapshot_id: snapshot.id, delivery, options: json!({}) }).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let client = target.client().await.unwrap();
    let differences = oracle::diff(&before, &data(&client).await);
    assert!(differences.is_empty(), "{differences:#?}");
    assert_no_staging(&client).await;
}

async fn is_exported(captured: &Captured, snapshot: &Snapshot) {
    let bench = &captured.bench;
    let id = exported::request(bench, snapshot, exported::bucket(bench).await).await;
    let job = exported::ended(bench, id).await;
    assert_eq!(job.state, ExportState::Successful, "{:?}", job.error);
    let (export, at) = (bench.exports().join(&job.prefix), snapshot.cluster_time.unwrap());
    for name in ["things", "others", "system.js", "system.buckets.series"] {
        let found = exported::documents(&export, &format!("app/{name}"));
        assert!(found == bench.source_at(&format!("app.{name}"), at).await, "another export of {name}");
    }
}

async fn downloaded(captured: &Captured, snapshot: &Snapshot) -> BTreeMap<String, Vec<u8>> {
    let bench = &captured.bench;
    let id = request_download(bench, snapshot).await;
    let begun = std::time::Instant::now();
    let job = loop {
        let job = bench.catalog.restores().get(id).await.unwrap().unwrap();
        match job.state {
            RestoreState::Ready => break job,
            RestoreState::Failed => panic!("{:?}", job.error),
            _ => pause(begun).await,
        }
    };
    let info: ArchiveInfo = serde_json::from_value(job.archive.unwrap()).unwrap();
    let parts = ArchiveReader::open(&bench.vault, &info).unwrap().read_range(0, info.bytes);
    let bytes = parts.try_collect::<Vec<_>>().await.unwrap().concat();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, content)
    });
    entries.collect()
}

/// Rewinds to the snapshot, after an accident in what has changes beside its segments and after the loss of another.
async fn rewound(captured: &Captured, snapshot: &Snapshot) {
    let bench = &captured.bench;
    let before = data(&bench.client).await;
    let things = bench.client.database("app").collection::<Document>("things");
    let touched = doc! { "_id": { "$mod": [970, 20] } };
    things.update_many(touched, doc! { "$set": { "bad": true }, "$unset": { "list": 1 } }).await.unwrap();
    things.delete_many(doc! { "new": { "$exists": true } }).await.unwrap();
    bench.client.database("app").collection::<Document>("others").drop().await.unwrap();
    let delivery = Delivery::Automated { target: bench.deployment };
    let options = json!({ "rewind": "only" });
    let job = captured.run(NewRestore { snapshot_id: snapshot.id, delivery, options }).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let receipt = job.receipt.unwrap();
    assert_eq!(receipt["rewind"]["mode"], "rewind", "{receipt}");
    let differences = oracle::diff(&before, &data(&bench.client).await);
    assert!(differences.is_empty(), "{differences:#?}");
    // What nobody counted is not told.
    let lines = receipt["perCollection"].as_array().unwrap();
    let line = |ns: &str| lines.iter().find(|line| line["ns"] == ns).unwrap();
    assert_eq!(
        (line("app.things")["kept"].as_bool(), line("app.things").get("contentHash")),
        (Some(true), None)
    );
    assert!(line("app.others")["contentHash"].is_string(), "{receipt}");
}

/// Documents at the time of the snapshot, the first few of them looked up singly and the rest in what is read as a whole.
async fn shown(captured: &Captured, snapshot: &Snapshot) {
    let bench = &captured.bench;
    let at = snapshot.cluster_time.unwrap();
    let (timeline, base) = bench.catalog.timelines().base_for(bench.deployment, at).await.unwrap().unwrap();
    assert_eq!(base.id, snapshot.id);
    let past = Past::new(bench.engine(bench.settings()).services().clone());
    let origin = Origin { timeline, snapshot: base };
    let truth: BTreeMap<i64, Vec<u8>> = bench
        .source_at("app.things", at)
        .await
        .into_iter()
        .map(|raw| (support::number(Document::from_reader(&raw[..]).unwrap().get("_id").unwrap()), raw))
        .collect();
    for id in [-3, -2, 0, 5, 20, 30, 1_015, 1_515, 3_000, 6_010, 9_030, 9_040, 50_010, 50_030, 60_003] {
        let shown = past.show(&origin, "app.things", &DocumentId::parse(&id.to_string()).unwrap(), at).await;
        assert_eq!(shown.ok().map(|shown| shown.document), truth.get(&id).cloned(), "the document {id}");
    }
}

/// What a comparison of the snapshot with a later time says.
async fn compared(captured: &Captured, snapshot: &Snapshot) {
    let bench = &captured.bench;
    let from = snapshot.cluster_time.unwrap();
    let things = bench.client.database("app").collection::<Document>("things");
    let some = doc! { "_id": { "$mod": [970, 30] } };
    let before: BTreeMap<i64, Vec<u8>> = bench
        .source_at("app.things", captured.now().await)
        .await
        .into_iter()
        .map(|raw| (support::number(Document::from_reader(&raw[..]).unwrap().get("_id").unwrap()), raw))
        .collect();
    let changed = things.update_many(some, doc! { "$set": { "later": 1 } }).await.unwrap().modified_count;
    let to = captured.now().await;
    let begun = std::time::Instant::now();
    while bench.catalog.timelines().base_for(bench.deployment, to).await.unwrap().is_none() {
        pause(begun).await;
    }
    let (timeline, base) = bench.catalog.timelines().base_for(bench.deployment, from).await.unwrap().unwrap();
    let past = Past::new(bench.engine(bench.settings()).services().clone());
    let origin = Origin { timeline, snapshot: base };
    let found = past.difference(&origin, "app.things", from, to, 1_000).await.unwrap().documents.unwrap();
    assert_eq!((found.added, found.removed, found.changed), (0, 0, changed));
    assert!(changed > 5, "more than are looked up singly");
    for change in &found.shown {
        let was = change.before.clone().unwrap();
        let id = support::number(Document::from_reader(&was[..]).unwrap().get("_id").unwrap());
        assert_eq!(before.get(&id), Some(&was), "the document {id}");
    }
}

async fn is_as_good(version: &str) {
    let captured = start(version).await;
    let bench = &captured.bench;
    let mut last = None;
    for round in 1..=3 {
        little(&bench.client, round).await;
        let snapshot = folded(&captured).await;
        let told = &snapshot.notes["folded"];
        assert!(told["documentsKeptBeside"].as_u64().unwrap() > 50, "{told}");
        assert!(!bench.manifest(&snapshot).await.delta_runs().is_empty());
        for namespace in ["app.things", "app.others", "app.system.js", "app.system.buckets.series"] {
            bench.assert_exact(&snapshot, namespace).await;
            let (segments, at) = (bench.segments(&snapshot, namespace).await, snapshot.cluster_time.unwrap());
            assert!(segments.iter().any(|segment| segment.as_of < at), "{namespace} was folded");
        }
        bench.assert_verifies(&snapshot).await;
        last = Some(snapshot);
    }
    let last = last.unwrap();
    let mut counted = 0;
    for namespace in bench.collections(&last).await.keys() {
        counted += bench.documents(&last, namespace).await.len() as u64;
    }
    assert_eq!(last.documents, counted);
    shown(&captured, &last).await;
    alone(bench, &last).await;
    bench.assert_verifies(&last).await;
    shown(&captured, &last).await;

    let target = Server::start(Options::version(version)).await.unwrap();
    restored(&captured, &last, &target, "target").await;
    let files = downloaded(&captured, &last).await;
    let mut found: Vec<_> =
        history::raw::documents(&files["dump/app/things.bson"]).map(|d| d.unwrap().to_vec()).collect();
    found.sort();
    assert!(found == bench.source_at("app.things", last.cluster_time.unwrap()).await, "another download");
    is_exported(&captured, &last).await;

    rewound(&captured, &last).await;
    compared(&captured, &last).await;
    // And everything anew.
    let delivery = Delivery::Automated { target: bench.deployment };
    let options = json!({ "rewind": "off" });
    let job = captured.run(NewRestore { snapshot_id: last.id, delivery, options }).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let client = target.client().await.unwrap();
    let differences = oracle::diff(&data(&client).await, &data(&bench.client).await);
    assert!(differences.is_empty(), "{differences:#?}");
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_is_as_good_as_one_that_was_read_on_6_0() {
    is_as_good("6.0.5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_is_as_good_as_one_that_was_read_on_5_0() {
    is_as_good("5.0.4").await;
}
