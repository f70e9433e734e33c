//! Drops what a worker made under a staging name after its job had ended.
//!
//! A worker looks whether it still holds its job right before each command that it sends. One that is frozen between the
//! look and the command, while another ends the job and clears up, sends that one command when it wakes: a collection comes
//! into being that no obligation tells of any more. Its name tells whose it is, and jobs that several workers have held are few, so
//! their targets are looked at for some days.

use std::time::Duration;

use mongo::write::staging::sweep_staging;
use serde_json::{Value, json};

use super::{is_due, reaper::for_a_while, remember};
use crate::{connect::connect, engine::Services, lease::JobError};

const EVERY: Duration = Duration::from_secs(3600);
/// For how long after the end of a job something of it may appear: no machine sleeps longer over a weekend.
const AFTER_MS: i64 = 7 * 24 * 3600 * 1000;
/// When it was done last, in the catalog's settings.
const LAST: &str = "strays.lastSweepAt";

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    if !is_due(services, LAST, EVERY).await? {
        return Ok(json!({ "due": false }));
    }
    let since = services.now().plus_ms(-AFTER_MS);
    let (mut dropped, mut left) = (Vec::new(), Vec::new());
    for (job, target) in services.catalog.jobs().restores_taken_over_since(since).await? {
        let swept = async {
            let deployment = connect(services, target).await?.deployment.with_permit(for_a_while());
            let hex = job.to_string();
            sweep_staging(&deployment, &hex).await.map_err(|e| {
                JobError::failed_by(format!("what job {job} made too late cannot be dropped"), e)
            })
        };
        match swept.await {
            Ok(swept) => dropped.extend(swept.iter().map(ToString::to_string)),
            // One deployment that is away must not keep the others waiting.
            Err(hindrance) => left.push(json!({
                "deploymentId": target,
                "jobId": job,
                "hindrance": hindrance.full_text(),
            })),
        }
    }
    for namespace in &dropped {
        tracing::warn!(%namespace, "dropped {namespace}: a worker of a restore that had ended made it when it woke up");
    }
    remember(services, LAST).await?;
    Ok(json!({ "due": true, "dropped": dropped, "left": left }))
}
