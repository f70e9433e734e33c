//! Which copies are wanted.

use model::{
    WallTime,
    copy::{CopyEvent, CopyState, RegionName},
    id::{DeploymentId, SnapshotId},
    schedule::{Copied, CopySetting, CopySettings, Policy, SnapshotKind},
};
use sqlx::{Any, Transaction, any::AnyRow, query};

use super::Copies;
use crate::{
    Error, Result, SnapshotType, compliance, deployments,
    row::{Columns, statement},
    schedules::copy_settings,
    transition,
};

/// Where the record is copied, some snapshot of each day is too, as a capture takes a base each day.
const BASE_EVERY_MS: i64 = 24 * 3600 * 1000;

/// What was decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopiesDecided {
    /// Copies that are wanted from now on.
    pub wanted: u64,
    /// Copies that are not wanted any more.
    pub unwanted: u64,
}

impl Copies<'_> {
    /// Enters the copies that settings want and that are not there, and lets those go whose snapshots are gone, or which are not
    /// among the last ones where only these are wanted and no compliance policy protects copies. What a setting of before wanted stays as long as its snapshot.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn decide(&self, now: WallTime) -> Result<CopiesDecided> {
        let mut decided =
            CopiesDecided { unwanted: self.let_go_of_deleted().await?, ..CopiesDecided::default() };
        let rows =
            query("SELECT deployment_id, copy_settings, items FROM schedules WHERE copy_settings <> '[]'")
                .fetch_all(self.0.database.reader())
                .await?;
        for row in &rows {
            let deployment: DeploymentId = row.parsed("deployment_id")?;
            let (settings, policy) = (copy_settings(row)?, row.json::<Policy>("items")?);
            for setting in settings.settings() {
                let done = self.decide_one(deployment, &settings, setting, &policy, now).await?;
                decided.wanted += done.wanted;
                decided.unwanted += done.unwanted;
            }
        }
        Ok(decided)
    }

    async fn let_go_of_deleted(&self) -> Result<u64> {
        let moves = transition::copy(CopyEvent::Unwanted);
        let done = statement(format!(
            "UPDATE snapshot_copies SET state = {} WHERE state IN {} AND EXISTS (SELECT 1 FROM snapshots s \
             WHERE s.id = snapshot_copies.snapshot_id AND s.state <> 'completed')",
            moves.next, moves.from
        ))
        .execute(self.0.database.writer())
        .await?;
        Ok(done.rows_affected())
    }

    async fn decide_one(
        &self,
        deployment: DeploymentId,
        settings: &CopySettings,
        setting: &CopySetting,
        policy: &Policy,
        now: WallTime,
    ) -> Result<CopiesDecided> {
        let wanted = self.wanted(deployment, setting, policy).await?;
        let lacking = wanted.iter().any(|candidate| candidate.copy.is_none());
        let surplus = match setting.copied {
            Copied::Latest(count) => self.surplus(deployment, &setting.region, &wanted, count).await?,
            Copied::Kinds(_) => vec![],
        };
        if !lacking && surplus.is_empty() {
            return Ok(CopiesDecided::default());
        }
        // Whoever changes the settings holds the deployment: what was read above still holds, or is left to the next time.
        let mut transaction = self.0.database.begin().await?;
        let project = match deployments::lock(&mut transaction, deployment).await {
            Ok(locked) => locked.project_id,
            Err(Error::NotFound { .. }) => return Ok(CopiesDecided::default()),
            Err(error) => return Err(error),
        };
        if current(&mut transaction, deployment).await?.as_ref() != Some(settings) {
            return Ok(CopiesDecided::default());
        }
        let mut decided = CopiesDecided::default();
        for candidate in wanted.iter().filter(|candidate| candidate.copy.is_none()) {
            decided.wanted += enter(&mut transaction, candidate.id, &setting.region, now).await?;
        }
        let is_protected =
            compliance::of(&mut transaction, project).await?.is_some_and(|policy| policy.copies_protected);
        if !is_protected {
            for snapshot in surplus {
                decided.unwanted += let_go(&mut transaction, snapshot, &setting.region).await?;
            }
        }
        transaction.commit().await?;
        Ok(decided)
    }

    /// The snapshots of a deployment that a setting wants copied. A record of operations is good for nothing without a snapshot
    /// to begin with: where it is copied so are the bases of timelines, and the last snapshot of all where the last copy is a day older.
    async fn wanted(
        &self,
        deployment: DeploymentId,
        setting: &CopySetting,
        policy: &Policy,
    ) -> Result<Vec<Candidate>> {
        let (region, kinds) = match &setting.copied {
            Copied::Latest(count) => {
                return self.candidates(deployment, &setting.region, WallTime(0), i64::from(*count)).await;
            }
            Copied::Kinds(kinds) => (&setting.region, kinds),
        };
        let mut found = self.candidates(deployment, region, setting.since, i64::MAX).await?;
        found.retain(|candidate| {
            let is_base = !candidate.is_on_demand && candidate.scheduled.is_none();
            (setting.oplogs && is_base) || kinds.iter().any(|kind| candidate.is_of(*kind, policy))
        });
        if setting.oplogs
            && let Some(last) = self.candidates(deployment, region, WallTime(0), 1).await?.pop()
            && last.copy.is_none()
            && found.iter().all(|candidate| candidate.id != last.id)
        {
            let mut latest = self.last_copied(deployment, region).await?;
            latest = latest.max(found.iter().map(|candidate| candidate.completed_at).max());
            let is_far = latest.is_none_or(|latest| latest.plus_ms(BASE_EVERY_MS) <= last.completed_at);
            found.extend(is_far.then_some(last));
        }
        Ok(found)
    }

    /// When the last snapshot was completed that has a copy, or is to have one.
    async fn last_copied(&self, deployment: DeploymentId, region: &RegionName) -> Result<Option<WallTime>> {
        let row = query(
            "SELECT MAX(s.completed_at) AS latest FROM snapshot_copies c JOIN snapshots s ON s.id = c.snapshot_id \
             WHERE s.deployment_id = $1 AND c.region = $2 AND c.state <> 'unwanted'",
        )
        .bind(deployment.to_string())
        .bind(region.as_str())
        .fetch_one(self.0.database.reader())
        .await?;
        row.maybe_time("latest")
    }

    /// Copies that are not of the last snapshots and can go: so many stay, the newest ones, until as many of the last ones are made.
    async fn surplus(
        &self,
        deployment: DeploymentId,
        region: &RegionName,
        wanted: &[Candidate],
        count: u32,
    ) -> Result<Vec<SnapshotId>> {
        let made = wanted.iter().filter(|candidate| candidate.copy == Some(CopyState::Made)).count();
        let kept = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(made);
        let rows = query(
            "SELECT c.snapshot_id AS id FROM snapshot_copies c JOIN snapshots s ON s.id = c.snapshot_id \
             WHERE s.deployment_id = $1 AND c.region = $2 AND c.state <> 'unwanted' \
             ORDER BY CASE WHEN c.state = 'made' THEN 0 ELSE 1 END, s.completed_at DESC, s.id DESC",
        )
        .bind(deployment.to_string())
        .bind(region.as_str())
        .fetch_all(self.0.database.reader())
        .await?;
        let mut others = vec![];
        for row in &rows {
            let id: SnapshotId = row.parsed("id")?;
            if wanted.iter().all(|candidate| candidate.id != id) {
                others.push(id);
            }
        }
        Ok(others.split_off(kept.min(others.len())))
    }

    /// The snapshots of a deployment that were completed last, since a time and at most so many.
    async fn candidates(
        &self,
        deployment: DeploymentId,
        region: &RegionName,
        since: WallTime,
        limit: i64,
    ) -> Result<Vec<Candidate>> {
        let rows = query(
            "SELECT s.id AS id, s.snapshot_type AS snapshot_type, s.due_at AS due_at, s.frequency AS frequency, \
             s.policy_items AS policy_items, s.completed_at AS completed_at, c.state AS copy \
             FROM snapshots s LEFT JOIN snapshot_copies c ON c.snapshot_id = s.id AND c.region = $2 \
             AND c.state <> 'unwanted' \
             WHERE s.deployment_id = $1 AND s.state = 'completed' AND s.manifest IS NOT NULL AND s.completed_at >= $3 \
             ORDER BY s.completed_at DESC, s.id DESC LIMIT $4",
        )
        .bind(deployment.to_string())
        .bind(region.as_str())
        .bind(since.0)
        .bind(limit)
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(candidate).collect()
    }
}

