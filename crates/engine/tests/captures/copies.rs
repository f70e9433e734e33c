//! Copies in another vault: whole when they say so, nothing else when their snapshots go, and enough to begin again with.
#![allow(clippy::unwrap_used)]

use crate::capture_support;
use crate::support;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use bson::{Bson, doc};
use capture_support::{Running, based, captured_bench, current, folded, slices};
use catalog::{Catalog, ScheduleChange, Snapshot};
use ebbtide_engine::{
    Engine, Settings,
    engine::wall_clock,
    progress::Counters,
    rebuild::rebuild,
    verify::{verify, verify_timeline},
};
use futures::TryStreamExt as _;
use model::{
    WallTime,
    copy::{CloudProvider, CopyState, RegionName},
    schedule::{AutoExport, Copied, CopySetting, CopySettings, Schedule, SnapshotKind},
};
use serde_json::Value;
use support::{Bench, documents, objects};
use testbed::Options;
use vault::{Location, Manifest, ObjectKind, ObjectName, S3Options, Vault};

/// Longer than a right to the place lasts that nobody gives back.
const LEASE: Duration = Duration::from_millis(2_200);

fn region() -> RegionName {
    "EU_WEST_1".parse().unwrap()
}

fn place(bench: &Bench) -> PathBuf {
    bench.dir.path().join("second")
}

fn location(bench: &Bench) -> Location {
    Location::parse(place(bench).to_str().unwrap(), S3Options::default()).unwrap()
}

fn settings(bench: &Bench, to: Location) -> Settings {
    // Rights to the place that nobody gives back run out soon.
    Settings { copy_places: [(region(), to)].into(), lease_ms: 250, ..bench.settings() }
}

fn engine(bench: &Bench) -> Engine {
    bench.engine(settings(bench, location(bench)))
}

/// The copy, opened by itself, as whoever has lost the first vault does.
async fn copy(bench: &Bench) -> Vault {
    Vault::open_to_read(&location(bench), &bench.master).await.unwrap()
}

/// Has what is on demand copied from now on, and the record if that is wanted.
async fn set(bench: &Bench, copied: Option<Copied>, oplogs: bool, delete: bool) {
    let schedules = bench.catalog.schedules();
    let seen = schedules.get(bench.deployment).await.unwrap();
    let setting = |copied| CopySetting {
        provider: CloudProvider::Aws,
        region: region(),
        zone: None,
        copied,
        oplogs,
        since: wall_clock(),
    };
    let change = ScheduleChange {
        of_revision: seen.map(|seen| seen.revision),
        schedule: Schedule::default(),
        auto_export: AutoExport::Unset,
        names_in_exports: false,
        copies: CopySettings::new(copied.map(setting).into_iter().collect()).unwrap(),
        delete_copies: if delete { vec![region()] } else { vec![] },
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
    };
    schedules.change(bench.deployment, &change, wall_clock()).await.unwrap();
}

fn on_demand() -> Option<Copied> {
    Some(Copied::Kinds(vec![SnapshotKind::OnDemand]))
}

/// What a look at the only place did; `null` where nothing was to be done.
async fn look(engine: &Engine) -> Value {
    let did = engine.reconcilers().activate("copies").await.unwrap();
    let place = &did["regions"][0];
    assert!(place.get("hindrance").is_none(), "{did}");
    place["did"].clone()
}

/// What holds the only place up, as is told of it whenever somebody looks.
async fn held(engine: &Engine) -> Value {
    engine.reconcilers().activate("copies").await.unwrap()["regions"][0]["held"].clone()
}

async fn state(bench: &Bench, snapshot: &Snapshot) -> Option<(CopyState, Option<String>)> {
    let found = bench.catalog.copies().of(&[snapshot.id]).await.unwrap();
    found.get(&snapshot.id).map(|copies| (copies[0].state, copies[0].error.clone()))
}

async fn needed_by(vault: &Vault, snapshot: &Snapshot) -> BTreeSet<ObjectName> {
    let root = snapshot.manifest.as_ref().unwrap().parse().unwrap();
    Manifest::open(vault, &root).await.unwrap().object_names().try_collect().await.unwrap()
}

