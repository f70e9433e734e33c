//! Who is let in, what is refused, and what the refusal says.

use std::time::Duration;

use bson::{doc, rawdoc};
use mongo::{ConnectOptions, Deployment, Error, Uri, wire::InsertOptions};
use testbed::{Options, Server, TlsOptions};

use crate::support::{connect, connected, on_each_version, said, server};

on_each_version!(only_the_right_password_opens, certificates_and_tls);

async fn only_the_right_password_opens(version: &str) {
    let server = Server::start(Options::version(version).with_auth()).await.unwrap();
    let right = connect(&server.uri()).await.unwrap();
    assert!(right.identity().auth_enabled);
    let facts = right.facts().await.unwrap();
    assert_eq!(facts.authenticated_user, Some(("admin".to_owned(), testbed::server::ROOT_USER.to_owned())));
    assert_eq!(facts.version_text, version);
    assert_eq!(facts.fcv, version[..3]);
    assert_eq!(facts.engine, "wiredTiger");
    assert_eq!(facts.cache_bytes, 256 << 20);
    assert_eq!((facts.members.len(), facts.members[0].state.as_str()), (1, "PRIMARY"));
    assert!(facts.replica_set_id.is_some_and(|id| id.len() == 24) && facts.oplog_bytes_max > 0);
    assert!(facts.oplog.is_some_and(|(first, last)| first < last));

    for wrong in [server.uri_for(testbed::server::ROOT_USER, "no"), server.uri_for("nobody", "no")] {
        let (error, text) = said(connect(&wrong).await);
        assert!(matches!(error, Error::Authentication(_)), "{text}");
    }
    let (error, text) = said(connect(&server.uri_without_user()).await);
    assert!(matches!(error, Error::Authentication(_)), "{text}");

    // SHA-1 alone, SHA-256 alone, and a password that SASLprep changes.
    for (user, password, mechanisms) in [
        ("old", "päss", vec!["SCRAM-SHA-1"]),
        ("new", "I\u{ad}X\u{2168} ü@:/", vec!["SCRAM-SHA-256"]),
        ("both", "x", vec!["SCRAM-SHA-1", "SCRAM-SHA-256"]),
    ] {
        server
            .admin(doc! { "createUser": user, "pwd": password, "roles": ["root"], "mechanisms": mechanisms })
            .await
            .unwrap();
        let deployment = connect(&server.uri_for(user, password)).await.unwrap();
        deployment.primary_wire().await.unwrap();
    }
}

async fn certificates_and_tls(version: &str) {
    let options = Options { tls: Some(TlsOptions::default()), ..Options::version(version).with_auth() };
    let server = Server::start(options).await.unwrap();
    let subject = testbed::tls::Certificates::CLIENT_SUBJECT;
    let user = doc! { "createUser": subject, "roles": [{ "role": "root", "db": "admin" }] };
    server.client().await.unwrap().database("$external").run_command(user).await.unwrap();
    let by_certificate = connect(&server.uri_x509().unwrap()).await.unwrap();
    assert!(by_certificate.identity().tls);
    let facts = by_certificate.facts().await.unwrap();
    assert_eq!(facts.authenticated_user.unwrap().0, "$external");
    // The data plane logs in by itself.
    let mut wire = by_certificate.primary_wire().await.unwrap();
    let document = rawdoc! { "_id": 1 };
    let reply =
        wire.insert_sequence("app", "x", document.as_bytes(), &InsertOptions::default()).await.unwrap();
    assert_eq!(reply.inserted, 1);
    connect(&server.uri()).await.unwrap();

    let plain = format!("mongodb://{}/?replicaSet=rs0", server.host_port());
    let (error, text) = said(connect(&plain).await);
    assert!(matches!(error, Error::Unreachable { .. }), "{text}");
    let unknown_authority = format!("{plain}&tls=true");
    let (error, text) = said(connect(&unknown_authority).await);
    assert!(matches!(error, Error::Unreachable { .. }) && text.contains("TLS"), "{text}");
    // Anybody's certificate will do: the connection gets as far as asking who we are.
    let (error, text) = said(connect(&format!("{unknown_authority}&tlsAllowInvalidCertificates=true")).await);
    assert!(matches!(error, Error::Authentication(_)), "{text}");
    let (error, text) = said(connect(&format!("{unknown_authority}&tlsCAFile=/nowhere.pem")).await);
    assert!(matches!(error, Error::InvalidUri(_)) && text.contains("/nowhere.pem"), "{text}");
}

