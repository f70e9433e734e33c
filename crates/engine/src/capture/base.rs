//! The snapshots that a timeline needs: without one before it no time on it can be restored.

use std::time::Duration;

use catalog::{NewSnapshot, Page, Snapshot, SnapshotFilter, SnapshotType, Timeline};
use model::{WallTime, id::TimelineId, snapshot::SnapshotState};

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
    // What a restore has loaded under staging names is in no snapshot: a base amid one has nothing that a later rename brings.
    if serves || catalog.restores().is_target(timeline.deployment_id).await? {
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
    // By our own clock: the deployment's may be days off, and no base would ever be good enough.
    let needed_until = snapshot.requested_at.plus_ms(i64::from(window_days + 1) * DAY_MS);
    timeline.start.time <= at
        && !snapshot.amid_restore
        && snapshot.requested_at >= timeline.started_at
        && !is_old(snapshot.requested_at, now)
        && snapshot.expires_at.is_none_or(|expires| expires >= needed_until)
}

/// Whether it is time for another one. A clock of ours that went back by days makes it so as well.
fn is_old(requested_at: WallTime, now: WallTime) -> bool {
    now.seconds().abs_diff(requested_at.seconds()) >= EVERY.as_secs()
}

#[cfg(test)]
mod tests {
    use model::{
        ClusterTime, OplogPosition,
        id::{DeploymentId, ProjectId, SnapshotId},
    };

    use super::*;

    const NOW: WallTime = WallTime(1_763_769_600_000);
    const WINDOW: u32 = 2;

    #[test]
    fn a_base_is_old_after_a_day() {
        assert!(!is_old(NOW, NOW.plus_ms(DAY_MS - 1000)));
        assert!(is_old(NOW, NOW.plus_ms(DAY_MS)));
        assert!(is_old(NOW, NOW.plus_ms(-DAY_MS)));
    }

    #[test]
    fn a_base_serves_whatever_the_clock_of_the_deployment_shows() {
        for off in [0, 3, -3, 300] {
            let by_theirs = |wall: WallTime| ClusterTime {
                seconds: u32::try_from(wall.plus_ms(off * DAY_MS).seconds()).unwrap_or_default(),
                increment: 1,
            };
            let timeline = timeline(by_theirs(NOW));
            let base = taken(NOW, by_theirs(NOW), WINDOW + DAYS_BEYOND_WINDOW);
            assert!(
                is_base(&base, &timeline, WINDOW, NOW),
                "{off} days off, it is taken over and over again"
            );
            assert!(is_base(&base, &timeline, WINDOW, NOW.plus_ms(DAY_MS - 1000)));
            assert!(
                !is_base(&base, &timeline, WINDOW, NOW.plus_ms(DAY_MS)),
                "{off} days off, none is taken any more"
            );
            assert!(!is_base(&base, &timeline, WINDOW + 2, NOW), "it goes before the longer window does");
            let brief = taken(NOW, by_theirs(NOW), WINDOW);
            assert!(!is_base(&brief, &timeline, WINDOW, NOW), "it goes before its time has left the window");
        }
    }

    fn timeline(start: ClusterTime) -> Timeline {
        let start = OplogPosition { time: start, term: 1 };
        Timeline {
            id: TimelineId::from_bytes([1; 12]),
            project_id: ProjectId::from_bytes([2; 12]),
            deployment_id: DeploymentId::from_bytes([3; 12]),
            replica_set_id: None,
            replica_set_name: "rs0".to_owned(),
            start,
            first_sequence: 0,
            end: start,
            next_sequence: 0,
            last_slice: None,
            read_from: start.time,
            recorded_at: NOW,
            durable: start,
            durable_sequence: 0,
            started_at: NOW,
            ended: None,
        }
    }

    fn taken(now: WallTime, at: ClusterTime, days: u32) -> Snapshot {
        Snapshot {
            id: SnapshotId::from_bytes([4; 12]),
            project_id: ProjectId::from_bytes([2; 12]),
            deployment_id: DeploymentId::from_bytes([3; 12]),
            state: SnapshotState::Completed,
            snapshot_type: SnapshotType::Scheduled,
            description: Some(DESCRIPTION.to_owned()),
            retention_days: Some(days),
            policy: None,
            requested_at: now,
            completed_at: Some(now),
            expires_at: Some(now.plus_ms(i64::from(days) * DAY_MS)),
            do_not_delete: false,
            deleted_at: None,
            cluster_time: Some(at),
            last_as_of: None,
            amid_restore: false,
            manifest: None,
            mongod_version: None,
            fcv: None,
            replica_set_name: None,
            collections: 0,
            documents: 0,
            logical_bytes: 0,
            stored_bytes: 0,
            added_bytes: 0,
            error: None,
            notes: serde_json::Value::Null,
        }
    }
}
