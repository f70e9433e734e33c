//! The server itself: every shape that the other tests rely on starts, and leaves nothing behind.
#![allow(clippy::unwrap_used)]

use bson::doc;
use testbed::{Options, Server, TlsOptions};

fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/stat")).exists()
}

#[tokio::test]
async fn a_set_of_one_starts_writes_and_is_gone_afterwards() {
    for version in testbed::SUPPORTED_VERSIONS {
        let server = Server::start(Options::version(version)).await.unwrap();
        let client = server.client().await.unwrap();
        client.database("a").collection("b").insert_one(doc! { "_id": 1 }).await.unwrap();
        let info = server.admin(doc! { "buildInfo": 1 }).await.unwrap();
        assert_eq!(info.get_str("version").unwrap(), version);
        let (pid, data) = (server.pid(0).await.unwrap(), server.data_directory(0));
        server.shut_down();
        assert!(!exists(pid) && !data.exists());
    }
}

#[tokio::test]
async fn three_members_with_auth_elect_another_when_one_dies() {
    let server = Server::start(Options::default().with_auth().members(3)).await.unwrap();
    let nobody = mongodb::Client::with_uri_str(server.uri_without_user()).await.unwrap();
    assert!(nobody.database("a").run_command(doc! { "listCollections": 1 }).await.is_err());
    let primary = server.primary().await.unwrap();
    server.kill(primary).await.unwrap();
    assert_ne!(server.primary().await.unwrap(), primary);
    server.restart(primary).await.unwrap();
    server.wait_for_members().await.unwrap();
    let stepped_down = server.step_down(60).await.unwrap();
    assert_ne!(server.primary().await.unwrap(), stepped_down);
    server.pause(stepped_down).await.unwrap();
    server.resume(stepped_down).await.unwrap();
    server.stop(stepped_down).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_a_user() {
    let tls = Some(TlsOptions { require_client_certificate: true });
    let server = Server::start(Options { tls, auth: true, ..Options::default() }).await.unwrap();
    let user = doc! { "createUser": testbed::tls::Certificates::CLIENT_SUBJECT, "roles": [{ "role": "root", "db": "admin" }] };
    server.client().await.unwrap().database("$external").run_command(user).await.unwrap();
    let client = mongodb::Client::with_uri_str(server.uri_x509().unwrap()).await.unwrap();
    client.database("a").collection("b").insert_one(doc! { "_id": 1 }).await.unwrap();
}

#[tokio::test]
async fn a_standalone_and_the_old_version_start() {
    let server = Server::start(Options::default().members(0)).await.unwrap();
    assert!(!server.admin(doc! { "hello": 1 }).await.unwrap().contains_key("setName"));
    let old = Server::start(Options::version(testbed::TOO_OLD_VERSION)).await.unwrap();
    old.admin(doc! { "ping": 1 }).await.unwrap();
}

#[tokio::test]
async fn a_missing_version_says_what_to_run() {
    let error = Server::start(Options::version("3.2.1")).await.unwrap_err();
    assert!(error.to_string().contains("cargo xtask mongod 3.2.1"), "{error}");
}
