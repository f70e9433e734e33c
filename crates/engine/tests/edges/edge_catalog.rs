//! Definitions that tools lose: whatever DDL made of a deployment is what a restore makes of it again.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bson::{Bson, Document, doc};
use mongodb::Database;
use restore_support::{assert_no_staging, data, restore};
use serde_json::json;
use support::{Bench, documents, engine::engine::Probe};
use testbed::{Options, data::Random, oracle};
use vault::CollectionKind;

/// Runs commands once, after the time was fixed and before anything is read; counts the attempts.
fn commands_after_pin(bench: &Bench, commands: Vec<(&'static str, Document)>) -> (Probe, Arc<AtomicU32>) {
    let attempts = Arc::new(AtomicU32::new(0));
    let (client, counted) = (bench.client.clone(), Arc::clone(&attempts));
    let probe = support::probe(move |moment, _| {
        let first = moment == "snapshot.pinned" && counted.fetch_add(1, Ordering::SeqCst) == 0;
        let (client, commands) = (client.clone(), commands.clone());
        async move {
            if first {
                for (db, command) in commands {
                    client.database(db).run_command(command).await.unwrap();
                }
            }
        }
    });
    (probe, attempts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rarer_ddl_under_the_read() {
    // For `emptycapped`, which servers have for their own tests.
    let bench = Bench::start(Options::default().set_parameter("enableTestCommands", "1")).await;
    let numbers = |count| documents(count, 100, |n| Bson::Int64(n as i64));
    for name in ["becomes_capped", "cloned", "leaves", "winner", "loser", "still"] {
        bench.fill("app", name, numbers(if name == "winner" { 7 } else { 300 })).await;
    }
    let log = doc! { "create": "log", "capped": true, "size": 1 << 20 };
    bench.client.database("app").run_command(log).await.unwrap();
    bench.fill("app", "log", numbers(30)).await;
    let view = |limit: i32| doc! { "viewOn": "still", "pipeline": [{ "$limit": limit }] };
    let mut create = doc! { "create": "view" };
    create.extend(view(1));
    bench.client.database("app").run_command(create).await.unwrap();
    let mut change = doc! { "collMod": "view" };
    change.extend(view(2));

    // What makes a read wrong, and what does not.
    let rename = |from: &str, to: &str| doc! { "renameCollection": from, "to": to, "dropTarget": true };
    let cases: Vec<(&str, Document, u32)> = vec![
        ("app", doc! { "convertToCapped": "becomes_capped", "size": 1 << 20 }, 2),
        ("admin", rename("app.leaves", "other.arrived"), 2),
        ("admin", rename("app.winner", "app.loser"), 2),
        ("app", doc! { "cloneCollectionAsCapped": "cloned", "toCollection": "clone", "size": 1 << 20 }, 1),
        ("app", doc! { "emptycapped": "log" }, 2),
        ("app", doc! { "create": "made" }, 1),
        ("app", change, 1),
    ];
    for (db, command, expected) in cases {
        let told = command.to_string();
        let (probe, attempts) = commands_after_pin(&bench, vec![(db, command)]);
        let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
        assert_eq!(attempts.load(Ordering::SeqCst), expected, "{told}");
        let collections = bench.collections(&snapshot).await;
        bench.assert_verifies(&snapshot).await;
        let documents = |name: &str| collections.get(name).map(|entry| entry.documents);
        match told.split('"').nth(1).unwrap() {
            "convertToCapped" => {
                assert_eq!(collections["app.becomes_capped"].meta.kind, CollectionKind::Capped);
                assert_eq!(documents("app.becomes_capped"), Some(300));
            }
            "cloneCollectionAsCapped" => {
                assert_eq!((documents("app.cloned"), documents("app.clone")), (Some(300), None))
            }
            "emptycapped" => assert_eq!(documents("app.log"), Some(0), "read again after it"),
            "create" => assert_eq!(documents("app.made"), None, "made after the time"),
            "collMod" => {
                let options = Document::from_reader(collections["app.view"].meta.options.as_slice()).unwrap();
                assert_eq!(options, view(1), "the view as it was at the time");
            }
            _ if told.contains("arrived") => {
                assert_eq!((documents("app.leaves"), documents("other.arrived")), (None, Some(300)));
            }
            _ => assert_eq!((documents("app.winner"), documents("app.loser")), (None, Some(7))),
        }
    }
}

/// One random command on one of a few collections; most make sense, and the server refuses the others.
fn random_command(random: &mut Random, version: &str) -> Document {
    let name = ["a", "b", "c", "d"][random.below(4) as usize];
    let other = ["a", "b", "c", "d"][random.below(4) as usize];
    let field = ["x", "y", "z.w", "$**"][random.below(4) as usize];
    let index = format!("{field} {}", random.below(3));
    let hidden = random.below(2) == 0;
    match random.below(16) {
        0 => doc! { "create": name },
        1 => doc! { "create": name, "collation": { "locale": "de", "strength": 1 + random.below(3) as i32 } },
        2 => doc! { "create": name, "capped": true, "size": 8192, "max": random.below(9) as i64 + 1 },
        3 => {
            doc! { "create": name, "validator": { field: { "$exists": hidden } }, "validationLevel": "moderate" }
        }
        4 => doc! { "create": name, "idIndex": { "key": { "_id": 1 }, "name": "_id_", "v": 1 } },
        5 | 6 => {
            doc! { "createIndexes": name, "indexes": [{ "key": { field: 1 }, "name": index, "hidden": hidden }] }
        }
        7 => doc! { "createIndexes": name, "indexes": [
            { "key": { field: -1, "q": 1 }, "name": index, "sparse": hidden, "collation": { "locale": "fr" } },
        ] },
        8 => doc! { "createIndexes": name, "indexes": [
            { "key": { field: "hashed" }, "name": index, "partialFilterExpression": { "x": { "$gt": random.below(9) as i32 } } },
        ] },
        9 => doc! { "createIndexes": name, "indexes": [
            { "key": { "never": 1 }, "name": "ttl", "expireAfterSeconds": random.below(100_000) as i64 },
        ] },
        10 => doc! { "collMod": name, "index": { "name": index, "hidden": hidden } },
        11 => {
            doc! { "collMod": name, "index": { "name": "ttl", "expireAfterSeconds": random.below(100_000) as i64 } }
        }
        12 if version.starts_with('6') => {
            doc! { "collMod": name, "index": { "name": index, "prepareUnique": hidden } }
        }
        12 => doc! { "collMod": name, "recordPreImages": hidden },
        13 if version.starts_with('6') => {
            doc! { "collMod": name, "index": { "name": index, "unique": true } }
        }
        13 => doc! { "dropIndexes": name, "index": index },
        14 => {
            doc! { "collMod": name, "validator": { "x": { "$lt": random.below(100) as i32 } }, "validationAction": "warn" }
        }
        _ if hidden => doc! { "drop": name },
        _ => doc! { "insert": other, "documents": [
            { "_id": random.below(1 << 40) as i64, "x": random.below(50) as i64, "y": random.text(3) },
        ] },
    }
}

/// What no data set of the tests has: each made by the commands that people make it by.
async fn specialities(database: &Database, version: &str) {
    let run = async |command: Document| {
        let told = command.to_string();
        database.run_command(command).await.unwrap_or_else(|error| panic!("{told}: {error}"));
    };
    run(doc! { "create": "series", "timeseries": { "timeField": "t", "metaField": "m", "granularity": "seconds" } }).await;
    run(doc! { "create": "old_id", "idIndex": { "key": { "_id": 1 }, "name": "_id_", "v": 1 } }).await;
    run(doc! { "insert": "old_id", "documents": [{ "_id": 1 }] }).await;
    let points: Vec<Document> = (0..50)
        .map(|n: i64| doc! { "t": bson::DateTime::from_millis(2_000_000_000_000 + n * 700_000), "m": n % 3, "v": n })
        .collect();
    run(doc! { "insert": "series", "documents": points }).await;
    run(doc! { "collMod": "series", "timeseries": { "granularity": "hours" } }).await;
    run(doc! { "create": "unique_later" }).await;
    run(doc! { "insert": "unique_later", "documents": [{ "_id": 1, "x": 1 }, { "_id": 2, "x": 2 }] }).await;
    run(doc! { "createIndexes": "unique_later", "indexes": [{ "key": { "x": 1 }, "name": "x" }] }).await;
    if version.starts_with('6') {
        let points = (50..90)
            .map(|n: i64| doc! { "t": bson::DateTime::from_millis(2_000_000_000_000 + n * 700_000), "m": n, "v": n });
        run(doc! { "insert": "series", "documents": points.collect::<Vec<_>>() }).await;
        run(doc! { "createIndexes": "series", "indexes": [{ "key": { "v": 1 }, "name": "measurement" }] })
            .await;
        run(doc! { "create": "images", "changeStreamPreAndPostImages": { "enabled": true } }).await;
        encrypted(database).await;
        run(doc! { "collMod": "unique_later", "index": { "name": "x", "prepareUnique": true } }).await;
        run(doc! { "collMod": "unique_later", "index": { "name": "x", "unique": true } }).await;
    } else {
        run(doc! { "create": "images", "recordPreImages": true }).await;
    }
    // Putting a lifetime back must not take this option away, as 5.0 likes to.
    run(doc! { "createIndexes": "images", "indexes": [{ "key": { "at": 1 }, "name": "at", "expireAfterSeconds": 600 }] }).await;
    if !version.starts_with('6') {
        run(doc! { "collMod": "images", "recordPreImages": true }).await;
    }
    run(doc! { "insert": "images", "documents": [{ "_id": 1, "x": 1 }] }).await;
    run(doc! { "update": "images", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "x": 2 } } }] }).await;
}

