//! What the oplog says about collections that were read.

use bson::{Document, doc};
use mongo::{DdlKind, Error, ddl, listing, time};
use testbed::{Options, Server};

use crate::support::{connect, connected, fill, info, natural, on_each_version, said, sorted};

on_each_version!(a_vanished_collection_reads_back_empty_and_is_found_out, all_ddl_is_seen);

/// The trap that this module is there for: what it protects from is shown first.
async fn a_vanished_collection_reads_back_empty_and_is_found_out(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    for name in ["dropped", "renamed", "replaced", "recreated", "kept"] {
        fill(&client, &format!("app.{name}"), 300, 1).await;
    }
    let pinned = listing::pin(&deployment).await.unwrap();
    let app = client.database("app");
    app.collection::<Document>("dropped").drop().await.unwrap();
    let rename = async |from: &str, to: &str, drop: bool| {
        let rename =
            doc! { "renameCollection": format!("app.{from}"), "to": format!("app.{to}"), "dropTarget": drop };
        client.database("admin").run_command(rename).await.unwrap();
    };
    rename("renamed", "elsewhere", false).await;
    fill(&client, "app.new", 1, 1).await;
    rename("new", "replaced", true).await;
    app.collection::<Document>("recreated").drop().await.unwrap();
    fill(&client, "app.recreated", 5, 1).await;
    app.run_command(doc! { "createIndexes": "kept", "indexes": [{ "key": { "x": 1 }, "name": "x" }] })
        .await
        .unwrap();
    app.run_command(doc! { "collMod": "kept", "validationLevel": "off" }).await.unwrap();
    app.run_command(doc! { "dropIndexes": "kept", "index": "x" }).await.unwrap();

    let now = time::majority_now(&deployment).await.unwrap();
    let events = ddl::between(&deployment, pinned.at, now).await.unwrap();
    let mut wire = deployment.read_wire().await.unwrap();
    for collection in &pinned.collections {
        let disturbed = events.iter().any(|event| event.disturbs(&collection.uuid.unwrap()));
        let name = collection.namespace.collection.as_str();
        assert_eq!(disturbed, name != "kept", "{name}: {events:?}");
        match sorted(&mut wire, collection, pinned.at).await {
            Ok(documents) if name == "kept" => assert_eq!(documents.len(), 300),
            // Empty, or the wrong collection's, and no error: exactly why the oplog is asked.
            Ok(documents) => assert!(documents.len() < 300, "{name}"),
            Err(error) => assert!(
                matches!(error, Error::SnapshotUnavailable { .. }) && name != "kept",
                "{name}: {error}"
            ),
        }
    }
}

async fn all_ddl_is_seen(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    fill(&client, "app.x", 5, 1).await;
    let from = time::majority_now(&deployment).await.unwrap();
    let app = client.database("app");
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let in_transaction = app.collection::<Document>("made_in_transaction");
    in_transaction.insert_one(doc! { "_id": 1 }).session(&mut session).await.unwrap();
    app.collection::<Document>("x").insert_one(doc! { "_id": 77 }).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    app.run_command(doc! { "create": "v", "viewOn": "x", "pipeline": [] }).await.unwrap();
    app.run_command(doc! { "collMod": "x", "validationLevel": "off" }).await.unwrap();
    app.run_command(doc! { "createIndexes": "x", "indexes": [{ "key": { "x": 1 }, "name": "x" }] })
        .await
        .unwrap();
    app.run_command(doc! { "dropIndexes": "x", "index": "x" }).await.unwrap();
    app.run_command(doc! { "convertToCapped": "x", "size": 10_000 }).await.unwrap();
    let uuid = info(&deployment, "app.x").await.uuid.unwrap();
    client.database("other").create_collection("y").await.unwrap();
    client.database("other").drop().await.unwrap();
    let to = time::majority_now(&deployment).await.unwrap();

    let events = ddl::between(&deployment, from, to).await.unwrap();
    let seen = |kind: &DdlKind, collection: Option<&str>| {
        events.iter().any(|event| event.kind == *kind && event.collection.as_deref() == collection)
    };
    assert!(seen(&DdlKind::Create, Some("made_in_transaction")), "{events:#?}");
    assert!(seen(&DdlKind::ViewWrite, Some("system.views")));
    assert!(seen(&DdlKind::CollMod, Some("x")));
    assert!(seen(&DdlKind::IndexesCreated, Some("x")));
    assert!(seen(&DdlKind::IndexesDropped, Some("x")));
    assert!(
        events.iter().any(|event| matches!(event.kind, DdlKind::Rename { .. }) && event.disturbs(&uuid)),
        "{events:#?}"
    );
    assert!(seen(&DdlKind::Drop, Some("y")) && seen(&DdlKind::DropDatabase, None));
    assert!(events.is_sorted_by_key(|event| event.at));
    assert!(events.iter().all(|event| event.at > from && event.at <= to));
    // The bounds: exclusive below, inclusive above.
    let first = events[0].at;
    assert_eq!(ddl::between(&deployment, from, first).await.unwrap()[0].at, first);
    assert!(ddl::between(&deployment, first, to).await.unwrap().iter().all(|event| event.at > first));
    let mut wire = deployment.read_wire().await.unwrap();
    // And nothing is made up: writes alone are no DDL.
    fill(&client, "app.made_in_transaction_too", 1, 1).await;
    let quiet = time::majority_now(&deployment).await.unwrap();
    client
        .database("app")
        .collection::<Document>("made_in_transaction")
        .insert_one(doc! { "_id": 2 })
        .await
        .unwrap();
    let now = time::majority_now(&deployment).await.unwrap();
    assert_eq!(ddl::between(&deployment, quiet, now).await.unwrap(), []);
    let collection = info(&deployment, "app.made_in_transaction").await;
    assert_eq!(natural(&mut wire, &collection, now).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_oplog_that_has_rolled_over_is_a_gap_and_not_silence() {
    // The server truncates in its own time, and never behind its last checkpoint.
    let every_second = vec!["--syncdelay".to_owned(), "1".to_owned()];
    let server = Server::start(Options { oplog_mb: Some(1), arguments: every_second, ..Options::default() })
        .await
        .unwrap();
    let deployment = connect(&server.uri()).await.unwrap();
    let client = server.client().await.unwrap();
    let from = time::majority_now(&deployment).await.unwrap();
    loop {
        client.database("app").collection::<Document>("x").drop().await.unwrap();
        fill(&client, "app.x", 2000, 1000).await;
        let to = time::majority_now(&deployment).await.unwrap();
        match ddl::between(&deployment, from, to).await {
            Ok(_) => continue,
            // The oplog was cut under the search itself; whoever searches again hears of the gap.
            Err(Error::CursorLost { .. }) => continue,
            Err(error) => {
                let (error, text) = said::<()>(Err(error));
                assert!(matches!(error, Error::OplogGap { .. }) && !error.is_transient(), "{text}");
                break;
            }
        }
    }
}
