//! Exports as they are typed: to a directory and to a bucket of a store that speaks S3, and what is refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{path::Path, process::Command};

use bson::{Document, doc};
use support::{Ebbtide, stderr, text};
use testbed::{
    Options, Server,
    s3::{self, S3},
};

async fn source() -> Server {
    let server = Server::start(Options::default()).await.unwrap();
    let orders = server.client().await.unwrap().database("shop").collection::<Document>("orders");
    orders.insert_many((0..300_i64).map(|n| doc! { "_id": n, "text": format!("order {n}") })).await.unwrap();
    server
}

fn configured(place: &Path, text: &str) -> Ebbtide {
    let config = place.join("config.toml");
    std::fs::write(&config, text).unwrap();
    Ebbtide::prepare(place.join("data"), &["--config", config.to_str().unwrap()])
}

/// All orders are in their file, and the marker says what it has to.
fn is_whole(export: &Path) {
    let unpacked =
        Command::new("gzip").arg("-dc").arg(export.join("shop/orders/rs0.0.json.gz")).output().unwrap();
    assert!(unpacked.status.success(), "{}", stderr(&unpacked));
    let lines = String::from_utf8(unpacked.stdout).unwrap();
    let read = |line: &str| serde_json::from_str::<Document>(line).unwrap();
    let expected = (0..300_i64).map(|n| doc! { "_id": n, "text": format!("order {n}") });
    assert!(lines.lines().map(read).eq(expected), "{lines}");
    let marker = std::fs::read(export.join(".complete")).unwrap();
    let marker: serde_json::Value = serde_json::from_slice(&marker).unwrap();
    assert_eq!(marker["customData"], serde_json::json!([{"key": "purpose", "value": "a=b"}]));
    assert_eq!((&marker["clusterName"], &marker["groupName"]), (&"main".into(), &"shop".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_is_exported_to_a_directory_and_to_a_bucket() {
    let (server, bucket) = (source().await, S3::start().await.unwrap());
    let place = tempfile::tempdir().unwrap();
    let (directory, secret) = (place.path().join("exports"), place.path().join("secret"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(&secret, s3::SECRET).unwrap();
    let config = format!(
        "[exports.here]\nurl = \"{}\"\n[exports.there]\nurl = \"{}\"\nendpoint = \"{}\"\naccess_key_id = \"{}\"\n\
         secret_access_key_file = \"{}\"\nallow_http = true\n",
        directory.display(),
        S3::url(),
        bucket.endpoint,
        s3::ID,
        secret.display()
    );
    let mut ebbtide = configured(place.path(), &config);
    ebbtide.serve(&[("EBBTIDE_LOG", "trace")]);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let mut known = vec![];
    for (name, root) in [("here", directory.clone()), ("there", bucket.objects())] {
        let id = text(&ebbtide.cli(&["export", "bucket", "add", name]), "_id");
        let start =
            ["export", "start", "main", "--snapshot", &snapshot, "--bucket", &id, "--data", "purpose=a=b"];
        let ended = ebbtide.cli(&[&start[..], &["--watch"]].concat());
        assert_eq!(ended["state"], "successful", "{ended}");
        let export = text(&ended, "id");
        assert_eq!(ebbtide.cli(&["export", "watch", "main", &export])["state"], "successful");
        let shown = ebbtide.cli(&["export", "show", "main", &export]);
        assert_eq!((&shown["exportBucketId"], &shown["state"]), (&id.as_str().into(), &"successful".into()));
        is_whole(&root.join(text(&shown, "prefix")));
        known.push((id, export));
    }
    let list = ebbtide.cli(&["export", "list", "main"]);
    let listed: Vec<_> = list.as_array().unwrap().iter().map(|export| text(export, "id")).collect();
    assert_eq!(listed, [known[1].1.as_str(), known[0].1.as_str()], "newest first");
    let (first, second) = (text(&list[0], "prefix"), text(&list[1], "prefix"));
    assert_ne!(first, second, "no two exports have one prefix");
    let buckets = ebbtide.cli(&["export", "bucket", "list"]);
    assert_eq!(buckets.as_array().unwrap().len(), 2);
    ebbtide.cli(&["export", "bucket", "delete", &known[0].0]);
    let buckets = ebbtide.cli(&["export", "bucket", "list"]);
    assert_eq!(text(&buckets[0], "_id"), known[1].0);
    assert!(!ebbtide.log().contains(s3::SECRET), "the log holds the secret key");

    // What a bucket is called has to be configured, and the answer says how.
    let refused = ebbtide.try_cli(&["export", "bucket", "add", "elsewhere"]);
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("EXPORT_BUCKET_NAME_INVALID") && said.contains("[exports.elsewhere]"), "{said}");
    assert!(said.contains("it knows: here, there"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_that_refuses_fails_the_export_and_says_so() {
    let (server, bucket) = (source().await, S3::start().await.unwrap());
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("secret");
    std::fs::write(&secret, "another secret").unwrap();
    let config = format!(
        "[exports.there]\nurl = \"{}\"\nendpoint = \"{}\"\naccess_key_id = \"{}\"\nsecret_access_key_file = \"{}\"\n\
         allow_http = true\n",
        S3::url(),
        bucket.endpoint,
        s3::ID,
        secret.display()
    );
    let mut ebbtide = configured(place.path(), &config);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let id = text(&ebbtide.cli(&["export", "bucket", "add", "there"]), "_id");
    let watched =
        ebbtide.try_cli(&["export", "start", "main", "--snapshot", &snapshot, "--bucket", &id, "--watch"]);
    assert_eq!(watched.status.code(), Some(3), "{}", stderr(&watched));
    let ended: serde_json::Value = serde_json::from_slice(&watched.stdout).unwrap();
    let error = text(&ended, "error");
    assert!(error.contains("the place there for exports cannot be written"), "{error}");
    assert!(error.contains("check the credentials") && !error.contains("another secret"), "{error}");
    assert!(!bucket.objects().exists(), "something was put");
}

#[test]
fn places_that_cannot_be_are_refused_at_the_start() {
    let place = tempfile::tempdir().unwrap();
    for (name, text, said) in [
        ("none", "[exports.archive]\nregion = \"here\"\n", "names no url"),
        ("name", "[exports.\"a b\"]\nurl = \"/backup\"\n", "the name of a place for exports has"),
        ("half", "[exports.archive]\nurl = \"s3://b\"\naccess_key_id = \"A\"\n", "give both or neither"),
        ("odd", "[exports.archive]\nurl = \"ftp://b\"\n", "neither a path nor an s3:// URL"),
        (
            "inside",
            "[vault]\nurl = \"/backup/vault\"\n[exports.archive]\nurl = \"/backup/vault/x\"\n",
            "lies in the vault",
        ),
    ] {
        let place = place.path().join(name);
        std::fs::create_dir(&place).unwrap();
        let config = place.join("config.toml");
        std::fs::write(&config, text).unwrap();
        let mut serve = support::program();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(place.join("data"));
        let output = serve.arg("--config").arg(&config).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{name}: {}", stderr(&output));
    }
}
