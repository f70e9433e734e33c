//! Live checks: a deployment beside what is recorded of it.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::time::{Duration, Instant};

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use catalog::Snapshot;
use ebbtide_engine::{
    Settings,
    live::{LiveCheck, LiveReport, Scope, Share},
};
use model::{id::SnapshotId, snapshot::SnapshotState};
use restore_support::captured::{Captured, pause};
use support::{Bench, documents};
use testbed::{
    Options,
    load::{Load, LoadOptions},
};

async fn check(captured: &Captured, scope: Scope) -> LiveReport {
    let bench = &captured.bench;
    let engine = bench.engine(bench.settings());
    let check = LiveCheck::open(engine.services(), bench.deployment, scope).await.unwrap();
    check.run().await.unwrap()
}

async fn ended(bench: &Bench, id: SnapshotId) -> Snapshot {
    let begun = Instant::now();
    loop {
        let snapshot = bench.catalog.snapshots().get(id).await.unwrap().unwrap();
        match snapshot.state {
            SnapshotState::Queued | SnapshotState::InProgress => {}
            SnapshotState::Completed => return snapshot,
            other => panic!("{other:?}: {:?}", snapshot.error),
        }
        pause(begun).await;
    }
}

async fn snapshot(captured: &Captured) -> Snapshot {
    let id = captured.bench.request().await;
    ended(&captured.bench, id).await
}

