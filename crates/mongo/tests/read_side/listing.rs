//! The catalog at one cluster time.

use std::time::Duration;

use bson::{Document, doc};
use mongo::{CollectionKind, Error, listing};

use crate::support::{connected, fill, info, on_each_version};

on_each_version!(
    everything_of_users_and_nothing_else,
    a_build_under_way_is_no_index,
    pins_beside_a_job_that_replaces_collections
);

async fn everything_of_users_and_nothing_else(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    let app = client.database("app");
    fill(&client, "app.plain", 3, 1).await;
    fill(&client, "admin.mine", 1, 1).await;
    client
        .database("local")
        .run_command(doc! { "insert": "mine", "documents": [{ "_id": 1 }] })
        .await
        .unwrap();
    let run = async |command: Document| app.run_command(command).await.unwrap();
    run(doc! { "create": "capped", "capped": true, "size": 4096 }).await;
    run(doc! { "create": "german", "collation": { "locale": "de" } }).await;
    run(doc! { "create": "points", "timeseries": { "timeField": "t" } }).await;
    run(doc! { "create": "view", "viewOn": "plain", "pipeline": [] }).await;
    run(doc! { "insert": "system.js", "documents": [{ "_id": "f", "value": 1 }] }).await;
    run(doc! { "createIndexes": "plain", "indexes": [{ "key": { "a": 1.5 }, "name": "odd", "sparse": true }] }).await;
    run(doc! { "create": format!("{}7", mongo::STAGING_PREFIX) }).await;
    run(doc! { "profile": 2 }).await;
    run(doc! { "ping": 1 }).await;
    run(doc! { "profile": 0 }).await;
    let clustered = version.starts_with('6');
    if clustered {
        run(doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } }).await;
    }

    let pinned = listing::pin(&deployment).await.unwrap();
    let found: Vec<_> = pinned
        .collections
        .iter()
        .map(|collection| (collection.namespace.to_string(), collection.kind))
        .collect();
    let mut expected = vec![
        ("admin.mine", CollectionKind::Plain),
        ("app.capped", CollectionKind::Capped),
        ("app.german", CollectionKind::Plain),
        ("app.plain", CollectionKind::Plain),
        ("app.points", CollectionKind::TimeSeriesView),
        ("app.system.buckets.points", CollectionKind::TimeSeriesBuckets),
        ("app.system.js", CollectionKind::SystemJs),
        ("app.system.views", CollectionKind::SystemViews),
        ("app.view", CollectionKind::View),
    ];
    if clustered {
        expected.insert(2, ("app.clustered", CollectionKind::Clustered));
    }
    assert_eq!(found, expected.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect::<Vec<_>>());
    for collection in &pinned.collections {
        assert_eq!(collection.uuid.is_some(), collection.kind.has_documents(), "{}", collection.namespace);
        assert_eq!(collection.collation, collection.namespace.collection == "german");
    }
    let excluded: Vec<String> = pinned.excluded.iter().map(|(namespace, _)| namespace.to_string()).collect();
    assert!(excluded.contains(&"app.system.profile".to_owned()), "{excluded:?}");
    assert!(excluded.contains(&format!("app.{}7", mongo::STAGING_PREFIX)), "{excluded:?}");

    let plain =
        pinned.collections.iter().find(|collection| collection.namespace.collection == "plain").unwrap();
    let names: Vec<String> = plain
        .indexes
        .iter()
        .map(|spec| crate::support::decoded(spec).get_str("name").unwrap().to_owned())
        .collect();
    assert_eq!(names, ["_id_", "odd"]);
    assert!(plain.id_index.is_some());
}

/// Held by a fail point, so that no clock decides.
async fn a_build_under_way_is_no_index(version: &str) {
    let options = testbed::Options::version(version).set_parameter("enableTestCommands", "1");
    let server = testbed::Server::start(options).await.unwrap();
    let client = server.client().await.unwrap();
    let deployment = crate::support::connect(&server.uri()).await.unwrap();
    fill(&client, "app.x", 10, 1).await;
    let hang = |mode: &str| doc! { "configureFailPoint": "hangAfterStartingIndexBuild", "mode": mode };
    server.admin(hang("alwaysOn")).await.unwrap();
    let build = tokio::spawn({
        let client = client.clone();
        async move {
            let create = doc! { "createIndexes": "x", "indexes": [{ "key": { "x": 1 }, "name": "fails", "unique": true }] };
            client.database("app").run_command(create).await
        }
    });
    // Without includeBuildUUIDs the build shows up as if it were an index.
    loop {
        let naive = client.database("app").run_command(doc! { "listIndexes": "x" }).await.unwrap();
        if naive.get_document("cursor").unwrap().get_array("firstBatch").unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(info(&deployment, "app.x").await.indexes.len(), 1);
    assert_eq!(listing::pin(&deployment).await.unwrap().collections[0].indexes.len(), 1);
    server.admin(hang("off")).await.unwrap();
    // All documents have the same `x`.
    assert!(build.await.unwrap().is_err());
    let good = doc! { "createIndexes": "x", "indexes": [{ "key": { "x": 1 }, "name": "good" }] };
    client.database("app").run_command(good).await.unwrap();
    assert_eq!(listing::pin(&deployment).await.unwrap().collections[0].indexes.len(), 2);
}

async fn pins_beside_a_job_that_replaces_collections(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    fill(&client, "app.source", 20, 1).await;
    fill(&client, "quiet.x", 20, 1).await;
    let job = tokio::spawn(async move {
        loop {
            let out = doc! { "aggregate": "source", "pipeline": [{ "$out": "target" }], "cursor": {} };
            client.database("app").run_command(out).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    for _ in 0..10 {
        match listing::pin(&deployment).await {
            Ok(pinned) => {
                let names: Vec<_> =
                    pinned.collections.iter().map(|collection| collection.namespace.to_string()).collect();
                assert!(
                    names.contains(&"quiet.x".to_owned()) && names.contains(&"app.source".to_owned()),
                    "{names:?}"
                );
                // The temporary collection of `$out` may be there, never as something taken.
                assert!(names.iter().all(|name| !name.contains("tmp.")), "{names:?}");
                // True at its time: what is listed can be read at it, unless it has been replaced since.
                for collection in
                    pinned.collections.iter().filter(|collection| collection.namespace.db == "quiet")
                {
                    let mut wire = deployment.read_wire().await.unwrap();
                    assert_eq!(
                        crate::support::sorted(&mut wire, collection, pinned.at).await.unwrap().len(),
                        20
                    );
                }
            }
            Err(error) => assert!(matches!(error, Error::Unstable { .. }), "{error}"),
        }
    }
    job.abort();
}
