//! Elections and rollbacks under capture: what a majority never had is in no slice, and what it has is in one.
#![allow(clippy::unwrap_used)]

use crate::{capture_support, support};

use std::path::Path;

use bson::{Bson, Document, doc};
use capture_support::{
    Running, assert_whole, based, captured, captured_bench, caught_up, current, folded, settings, shown,
    switch, until,
};
use catalog::Page;
use model::timeline::TimelineEnd;
use support::{Bench, documents, engine::engine::wall_clock};
use testbed::{
    Options, Server,
    load::{Load, LoadOptions},
};

/// Longer than a server takes to notice.
const FAIL_POINT_PATIENCE_MS: i32 = 120_000;

/// Three members that may be told to stop replicating.
fn three() -> Options {
    Options::version("6.0.5").members(3).set_parameter("enableTestCommands", "1")
}

/// Holds up what these members take over from the primary, or lets it go on. They go on to answer, so nobody steps down.
async fn replication(server: &Server, members: &[usize], on: bool) {
    for member in members {
        let admin = server.direct_client(*member).await.unwrap().database("admin");
        let mode = if on { "off" } else { "alwaysOn" };
        let set = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
        let entered = admin.run_command(set).await.unwrap();
        if !on {
            let entered = support::number(entered.get("count").unwrap()) + 1;
            let wait = doc! { "waitForFailPoint": "stopReplProducer", "timesEntered": entered, "maxTimeMS": FAIL_POINT_PATIENCE_MS };
            admin.run_command(wait).await.unwrap();
        }
    }
}

/// Waits until capture has looked into the oplog, at a time after now.
async fn looked(bench: &Bench) {
    let since = wall_clock();
    until(bench, "capture looks into the oplog", || async {
        let read_at: model::WallTime = serde_json::from_value(shown(bench).await["readAt"].clone()).ok()?;
        (read_at > since).then_some(())
    })
    .await;
}

fn has(entries: &[Vec<u8>], what: &str) -> bool {
    entries.iter().any(|entry| entry.windows(what.len()).any(|part| part == what.as_bytes()))
}

