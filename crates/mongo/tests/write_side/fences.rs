//! The write block, and what others write nevertheless.

use std::time::Duration;

use bson::{Document, doc};
use bytes::Bytes;
use mongo::{
    Deployment, Error, Namespace,
    fence::{BlockState, FenceOutcome, OwnWrites, WriteBlock, foreign_writes},
    time::majority_now,
    write::{LoadOptions, Loader, collections, staging::staging_name},
};
use testbed::Server;

use crate::{connect, connect_with, insert, on_versions, start, start_with_auth};

const JOB: &str = "5f4007f327a3bd7b6f4103c5";

fn fence_privileges(actions: &[&str]) -> Vec<Document> {
    vec![doc! { "resource": { "cluster": true }, "actions": actions }]
}

async fn connect_plain(server: &Server) -> Deployment {
    server
        .admin(doc! { "createUser": "plain", "pwd": "p", "roles": ["readWriteAnyDatabase"] })
        .await
        .unwrap();
    connect(&server.uri_for("plain", "p")).await
}

async fn may_write(deployment: &Deployment) -> bool {
    let insert = doc! { "insert": "x", "documents": [{}], "writeConcern": { "w": 1 } };
    let reply = deployment.run("app", insert).await.unwrap();
    !reply.contains_key("writeErrors")
}

#[tokio::test]
async fn keeps_others_out_and_lets_us_write() {
    let (server, root) = start_with_auth("6.0.5").await;
    let actions = ["setUserWriteBlockMode", "bypassWriteBlockingMode", "serverStatus", "appendOplogNote"];
    let ours = connect_with(&server, fence_privileges(&actions), vec!["readWriteAnyDatabase"]).await;
    let plain = connect_plain(&server).await;
    let before = WriteBlock::state(&ours).await.unwrap();
    assert_eq!(before, BlockState::Off);
    let outcome = WriteBlock::raise(&ours, Duration::from_secs(10)).await.unwrap();
    let FenceOutcome::Raised { fenced_at } = outcome else { panic!("{outcome:?}") };
    assert!(may_write(&ours).await && !may_write(&plain).await);
    // A restore that finds it on leaves it alone.
    let found = WriteBlock::state(&root).await.unwrap();
    assert_eq!(found, BlockState::On);
    assert!(
        matches!(WriteBlock::raise(&root, Duration::from_secs(10)).await.unwrap(), FenceOutcome::AlreadyOn { fenced_at: later } if later > fenced_at)
    );
    WriteBlock::lift(&root, &found).await.unwrap();
    assert!(!may_write(&plain).await);

    // A bypass holder's writes are found, ours under staging names are not.
    insert(&root, &Namespace::new("app", "orders"), vec![doc! { "_id": 1 }]).await;
    insert(&root, &Namespace::new("app", staging_name(JOB, 1)), vec![doc! { "_id": 1 }]).await;
    let until = majority_now(&root).await.unwrap();
    let own = OwnWrites { ddl: ["app.x".to_owned()].into(), ..OwnWrites::default() };
    let found = foreign_writes(&root, fenced_at, until, &own).await.unwrap();
    let told: Vec<_> =
        found.first.iter().map(|write| (write.operation.as_str(), write.namespace.as_str())).collect();
    assert_eq!(told, [("insert", "app.x"), ("create", "app.orders"), ("insert", "app.orders")]);
    assert_eq!(found.count, 3);

    for _again in 0..2 {
        WriteBlock::lift(&ours, &before).await.unwrap();
        assert!(may_write(&plain).await);
    }
}

#[tokio::test]
async fn an_open_transaction_ends_the_wait_and_leaves_no_block() {
    let (_server, root) = start_with_auth("6.0.5").await;
    insert(&root, &Namespace::new("app", "x"), vec![doc! { "_id": 1 }]).await;
    let mut session = root.driver().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let x = root.driver().database("app").collection::<Document>("x");
    x.update_one(doc! { "_id": 1 }, doc! { "$set": { "a": 1 } }).session(&mut session).await.unwrap();
    let error = WriteBlock::raise(&root, Duration::from_millis(1500)).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }) && error.to_string().contains("transactions"), "{error}");
    assert_eq!(WriteBlock::state(&root).await.unwrap(), BlockState::Off);
    session.abort_transaction().await.unwrap();
}

#[tokio::test]
async fn is_unavailable_where_it_would_stop_us() {
    let reason = |state: BlockState| match state {
        BlockState::Unavailable { reason } => reason,
        other => panic!("{other:?}"),
    };
    let (_open, open) = start("6.0.5").await;
    assert!(reason(WriteBlock::state(&open).await.unwrap()).contains("authentication"));
    let (old_server, old) = start_with_auth("5.0.4").await;
    assert!(reason(WriteBlock::state(&old).await.unwrap()).contains("5.0.4"));
    drop(old_server);
    let (server, _root) = start_with_auth("6.0.5").await;
    let lacking =
        connect_with(&server, fence_privileges(&["setUserWriteBlockMode", "serverStatus"]), vec![]).await;
    assert!(reason(WriteBlock::state(&lacking).await.unwrap()).contains("bypassWriteBlockingMode"));
    let outcome = WriteBlock::raise(&lacking, Duration::from_secs(1)).await.unwrap();
    assert!(matches!(outcome, FenceOutcome::Unavailable { .. }));
}

async fn our_own_writes_are_known_by_their_sessions(version: &str) {
    let (_server, deployment) = start(version).await;
    let namespace = Namespace::new("app", "x");
    let since = majority_now(&deployment).await.unwrap();
    collections::create(&deployment, "app", "x", b"\x05\0\0\0\0", None).await.unwrap();
    let options = LoadOptions { mark_as: Some(JOB.to_owned()), ..LoadOptions::default() };
    let mut loader = Loader::open(&deployment, &namespace, options).await.unwrap();
    let zero = bson::Timestamp { time: 0, increment: 0 };
    let documents: Vec<_> = (0..5000)
        .map(|n| {
            if n % 2 == 0 {
                bson::rawdoc! { "_id": n }
            } else {
                bson::rawdoc! { "_id": n, "t": zero }
            }
            .into_bytes()
        })
        .collect();
    loader.insert(Bytes::from(documents.concat())).await.unwrap();
    loader.finish().await.unwrap();
    let until = majority_now(&deployment).await.unwrap();
    let own = OwnWrites { job: JOB.to_owned(), ddl: ["app.x".to_owned()].into(), ..OwnWrites::default() };
    assert_eq!(foreign_writes(&deployment, since, until, &own).await.unwrap().count, 0);
    // To another job, all of it is foreign.
    let other = OwnWrites { job: "other".to_owned(), ..OwnWrites::default() };
    let found = foreign_writes(&deployment, since, until, &other).await.unwrap();
    assert_eq!((found.count, found.first.len()), (5001, 100));

    let mut session = deployment.driver().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let x = deployment.driver().database("app").collection::<Document>("x");
    x.delete_one(doc! { "_id": 1 }).session(&mut session).await.unwrap();
    x.insert_one(doc! { "_id": 1 }).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    let found =
        foreign_writes(&deployment, until, majority_now(&deployment).await.unwrap(), &own).await.unwrap();
    let told: Vec<_> = found.first.iter().map(|write| write.operation.as_str()).collect();
    assert_eq!(told, ["delete", "insert"]);
    let long_ago = bson::Timestamp { time: 1, increment: 1 };
    assert!(matches!(foreign_writes(&deployment, long_ago, until, &own).await, Err(Error::OplogGap { .. })));
}
on_versions!(our_own_writes_are_known_by_their_sessions);