/// A collection with queryable encryption, as drivers make it: what is in it is opaque to servers and to backups.
async fn encrypted(database: &Database) {
    let binary = |subtype, byte| Bson::Binary(bson::Binary { subtype, bytes: vec![byte; 16] });
    let generic = |byte| binary(bson::spec::BinarySubtype::Generic, byte);
    let field = doc! {
        "keyId": binary(bson::spec::BinarySubtype::Uuid, 7), "path": "number", "bsonType": "string",
        "queries": { "queryType": "equality" },
    };
    let mut fields = doc! { "fields": [field] };
    let clustered = doc! { "key": { "_id": 1 }, "unique": true };
    for part in ["esc", "ecc", "ecoc"] {
        let name = format!("enxcol_.patients.{part}");
        fields.insert(format!("{part}Collection"), &name);
        database.run_command(doc! { "create": &name, "clusteredIndex": &clustered }).await.unwrap();
        let document = doc! { "_id": generic(1), "value": generic(2) };
        database.collection::<Document>(&name).insert_one(document).await.unwrap();
    }
    database.run_command(doc! { "create": "patients", "encryptedFields": fields }).await.unwrap();
    let safe = doc! { "key": { "__safeContent__": 1 }, "name": "__safeContent___1" };
    database.run_command(doc! { "createIndexes": "patients", "indexes": [safe] }).await.unwrap();
    let document = doc! { "_id": 1, "number": generic(14), "__safeContent__": [generic(3), generic(4)] };
    let patients = database.collection::<Document>("patients");
    patients.insert_one(document).bypass_document_validation(true).await.unwrap();
}

