//! Collection restores: what goes beside what is there, what replaces it, which indexes come along, and what the catalog is
//! told meanwhile. The server itself says what it holds.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bson::{Document, doc};
use catalog::{CollectionFilter, Delivery, NewRestore, Page, RestoreJob, RestoredCollection, Snapshot};
use engine::engine::wall_clock;
use model::{
    collection_restore::CollectionStep,
    id::{DeploymentId, RestoreJobId},
    restore::{RestoreResource, RestoreState},
};
use restore_support::{
    assert_no_staging, captured::Captured, data, put, register, run, run_engine, server, without_stored_views,
};
use serde_json::{Value, json};
use support::{Bench, engine, probe};
use testbed::{Options, data::Set, oracle};
use tokio_util::sync::CancellationToken;

const VERSIONS: [&str; 2] = ["6.0.5", "5.0.4"];

/// A shop: two collections, indexes of all sorts, a view, a time series, stored functions.
async fn shop(client: &mongodb::Client) {
    let shop = client.database("shop");
    let documents =
        (0..500).map(|n| doc! {"_id": n, "n": n, "at": bson::DateTime::now(), "text": "x".repeat(100)});
    shop.collection::<Document>("orders").insert_many(documents).await.unwrap();
    let indexes = vec![
        doc! {"key": {"n": -1}, "name": "by n", "unique": true},
        doc! {"key": {"at": 1}, "name": "expiring", "expireAfterSeconds": 1_000_000},
        doc! {"key": {"text": "text"}, "name": "words"},
    ];
    shop.run_command(doc! {"createIndexes": "orders", "indexes": indexes}).await.unwrap();
    shop.collection::<Document>("items").insert_many((0..50).map(|n| doc! {"_id": n})).await.unwrap();
    shop.run_command(doc! {"create": "recent", "viewOn": "orders", "pipeline": []}).await.unwrap();
    shop.run_command(doc! {"create": "weather", "timeseries": {"timeField": "t"}}).await.unwrap();
    shop.collection::<Document>("weather").insert_one(doc! {"t": bson::DateTime::now()}).await.unwrap();
    shop.collection::<Document>("system.js").insert_one(doc! {"_id": "f", "value": 1}).await.unwrap();
}

async fn bench(version: &str, sets: &[Set]) -> Bench {
    bench_on(Options::version(version), sets).await
}

async fn bench_on(options: Options, sets: &[Set]) -> Bench {
    let server = server(options, sets).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    shop(&bench.client).await;
    bench
}

fn asked(databases: &[&str], collections: &[&str], changes: Value) -> Value {
    let names = |names: &[&str]| -> Value {
        let name = |text: &&str| match text.split_once('=') {
            Some((from, to)) => json!({"sourceNamespace": from, "targetNamespace": to}),
            None => json!({"sourceNamespace": text}),
        };
        names.iter().map(name).collect()
    };
    let mut asked = json!({
        "databases": names(databases), "collections": names(collections),
        "indexStrategy": "ALL", "writeStrategy": "CREATE_NEW",
    });
    asked.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({"collectionRestore": asked})
}

async fn request(bench: &Bench, snapshot: &Snapshot, target: DeploymentId, options: Value) -> RestoreJobId {
    let new = NewRestore { snapshot_id: snapshot.id, delivery: Delivery::Automated { target }, options };
    let resource = RestoreResource::CollectionRestoreJob;
    bench.catalog.restores().request_as(resource, new, wall_clock()).await.unwrap().id
}

async fn told(bench: &Bench, id: RestoreJobId) -> Vec<RestoredCollection> {
    let all = CollectionFilter::default();
    bench.catalog.restores().collections(id, &all, Page::new(1, 500)).await.unwrap().items
}

/// From which name to which, and what was done.
fn summary(lines: &[RestoredCollection]) -> Vec<String> {
    let line = |line: &RestoredCollection| {
        format!("{} > {} {}", line.source, line.effective_target, line.step.as_str())
    };
    lines.iter().map(line).collect()
}

