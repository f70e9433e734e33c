//! What keeps the vault clean deletes nothing that anybody may still need.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bson::Bson;
use catalog::{AuditEntry, AuditFilter, Catalog, NewSnapshot, Outcome, Page, SnapshotType};
use ebbtide_engine::{
    Engine,
    engine::wall_clock,
    progress::Counters,
    rebuild::{GRACE_DAYS, rebuild},
    verify::verify,
};
use futures::TryStreamExt as _;
use model::{
    ClusterTime, Id, OplogPosition, id::SnapshotId, job::JobState, restore::RestoreState,
    snapshot::SnapshotState,
};
use serde_json::{Value, json};
use support::{Bench, documents};
use testbed::Options;
use vault::{SealedSlice, SliceBuilder, SliceLink, SliceSource};

const DAY_MS: i64 = 86_400_000;

/// An engine over another catalog than the bench's, and the same vault.
fn engine_over(bench: &Bench, catalog: &Catalog) -> Engine {
    Engine::new(catalog.clone(), bench.vault.clone(), Arc::clone(&bench.master), bench.settings())
}

async fn fresh_catalog(bench: &Bench) -> Catalog {
    Catalog::open(bench.dir.path().join("fresh.sqlite").to_str().unwrap()).await.unwrap()
}

/// Asks for a snapshot some days ago, to be kept for one day.
async fn requested_days_ago(bench: &Bench, days: i64) -> SnapshotId {
    let new = NewSnapshot {
        deployment_id: bench.deployment,
        snapshot_type: SnapshotType::OnDemand,
        description: None,
        retention_days: Some(1),
    };
    let then = wall_clock().plus_ms(-days * DAY_MS);
    bench.catalog.snapshots().request(new, then).await.unwrap().id
}

