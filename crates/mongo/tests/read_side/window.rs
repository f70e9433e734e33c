//! The history window.

use std::time::Duration;

use bson::{Document, doc};
use mongo::{Error, read, time, window};
use testbed::{Options, Server};

use crate::support::{connect, connected, fill, info, on_each_version};

on_each_version!(a_read_that_outlasts_the_window_fails_by_name);

async fn a_read_that_outlasts_the_window_fails_by_name(version: &str) {
    let options = Options::version(version).set_parameter("minSnapshotHistoryWindowInSeconds", "3");
    let server = Server::start(options).await.unwrap();
    let client = server.client().await.unwrap();
    let deployment = connect(&server.uri()).await.unwrap();
    fill(&client, "app.x", 5000, 1000).await;
    let collection = info(&deployment, "app.x").await;
    let at = time::majority_now(&deployment).await.unwrap();
    let mut wire = deployment.read_wire().await.unwrap();
    let mut cursor = read::sorted(&mut wire, &collection, at, None).await.unwrap();
    cursor.next().await.unwrap().unwrap();
    let mut number = 0;
    // As long as the server takes to forget; it drops history while it writes.
    let error = loop {
        number += 1;
        let update = doc! { "$set": { "n": number } };
        client
            .database("app")
            .collection::<Document>("x")
            .update_many(doc! { "_id": { "$lt": 500 } }, update)
            .await
            .unwrap();
        let mut probe = deployment.read_wire().await.unwrap();
        match read::sorted(&mut probe, &collection, at, None).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::SnapshotTooOld { namespace } if namespace == "app.x"), "{error:?}");
    assert!(!error.is_transient());
    // The cursor that was open fails alike, as soon as it needs the server.
    let error = loop {
        match cursor.next().await {
            Ok(Some(batch)) => cursor.recycle(batch),
            Ok(None) => panic!("read to the end of a forgotten time"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::SnapshotTooOld { .. }), "{error:?}");
}

#[tokio::test]
async fn the_window_is_raised_and_put_back() {
    let (server, _client, deployment) = connected("6.0.5").await;
    assert_eq!(window::get(&deployment).await.unwrap(), 300);
    assert_eq!(window::plan(&deployment, 300).await.unwrap(), None);
    let planned = window::plan(&deployment, 3600).await.unwrap().unwrap();
    assert_eq!((planned.previous_seconds, planned.raised_to_seconds), (300, 3600));
    window::raise(&deployment, &planned).await.unwrap();
    assert_eq!(window::get(&deployment).await.unwrap(), 3600);
    window::put_back(&deployment, &planned).await.unwrap();
    assert_eq!(window::get(&deployment).await.unwrap(), 300);
    // Somebody else's decision stays.
    window::raise(&deployment, &planned).await.unwrap();
    server.admin(doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": 7200 }).await.unwrap();
    window::put_back(&deployment, &planned).await.unwrap();
    assert_eq!(window::get(&deployment).await.unwrap(), 7200);
}
