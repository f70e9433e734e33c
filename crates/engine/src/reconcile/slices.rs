//! Slices whose time is over, and slices that no timeline has.
//!
//! The catalog forgets a slice before the vault loses it, so a crash in between leaves a slice that nothing names. So does
//! a capture that died between the vault and the catalog. Both are found by a listing of the vault now and then. Only what
//! is surely such a leftover is deleted: a slice of a timeline that the catalog does not know, or one with a number that
//! the timeline does not have yet, may be all that is left of a record that an older copy of the catalog knows nothing of.

use std::{collections::HashSet, time::Duration};

use catalog::Timeline;
use futures::StreamExt as _;
use model::ClusterTime;
use serde_json::{Value, json};
use vault::{ObjectName, Slice, SliceHeader};

use super::{clock, is_due, remember};
use crate::{engine::Services, lease::JobError};

/// Slices that are forgotten at once.
const BATCH: u32 = 500;
/// The whole vault is listed, so not often.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3600);
/// When it was done last, in the catalog's settings.
const LAST: &str = "slices.lastSweepAt";

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    let expired = if clock::may_decide(services).await? { expire(services).await? } else { 0 };
    if !is_due(services, LAST, SWEEP_EVERY).await? {
        return Ok(json!({ "expired": expired, "sweepDue": false }));
    }
    let swept = sweep(services).await?;
    remember(services, LAST).await?;
    Ok(json!({ "expired": expired, "sweepDue": true, "swept": swept }))
}

/// Forgets and deletes what lies before the restore windows. How many that were.
async fn expire(services: &Services) -> Result<u64, JobError> {
    let timelines = services.catalog.timelines();
    let mut deleted = 0;
    for deployment in timelines.recorded().await? {
        loop {
            let expired = timelines.expired(deployment, services.now(), BATCH).await?;
            let names: Vec<String> = expired.into_iter().map(|slice| slice.name).collect();
            let forgotten = timelines.forget(deployment, &names, services.now()).await?;
            if forgotten.is_empty() {
                break;
            }
            for name in forgotten {
                services.vault.delete(&named(&name)?).await?;
                deleted += 1;
            }
        }
    }
    Ok(deleted)
}

/// Deletes leftovers. How many that were.
async fn sweep(services: &Services) -> Result<u64, JobError> {
    let mut deleted = 0;
    let mut listed = services.vault.list_slices().chunks(BATCH as usize);
    while let Some(batch) = listed.next().await {
        let names: Vec<ObjectName> =
            batch.into_iter().map(|listed| listed.map(|listed| listed.name)).collect::<Result<_, _>>()?;
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        let known: HashSet<String> = services.catalog.timelines().known(&texts).await?;
        for name in names.into_iter().filter(|name| !known.contains(&name.to_string())) {
            if is_leftover(services, &name).await? {
                services.vault.delete(&name).await?;
                deleted += 1;
            }
        }
    }
    Ok(deleted)
}

async fn is_leftover(services: &Services, name: &ObjectName) -> Result<bool, JobError> {
    let slice = match Slice::open(&services.vault, name).await {
        Ok(slice) => slice,
        // What cannot be read cannot be told apart; `rebuild-catalog` tells of it.
        Err(error) if error.is_damage() || matches!(error, vault::Error::NewerFormat { .. }) => {
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let header = slice.header();
    let old_enough = services.now().0.saturating_sub(header.created_at.0)
        >= i64::try_from(services.settings.garbage_grace.as_millis()).unwrap_or(i64::MAX);
    let Some(timeline) = services.catalog.timelines().get(header.timeline_id).await? else {
        return Ok(false);
    };
    let Some(deployment) = services.catalog.deployments().get(timeline.deployment_id).await? else {
        return Ok(false);
    };
    let window_begins = timeline.window_begins(deployment.continuous.restore_window_days, services.now());
    Ok(old_enough && is_behind(&timeline, header, window_begins))
}

/// Whether the timeline has another slice in its place, or has had it and let it go. A rebuilt timeline may begin after a
/// slice that could not be read: what is before that goes when its time is over.
fn is_behind(timeline: &Timeline, header: &SliceHeader, window_begins: ClusterTime) -> bool {
    if header.sequence < timeline.first_sequence {
        return header.last.time < window_begins;
    }
    header.sequence < timeline.next_sequence
}

fn named(name: &str) -> Result<ObjectName, JobError> {
    name.parse().map_err(|e| JobError::failed_by("the catalog names a slice that is none", e))
}
