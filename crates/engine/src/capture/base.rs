//! The snapshots that a timeline needs: without one before it no time on it can be restored.

use std::time::Duration;

use catalog::{NewSnapshot, Page, SnapshotFilter, SnapshotType, Timeline};
use model::{ClusterTime, WallTime, id::TimelineId, snapshot::SnapshotState};

use super::error::CaptureError;
use crate::engine::Services;

/// What people read of such a snapshot.
const DESCRIPTION: &str = "Base of a timeline";
/// So often a new one is taken. It costs what changed in between, and a restore folds no more than this.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// So many days longer than the restore window they are kept: until the next one is older than the window's beginning.
const DAYS_BEYOND_WINDOW: u32 = 2;

/// Asks for a snapshot when the last one on the timeline is old, or there is none, and none is on its way.
pub(super) async fn ensure(services: &Services, id: TimelineId) -> Result<(), CaptureError> {
    let catalog = &services.catalog;
    let Some(timeline) = catalog.timelines().get(id).await? else { return Ok(()) };
    if last_on(services, &timeline).await?.is_some_and(|last| !is_old(last, services.now())) {
        return Ok(());
    }
    for state in [SnapshotState::Queued, SnapshotState::InProgress] {
        let filter = SnapshotFilter { state: Some(state), ..SnapshotFilter::of(timeline.deployment_id) };
        if !catalog.snapshots().list(filter, Page::default()).await?.items.is_empty() {
            return Ok(());
        }
    }
    let Some(deployment) = catalog.deployments().get(timeline.deployment_id).await? else { return Ok(()) };
    let new = NewSnapshot {
        deployment_id: timeline.deployment_id,
        snapshot_type: SnapshotType::Scheduled,
        description: Some(DESCRIPTION.to_owned()),
        retention_days: Some(
            deployment.continuous.restore_window_days.days().saturating_add(DAYS_BEYOND_WINDOW),
        ),
    };
    let snapshot = catalog.snapshots().request(new, services.now()).await?;
    tracing::info!(snapshot.id = %snapshot.id, timeline.id = %id, "snapshot {} is to be a base of timeline {id}", snapshot.id);
    services.poke.notify_one();
    Ok(())
}

/// The time of the newest snapshot on the timeline.
async fn last_on(services: &Services, timeline: &Timeline) -> Result<Option<ClusterTime>, CaptureError> {
    let found = services.catalog.timelines().base_for(timeline.deployment_id, timeline.durable.time).await?;
    Ok(found.filter(|(of, _)| of.id == timeline.id).and_then(|(_, base)| base.cluster_time))
}

/// Clocks of deployments are close enough to ours for something that is counted in hours.
fn is_old(last: ClusterTime, now: WallTime) -> bool {
    let age = now.seconds().saturating_sub(i64::from(last.seconds));
    age >= i64::try_from(EVERY.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_old_after_a_day() {
        let last = ClusterTime { seconds: 1_000_000, increment: 1 };
        let day = i64::try_from(EVERY.as_millis()).unwrap_or_default();
        let taken = WallTime(i64::from(last.seconds) * 1000);
        assert!(!is_old(last, taken.plus_ms(day - 1000)));
        assert!(is_old(last, taken.plus_ms(day)));
    }
}