/// Settings of the deployment as a whole: not the snapshot's, and untouched by a restore.
async fn settings(bench: &Bench, version: &str) -> Vec<Document> {
    let mut defaults = bench.server.admin(doc! { "getDefaultRWConcern": 1 }).await.unwrap();
    for name in ["localUpdateWallClockTime", "operationTime", "$clusterTime"] {
        defaults.remove(name);
    }
    let mut found = vec![defaults];
    if version.starts_with('6') {
        let answer = bench.server.admin(doc! { "getClusterParameter": "changeStreamOptions" }).await.unwrap();
        found.push(doc! { "parameters": answer.get("clusterParameters").unwrap() });
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_ddl_made_is_made_again() {
    for version in ["6.0.5", "5.0.4"] {
        let bench = Bench::start(Options::version(version)).await;
        let mut taken = 0;
        for seed in 0..4_u64 {
            let random = &mut Random::new(seed);
            let database = bench.client.database(&format!("random{seed}"));
            for _ in 0..80 {
                let command = random_command(random, version);
                taken += u32::from(database.run_command(command).await.is_ok());
            }
        }
        assert!(taken > 100, "{version}: the server took {taken} commands only");
        specialities(&bench.client.database("special"), version).await;
        let concern = doc! { "setDefaultRWConcern": 1, "defaultWriteConcern": { "w": 1 }, "defaultReadConcern": { "level": "majority" } };
        bench.server.admin(concern).await.unwrap();
        if version.starts_with('6') {
            let images =
                doc! { "changeStreamOptions": { "preAndPostImages": { "expireAfterSeconds": 1234_i64 } } };
            bench.server.admin(doc! { "setClusterParameter": images }).await.unwrap();
        }
        let (before, set) = (data(&bench.client).await, settings(&bench, version).await);
        let snapshot = bench.snapshot().await;
        for in_place in [false, true] {
            for seed in 0..4 {
                bench.client.database(&format!("random{seed}")).drop().await.unwrap();
            }
            bench.client.database("special").collection::<Document>("series").drop().await.unwrap();
            bench.client.database("special").collection::<Document>("unique_later").drop().await.unwrap();
            restore(&bench, &snapshot, bench.deployment, json!({ "inPlace": in_place })).await;
            oracle::assert_same(&before, &data(&bench.client).await);
            assert_no_staging(&bench.client).await;
            assert_eq!(settings(&bench, version).await, set, "{version}");
        }
    }
}