/// More cycles than anything takes to be deleted.
async fn collect(engine: &Engine) -> Value {
    let mut last = Value::Null;
    for _ in 0..3 {
        last = engine.reconcilers().activate("collector").await.unwrap();
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_catalog_that_is_older_than_the_vault_takes_no_snapshot_away() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "shared", documents(2_000, 1_000, |n| Bson::Int64(n as i64))).await;
    let first = bench.snapshot().await;
    // As if the database was put back from a copy made now.
    let older = fresh_catalog(&bench).await;
    rebuild(&bench.vault, &older, wall_clock()).await.unwrap();
    let second = bench.snapshot().await;
    let engine = engine_over(&bench, &older);
    older.snapshots().delete(first.id, wall_clock()).await.unwrap();
    let did = collect(&engine).await;
    bench.assert_verifies(&second).await;
    let held = did["heldByManifests"].to_string();
    assert!(held.contains(&second.id.to_string()) && held.contains("rebuild-catalog"), "{did}");

    rebuild(&bench.vault, &older, wall_clock()).await.unwrap();
    let did = collect(&engine).await;
    assert_eq!(did["heldByManifests"], serde_json::json!([]));
    bench.assert_verifies(&second).await;
    older.snapshots().delete(second.id, wall_clock()).await.unwrap();
    collect(&engine).await;
    assert_eq!(support::objects(&bench.vault).await, [], "what nobody needs is collected again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rebuilt_catalog_does_not_expire_what_was_to_be_kept_longer() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    let id = requested_days_ago(&bench, 3).await;
    let snapshot = bench.finish(id, bench.settings(), None).await;
    assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
    // The manifest doesn't know of it, and is the only thing that outlives the catalog.
    let in_a_year = wall_clock().plus_ms(365 * DAY_MS);
    bench.catalog.snapshots().update_retention(id, in_a_year).await.unwrap();

    let fresh = fresh_catalog(&bench).await;
    let began = wall_clock();
    let rebuilt = rebuild(&bench.vault, &fresh, began).await.unwrap();
    assert_eq!((rebuilt.snapshots, rebuilt.prolonged), (1, 1));
    let did = engine_over(&bench, &fresh).reconcilers().activate("expiry").await.unwrap();
    assert_eq!(did["snapshotsExpired"], 0);
    let back = fresh.snapshots().get(id).await.unwrap().unwrap();
    assert_eq!(back.state, SnapshotState::Completed);
    assert_eq!(back.expires_at, Some(began.plus_ms(i64::from(GRACE_DAYS) * DAY_MS)));
}

/// As after a start without a network: by such a clock everything would be too old, and gone before the clock is set right.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_expires_by_a_clock_that_has_just_jumped_ahead() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(10, 300, |n| Bson::Int64(n as i64))).await;
    let id = bench.snapshot().await.id;
    bench.catalog.snapshots().update_retention(id, wall_clock().plus_ms(-DAY_MS)).await.unwrap();
    let state = async || bench.catalog.snapshots().get(id).await.unwrap().unwrap().state;
    let (settings, key) = (bench.catalog.settings(), "clock.lastSeenAt");
    settings.set(key, &wall_clock().plus_ms(-2 * DAY_MS).0.to_string()).await.unwrap();
    let engine = bench.engine(bench.settings());
    for _again in 0..2 {
        let did = engine.reconcilers().activate("expiry").await.unwrap();
        assert_eq!(did["clockJumped"], true, "{did}");
        engine.reconcilers().activate("slices").await.unwrap();
        assert_eq!(state().await, SnapshotState::Completed);
    }
    settings.set(key, &wall_clock().plus_ms(-DAY_MS / 2).0.to_string()).await.unwrap();
    let did = bench.engine(bench.settings()).reconcilers().activate("expiry").await.unwrap();
    assert_eq!((&did["snapshotsExpired"], state().await), (&json!(1), SnapshotState::Deleted), "{did}");
    let seen: i64 = settings.get(key).await.unwrap().unwrap().parse().unwrap();
    assert!(seen > wall_clock().plus_ms(-DAY_MS / 4).0, "what was seen is written down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_manifest_that_a_rebuild_could_not_read_keeps_what_it_may_need() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let snapshot = bench.snapshot().await;
    let name: vault::ObjectName = snapshot.manifest.as_ref().unwrap().parse().unwrap();
    let path = bench.dir.path().join("vault").join(name.path());
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    flip(&path);
    let fresh = fresh_catalog(&bench).await;
    let rebuilt = rebuild(&bench.vault, &fresh, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.snapshots, rebuilt.unreadable.len()), (0, 1));
    let did = collect(&engine_over(&bench, &fresh)).await;
    assert!(did["heldByManifests"].to_string().contains(&name.to_string()), "{did}");
    // Somebody has a good copy.
    flip(&path);
    assert_eq!(rebuild(&bench.vault, &fresh, wall_clock()).await.unwrap().snapshots, 1);
    bench.assert_verifies(&snapshot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_with_a_page_that_is_damaged_does_not_hide_the_others() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let older = bench.snapshot().await;
    let kept = bench.manifest(&older).await.object_names().try_collect::<Vec<_>>().await.unwrap();
    bench.fill("app", "others", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let newer = bench.snapshot().await;
    let names = bench.manifest(&newer).await.object_names().try_collect::<Vec<_>>().await.unwrap();
    let own: Vec<_> = names
        .into_iter()
        .filter(|name| name.kind == vault::ObjectKind::Page && !kept.contains(name))
        .collect();
    assert_ne!(own, []);
    for page in &own {
        bench.vault.delete(page).await.unwrap();
    }
    let fresh = fresh_catalog(&bench).await;
    let rebuilt = rebuild(&bench.vault, &fresh, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.manifests, rebuilt.snapshots, rebuilt.unreadable.len()), (2, 1, 1));
    assert_eq!(Some(&rebuilt.unreadable[0].object), newer.manifest.as_ref());
    assert!(rebuilt.unreadable[0].why.contains("missing"), "{:?}", rebuilt.unreadable);
    assert!(fresh.snapshots().get(older.id).await.unwrap().is_some());
    // What it may still need is kept for whoever has a good copy of the page.
    let did = collect(&engine_over(&bench, &fresh)).await;
    assert!(did["heldByManifests"].to_string().contains(&newer.id.to_string()), "{did}");
    bench.assert_verifies(&older).await;
}

/// The catalog as it is now, under another name.
async fn copy_of_the_catalog(bench: &Bench, name: &str) -> Catalog {
    for ending in ["", "-wal"] {
        let file = |name: &str| bench.dir.path().join(format!("{name}{ending}"));
        std::fs::copy(file("catalog.sqlite"), file(name)).unwrap();
    }
    Catalog::open(bench.dir.path().join(name).to_str().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_catalog_in_which_a_snapshot_is_still_to_be_taken_does_not_take_it_away() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let id = bench.request().await;
    let older = copy_of_the_catalog(&bench, "older.sqlite").await;
    let snapshot = bench.finish(id, bench.settings(), None).await;
    assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
    assert_eq!(older.snapshots().get(id).await.unwrap().unwrap().state, SnapshotState::Queued);

    let engine = engine_over(&bench, &older);
    let did = collect(&engine).await;
    bench.assert_verifies(&snapshot).await;
    let held = did["heldByManifests"].to_string();
    assert!(held.contains(&id.to_string()) && held.contains("rebuild-catalog"), "{did}");

    let rebuilt = rebuild(&bench.vault, &older, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.snapshots, rebuilt.unreadable.len()), (1, 0));
    let back = older.snapshots().get(id).await.unwrap().unwrap();
    assert_eq!((back.state, &back.manifest), (SnapshotState::Completed, &snapshot.manifest));
    let job = older.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Succeeded);
    assert_eq!(collect(&engine).await["heldByManifests"], json!([]));
    bench.assert_verifies(&snapshot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failed_snapshot_that_is_whole_in_the_vault_is_completed_and_one_that_is_not_is_left() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let id = bench.request().await;
    let older = copy_of_the_catalog(&bench, "older.sqlite").await;
    let snapshot = bench.finish(id, bench.settings(), None).await;
    let lease = older.jobs().claim("w", &[], wall_clock(), 60_000).await.unwrap().unwrap();
    let failed = Outcome::Failed { error: "the deployment was away".to_owned() };
    older.jobs().finish(&lease, failed, wall_clock()).await.unwrap();

    let segment = bench.segments(&snapshot, "app.things").await.remove(0).name;
    let path = bench.dir.path().join("vault").join(segment.path());
    let aside = bench.dir.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    let rebuilt = rebuild(&bench.vault, &older, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.snapshots, rebuilt.unreadable.len()), (0, 0));

    std::fs::rename(&aside, &path).unwrap();
    let rebuilt = rebuild(&bench.vault, &older, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.snapshots, rebuilt.unreadable.len()), (1, 0));
    let back = older.snapshots().get(id).await.unwrap().unwrap();
    assert_eq!((back.state, back.error), (SnapshotState::Completed, None));
    collect(&engine_over(&bench, &older)).await;
    bench.assert_verifies(&snapshot).await;
}

