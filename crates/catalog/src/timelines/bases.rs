//! Which snapshots a fold on a timeline can begin with, and which times can be restored because of that.

use model::{
    ClusterTime, WallTime,
    chain::Base,
    id::{DeploymentId, SnapshotId},
    timeline::{self, RestorableRange},
};
use sqlx::{AnyConnection, query};

use super::{Timeline, Timelines, read};
use crate::{
    Result, Snapshot, Snapshots,
    row::{Columns, statement, stored},
};

/// A snapshot that a fold on a timeline can begin with.
pub(super) struct Found {
    pub(super) snapshot_id: SnapshotId,
    pub(super) base: Base,
    /// A fold from it reads the entries from this time on.
    pub(super) needed: ClusterTime,
}

/// A timeline, and the snapshots of its deployment that saw what it recorded, by when they were taken: around a fork the
/// cluster times of two histories overlap.
pub(super) struct Branch {
    pub(super) timeline: Timeline,
    requested_from: WallTime,
    completed_until: WallTime,
}

/// In which order bases are looked at, by the times from which on they serve.
#[derive(Clone, Copy)]
pub(super) enum Order {
    EarliestFirst,
    LatestFirst,
}

impl Timelines<'_> {
    /// What can be restored of a deployment, removed or not: for each of its timelines that makes anything restorable,
    /// oldest first, the times between which every state can be. How far back people may go is the restore window's
    /// business; until what lies before it is dropped, it is told here too.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn ranges(&self, deployment: DeploymentId) -> Result<Vec<(Timeline, RestorableRange)>> {
        let mut connection = self.0.database.reader().acquire().await?;
        let mut ranges = Vec::new();
        for branch in branches(&mut connection, deployment).await? {
            let until = branch.timeline.durable.time;
            let first = branch.base(&mut connection, until, Order::EarliestFirst).await?;
            let first = first.map(|found| found.base.complete_at);
            if let Some(range) = timeline::restorable(branch.timeline.extent(), first) {
                ranges.push((branch.timeline, range));
            }
        }
        Ok(ranges)
    }

    /// Where a fold to the state at `time` begins, and on which timeline: the latest snapshot that can be, on the newest
    /// timeline that has the time.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn base_for(
        &self,
        deployment: DeploymentId,
        time: ClusterTime,
    ) -> Result<Option<(Timeline, Snapshot)>> {
        let mut connection = self.0.database.reader().acquire().await?;
        let mut found = None;
        for branch in branches(&mut connection, deployment).await?.into_iter().rev() {
            let last = branch.base(&mut connection, time, Order::LatestFirst).await?;
            let serves = last.as_ref().map(|last| last.base.complete_at);
            if timeline::base_for(branch.timeline.extent(), time, serves).is_some() {
                found = last.map(|last| (branch.timeline, last.snapshot_id));
                break;
            }
        }
        drop(connection);
        let Some((timeline, id)) = found else { return Ok(None) };
        Ok(Snapshots(self.0).get(id).await?.map(|snapshot| (timeline, snapshot)))
    }

    /// From which time on a fold from this snapshot reads the record of the timeline, that time included: what
    /// [`Timelines::slices`] is to be asked for. Nothing when no fold on the timeline can begin with it.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn needed_from(&self, timeline: &Timeline, snapshot: &Snapshot) -> Result<Option<ClusterTime>> {
        match snapshot.base() {
            Some(base) => self.needed_after(timeline, base.at).await,
            None => Ok(None),
        }
    }

    /// From which time on the record of the timeline has to be read to know everything that took effect after `at`,
    /// transactions that were open then included. Nothing when it does not reach back so far.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn needed_after(&self, timeline: &Timeline, at: ClusterTime) -> Result<Option<ClusterTime>> {
        let mut connection = self.0.database.reader().acquire().await?;
        let before = read_from_before(&mut connection, timeline, at).await?;
        Ok(timeline.front().needed(&Base { at, complete_at: at }, before))
    }
}

