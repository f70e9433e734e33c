//! Names, places and views.

use bson::{Document, RawDocumentBuf, doc, rawdoc};
use mongo::{
    Deployment, Error, Namespace,
    write::{
        collections,
        staging::{staging_name, sweep_staging},
        timeseries, ttl, views,
    },
};

use crate::{insert, on_versions, start};

const JOB: &str = "5f4007f327a3bd7b6f4103c5";
const OTHER: &str = "5f4007f327a3bd7b6f4103c6";
const NO_OPTIONS: &[u8] = b"\x05\0\0\0\0";

#[tokio::test]
async fn sweeping_drops_what_the_job_left_and_nothing_else() {
    let (_server, deployment) = start("6.0.5").await;
    for (db, name) in [
        ("a", staging_name(JOB, 1)),
        ("a", staging_name(OTHER, 1)),
        ("b", staging_name(JOB, 255)),
        ("a", "orders".to_owned()),
    ] {
        collections::create(&deployment, db, &name, NO_OPTIONS, None).await.unwrap();
    }
    let mut swept = sweep_staging(&deployment, JOB).await.unwrap();
    swept.sort();
    assert_eq!(
        swept,
        [Namespace::new("a", staging_name(JOB, 1)), Namespace::new("b", staging_name(JOB, 255))]
    );
    assert_eq!(sweep_staging(&deployment, JOB).await.unwrap(), []);
    assert!(collections::exists(&deployment, &Namespace::new("a", staging_name(OTHER, 1))).await.unwrap());
    assert!(collections::exists(&deployment, &Namespace::new("a", "orders")).await.unwrap());
}

/// What `listCollections` says of one name.
async fn listed(deployment: &Deployment, name: &str) -> Option<Document> {
    let list = doc! { "listCollections": 1, "filter": { "name": name } };
    let reply = deployment.run("app", list).await.unwrap();
    let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    batch.first().map(|found| found.as_document().unwrap().clone())
}

async fn renames_over_whatever_is_there(version: &str) {
    let (_server, deployment) = start(version).await;
    let view = doc! { "create": "view", "viewOn": "nothing", "pipeline": [] };
    let series = doc! { "create": "series", "timeseries": { "timeField": "t" } };
    for create in [view, series, doc! { "create": "plain" }] {
        deployment.run("app", create).await.unwrap();
    }
    for (ordinal, to) in (0..).zip(["view", "series", "plain", "new"]) {
        let from = staging_name(JOB, ordinal);
        collections::create(&deployment, "app", &from, NO_OPTIONS, None).await.unwrap();
        insert(&deployment, &Namespace::new("app", from.as_str()), vec![doc! { "_id": ordinal as i32 }])
            .await;
        let uuid = collections::uuid_of(&deployment, &Namespace::new("app", from.as_str())).await.unwrap();
        assert!(uuid.is_some());
        if to != "new" {
            let before = listed(&deployment, to).await;
            let taken = collections::rename_if_free(&deployment, "app", &from, to, uuid).await.unwrap_err();
            assert_eq!(taken.code(), Some(48), "{taken:?}");
            assert_eq!(listed(&deployment, to).await, before, "what stands there stays");
            assert!(listed(&deployment, &from).await.is_some());
        }
        for _again in 0..2 {
            collections::rename_over(&deployment, "app", &from, to, uuid).await.unwrap();
        }
        // Done already is done, also for who takes nobody's place.
        collections::rename_if_free(&deployment, "app", &from, to, uuid).await.unwrap();
        assert_eq!(collections::uuid_of(&deployment, &Namespace::new("app", to)).await.unwrap(), uuid);
        assert_eq!(
            crate::documents(&deployment, &Namespace::new("app", to)).await,
            [rawdoc! { "_id": ordinal as i32 }.into_bytes()]
        );
        let gone = collections::rename_over(&deployment, "app", &from, to, Some([0; 16])).await.unwrap_err();
        assert!(matches!(gone, Error::NamespaceNotFound(_)), "{gone:?}");
    }
    assert_eq!(
        deployment
            .driver()
            .database("app")
            .list_collection_names()
            .filter(doc! { "name": { "$regex": "^system.buckets" } })
            .await
            .unwrap(),
        [""; 0]
    );
}
on_versions!(renames_over_whatever_is_there);