#[tokio::test]
async fn what_is_no_replica_set_of_a_supported_version_is_refused() {
    let standalone = Server::start(Options::default().members(0)).await.unwrap();
    let (error, text) = said(connect(&standalone.uri()).await);
    assert!(matches!(error, Error::Unsupported(_)) && text.contains("standalone"), "{text}");
    drop(standalone);

    let old = server(testbed::TOO_OLD_VERSION).await;
    let (error, text) = said(connect(&old.uri()).await);
    assert!(
        matches!(error, Error::Unsupported(_)) && text.contains("4.4.2") && text.contains("5.0"),
        "{text}"
    );
    drop(old);

    let shard = Server::start(Options { arguments: vec!["--shardsvr".to_owned()], ..Options::default() })
        .await
        .unwrap();
    let identity = doc! {
        "_id": "shardIdentity", "shardName": "one", "clusterId": bson::oid::ObjectId::new(),
        "configsvrConnectionString": "cfg/127.0.0.1:1",
    };
    let versions = shard.client().await.unwrap().database("admin").collection("system.version");
    versions.insert_one(identity).await.unwrap();
    let (error, text) = said(async { connect(&shard.uri()).await?.facts().await }.await);
    assert!(matches!(error, Error::Unsupported(_)) && text.contains("shard"), "{text}");
    drop(shard);

    let set = server("6.0.5").await;
    let (error, text) = said(connect(&format!("mongodb://{}/?replicaSet=other", set.host_port())).await);
    assert!(
        matches!(error, Error::InvalidUri(_)) && text.contains("other") && text.contains("rs0"),
        "{text}"
    );
}

#[tokio::test]
async fn nobody_there() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (error, text) =
        said(connect(&format!("mongodb://ann:s3cret@127.0.0.1:{port}/?replicaSet=rs0")).await);
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient());
    assert!(
        text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused") && !text.contains("s3cret"),
        "{text}"
    );

    // Something that accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = Uri::parse(&format!("mongodb://{}", silent.local_addr().unwrap())).unwrap();
    let options = ConnectOptions { connect_timeout: Duration::from_millis(300), ..ConnectOptions::default() };
    let (error, _) = said(Deployment::connect(&uri, &options).await);
    assert!(matches!(error, Error::Unreachable { .. }));
}

#[tokio::test]
async fn the_data_plane_keeps_in_step_and_passes_errors_on() {
    let (_server, _client, deployment) = connected("6.0.5").await;
    let mut wire = deployment.primary_wire().await.unwrap();
    let (error, text) = said(wire.command(&rawdoc! { "nope": 1, "$db": "app" }).await.map(drop));
    assert_eq!(error.code(), Some(59), "{text}");
    let twice = rawdoc! { "_id": 1 };
    let documents = [twice.as_bytes(), twice.as_bytes(), rawdoc! { "_id": 2 }.as_bytes()].concat();
    let reply = wire
        .insert_sequence(
            "app",
            "x",
            &documents,
            &InsertOptions { majority: true, ..InsertOptions::default() },
        )
        .await
        .unwrap();
    assert_eq!((reply.inserted, reply.errors.len()), (2, 1));
    assert_eq!((reply.errors[0].index, reply.errors[0].code), (1, 11_000));
    assert_eq!(deployment.term().await.unwrap(), 1);

    // A reply that nobody waited for must not be taken for the next one's.
    let slow = rawdoc! { "find": "x", "filter": { "$where": "sleep(2000)||true" }, "$db": "app" };
    assert!(tokio::time::timeout(Duration::from_millis(100), wire.command(&slow)).await.is_err());
    let (error, _) = said(wire.command(&rawdoc! { "ping": 1, "$db": "admin" }).await.map(drop));
    assert!(error.is_transient());
    let mut impatient = deployment.primary_wire().await.unwrap();
    impatient.set_reply_timeout(Duration::from_millis(100));
    let (error, _) = said(impatient.command(&slow).await.map(drop));
    assert!(matches!(error, Error::TimedOut { .. }));
}

#[tokio::test]
async fn reads_go_where_the_connection_string_says_and_writes_follow_the_primary() {
    let server = Server::start(Options::default().members(3)).await.unwrap();
    let deployment = connect(&format!("{}&readPreference=secondary", server.uri())).await.unwrap();
    let primary = deployment.primary_wire().await.unwrap();
    let mut secondary = deployment.read_wire().await.unwrap();
    assert_ne!(primary.host(), secondary.host());
    assert_eq!(primary.host(), server.host_port_of(server.primary().await.unwrap()));

    // An exact read on a secondary waits until the secondary knows the time.
    crate::support::fill(&server.client().await.unwrap(), "app.x", 300, 10).await;
    let pinned = mongo::listing::pin(&deployment).await.unwrap();
    let collection = &pinned.collections[0];
    let documents = crate::support::sorted(&mut secondary, collection, pinned.at).await.unwrap();
    assert_eq!(documents.len(), 300);

    let term = deployment.term().await.unwrap();
    server.step_down(60).await.unwrap();
    server.primary().await.unwrap();
    let after = loop {
        match deployment.primary_wire().await {
            Ok(wire) => break wire,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_ne!(after.host(), primary.host());
    assert!(deployment.term().await.unwrap() > term);
    // All readers of a job stay with one member, until it goes away.
    assert_eq!(deployment.read_wire().await.unwrap().host(), secondary.host());
    let gone = server.index_of(secondary.host()).unwrap();
    server.kill(gone).await.unwrap();
    let elsewhere = loop {
        match deployment.read_wire().await {
            Ok(wire) => break wire,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_ne!(elsewhere.host(), secondary.host());
    // The old connection is to a secondary now, or closed; either way the caller knows what to do.
    let mut old = primary;
    let (error, text) = said(mongo::time::majority_now_on(&mut old).await);
    assert!(error.is_transient(), "{text}");
}