fn entry(seconds: u32) -> OplogPosition {
    OplogPosition { time: ClusterTime { seconds, increment: 1 }, term: 1 }
}

/// A slice of that timeline with one entry.
async fn put_slice(bench: &Bench, timeline: u8, link: SliceLink, last: OplogPosition) -> SealedSlice {
    let source = SliceSource {
        timeline_id: Id::from_bytes([timeline; 12]),
        project_id: bench.project,
        project_name: "project".to_owned(),
        deployment_id: bench.deployment,
        deployment_name: "deployment".to_owned(),
        replica_set_name: "rs".to_owned(),
        ebbtide_version: "0.1.0".to_owned(),
    };
    let mut builder = SliceBuilder::new(source, link);
    builder.push(last, b"\x05\0\0\0\0").unwrap();
    let slice = builder.seal(&bench.vault, last.time, wall_clock()).unwrap();
    bench.vault.put(&slice.object).await.unwrap();
    slice
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_does_not_fit_hides_no_other_and_a_known_one_goes_on_with_what_the_vault_has() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    bench.snapshot().await;
    let fresh = fresh_catalog(&bench).await;
    let enter = async || rebuild(&bench.vault, &fresh, wall_clock()).await.unwrap();
    let current = async || fresh.timelines().current(bench.deployment).await.unwrap();
    put_slice(&bench, 1, SliceLink::first(OplogPosition::default()), entry(10)).await;
    let first = put_slice(&bench, 2, SliceLink::first(entry(10)), entry(20)).await;
    let next = SliceLink::behind(&first.header, first.name);
    let broken = put_slice(&bench, 2, SliceLink { after: entry(15), ..next }, entry(30)).await;
    let rebuilt = enter().await;
    assert_eq!((rebuilt.timelines, rebuilt.unreadable.len()), (1, 1), "{:?}", rebuilt.unreadable);
    assert_eq!(rebuilt.unreadable[0].object, broken.name.to_string());
    assert_eq!(current().await, None, "the first one has been followed by another");

    bench.vault.delete(&broken.name).await.unwrap();
    let rebuilt = enter().await;
    assert_eq!((rebuilt.timelines, rebuilt.slices, rebuilt.unreadable.len()), (1, 0, 0));
    put_slice(&bench, 2, next, entry(30)).await;
    let rebuilt = enter().await;
    assert_eq!((rebuilt.timelines, rebuilt.slices, rebuilt.unreadable.len()), (0, 1, 0));
    let second = current().await.unwrap();
    assert_eq!((second.id, second.durable), (Id::from_bytes([2; 12]), entry(30)));

    put_slice(&bench, 3, SliceLink::first(entry(40)), entry(50)).await;
    let rebuilt = enter().await;
    assert_eq!((rebuilt.timelines, rebuilt.slices, rebuilt.unreadable.len()), (1, 0, 0));
    assert_eq!(current().await.unwrap().id, Id::from_bytes([3; 12]));
    let second = fresh.timelines().get(second.id).await.unwrap().unwrap();
    assert!(second.ended.is_some());
}

