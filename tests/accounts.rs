//! Accounts as the documentation makes them: the printed roles are enough, what is missing is told, certificates work.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use bson::{Bson, Document, doc};
use support::{Ebbtide, stderr};
use testbed::{Options, Server, TlsOptions, data::Set, oracle};

const SETS: [Set; 9] = [
    Set::Indexes,
    Set::Views,
    Set::Validators,
    Set::Collations,
    Set::Capped,
    Set::Clustered,
    Set::TimeSeries,
    Set::SystemJs,
    Set::Principals,
];

/// The command out of a line that `ebbtide` prints for mongosh.
fn command(line: &str, call: &str) -> Document {
    let json = line.trim().strip_prefix(&format!("db.getSiblingDB(\"admin\").{call}("));
    let json = json.unwrap_or_else(|| panic!("no {call} in {line:?}")).strip_suffix(')').unwrap();
    match Bson::try_from(serde_json::from_str::<serde_json::Value>(json).unwrap()).unwrap() {
        Bson::Document(command) => command,
        other => panic!("{other}"),
    }
}

/// Runs what `ebbtide cluster role` prints; the role's name.
async fn make_role(server: &Server, purpose: &str, version: &str) -> String {
    let output = support::program()
        .args(["cluster", "role", "--purpose", purpose, "--mongodb", version])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let command = command(&String::from_utf8(output.stdout).unwrap(), "runCommand");
    let name = command.get_str("createRole").unwrap().to_owned();
    server.admin(command).await.unwrap();
    name
}