/// A snapshot that may be copied.
struct Candidate {
    id: SnapshotId,
    is_on_demand: bool,
    /// What a schedule said of it.
    scheduled: Option<(model::schedule::Frequency, Vec<model::id::PolicyItemId>)>,
    completed_at: WallTime,
    /// How its copy stands, if there is one that is not being let go.
    copy: Option<CopyState>,
}

impl Candidate {
    fn is_of(&self, kind: SnapshotKind, policy: &Policy) -> bool {
        match (&self.scheduled, kind) {
            (_, SnapshotKind::OnDemand) => self.is_on_demand,
            (Some((counted_as, wanted_by)), kind) => kind.is_of(policy, *counted_as, wanted_by),
            (None, SnapshotKind::Scheduled(_)) => false,
        }
    }
}

fn candidate(row: &AnyRow) -> Result<Candidate> {
    let scheduled = match row.maybe_time("due_at")? {
        None => None,
        Some(_) => Some((row.parsed("frequency")?, row.json("policy_items")?)),
    };
    Ok(Candidate {
        id: row.parsed("id")?,
        is_on_demand: row.parsed::<SnapshotType>("snapshot_type")? == SnapshotType::OnDemand,
        scheduled,
        completed_at: row.time("completed_at")?,
        copy: row.maybe_parsed("copy")?,
    })
}