/// Collections of every kind, with something in them.
async fn fill(bench: &Bench) {
    let app = bench.client.database("app");
    if bench.server.version().starts_with('6') {
        let by_id = doc! { "key": { "_id": 1 }, "unique": true };
        app.run_command(doc! { "create": "clustered", "clusteredIndex": by_id }).await.unwrap();
    }
    for create in [
        doc! { "create": "last", "capped": true, "size": 100_000 },
        doc! { "create": "collated", "collation": { "locale": "de" } },
        doc! { "create": "measured", "timeseries": { "timeField": "t", "metaField": "m" } },
        doc! { "create": "seen", "viewOn": "things", "pipeline": [] },
        doc! { "create": "empty" },
    ] {
        app.run_command(create).await.unwrap();
    }
    bench.fill("app", "things", documents(60_000, 600, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "clustered", documents(2_000, 300, |n| Bson::String(format!("{n:06}")))).await;
    bench.fill("app", "last", documents(50, 100, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "collated", documents(50, 100, |n| Bson::String(format!("{n}")))).await;
    let points = (0..3_000).map(|n| doc! { "t": DateTime::from_millis(n * 60_000), "m": n % 7, "n": n });
    bench.fill("app", "measured", points).await;
    let odd = [Bson::MinKey, Bson::MaxKey, Bson::Null, Bson::Double(1.0), doc! { "a": 1 }.into()];
    bench.fill("app", "odd", odd.map(|id| doc! { "_id": id })).await;
}

/// Writes of every kind, and definitions that come and go, until the end of the future that is given.
async fn under_work<T>(bench: &Bench, work: impl Future<Output = T>) -> T {
    let app = bench.client.database("app");
    let things = app.collection::<Document>("things");
    let writing = async {
        for n in 0_i64.. {
            let id = i64::try_from(support::scatter(n.unsigned_abs()) % 70_000).unwrap();
            match n % 5 {
                0 => things.delete_one(doc! { "_id": id }).await.map(drop),
                1 => things.replace_one(doc! { "_id": id }, doc! { "n": n }).upsert(true).await.map(drop),
                2 => things
                    .update_many(
                        doc! { "_id": { "$gte": id, "$lt": id + 200 } },
                        doc! { "$inc": { "n": 1 }, "$set": { "tag": format!("{n}") } },
                    )
                    .await
                    .map(drop),
                3 => app
                    .collection("measured")
                    .insert_one(doc! { "t": DateTime::from_millis(n * 1_000), "m": n % 5 })
                    .await
                    .map(drop),
                _ => app.collection("last").insert_one(doc! { "_id": ObjectId::new() }).await.map(drop),
            }
            .unwrap();
            if n % 40 == 0 {
                let (fresh, moved) = (format!("fresh{}", n % 3), format!("app.moved{}", n % 3));
                app.collection(&fresh).insert_many((0..100).map(|n| doc! { "_id": n })).await.unwrap();
                let rename =
                    doc! { "renameCollection": format!("app.{fresh}"), "to": moved, "dropTarget": true };
                bench.server.admin(rename).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = writing => unreachable!("it writes for ever"),
        done = work => done,
    }
}

/// How often everything is compared under load, on each version.
const ROUNDS: &str = "EBBTIDE_TEST_LIVE_CHECK_ROUNDS";
const ROUNDS_DEFAULT: [(&str, usize); 2] = [("6.0.5", 2), ("5.0.4", 1)];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_under_a_check_are_no_differences() {
    for (version, rounds) in ROUNDS_DEFAULT {
        let bench = Bench::start(Options::version(version)).await;
        fill(&bench).await;
        let captured = Captured::over(bench, None).await;
        let bench = &captured.bench;
        let load = Load::start(&bench.client, &LoadOptions::default());
        let rounds = std::env::var(ROUNDS).ok().map_or(rounds, |text| text.parse().unwrap());
        under_work(bench, async {
            for round in 0..rounds {
                let report = check(&captured, Scope::everything()).await;
                assert!(report.is_good(), "{version}, round {round}: {report:?}");
                assert!(report.ranges > 5 && report.documents > 50_000, "{report:?}");
                for skipped in ["app.last", "app.collated"] {
                    assert!(report.skipped.iter().any(|s| s.namespace == skipped), "{skipped}: {report:?}");
                }
                let known = ["app.last", "app.collated"];
                let others = report.skipped.iter().filter(|s| !known.contains(&s.namespace.as_str()));
                for other in others {
                    assert!(
                        other.namespace.starts_with("app.moved") || other.namespace.starts_with("app.fresh"),
                        "{other:?}"
                    );
                }
                if round == 0 {
                    snapshot(&captured).await;
                }
            }
        })
        .await;
        load.stop().await.unwrap();
        let report = check(&captured, Scope::everything()).await;
        assert!(report.is_good(), "{report:?}");
        let part = Scope { share: Share::percent(50.0).unwrap(), namespaces: vec!["app.things".to_owned()] };
        let part = check(&captured, part).await;
        assert!(part.is_good() && part.ranges < report.ranges, "{part:?}");
        captured.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_went_past_the_oplog_is_found_and_read_anew() {
    let bench = Bench::start(Options::default()).await;
    fill(&bench).await;
    let captured = Captured::over(bench, None).await;
    let bench = &captured.bench;
    let act = async |alone: &mongodb::Client| {
        let app = alone.database("app");
        let things = app.collection::<Document>("things");
        things.update_one(doc! { "_id": 43_210_i64 }, doc! { "$set": { "n": -1_i64 } }).await?;
        app.collection::<Document>("clustered").delete_one(doc! { "_id": "000777" }).await?;
        Ok(())
    };
    bench.server.past_the_oplog(0, act).await.unwrap();
    // What is written later is folded onto what is wrong.
    let things = bench.client.database("app").collection::<Document>("things");
    things.update_many(doc! { "_id": { "$lt": 100 } }, doc! { "$set": { "late": true } }).await.unwrap();

    let report = check(&captured, Scope::everything()).await;
    let found: Vec<_> =
        report.differences.iter().map(|d| (d.namespace.as_str(), d.first_id.as_deref())).collect();
    assert_eq!(report.differences_total, 2, "{report:?}");
    assert!(found.contains(&("app.things", Some("{\"$numberLong\":\"43210\"}"))), "{report:?}");
    assert!(found.contains(&("app.clustered", Some("\"000777\""))), "{report:?}");
    let told = |namespace: &str| &report.differences.iter().find(|d| d.namespace == namespace).unwrap().what;
    assert!(told("app.things").contains("1 differ from what is recorded"), "{report:?}");
    assert!(told("app.clustered").contains("1 are recorded and not there"), "{report:?}");
    let defects = bench.catalog.defects().of(bench.deployment).await.unwrap();
    assert_eq!(defects.len(), 2, "{defects:?}");

    let mended = snapshot(&captured).await;
    assert!(mended.notes["folded"].is_object(), "{}", mended.notes);
    let reread = &mended.notes["reread"];
    assert_eq!(reread["collections"], serde_json::json!(["app.clustered", "app.things"]), "{reread}");
    assert!(reread["reason"].as_str().unwrap().contains("a live check found"), "{reread}");
    for namespace in ["app.things", "app.clustered", "app.odd"] {
        bench.assert_exact(&mended, namespace).await;
    }
    bench.assert_verifies(&mended).await;
    assert_eq!(until_mended(bench).await, []);

    // The snapshot is the base from now on.
    let report = check(&captured, Scope::everything()).await;
    assert!(report.is_good(), "{report:?}");
    let next = snapshot(&captured).await;
    assert!(next.notes["folded"].is_object() && next.notes["reread"].is_null(), "{}", next.notes);
    bench.assert_exact(&next, "app.things").await;
    captured.stop().await;
}

/// A snapshot is complete a moment before its defects are forgotten.
async fn until_mended(bench: &Bench) -> Vec<catalog::Defect> {
    let begun = Instant::now();
    loop {
        let left = bench.catalog.defects().of(bench.deployment).await.unwrap();
        if left.is_empty() || begun.elapsed() > Duration::from_secs(10) {
            return left;
        }
        pause(begun).await;
    }
}

/// How often the background check is asked before the test says that it hangs.
const STEPS_MAX: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_round_covers_everything_once_whoever_goes_on() {
    let bench = Bench::start(Options::default()).await;
    fill(&bench).await;
    let captured = Captured::over(bench, None).await;
    let bench = &captured.bench;
    let app = bench.client.database("app");
    let mut documents = 0;
    for collection in ["things", "clustered", "system.buckets.measured", "odd"] {
        documents += app.collection::<Document>(collection).count_documents(doc! {}).await.unwrap();
    }
    let settings =
        Settings { live_check_every: Some(Duration::from_secs(30)), lease_ms: 2_000, ..bench.settings() };
    // Each time another server, and two at once.
    let activate = async || {
        let (one, other) = (bench.engine(settings.clone()), bench.engine(settings.clone()));
        let (one, other) = (one.reconcilers().clone(), other.reconcilers().clone());
        let (one, other) = tokio::join!(one.activate("live-check"), other.activate("live-check"));
        for did in [one.unwrap(), other.unwrap()] {
            for step in did["steps"].as_array().unwrap() {
                assert_eq!(step["report"]["differencesTotal"], 0, "{did}");
            }
        }
        bench.catalog.live_checks().of(bench.deployment).await.unwrap()
    };
    let mut places = Vec::new();
    for _ in 0..STEPS_MAX {
        let round = activate().await.unwrap();
        if places.last() != Some(&round.next) {
            places.push(round.next.clone());
        }
        if round.completed_at.is_some() {
            assert_eq!(round.documents, documents, "something was compared twice, or not at all");
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(places.last(), Some(&None), "it is not through");
    assert!(places.len() > 3, "it was not done in steps: {places:?}");
    let keyed = |place: &&Option<catalog::LivePlace>| place.as_ref().is_some_and(|place| place.key.is_some());
    assert!(places.iter().any(|place| keyed(&place)), "it never stood inside of a collection");
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_background_check_notes_what_it_finds_and_makes_way_for_jobs() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(1_000, 300, |n| Bson::Int64(n as i64))).await;
    let captured = Captured::over(bench, None).await;
    let bench = &captured.bench;
    let act = async |alone: &mongodb::Client| {
        let things = alone.database("app").collection::<Document>("things");
        things.insert_one(doc! { "_id": 777.5 }).await?;
        Ok(())
    };
    bench.server.past_the_oplog(0, act).await.unwrap();
    let every = Duration::from_millis(100);
    let settings = Settings { live_check_every: Some(every), ..bench.settings() };
    let engine = bench.engine(settings);
    let begun = Instant::now();
    let defect = loop {
        engine.reconcilers().activate("live-check").await.unwrap();
        if let Some(found) = bench.catalog.defects().of(bench.deployment).await.unwrap().first() {
            break found.clone();
        }
        pause(begun).await;
    };
    assert_eq!(defect.namespace, "app.things");
    assert!(defect.what.contains("1 are there and not recorded"), "{}", defect.what);
    assert!(defect.what.contains("777.5"), "{}", defect.what);

    // Nobody runs what is queued now, and until then nothing is compared.
    let bench = captured.stop_and_keep().await;
    bench.request().await;
    let did = bench
        .engine(Settings { live_check_every: Some(every), ..bench.settings() })
        .reconcilers()
        .activate("live-check")
        .await
        .unwrap();
    assert_eq!(did["steps"], serde_json::json!([]), "{did}");
}
