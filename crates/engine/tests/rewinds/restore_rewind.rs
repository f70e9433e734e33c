//! A deployment that is restored onto itself is rewound: what changed is put back, and nothing else is touched.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bson::{Bson, Document, doc};
use catalog::RestoreJob;
use model::{ClusterTime, restore::RestoreState, timeline::PointInTime};
use restore_support::{
    assert_no_staging,
    captured::{Captured, pause},
    data, register, server,
};
use serde_json::{Value, json};
use support::{Bench, documents, probe};
use testbed::{Options, data::Set, oracle};

const BOTH: [&str; 2] = ["6.0.5", "5.0.4"];

async fn captured(options: Options, sets: &[Set]) -> Captured {
    let server = server(options, sets).await;
    let uri = server.uri();
    Captured::over(Bench::over(server, &uri).await, None).await
}

/// Restores onto itself, to this point and in no other way.
async fn rewind(captured: &Captured, at: ClusterTime) -> RestoreJob {
    let options = json!({ "rewind": "only" });
    captured.restore(PointInTime::Operation(at), captured.bench.deployment, options).await
}

async fn rewound(captured: &Captured, at: ClusterTime) -> Value {
    let job = rewind(captured, at).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert_no_staging(&captured.bench.client).await;
    let catalog = &captured.bench.catalog;
    let work = catalog.jobs().of_subject(&job.id.to_string()).await.unwrap().unwrap();
    assert_eq!(catalog.obligations().of_job(work.id).await.unwrap(), [], "something is left to be undone");
    job.receipt.unwrap()
}

/// The identity of every collection.
async fn identities(client: &mongodb::Client, db: &str) -> BTreeMap<String, Bson> {
    let reply = client.database(db).run_command(doc! { "listCollections": 1 }).await.unwrap();
    let listed = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
    listed
        .iter()
        .filter_map(Bson::as_document)
        .filter_map(|info| {
            let uuid = info.get_document("info").ok()?.get("uuid")?.clone();
            Some((info.get_str("name").ok()?.to_owned(), uuid))
        })
        .collect()
}

/// A database with a collection of every kind that a rewind treats in its own way.
async fn make(client: &mongodb::Client, clustered: bool) {
    let app = client.database("work");
    let things = app.collection::<Document>("things");
    things.insert_many((0..2_000).map(|n| doc! { "_id": n, "n": n, "list": [n, n + 1] })).await.unwrap();
    let run = async |command| app.run_command(command).await.unwrap();
    run(doc! { "createIndexes": "things", "indexes": [
        { "key": { "n": 1 }, "name": "n" }, { "key": { "list": 1 }, "name": "list" },
    ] })
    .await;
    let seats = app.collection::<Document>("seats");
    run(doc! { "createIndexes": "seats", "indexes": [{ "key": { "seat": 1 }, "name": "seat", "unique": true }] })
        .await;
    seats.insert_many((0..10).map(|n| doc! { "_id": n, "seat": n })).await.unwrap();
    for name in ["dropped", "renamed", "made_again", "doubles", "odd", "still"] {
        let rows = (0..20).map(|n| doc! { "_id": n, "v": n % 3 });
        app.collection::<Document>(name).insert_many(rows).await.unwrap();
    }
    run(doc! { "create": "checked", "validator": { "v": { "$gte": 0 } } }).await;
    app.collection::<Document>("checked").insert_one(doc! { "_id": 1, "v": 1 }).await.unwrap();
    // What the server takes from some and not from all.
    let special = app.collection::<Document>("special");
    let empty = Bson::Timestamp(bson::Timestamp { time: 0, increment: 0 });
    let documents = [
        doc! { "_id": 1, "to": { "$ref": "things", "$id": 5 } },
        doc! { "_id": { "a": 1 }, "a.b": 1, "": [doc! { "c.d": "$x", "e": {} }] },
        doc! { "_id": "t", "within": { "t": empty } },
        doc! { "_id": 4, "v": -1 },
    ];
    special.insert_many(documents).await.unwrap();
    run(doc! { "collMod": "special", "validator": { "v": { "$not": { "$lt": 0 } } } }).await;
    run(doc! { "create": "ring", "capped": true, "size": 4096, "max": 10 }).await;
    app.collection::<Document>("ring").insert_many((0..25).map(|n| doc! { "_id": n })).await.unwrap();
    for name in ["series", "quiet_series"] {
        run(doc! { "create": name, "timeseries": { "timeField": "t", "metaField": "m" } }).await;
        let points = (0..50).map(|n| doc! { "t": bson::DateTime::from_millis(n * 1000), "m": n % 3, "v": n });
        app.collection::<Document>(name).insert_many(points).await.unwrap();
    }
    run(doc! { "create": "named", "collation": { "locale": "en", "strength": 2 } }).await;
    let names = ["a", "b", "c"].map(|name| doc! { "_id": name, "v": 1 });
    app.collection::<Document>("named").insert_many(names).await.unwrap();
    if clustered {
        run(doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } }).await;
        let rows = (0..50).map(|n| doc! { "_id": n, "v": n });
        app.collection::<Document>("clustered").insert_many(rows).await.unwrap();
    }
    run(doc! { "create": "view", "viewOn": "things", "pipeline": [{ "$match": { "n": 5 } }] }).await;
}