/// The settings of a deployment that is locked.
async fn current(
    transaction: &mut Transaction<'static, Any>,
    deployment: DeploymentId,
) -> Result<Option<CopySettings>> {
    let row = query("SELECT copy_settings FROM schedules WHERE deployment_id = $1")
        .bind(deployment.to_string())
        .fetch_optional(&mut **transaction)
        .await?;
    row.as_ref().map(copy_settings).transpose()
}

/// Enters a copy of a snapshot that is still there. One that is being let go has to be gone first.
pub(super) async fn enter(
    transaction: &mut Transaction<'static, Any>,
    snapshot: SnapshotId,
    region: &RegionName,
    now: WallTime,
) -> Result<u64> {
    let done = query(
        "INSERT INTO snapshot_copies (snapshot_id, region, state, manifest, requested_at, try_after) \
         SELECT id, $2, $3, manifest, $4, 0 FROM snapshots WHERE id = $1 AND state = 'completed' \
         AND manifest IS NOT NULL ON CONFLICT (snapshot_id, region) DO NOTHING",
    )
    .bind(snapshot.to_string())
    .bind(region.as_str())
    .bind(CopyState::Wanted.as_str())
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected())
}

async fn let_go(
    transaction: &mut Transaction<'static, Any>,
    snapshot: SnapshotId,
    region: &RegionName,
) -> Result<u64> {
    let moves = transition::copy(CopyEvent::Unwanted);
    let done = statement(format!(
        "UPDATE snapshot_copies SET state = {} WHERE snapshot_id = $1 AND region = $2 AND state IN {}",
        moves.next, moves.from
    ))
    .bind(snapshot.to_string())
    .bind(region.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected())
}

/// Lets all copies of a deployment's snapshots in a region go.
pub(crate) async fn let_all_go(
    transaction: &mut Transaction<'static, Any>,
    deployment: DeploymentId,
    region: &RegionName,
) -> Result<u64> {
    let moves = transition::copy(CopyEvent::Unwanted);
    let done = statement(format!(
        "UPDATE snapshot_copies SET state = {} WHERE region = $2 AND state IN {} AND snapshot_id IN \
         (SELECT id FROM snapshots WHERE deployment_id = $1)",
        moves.next, moves.from
    ))
    .bind(deployment.to_string())
    .bind(region.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected())
}
