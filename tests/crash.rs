//! `kill -9` at every named crash point: after a restart the job completes, and nothing is left to clean up by hand.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{path::Path, process::Command};

use bson::{Document, doc};
use support::{Ebbtide, text};
use testbed::{Options, Server, oracle};

/// What anything here may take on a busy machine before the test says that it hangs.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

/// Every name given to `crash::point` in the engine's sources with this prefix.
fn points(prefix: &str) -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/engine/src");
    let mut names: Vec<String> = support::files(&sources)
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| {
            text.split("crash::point(\"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next().map(str::to_owned))
                .collect::<Vec<_>>()
        })
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names.dedup();
    assert!(!names.is_empty(), "no crash point is called {prefix}…");
    names
}

async fn source() -> Server {
    // With access control, so that the write block is raised and its points are reached.
    let server = Server::start(Options::default().with_auth()).await.unwrap();
    let database = server.client().await.unwrap().database("shop");
    for name in ["one", "two", "three"] {
        let documents = (0..500).map(|n| doc! { "_id": n, "text": format!("{name} {n}"), "n": n % 10 });
        database.collection::<Document>(name).insert_many(documents).await.unwrap();
    }
    let index = mongodb::IndexModel::builder().keys(doc! { "n": 1 }).build();
    database.collection::<Document>("one").create_index(index).await.unwrap();
    let series = doc! { "create": "series", "timeseries": { "timeField": "t", "metaField": "m" } };
    database.run_command(series).await.unwrap();
    let points = (0..50).map(|n| doc! { "t": bson::DateTime::from_millis(n * 1000), "m": n % 3, "v": n });
    database.collection::<Document>("series").insert_many(points).await.unwrap();
    database.run_command(doc! { "create": "view", "viewOn": "one", "pipeline": [] }).await.unwrap();
    database.run_command(doc! { "create": "capped", "capped": true, "size": 65536 }).await.unwrap();
    database.collection::<Document>("capped").insert_many((0..20).map(|n| doc! { "_id": n })).await.unwrap();
    server
}

fn without(points: Vec<String>, part: &str) -> Vec<String> {
    points.into_iter().filter(|name| !name.contains(part)).collect()
}

/// A server whose leases run out soon, so that a test need not wait for them.
fn impatient(place: &Path) -> Ebbtide {
    let config = place.join("config.toml");
    std::fs::write(&config, "[jobs]\nlease_seconds = 2\n").unwrap();
    Ebbtide::prepare(place.join("data"), &["--config", config.to_str().unwrap()])
}

