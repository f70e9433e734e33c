//! Everything that a deployment can hold is in the snapshot as it is there.
#![allow(clippy::unwrap_used)]

use crate::support;

use std::sync::Arc;

use bson::{Bson, Document, doc};
use history::SortKey;
use support::{Bench, documents, engine::engine::wall_clock, scatter};
use testbed::Options;
use vault::{CollectionKind, Order};

async fn shaped(version: &str) -> Bench {
    let bench = Bench::start(Options::version(version)).await;
    let app = bench.client.database("app");
    let commands = [
        doc! { "create": "empty" },
        doc! { "create": "collated", "collation": { "locale": "de", "strength": 2, "numericOrdering": true } },
        doc! { "create": "capped", "capped": true, "size": 4_000_000, "max": 3000 },
        doc! { "create": "weather", "timeseries": { "timeField": "at", "metaField": "station" } },
        doc! { "create": "strict", "validator": { "n": { "$gte": 0 } } },
        doc! { "create": "positive", "viewOn": "strict", "pipeline": [{ "$match": { "n": { "$gt": 0 } } }] },
    ];
    for command in commands {
        app.run_command(command).await.unwrap();
    }
    // Clustered collections came with 5.3.
    if version.starts_with('6') {
        let clustered =
            doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
        app.run_command(clustered).await.unwrap();
        bench.fill("app", "clustered", documents(3_000, 300, |n| Bson::Int64(scatter(n) as i64))).await;
    }
    // Under this collation "a10" comes after "a9", and "B" beside "b": no order of bytes.
    let names = |n: u64| Bson::String(format!("{}{n}", ["a", "B", "ä", "Z", "z_"][(n % 5) as usize]));
    bench.fill("app", "collated", documents(3_000, 300, names)).await;
    // More than it holds, so that it has wrapped.
    bench.fill("app", "capped", documents(5_000, 300, |n| Bson::Int64(scatter(n) as i64))).await;
    let readings = (0..2_000_i64).map(|n| doc! { "at": bson::DateTime::from_millis(1_700_000_000_000 + n * 60_000), "station": n % 7, "t": n });
    bench.fill("app", "weather", readings).await;
    bench.fill("app", "strict", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "system.js", [doc! { "_id": "twice", "value": Bson::JavaScriptCode("function(x) { return 2 * x }".to_owned()) }]).await;
    let index = doc! { "createIndexes": "strict", "indexes": [{ "key": { "n": -1 }, "name": "by_n", "sparse": true }] };
    app.run_command(index).await.unwrap();
    let role = doc! { "createRole": "reader", "privileges": [{ "resource": { "db": "app", "collection": "" }, "actions": ["find"] }], "roles": [] };
    app.run_command(role).await.unwrap();
    app.run_command(doc! { "createUser": "ann", "pwd": "secret", "roles": ["reader"] }).await.unwrap();
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_kinds_of_collections_are_taken() {
    for version in ["6.0.5", "5.0.4", "6.0.27"] {
        let bench = shaped(version).await;
        let snapshot = bench.snapshot().await;
        let collections = bench.collections(&snapshot).await;
        let kind = |name: &str| {
            collections.get(name).unwrap_or_else(|| panic!("{version}: {name} is missing")).meta.kind
        };
        assert_eq!(kind("app.empty"), CollectionKind::Plain);
        assert_eq!(collections["app.empty"].segments, 0);
        assert!(collections["app.empty"].meta.uuid.is_some());
        assert_eq!(kind("app.positive"), CollectionKind::View);
        assert!(collections["app.positive"].meta.uuid.is_none());
        assert_eq!(kind("app.weather"), CollectionKind::TimeSeriesView);
        assert_eq!(kind("app.system.buckets.weather"), CollectionKind::TimeSeriesBuckets);
        assert_eq!(kind("app.system.js"), CollectionKind::SystemJs);
        assert_eq!(kind("app.capped"), CollectionKind::Capped);
        let indexes = &collections["app.strict"].meta.indexes;
        assert!(
            indexes
                .iter()
                .any(|spec| Document::from_reader(spec.as_slice()).unwrap().get_str("name").ok()
                    == Some("by_n"))
        );

        let mut exact =
            vec!["app.collated", "app.system.buckets.weather", "app.system.js", "app.strict", "app.empty"];
        if version.starts_with('6') {
            assert_eq!(kind("app.clustered"), CollectionKind::Clustered);
            exact.push("app.clustered");
        }
        for namespace in exact {
            bench.assert_exact(&snapshot, namespace).await;
            let keys: Vec<_> = bench
                .documents(&snapshot, namespace)
                .await
                .iter()
                .map(|d| SortKey::of_document(d).unwrap())
                .collect();
            assert!(keys.is_sorted(), "{version}: {namespace} is not sorted by simple comparison");
        }
        assert_capped(&bench, &snapshot, version).await;

        let principals =
            bench.manifest(&snapshot).await.principals().await.unwrap().expect("users and roles");
        let named = |documents: &[Vec<u8>], id: &str| {
            documents
                .iter()
                .any(|d| Document::from_reader(d.as_slice()).unwrap().get_str("_id").ok() == Some(id))
        };
        assert!(named(&principals.users, "app.ann") && named(&principals.roles, "app.reader"));
        bench.assert_verifies(&snapshot).await;
    }
}

/// The capped collection's documents come in its own order, and its own time is told.
async fn assert_capped(bench: &Bench, snapshot: &catalog::Snapshot, version: &str) {
    let entry = &bench.collections(snapshot).await["app.capped"];
    assert_eq!(entry.meta.order, Order::Natural);
    assert!(entry.meta.as_of >= snapshot.cluster_time.unwrap());
    let noted = snapshot.notes["capped"][0].clone();
    assert_eq!(noted["namespace"], "app.capped", "{}", snapshot.notes);
    let taken: Vec<i64> = bench
        .documents(snapshot, "app.capped")
        .await
        .iter()
        .map(|d| Document::from_reader(d.as_slice()).unwrap().get_i64("n").unwrap())
        .collect();
    assert_eq!(taken.len(), 3_000, "{version}");
    assert!(taken.is_sorted(), "{version}: not in the order of insertion");
    assert_eq!(taken.last(), Some(&4_999));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deleted_snapshots_leave_nothing_behind_and_live_ones_lose_nothing() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "shared", documents(8_000, 1_000, |n| Bson::Int64(n as i64))).await;
    let first = bench.snapshot().await;
    bench.fill("app", "later", documents(100, 1_000, |n| Bson::Int64(n as i64))).await;
    let second = bench.snapshot().await;
    let engine = bench.engine(bench.settings());
    let collect = async || engine.reconcilers().activate("collector").await.unwrap();

    collect().await;
    collect().await;
    bench.assert_verifies(&first).await;
    bench.catalog.snapshots().delete(first.id, wall_clock()).await.unwrap();
    for _ in 0..3 {
        collect().await;
    }
    bench.assert_verifies(&second).await;
    let manifest = bench.manifest(&second).await;
    let needed: std::collections::HashSet<_> =
        futures::TryStreamExt::try_collect(manifest.object_names()).await.unwrap();
    let there: std::collections::HashSet<_> = support::objects(&bench.vault).await.into_iter().collect();
    assert_eq!(there, needed, "garbage was left, or something was lost");

    bench.catalog.snapshots().delete(second.id, wall_clock()).await.unwrap();
    for _ in 0..3 {
        collect().await;
    }
    assert_eq!(support::objects(&bench.vault).await, [], "garbage of the last snapshot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_catalog_is_rebuilt_from_the_vault() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let first = bench.snapshot().await;
    let second = bench.snapshot().await;
    let fresh =
        catalog::Catalog::open(bench.dir.path().join("fresh.sqlite").to_str().unwrap()).await.unwrap();
    let rebuilt = support::engine::rebuild::rebuild(&bench.vault, &fresh, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.snapshots, rebuilt.projects, rebuilt.deployments), (2, 1, 1));
    for snapshot in [&first, &second] {
        let back = fresh.snapshots().get(snapshot.id).await.unwrap().unwrap();
        assert_eq!(
            (back.manifest.as_ref(), back.cluster_time, back.documents),
            (snapshot.manifest.as_ref(), snapshot.cluster_time, snapshot.documents)
        );
    }
    let again = support::engine::rebuild::rebuild(&bench.vault, &fresh, wall_clock()).await.unwrap();
    assert_eq!(again.snapshots, 0);
    // The collector over the rebuilt catalog takes nothing that a snapshot needs.
    let engine = support::engine::Engine::new(
        fresh.clone(),
        bench.vault.clone(),
        Arc::clone(&bench.master),
        bench.settings(),
    );
    for _ in 0..3 {
        engine.reconcilers().activate("collector").await.unwrap();
    }
    bench.assert_verifies(&first).await;
    bench.assert_verifies(&second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn damage_is_found_and_named() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let snapshot = bench.snapshot().await;
    let segment = &bench.segments(&snapshot, "app.things").await[0];
    let path = bench.dir.path().join("vault").join(segment.name.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let name = snapshot.manifest.as_ref().unwrap().parse().unwrap();
    let report =
        support::engine::verify::verify(&bench.vault, &name, &support::engine::progress::Counters::default())
            .await
            .unwrap();
    assert!(!report.is_good());
    let fault = &report.faults[0];
    assert_eq!(fault.namespace.as_deref(), Some("app.things"));
    assert_eq!(fault.object, Some(segment.name.to_string()));
}
