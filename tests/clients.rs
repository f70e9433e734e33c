//! The API driven by other people's clients: curl by digest and by OAuth, and the official Atlas Go SDK.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Command;

use bson::{Document, doc};
use support::{Ebbtide, text};
use testbed::{Options, Server};

/// The name of the place that snapshots can be exported to.
const EXPORTS: &str = "archive";

async fn registered() -> (Server, Ebbtide, tempfile::TempDir) {
    let server = Server::start(Options::default()).await.unwrap();
    let orders = server.client().await.unwrap().database("shop").collection::<Document>("orders");
    orders.insert_many((0..100).map(|n| doc! { "_id": n })).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let exports = place.path().join("exports");
    std::fs::create_dir(&exports).unwrap();
    let config = place.path().join("ebbtide.toml");
    std::fs::write(&config, format!("[exports.{EXPORTS}]\nurl = \"{}\"\n", exports.display())).unwrap();
    let ebbtide = Ebbtide::start_with(&["--config", config.to_str().unwrap()], &[]);
    ebbtide.add("main", &server.uri());
    ebbtide.cli(&["cluster", "add", "tenant", "--kind", "serverless", "--uri", &server.uri()]);
    (server, ebbtide, place)
}

fn curl(arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl").args(["-sS", "-w", "\n%{http_code}"]).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.to_owned())
}

/// The lines of the five pages that the product started from, with their own versions.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_lines_of_the_api_pages_work_by_digest_and_by_oauth() {
    let (_server, ebbtide, _place) = registered().await;
    let snapshot = ebbtide.snapshot("main");
    let account =
        ebbtide.admin(&["create-service-account", "--project", &ebbtide.project, "--role", "GROUP_OWNER"]);
    let client = format!("{}:{}", text(&account, "clientId"), text(&account, "clientSecret"));
    let token_url = format!("{}/api/oauth/token", ebbtide.url());
    let (code, body) = curl(&["-u", &client, "-d", "grant_type=client_credentials", &token_url]);
    assert_eq!(code, 200, "{body}");
    let token: serde_json::Value = serde_json::from_str(&body).unwrap();
    let bearer = format!("Authorization: Bearer {}", text(&token, "access_token"));
    let user = format!("{}:{}", ebbtide.public_key, ebbtide.private_key);
    let base = format!("{}/api/atlas/v2/groups/{}", ebbtide.url(), ebbtide.project);
    for credentials in [vec!["--user", &user, "--digest"], vec!["--header", &bearer]] {
        let call = |date: &str, more: &[&str], path: &str| {
            let accept = format!("Accept: application/vnd.atlas.{date}+json");
            let url = format!("{base}{path}");
            let mut arguments = credentials.clone();
            arguments.extend(["--header", &accept]);
            arguments.extend(more);
            arguments.push(&url);
            curl(&arguments)
        };
        let body = format!(r#"{{"deliveryType":"download","snapshotId":"{snapshot}"}}"#);
        let post = ["--header", "Content-Type: application/json", "-X", "POST", "-d", &body];
        let (code, answer) = call("2024-05-30", &post, "/clusters/main/backup/restoreJobs");
        assert_eq!(code, 200, "{answer}");
        let job = text(&serde_json::from_str(&answer).unwrap(), "id");
        let one = format!("/clusters/main/backup/restoreJobs/{job}");
        let (code, answer) = call("2024-11-13", &["-X", "GET"], &format!("{one}?pretty=true"));
        assert_eq!(code, 200);
        assert!(answer.contains("\"id\" : \""), "pretty is pretty: {answer}");
        let (code, answer) = call("2025-03-12", &["-X", "DELETE"], &one);
        assert_eq!((code, answer.as_str()), (204, ""));
        let (code, answer) = call("2024-11-13", &["-X", "GET"], "/clusters/main/restoreJobs?pretty=true");
        assert_eq!(code, 200);
        assert!(answer.contains(&job), "the legacy list shows the job: {answer}");
        let (code, answer) =
            call("2024-11-13", &["-X", "GET"], "/serverless/tenant/backup/restoreJobs?pretty=true");
        assert_eq!(code, 200, "{answer}");
        assert!(answer.contains("\"totalCount\" : 0"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_atlas_go_sdk_is_content() {
    if Command::new("go").arg("version").output().is_err() {
        eprintln!("SKIPPED: no Go toolchain on PATH, so the Atlas Go SDK was not tried");
        return;
    }
    let (_server, ebbtide, _place) = registered().await;
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("drive");
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/atlas-go-sdk");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(sources)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", support::stderr(&built));
    let drive = |credentials: &[(&str, &str)]| {
        let mut command = Command::new(&program);
        command.env("EBBTIDE_URL", ebbtide.url()).env("EBBTIDE_GROUP", &ebbtide.project);
        command.env("EBBTIDE_CLUSTER", "main").env("EBBTIDE_SERVERLESS", "tenant");
        command.env("EBBTIDE_EXPORTS", EXPORTS);
        let output = command.envs(credentials.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}\nserver: {}", support::stderr(&output), ebbtide.log());
    };
    let keys = (ebbtide.public_key.as_str(), ebbtide.private_key.as_str());
    drive(&[("MONGODB_ATLAS_PUBLIC_API_KEY", keys.0), ("MONGODB_ATLAS_PRIVATE_API_KEY", keys.1)]);
    let account =
        ebbtide.admin(&["create-service-account", "--project", &ebbtide.project, "--role", "GROUP_OWNER"]);
    let (id, secret) = (text(&account, "clientId"), text(&account, "clientSecret"));
    drive(&[("MONGODB_ATLAS_CLIENT_ID", &id), ("MONGODB_ATLAS_CLIENT_SECRET", &secret)]);
}
