//! The oracle sees what it has to see, and every data set loads on every supported server.
#![allow(clippy::unwrap_used)]

use bson::{Document, RawDocumentBuf, doc};
use testbed::data::{self, RawBuilder, Set};
use testbed::load::{Load, LoadOptions, torn_documents};
use testbed::{Options, Server, oracle};

#[tokio::test]
async fn every_set_loads_and_two_loads_are_equal() {
    for version in testbed::SUPPORTED_VERSIONS {
        let server = Server::start(Options::version(version)).await.unwrap();
        let other = Server::start(Options::version(version)).await.unwrap();
        let clients = (server.client().await.unwrap(), other.client().await.unwrap());
        data::load(&clients.0, 7, &Set::ALL).await.unwrap();
        data::load(&clients.1, 7, &Set::ALL).await.unwrap();
        let (left, right) =
            (oracle::state(&clients.0).await.unwrap(), oracle::state(&clients.1).await.unwrap());
        // Buckets carry ObjectIds of their own, credentials a salt, and the driver makes `_id`s nowhere else.
        let different = |name: &str| name == "timeseries";
        let left = left.without_databases(&["timeseries"]);
        let right = right.without_databases(&["timeseries"]);
        assert!(!left.databases.keys().any(|name| different(name)));
        assert!(left.databases.len() >= 18, "{:?}", left.databases.keys());
        assert_eq!(left.roles, right.roles);
        assert_eq!(left.users.keys().collect::<Vec<_>>(), right.users.keys().collect::<Vec<_>>());
        oracle::assert_same(&left.without_principals(), &right.without_principals());
    }
}

#[tokio::test]
async fn raw_documents_arrive_byte_for_byte() {
    let server = Server::start(Options::default()).await.unwrap();
    let client = server.client().await.unwrap();
    let collection = client.database("a").collection::<RawDocumentBuf>("b");
    let raw =
        RawBuilder::new().int("_id", 1).int("x", 1).int("x", 2).double_bits("nan", 0x7ff8_0000_dead_beef);
    let raw = RawDocumentBuf::from_bytes(raw.finish()).unwrap();
    collection.insert_one(&raw).await.unwrap();
    assert_eq!(collection.find_one(doc! {}).await.unwrap().unwrap().as_bytes(), raw.as_bytes());
}

#[tokio::test]
async fn every_kind_of_difference_is_one_line() {
    let server = Server::start(Options::default()).await.unwrap();
    let client = server.client().await.unwrap();
    data::load(&client, 1, &[Set::Indexes, Set::Views, Set::Capped, Set::Principals, Set::Ttl])
        .await
        .unwrap();
    let before = oracle::state(&client).await.unwrap();
    assert_eq!(oracle::diff(&before, &oracle::state(&client).await.unwrap()), Vec::<String>::new());

    client.database("indexes").collection::<Document>("plain").delete_one(doc! { "_id": 3 }).await.unwrap();
    client.database("indexes").collection::<Document>("hidden").drop_index("hidden").await.unwrap();
    client.database("views").collection::<Document>("z_third").drop().await.unwrap();
    // The same documents in another order: dbHash alone would not see it.
    let capped = client.database("capped").collection::<Document>("by_number");
    let mut documents: Vec<Document> =
        futures::TryStreamExt::try_collect(capped.find(doc! {}).await.unwrap()).await.unwrap();
    documents.reverse();
    capped.drop().await.unwrap();
    let create = doc! { "create": "by_number", "capped": true, "size": 1 << 20, "max": 25 };
    client.database("capped").run_command(create).await.unwrap();
    capped.insert_many(documents).await.unwrap();
    client.database("admin").run_command(doc! { "dropUser": "olga" }).await.unwrap();
    client.database("new").collection("c").insert_one(doc! { "_id": 1 }).await.unwrap();
    let mod_ttl = doc! { "collMod": "sessions", "index": { "name": "at", "expireAfterSeconds": 7 } };
    client.database("ttl").run_command(mod_ttl).await.unwrap();

    let after = oracle::state(&client).await.unwrap();
    let lines = oracle::diff(&before, &after);
    for expected in [
        "user admin.olga: only on the left",
        "content of indexes.plain differs",
        "definition of indexes.hidden differs",
        "definition of views.z_third: only on the left",
        "content of views.system.views differs",
        "order of capped.by_number differs",
        "database new: only on the right",
        "definition of ttl.sessions differs",
    ] {
        assert_eq!(
            lines.iter().filter(|line| line.starts_with(expected)).count(),
            1,
            "{expected}: {lines:#?}"
        );
    }
    assert_eq!(lines.len(), 8, "{lines:#?}");
    assert_eq!(oracle::diff(&before.without_ttl(), &after.without_ttl()).len(), 7);
}

#[tokio::test]
async fn the_load_writes_and_stops() {
    let server = Server::start(Options::default()).await.unwrap();
    let client = server.client().await.unwrap();
    let load = Load::start(&client, &LoadOptions::default());
    load.wait_for(200).await;
    let (failed, written) = (load.failed(), load.stop().await.unwrap());
    assert!(failed == 0 && written >= 200, "{failed} failed, {written} written");
    let collection = client.database("load").collection::<Document>("counters");
    assert_eq!(torn_documents(&collection).await.unwrap(), 0);
    collection.update_one(doc! {}, doc! { "$inc": { "n": 1 } }).await.unwrap();
    assert_eq!(torn_documents(&collection).await.unwrap(), 1);
}
