//! Several builds of one collection's indexes at a time.

use std::time::Duration;

use bson::doc;
use futures::{StreamExt as _, stream::FuturesUnordered};

use super::{BuildOptions, Plan, run_watched};
use crate::{Deployment, Namespace, Result, write::command};

/// How often the server is asked whether a build has begun.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Indexes that one build makes, of so many.
pub(super) fn size(indexes: usize, options: &BuildOptions) -> usize {
    indexes.div_ceil(options.parts.max(1)).max(1)
}

/// Builds all indexes of the plan, in so many parts at a time as the options say. After an error some may still run.
///
/// A listing shows indexes in the order in which their builds begin, and a restored collection lists them as the old one
/// did: so a part is not sent before the one before it is listed.
pub(super) async fn run(
    deployment: &Deployment,
    namespace: &Namespace,
    plan: &Plan,
    options: &BuildOptions,
) -> Result<()> {
    let size = size(plan.specs.len(), options);
    let mut running = FuturesUnordered::new();
    let mut parts = plan.specs.chunks(size).zip(plan.names.chunks(size)).peekable();
    while let Some((specs, names)) = parts.next() {
        running.push(run_watched(deployment, namespace, specs, options));
        if parts.peek().is_some() {
            tokio::select! {
                // What ends before it is seen has begun, or has failed.
                Some(ended) = running.next() => ended?,
                begun = begun(deployment, namespace, names) => begun?,
            }
        }
    }
    while let Some(ended) = running.next().await {
        ended?;
    }
    Ok(())
}

/// Waits until all of these are listed, finished or not.
async fn begun(deployment: &Deployment, namespace: &Namespace, names: &[String]) -> Result<()> {
    let list = doc! { "listIndexes": &namespace.collection };
    loop {
        let reply = command::run_document(deployment, &namespace.db, &list).await?;
        let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let is_listed = |name: &String| {
            let mut specs = batch.iter().flat_map(|batch| batch.iter()).filter_map(|spec| spec.as_document());
            specs.any(|spec| spec.get_str("name").is_ok_and(|listed| listed == name))
        };
        if names.iter().all(is_listed) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
