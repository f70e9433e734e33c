//! Asking for exports, and reading back what they wrote: by the driver's own reading of Extended JSON.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses a part of it")]

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use bson::Document;
use catalog::{ExportJob, NewExport, NewExportBucket, Snapshot};
use ebbtide_engine::{Engine, engine::wall_clock};
use model::{
    export::{ExportState, Label},
    id::{ExportBucketId, ExportJobId},
};
use tokio_util::sync::CancellationToken;

use crate::{restore_support::captured::pause, support::Bench};

/// Registers the bucket that the settings of the bench know, and makes its directory.
pub async fn bucket(bench: &Bench) -> ExportBucketId {
    std::fs::create_dir_all(bench.exports()).unwrap();
    let new = NewExportBucket {
        project_id: bench.project,
        place: Bench::PLACE.parse().unwrap(),
        iam_role_id: "0123456789abcdef01234567".to_owned(),
    };
    bench.catalog.export_buckets().add(new, wall_clock()).await.unwrap().id
}

/// Asks for an export.
pub async fn request(bench: &Bench, snapshot: &Snapshot, bucket_id: ExportBucketId) -> ExportJobId {
    let new = NewExport {
        deployment_id: bench.deployment,
        snapshot_id: snapshot.id,
        bucket_id,
        custom_data: vec![Label { key: "purpose".to_owned(), value: "a \"test\"".to_owned() }],
        organization: &model::organization::Organization::default(),
        scheduled: false,
    };
    bench.catalog.exports().request(new, wall_clock()).await.unwrap().id
}

/// Waits for the end of an export that somebody runs.
pub async fn ended(bench: &Bench, id: ExportJobId) -> ExportJob {
    let begun = std::time::Instant::now();
    loop {
        let job = bench.catalog.exports().get(id).await.unwrap().unwrap();
        if job.state.is_final() {
            return job;
        }
        pause(begun).await;
    }
}

/// Runs this engine until the export has ended.
pub async fn run(bench: &Bench, engine: &Engine, id: ExportJobId) -> ExportJob {
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (engine, shutdown) = (engine.clone(), shutdown.clone());
        async move { engine.run(shutdown).await }
    });
    let job = ended(bench, id).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    job
}

/// Exports a snapshot; it must succeed.
pub async fn exported(bench: &Bench, snapshot: &Snapshot) -> ExportJob {
    let id = request(bench, snapshot, bucket(bench).await).await;
    let job = run(bench, &bench.engine(bench.settings()), id).await;
    assert_eq!(job.state, ExportState::Successful, "{:?}", job.error);
    job
}

/// All files below a directory, by their paths in it.
pub fn files(directory: &Path) -> BTreeMap<String, PathBuf> {
    let (mut found, mut pending) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned(), path);
            }
        }
    }
    found
}

/// The lines of a collection's files, in the order of the files. Each file is there, from the first on.
pub fn lines(export: &Path, collection: &str) -> Vec<String> {
    let directory = export.join(collection);
    let mut lines = vec![];
    for increment in 0.. {
        let path = directory.join(format!("rs0.{increment}.json.gz"));
        let Ok(file) = std::fs::File::open(&path) else { break };
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert!(text.ends_with('\n'), "{} ends in the middle", path.display());
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

/// The documents of a collection as bytes, sorted, as the driver reads them.
pub fn documents(export: &Path, collection: &str) -> Vec<Vec<u8>> {
    let read = |line: &String| {
        let document: Document =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{collection}: {e} in {line}"));
        bson::serialize_to_vec(&document).unwrap()
    };
    let mut documents: Vec<_> = lines(export, collection).iter().map(read).collect();
    documents.sort();
    documents
}
