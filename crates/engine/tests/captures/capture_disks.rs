//! Disks that are full under capture: it says so and what to do, claims nothing, and catches up once there is room.
//!
//! Small file systems in memory stand for the disks; whoever may not mount them skips this, and says so.
#![allow(clippy::unwrap_used)]

use crate::{capture_support, support};

use bson::Bson;
use capture_support::{
    Running, VaultAway, assert_whole, based, captured_bench, caught_up, current, majority_now, recorded,
    settings, shown, until,
};
use support::{Bench, documents, engine::engine::wall_clock};
use testbed::{Disk, Options};

/// Waits until the capture shows that it keeps nothing; what it says of it.
async fn stuck(bench: &Bench) -> String {
    until(bench, "capture tells that it keeps nothing", || async {
        shown(bench).await["error"].as_str().map(str::to_owned)
    })
    .await
}

/// Writes what is random enough not to be compressed away, in fewer entries than the first batch of a tail has.
async fn write(bench: &Bench, name: &str) {
    bench.fill("app", name, documents(50, 4_000, |n| Bson::Int64(n as i64))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_disk_of_the_spool_is_full_while_the_vault_is_away() {
    let bench = captured_bench(Options::default()).await;
    let spool = bench.dir.path().join("spool");
    let Some(disk) = Disk::mount_at(&spool, 8).unwrap() else { return };
    let engine = bench.engine(settings(&bench));
    let running = Running::start(engine.clone());
    based(&bench).await;
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    write(&bench, "waits").await;
    recorded(&bench).await;
    let ballast = disk.fill().unwrap();
    let before = current(&bench).await.unwrap();
    write(&bench, "finds-no-room").await;
    let error = stuck(&bench).await;
    assert!(error.contains(spool.to_str().unwrap()) && error.contains("make room there"), "{error}");
    assert!(error.contains("No space left"), "{error}");

    // That holds until something is kept, however often the oplog is read again meanwhile.
    let since = wall_clock();
    let capture = until(&bench, "the oplog is read again", || async {
        let capture = shown(&bench).await;
        let read_at: model::WallTime = serde_json::from_value(capture["readAt"].clone()).ok()?;
        (read_at > since).then_some(capture)
    })
    .await;
    assert!(capture["error"].is_string(), "it keeps nothing and tells nothing: {capture}");
    let after = current(&bench).await.unwrap();
    assert_eq!((after.end, after.durable), (before.end, before.durable), "it claims what nobody has");

    // Room in the spool is enough to go on.
    std::fs::remove_file(ballast).unwrap();
    recorded(&bench).await;
    until(&bench, "the error is over", || async { shown(&bench).await["error"].is_null().then_some(()) })
        .await;
    let warning = shown(&bench).await["warning"].as_str().unwrap_or_default().to_owned();
    assert!(warning.contains("slices wait at"), "{warning}");

    // So is the vault, with no room in the spool at all, and with somebody who waits for what has none.
    disk.fill().unwrap();
    write(&bench, "goes-round-the-spool").await;
    engine.services().waiters.want(bench.deployment, majority_now(&bench).await);
    stuck(&bench).await;
    drop(away);
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_eq!(bench.catalog.timelines().spooled(timeline.id).await.unwrap(), []);
    assert_whole(&bench, &timeline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_disk_of_the_vault_is_full() {
    let bench = captured_bench(Options::default()).await;
    let Some(disk) = Disk::mount_at(&bench.dir.path().join("vault/v1/slices"), 8).unwrap() else { return };
    let running = Running::start(bench.engine(settings(&bench)));
    based(&bench).await;
    let before = caught_up(&bench).await;
    let ballast = disk.fill().unwrap();
    write(&bench, "waits").await;
    let now = recorded(&bench).await;
    let timeline = current(&bench).await.unwrap();
    assert!(before.durable.time <= timeline.durable.time && timeline.durable.time < now, "{timeline:?}");
    let ranges = bench.catalog.timelines().ranges(bench.deployment).await.unwrap();
    assert_eq!(ranges[0].1.to, timeline.durable.time, "what is not in the vault cannot be restored");
    let warning =
        until(&bench, "a warning", || async { shown(&bench).await["warning"].as_str().map(str::to_owned) })
            .await;
    assert!(warning.contains("no space is left") && warning.contains("slices wait at"), "{warning}");
    assert!(shown(&bench).await["error"].is_null(), "capture goes on");

    std::fs::remove_file(ballast).unwrap();
    let timeline = caught_up(&bench).await;
    until(&bench, "the warning is over", || async { shown(&bench).await["warning"].is_null().then_some(()) })
        .await;
    running.stop().await;
    assert_eq!(timeline.id, before.id);
    assert_eq!(bench.catalog.timelines().spooled(timeline.id).await.unwrap(), []);
    assert_whole(&bench, &timeline).await;
}
