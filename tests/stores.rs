//! Where snapshots and the catalog are kept: S3-compatible storage, PostgreSQL, and what happens when somebody else
//! has been there.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};

use bson::{Document, doc};
use support::{Ebbtide, stderr, text};
use testbed::{
    Options, Server,
    data::Set,
    oracle,
    s3::{self, S3},
};

const SETS: [Set; 4] = [Set::Indexes, Set::Views, Set::TimeSeries, Set::Bulk];

async fn accident(client: &mongodb::Client) {
    client.database("bulk").drop().await.unwrap();
    client.database("extra").collection::<Document>("x").insert_one(doc! { "_id": 1 }).await.unwrap();
}

async fn source() -> (Server, mongodb::Client) {
    let server = Server::start(Options::default()).await.unwrap();
    let client = server.client().await.unwrap();
    testbed::data::load(&client, 7, &SETS).await.unwrap();
    (server, client)
}

fn verify(ebbtide: &Ebbtide) -> std::process::Output {
    support::program().args(["verify", "--all"]).args(ebbtide.data_flags()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vault_in_a_bucket() {
    let bucket = S3::start().await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let (server, client) = source().await;
    let before = oracle::state(&client).await.unwrap();
    let config = bucket.config(place.path()).unwrap();
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &["--config", config.to_str().unwrap()]);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    assert!(!ebbtide.directory.join("vault").exists(), "a vault beside the bucket");
    let kept = support::files(&bucket.objects());
    assert!(kept.len() > 20, "{} objects", kept.len());
    accident(&client).await;
    assert_eq!(ebbtide.restore("main", &snapshot, "main")["state"], "finished");
    oracle::assert_same(&before, &oracle::state(&client).await.unwrap());

    let archive = place.path().join("main.tar.gz");
    let download = ["restore", "download", "main", "--snapshot", &snapshot, "--file"];
    ebbtide.cli(&[&download[..], &[archive.to_str().unwrap()]].concat());
    let listed = std::process::Command::new("tar").arg("tzf").arg(&archive).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("dump/bulk/random.bson"));

    // What is lost in the bucket is found and named.
    ebbtide.stop();
    let good = verify(&ebbtide);
    assert!(good.status.success(), "{}", stderr(&good));
    let segment = kept.iter().find(|path| path.to_str().unwrap().contains("/segments/")).unwrap();
    std::fs::remove_file(segment).unwrap();
    let bad = verify(&ebbtide);
    assert_eq!(bad.status.code(), Some(1));
    let name = segment.file_name().unwrap().to_str().unwrap();
    let said = stderr(&bad) + &String::from_utf8_lossy(&bad.stdout);
    assert!(said.contains(&name[..12]), "{said} does not name {name}");
    let secret = |text: &str| text.contains(s3::SECRET);
    assert!(!secret(&ebbtide.log()) && !secret(&said), "the secret key is shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_catalog_in_postgresql() {
    let Some(database) = testbed::postgres::Postgres::start() else { return };
    let place = tempfile::tempdir().unwrap();
    let (server, client) = source().await;
    let before = oracle::state(&client).await.unwrap();
    let config = place.path().join("config.toml");
    std::fs::write(&config, "[jobs]\nlease_seconds = 2\n").unwrap();
    let url = database.url("postgres");
    let flags = ["--catalog", &url, "--config", config.to_str().unwrap()];
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &flags);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    assert!(!ebbtide.directory.join("catalog.db").exists(), "a catalog beside the database");
    accident(&client).await;
    // Killed in the middle; the next process finishes it.
    ebbtide.stop();
    let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main"];
    let job = ebbtide.ask_then_die("restore.after-stage", |idle| text(&idle.cli(&start), "id"));
    ebbtide.serve(&[]);
    assert_eq!(ebbtide.cli(&["restore", "watch", "main", &job])["state"], "finished");
    oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
    ebbtide.cli(&["snapshot", "delete", "main", &snapshot]);
    assert!(ebbtide.try_cli(&["snapshot", "show", "main", &snapshot]).status.code().is_some());
    let good = verify(&ebbtide);
    assert!(good.status.success(), "{}", stderr(&good));
}

/// The vault's path of the largest segment that holds documents of a collection with this much in it, by size.
fn segments_by_size(vault: &Path) -> Vec<PathBuf> {
    let mut segments = support::files(&vault.join("v1/segments"));
    segments.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    segments
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_object_put_in_the_place_of_another_is_found() {
    let (server, client) = source().await;
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let segments = segments_by_size(&ebbtide.directory.join("vault"));
    let (one, other) = (std::fs::read(&segments[0]).unwrap(), std::fs::read(&segments[1]).unwrap());
    std::fs::write(&segments[0], &other).unwrap();
    std::fs::write(&segments[1], &one).unwrap();
    accident(&client).await;
    let damaged = oracle::state(&client).await.unwrap();
    let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main", "--watch"];
    let failed = ebbtide.try_cli(&start);
    assert_eq!(failed.status.code(), Some(3), "{}", stderr(&failed));
    let shown: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert!(shown["error"].as_str().unwrap().contains("is damaged"), "{shown:#}");
    oracle::assert_same(&damaged, &oracle::state(&client).await.unwrap());
    let bad = verify(&ebbtide);
    assert_eq!(bad.status.code(), Some(1));
    let said = stderr(&bad) + &String::from_utf8_lossy(&bad.stdout);
    for segment in &segments[..2] {
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(&name[..12]), "{said} does not name {name}");
    }
    // Put right, everything is as it was.
    std::fs::write(&segments[0], one).unwrap();
    std::fs::write(&segments[1], other).unwrap();
    assert_eq!(ebbtide.restore("main", &snapshot, "main")["state"], "finished");
}

#[test]
fn a_vault_of_another_key_or_another_catalog_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| Ebbtide::prepare(place.path().join(name), &[]));
    let serve = |arguments: &[&str]| {
        let mut command = support::program();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", one.directory.to_str().unwrap()]);
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let (vault, key) = (other.directory.join("vault"), other.directory.join("master.key"));
    let (vault, key) = (vault.to_str().unwrap(), key.to_str().unwrap());
    let said = serve(&["--vault", vault]);
    assert!(said.contains("belongs to the master key") && said.contains(vault), "{said}");
    let said = serve(&["--vault", vault, "--master-key-file", key]);
    assert!(said.contains("this catalog is about vault"), "{said}");
    // A disk that is not mounted is an empty directory, and no new vault.
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = serve(&["--vault", empty.to_str().unwrap()]);
    assert!(said.contains("there is no vault"), "{said}");
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "nothing was made there");
}