/// What goes wrong: every kind of change.
async fn go_wrong(client: &mongodb::Client, clustered: bool) {
    let app = client.database("work");
    let run = async |command| app.run_command(command).await.unwrap();
    let of = |name: &str| app.collection::<Document>(name);
    of("things").update_many(doc! { "n": { "$lt": 100 } }, doc! { "$set": { "bad": 1 } }).await.unwrap();
    of("things").update_many(doc! { "_id": { "$lt": 3 } }, doc! { "$push": { "list": 9 } }).await.unwrap();
    of("things").delete_many(doc! { "_id": { "$gte": 1_990 } }).await.unwrap();
    of("things").insert_one(doc! { "_id": "new" }).await.unwrap();
    // What is undone before the restore is no change.
    of("things").update_one(doc! { "_id": 500 }, doc! { "$set": { "n": -1 } }).await.unwrap();
    of("things").update_one(doc! { "_id": 500 }, doc! { "$set": { "n": 500 } }).await.unwrap();
    // Unique values change places.
    for (id, seat) in [(0, 100), (1, 0), (0, 1)] {
        of("seats").update_one(doc! { "_id": id }, doc! { "$set": { "seat": seat } }).await.unwrap();
    }
    // An `_id` that is equal and not the same, a special value that servers replace.
    of("doubles").delete_one(doc! { "_id": 1 }).await.unwrap();
    of("doubles").insert_one(doc! { "_id": 1.0, "v": 1 }).await.unwrap();
    of("special").update_many(doc! {}, doc! { "$set": { "v": 5 } }).await.unwrap();
    of("odd").delete_one(doc! { "_id": 3 }).await.unwrap();
    // A unique index that what was there does not fit.
    of("odd").delete_many(doc! { "_id": { "$gte": 3 } }).await.unwrap();
    run(doc! { "createIndexes": "odd", "indexes": [{ "key": { "v": 1 }, "name": "v", "unique": true }] })
        .await;
    run(doc! { "dropIndexes": "things", "index": "n" }).await;
    run(doc! { "createIndexes": "things", "indexes": [{ "key": { "late": 1 }, "name": "late" }] }).await;
    of("dropped").drop().await.unwrap();
    of("made_again").drop().await.unwrap();
    of("made_again").insert_one(doc! { "_id": "other" }).await.unwrap();
    let rename = doc! { "renameCollection": "work.renamed", "to": "work.elsewhere" };
    client.database("admin").run_command(rename).await.unwrap();
    run(doc! { "collMod": "checked", "validator": { "v": { "$gte": 5 } } }).await;
    of("ring").insert_one(doc! { "_id": "late" }).await.unwrap();
    of("series")
        .insert_one(doc! { "t": bson::DateTime::from_millis(9_999_000), "m": 1, "v": 1 })
        .await
        .unwrap();
    of("named").update_one(doc! { "_id": "a" }, doc! { "$set": { "v": 2 } }).await.unwrap();
    if clustered {
        of("clustered")
            .update_many(doc! { "_id": { "$lt": 7 } }, doc! { "$set": { "v": -1 } })
            .await
            .unwrap();
        of("clustered").delete_one(doc! { "_id": 30 }).await.unwrap();
    }
    run(doc! { "drop": "view" }).await;
    of("extra").insert_one(doc! { "_id": 1 }).await.unwrap();
    client.database("unwanted").collection::<Document>("x").insert_one(doc! { "_id": 1 }).await.unwrap();
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    of("things").delete_one(doc! { "_id": 700 }).session(&mut session).await.unwrap();
    of("seats").insert_one(doc! { "_id": 77, "seat": 77 }).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_changed_is_put_back_and_nothing_else_is_touched() {
    for version in BOTH {
        let clustered = version.starts_with('6');
        let captured = captured(Options::version(version), &[Set::Ids, Set::Bytes, Set::Ttl]).await;
        let client = &captured.bench.client;
        make(client, clustered).await;
        let at = captured.now().await;
        let before = data(client).await;
        let stay = ["things", "seats", "doubles", "special", "odd", "still", "system.buckets.quiet_series"];
        let identities_before = identities(client, "work").await;
        go_wrong(client, clustered).await;
        let wrong = data(client).await;
        let undo = captured.now().await;
        assert!(!oracle::diff(&before, &wrong).is_empty());

        let receipt = rewound(&captured, at).await;
        oracle::assert_same(&before, &data(client).await);
        let told = &receipt["rewind"];
        assert_eq!(told["mode"], "rewind", "{version}: {told:#}");
        let identities_after = identities(client, "work").await;
        for name in stay {
            assert_eq!(identities_before[name], identities_after[name], "{version}: {name} was made anew");
        }
        let rebuilt: Vec<_> = told["collectionsRebuilt"].as_array().unwrap().iter().collect();
        let is_rebuilt = |name: &str| rebuilt.iter().any(|line| line["ns"] == format!("work.{name}"));
        for name in ["dropped", "made_again", "renamed", "checked", "ring", "system.buckets.series", "named"]
        {
            assert!(is_rebuilt(name), "{version}: {name} is not among {rebuilt:#?}");
        }
        let of = |name: &str| {
            let changed = told["collectionsChanged"].as_array().unwrap();
            let line = changed.iter().find(|line| line["ns"] == format!("work.{name}"));
            let line = line.unwrap_or_else(|| panic!("{version}: {name} is not among {changed:#?}"));
            let number = |name: &str| line[name].as_u64().unwrap();
            (number("inserted"), number("removed"), number("replaced"))
        };
        assert_eq!(of("things"), (11, 1, 100));
        assert_eq!(of("seats"), (0, 1, 2));
        assert_eq!(of("doubles"), (0, 0, 1));
        assert_eq!(of("odd"), (17, 0, 0));
        assert_eq!(of("special"), (0, 0, 4));
        if clustered {
            assert_eq!(of("clustered"), (1, 0, 7));
        }
        assert_eq!(told["indexesDropped"], json!(["work.odd v", "work.things late"]));
        assert_eq!(told["indexesBuilt"], json!(["work.things n"]));
        // Nobody touched any other document of what stayed, and what was there was replaced.
        let oplog = client.database("local").collection::<Document>("oplog.rs");
        let count = async |name: &str, kind: &str| {
            let since = bson::Timestamp { time: undo.seconds, increment: undo.increment };
            let ours = doc! { "ns": format!("work.{name}"), "op": kind, "ts": { "$gt": since } };
            oplog.count_documents(ours).await.unwrap()
        };
        let counts =
            async |name: &str| (count(name, "i").await, count(name, "d").await, count(name, "u").await);
        assert_eq!(counts("things").await, (11, 1, 100), "{version}");
        assert_eq!(counts("seats").await, (2, 3, 0), "{version}: unique keys may be in each other's way");
        assert_eq!(counts("special").await, (1, 1, 3), "{version}");

        // A restore can be undone by another one to just before it.
        rewound(&captured, undo).await;
        oracle::assert_same(&wrong, &data(client).await);
        captured.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_is_gone_back_to_as_a_point_in_time_is() {
    let captured = captured(Options::version("6.0.5"), &[Set::Bytes, Set::Ids]).await;
    let client = &captured.bench.client;
    captured.bench.fill("app", "large", documents(30_000, 300, |n| Bson::Int64(n as i64))).await;
    let id = captured.bench.request().await;
    let begun = std::time::Instant::now();
    let snapshot = loop {
        let snapshot = captured.bench.catalog.snapshots().get(id).await.unwrap().unwrap();
        if snapshot.state == model::snapshot::SnapshotState::Completed {
            break snapshot;
        }
        pause(begun).await;
    };
    let before = data(client).await;
    let large = client.database("app").collection::<Document>("large");
    large
        .update_many(doc! { "_id": { "$mod": [3_000, 1] } }, doc! { "$set": { "bad": true } })
        .await
        .unwrap();
    // Every document whose bytes do not survive decoding is removed, and comes back byte for byte.
    for db in ["bytes", "ids"] {
        let db = client.database(db);
        for name in db.list_collection_names().await.unwrap() {
            if !name.starts_with("system.") {
                db.collection::<Document>(&name).delete_many(doc! {}).await.unwrap();
            }
        }
    }
    // Chosen by itself, because it is cheaper.
    let id = restore_support::request(&captured.bench, &snapshot, captured.bench.deployment, json!({})).await;
    let job = captured.ended(id).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    oracle::assert_same(&before, &data(client).await);
    let receipt = job.receipt.unwrap();
    assert_eq!(receipt["rewind"]["mode"], "rewind", "{:#}", receipt["rewind"]);
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_largest_the_oddly_named_and_the_empty_come_back() {
    let sets = [Set::Names, Set::Large, Set::Empty];
    let captured = captured(Options::version("6.0.5"), &sets).await;
    let client = &captured.bench.client;
    let at = captured.now().await;
    let before = data(client).await;
    let mut changed = 0;
    for db in sets.map(|set| set.database()) {
        let db = client.database(db);
        for name in db.list_collection_names().filter(doc! { "type": "collection" }).await.unwrap() {
            let collection = db.collection::<Document>(&name);
            if !name.starts_with("system.") && !name.contains("capped") {
                let removed = collection.delete_many(doc! {}).await.unwrap().deleted_count;
                collection.insert_one(doc! { "_id": "new", "removed": removed as i64 }).await.unwrap();
                changed += 1;
            }
        }
    }
    assert!(changed > 3);
    let receipt = rewound(&captured, at).await;
    oracle::assert_same(&before, &data(client).await);
    assert_eq!(receipt["rewind"]["documents"]["removed"], changed, "{:#}", receipt["rewind"]);
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plan_is_told_and_nothing_is_done() {
    let captured = captured(Options::version("6.0.5"), &[]).await;
    let client = &captured.bench.client;
    make(client, true).await;
    let at = captured.now().await;
    go_wrong(client, true).await;
    let wrong = data(client).await;
    captured.now().await;
    let (point, own) = (PointInTime::Operation(at), captured.bench.deployment);
    // What is not in the vault yet is not in the plan.
    let begun = std::time::Instant::now();
    let plan = loop {
        let options = json!({ "rewind": "only", "planOnly": true });
        let job = captured.restore(point, own, options).await;
        assert_eq!(job.state, RestoreState::Cancelled, "{:?}", job.error);
        let plan = job.receipt.unwrap();
        if plan["rewind"]["documents"]["removed"] == 2 {
            break plan;
        }
        pause(begun).await;
    };
    oracle::assert_same(&wrong, &data(client).await);
    assert_no_staging(client).await;
    assert_eq!(plan["planOnly"], true);
    assert_eq!(plan["removed"]["databases"], json!(["unwanted"]));
    let receipt = rewound(&captured, at).await;
    let same = |name: &str| assert_eq!(plan["rewind"][name], receipt["rewind"][name], "{name}");
    ["documents", "collectionsChanged", "collectionsRebuilt", "indexesDropped", "indexesBuilt"]
        .into_iter()
        .for_each(same);

    let full = captured.restore(point, own, json!({ "rewind": "off", "planOnly": true })).await;
    let full = full.receipt.unwrap();
    assert_eq!(full["rewind"]["mode"], "full");
    assert!(full["loaded"]["collections"].as_array().unwrap().contains(&json!("work.things")));
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_others_write_meanwhile_is_undone_and_told() {
    // 5.0 knows no fence.
    let server = server(Options::version("5.0.4"), &[]).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let (client, calls) = (bench.client.clone(), Arc::new(AtomicU32::new(0)));
    let intruding = {
        let (client, calls) = (client.clone(), Arc::clone(&calls));
        probe(move |moment, _| {
            let first = moment == "restore.rewind.begun" && calls.fetch_add(1, Ordering::SeqCst) == 0;
            let client = client.clone();
            async move {
                let seats = client.database("work").collection::<Document>("seats");
                if moment == "restore.staged" {
                    // What was looked up already, and what was not.
                    seats.insert_one(doc! { "_id": 5, "seat": 55 }).await.unwrap();
                    seats.delete_one(doc! { "_id": 7 }).await.unwrap();
                    seats.insert_one(doc! { "_id": 6.5, "seat": 65 }).await.unwrap();
                }
                if first {
                    // In the way of what is put back, and where nobody looks.
                    seats.insert_one(doc! { "_id": "intruder", "seat": 5 }).await.unwrap();
                    seats.update_one(doc! { "_id": 2 }, doc! { "$set": { "x": 1 } }).await.unwrap();
                }
            }
        })
    };
    let captured = Captured::over(bench, Some(intruding)).await;
    make(&client, false).await;
    let at = captured.now().await;
    let before = data(&client).await;
    client.database("work").collection::<Document>("seats").delete_one(doc! { "seat": 5 }).await.unwrap();
    let receipt = rewound(&captured, at).await;
    assert!(calls.load(Ordering::SeqCst) > 0);
    oracle::assert_same(&before, &data(&client).await);
    assert_eq!(receipt["foreignWrites"]["count"], 2, "{:#}", receipt["foreignWrites"]);
    captured.stop().await;
}

/// Nobody waits behind the fence while the vault is searched.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_documents_were_is_looked_up_before_others_are_kept_out() {
    let server = server(Options::version("6.0.5"), &[]).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let segments = bench.dir.path().join("vault/v1/segments");
    let hiding = probe(move |moment, _| {
        let away = segments.with_extension("away");
        match moment {
            "restore.fenced" => std::fs::rename(&segments, away).unwrap(),
            "restore.switched" => std::fs::rename(away, &segments).unwrap(),
            _ => {}
        }
        std::future::ready(())
    });
    let captured = Captured::over(bench, Some(hiding)).await;
    let client = captured.bench.client.clone();
    make(&client, false).await;
    let at = captured.now().await;
    let before = data(&client).await;
    let things = client.database("work").collection::<Document>("things");
    things.update_many(doc! { "_id": { "$lt": 500 } }, doc! { "$set": { "bad": 1 } }).await.unwrap();
    things.delete_many(doc! { "_id": { "$gt": 1_000 } }).await.unwrap();
    let receipt = rewound(&captured, at).await;
    oracle::assert_same(&before, &data(&client).await);
    assert!(receipt["rewind"]["bytesReadFromVault"].as_u64().unwrap() > 0, "{:#}", receipt["rewind"]);
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_turns_out_behind_the_plan_not_to_be_able_to_stay_is_made_anew() {
    let server = server(Options::version("5.0.4"), &[]).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let (client, calls) = (bench.client.clone(), Arc::new(AtomicU32::new(0)));
    let intruding = {
        let (client, calls) = (client.clone(), Arc::clone(&calls));
        probe(move |moment, _| {
            let (client, calls) = (client.clone(), Arc::clone(&calls));
            async move {
                let work = client.database("work");
                let of = |name: &str| work.collection::<Document>(name);
                if moment == "restore.fenced" {
                    calls.fetch_add(1, Ordering::SeqCst);
                    of("ring").insert_one(doc! { "_id": "intruder" }).await.unwrap();
                    let point = doc! { "t": bson::DateTime::from_millis(1), "m": 0, "v": 0 };
                    of("quiet_series").insert_one(point).await.unwrap();
                }
                if moment == "restore.rewind.begun" && calls.fetch_add(1, Ordering::SeqCst) == 1 {
                    // What nobody had touched, and what is being put back.
                    of("still").drop().await.unwrap();
                    of("things").drop().await.unwrap();
                }
            }
        })
    };
    let captured = Captured::over(bench, Some(intruding)).await;
    make(&client, false).await;
    let at = captured.now().await;
    let before = data(&client).await;
    let things = client.database("work").collection::<Document>("things");
    things.update_many(doc! { "_id": { "$lt": 50 } }, doc! { "$set": { "bad": 1 } }).await.unwrap();
    let receipt = rewound(&captured, at).await;
    assert!(calls.load(Ordering::SeqCst) >= 2);
    oracle::assert_same(&before, &data(&client).await);
    let told = receipt["rewind"]["collectionsRebuilt"].as_array().unwrap();
    for name in ["ring", "system.buckets.quiet_series", "still", "things"] {
        assert!(told.iter().any(|line| line["ns"] == format!("work.{name}")), "{name}: {told:#?}");
    }
    let line = receipt["perCollection"].as_array().unwrap().iter().find(|line| line["ns"] == "work.things");
    assert_eq!(line.unwrap().get("kept"), None, "{line:?}");
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn expired_documents_come_back_and_stay() {
    let captured = captured(Options::version("6.0.5").set_parameter("ttlMonitorSleepSecs", "1"), &[]).await;
    let client = &captured.bench.client;
    let app = client.database("app");
    let run = async |command| app.run_command(command).await.unwrap();
    let sessions = app.collection::<Document>("sessions");
    let soon = bson::DateTime::from_millis(bson::DateTime::now().timestamp_millis() - 10_000);
    sessions.insert_many((0..30).map(|n| doc! { "_id": n, "t": soon })).await.unwrap();
    let index = doc! { "key": { "t": 1 }, "name": "t", "expireAfterSeconds": 86_400 };
    run(doc! { "createIndexes": "sessions", "indexes": [index] }).await;
    let at = captured.now().await;
    // Somebody shortens their life.
    run(doc! { "collMod": "sessions", "index": { "name": "t", "expireAfterSeconds": 5 } }).await;
    let begun = std::time::Instant::now();
    while sessions.count_documents(doc! {}).await.unwrap() > 0 {
        pause(begun).await;
    }
    let receipt = rewound(&captured, at).await;
    assert_eq!(sessions.count_documents(doc! {}).await.unwrap(), 30);
    // A day is not over, so they may have their life back.
    assert_eq!(receipt["parkedTtl"], json!([]), "{receipt:#}");
    let listed = run(doc! { "listIndexes": "sessions" }).await;
    let specs = listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    let life = specs[1].as_document().unwrap().get("expireAfterSeconds").unwrap();
    assert_eq!(support::number(life), 86_400);

    // Where the old life is over, it stays put aside. Nothing expires before the time is taken that is gone back to.
    let admin = client.database("admin");
    let expire = async |on: bool| {
        admin.run_command(doc! { "setParameter": 1, "ttlMonitorEnabled": on }).await.unwrap();
    };
    expire(false).await;
    run(doc! { "collMod": "sessions", "index": { "name": "t", "expireAfterSeconds": 20 } }).await;
    let short = captured.now().await;
    expire(true).await;
    let begun = std::time::Instant::now();
    while sessions.count_documents(doc! {}).await.unwrap() > 0 {
        pause(begun).await;
    }
    let receipt = rewound(&captured, short).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(sessions.count_documents(doc! {}).await.unwrap(), 30, "what came back has expired again");
    assert_eq!(receipt["parkedTtl"][0]["expireAfterSeconds"], 20, "{receipt:#}");
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_target_that_is_not_what_the_record_says_is_left_alone() {
    let captured = captured(Options::version("6.0.5"), &[]).await;
    let bench = &captured.bench;
    make(&bench.client, false).await;
    let at = captured.now().await;
    let things = bench.client.database("work").collection::<Document>("things");
    things.update_many(doc! { "_id": { "$lt": 10 } }, doc! { "$set": { "bad": 1 } }).await.unwrap();
    captured.now().await;
    // Behind the oplog's back: by a server that is no member of the set.
    bench.server.stop(0).await.unwrap();
    let port = testbed::process::free_port().unwrap();
    let mut alone = tokio::process::Command::new(testbed::binaries::find("6.0.5").unwrap())
        .arg("--dbpath")
        .arg(bench.server.data_directory(0))
        .args(["--bind_ip", "127.0.0.1", "--port", &port.to_string()])
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lone = mongodb::Client::with_uri_str(format!("mongodb://127.0.0.1:{port}/?directConnection=true"));
    let lone = lone.await.unwrap();
    lone.database("work")
        .collection::<Document>("things")
        .update_one(doc! { "_id": 7 }, doc! { "$set": { "bad": 2 } })
        .await
        .unwrap();
    let _ = lone.database("admin").run_command(doc! { "shutdown": 1 }).await;
    alone.wait().await.unwrap();
    bench.server.restart(0).await.unwrap();
    bench.server.wait_for_members().await.unwrap();
    let tampered = data(&bench.client).await;

    let job = rewind(&captured, at).await;
    assert_eq!(job.state, RestoreState::Failed);
    let error = job.error.unwrap();
    assert!(
        error.contains("the document 7 of work.things") && error.contains("nothing was changed"),
        "{error}"
    );
    oracle::assert_same(&tampered, &data(&bench.client).await);
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_no_rewind_is_possible_everything_is_restored_or_it_is_said_why_not() {
    let captured = captured(Options::version("6.0.5"), &[]).await;
    let bench = &captured.bench;
    make(&bench.client, true).await;
    let at = captured.now().await;
    let before = data(&bench.client).await;
    go_wrong(&bench.client, true).await;
    let other = server(Options::version("6.0.5"), &[]).await;
    let target = register(bench, "other", &other.uri()).await;
    let point = PointInTime::Operation(at);
    let job = captured.restore(point, target, json!({ "rewind": "only" })).await;
    assert_eq!(job.state, RestoreState::Failed);
    assert!(job.error.unwrap().contains("into another deployment"));
    let job = captured.restore(point, target, json!({})).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let reason = job.receipt.unwrap()["rewind"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("into another deployment"), "{reason}");
    oracle::assert_same(&before, &data(&other.client().await.unwrap()).await);
    captured.stop().await;
}