/// Held by a fail point, so that no clock decides.
async fn a_build_on_what_goes_does_not_hold_up_a_rename(version: &str) {
    let options = testbed::Options::version(version).set_parameter("enableTestCommands", "1");
    let server = testbed::Server::start(options).await.unwrap();
    let deployment = crate::connect(&server.uri()).await;
    let (old, new) = (Namespace::new("app", "old"), Namespace::new("app", "new"));
    insert(&deployment, &old, vec![doc! { "_id": 1 }]).await;
    insert(&deployment, &new, vec![doc! { "_id": 2 }]).await;
    let hang = |mode: &str| doc! { "configureFailPoint": "hangAfterStartingIndexBuild", "mode": mode };
    server.admin(hang("alwaysOn")).await.unwrap();
    let build = tokio::spawn({
        let deployment = deployment.clone();
        async move {
            let index = doc! { "key": { "x": 1 }, "name": "x" };
            deployment.run("app", doc! { "createIndexes": "old", "indexes": [index] }).await
        }
    });
    let list = doc! { "listIndexes": "old", "includeBuildUUIDs": true };
    while !format!("{:?}", deployment.run("app", list.clone()).await.unwrap()).contains("buildUUID") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The fail point may hold the build while it is to end.
    let renamed = tokio::spawn({
        let deployment = deployment.clone();
        async move { collections::rename_over(&deployment, "app", "new", "old", None).await }
    });
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), build).await;
    server.admin(hang("off")).await.unwrap();
    ended.expect("the build goes on").unwrap().unwrap_err();
    renamed.await.unwrap().unwrap();
    assert_eq!(crate::documents(&deployment, &old).await, [rawdoc! { "_id": 2 }.into_bytes()]);
}
on_versions!(a_build_on_what_goes_does_not_hold_up_a_rename);

#[tokio::test]
async fn dropping_is_done_once_or_twice_and_never_to_the_server() {
    let (_server, deployment) = start("6.0.5").await;
    collections::create(&deployment, "app", "x", NO_OPTIONS, None).await.unwrap();
    assert_eq!(
        collections::create(&deployment, "app", "x", NO_OPTIONS, None).await.unwrap_err().code(),
        Some(48)
    );
    collections::create_anew(&deployment, "app", "x", NO_OPTIONS, None).await.unwrap();
    for _again in 0..2 {
        collections::drop(&deployment, "app", "x").await.unwrap();
        collections::drop_database(&deployment, "app").await.unwrap();
    }
    assert!(!collections::exists(&deployment, &Namespace::new("app", "x")).await.unwrap());
    for db in ["admin", "local", "config"] {
        assert!(matches!(collections::drop_database(&deployment, db).await, Err(Error::Unsupported(_))));
    }
}

async fn views_are_made_whatever_their_order_and_bad_ones_named(version: &str) {
    let (_server, deployment) = start(version).await;
    let on = |base: &str| rawdoc! { "viewOn": base, "pipeline": [{ "$match": { "a": 1 } }] };
    let definitions: Vec<(&str, RawDocumentBuf)> = vec![
        ("top", on("middle")),
        ("middle", on("bottom")),
        ("bottom", on("no such collection")),
        ("bad", rawdoc! { "viewOn": "bottom", "pipeline": [{ "$noSuchStage": 1 }] }),
        ("collated", rawdoc! { "viewOn": "base", "pipeline": [], "collation": { "locale": "de" } }),
    ];
    let all: Vec<_> =
        definitions.iter().map(|(name, options)| views::View { name, options: options.as_bytes() }).collect();
    for _again in 0..2 {
        let refused = views::create_in_order(&deployment, "app", &all).await.unwrap();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0.to_string(), "app.bad");
        assert!(refused[0].1.to_string().contains("noSuchStage"), "{}", refused[0].1);
    }
    let mut names = deployment
        .driver()
        .database("app")
        .list_collection_names()
        .filter(doc! { "type": "view" })
        .await
        .unwrap();
    names.sort();
    assert_eq!(names, ["bottom", "collated", "middle", "top"]);
}
on_versions!(views_are_made_whatever_their_order_and_bad_ones_named);

async fn lifetimes_of_whole_collections_are_parked(version: &str) {
    let (_server, deployment) = start(version).await;
    let series = Namespace::new("app", "weather");
    let mut parked_kinds = vec![(
        series.clone(),
        rawdoc! { "timeseries": { "timeField": "t" }, "expireAfterSeconds": 3600_i64 },
    )];
    if deployment.version() >= (6, 0, 0) {
        let clustered = rawdoc! { "clusteredIndex": { "key": { "_id": 1 }, "unique": true }, "expireAfterSeconds": 3600_i64 };
        parked_kinds.push((Namespace::new("app", "clustered"), clustered));
    }
    for (namespace, options) in parked_kinds {
        let (without, parked) = ttl::park_collection(&namespace, options.as_bytes()).unwrap();
        let parked = parked.unwrap();
        timeseries::create(&deployment, &namespace, &without).await.unwrap();
        let lifetime = async || {
            let list = doc! { "listCollections": 1, "filter": { "name": &namespace.collection } };
            let reply = deployment.run("app", list).await.unwrap();
            let found = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap()[0]
                .as_document()
                .unwrap()
                .clone();
            found.get_document("options").unwrap().get("expireAfterSeconds").cloned()
        };
        assert_eq!(lifetime().await, None);
        assert!(!ttl::would_delete_now(&deployment, &parked).await.unwrap());
        ttl::unpark(&deployment, &parked).await.unwrap();
        assert_eq!(lifetime().await, Some(bson::Bson::Int64(3600)));
    }
}
on_versions!(lifetimes_of_whole_collections_are_parked);