async fn only_timeline(bench: &Bench) {
    let all = bench.catalog.timelines().list(bench.deployment, Page::default()).await.unwrap().items;
    assert_eq!(all.len(), 1, "one timeline all along: {all:?}");
    assert_eq!(all[0].ended, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_rollback_takes_away_was_never_recorded() {
    let bench = captured_bench(three()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    based(&bench).await;
    bench.fill("app", "before", documents(50, 100, |n| Bson::Int64(n as i64))).await;

    let old = bench.server.primary().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|member| *member != old).collect();
    replication(&bench.server, &others, false).await;
    let app = bench.server.direct_client(old).await.unwrap().database("app");
    for command in [
        doc! { "insert": "things", "documents": [{ "_id": "lost", "text": "written-to-be-lost" }] },
        doc! { "update": "things", "updates": [{ "q": { "_id": 7_i64 }, "u": { "$set": { "text": "written-to-be-lost" } } }] },
        doc! { "delete": "before", "deletes": [{ "q": {}, "limit": 0 }] },
        doc! { "create": "written-to-be-lost" },
    ] {
        let mut command = command;
        command.insert("writeConcern", doc! { "w": 1 });
        app.run_command(command).await.unwrap();
    }
    looked(&bench).await;
    bench.server.kill(old).await.unwrap();
    replication(&bench.server, &others, true).await;

    let new = bench.server.primary().await.unwrap();
    assert_ne!(new, old);
    bench.fill("app", "after", documents(50, 100, |n| Bson::Int64(n as i64))).await;
    bench.server.restart(old).await.unwrap();
    let rolled_back =
        bench.server.direct_client(old).await.unwrap().database("app").collection::<Document>("things");
    until(&bench, "the old primary rolls back", || async {
        matches!(rolled_back.find_one(doc! { "_id": "lost" }).await, Ok(None)).then_some(())
    })
    .await;
    bench.server.wait_for_members().await.unwrap();

    let timeline = caught_up(&bench).await;
    let snapshot = folded(&bench).await;
    running.stop().await;
    only_timeline(&bench).await;
    assert!(
        !has(&captured(&bench, &timeline).await, "written-to-be-lost"),
        "the record has what was rolled back"
    );
    assert_whole(&bench, &timeline).await;
    for namespace in ["app.things", "app.before", "app.after"] {
        bench.assert_exact(&snapshot, namespace).await;
    }
    assert_eq!(bench.documents(&snapshot, "app.before").await.len(), 50);
    bench.assert_verifies(&snapshot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_death_of_the_primary_under_load_makes_no_gap_and_no_double() {
    let bench = captured_bench(three()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    based(&bench).await;
    let load = Load::start(&bench.client, &LoadOptions::default());
    for _ in 0..2 {
        load.wait_for(200).await;
        let primary = bench.server.primary().await.unwrap();
        bench.server.kill(primary).await.unwrap();
        assert_ne!(bench.server.primary().await.unwrap(), primary);
        load.wait_for(200).await;
        bench.server.restart(primary).await.unwrap();
        bench.server.wait_for_members().await.unwrap();
    }
    load.stop().await.unwrap();
    let timeline = caught_up(&bench).await;
    let snapshot = folded(&bench).await;
    running.stop().await;
    only_timeline(&bench).await;
    assert!(timeline.end.term > timeline.start.term, "nobody was elected: {timeline:?}");
    assert_whole(&bench, &timeline).await;
    bench.assert_exact(&snapshot, "load.counters").await;
    bench.assert_exact(&snapshot, "app.things").await;
    bench.assert_verifies(&snapshot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_set_that_was_put_back_from_an_older_copy_ends_the_timeline_and_a_new_one_begins() {
    let bench = captured_bench(Options::version("6.0.5")).await;
    let running = Running::start(bench.engine(settings(&bench)));
    based(&bench).await;
    let first = caught_up(&bench).await;
    let (data, copy) = (bench.server.data_directory(0), bench.dir.path().join("copy"));
    bench.server.stop(0).await.unwrap();
    copy_directory(&data, &copy);
    bench.server.restart(0).await.unwrap();
    bench.server.wait_for_members().await.unwrap();
    bench.fill("app", "things", documents(100, 100, |n| Bson::String(format!("lost {n}")))).await;
    let last = caught_up(&bench).await;
    assert_eq!(last.id, first.id, "a restart ends nothing");

    bench.server.stop(0).await.unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    copy_directory(&copy, &data);
    bench.server.restart(0).await.unwrap();
    bench.server.wait_for_members().await.unwrap();
    bench.fill("app", "after", documents(50, 100, |n| Bson::Int64(n as i64))).await;
    let second = until(&bench, "a new timeline begins", || async {
        current(&bench).await.filter(|timeline| timeline.id != first.id)
    })
    .await;
    let timelines = bench.catalog.timelines();
    let (_, range) = until(&bench, "the new timeline gets its base", || async {
        timelines
            .ranges(bench.deployment)
            .await
            .unwrap()
            .into_iter()
            .find(|(timeline, _)| timeline.id == second.id)
    })
    .await;
    assert!(range.from >= second.start.time);
    let ended = timelines.get(first.id).await.unwrap().unwrap();
    let end = ended.ended.clone().expect("it has ended");
    assert_eq!(end.reason, TimelineEnd::RolledBack);
    assert!(end.detail.contains(&last.end.term.to_string()), "{}", end.detail);

    // What was recorded of the old way stays as it was, and is not mixed with the new one.
    let entries = captured(&bench, &ended).await;
    assert!(has(&entries, "lost 99"), "what was recorded before the end is gone");
    let second = caught_up(&bench).await;
    let snapshot = folded(&bench).await;
    assert_eq!(snapshot.notes["folded"]["timeline"], second.id.to_string().as_str());
    switch(&bench, false).await;
    running.stop().await;
    assert_whole(&bench, &second).await;
    assert!(!has(&captured(&bench, &second).await, "lost 99"));
    for namespace in ["app.things", "app.after"] {
        bench.assert_exact(&snapshot, namespace).await;
    }
    assert_eq!(bench.documents(&snapshot, "app.things").await.len(), 500);
    // The old way can still be gone back to.
    let (of, _) = timelines.base_for(bench.deployment, last.durable.time).await.unwrap().expect("a base");
    assert_eq!(of.id, first.id);
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.unwrap(), to.to_path_buf());
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
