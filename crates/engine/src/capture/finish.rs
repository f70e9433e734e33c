//! The end of a record that is not wanted any more.

use std::time::Duration;

use catalog::CaptureLease;
use model::timeline::TimelineEnd;
use tokio_util::sync::CancellationToken;

use super::{
    begin,
    error::CaptureError,
    keep::{Brought, bring},
    spool::Spool,
};
use crate::engine::Services;

/// Wait before it is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// What is left to do of a record that is not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing, or somebody else does it.
    Nothing,
    /// What the vault does not take now.
    Here,
    /// What waits on another disk, if it still does: nothing can be done about it here.
    Elsewhere,
}

/// Brings what waits into the vault and ends the timeline of a deployment whose continuous backup was switched off.
pub(super) async fn switched_off(
    services: &Services,
    lease: &CaptureLease,
    shutdown: &CancellationToken,
) -> Left {
    while !shutdown.is_cancelled() {
        match end(services, lease).await {
            Ok(Left::Here) => {}
            Ok(left) => return left,
            Err(CaptureError::Lost) => return Left::Nothing,
            Err(error) => {
                let text = error.full_text();
                tracing::warn!(deployment.id = %lease.deployment_id, error = text, "the timeline of {} cannot be ended: {text}", lease.deployment_id);
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    Left::Here
}

async fn end(services: &Services, lease: &CaptureLease) -> Result<Left, CaptureError> {
    let timelines = services.catalog.timelines();
    let spool = Spool::of(&services.settings.spool_dir, lease.deployment_id);
    if let Some(timeline) = timelines.current(lease.deployment_id).await? {
        let detail = "continuous backup was switched off";
        timelines.end(lease, timeline.id, TimelineEnd::SwitchedOff, detail, services.now()).await?;
    }
    // After the end: nothing is read from the oplog any more in place of what waits on another disk, so it stays what it is.
    let waiting = begin::waiting(services, lease, &spool, None).await?;
    for name in waiting {
        if let Brought::VaultIsAway(_) = bring(services, lease, &spool, name).await? {
            return Ok(Left::Here);
        }
    }
    let unfinished = timelines.unfinished().await?;
    Ok(if unfinished.contains(&lease.deployment_id) { Left::Elsewhere } else { Left::Nothing })
}