async fn accident(client: &mongodb::Client) {
    let indexes = client.database("indexes");
    indexes.collection::<Document>("plain").drop().await.unwrap();
    indexes.collection::<Document>("unique").delete_many(doc! { "n": { "$gt": 5 } }).await.unwrap();
    client.database("timeseries").drop().await.unwrap();
    client.database("views").collection::<Document>("new").insert_one(doc! { "_id": 1 }).await.unwrap();
    client.database("unwanted").collection::<Document>("x").insert_one(doc! { "_id": 1 }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_roles_are_enough() {
    for version in ["5.0.4", "6.0.5"] {
        let server = Server::start(Options::version(version).with_auth()).await.unwrap();
        let client = server.client().await.unwrap();
        testbed::data::load(&client, 7, &SETS).await.unwrap();
        let ebbtide = Ebbtide::start();
        for purpose in ["backup", "restore", "restore-users"] {
            let role = make_role(&server, purpose, version).await;
            let user = doc! { "createUser": purpose, "pwd": "secret", "roles": [role] };
            server.admin(user).await.unwrap();
            ebbtide.add(purpose, &server.uri_for(purpose, "secret"));
        }
        let before = oracle::state(&client).await.unwrap();
        let snapshot = ebbtide.snapshot("backup");

        accident(&client).await;
        let job = ebbtide.restore("backup", &snapshot, "restore");
        oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
        let fence = if version.starts_with('6') { "raised" } else { "none" };
        assert_eq!(job["receipt"]["fence"]["state"], fence, "{version}: {job:#}");
        assert_eq!(job["receipt"]["foreignWrites"]["count"], 0, "{version}: {job:#}");

        // An account that was dropped comes back when asked for, and one made since goes.
        let victim = before.users.keys().find(|id| id.starts_with("principals.")).unwrap();
        let (db, name) = victim.split_once('.').unwrap();
        client.database(db).run_command(doc! { "dropUser": name }).await.unwrap();
        accident(&client).await;
        let start = ["restore", "start", "backup", "--snapshot", &snapshot, "--watch", "--target"];
        let without = ebbtide.cli(&[&start[..], &["restore"]].concat());
        assert_eq!(without["state"], "finished");
        assert!(!oracle::state(&client).await.unwrap().users.contains_key(victim), "nobody asked for users");
        let with = ebbtide.cli(&[&start[..], &["restore-users", "--with-users"]].concat());
        assert_eq!(with["state"], "finished");
        oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_lacks_is_told_with_what_mends_it() {
    let server = Server::start(Options::default().with_auth()).await.unwrap();
    let client = server.client().await.unwrap();
    testbed::data::load(&client, 7, &[Set::Views]).await.unwrap();
    let user = doc! { "createUser": "ann", "pwd": "first", "roles": ["readAnyDatabase"] };
    server.admin(user).await.unwrap();
    let mut ebbtide = Ebbtide::start();
    let uri = server.uri_for("ann", "first");
    let refused = ebbtide.try_text(&["cluster", "add", "main", "--uri", &uri]);
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(said.contains("appendOplogNote") && !said.contains("first"), "{said}");

    // The two commands, as they are told.
    let told = |call: &str| {
        let start = format!("db.getSiblingDB(\"admin\").{call}(");
        let at = said.find(&start).unwrap_or_else(|| panic!("no {call} in {said}"));
        said[at..].lines().next().unwrap().to_owned()
    };
    let mut role = command(&told("createRole"), "createRole");
    let name = role.remove("role").unwrap();
    let mut create = doc! { "createRole": name.clone() };
    create.extend(role);
    server.admin(create).await.unwrap();
    assert!(told("grantRolesToUser").contains("\"ann\""), "{said}");
    server.admin(doc! { "grantRolesToUser": "ann", "roles": [name.clone()] }).await.unwrap();
    ebbtide.add("main", &uri);
    let snapshot = ebbtide.snapshot("main");

    // A privilege that is taken away later is missed by name, and nothing is stored as complete.
    server.admin(doc! { "revokeRolesFromUser": "ann", "roles": [name.clone()] }).await.unwrap();
    let failed = ebbtide.try_cli(&["snapshot", "create", "main", "--watch"]);
    assert_eq!(failed.status.code(), Some(3), "{}", stderr(&failed));
    let shown: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(shown["state"], "failed");
    let error = shown["error"].as_str().unwrap();
    assert!(error.contains("the account lacks appendOplogNote") && error.contains("createRole"), "{error}");
    server.admin(doc! { "grantRolesToUser": "ann", "roles": [name] }).await.unwrap();

    // So is a password that no longer holds, which is said in no message and no log.
    server.admin(doc! { "updateUser": "ann", "pwd": "second" }).await.unwrap();
    for words in [
        ["snapshot", "create", "main", "--watch"].to_vec(),
        ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main", "--watch"].to_vec(),
    ] {
        let failed = ebbtide.try_cli(&words);
        assert_eq!(failed.status.code(), Some(3), "{}", stderr(&failed));
        let shown: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
        let error = shown["error"].as_str().unwrap().to_lowercase();
        assert!(error.contains("authentication") || error.contains("credentials"), "{shown}");
    }
    ebbtide.stop();
    assert!(
        !ebbtide.log().contains("ann:first") && !ebbtide.log().contains("\"first\""),
        "{}",
        ebbtide.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_accounts_too() {
    for version in ["6.0.5", "5.0.4"] {
        let tls = Some(TlsOptions { require_client_certificate: true });
        let server = Server::start(Options { tls, ..Options::version(version).with_auth() }).await.unwrap();
        let client = server.client().await.unwrap();
        testbed::data::load(&client, 7, &[Set::Indexes, Set::Views, Set::TimeSeries, Set::Capped])
            .await
            .unwrap();
        let roles =
            [make_role(&server, "backup", version).await, make_role(&server, "restore", version).await];
        let roles = roles.map(|role| doc! { "role": role, "db": "admin" });
        let subject = testbed::tls::Certificates::CLIENT_SUBJECT;
        let user = doc! { "createUser": subject, "roles": roles.to_vec() };
        client.database("$external").run_command(user).await.unwrap();
        let before = oracle::state(&client).await.unwrap();
        let ebbtide = Ebbtide::start();
        ebbtide.add("main", &server.uri_x509().unwrap());
        let snapshot = ebbtide.snapshot("main");
        accident(&client).await;
        assert_eq!(ebbtide.restore("main", &snapshot, "main")["state"], "finished");
        oracle::assert_same(&before, &oracle::state(&client).await.unwrap());

        // Without a certificate, or in clear, nobody gets in, and the reason is told.
        let plain = format!("mongodb://{}/?replicaSet=rs0&serverSelectionTimeoutMS=2000", server.host_port());
        for uri in [plain.clone(), format!("{plain}&tls=true")] {
            let refused = ebbtide.try_cli(&["cluster", "add", "other", "--uri", &uri]);
            assert_eq!(refused.status.code(), Some(1), "{uri} was taken");
            assert!(stderr(&refused).contains(&server.host_port()), "{}", stderr(&refused));
        }
    }
}
