//! Index builds that cannot end well, and indexes that would delete.

use std::time::Duration;

use bson::{DateTime, Document, RawDocumentBuf, doc};
use mongo::{
    Deployment, Error, Namespace,
    write::{BuildOptions, CommitQuorum, KeyCounts, ParkedTtl, TtlPolicy, indexes, ttl, verify},
};
use testbed::{Options, Server};

use crate::{connect, insert, on_versions, start};

fn raw(spec: Document) -> Vec<u8> {
    RawDocumentBuf::try_from(spec).unwrap().into_bytes()
}

async fn listed(deployment: &Deployment, namespace: &Namespace) -> Vec<Vec<u8>> {
    let list = doc! { "listIndexes": &namespace.collection };
    let reply = deployment.run(&namespace.db, list).await.unwrap();
    let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
    batch.into_iter().map(|spec| raw(spec.as_document().unwrap().clone())).collect()
}

fn shape_of(indexes: &[Vec<u8>]) -> verify::Shape<'_> {
    verify::Shape { options: b"\x05\0\0\0\0", id_index: None, indexes }
}

async fn names(deployment: &Deployment, namespace: &Namespace) -> Vec<String> {
    let name =
        |spec: &Vec<u8>| bson::RawDocument::from_bytes(spec).unwrap().get_str("name").unwrap().to_owned();
    listed(deployment, namespace).await.iter().map(name).collect()
}

#[tokio::test]
async fn a_member_that_is_down_is_named_and_nothing_is_left() {
    let server = Server::start(Options::version("6.0.5").members(3)).await.unwrap();
    let deployment = connect(&server.uri()).await;
    let namespace = Namespace::new("app", "x");
    insert(&deployment, &namespace, (0..500).map(|n| doc! { "_id": n, "a": n, "b": n % 3 }).collect()).await;
    let primary = server.primary().await.unwrap();
    let victim = (primary + 1) % 3;
    server.kill(victim).await.unwrap();
    let specs = [
        raw(doc! { "v": 2, "key": { "a": 1 }, "name": "a" }),
        raw(doc! { "v": 2, "key": { "b": 1 }, "name": "b" }),
    ];

    let all = BuildOptions {
        commit_quorum: CommitQuorum::VotingMembers,
        members_down_max: Duration::from_secs(3),
        ..BuildOptions::default()
    };
    let error = indexes::build(&deployment, &namespace, &specs, &all).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(error.to_string().contains(&server.host_port_of(victim)), "{error}");
    assert_eq!(names(&deployment, &namespace).await, ["_id_"]);

    let hurried = BuildOptions {
        commit_quorum: CommitQuorum::Members(3),
        deadline: Some(Duration::from_secs(3)),
        ..BuildOptions::default()
    };
    let error = indexes::build(&deployment, &namespace, &specs, &hurried).await.unwrap_err();
    assert!(error.to_string().contains(&server.host_port_of(victim)), "{error}");
    assert_eq!(names(&deployment, &namespace).await, ["_id_"]);

    // A majority is enough by default, and the member catches up when it is back.
    let report = indexes::build(&deployment, &namespace, &specs, &BuildOptions::default()).await.unwrap();
    assert_eq!(report.built, ["a", "b"]);
    assert_eq!(names(&deployment, &namespace).await, ["_id_", "a", "b"]);
}

#[tokio::test]
async fn a_unique_index_that_does_not_fit_leaves_none_of_its_siblings() {
    let (_server, deployment) = start("6.0.5").await;
    let namespace = Namespace::new("app", "x");
    insert(&deployment, &namespace, vec![doc! { "a": 1, "b": 1 }, doc! { "a": 2, "b": 1 }]).await;
    let specs = [
        raw(doc! { "v": 2, "key": { "a": 1 }, "name": "a" }),
        raw(doc! { "v": 2, "key": { "b": 1 }, "name": "b", "unique": true }),
    ];
    let error = indexes::build(&deployment, &namespace, &specs, &BuildOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(11_000), "{error}");
    assert_eq!(names(&deployment, &namespace).await, ["_id_"]);
}

