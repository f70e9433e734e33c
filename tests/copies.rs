//! Copies in another vault, as somebody uses them: asked for, seen, looked through, and restored from when all else is lost.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bson::{Document, doc};
use support::{Ebbtide, stderr};
use testbed::{
    Options, Server,
    data::Set,
    oracle,
    s3::{self, S3},
};

/// What anything here may take on a busy machine before the test says that it hangs.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);
const SETS: [Set; 4] = [Set::Indexes, Set::Views, Set::TimeSeries, Set::Bulk];

fn configured(place: &Path) -> (PathBuf, PathBuf) {
    let (second, config) = (place.join("second"), place.join("config.toml"));
    std::fs::write(&config, format!("[copies.EU_WEST_1]\nurl = {second:?}\n")).unwrap();
    (second, config)
}

async fn until_copied(ebbtide: &Ebbtide, snapshot: &str) {
    let started = std::time::Instant::now();
    loop {
        let shown = ebbtide.cli(&["snapshot", "show", "main", snapshot]);
        if shown["copies"][0]["state"] == "made" {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{shown}\n{}", ebbtide.log());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

fn verify(ebbtide: &Ebbtide, words: &[&str]) -> std::process::Output {
    support::program().arg("verify").args(words).args(ebbtide.data_flags()).output().unwrap()
}

/// Damages the vault, one object of every kind and what is more; all of it comes back from the copy. How many objects those were.
fn mended(ebbtide: &Ebbtide, second: &Path) -> usize {
    let vault = ebbtide.directory.join("vault");
    let mut damaged = 0;
    for kind in ["segments", "pages", "manifests", "slices"] {
        let files = support::files(&vault.join("v1").join(kind)).into_iter();
        let copied = files.filter(|file| second.join(file.strip_prefix(&vault).unwrap()).exists());
        for (n, file) in copied.enumerate().filter(|(n, _)| n % 3 == 0) {
            damaged += 1;
            if n % 2 == 0 {
                std::fs::remove_file(&file).unwrap();
            } else {
                let mut bytes = std::fs::read(&file).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&file, bytes).unwrap();
            }
        }
    }
    assert_eq!(verify(ebbtide, &["--all"]).status.code(), Some(1));
    let done = verify(ebbtide, &["--all", "--mend-from", "EU_WEST_1"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("put back from the copies in EU_WEST_1"), "{said}{}", stderr(&done));
    assert!(done.status.success(), "{said}{}", stderr(&done));
    assert!(verify(ebbtide, &["--all"]).status.success());
    damaged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_is_restored_from_the_copy_when_the_rest_is_lost() {
    let server = Server::start(Options::default()).await.unwrap();
    let client = server.client().await.unwrap();
    testbed::data::load(&client, 7, &SETS).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let (second, config) = configured(place.path());
    let flags = ["--config", config.to_str().unwrap()];
    let mut old = Ebbtide::prepare(place.path().join("data"), &flags);
    old.serve(&[]);
    old.cli(&["cluster", "add", "main", "--uri", &server.uri(), "--pit"]);
    let copy = ["schedule", "copy", "main", "--to", "EU_WEST_1", "--of", "on-demand", "--oplogs"];
    assert_eq!(old.cli(&copy)["copySettings"][0]["frequencies"], serde_json::json!(["ON_DEMAND"]));
    let note = doc! { "appendOplogNote": 1, "data": { "msg": "here" }, "writeConcern": { "w": "majority" } };
    let begun = server.admin(note.clone()).await.unwrap().get_timestamp("operationTime").unwrap();
    old.until_restorable(begun).await;
    let snapshot = old.snapshot("main");
    until_copied(&old, &snapshot).await;

    // Later than the snapshot, and in the record alone.
    let late = client.database("late").collection::<Document>("things");
    late.insert_one(doc! { "_id": 1 }).await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    let at = server.admin(note).await.unwrap().get_timestamp("operationTime").unwrap();
    old.until_restorable(at).await;
    let second_one = old.snapshot("main");
    until_copied(&old, &second_one).await;
    old.stop();
    let names = |vault: &Path| {
        let files = support::files(&vault.join("v1/slices")).into_iter();
        files.map(|file| file.file_name().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let recorded = names(&old.directory.join("vault"));
    // A first look after that time copies what was recorded until then.
    old.serve(&[]);
    let started = std::time::Instant::now();
    while !recorded.is_subset(&names(&second)) {
        assert!(started.elapsed() < PATIENCE, "{}", old.log());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    old.stop();
    let good = verify(&old, &["--all", "--copies-in", "EU_WEST_1"]);
    let said = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(good.status.success() && said.contains("timeline"), "{said}{}", stderr(&good));
    let told = mended(&old, &second);
    assert!(told > 8, "{told} objects of {snapshot} and of the record");
    for (words, why) in [
        (["--all", "--copies-in", "EU_WEST_2"], "[copies.EU_WEST_2]"),
        (["000000000000000000000000", "--copies-in", "EU_WEST_1"], "has no copy in EU_WEST_1"),
        (["--all", "--copies-in", "nowhere"], "capital letters"),
    ] {
        let refused = verify(&old, &words);
        assert!(!refused.status.success() && stderr(&refused).contains(why), "{}", stderr(&refused));
    }

    let (project, key) = (old.project.clone(), place.path().join("key"));
    std::fs::rename(old.directory.join("master.key"), &key).unwrap();
    std::fs::remove_dir_all(&old.directory).unwrap();
    client.database("bulk").drop().await.unwrap();
    late.insert_one(doc! { "_id": 2 }).await.unwrap();

    let flags = ["--vault", second.to_str().unwrap(), "--master-key-file", key.to_str().unwrap()];
    let data = place.path().join("new");
    let rebuilt = support::program()
        .args(["admin", "rebuild-catalog", "--data-dir", data.to_str().unwrap()])
        .args(flags)
        .output()
        .unwrap();
    assert!(rebuilt.status.success(), "{}", stderr(&rebuilt));
    let mut new = Ebbtide::on(data, &flags);
    new.project = project;
    new.new_key();
    new.serve(&[]);
    new.add("main", &server.uri());
    let point = format!("{},{}", at.time, at.increment);
    let started = new.cli(&["restore", "start", "main", "--at", &point, "--target", "main", "--watch"]);
    assert_eq!(started["state"], "finished", "{started}");
    oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
    drop(old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_master_key_is_that_of_the_copies_too() {
    let server = Server::start(Options::default()).await.unwrap();
    let client = server.client().await.unwrap();
    testbed::data::load(&client, 7, &[Set::Indexes]).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let (second, config) = configured(place.path());
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &["--config", config.to_str().unwrap()]);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    ebbtide.cli(&["schedule", "copy", "main", "--to", "EU_WEST_1", "--latest", "2"]);
    let snapshot = ebbtide.snapshot("main");
    until_copied(&ebbtide, &snapshot).await;
    ebbtide.stop();
    ebbtide.admin(&["key", "rotate"]);
    let good = verify(&ebbtide, &[&snapshot, "--copies-in", "EU_WEST_1"]);
    assert!(good.status.success(), "{}", stderr(&good));
    // One that is away is told of it later, and whoever changes the key is told so.
    let aside = place.path().join("aside");
    std::fs::rename(&second, &aside).unwrap();
    let away =
        support::program().args(["admin", "key", "rotate"]).args(ebbtide.data_flags()).output().unwrap();
    assert!(away.status.success() && stderr(&away).contains("EU_WEST_1"), "{}", stderr(&away));
    std::fs::rename(&aside, &second).unwrap();
    assert!(!verify(&ebbtide, &[&snapshot, "--copies-in", "EU_WEST_1"]).status.success());
    ebbtide.serve(&[]);
    let next = ebbtide.snapshot("main");
    until_copied(&ebbtide, &next).await;
    ebbtide.stop();
    let good = verify(&ebbtide, &["--all", "--copies-in", "EU_WEST_1"]);
    assert!(good.status.success(), "{}", stderr(&good));
    let said = stderr(&good) + &String::from_utf8_lossy(&good.stdout);
    assert!(said.contains(&snapshot) && said.contains(&next), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_that_refuses_its_key_is_told_of_and_tried_again() {
    let bucket = S3::start().await.unwrap();
    let server = Server::start(Options::default()).await.unwrap();
    testbed::data::load(&server.client().await.unwrap(), 7, &[Set::Indexes]).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let (secret, config) = (place.path().join("secret"), place.path().join("config.toml"));
    let text = format!(
        "[copies.EU_WEST_1]\nurl = \"{}\"\nendpoint = \"{}\"\naccess_key_id = \"{}\"\n\
         secret_access_key_file = {secret:?}\nallow_http = true\n",
        S3::url(),
        bucket.endpoint,
        s3::ID
    );
    std::fs::write(&config, text).unwrap();
    const OUTDATED: &str = "the secret of last year";
    std::fs::write(&secret, OUTDATED).unwrap();
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &["--config", config.to_str().unwrap()]);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    ebbtide.cli(&["schedule", "copy", "main", "--to", "EU_WEST_1", "--of", "on-demand"]);
    let snapshot = ebbtide.snapshot("main");
    let started = std::time::Instant::now();
    let why = loop {
        let shown = ebbtide.cli(&["snapshot", "show", "main", &snapshot]);
        assert_eq!(shown["state"], "completed", "the snapshot itself is whole");
        if let Some(why) = shown["copies"][0]["lastError"].as_str() {
            break why.to_owned();
        }
        assert!(started.elapsed() < PATIENCE, "{shown}\n{}", ebbtide.log());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert!(why.contains(s3::BUCKET), "{why}");
    assert!(why.contains("check the credentials"), "{why}");
    assert!(!why.contains(OUTDATED) && !ebbtide.log().contains(OUTDATED), "the secret is shown");

    ebbtide.stop();
    std::fs::write(&secret, s3::SECRET).unwrap();
    ebbtide.serve(&[]);
    until_copied(&ebbtide, &snapshot).await;
    ebbtide.stop();
    assert!(verify(&ebbtide, &["--all", "--copies-in", "EU_WEST_1"]).status.success());
}

#[test]
fn a_place_that_cannot_be_one_is_refused_at_the_start() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let inside = data.join("vault/copies");
    for (tables, why) in [
        (format!("[copies.EU_WEST_1]\nurl = {inside:?}\n"), "lies in the vault"),
        (format!("[copies.EU_WEST_1]\nurl = {data:?}\n"), "is another vault"),
        ("[copies.A1]\nurl = \"/x/a\"\n[copies.B1]\nurl = \"/x/a/b\"\n".to_owned(), "is another vault"),
        ("[copies.EU_WEST_1]\nregion = \"eu\"\n".to_owned(), "names no url"),
        ("[copies.eu]\nurl = \"/x\"\n".to_owned(), "capital letters"),
    ] {
        let config = place.path().join("config.toml");
        std::fs::write(&config, &tables).unwrap();
        let mut serve = support::program();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()]);
        let refused = serve.arg("--data-dir").arg(&data).output().unwrap();
        assert!(!refused.status.success() && stderr(&refused).contains(why), "{tables}{}", stderr(&refused));
    }
}