/// All timelines of a deployment, oldest first.
pub(super) async fn branches(
    connection: &mut AnyConnection,
    deployment: DeploymentId,
) -> Result<Vec<Branch>> {
    let mut branches = Vec::new();
    let mut requested_from = WallTime(i64::MIN);
    for timeline in read::all(connection, deployment).await? {
        let fork = timeline.ended.as_ref().filter(|ended| ended.reason.is_fork()).map(|ended| ended.at);
        let completed_until = if fork.is_some() { timeline.recorded_at } else { WallTime(i64::MAX) };
        branches.push(Branch { timeline, requested_from, completed_until });
        requested_from = fork.map_or(requested_from, |at| at.max(requested_from));
    }
    Ok(branches)
}

impl Branch {
    /// The first snapshot in that order that serves at `until` or earlier and that the record reaches back to.
    pub(super) async fn base(
        &self,
        connection: &mut AnyConnection,
        until: ClusterTime,
        order: Order,
    ) -> Result<Option<Found>> {
        let timeline = &self.timeline;
        let direction = match order {
            Order::EarliestFirst => "ASC",
            Order::LatestFirst => "DESC",
        };
        let rows = statement(format!(
            "SELECT id, cluster_seconds, cluster_increment, \
             COALESCE(last_as_of_seconds, cluster_seconds) AS complete_seconds, \
             COALESCE(last_as_of_increment, cluster_increment) AS complete_increment \
             FROM snapshots WHERE deployment_id = $1 AND state = 'completed' AND amid_restore = 0 \
             AND (cluster_seconds, cluster_increment) >= ($2, $3) \
             AND (COALESCE(last_as_of_seconds, cluster_seconds), COALESCE(last_as_of_increment, cluster_increment)) \
             <= ($4, $5) AND requested_at >= $6 AND completed_at <= $7 \
             ORDER BY complete_seconds {direction}, complete_increment {direction}, id {direction}"
        ))
        .bind(timeline.deployment_id.to_string())
        .bind(i64::from(timeline.start.time.seconds))
        .bind(i64::from(timeline.start.time.increment))
        .bind(i64::from(until.seconds))
        .bind(i64::from(until.increment))
        .bind(self.requested_from.0)
        .bind(self.completed_until.0)
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            let base = Base {
                at: row.cluster_time("cluster_seconds", "cluster_increment")?,
                complete_at: row.cluster_time("complete_seconds", "complete_increment")?,
            };
            let before = read_from_before(connection, timeline, base.at).await?;
            if let Some(needed) = timeline.front().needed(&base, before) {
                return Ok(Some(Found { snapshot_id: row.parsed("id")?, base, needed }));
            }
        }
        Ok(None)
    }

    /// What a snapshot at the durable end would need.
    pub(super) async fn needed_at_end(&self, connection: &mut AnyConnection) -> Result<ClusterTime> {
        let end = self.timeline.durable.time;
        let before = read_from_before(connection, &self.timeline, end).await?;
        Ok(before.unwrap_or(self.timeline.start.time))
    }
}

/// From where the last durable slice that ends at or before `time` says to read.
async fn read_from_before(
    connection: &mut AnyConnection,
    timeline: &Timeline,
    time: ClusterTime,
) -> Result<Option<ClusterTime>> {
    let row = query(
        "SELECT read_from_seconds, read_from_increment FROM slices WHERE timeline_id = $1 \
         AND (last_seconds, last_increment) <= ($2, $3) AND sequence < $4 \
         ORDER BY last_seconds DESC, last_increment DESC LIMIT 1",
    )
    .bind(timeline.id.to_string())
    .bind(i64::from(time.seconds))
    .bind(i64::from(time.increment))
    .bind(stored(timeline.durable_sequence))
    .fetch_optional(connection)
    .await?;
    row.map(|row| row.cluster_time("read_from_seconds", "read_from_increment")).transpose()
}
