//! The snapshots that a timeline needs: without one before it no time on it can be restored.

use std::time::Duration;

use catalog::{NewSnapshot, Page, Snapshot, SnapshotFilter, SnapshotType, Timeline};
use model::{ClusterTime, WallTime, id::TimelineId, snapshot::SnapshotState};

use super::error::CaptureError;
use crate::engine::Services;

/// What people read of such a snapshot.
const DESCRIPTION: &str = "Base of a timeline";
/// So often a new one is taken. It costs what changed in between, and a restore folds no more than this.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// So many days longer than the restore window they are kept: until the next one is older than the window's beginning.
const DAYS_BEYOND_WINDOW: u32 = 2;
const DAY_MS: i64 = 86_400_000;

/// After a base could not be taken, the next one is asked for so much later.
const AFTER_FAILURE_MS: i64 = 30 * 60 * 1000;

/// Asks for a snapshot when no recent one on the timeline stays as long as it is needed, and none is on its way.
pub(super) async fn ensure(services: &Services, id: TimelineId) -> Result<(), CaptureError> {
    let (catalog, now) = (&services.catalog, services.now());
    let Some(timeline) = catalog.timelines().get(id).await? else { return Ok(()) };
    let Some(deployment) = catalog.deployments().get(timeline.deployment_id).await? else { return Ok(()) };
    let window = deployment.continuous.restore_window_days.days();
    let of = SnapshotFilter::of(timeline.deployment_id);
    let newest = catalog.snapshots().list(of, Page::default().without_count()).await?.items;
    let serves = newest.iter().any(|snapshot| match snapshot.state {
        SnapshotState::Queued | SnapshotState::InProgress => true,
        SnapshotState::Failed => has_just_failed(snapshot, now),
        SnapshotState::Completed => is_base(snapshot, &timeline, window, now),
        SnapshotState::Deleted => false,
    });
    if serves {
        return Ok(());
    }
    let new = NewSnapshot {
        deployment_id: timeline.deployment_id,
        snapshot_type: SnapshotType::Scheduled,
        description: Some(DESCRIPTION.to_owned()),
        retention_days: Some(window.saturating_add(DAYS_BEYOND_WINDOW)),
    };
    let snapshot = catalog.snapshots().request(new, now).await?;
    tracing::info!(snapshot.id = %snapshot.id, timeline.id = %id, "snapshot {} is to be a base of timeline {id}", snapshot.id);
    services.poke.notify_one();
    Ok(())
}

fn has_just_failed(snapshot: &Snapshot, now: WallTime) -> bool {
    snapshot.description.as_deref() == Some(DESCRIPTION)
        && now < snapshot.requested_at.plus_ms(AFTER_FAILURE_MS)
}

/// Whether a snapshot lies on the timeline, is recent, and stays until its time has left the restore window.
fn is_base(snapshot: &Snapshot, timeline: &Timeline, window_days: u32, now: WallTime) -> bool {
    let Some(at) = snapshot.cluster_time else { return false };
    let needed_until = WallTime(i64::from(at.seconds) * 1000).plus_ms(i64::from(window_days + 1) * DAY_MS);
    timeline.start.time <= at
        && snapshot.requested_at >= timeline.started_at
        && !is_old(at, now)
        && snapshot.expires_at.is_none_or(|expires| expires >= needed_until)
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
