//! Capture: what the vault holds of the oplog is what the deployment's oplog held, entry for entry.
#![allow(clippy::unwrap_used)]

use crate::{capture_support, support};

use std::time::Duration;

use bson::{Bson, Document, doc};
use capture_support::{
    Running, VaultAway, assert_whole, based, captured_bench, caught_up, current, recorded, settings, slices,
    switch, until, writer,
};
use catalog::{Catalog, NewDeployment, Page};
use model::{ClusterTime, timeline::TimelineEnd};
use support::{
    Bench, documents,
    engine::{Settings, engine::wall_clock},
};
use testbed::Options;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_entry_is_captured_once_whatever_happens_to_the_process() {
    let bench = captured_bench(Options::default()).await;
    let stop = CancellationToken::new();
    let writing = writer(&bench, &stop);
    for round in 0..4 {
        let running = Running::start(bench.engine(settings(&bench)));
        caught_up(&bench).await;
        tokio::time::sleep(Duration::from_millis(300 * round)).await;
        if round % 2 == 0 { running.kill() } else { running.stop().await }
    }
    stop.cancel();
    assert!(writing.await.unwrap() > 10);
    let running = Running::start(bench.engine(settings(&bench)));
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_whole(&bench, &timeline).await;
    let all = bench.catalog.timelines().list(bench.deployment, Page::default()).await.unwrap().items;
    assert_eq!(all.len(), 1, "one timeline all along: {all:?}");
    let slices = slices(&bench, &timeline).await;
    assert!(slices.len() > 3);
    assert!(slices.len() < 60, "a slice is closed when it is due, and not with each batch: {}", slices.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slices_wait_on_disk_while_the_vault_is_away_and_survive_a_crash_there() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    bench.fill("app", "meanwhile", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    let now = recorded(&bench).await;
    let timeline = current(&bench).await.unwrap();
    assert!(timeline.durable.time < now, "the vault has what it cannot have");
    assert!(!bench.catalog.timelines().spooled(timeline.id).await.unwrap().is_empty());
    running.kill();

    let running = Running::start(bench.engine(settings(&bench)));
    drop(away);
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_eq!(bench.catalog.timelines().spooled(timeline.id).await.unwrap(), []);
    assert_whole(&bench, &timeline).await;
    let left: Vec<_> = std::fs::read_dir(bench.dir.path().join("spool").join(bench.deployment.to_string()))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "the spool holds what the vault has: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_only_a_lost_disk_had_is_read_from_the_deployment_again() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    bench.fill("app", "meanwhile", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    recorded(&bench).await;
    running.kill();
    std::fs::remove_dir_all(bench.dir.path().join("spool")).unwrap();
    drop(away);

    let running = Running::start(bench.engine(settings(&bench)));
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_whole(&bench, &timeline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_ends_on_a_lost_disk_is_left_alone() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    bench.fill("app", "meanwhile", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    recorded(&bench).await;
    switch(&bench, false).await;
    let timelines = bench.catalog.timelines();
    until(&bench, "the end of the timeline", || async {
        timelines.current(bench.deployment).await.unwrap().is_none().then_some(())
    })
    .await;
    running.kill();
    std::fs::remove_dir_all(bench.dir.path().join("spool")).unwrap();
    drop(away);

    let running = Running::start(bench.engine(settings(&bench)));
    // Long enough to be claimed again and again, if it were.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let lease = until(&bench, "the lease", || async {
        timelines.claim(bench.deployment, "test", wall_clock(), 1).await.unwrap()
    })
    .await;
    assert!(lease.epoch <= 6, "it was claimed and given back again and again: {}", lease.epoch);
    // Whoever has the disk may still bring it; and who switches it on again does not wait.
    timelines.release(&lease).await.unwrap();
    switch(&bench, true).await;
    caught_up(&bench).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_oplog_that_rolled_over_ends_the_timeline_and_a_new_one_begins_with_a_base() {
    let bench = captured_bench(Options { oplog_mb: Some(1), ..Options::default() }).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let first = caught_up(&bench).await;
    running.stop().await;
    let oldest = || async {
        let oplog = bench.client.database("local").collection::<Document>("oplog.rs");
        let entry = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await.unwrap().unwrap();
        let time = entry.get_timestamp("ts").unwrap();
        ClusterTime { seconds: time.time, increment: time.increment }
    };
    let mut n = 0;
    while oldest().await <= first.end.time {
        bench.fill("app", "much", documents(500, 4_000, |at| Bson::Int64((n * 500 + at) as i64))).await;
        n += 1;
    }
    let running = Running::start(bench.engine(settings(&bench)));
    let second = until(&bench, "a new timeline begins", || async {
        current(&bench).await.filter(|timeline| timeline.id != first.id)
    })
    .await;
    let based = until(&bench, "the new timeline gets its base", || async {
        let ranges = bench.catalog.timelines().ranges(bench.deployment).await.unwrap();
        ranges.into_iter().find(|(timeline, _)| timeline.id == second.id)
    })
    .await;
    running.stop().await;
    assert!(based.1.from > second.start.time);
    let ended = bench.catalog.timelines().get(first.id).await.unwrap().unwrap();
    let end = ended.ended.expect("it has ended");
    assert_eq!(end.reason, TimelineEnd::RolledOver);
    assert!(!end.detail.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn capture_ends_when_it_is_switched_off_and_begins_anew_when_it_is_switched_on() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let first = caught_up(&bench).await;
    switch(&bench, false).await;
    let ended = until(&bench, "the timeline ends", || async {
        bench.catalog.timelines().get(first.id).await.unwrap().unwrap().ended
    })
    .await;
    assert_eq!(ended.reason, TimelineEnd::SwitchedOff);
    switch(&bench, true).await;
    let second = caught_up(&bench).await;
    running.stop().await;
    assert_ne!(second.id, first.id);
    assert_whole(&bench, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_make_one_record_and_the_other_goes_on_when_one_dies() {
    let bench = captured_bench(Options::default()).await;
    let named = |name: &str| Settings { worker_name: name.to_owned(), ..settings(&bench) };
    let one = Running::start(bench.engine(named("one")));
    caught_up(&bench).await;
    let two = Running::start(bench.engine(named("two")));
    let stop = CancellationToken::new();
    let writing = writer(&bench, &stop);
    caught_up(&bench).await;
    one.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.cancel();
    writing.await.unwrap();
    let timeline = caught_up(&bench).await;
    two.stop().await;
    assert_whole(&bench, &timeline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_idle_deployment_advances_too() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let before = caught_up(&bench).await;
    // The primary writes a note of its own every ten seconds.
    until(&bench, "the record goes on by itself", || async {
        current(&bench).await.filter(|timeline| timeline.durable.time > before.durable.time)
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rebuilt_catalog_goes_on_with_the_timeline() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let before = caught_up(&bench).await;
    until(&bench, "the timeline gets its base", || async {
        bench.catalog.timelines().ranges(bench.deployment).await.unwrap().pop()
    })
    .await;
    running.stop().await;
    let before = bench.catalog.timelines().get(before.id).await.unwrap().unwrap();

    let other = Catalog::open(bench.dir.path().join("other.sqlite").to_str().unwrap()).await.unwrap();
    let rebuilt = support::engine::rebuild::rebuild(&bench.vault, &other, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.timelines, rebuilt.snapshots, rebuilt.unreadable.len()), (1, 1, 0));
    let after = other.timelines().get(before.id).await.unwrap().unwrap();
    assert_eq!(
        (after.start, after.durable, after.last_slice),
        (before.start, before.durable, before.last_slice)
    );
    assert_eq!(after.ended, None);
    let again = support::engine::rebuild::rebuild(&bench.vault, &other, wall_clock()).await.unwrap();
    assert_eq!((again.timelines, again.snapshots), (0, 0));

    // The deployment is added again, and its record goes on where it was.
    let row = bench.catalog.deployments().get(bench.deployment).await.unwrap().unwrap();
    let new = NewDeployment {
        project_id: row.project_id,
        name: row.name,
        kind: row.kind,
        uri_sealed: row.uri_sealed,
        options: row.options,
        facts: row.facts,
        continuous: None,
    };
    assert_eq!(other.deployments().add(new, wall_clock()).await.unwrap().id, bench.deployment);
    let bench = Bench { catalog: other, ..bench };
    let running = Running::start(bench.engine(settings(&bench)));
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_eq!(timeline.id, before.id);
    assert_whole(&bench, &timeline).await;
}

/// What began the transactions that are open there is not known any more, and no state after it can be told.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_end_of_the_record_ends_the_timeline_and_a_new_one_gets_its_base() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    based(&bench).await;
    running.stop().await;
    let before = current(&bench).await.unwrap();
    let hex = before.last_slice.as_deref().unwrap().strip_prefix("slice/").unwrap().to_owned();
    std::fs::remove_file(bench.dir.path().join("vault/v1/slices").join(&hex[..2]).join(&hex)).unwrap();

    let running = Running::start(bench.engine(settings(&bench)));
    let after = until(&bench, "another timeline begins and gets its base", || async {
        let ranges = bench.catalog.timelines().ranges(bench.deployment).await.unwrap();
        ranges.into_iter().map(|(timeline, _)| timeline).find(|timeline| timeline.id != before.id)
    })
    .await;
    let ended = bench.catalog.timelines().get(before.id).await.unwrap().unwrap().ended.unwrap();
    assert_eq!(ended.reason, TimelineEnd::Damaged);
    assert!(ended.detail.contains(&hex), "{}", ended.detail);
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_eq!(timeline.id, after.id, "it goes on");
    assert_whole(&bench, &timeline).await;
}

/// As long as it is not known which transactions are open, everything since the last slice is needed for each later state.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_could_not_be_read_while_the_vault_was_away_is_looked_at_when_it_is_back() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let before = caught_up(&bench).await;
    running.stop().await;
    let away = VaultAway::of(&bench);
    let running = Running::start(bench.engine(settings(&bench)));
    bench.fill("app", "meanwhile", documents(50, 100, |n| Bson::Int64(n as i64))).await;
    recorded(&bench).await;
    let meanwhile = current(&bench).await.unwrap();
    assert_eq!(meanwhile.id, before.id);
    assert!(meanwhile.read_from <= before.end.time, "it knows what it cannot know: {meanwhile:?}");
    drop(away);
    until(&bench, "what is open is known again", || async {
        recorded(&bench).await;
        current(&bench).await.filter(|timeline| timeline.read_from > meanwhile.end.time)
    })
    .await;
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_eq!(timeline.id, before.id);
    assert_whole(&bench, &timeline).await;
}

/// Lets two slices wait in the spool, does something to the last one's file, and lets capture go on.
async fn after_harm_to_the_spool(harm: impl Fn(&std::path::Path)) {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    for name in ["one", "two"] {
        bench.fill("app", name, documents(50, 100, |n| Bson::Int64(n as i64))).await;
        recorded(&bench).await;
    }
    running.kill();
    let waiting = bench.catalog.timelines().spooled(current(&bench).await.unwrap().id).await.unwrap();
    let (first, last) = (waiting.first().unwrap(), waiting.last().unwrap());
    assert_ne!(first.name, last.name);
    let hex = last.name.strip_prefix("slice/").unwrap();
    harm(&bench.dir.path().join("spool").join(bench.deployment.to_string()).join(hex));
    drop(away);

    let running = Running::start(bench.engine(settings(&bench)));
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_whole(&bench, &timeline).await;
    let kept = slices(&bench, &timeline).await.into_iter().any(|slice| slice.name == first.name);
    assert!(kept, "what was good in the spool was thrown away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_waits_before_a_lost_slice_is_kept() {
    after_harm_to_the_spool(|file| std::fs::remove_file(file).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slice_that_was_damaged_while_it_waited_is_read_from_the_oplog_again() {
    after_harm_to_the_spool(|file| {
        let mut bytes = std::fs::read(file).unwrap();
        let last = bytes.last_mut().unwrap();
        *last ^= 1;
        std::fs::write(file, bytes).unwrap();
    })
    .await;
}