async fn finished(bench: &Bench, id: RestoreJobId) -> RestoreJob {
    let job = run(bench, id, bench.settings(), None).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert_no_staging(&bench.client).await;
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_there_stays_and_what_is_restored_goes_beside_it() {
    for version in VERSIONS {
        let bench = bench(version, &[Set::Indexes, Set::Capped, Set::Collations, Set::Clustered]).await;
        let client = &bench.client;
        let before = data(client).await;
        let snapshot = bench.snapshot().await;
        let shop = client.database("shop");
        shop.collection::<Document>("orders").delete_many(doc! {"n": {"$gte": 100}}).await.unwrap();
        shop.collection::<Document>("items").drop().await.unwrap();
        client.database("capped").drop().await.unwrap();
        // Names that one would think of next are taken too.
        shop.run_command(doc! {"create": "orders_restored", "viewOn": "orders", "pipeline": []})
            .await
            .unwrap();
        client
            .database("Indexes_Restored")
            .collection::<Document>("x")
            .insert_one(doc! {"_id": 1})
            .await
            .unwrap();

        let mut expected = data(client).await;
        put(&mut expected, "shop.orders_restored_2", &before, "shop.orders");
        put(&mut expected, "shop.items", &before, "shop.items");
        for (from, to) in [("indexes", "indexes_restored_2"), ("capped", "capped"), ("collations", "letters")]
        {
            for name in before.databases[from].collections.keys() {
                put(&mut expected, &format!("{to}.{name}"), &before, &format!("{from}.{name}"));
            }
        }
        let options =
            asked(&["indexes", "capped", "collations=letters"], &["shop.orders", "shop.items"], json!({}));
        let id = request(&bench, &snapshot, bench.deployment, options).await;
        let job = finished(&bench, id).await;
        let found = data(client).await;
        oracle::assert_same(&without_stored_views(expected), &without_stored_views(found));
        let receipt = job.receipt.unwrap();
        assert_eq!(receipt["fence"]["state"], "none", "nobody was kept out: {receipt:#}");
        let lines = told(&bench, id).await;
        assert!(
            lines.iter().all(|line| line.step == CollectionStep::InPlace && line.error.is_none()),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| line.documents_done == line.documents_total), "{lines:?}");
        let orders = lines.iter().find(|line| line.source == "shop.orders").unwrap();
        assert_eq!(
            (orders.target.as_str(), orders.effective_target.as_str(), orders.documents_total),
            ("shop.orders", "shop.orders_restored_2", 500)
        );
        let documents: u64 = lines.iter().map(|line| line.documents_total).sum();
        assert_eq!(receipt["documents"], documents);
        assert!(lines.iter().map(|line| &line.source).is_sorted());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_there_is_replaced_when_that_is_asked_for_and_nothing_else_is() {
    for version in VERSIONS {
        let bench = bench(version, &[]).await;
        let client = &bench.client;
        let before = data(client).await;
        let snapshot = bench.snapshot().await;
        let shop = client.database("shop");
        shop.collection::<Document>("orders").delete_many(doc! {}).await.unwrap();
        shop.run_command(doc! {"dropIndexes": "orders", "index": "*"}).await.unwrap();
        shop.collection::<Document>("items").drop().await.unwrap();
        shop.run_command(doc! {"create": "items", "viewOn": "orders", "pipeline": []}).await.unwrap();
        shop.collection::<Document>("later").insert_one(doc! {"_id": 1}).await.unwrap();
        shop.collection::<Document>("system.js").insert_one(doc! {"_id": "g", "value": 1}).await.unwrap();
        shop.collection::<Document>("weather").insert_one(doc! {"t": bson::DateTime::now()}).await.unwrap();
        let mut expected = data(client).await;
        put(&mut expected, "shop.orders", &before, "shop.orders");
        put(&mut expected, "shop.items", &before, "shop.items");
        let options = asked(&["shop"], &[], json!({"writeStrategy": "OVERWRITE_EXISTING"}));
        let id = request(&bench, &snapshot, bench.deployment, options).await;
        let job = finished(&bench, id).await;
        let found = data(client).await;
        oracle::assert_same(&without_stored_views(expected), &without_stored_views(found));
        assert_eq!(
            summary(&told(&bench, id).await),
            [
                "shop.items > shop.items inPlace",
                "shop.orders > shop.orders inPlace",
                "shop.recent > shop.recent unsupported",
                "shop.system.js > shop.system.js unsupported",
                "shop.weather > shop.weather unsupported",
            ]
        );
        let warnings = job.receipt.unwrap()["warnings"].to_string();
        for what in
            ["shop.recent was left out: it is a view", "shop.weather was left out: it is a time series"]
        {
            assert!(warnings.contains(what), "{warnings}");
        }
    }
}

/// The names of a collection's indexes, as the server lists them.
async fn indexes(client: &mongodb::Client, db: &str, name: &str) -> Vec<String> {
    let mut names = client.database(db).collection::<Document>(name).list_index_names().await.unwrap();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn indexes_are_those_that_are_wanted() {
    for version in VERSIONS {
        let bench = bench(version, &[Set::Indexes, Set::Ttl, Set::Clustered]).await;
        let client = &bench.client;
        let before = data(client).await;
        let snapshot = bench.snapshot().await;
        // A server of 5.0 clusters nothing.
        let databases: &[&str] =
            if version == "5.0.4" { &["indexes", "ttl"] } else { &["indexes", "ttl", "clustered"] };
        for (strategy, suffix) in [("NONE", "_bare"), ("ALL_EXCEPT_TTL", "_kept"), ("ALL", "_all")] {
            let changes =
                json!({"indexStrategy": strategy, "databaseSuffix": suffix, "collectionSuffix": suffix});
            let options = asked(databases, &["shop.orders"], changes);
            let id = request(&bench, &snapshot, bench.deployment, options).await;
            finished(&bench, id).await;
        }
        let found = data(client).await;
        assert_eq!(indexes(client, "shop", "orders_bare").await, ["_id_"]);
        assert_eq!(indexes(client, "shop", "orders_kept").await, ["_id_", "by n", "words"]);
        assert_eq!(indexes(client, "shop", "orders_all").await, ["_id_", "by n", "expiring", "words"]);
        let (mut bare, mut kept) = (0, 0);
        for db in databases {
            let of = |suffix: &str| found.databases.get(&format!("{db}{suffix}"));
            for (name, was) in &before.databases.get(*db).cloned().unwrap_or_default().collections {
                let of = |suffix: &str| &of(suffix).unwrap().collections[name];
                assert_eq!(of("_all"), was, "{version} {db}.{name}");
                let is = |spec: &oracle::Raw, field: &str| spec.0.get(field).unwrap().is_some();
                let named = |spec: &oracle::Raw| spec.0.get_str("name").unwrap() == "_id_";
                let without: Vec<_> =
                    was.indexes.iter().filter(|spec| named(spec) || is(spec, "clustered")).cloned().collect();
                assert_eq!(of("_bare").indexes, without, "{version} {db}.{name}");
                let lasting: Vec<_> =
                    was.indexes.iter().filter(|spec| !is(spec, "expireAfterSeconds")).cloned().collect();
                assert_eq!(of("_kept").indexes, lasting, "{version} {db}.{name}");
                assert_eq!(of("_bare").options, was.options);
                bare += was.indexes.len() - without.len();
                kept += was.indexes.len() - lasting.len();
            }
            let hashes = |suffix: &str| of(suffix).map(|database| database.hashes.clone());
            assert_eq!(hashes("_bare"), before.databases.get(*db).map(|database| database.hashes.clone()));
            assert_eq!(hashes("_kept"), hashes("_bare"));
        }
        assert!(bare > 5 && kept > 1, "{version}: {bare} and {kept} indexes were left out");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_restored_is_refused_and_told_line_by_line() {
    let bench = bench("6.0.5", &[]).await;
    let functions = bench.client.database("functions").collection::<Document>("system.js");
    functions.insert_one(doc! {"_id": "f", "value": 1}).await.unwrap();
    let snapshot = bench.snapshot().await;
    let before = data(&bench.client).await;
    for (databases, collections, reasons, lines) in [
        (
            &[][..],
            &["shop.orders", "shop.gone", "shop.recent=shop.x", "shop.weather"][..],
            &["nothing is called shop.gone", "shop.recent is a view", "shop.weather is a time series"][..],
            &[
                "shop.gone > shop.gone notFound",
                "shop.orders > shop.orders waiting",
                "shop.recent > shop.x unsupported",
                "shop.weather > shop.weather unsupported",
            ][..],
        ),
        (
            &["functions", "bank"],
            &[],
            &["there is no database bank", "the database functions has nothing in it"],
            &["bank > bank notFound", "functions.system.js > functions.system.js unsupported"],
        ),
    ] {
        let options = asked(databases, collections, json!({}));
        let id = request(&bench, &snapshot, bench.deployment, options).await;
        let job = run(&bench, id, bench.settings(), None).await;
        assert_eq!(job.state, RestoreState::Failed);
        let error = job.error.unwrap();
        assert!(error.contains("nothing was changed"), "{error}");
        for reason in reasons {
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(summary(&told(&bench, id).await), lines);
        oracle::assert_same(&before, &data(&bench.client).await);
    }
    // A name for which there is no other one.
    let long = format!("d{}", "x".repeat(60));
    bench.client.database(&long).collection::<Document>("x").insert_one(doc! {"_id": 1}).await.unwrap();
    let options = asked(&[&format!("shop={long}")], &[], json!({}));
    let id = request(&bench, &snapshot, bench.deployment, options).await;
    let job = run(&bench, id, bench.settings(), None).await;
    let error = job.error.unwrap();
    assert!(error.contains(&long) && error.contains("name another target"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn indexes_that_cannot_be_built_are_told_with_their_collection() {
    let bench = bench_on(Options::version("6.0.5").set_parameter("enableTestCommands", "1"), &[]).await;
    let snapshot = bench.snapshot().await;
    let before = data(&bench.client).await;
    // CannotCreateIndex.
    let set = |mode: &str| {
        doc! {
            "configureFailPoint": "failCommand", "mode": mode,
            "data": {"failCommands": ["createIndexes"], "errorCode": 67},
        }
    };
    bench.server.admin(set("alwaysOn")).await.unwrap();
    let options = asked(&["shop"], &[], json!({"databaseSuffix": "_old"}));
    let id = request(&bench, &snapshot, bench.deployment, options).await;
    let job = run(&bench, id, bench.settings(), None).await;
    bench.server.admin(set("off")).await.unwrap();
    assert_eq!(job.state, RestoreState::Failed);
    let lines: BTreeMap<_, _> =
        told(&bench, id).await.into_iter().map(|line| (line.source.clone(), line)).collect();
    let orders = &lines["shop.orders"];
    assert_eq!((orders.step, orders.documents_done), (CollectionStep::IndexesFailed, 500));
    assert!(orders.error.as_ref().unwrap().contains("building the indexes of shop_old.orders"), "{orders:?}");
    assert!(job.error.unwrap().contains("shop_old.orders"));
    assert!(
        !matches!(lines["shop.items"].step, CollectionStep::Failed | CollectionStep::InPlace),
        "{:?}",
        lines["shop.items"]
    );
    assert_no_staging(&bench.client).await;
    oracle::assert_same(&before, &data(&bench.client).await);
}

/// What is told while a collection is loaded and put in its place; and a worker that takes over goes on under the same names.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_takes_over_keeps_to_the_names() {
    let bench = bench("6.0.5", &[]).await;
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    let id = request(&bench, &snapshot, bench.deployment, asked(&[], &["shop.orders"], json!({}))).await;
    // The first worker ends when everything lies ready.
    let (shutdown, seen) = (CancellationToken::new(), Arc::new(Mutex::new(vec![])));
    let watching = probe({
        let (shutdown, seen, catalog) = (shutdown.clone(), Arc::clone(&seen), bench.catalog.clone());
        move |moment, _| {
            let (shutdown, seen, catalog) = (shutdown.clone(), Arc::clone(&seen), catalog.clone());
            async move {
                if moment == "restore.staged" {
                    let all = CollectionFilter::default();
                    let lines = catalog.restores().collections(id, &all, Page::default()).await.unwrap();
                    seen.lock().unwrap().extend(summary(&lines.items));
                    shutdown.cancel();
                }
            }
        }
    });
    let engine = bench.engine(bench.settings()).with_probe(watching);
    engine.run(shutdown).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["shop.orders > shop.orders_restored staged"]);
    let job = bench.catalog.restores().get(id).await.unwrap().unwrap();
    assert!(job.state.is_active(), "{job:?}");
    // The name that it would have got is free again, and the one that it has is taken.
    let shop = bench.client.database("shop");
    shop.collection::<Document>("orders").drop().await.unwrap();
    let mut expected = data(&bench.client).await;
    let staged = |name: &String| name.starts_with(mongo::STAGING_PREFIX);
    let database = expected.databases.get_mut("shop").unwrap();
    database.collections.retain(|name, _| !staged(name));
    database.hashes.retain(|name, _| !staged(name));
    put(&mut expected, "shop.orders_restored", &before, "shop.orders");
    let job = run_engine(&bench, &bench.engine(bench.settings()), id).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    oracle::assert_same(&without_stored_views(expected), &without_stored_views(data(&bench.client).await));
    assert_eq!(summary(&told(&bench, id).await), ["shop.orders > shop.orders_restored inPlace"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_made_under_its_name_meanwhile_is_not_touched() {
    let bench = bench("6.0.5", &[]).await;
    let snapshot = bench.snapshot().await;
    bench.client.database("shop").collection::<Document>("items").drop().await.unwrap();
    let client = bench.client.clone();
    let making = probe(move |moment, _| {
        let client = client.clone();
        async move {
            if moment == "restore.staged" {
                let items = client.database("shop").collection::<Document>("items");
                items.insert_one(doc! {"_id": "precious"}).await.unwrap();
            }
        }
    });
    let id = request(&bench, &snapshot, bench.deployment, asked(&[], &["shop.items"], json!({}))).await;
    let job = run(&bench, id, bench.settings(), Some(making)).await;
    assert_eq!(job.state, RestoreState::Failed);
    let items = bench.client.database("shop").collection::<Document>("items");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 1);
    assert_eq!(items.count_documents(doc! {"_id": "precious"}).await.unwrap(), 1);
    assert_no_staging(&bench.client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_point_in_time_goes_into_another_deployment_too() {
    let source = server(Options::version("6.0.5"), &[]).await;
    shop(&source.client().await.unwrap()).await;
    let captured = Captured::start(source).await;
    let bench = &captured.bench;
    let shop = bench.client.database("shop");
    shop.collection::<Document>("orders").update_many(doc! {}, doc! {"$set": {"good": true}}).await.unwrap();
    shop.run_command(doc! {"dropIndexes": "orders", "index": "expiring"}).await.unwrap();
    let before = data(&bench.client).await;
    let at = captured.now().await;
    shop.collection::<Document>("orders").delete_many(doc! {}).await.unwrap();
    shop.collection::<Document>("items").drop().await.unwrap();

    let other = server(Options::version("6.0.5"), &[]).await;
    let client = other.client().await.unwrap();
    client.database("shop").collection::<Document>("theirs").insert_one(doc! {"_id": 1}).await.unwrap();
    let target = register(bench, "other", &other.uri()).await;
    let mut expected = data(&client).await;
    put(&mut expected, "shop_restored.orders", &before, "shop.orders");
    put(&mut expected, "shop_restored.items", &before, "shop.items");
    let job = captured.restore(at, target, asked(&["shop"], &[], json!({}))).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    oracle::assert_same(&without_stored_views(expected), &without_stored_views(data(&client).await));
    let lines = told(bench, job.id).await;
    assert_eq!(
        summary(&lines)[..2],
        ["shop.items > shop_restored.items inPlace", "shop.orders > shop_restored.orders inPlace"]
    );
    assert_eq!(lines.iter().map(|line| line.documents_done).sum::<u64>(), 550);
    // Of a time before it was dropped, it is not found any more.
    let now = captured.now().await;
    let gone = captured.restore(now, target, asked(&[], &["shop.items"], json!({}))).await;
    assert_eq!(gone.state, RestoreState::Failed);
    assert_eq!(summary(&told(bench, gone.id).await), ["shop.items > shop.items notFound"]);
    captured.stop().await;
}