async fn assert_good(vault: &Vault, snapshot: &Snapshot) {
    let root = snapshot.manifest.as_ref().unwrap().parse().unwrap();
    let report = verify(vault, &root, &Counters::default()).await.unwrap();
    assert!(report.is_good(), "{:?}", report.faults);
    assert_eq!(Manifest::open(vault, &root).await.unwrap().documents(), snapshot.documents);
}

async fn bench() -> Bench {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "stays", documents(3_000, 500, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "changes", documents(1_000, 500, |n| Bson::Int64(n as i64))).await;
    set(&bench, on_demand(), false, false).await;
    bench
}

async fn change(bench: &Bench) {
    let changes = bench.client.database("app").collection::<bson::Document>("changes");
    changes.update_many(doc! {}, doc! { "$inc": { "n": 1_000_000 } }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_has_what_its_snapshot_needs_and_goes_with_it() {
    let bench = bench().await;
    let engine = engine(&bench);
    assert_eq!(look(&engine).await, Value::Null, "there is nothing to copy, and nothing is made there");
    assert!(!place(&bench).exists());
    let first = bench.snapshot().await;
    let did = look(&engine).await;
    let needed = needed_by(&bench.vault, &first).await;
    assert_eq!((did["made"].as_u64(), did["objects"].as_u64()), (Some(1), Some(needed.len() as u64)));
    let there = copy(&bench).await;
    assert_eq!(objects(&there).await.into_iter().collect::<BTreeSet<_>>(), needed);
    assert_good(&there, &first).await;
    assert_eq!(state(&bench, &first).await, Some((CopyState::Made, None)));
    assert_eq!(look(&engine).await, Value::Null, "all is as it should be");

    // The next one costs what it does not share.
    change(&bench).await;
    let second = bench.snapshot().await;
    let also = needed_by(&bench.vault, &second).await;
    let new = also.difference(&needed).count();
    assert!(new < also.len(), "{new} of {}: nothing is shared", also.len());
    assert_eq!(look(&engine).await["objects"].as_u64(), Some(new as u64));

    // The first one goes, and with it what it does not share.
    bench.catalog.snapshots().delete(first.id, wall_clock()).await.unwrap();
    let did = look(&engine).await;
    assert_eq!(did["dropped"], 1, "{did}");
    assert_eq!(objects(&there).await.into_iter().collect::<BTreeSet<_>>(), also);
    let gone = needed.difference(&also).count() as u64;
    assert_eq!(did["deleted"].as_u64(), Some(gone - 1), "its manifest went before");
    assert_good(&there, &second).await;
    assert_eq!(state(&bench, &first).await, None);

    // Nobody wants copies any more; one that is said to go goes.
    set(&bench, None, false, false).await;
    assert_eq!(look(&engine).await, Value::Null);
    assert_good(&there, &second).await;
    set(&bench, None, false, true).await;
    look(&engine).await;
    assert_eq!(objects(&there).await, []);
    bench.assert_verifies(&second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn damage_is_not_copied_and_a_damaged_copy_is_made_whole() {
    let bench = bench().await;
    let engine = engine(&bench);
    let snapshot = bench.snapshot().await;
    let segment = bench.segments(&snapshot, "app.stays").await[0].name;
    let file = bench.dir.path().join("vault").join(segment.path());
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let did = look(&engine).await;
    assert_eq!((did["made"].as_u64(), did["failed"].as_u64()), (Some(0), Some(1)), "{did}");
    let (copy_state, error) = state(&bench, &snapshot).await.unwrap();
    assert_eq!(copy_state, CopyState::Wanted);
    assert!(error.as_ref().unwrap().contains(&segment.to_string()), "{error:?}");
    assert_eq!(bench.catalog.objects().stats().await.unwrap().damaged, 1, "the next snapshot stores it anew");
    let there = copy(&bench).await;
    assert!(!there.contains(&segment).await.unwrap());
    assert!(there.list(ObjectKind::Manifest).try_next().await.unwrap().is_none(), "half a copy shows itself");

    // A snapshot of the same data mends it, and both can be copied.
    let again = bench.snapshot().await;
    let holder = bench.catalog.copies().claim(&region(), wall_clock(), 60_000).await.unwrap().unwrap();
    bench.catalog.copies().failed(&holder, snapshot.id, "it is time", WallTime(0)).await.unwrap();
    bench.catalog.copies().release(&holder).await.unwrap();
    assert_eq!(look(&engine).await["made"], 2);
    for made in [&snapshot, &again] {
        assert_good(&there, made).await;
        assert_eq!(state(&bench, made).await, Some((CopyState::Made, None)));
    }

    // What rots in the copy is found by whoever reads it, and comes anew.
    std::fs::write(place(&bench).join(segment.path()), &bad).unwrap();
    let root = snapshot.manifest.as_ref().unwrap().parse().unwrap();
    let report = verify(&there, &root, &Counters::default()).await.unwrap();
    let damaged: Vec<String> = report.damaged.iter().map(ToString::to_string).collect();
    assert_eq!(damaged, [segment.to_string()]);
    bench.catalog.copies().report_damage(&region(), &damaged).await.unwrap();
    let did = look(&engine).await;
    assert_eq!((did["objects"].as_u64(), did["found"].as_u64()), (Some(1), Some(2)), "the segment: {did}");
    assert_good(&there, &snapshot).await;

    // A manifest that is damaged there holds nothing up for ever.
    std::fs::write(place(&bench).join(root.path()), b"nonsense").unwrap();
    bench.catalog.snapshots().delete(again.id, wall_clock()).await.unwrap();
    let did = engine.reconcilers().activate("copies").await.unwrap();
    assert!(did["regions"][0]["hindrance"].to_string().contains(&root.hex()), "{did}");
    assert_eq!(state(&bench, &snapshot).await.unwrap().0, CopyState::Wanted);
    tokio::time::sleep(LEASE).await;
    look(&engine).await;
    assert_good(&there, &snapshot).await;
    let left = objects(&there).await.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(left, needed_by(&bench.vault, &snapshot).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_first_vault_has_lost_the_copy_keeps() {
    let bench = bench().await;
    let engine = engine(&bench);
    let lost = bench.snapshot().await;
    change(&bench).await;
    let other = bench.snapshot().await;
    look(&engine).await;
    let there = copy(&bench).await;
    let before = objects(&there).await.into_iter().collect::<BTreeSet<_>>();
    // Its manifest is gone here, a segment of it rots there, and another snapshot goes: all of it is swept through.
    let root: ObjectName = lost.manifest.as_ref().unwrap().parse().unwrap();
    bench.vault.delete(&root).await.unwrap();
    let segment = {
        let manifest = Manifest::open(&there, &root).await.unwrap();
        let stays = manifest.collections().try_next().await.unwrap().unwrap();
        manifest.segments(&stays).try_next().await.unwrap().unwrap().name
    };
    std::fs::write(place(&bench).join(segment.path()), b"nonsense").unwrap();
    bench.catalog.copies().report_damage(&region(), &[segment.to_string()]).await.unwrap();
    bench.catalog.snapshots().delete(other.id, wall_clock()).await.unwrap();
    let did = look(&engine).await;
    assert_eq!(
        (did["made"].as_u64(), did["dropped"].as_u64()),
        (Some(1), Some(1)),
        "out of its own manifest: {did}"
    );
    let now = objects(&there).await.into_iter().collect::<BTreeSet<_>>();
    assert!(now.contains(&root) && now.is_subset(&before) && now != before);
    assert_good(&there, &lost).await;

    // Where nobody can tell what is needed any more, nothing goes.
    std::fs::write(place(&bench).join(root.path()), b"nonsense").unwrap();
    change(&bench).await;
    let third = bench.snapshot().await;
    look(&engine).await;
    bench.catalog.snapshots().delete(third.id, wall_clock()).await.unwrap();
    let did = engine.reconcilers().activate("copies").await.unwrap();
    assert!(did["regions"][0]["hindrance"].to_string().contains(&root.hex()), "{did}");
    tokio::time::sleep(LEASE).await;
    look(&engine).await;
    let told = held(&engine).await;
    assert!(told.to_string().contains(&root.hex()), "{told}");
    let left = objects(&there).await.into_iter().collect::<BTreeSet<_>>();
    assert!(now.is_subset(&left));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_place_that_is_away_is_waited_for_and_not_made_anew() {
    let bench = bench().await;
    let first = bench.snapshot().await;
    look(&engine(&bench)).await;
    // Its disk is not mounted: an empty directory.
    let aside = bench.dir.path().join("aside");
    std::fs::rename(place(&bench), &aside).unwrap();
    std::fs::create_dir(place(&bench)).unwrap();
    let second = bench.snapshot().await;
    let did = engine(&bench).reconcilers().activate("copies").await.unwrap();
    assert!(did["regions"][0]["hindrance"].to_string().contains("no vault"), "{did}");
    assert_eq!(std::fs::read_dir(place(&bench)).unwrap().count(), 0);
    std::fs::remove_dir(place(&bench)).unwrap();
    std::fs::rename(&aside, place(&bench)).unwrap();
    look(&engine(&bench)).await;
    assert_good(&copy(&bench).await, &second).await;
    assert_good(&copy(&bench).await, &first).await;

    // A store that breaks off before the end: nothing half is shown, and it goes on where it was.
    change(&bench).await;
    let third = bench.snapshot().await;
    let (manifests, aside) = (place(&bench).join("v1/manifests"), bench.dir.path().join("manifests"));
    std::fs::rename(&manifests, &aside).unwrap();
    std::fs::write(&manifests, b"").unwrap();
    let did = engine(&bench).reconcilers().activate("copies").await.unwrap();
    assert!(did["regions"][0]["hindrance"].is_string(), "{did}");
    let (copy_state, error) = state(&bench, &third).await.unwrap();
    assert!(copy_state == CopyState::Wanted && error.is_some());
    std::fs::remove_file(&manifests).unwrap();
    std::fs::rename(&aside, &manifests).unwrap();
    assert_eq!(look(&engine(&bench)).await, Value::Null, "it waits for a while before it tries again");
    let holder = bench.catalog.copies().claim(&region(), wall_clock(), 60_000).await.unwrap();
    let holder = holder.expect("whoever failed has given the place back");
    bench.catalog.copies().failed(&holder, third.id, "it is time", WallTime(0)).await.unwrap();
    bench.catalog.copies().release(&holder).await.unwrap();
    let did = look(&engine(&bench)).await;
    assert_eq!(did["objects"], 1, "what was there is not copied again: {did}");
    assert_good(&copy(&bench).await, &third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_catalog_takes_no_copy_away() {
    let bench = bench().await;
    let first = bench.snapshot().await;
    change(&bench).await;
    let second = bench.snapshot().await;
    look(&engine(&bench)).await;
    let both: BTreeSet<_> = objects(&copy(&bench).await).await.into_iter().collect();

    // The first vault has lost a snapshot, and the catalog is made anew of what it has.
    let root: ObjectName = first.manifest.as_ref().unwrap().parse().unwrap();
    bench.vault.delete(&root).await.unwrap();
    let fresh = Catalog::open(bench.dir.path().join("fresh.sqlite").to_str().unwrap()).await.unwrap();
    assert_eq!(rebuild(&bench.vault, &fresh, wall_clock()).await.unwrap().snapshots, 1);
    let over = |catalog: &Catalog| {
        let settings = settings(&bench, location(&bench));
        Engine::new(catalog.clone(), bench.vault.clone(), Arc::clone(&bench.master), settings)
    };
    let engine = over(&fresh);
    // Nothing is known of the place until something is copied to it.
    assert_eq!(look(&engine).await, Value::Null);
    let stray: ObjectName = format!("page/{}", "0".repeat(64)).parse().unwrap();
    std::fs::create_dir_all(place(&bench).join(stray.path()).parent().unwrap()).unwrap();
    std::fs::write(place(&bench).join(stray.path()), b"what a crash has left").unwrap();
    let holder = fresh.copies().claim(&region(), wall_clock(), 60_000).await.unwrap().unwrap();
    fresh.copies().found(&holder, second.id, wall_clock()).await.unwrap();
    fresh.copies().release(&holder).await.unwrap();
    let did = look(&engine).await;
    let told = ["made", "objects", "found"].map(|name| did[name].as_u64().unwrap());
    let needed = needed_by(&bench.vault, &second).await.len() as u64;
    assert_eq!(told, [1, 0, needed], "all is there, and was looked through: {did}");
    let held = held(&engine).await.to_string();
    assert!(held.contains(&root.hex()) && held.contains(&first.id.to_string()), "{did}");
    let there = copy(&bench).await;
    let now: BTreeSet<_> = objects(&there).await.into_iter().collect();
    assert!(both.is_subset(&now), "what nobody can account for is kept");

    // Out of the copy the catalog has both.
    let second_life = Catalog::open(bench.dir.path().join("second.sqlite").to_str().unwrap()).await.unwrap();
    let rebuilt = rebuild(&there, &second_life, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.snapshots, rebuilt.unreadable.len()), (2, 0));
    assert_good(&there, &first).await;
    // Whoever has looked deletes the file, or keeps it: then the rest is swept.
    there.delete(&root).await.unwrap();
    look(&engine).await;
    let left: BTreeSet<_> = objects(&there).await.into_iter().collect();
    assert_eq!(left, needed_by(&bench.vault, &second).await);
    assert!(!left.contains(&stray));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_record_is_copied_and_goes_as_far_as_the_first_one() {
    let bench = captured_bench(Options::default()).await;
    set(&bench, on_demand(), true, false).await;
    let running = capture_support::Running::start(engine(&bench));
    based(&bench).await;
    let things = bench.client.database("app").collection::<bson::Document>("things");
    for n in 0..50 {
        things.insert_one(doc! { "late": n }).await.unwrap();
    }
    let snapshot = folded(&bench).await;
    running.stop().await;
    let engine = engine(&bench);
    look(&engine).await;
    let timeline = current(&bench).await.unwrap();
    let all = slices(&bench, &timeline).await;
    assert!(all.len() > 1, "{} slices", all.len());
    let there = copy(&bench).await;
    let report = verify_timeline(&there, &bench.catalog, &all, &Counters::default()).await.unwrap();
    assert!(report.is_good() && report.slices == all.len() as u64, "{report:?}");
    assert_eq!(look(&engine).await, Value::Null);

    let fresh = Catalog::open(bench.dir.path().join("fresh.sqlite").to_str().unwrap()).await.unwrap();
    let rebuilt = rebuild(&there, &fresh, wall_clock()).await.unwrap();
    assert_eq!(rebuilt.timelines, 1);
    let ranges = fresh.timelines().ranges(bench.deployment).await.unwrap();
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0].1.to, timeline.durable.time, "{ranges:?}");
    assert_good(&there, &snapshot).await;

    // Without the record the slices go, and the copies of snapshots stay.
    set(&bench, on_demand(), false, false).await;
    look(&engine).await;
    assert!(there.list_slices().try_next().await.unwrap().is_none());
    assert_good(&there, &snapshot).await;
}

/// A server that is stopped while it copies gives its right to the place back: the next one does not wait until it runs out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_stops_amid_a_copy_leaves_the_place_to_the_next() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(300, 200, |n| Bson::Int64(n as i64))).await;
    set(&bench, on_demand(), false, false).await;
    bench.snapshot().await;
    let settings = || Settings {
        lease_ms: 60_000,
        reconcile_every: Duration::from_millis(100),
        ..settings(&bench, location(&bench))
    };
    let (told, copies) = tokio::sync::watch::channel(false);
    let stalls = support::probe(move |moment, _| {
        let told = told.clone();
        async move {
            if moment == "copy.before-manifest" {
                told.send(true).ok();
                std::future::pending::<()>().await;
            }
        }
    });
    let first = Running::start(bench.engine(settings()).with_probe(stalls));
    let mut copies = copies;
    copies.wait_for(|begun| *begun).await.unwrap();
    assert_eq!(look(&bench.engine(settings())).await, Value::Null, "somebody else is at it");
    first.stop().await;
    assert_eq!(look(&bench.engine(settings())).await["made"], 1);
}
