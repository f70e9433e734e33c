//! Forgets lines of the audit log whose time is over.

use std::time::Duration;

use serde_json::{Value, json};

use super::{clock, is_due, remember};
use crate::{engine::Services, lease::JobError};

/// Lines that are forgotten at once: whoever else writes into the catalog waits for no more.
const BATCH: u32 = 1_000;
const EVERY: Duration = Duration::from_secs(3600);
/// When it was done last, in the catalog's settings.
const LAST: &str = "audit.lastForgottenAt";

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    let Some(kept) = services.settings.audit_kept else { return Ok(json!({ "kept": "for ever" })) };
    if !is_due(services, LAST, EVERY).await? {
        return Ok(json!({ "due": false }));
    }
    if !clock::may_decide(services).await? {
        return Ok(json!({ "clockJumped": true }));
    }
    let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    let before = services.now().plus_ms(-kept);
    let mut forgotten = 0;
    loop {
        let batch = services.catalog.audit().forget_before(before, BATCH).await?;
        forgotten += batch;
        if batch < u64::from(BATCH) {
            break;
        }
    }
    remember(services, LAST).await?;
    Ok(json!({ "due": true, "forgotten": forgotten }))
}
