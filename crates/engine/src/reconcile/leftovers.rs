//! Removes files that killed processes left half-written in a vault in a local directory.
//!
//! Nobody ever sees them, but each takes the space of an object, and a machine that is killed often must not fill up.

use std::time::Duration;

use serde_json::{Value, json};

use super::{is_due, remember};
use crate::{engine::Services, lease::JobError};

/// The whole directory is walked, so not often.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// A file that nobody has written to for so long is nobody's: a put takes seconds.
const MIN_AGE: Duration = Duration::from_secs(3600);
/// When it was done last, in the catalog's settings.
const LAST: &str = "leftovers.lastSweepAt";

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    if !is_due(services, LAST, EVERY).await? {
        return Ok(json!({ "due": false }));
    }
    let removed = services.vault.sweep_unfinished(MIN_AGE).await?;
    remember(services, LAST).await?;
    Ok(json!({ "due": true, "filesRemoved": removed }))
}
