//! Loads that end otherwise.

use bson::{doc, rawdoc};
use bytes::Bytes;
use mongo::{
    Error, Namespace,
    write::{LoadOptions, Loader, collections, verify},
};

use crate::{documents, insert, on_versions, start};

fn numbered(from: i32, to: i32, padding: usize) -> Bytes {
    let documents: Vec<_> =
        (from..to).map(|id| rawdoc! { "_id": id, "p": "x".repeat(padding) }.into_bytes()).collect();
    Bytes::from(documents.concat())
}

async fn capped_collections_keep_their_order(version: &str) {
    let (_server, deployment) = start(version).await;
    let namespace = Namespace::new("app", "capped");
    let options = rawdoc! { "capped": true, "size": 64 << 20 };
    collections::create(&deployment, "app", "capped", options.as_bytes(), None).await.unwrap();
    let wanted: Vec<_> = (0..12_000_i32)
        .map(|n| {
            let zero = bson::Timestamp { time: u32::from(n % 50 != 0), increment: 0 };
            rawdoc! { "_id": n.wrapping_mul(48_271) % 65_537, "t": zero }.into_bytes()
        })
        .collect();
    let options = LoadOptions { connections: 4, insertion_order: true, ..LoadOptions::default() };
    let mut loader = Loader::open(&deployment, &namespace, options).await.unwrap();
    for part in wanted.chunks(777) {
        loader.insert(Bytes::from(part.concat())).await.unwrap();
    }
    assert_eq!(loader.finish().await.unwrap().mended, 240);
    assert!(documents(&deployment, &namespace).await == wanted);
    let mut hash = verify::SequenceHash::default();
    wanted.iter().for_each(|document| hash.add(document));
    assert_eq!(verify::sequence(&deployment, &namespace).await.unwrap(), hash.finish());
}
on_versions!(capped_collections_keep_their_order);

#[tokio::test]
async fn a_collection_that_is_not_empty_is_an_error_that_says_so() {
    let (_server, deployment) = start("6.0.5").await;
    let namespace = Namespace::new("app", "x");
    insert(&deployment, &namespace, vec![doc! { "_id": 5 }]).await;
    let mut loader = Loader::open(&deployment, &namespace, LoadOptions::default()).await.unwrap();
    loader.insert(numbered(0, 10, 1)).await.unwrap();
    let error = loader.finish().await.unwrap_err();
    assert_eq!(error.code(), Some(11_000));
    assert!(error.to_string().contains("app.x") && error.to_string().contains("not empty"), "{error}");
}

#[tokio::test]
async fn an_error_reaches_whoever_goes_on_inserting() {
    let (_server, deployment) = start("6.0.5").await;
    let namespace = Namespace::new("app", "x");
    insert(&deployment, &namespace, vec![doc! { "_id": 5 }]).await;
    let mut loader =
        Loader::open(&deployment, &namespace, LoadOptions { connections: 2, ..LoadOptions::default() })
            .await
            .unwrap();
    let mut refused = None;
    for n in 0..200 {
        if let Err(error) = loader.insert(numbered(n * 10, n * 10 + 10, 200_000)).await {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused.unwrap().code(), Some(11_000));
    assert_eq!(loader.close().await.unwrap_err().code(), Some(11_000));
}

#[tokio::test]
async fn an_election_during_a_load_is_told() {
    let (server, deployment) = start("6.0.5").await;
    let namespace = Namespace::new("app", "x");
    let mut loader = Loader::open(&deployment, &namespace, LoadOptions::default()).await.unwrap();
    loader.insert(numbered(0, 10, 1)).await.unwrap();
    // Everything sent is written before the election; only the term tells of it.
    while documents(&deployment, &namespace).await.len() < 10 {}
    let step_down = doc! { "replSetStepDown": 1, "secondaryCatchUpPeriodSecs": 0, "force": true };
    deployment.run_admin(step_down).await.unwrap();
    server.primary().await.unwrap();
    let error = loader.finish().await.unwrap_err();
    assert!(matches!(error, Error::TermChanged { before, after } if after > before), "{error:?}");
}

#[tokio::test]
async fn an_aborted_load_has_no_open_connections() {
    let (server, deployment) = start("6.0.5").await;
    let namespace = Namespace::new("app", "x");
    let mut loader = Loader::open(&deployment, &namespace, LoadOptions::default()).await.unwrap();
    for n in 0..40 {
        loader.insert(numbered(n * 10, n * 10 + 10, 300_000)).await.unwrap();
    }
    loader.abort().await;
    let wire_connections = || async {
        let ask = doc! { "aggregate": 1, "pipeline": [
            { "$currentOp": { "idleConnections": true, "allUsers": true } },
            { "$match": { "clientMetadata.driver.name": "ebbtide-wire" } },
        ], "cursor": {} };
        let reply = server.admin(ask).await.unwrap();
        reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().len()
    };
    while wire_connections().await > 0 {}
}
