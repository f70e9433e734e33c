//! An export holds the documents of the source, each of them and none else, and says so only when that is true.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bson::{Bson, Document, doc};
use catalog::{Conflict, ScheduleChange, SnapshotType};
use ebbtide_engine::{Settings, engine::wall_clock};
use model::{
    export::{ExportState, ROOT},
    schedule::{AutoExport, ExportPolicy, Frequency, FrequencyType, Policy, PolicyItem, Schedule},
};
use restore_support::{
    exported::{bucket, documents, exported, files, lines, request, run},
    server,
};
use serde_json::{Value, json};
use support::{Bench, documents as many, probe, source_at};
use testbed::{Options, data::Set, oracle};
use vault::{Location, S3Options};

/// What the file systems of old and the names in a database disagree about; the others are called as they are.
fn directory(name: &str) -> Option<String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte));
    (plain && name.len() <= 200).then(|| name.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_export_holds_the_documents_of_the_source() {
    for version in ["6.0.5", "5.0.4"] {
        let server = server(Options::version(version), &Set::ALL).await;
        let uri = server.uri();
        let bench = Bench::over(server, &uri).await;
        let snapshot = bench.snapshot().await;
        let job = exported(&bench, &snapshot).await;
        let export = bench.exports().join(&job.prefix);
        let found = files(&export);
        let state = oracle::state(&bench.client).await.unwrap();
        let (mut compared, mut counted, mut collections) = (0, 0, 0);
        for (db, database) in &state.databases {
            for (name, collection) in &database.collections {
                let has_documents = !["view", "timeseries"].contains(&collection.kind.as_str());
                collections += u64::from(has_documents && name != "system.views");
                let (Some(db_directory), Some(directory)) = (directory(db), directory(name)) else {
                    continue;
                };
                let at = format!("{db_directory}/{directory}");
                if name == "system.views" {
                    assert!(!export.join(&at).exists(), "{at}: views tell themselves");
                    continue;
                }
                let described: Value =
                    serde_json::from_slice(&std::fs::read(&found[&format!("{at}/metadata.json")]).unwrap())
                        .unwrap();
                assert_eq!(described["collectionName"], name.as_str());
                assert_eq!(described["type"], collection.kind.as_str());
                assert_eq!(described["indexes"].as_array().unwrap().len(), collection.indexes.len(), "{at}");
                if !has_documents {
                    assert!(lines(&export, &at).is_empty(), "{at}");
                    continue;
                }
                let namespace = format!("{db}.{name}");
                if collection.options.0.get_bool("capped").unwrap_or(false) {
                    assert_eq!(lines(&export, &at).len(), bench.documents(&snapshot, &namespace).await.len());
                    continue;
                }
                let truth = source_at(&bench.client, &namespace, snapshot.cluster_time.unwrap()).await;
                counted += 1;
                // Names that are there twice, and bits of NaN, are lost to whoever reads JSON.
                if db == "bytes" || db == "large" {
                    assert_eq!(lines(&export, &at).len(), truth.len(), "{at}");
                    continue;
                }
                assert!(documents(&export, &at) == truth, "{at} differs");
                compared += 1;
            }
        }
        assert!(compared > 15 && counted > compared, "{compared} of {counted}");
        let progress = job.progress.as_ref().unwrap();
        assert_eq!((progress.collections_done, progress.collections_total), (collections, collections));
        let expected = bench
            .collections(&snapshot)
            .await
            .into_values()
            .filter(|entry| entry.meta.kind != vault::CollectionKind::SystemViews)
            .fold((0, 0), |(documents, bytes), entry| (documents + entry.documents, bytes + entry.bytes));
        assert_eq!((progress.documents_done, progress.bytes_done), expected);
        assert_eq!((progress.documents_total, progress.bytes_total), expected);
        marker_is_true(&bench, &job, &snapshot, found.len());
    }
}

fn marker_is_true(bench: &Bench, job: &catalog::ExportJob, snapshot: &catalog::Snapshot, files: usize) {
    let marker = std::fs::read(bench.exports().join(&job.prefix).join(".complete")).unwrap();
    let marker: Value = serde_json::from_slice(&marker).unwrap();
    let expected = json!({
        "orgId": "5ebb71de0000000000000001",
        "orgName": "Ebbtide",
        "groupId": bench.project.to_string(),
        "groupName": "test",
        "clusterUniqueId": bench.deployment.to_string(),
        "clusterName": "source",
        "snapshotInitiationDate": snapshot.requested_at.to_rfc3339(),
        // All but the marker itself.
        "totalFiles": files - 1,
        "labels": [],
        "customData": [{"key": "purpose", "value": "a \"test\""}],
    });
    assert_eq!(marker, expected);
    let seconds = job.created_at.seconds();
    let prefix = format!("{ROOT}/5ebb71de0000000000000001/{}/source/", bench.project);
    assert!(
        job.prefix.starts_with(&prefix) && job.prefix.ends_with(&format!("/{seconds}")),
        "{}",
        job.prefix
    );
}

/// A bench with a collection of several files.
async fn large() -> Bench {
    let bench = Bench::start(Options::version("6.0.5")).await;
    let noise = |n: u64| {
        let bytes = testbed::data::Random::new(n).bytes(1_500);
        Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes })
    };
    let collection = bench.client.database("app").collection::<Document>("noise");
    for from in (0..20_000_u64).step_by(2_000) {
        collection
            .insert_many((from..from + 2_000).map(|n| doc! {"_id": n as i64, "x": noise(n)}))
            .await
            .unwrap();
    }
    bench.fill("app", "small", many(50, 100, |n| Bson::Int64(n as i64))).await;
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attempt_that_takes_over_leaves_the_same_files() {
    let bench = large().await;
    let snapshot = bench.snapshot().await;
    let whole = exported(&bench, &snapshot).await;
    let whole = bench.exports().join(&whole.prefix);
    let contents = |directory| -> Vec<_> {
        files(directory).into_iter().map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
    };
    assert!(
        whole.join("app/noise/rs0.1.json.gz").exists(),
        "it is of several files: {:?}",
        files(&whole).keys()
    );

    let id = request(&bench, &snapshot, bucket(&bench).await).await;
    // It is stopped again and again, wherever it is, and goes on.
    let mut attempts = 0;
    let job = loop {
        attempts += 1;
        let job = bench.catalog.exports().get(id).await.unwrap().unwrap();
        if job.state.is_final() {
            break job;
        }
        let engine = bench.engine(bench.settings());
        let shutdown = tokio_util::sync::CancellationToken::new();
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { engine.run(shutdown).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(200 * attempts)).await;
        shutdown.cancel();
        running.await.unwrap().unwrap();
    };
    assert_eq!(job.state, ExportState::Successful, "{:?}", job.error);
    assert!(attempts > 2, "it was never stopped");
    let again = bench.exports().join(&job.prefix);
    assert!(contents(&whole) == contents(&again), "other files");
    assert!(
        documents(&again, "app/noise") == bench.source_at("app.noise", snapshot.cluster_time.unwrap()).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_is_deleted_meanwhile_is_exported_whole() {
    let bench = large().await;
    let snapshot = bench.snapshot().await;
    let bucket = bucket(&bench).await;
    let id = request(&bench, &snapshot, bucket).await;
    let twice = bench.catalog.exports();
    let new = catalog::NewExport {
        deployment_id: bench.deployment,
        snapshot_id: snapshot.id,
        bucket_id: bucket,
        custom_data: vec![],
        organization: &model::organization::Organization::default(),
        scheduled: false,
    };
    let refused = twice.request(new.clone(), wall_clock()).await.unwrap_err();
    assert!(matches!(refused, catalog::Error::Conflict(Conflict::SnapshotExporting)), "{refused}");
    let refused = bench.catalog.export_buckets().delete(bucket, wall_clock()).await.unwrap_err();
    assert!(matches!(refused, catalog::Error::Conflict(Conflict::BucketInUse)), "{refused}");
    bench.catalog.snapshots().delete(snapshot.id, wall_clock()).await.unwrap();
    let collecting = {
        let engine = bench.engine(bench.settings());
        probe(move |moment, _| {
            let engine = engine.clone();
            async move {
                if moment == "export.collection" {
                    engine.reconcilers().activate("collector").await.unwrap();
                }
            }
        })
    };
    let engine = bench.engine(bench.settings());
    for _ in 0..3 {
        engine.reconcilers().activate("collector").await.unwrap();
    }
    let job = run(&bench, &engine.with_probe(collecting), id).await;
    assert_eq!(job.state, ExportState::Successful, "{:?}", job.error);
    let export = bench.exports().join(&job.prefix);
    assert!(
        documents(&export, "app/noise") == bench.source_at("app.noise", snapshot.cluster_time.unwrap()).await
    );
    // Nothing holds it any more, and it cannot be exported again.
    let refused = twice.request(new, wall_clock()).await.unwrap_err();
    assert!(matches!(refused, catalog::Error::Illegal(_)), "{refused}");
    bench.catalog.export_buckets().delete(bucket, wall_clock()).await.unwrap();
    for _ in 0..3 {
        bench.engine(bench.settings()).reconcilers().activate("collector").await.unwrap();
    }
    assert_eq!(
        support::objects(&bench.vault).await,
        [],
        "what only the snapshot needed goes after the export"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_export_of_a_removed_deployment_stops_without_a_marker() {
    let bench = large().await;
    let snapshot = bench.snapshot().await;
    let id = request(&bench, &snapshot, bucket(&bench).await).await;
    let removing = {
        let (catalog, deployment) = (bench.catalog.clone(), bench.deployment);
        let calls = Arc::new(AtomicUsize::new(0));
        probe(move |moment, _| {
            let (catalog, calls) = (catalog.clone(), Arc::clone(&calls));
            async move {
                if moment == "export.collection" && calls.fetch_add(1, Ordering::SeqCst) == 0 {
                    catalog.deployments().remove(deployment, wall_clock()).await.unwrap();
                    let job = catalog.exports().get(id).await.unwrap().unwrap();
                    assert_eq!(job.state, ExportState::Cancelling);
                }
            }
        })
    };
    let settings = Settings { lease_ms: 1_500, ..bench.settings() };
    let job = run(&bench, &bench.engine(settings).with_probe(removing), id).await;
    assert_eq!(job.state, ExportState::Cancelled, "{:?}", job.error);
    let export = bench.exports().join(&job.prefix);
    assert!(export.exists() && !export.join(".complete").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_place_that_cannot_be_written_is_named() {
    let bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "small", many(50, 100, |n| Bson::Int64(n as i64))).await;
    let snapshot = bench.snapshot().await;
    let bucket = bucket(&bench).await;
    let place = || Bench::PLACE.parse().unwrap();
    let none = Settings { export_places: [].into(), ..bench.settings() };
    let missing = Location::parse("/nowhere/at/all", S3Options::default()).unwrap();
    let missing = Settings { export_places: [(place(), missing)].into(), ..bench.settings() };
    for (settings, said) in
        [(none, "put [exports.archive] into"), (missing, "there is no directory /nowhere/at/all")]
    {
        let id = request(&bench, &snapshot, bucket).await;
        let job = run(&bench, &bench.engine(settings), id).await;
        assert_eq!(job.state, ExportState::Failed);
        assert!(job.error.as_ref().unwrap().contains(said), "{:?}", job.error);
    }
    // A file lies where a directory has to be.
    std::fs::write(bench.exports().join(ROOT), b"in the way").unwrap();
    let id = request(&bench, &snapshot, bucket).await;
    let engine = bench.engine(bench.settings());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { engine.run(shutdown).await }
    });
    // It may pass, so it is tried again, and the reason is told meanwhile.
    let begun = std::time::Instant::now();
    let told = loop {
        let work = bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
        if let Some(error) = work.error {
            break error;
        }
        restore_support::captured::pause(begun).await;
    };
    assert!(told.contains("the place archive for exports cannot be written"), "{told}");
    std::fs::remove_file(bench.exports().join(ROOT)).unwrap();
    let job = restore_support::exported::ended(&bench, id).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(job.state, ExportState::Successful, "{:?}", job.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_schedule_takes_is_exported_by_itself_and_once() {
    let bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "small", many(50, 100, |n| Bson::Int64(n as i64))).await;
    let bucket_id = bucket(&bench).await;
    let days_ago = wall_clock().plus_ms(-3 * 86_400_000);
    let daily = PolicyItem {
        id: model::id::PolicyItemId::from_bytes([1; 12]),
        frequency: Frequency::new(FrequencyType::Daily, 1).unwrap(),
        retention: model::Retention::new(model::RetentionUnit::Days, 7).unwrap(),
    };
    let change = ScheduleChange {
        of_revision: None,
        schedule: Schedule { policy: Policy::new(vec![daily]).unwrap(), ..Schedule::default() },
        auto_export: AutoExport::On(ExportPolicy { bucket_id, frequency: FrequencyType::Daily }),
        names_in_exports: false,
        copies: Default::default(),
        delete_copies: vec![],
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
    };
    bench.catalog.schedules().change(bench.deployment, &change, days_ago).await.unwrap();
    // On demand: nobody's schedule wants it exported.
    bench.snapshot().await;
    let engine = bench.engine(Settings { reconcile_every: Duration::from_millis(100), ..bench.settings() });
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { engine.run(shutdown).await }
    });
    let begun = std::time::Instant::now();
    let exports = || async {
        bench.catalog.exports().list(bench.deployment, catalog::Page::default()).await.unwrap().items
    };
    while exports().await.iter().all(|job| !job.state.is_final()) {
        restore_support::captured::pause(begun).await;
    }
    // Time enough to do it again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let [job] = &exports().await[..] else { panic!("{:?}", exports().await) };
    assert_eq!(job.state, ExportState::Successful, "{:?}", job.error);
    assert!(job.scheduled);
    let snapshot = bench.catalog.snapshots().get(job.snapshot_id).await.unwrap().unwrap();
    assert_eq!(snapshot.snapshot_type, SnapshotType::Scheduled);
    let truth = bench.source_at("app.small", snapshot.cluster_time.unwrap()).await;
    assert!(documents(&bench.exports().join(&job.prefix), "app/small") == truth);
}