async fn builds_at_a_time_list_their_indexes_in_order_and_leave_nothing_when_one_fails(version: &str) {
    let (_server, deployment) = start(version).await;
    let namespace = Namespace::new("app", "x");
    for chunk in 0..20 {
        let documents =
            (0..1000).map(|n| doc! { "_id": chunk * 1000 + n, "a": n, "b": [n, n + 1, n + 2], "c": n % 7 });
        insert(&deployment, &namespace, documents.collect()).await;
    }
    let spec = |name: &str, unique: bool| {
        let mut spec = doc! { "v": 2, "key": { name: 1 }, "name": name };
        if unique {
            spec.insert("unique", true);
        }
        raw(spec)
    };
    let specs = ["b", "a", "c", "d", "_z"].map(|name| spec(name, false));
    let sample: Vec<u8> = (0..3).flat_map(|n| raw(doc! { "b": [n, 1, 2], "a": n, "c": n })).collect();
    let keys = KeyCounts::of(&specs, &sample);
    assert_eq!(keys.builds(&specs, 3), 3, "the one on arrays, three others, and the last one");
    let several = BuildOptions { builds_max: 3, keys, ..BuildOptions::default() };
    let report = indexes::build(&deployment, &namespace, &specs, &several).await.unwrap();
    assert_eq!(report.built, ["b", "a", "c", "d", "_z"]);
    assert_eq!(names(&deployment, &namespace).await, ["_id_", "b", "a", "c", "d", "_z"]);
    indexes::drop(&deployment, &namespace, &report.built).await.unwrap();

    let specs = [spec("b", false), spec("c", true), spec("a", false)];
    let each_alone = BuildOptions { builds_max: 3, ..BuildOptions::default() };
    let error = indexes::build(&deployment, &namespace, &specs, &each_alone).await.unwrap_err();
    assert_eq!(error.code(), Some(11_000), "{error}");
    assert_eq!(names(&deployment, &namespace).await, ["_id_"]);
}
on_versions!(builds_at_a_time_list_their_indexes_in_order_and_leave_nothing_when_one_fails);

/// Where the server holds builds up, as when others build as many as it runs at a time.
#[tokio::test]
async fn a_build_is_not_sent_before_the_one_in_front_of_it_is_listed() {
    let (_server, deployment) = start("6.0.5").await;
    let namespace = Namespace::new("app", "x");
    let many: Vec<_> = (0..100).collect();
    for chunk in 0..20 {
        let document = |n| doc! { "_id": chunk * 1000 + n, "a": n, "b": many.iter().map(|m| m * n).collect::<Vec<_>>(), "c": n };
        insert(&deployment, &namespace, (0..1000).map(document).collect()).await;
    }
    let builds_max = async |most: i32| {
        let set = doc! { "setParameter": 1, "maxNumActiveUserIndexBuilds": most };
        deployment.run("admin", set).await.unwrap();
    };
    let sent = async || {
        let whose = doc! { "$match": { "command.createIndexes": "x", "desc": { "$regex": "^conn" } } };
        let pipeline = vec![doc! { "$currentOp": {} }, whose];
        let ask = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": {} };
        let reply = deployment.run("admin", ask).await.unwrap();
        let operations = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
        let name = |operation: &bson::Bson| {
            let command = operation.as_document().unwrap().get_document("command").unwrap();
            let first = command.get_array("indexes").unwrap()[0].as_document().unwrap();
            first.get_str("name").unwrap().to_owned()
        };
        let mut names: Vec<_> = operations.iter().map(name).collect();
        names.sort();
        names
    };
    let until = async |wanted: &[&str]| {
        for _ in 0..1500 {
            if sent().await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?} are being built, and not {wanted:?}", sent().await);
    };

    builds_max(1).await;
    let build = tokio::spawn({
        let (deployment, namespace) = (deployment.clone(), namespace.clone());
        async move {
            let specs = ["b", "a", "c"].map(|name| raw(doc! { "v": 2, "key": { name: 1 }, "name": name }));
            let options = BuildOptions { builds_max: 3, ..BuildOptions::default() };
            indexes::build(&deployment, &namespace, &specs, &options).await
        }
    });
    until(&["a", "b"]).await;
    builds_max(0).await;
    until(&["a"]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sent().await, ["a"], "the last one waits for the one before it, which is not listed yet");
    assert_eq!(names(&deployment, &namespace).await, ["_id_", "b"]);
    builds_max(3).await;
    build.await.unwrap().unwrap();
    assert_eq!(names(&deployment, &namespace).await, ["_id_", "b", "a", "c"]);
}