/// No snapshot needs a slice; its timeline says how long it lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slices_are_none_of_the_garbage_of_snapshots() {
    let bench = Bench::start(Options::default()).await;
    let slice = put_slice(&bench, 1, SliceLink::first(OplogPosition::default()), entry(1)).await;
    let engine = bench.engine(bench.settings());
    // The store is searched for strangers by the first cycle.
    let did = engine.reconcilers().activate("collector").await.unwrap();
    assert_eq!((&did["due"], &did["objectsAdopted"]), (&json!(true), &json!(0)), "{did}");
    collect(&engine).await;
    assert!(bench.vault.contains(&slice.name).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_killed_process_left_half_written_is_removed_after_an_hour() {
    let bench = Bench::start(Options::default()).await;
    let directory = bench.dir.path().join("vault/v1/segments/ab");
    std::fs::create_dir_all(&directory).unwrap();
    let (old, new) = (directory.join("abcd#1"), directory.join("abce#1"));
    for path in [&old, &new] {
        std::fs::write(path, "half").unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    let engine = bench.engine(bench.settings());
    let did = engine.reconcilers().activate("leftovers").await.unwrap();
    assert_eq!(did["filesRemoved"], 1);
    assert!(!old.exists() && new.exists(), "a file that may still be written to is not touched");
    let did = engine.reconcilers().activate("leftovers").await.unwrap();
    assert_eq!(did["due"], false, "the walk is not for every half minute");
}

/// A bit that has flipped is not seen when a segment is reused, only when it is read. Then it is remembered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_found_damaged_is_stored_anew_and_old_snapshots_are_whole_again() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let old = bench.snapshot().await;
    let segment = bench.segments(&old, "app.things").await.remove(0);
    let path = bench.dir.path().join("vault").join(segment.name.path());
    let rot = || {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    rot();
    // As `ebbtide verify` does.
    let name = old.manifest.as_ref().unwrap().parse().unwrap();
    let report = verify(&bench.vault, &name, &Counters::default()).await.unwrap();
    assert_eq!(report.damaged, [segment.name]);
    bench.catalog.objects().report_damage(&[segment.name.to_string()]).await.unwrap();
    let second = bench.snapshot().await;
    bench.assert_verifies(&second).await;
    bench.assert_verifies(&old).await;
    assert!(second.added_bytes >= segment.stored_bytes, "it was stored anew");

    rot();
    for download in [false, true] {
        let id = if download {
            restore_support::request_download(&bench, &old).await
        } else {
            restore_support::request(&bench, &old, bench.deployment, json!({})).await
        };
        let job = restore_support::run(&bench, id, bench.settings(), None).await;
        assert_eq!(job.state, RestoreState::Failed);
        let error = job.error.unwrap();
        assert!(error.contains(&segment.name.hex()) && error.contains("stored anew"), "{error}");
        assert_eq!(bench.catalog.objects().stats().await.unwrap().damaged, 1);
        let next = bench.snapshot().await;
        bench.assert_verifies(&next).await;
        bench.assert_verifies(&old).await;
        assert_eq!(bench.catalog.objects().stats().await.unwrap().damaged, 0);
        rot();
    }
}

/// What is found damaged when it would be reused is stored anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_does_not_rely_on_objects_that_were_cut_short() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    bench.snapshot().await;
    let mut cut = 0;
    for name in support::objects(&bench.vault).await {
        if name.kind != vault::ObjectKind::Manifest {
            let path = bench.dir.path().join("vault").join(name.path());
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            cut += 1;
        }
    }
    assert!(cut >= 3, "a segment, its page, the page of collections");
    let second = bench.snapshot().await;
    bench.assert_verifies(&second).await;
    bench.assert_exact(&second, "app.things").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_of_the_audit_log_are_kept_as_long_as_they_are_to_be() {
    let bench = Bench::start(Options::default()).await;
    let days_old = async |days: i64| {
        let entry = AuditEntry::begun(wall_clock().plus_ms(-days * DAY_MS), "abcdefgh", "192.0.2.1", "x");
        bench.catalog.audit().append(&entry).await.unwrap();
    };
    let left = async || {
        let listing = bench.catalog.audit().list(&AuditFilter::default(), Page::default()).await.unwrap();
        listing.total.unwrap()
    };
    // More than go at once.
    for _ in 0..1_005 {
        days_old(11).await;
    }
    days_old(9).await;
    let forgetting = async |kept: Option<Duration>| {
        let settings = ebbtide_engine::Settings { audit_kept: kept, ..bench.settings() };
        bench.engine(settings).reconcilers().activate("audit").await.unwrap()
    };
    assert_eq!(forgetting(None).await, json!({"kept": "for ever"}));
    assert_eq!(left().await, 1_006);
    let ten_days = Some(Duration::from_secs(10 * 24 * 3600));
    assert_eq!(forgetting(ten_days).await, json!({"due": true, "forgotten": 1_005}));
    assert_eq!(left().await, 1);
    days_old(11).await;
    assert_eq!(forgetting(ten_days).await, json!({"due": false}), "not more often than it is worth it");
    assert_eq!(left().await, 2);
}
