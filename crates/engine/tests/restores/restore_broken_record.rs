//! A restore to a point in time whose record has rotted: it is told by name before the target is touched, and what lies
//! before it can be restored all the same.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::path::{Path, PathBuf};

use bson::{Bson, Document, doc};
use model::{ClusterTime, restore::RestoreState};
use restore_support::{
    captured::{Captured, pause},
    data,
};
use serde_json::json;
use support::{
    Bench, documents,
    engine::past::{DocumentId, Origin, Past},
};
use testbed::{Options, oracle};

/// The file of the slice that has the entry at a time, once it is in the vault.
async fn file_of(captured: &Captured, time: ClusterTime) -> (String, PathBuf) {
    let (bench, begun) = (&captured.bench, std::time::Instant::now());
    let timelines = bench.catalog.timelines();
    loop {
        let timeline = timelines.current(bench.deployment).await.unwrap().unwrap();
        if timeline.durable.time >= time {
            let slice = timelines.slices(timeline.id, time, time).await.unwrap().remove(0);
            let hex = slice.name.strip_prefix("slice/").unwrap().to_owned();
            let file = bench.dir.path().join("vault/v1/slices").join(&hex[..2]).join(&hex);
            return (hex, file);
        }
        pause(begun).await;
    }
}

/// One document as it was.
async fn shown(captured: &Captured, at: ClusterTime) -> Result<Vec<u8>, String> {
    let bench = &captured.bench;
    let (timeline, snapshot) =
        bench.catalog.timelines().base_for(bench.deployment, at).await.unwrap().unwrap();
    let past = Past::new(bench.engine(bench.settings()).services().clone());
    let id = DocumentId::parse("-1").unwrap();
    let shown = past.show(&Origin { timeline, snapshot }, "app.things", &id, at).await;
    shown.map(|shown| shown.document).map_err(|error| error.to_string())
}

async fn harmed(harm: impl Fn(&Path)) {
    let bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "things", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    let captured = Captured::over(bench, None).await;
    let things = captured.bench.client.database("app").collection::<Document>("things");
    things.insert_one(doc! { "_id": -1 }).await.unwrap();
    let good = captured.now().await;
    let as_it_was = data(&captured.bench.client).await;
    // What comes has a slice of its own.
    file_of(&captured, good).await;
    things.insert_one(doc! { "_id": -2 }).await.unwrap();
    let lost = captured.now().await;
    let (hex, file) = file_of(&captured, lost).await;
    things.delete_many(doc! { "_id": { "$gt": 50 } }).await.unwrap();
    let after = captured.now().await;
    file_of(&captured, after).await;
    harm(&file);

    // So can questions about what lies before it.
    assert_eq!(shown(&captured, good).await.unwrap(), bson::serialize_to_vec(&doc! { "_id": -1 }).unwrap());
    let error = shown(&captured, lost).await.unwrap_err();
    assert!(error.contains(&hex), "which slice it is is not told: {error}");

    let before = data(&captured.bench.client).await;
    for rewind in ["off", "auto"] {
        let options = json!({ "rewind": rewind });
        let job = captured.restore(after, captured.bench.deployment, options).await;
        assert_eq!(job.state, RestoreState::Failed, "{rewind}: what is not known was restored");
        let error = job.error.unwrap();
        assert!(error.contains(&hex), "{rewind}: which slice it is is not told: {error}");
        oracle::assert_same(&before, &data(&captured.bench.client).await);
    }
    let job = captured.restore(good, captured.bench.deployment, json!({ "rewind": "off" })).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    oracle::assert_same(&as_it_was, &data(&captured.bench.client).await);
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flipped_bit_in_a_slice_is_found_before_the_target_is_touched() {
    harmed(|file| {
        let mut bytes = std::fs::read(file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(file, bytes).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slice_that_is_missing_is_named_before_the_target_is_touched() {
    harmed(|file| std::fs::remove_file(file).unwrap()).await;
}