/// Asks for a snapshot, and waits for nothing.
fn asked_for_snapshot(ebbtide: &Ebbtide) -> String {
    text(&ebbtide.cli(&["snapshot", "create", "main"]), "id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_survives_a_crash_at_every_point() {
    let server = source().await;
    for point in without(points("snapshot."), "-window") {
        let place = tempfile::tempdir().unwrap();
        let mut ebbtide = impatient(place.path());
        ebbtide.serve(&[]);
        ebbtide.add("main", &server.uri());
        ebbtide.stop();
        let id = ebbtide.ask_then_die(&point, asked_for_snapshot);
        ebbtide.serve(&[]);
        let ended = ebbtide.cli(&["snapshot", "watch", "main", &id]);
        assert_eq!(ended["state"], "completed", "after a crash at {point}: {ended}");
        let verified = support::program().args(["verify", &id]).args(ebbtide.data_flags()).output().unwrap();
        assert!(verified.status.success(), "after a crash at {point}: {}", support::stderr(&verified));
    }
}

/// The time of day of so many hours ago, in whole hours.
fn hours_ago(hours: u64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 3600;
    format!("{:02}:00", (now - hours) % 24)
}

/// Lets the last hours be ones in which nobody looked at the schedules.
fn look_back(catalog: &Path, hours: i64) {
    let forget = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as catalog:\n    \
                  catalog.execute('UPDATE schedules SET handled_until = handled_until - ?', (int(sys.argv[2]),))";
    let milliseconds = (hours * 3_600_000).to_string();
    let done = Command::new("python3").args(["-c", forget]).arg(catalog).arg(milliseconds).output().unwrap();
    assert!(done.status.success(), "{}", support::stderr(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_due_is_taken_once_whatever_dies() {
    let server = source().await;
    for point in points("schedule.") {
        let place = tempfile::tempdir().unwrap();
        let mut ebbtide = impatient(place.path());
        ebbtide.serve(&[]);
        ebbtide.add("main", &server.uri());
        let at = hours_ago(2);
        ebbtide.cli(&["schedule", "set", "main", "--daily", "2d", "--at", &at]);
        ebbtide.stop();
        look_back(&place.path().join("data/catalog.db"), 50);
        ebbtide.serve_to_die(&[("EBBTIDE_CRASH_AT", &point)]);

        ebbtide.serve(&[]);
        let started = std::time::Instant::now();
        let taken = loop {
            let listed = ebbtide.cli(&["snapshot", "list", "main"]);
            let all = listed.as_array().unwrap().clone();
            if all.iter().any(|snapshot| snapshot["state"] == "completed") {
                break all;
            }
            assert!(started.elapsed() < PATIENCE, "after a crash at {point}: {listed}\n{}", ebbtide.log());
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        };
        // Two days were missed, and one snapshot stands for them.
        assert_eq!(taken.len(), 1, "after a crash at {point}: {taken:?}");
        let told = (&taken[0]["snapshotType"], &taken[0]["frequencyType"]);
        assert_eq!(told, (&"scheduled".into(), &"daily".into()));
        assert!(text(&taken[0], "dueAt").ends_with(&format!("T{at}:00Z")), "{taken:?}");
    }
}

/// Longer than a dead server holds the right to a place: eight leases.
const PLACE_HELD: std::time::Duration = std::time::Duration::from_secs(17);

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_whole_or_not_there_whatever_dies() {
    let server = source().await;
    let place = tempfile::tempdir().unwrap();
    let second = place.path().join("second");
    let config = place.path().join("config.toml");
    let text_of = format!("[jobs]\nlease_seconds = 2\n[copies.EU_WEST_1]\nurl = {second:?}\n");
    std::fs::write(&config, text_of).unwrap();
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &["--config", config.to_str().unwrap()]);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    ebbtide.cli(&["schedule", "copy", "main", "--to", "EU_WEST_1", "--latest", "1"]);
    let one = server.client().await.unwrap().database("shop").collection::<Document>("one");
    ebbtide.snapshot("main");
    for point in points("copy.") {
        // The copy of the snapshot before goes when this one comes.
        one.update_many(doc! {}, doc! { "$inc": { "n": 1 } }).await.unwrap();
        let snapshot = ebbtide.snapshot("main");
        ebbtide.stop();
        ebbtide.serve_to_die(&[("EBBTIDE_CRASH_AT", &point)]);
        let manifests = || support::files(&second.join("v1/manifests")).len();
        assert!(manifests() <= 2, "after a crash at {point}");
        std::thread::sleep(PLACE_HELD);
        ebbtide.serve(&[]);
        let started = std::time::Instant::now();
        loop {
            let shown = ebbtide.cli(&["snapshot", "show", "main", &snapshot]);
            if shown["copies"][0]["state"] == "made" && manifests() == 1 {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "after a crash at {point}: {shown}\n{}", ebbtide.log());
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        let verified = support::program()
            .args(["verify", "--all", "--copies-in", "EU_WEST_1", "--output", "json"])
            .args(ebbtide.data_flags())
            .output()
            .unwrap();
        assert!(verified.status.success(), "after a crash at {point}: {}", support::stderr(&verified));
        let told: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(told[0]["snapshotId"], snapshot.as_str(), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_survives_a_crash_at_every_point() {
    let server = source().await;
    let client = server.client().await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let mut ebbtide = impatient(place.path());
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    for point in without(without(points("restore."), ".cancel."), ".rewind.") {
        let shop = client.database("shop");
        shop.collection::<Document>("one").delete_many(doc! { "n": 1 }).await.unwrap();
        shop.collection::<Document>("two").drop().await.unwrap();
        shop.collection::<Document>("extra").insert_one(doc! { "_id": 1 }).await.unwrap();
        client.database("unwanted").collection::<Document>("x").insert_one(doc! { "_id": 1 }).await.unwrap();
        ebbtide.stop();
        let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main"];
        let job = ebbtide.ask_then_die(&point, |idle| text(&idle.cli(&start), "id"));
        ebbtide.serve(&[]);
        let ended = ebbtide.cli(&["restore", "watch", "main", &job]);
        assert_eq!(ended["state"], "finished", "after a crash at {point}: {ended}");
        let differences = oracle::diff(&before, &oracle::state(&client).await.unwrap());
        assert!(differences.is_empty(), "after a crash at {point}: {differences:#?}");
    }
}

/// A rewind that is interrupted is finished by the next attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_survives_a_crash_at_every_point() {
    let server = source().await;
    let client = server.client().await.unwrap();
    let shop = client.database("shop");
    let one = shop.collection::<Document>("one");
    let lasting = doc! { "key": { "t": 1 }, "name": "t", "expireAfterSeconds": 1_000_000 };
    shop.run_command(doc! { "createIndexes": "one", "indexes": [lasting] }).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let mut ebbtide = captured(place.path(), &server);
    for point in points("restore.rewind.") {
        let before = oracle::state(&client).await.unwrap();
        let note = doc! { "appendOplogNote": 1, "data": { "at": &point } };
        let time = client.database("admin").run_command(note).await.unwrap();
        let time = time.get_timestamp("operationTime").unwrap();
        one.delete_many(doc! { "n": 1 }).await.unwrap();
        one.update_many(doc! { "n": 2 }, doc! { "$set": { "bad": true } }).await.unwrap();
        one.insert_one(doc! { "_id": "new" }).await.unwrap();
        let index = doc! { "key": { "bad": 1 }, "name": "bad" };
        shop.run_command(doc! { "createIndexes": "one", "indexes": [index] }).await.unwrap();
        shop.run_command(doc! { "dropIndexes": "one", "index": "n_1" }).await.unwrap();
        shop.collection::<Document>("two").drop().await.unwrap();
        // A server that records nothing takes no time that is not recorded yet.
        ebbtide.serve(&[]);
        ebbtide.until_restorable(time).await;
        ebbtide.stop();
        let at = format!("{},{}", time.time, time.increment);
        let start = ["restore", "start", "main", "--at", &at, "--target", "main", "--rewind", "only"];
        let job = ebbtide.ask_then_die(&point, |idle| text(&idle.cli(&start), "id"));
        ebbtide.serve(&[]);
        let ended = ebbtide.cli(&["restore", "watch", "main", &job]);
        assert_eq!(ended["state"], "finished", "after a crash at {point}: {ended}");
        let differences = oracle::diff(&before, &oracle::state(&client).await.unwrap());
        assert!(differences.is_empty(), "after a crash at {point}: {differences:#?}");
        let told = &ended["receipt"]["rewind"]["documents"];
        let counts = ["inserted", "replaced", "removed"].map(|name| told[name].as_u64().unwrap());
        assert_eq!(counts, [50, 50, 1], "after a crash at {point}: {told}");
        ebbtide.stop();
    }
}

/// A cancel that is interrupted is finished by the next attempt, and the target stays as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_survives_a_crash_at_every_point() {
    let server = source().await;
    let client = server.client().await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let mut ebbtide = impatient(place.path());
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    client.database("shop").collection::<Document>("two").drop().await.unwrap();
    let damaged = oracle::state(&client).await.unwrap();
    for point in points("restore.cancel.") {
        ebbtide.stop();
        // The first death leaves the job staged, so that the cancel surely comes before the cut-over.
        let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main"];
        let job = ebbtide.ask_then_die("restore.after-stage", |idle| text(&idle.cli(&start), "id"));
        // No jobs run here, so that the cancel is accepted before anybody takes the job over.
        ebbtide.serve_idle();
        ebbtide.cli(&["restore", "cancel", "main", &job]);
        let shown = ebbtide.cli(&["restore", "show", "main", &job]);
        assert_eq!(shown["state"], "cancelling", "cancelled is told only when nobody can write any more");
        ebbtide.stop();
        ebbtide.serve_to_die(&[("EBBTIDE_CRASH_AT", &point)]);
        ebbtide.serve(&[]);
        let watched = ebbtide.try_cli(&["restore", "watch", "main", &job]);
        assert_eq!(watched.status.code(), Some(3), "a cancelled job did not end well");
        let ended: serde_json::Value = serde_json::from_slice(&watched.stdout).unwrap();
        assert_eq!(ended["state"], "cancelled", "after a crash at {point}: {ended}");
        let differences = oracle::diff(&damaged, &oracle::state(&client).await.unwrap());
        assert!(differences.is_empty(), "after a crash at {point}: {differences:#?}");
    }
}

/// An export that is interrupted is finished by the next attempt, and has every document once.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_survives_a_crash_at_every_point() {
    let server = source().await;
    // Of several files, so that there is something between them.
    let noise = server.client().await.unwrap().database("shop").collection::<Document>("noise");
    for from in (0..20_000).step_by(2_000) {
        let documents = (from..from + 2_000).map(|n: u64| {
            let bytes = testbed::data::Random::new(n).bytes(1_500);
            doc! { "_id": n as i64, "x": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes } }
        });
        noise.insert_many(documents).await.unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    let exports = place.path().join("exports");
    std::fs::create_dir(&exports).unwrap();
    let config = place.path().join("config.toml");
    let places = format!("[jobs]\nlease_seconds = 2\n[exports.archive]\nurl = \"{}\"\n", exports.display());
    std::fs::write(&config, places).unwrap();
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &["--config", config.to_str().unwrap()]);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let bucket = text(&ebbtide.cli(&["export", "bucket", "add", "archive"]), "_id");
    let start = ["export", "start", "main", "--snapshot", &snapshot, "--bucket", &bucket];
    let whole = ebbtide.cli(&[&start[..], &["--watch"]].concat());
    let contents = |export: &serde_json::Value| -> Vec<_> {
        let directory = exports.join(text(export, "prefix"));
        let mut found: Vec<_> = support::files(&directory)
            .into_iter()
            .map(|path| (path.strip_prefix(&directory).unwrap().to_owned(), std::fs::read(&path).unwrap()))
            .collect();
        found.sort();
        found
    };
    let expected = contents(&whole);
    assert!(expected.iter().any(|(path, _)| path.ends_with("noise/rs0.1.json.gz")), "one file holds all");
    for point in points("export.") {
        ebbtide.stop();
        let asked = ebbtide.ask_then_die(&point, |idle| idle.cli(&start));
        let is_marked = contents(&asked).iter().any(|(path, _)| path.ends_with(".complete"));
        assert_eq!(is_marked, point == "export.after-marker", "after a crash at {point}");
        ebbtide.serve(&[]);
        let ended = ebbtide.cli(&["export", "watch", "main", &text(&asked, "id")]);
        assert_eq!(ended["state"], "successful", "after a crash at {point}: {ended}");
        assert!(contents(&ended) == expected, "other files after a crash at {point}");
    }
}

/// The window that a job raised is put back, wherever the process died.
#[tokio::test(flavor = "multi_thread")]
async fn a_raised_history_window_is_put_back_after_a_crash() {
    let name = "minSnapshotHistoryWindowInSeconds";
    let server = Server::start(Options::default().set_parameter(name, "0")).await.unwrap();
    let database = server.client().await.unwrap().database("shop");
    for from in (0..40).map(|n| n * 2000) {
        let documents = (from..from + 2000).map(|n| doc! { "_id": n, "text": "x".repeat(1000) });
        database.collection::<Document>("large").insert_many(documents).await.unwrap();
    }
    let load =
        testbed::load::Load::start(&server.client().await.unwrap(), &testbed::load::LoadOptions::default());
    for point in points("snapshot.").into_iter().filter(|name| name.contains("-window")) {
        let place = tempfile::tempdir().unwrap();
        let mut ebbtide = impatient(place.path());
        let id = ebbtide.ask_then_die(&point, |idle| {
            idle.add("main", &server.uri());
            asked_for_snapshot(idle)
        });
        ebbtide.serve(&[]);
        let ended = ebbtide.cli(&["snapshot", "watch", "main", &id]);
        assert_eq!(ended["state"], "completed", "after a crash at {point}: {ended}");
        let now = server.admin(doc! { "getParameter": 1, name: 1 }).await.unwrap();
        assert_eq!(now.get_i32(name).unwrap(), 0, "after a crash at {point} the window is not what it was");
    }
    load.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_survives_a_crash_at_every_point() {
    let server = source().await;
    let place = tempfile::tempdir().unwrap();
    let mut ebbtide = impatient(place.path());
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    for point in points("download.") {
        ebbtide.stop();
        let job = ebbtide.ask_then_die(&point, |idle| ask_for_download(idle, &snapshot));
        ebbtide.serve(&[]);
        let ended = ebbtide.cli(&["restore", "watch", "main", &job]);
        assert_eq!(ended["state"], "ready", "after a crash at {point}: {ended}");
        ebbtide.cli(&["restore", "cancel", "main", &job]);
    }
}

/// Asks for an archive, and waits for nothing.
fn ask_for_download(ebbtide: &Ebbtide, snapshot: &str) -> String {
    let body = format!(r#"{{"deliveryType":"download","snapshotId":"{snapshot}"}}"#);
    let path = format!("/api/ebbtide/v1/groups/{}/clusters/main/restoreJobs", ebbtide.project);
    let answer = curl(ebbtide, &["-X", "POST", "-H", "Content-Type: application/json", "-d", &body], &path);
    text(&answer, "id")
}

fn curl(ebbtide: &Ebbtide, arguments: &[&str], path: &str) -> serde_json::Value {
    let user = format!("{}:{}", ebbtide.public_key, ebbtide.private_key);
    let mut command = std::process::Command::new("curl");
    command.args(["-sS", "--digest", "--user", &user, "-H", "Accept: application/vnd.atlas.2025-03-12+json"]);
    let output = command.args(arguments).arg(format!("{}{path}", ebbtide.url())).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stdout)))
}

/// What is recorded of the deployment; waits until it makes something restorable.
fn timeline(ebbtide: &Ebbtide) -> serde_json::Value {
    let begun = std::time::Instant::now();
    loop {
        let shown = ebbtide.cli(&["timeline", "show", "main"]);
        if shown["restorable"].as_array().is_some_and(|ranges| !ranges.is_empty()) {
            return shown;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing becomes restorable: {shown}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn captured(place: &Path, server: &Server) -> Ebbtide {
    let mut ebbtide = impatient(place);
    ebbtide.serve(&[]);
    ebbtide.add("main", &server.uri());
    ebbtide.cli(&["cluster", "update", "main", "--pit", "on"]);
    timeline(&ebbtide);
    ebbtide.stop();
    ebbtide
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_survives_a_crash_at_every_point() {
    let server = source().await;
    let written = server.client().await.unwrap().database("shop").collection::<Document>("written");
    for point in points("capture.") {
        let place = tempfile::tempdir().unwrap();
        let mut ebbtide = captured(place.path(), &server);
        if point == "capture.caught-up" {
            // Only a slice that is recorded and not known to be in the vault is caught up with.
            written.insert_one(doc! { "before": &point }).await.unwrap();
            ebbtide.serve_to_die(&[("EBBTIDE_CRASH_AT", "capture.recorded")]);
        }
        written.insert_one(doc! { "at": &point }).await.unwrap();
        ebbtide.serve_to_die(&[("EBBTIDE_CRASH_AT", &point)]);
        ebbtide.serve(&[]);
        let id = text(&ebbtide.cli(&["snapshot", "create", "main"]), "id");
        let ended = ebbtide.cli(&["snapshot", "watch", "main", &id]);
        assert_eq!(ended["state"], "completed", "after a crash at {point}: {ended}");
        let shown = timeline(&ebbtide);
        let timelines = shown["timelines"].as_array().unwrap();
        assert_eq!(timelines.len(), 1, "after a crash at {point} the record has a gap: {shown}");
        let verified = support::program().args(["verify", &id]).args(ebbtide.data_flags()).output().unwrap();
        assert!(verified.status.success(), "after a crash at {point}: {}", support::stderr(&verified));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_survives_a_crash_at_every_point() {
    let server = source().await;
    let client = server.client().await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let mut ebbtide = captured(place.path(), &server);
    for point in points("fold.") {
        ebbtide.serve(&[]);
        let snapshot = |ebbtide: &Ebbtide| {
            let id = text(&ebbtide.cli(&["snapshot", "create", "main"]), "id");
            (ebbtide.cli(&["snapshot", "watch", "main", &id]), id)
        };
        // What an earlier restore has made anew is in the base, so that little changes in it.
        snapshot(&ebbtide);
        client
            .database("shop")
            .collection::<Document>("one")
            .insert_one(doc! { "at": &point })
            .await
            .unwrap();
        let before = oracle::state(&client).await.unwrap();
        let note = doc! { "appendOplogNote": 1, "data": { "at": &point } };
        let time = client.database("admin").run_command(note).await.unwrap();
        let time = time.get_timestamp("operationTime").unwrap();
        let at = format!("{},{}", time.time, time.increment);
        // What is kept beside its segments is made whole for an archive.
        let kept = (point == "fold.download-whole").then(|| {
            let (ended, id) = snapshot(&ebbtide);
            assert_ne!(ended["notes"]["folded"]["documentsKeptBeside"], 0, "{ended}");
            id
        });
        client.database("shop").collection::<Document>("two").delete_many(doc! {}).await.unwrap();
        // A server that records nothing takes no time that is not recorded yet.
        ebbtide.until_restorable(time).await;
        ebbtide.stop();
        if point.starts_with("fold.snapshot") {
            let id = ebbtide.ask_then_die(&point, asked_for_snapshot);
            ebbtide.serve(&[]);
            let ended = ebbtide.cli(&["snapshot", "watch", "main", &id]);
            assert_eq!(ended["state"], "completed", "after a crash at {point}: {ended}");
        } else if let Some(id) = &kept {
            let job = ebbtide.ask_then_die(&point, |idle| ask_for_download(idle, id));
            ebbtide.serve(&[]);
            let ended = ebbtide.cli(&["restore", "watch", "main", &job]);
            assert_eq!(ended["state"], "ready", "after a crash at {point}: {ended}");
        } else {
            let start = ["restore", "start", "main", "--target", "main", "--at", &at];
            let job = ebbtide.ask_then_die(&point, |idle| text(&idle.cli(&start), "id"));
            ebbtide.serve(&[]);
            let ended = ebbtide.cli(&["restore", "watch", "main", &job]);
            assert_eq!(ended["state"], "finished", "after a crash at {point}: {ended}");
            let differences = oracle::diff(&before, &oracle::state(&client).await.unwrap());
            assert!(differences.is_empty(), "after a crash at {point}: {differences:#?}");
        }
        ebbtide.stop();
    }
}
