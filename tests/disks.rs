//! Disks that are full: an error that says so, nothing lost, and all is well once there is space.
//!
//! Small file systems in memory stand for the disks; whoever may not mount them skips this, and says so.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{process::Command, time::Instant};

use bson::{Document, doc};
use support::{Ebbtide, stderr, text};
use testbed::{Disk, Options, Server, oracle};

async fn insert(server: &Server, name: &str, documents: u32) {
    // Random enough not to be compressed away.
    let filler = |n: u32| -> Vec<u8> {
        let mut random = testbed::data::Random::new(u64::from(n) + 1);
        random.bytes(10_000)
    };
    let binary = |n| bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: filler(n) };
    let collection = server.client().await.unwrap().database("shop").collection::<Document>(name);
    collection.insert_many((0..documents).map(|n| doc! { "_id": n, "filler": binary(n) })).await.unwrap();
}

fn failed(ebbtide: &Ebbtide, words: &[&str]) -> String {
    let output = ebbtide.try_cli(words);
    assert_eq!(output.status.code(), Some(3), "{}{}", stderr(&output), ebbtide.log());
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["state"], "failed", "{shown:#}");
    text(&shown, "error")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_the_vault_is_full() {
    let Some(disk) = Disk::mount(8).unwrap() else { return };
    let server = Server::start(Options::default()).await.unwrap();
    insert(&server, "small", 50).await;
    let client = server.client().await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    let vault = disk.path().join("vault");
    let place = tempfile::tempdir().unwrap();
    let flags = ["--vault", vault.to_str().unwrap()];
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &flags);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let good = ebbtide.snapshot("main");
    insert(&server, "large", 2_000).await;
    let error = failed(&ebbtide, &["snapshot", "create", "main", "--watch"]);
    assert!(error.contains("no space is left") && error.contains(vault.to_str().unwrap()), "{error}");

    // What was there is whole, and can be restored: reading needs no space.
    let verified = support::program().args(["verify", "--all"]).args(ebbtide.data_flags()).output().unwrap();
    assert!(verified.status.success(), "{}", stderr(&verified));
    assert_eq!(ebbtide.restore("main", &good, "main")["state"], "finished");
    oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
    let ballast = disk.fill().unwrap();
    let error = failed(&ebbtide, &["restore", "download", "main", "--snapshot", &good]);
    assert!(error.contains("no space is left"), "{error}");

    std::fs::remove_file(ballast).unwrap();
    let larger = Command::new("mount").args(["-o", "remount,size=64m"]).arg(disk.path()).status().unwrap();
    assert!(larger.success());
    insert(&server, "large", 2_000).await;
    let now = oracle::state(&client).await.unwrap();
    let snapshot = ebbtide.snapshot("main");
    client.database("shop").drop().await.unwrap();
    assert_eq!(ebbtide.restore("main", &snapshot, "main")["state"], "finished");
    oracle::assert_same(&now, &oracle::state(&client).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_the_catalog_is_full() {
    let Some(disk) = Disk::mount(16).unwrap() else { return };
    let server = Server::start(Options::default()).await.unwrap();
    insert(&server, "small", 50).await;
    let place = tempfile::tempdir().unwrap();
    let vault = place.path().join("vault");
    let mut ebbtide = Ebbtide::prepare(disk.path().join("data"), &["--vault", vault.to_str().unwrap()]);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let first = ebbtide.snapshot("main");

    // The log of the server is on that disk too: that it cannot be written ends nothing.
    let ballast = disk.fill().unwrap();
    // SQLite goes on in the room that its files have already, for a while.
    let began = Instant::now();
    let refused = loop {
        let output = ebbtide.try_cli(&["snapshot", "create", "main", "--watch"]);
        if !output.status.success() {
            break stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        }
        assert!(began.elapsed() < support::PATIENCE, "the catalog is never full");
    };
    assert!(refused.contains("the disk is full"), "{refused}");
    assert_eq!(ebbtide.cli(&["snapshot", "show", "main", &first])["state"], "completed", "reading goes on");

    std::fs::remove_file(ballast).unwrap();
    // Whatever was under way when the space ran out goes on or fails, and then the next one works.
    let began = Instant::now();
    let second = loop {
        let output = ebbtide.try_cli(&["snapshot", "create", "main", "--watch"]);
        if output.status.success() {
            break text(&serde_json::from_slice(&output.stdout).unwrap(), "id");
        }
        assert!(began.elapsed() < support::PATIENCE, "{}{}", stderr(&output), ebbtide.log());
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    let client = server.client().await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    for snapshot in [&first, &second] {
        client.database("shop").drop().await.unwrap();
        assert_eq!(ebbtide.restore("main", snapshot, "main")["state"], "finished");
        oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_the_copies_is_full() {
    let Some(disk) = Disk::mount(8).unwrap() else { return };
    let server = Server::start(Options::default()).await.unwrap();
    insert(&server, "large", 1_000).await;
    let client = server.client().await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let (second, config) = (disk.path().join("second"), place.path().join("config.toml"));
    std::fs::write(&config, format!("[copies.EU_WEST_1]\nurl = {second:?}\n")).unwrap();
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &["--config", config.to_str().unwrap()]);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    ebbtide.cli(&["schedule", "copy", "main", "--to", "EU_WEST_1", "--of", "on-demand"]);
    let snapshot = ebbtide.snapshot("main");
    let copy_when = |is_so: &dyn Fn(&serde_json::Value) -> bool| {
        let began = Instant::now();
        loop {
            let shown = ebbtide.cli(&["snapshot", "show", "main", &snapshot]);
            assert_eq!(shown["state"], "completed", "the snapshot itself is whole");
            if is_so(&shown["copies"][0]) {
                return shown["copies"][0].clone();
            }
            // A minute passes before it is tried again, and half a one before it is looked for.
            assert!(began.elapsed() < 2 * support::PATIENCE, "{shown:#}\n{}", ebbtide.log());
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    };
    let hindered = copy_when(&|copy| copy["lastError"].is_string());
    let why = text(&hindered, "lastError");
    assert!(why.contains("no space is left") && why.contains(second.to_str().unwrap()), "{why}");
    assert_ne!(hindered["state"], "made");

    // Tried again by itself once there is room, and then as good as any.
    let larger = Command::new("mount").args(["-o", "remount,size=64m"]).arg(disk.path()).status().unwrap();
    assert!(larger.success());
    copy_when(&|copy| copy["state"] == "made");
    ebbtide.stop();
    let verify = ["verify", "--all", "--copies-in", "EU_WEST_1"];
    let verified = support::program().args(verify).args(ebbtide.data_flags()).output().unwrap();
    assert!(verified.status.success(), "{}", stderr(&verified));
    ebbtide.serve(&[]);
    client.database("shop").drop().await.unwrap();
    assert_eq!(ebbtide.restore("main", &snapshot, "main")["state"], "finished");
    oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_room_is_refused_before_anything_is_written() {
    // The server's own files take 300 MB of it.
    let Some(disk) = Disk::mount(500).unwrap() else { return };
    let source = Server::start(Options::default()).await.unwrap();
    let words = source.client().await.unwrap().database("shop").collection::<Document>("words");
    // Digits of random numbers: the vault halves them, the server does not, and the index takes them once more.
    let mut random = testbed::data::Random::new(7);
    for batch in 0..20_i32 {
        let text = |random: &mut testbed::data::Random| hex::encode(random.bytes(500));
        let rows = (0..1000).map(|n| doc! { "_id": batch * 1000 + n, "text": text(&mut random) });
        words.insert_many(rows.collect::<Vec<_>>()).await.unwrap();
    }
    let index = doc! { "createIndexes": "words", "indexes": [{ "key": { "text": 1 }, "name": "text" }] };
    source.client().await.unwrap().database("shop").run_command(index).await.unwrap();
    // What is in memory only has no size on disk yet.
    source.admin(doc! { "fsync": 1 }).await.unwrap();
    let options = Options { directory: Some(disk.path().join("data")), ..Options::default() };
    let target = Server::start(options).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.add("source", &source.uri());
    ebbtide.add("target", &target.uri());
    let snapshot = ebbtide.snapshot("source");
    let shown = ebbtide.cli(&["snapshot", "show", "source", &snapshot]);
    let in_vault = shown["storedBytes"].as_u64().unwrap();
    let needed = shown["notes"]["sourceDiskBytes"].as_u64().unwrap() / 4 * 3;
    assert!(needed > in_vault + (4 << 20), "the indexes were forgotten: {needed} and {in_vault}");

    // Room for what the vault holds, and not for what becomes of it.
    let stats = target.admin(doc! { "dbStats": 1 }).await.unwrap();
    let free = (stats.get_f64("fsTotalSize").unwrap() - stats.get_f64("fsUsedSize").unwrap()) as u64;
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0_u8; (free - in_vault.midpoint(needed)) as usize]).unwrap();
    let before = oracle::state(&target.client().await.unwrap()).await.unwrap();
    let start = ["restore", "start", "source", "--snapshot", &snapshot, "--target", "target", "--watch"];
    let error = failed(&ebbtide, &start);
    assert!(error.contains("has room for") && error.contains("inPlace"), "{error}");
    assert_eq!(oracle::state(&target.client().await.unwrap()).await.unwrap(), before);

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(ebbtide.restore("source", &snapshot, "target")["state"], "finished");
    let state = async |server: &Server| oracle::state(&server.client().await.unwrap()).await.unwrap();
    oracle::assert_same(&state(&source).await, &state(&target).await);
}