async fn ttl_indexes_are_parked_when_they_would_delete(version: &str) {
    let (_server, deployment) = start(version).await;
    let namespace = Namespace::new("app", "x");
    let now = DateTime::now();
    let old = DateTime::from_millis(now.timestamp_millis() - 3_600_000);
    insert(&deployment, &namespace, vec![doc! { "_id": 1, "old": old, "new": now }]).await;
    let specs = [
        raw(doc! { "v": 2, "key": { "old": 1 }, "name": "old", "hidden": true, "expireAfterSeconds": 60 }),
        raw(doc! { "v": 2, "key": { "new": 1 }, "name": "new", "expireAfterSeconds": 3600, "ns": "app.x" }),
    ];
    let wanted = [
        raw(doc! { "v": 2, "key": { "old": 1 }, "name": "old", "hidden": true, "expireAfterSeconds": 60 }),
        raw(doc! { "v": 2, "key": { "new": 1 }, "name": "new", "expireAfterSeconds": 3600 }),
    ];
    let differences = async |parked: &[ParkedTtl]| {
        let found = listed(&deployment, &namespace).await;
        verify::differences(&shape_of(&wanted), &shape_of(&found[1..]), parked)
    };

    let report = indexes::build(&deployment, &namespace, &specs, &BuildOptions::default()).await.unwrap();
    let parked = ParkedTtl {
        namespace: namespace.clone(),
        index: Some("old".to_owned()),
        field: Some("old".to_owned()),
        expire_after_seconds: 60,
    };
    assert_eq!(report.parked, std::slice::from_ref(&parked));
    assert_eq!(differences(&report.parked).await, [""; 0]);
    assert_eq!(differences(&[]).await.len(), 1);
    assert!(ttl::would_delete_now(&deployment, &parked).await.unwrap());
    ttl::unpark(&deployment, &parked).await.unwrap();
    ttl::unpark(&deployment, &parked).await.unwrap();
    assert_eq!(differences(&[]).await, [""; 0]);

    indexes::drop(&deployment, &namespace, &report.built).await.unwrap();
    indexes::drop(&deployment, &namespace, &report.built).await.unwrap();
    let all = BuildOptions { ttl: TtlPolicy::ParkAll, ..BuildOptions::default() };
    assert_eq!(indexes::build(&deployment, &namespace, &specs, &all).await.unwrap().parked.len(), 2);
    indexes::drop(&deployment, &namespace, &report.built).await.unwrap();
    let keep = BuildOptions { ttl: TtlPolicy::Keep, ..BuildOptions::default() };
    assert_eq!(indexes::build(&deployment, &namespace, &specs, &keep).await.unwrap().parked, []);
    assert_eq!(differences(&[]).await, [""; 0]);
}
on_versions!(ttl_indexes_are_parked_when_they_would_delete);

async fn indexes_keep_the_simple_collation_where_another_is_the_default(version: &str) {
    let (_server, deployment) = start(version).await;
    let specs = [
        doc! { "v": 2, "key": { "a": 1 }, "name": "simple", "collation": { "locale": "simple" } },
        doc! { "v": 2, "key": { "a": 1 }, "name": "inherits" },
        doc! { "v": 1, "key": { "b": 1 }, "name": "old" },
        doc! { "v": 2, "key": { "t": "text" }, "name": "text", "collation": { "locale": "simple" } },
        doc! { "v": 2, "key": { "g": "2d" }, "name": "flat", "collation": { "locale": "simple" } },
    ];
    let [one, two] = ["one", "two"].map(|name| Namespace::new("app", name));
    for namespace in [&one, &two] {
        let create = doc! { "create": &namespace.collection, "collation": { "locale": "de" } };
        deployment.run("app", create).await.unwrap();
    }
    deployment.run("app", doc! { "createIndexes": "one", "indexes": specs.to_vec() }).await.unwrap();
    let wanted = listed(&deployment, &one).await;
    assert_eq!(wanted.len(), 6);
    indexes::build(&deployment, &two, &wanted, &BuildOptions::default()).await.unwrap();
    assert_eq!(
        verify::differences(&shape_of(&wanted), &shape_of(&listed(&deployment, &two).await), &[]),
        [""; 0]
    );
}
on_versions!(indexes_keep_the_simple_collation_where_another_is_the_default);
