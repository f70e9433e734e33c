//! What a snapshot is said to hold is what the server said when it was taken.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bson::{Document, doc};
use engine::contents::{Contents, ContentsError};
use testbed::{Options, data::Set};

use crate::{
    restore_support::server,
    support::{Bench, engine},
};

/// The names that the server's users know, by database.
async fn names(client: &mongodb::Client) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for db in client.list_database_names().await.unwrap() {
        if ["config", "local"].contains(&db.as_str()) {
            continue;
        }
        let mut names = client.database(&db).list_collection_names().await.unwrap();
        // Of this database only what users made is taken.
        let own = db == "admin";
        names.retain(|name| !name.starts_with(if own { "system." } else { "system.buckets." }));
        names.retain(|name| name != "system.views");
        names.sort();
        found.insert(db, names);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_are_those_of_the_moment_and_only_those_that_users_know() {
    for version in ["6.0.5", "5.0.4"] {
        let server = server(Options::version(version), &Set::ALL).await;
        let uri = server.uri();
        let bench = Bench::over(server, &uri).await;
        let mine = bench.client.database("admin").collection::<Document>("mine");
        mine.insert_one(doc! {"_id": 1}).await.unwrap();
        let expected = names(&bench.client).await;
        let snapshot = bench.snapshot().await;
        bench.client.database("views").drop().await.unwrap();

        let contents = Contents::new(bench.engine(bench.settings()).services().clone());
        let databases = contents.databases(&snapshot).await.unwrap();
        assert_eq!(databases, expected.keys().cloned().collect::<Vec<_>>(), "{version}");
        for (db, names) in &expected {
            let found = contents.collections(&snapshot, db).await.unwrap();
            assert_eq!(found.as_ref(), Some(names), "{version}: {db}");
        }
        assert!(expected["admin"].contains(&"mine".to_owned()));
        assert!(expected["timeseries"].len() > 1 && !expected["views"].is_empty());
        assert_eq!(contents.collections(&snapshot, "nothing").await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn damage_is_told_and_noted_and_a_snapshot_that_goes_is_gone() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", [doc! {"_id": 1}]).await;
    let snapshot = bench.snapshot().await;
    let contents = Contents::new(bench.engine(bench.settings()).services().clone());
    assert_eq!(contents.databases(&snapshot).await.unwrap(), ["app"]);
    let name: vault::ObjectName = snapshot.manifest.as_ref().unwrap().parse().unwrap();
    let path = bench.dir.path().join("vault").join(name.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = contents.databases(&snapshot).await.unwrap_err();
    assert!(matches!(&error, ContentsError::Damaged(why) if why.contains(&name.hex())), "{error:?}");

    bench.catalog.snapshots().delete(snapshot.id, engine::engine::wall_clock()).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let read = contents.collections(&snapshot, "app").await;
    let now = bench.catalog.snapshots().get(snapshot.id).await.unwrap().unwrap();
    match now.manifest {
        None => assert!(matches!(read, Err(ContentsError::Gone)), "{read:?}"),
        Some(_) => assert!(matches!(read, Err(ContentsError::Damaged(_))), "{read:?}"),
    }
}
