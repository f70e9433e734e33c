//! Setting and deleting schedules, and what that does to the snapshots that they took.

use model::{
    DeploymentKind, RestoreWindowDays, WallTime,
    compliance::{CompliancePolicy, Forbidden, Shortfall},
    copy::RegionName,
    id::{DeploymentId, PolicyItemId, SnapshotId},
    schedule::{AutoExport, CopySettings, Policy, RetentionChange, Schedule, TakenBy},
    snapshot::SnapshotEvent,
};
use sqlx::{Any, Transaction, query};

use super::{COLUMNS, DeploymentSchedule, Schedules, schedule};
use crate::{
    Conflict, Error, Result, compliance, copies, deployments, exports, new_id,
    row::{Columns, statement, to_json},
    snapshots::DAY_MS,
    transition,
};

type Tx = Transaction<'static, Any>;

/// A change of a deployment's schedule.
#[derive(Debug, Clone)]
pub struct ScheduleChange {
    /// The revision that it was made of; none when there was no schedule. Another one by now refuses the change.
    pub of_revision: Option<i64>,
    /// The schedule from now on.
    pub schedule: Schedule,
    /// Which of its snapshots are exported from now on; the bucket has to be one of the same project.
    pub auto_export: AutoExport,
    /// Whether paths of exported files have names in place of ids from now on.
    pub names_in_exports: bool,
    /// Which snapshots are copied to other vaults from now on.
    pub copies: CopySettings,
    /// Regions to which nothing is copied any more, and whose copies are deleted.
    pub delete_copies: Vec<RegionName>,
    /// The restore window from now on, when it changes too.
    pub restore_window: Option<RestoreWindowDays>,
    /// Snapshots that were taken already and are kept for another time.
    pub retention: Vec<RetentionChange>,
    /// Items whose snapshots are deleted, but for those that are not done.
    pub delete_of: Vec<TakenBy>,
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The schedule as it is now.
    pub schedule: DeploymentSchedule,
    /// Snapshots whose retention was changed.
    pub snapshots_kept_anew: u64,
    /// Snapshots that were deleted.
    pub snapshots_deleted: u64,
    /// Copies that are deleted.
    pub copies_deleted: u64,
}

impl Schedules<'_> {
    /// Changes the schedule of a deployment, all or nothing. What it takes begins with the next time after `now`, unless it
    /// takes snapshots at the same times as before.
    ///
    /// # Errors
    /// [`Conflict::Forbidden`] when it falls short of a compliance policy, or snapshots that were taken would be kept shorter or
    /// deleted against one; [`Conflict::ScheduleChanged`] when it is not of that revision any more; [`crate::Error::NotFound`] when the
    /// deployment or the export bucket (`what` says which) is not there or removed.
    pub async fn change(
        &self,
        deployment: DeploymentId,
        change: &ScheduleChange,
        now: WallTime,
    ) -> Result<Applied> {
        let mut transaction = self.0.database.begin().await?;
        let project = deployments::lock(&mut transaction, deployment).await?.project_id;
        let before = locked(&mut transaction, deployment).await?;
        if before.as_ref().map(|before| before.revision) != change.of_revision {
            return Err(Conflict::ScheduleChanged.into());
        }
        let guarded = compliance::of(&mut transaction, project).await?;
        if let Some(policy) = &guarded {
            allowed(policy, change)?;
        }
        let was = before.as_ref().map(|before| before.auto_export).unwrap_or_default();
        // What was switched off may name a bucket that is deleted since, and be sent back as it was shown.
        let named = change
            .auto_export
            .policy()
            .filter(|now| change.auto_export.is_on() || was.policy() != Some(*now));
        if let Some(export) = named
            && exports::lock_bucket(&mut transaction, export.bucket_id).await? != project
        {
            return Err(Error::not_found("export bucket", export.bucket_id));
        }
        let same_times = before.as_ref().filter(|before| before.schedule.is_as_often_as(&change.schedule));
        // Under a policy what was about to be due is not forgotten by moving it: one is taken at once.
        let kept = before.as_ref().filter(|_| guarded.is_some()).or(same_times);
        let handled_until = kept.map_or(now, |before| before.handled_until);
        let same_export = before.as_ref().filter(|before| before.auto_export == change.auto_export);
        let times =
            Times { handled_until, export_from: same_export.map_or(now, |before| before.export_from) };
        let written = write(&mut transaction, deployment, change, times, now).await?;
        if let Some(window) = change.restore_window {
            query("UPDATE deployments SET restore_window_days = $2 WHERE id = $1")
                .bind(deployment.to_string())
                .bind(i64::from(window.days()))
                .execute(&mut *transaction)
                .await?;
        }
        let (mut snapshots_kept_anew, lock) = (0, self.0.database.locked());
        for retention in &change.retention {
            let keeping = Keeping { retention, after: &change.schedule, is_guarded: guarded.is_some() };
            snapshots_kept_anew += keep_anew(&mut transaction, deployment, keeping, lock).await?;
        }
        let mut snapshots_deleted = 0;
        for taken_by in &change.delete_of {
            snapshots_deleted += delete_of(&mut transaction, deployment, *taken_by, now).await?;
        }
        let settings = before.iter().flat_map(|before| before.copies.settings());
        let mut unrecorded: Vec<&RegionName> =
            settings.filter(|setting| setting.oplogs).map(|setting| &setting.region).collect();
        unrecorded.retain(|region| !change.copies.of(region).is_some_and(|setting| setting.oplogs));
        unrecorded.sort_unstable();
        for region in unrecorded {
            copies::look_after(&mut transaction, region).await?;
        }
        let mut copies_deleted = 0;
        for region in &change.delete_copies {
            copies_deleted += copies::let_all_go(&mut transaction, deployment, region).await?;
        }
        transaction.commit().await?;
        Ok(Applied { schedule: written, snapshots_kept_anew, snapshots_deleted, copies_deleted })
    }

    /// Has a snapshot a day taken of the deployments that are served as flex clusters; of which it was not before.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn give_to_flex(&self, now: WallTime) -> Result<Vec<DeploymentId>> {
        const FLEX: &str =
            "SELECT id, created_at FROM deployments WHERE kind = $1 AND removed_at IS NULL ORDER BY id";
        let flex =
            query(FLEX).bind(DeploymentKind::Flex.as_str()).fetch_all(self.0.database.reader()).await?;
        let mut given = Vec::new();
        for row in &flex {
            let (deployment, began) = (row.parsed("id")?, row.time("created_at")?);
            let seen = self.get(deployment).await?;
            let seen = seen.as_ref().map(|seen| &seen.schedule);
            if Schedule::of_flex(seen, new_id(now), began).is_some()
                && self.give_a_day(deployment, began, now).await?
            {
                given.push(deployment);
            }
        }
        Ok(given)
    }

    /// The same of one; `false` when it has it, or is none of these, by now.
    async fn give_a_day(&self, deployment: DeploymentId, began: WallTime, now: WallTime) -> Result<bool> {
        const KIND: &str = "SELECT kind FROM deployments WHERE id = $1";
        let mut transaction = self.0.database.begin().await?;
        match deployments::lock(&mut transaction, deployment).await {
            Ok(_) => {}
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let kind = query(KIND).bind(deployment.to_string()).fetch_one(&mut *transaction).await?;
        if kind.parsed::<DeploymentKind>("kind")? != DeploymentKind::Flex {
            return Ok(false);
        }
        let before = locked(&mut transaction, deployment).await?;
        let was = before.as_ref().map(|before| &before.schedule);
        let Some(schedule) = Schedule::of_flex(was, new_id(now), began) else { return Ok(false) };
        let change = as_before(before.as_ref(), schedule);
        let times = Times {
            handled_until: before.as_ref().map_or(now, |before| before.handled_until),
            export_from: before.as_ref().map_or(now, |before| before.export_from),
        };
        write(&mut transaction, deployment, &change, times, now).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Deletes the schedule of a deployment; its snapshots stay until they expire. `false` when it had none.
    ///
    /// # Errors
    /// [`Conflict::Forbidden`] when a compliance policy asks for one;
    /// [`crate::Error::NotFound`] when the deployment is not there or removed.
    pub async fn delete(&self, deployment: DeploymentId) -> Result<bool> {
        let mut transaction = self.0.database.begin().await?;
        let project = deployments::lock(&mut transaction, deployment).await?.project_id;
        if let Some(policy) = compliance::of(&mut transaction, project).await? {
            meets(&policy, &Policy::none())?;
        }
        let was_there = forget(&mut transaction, deployment).await?;
        transaction.commit().await?;
        Ok(was_there)
    }
}

/// A change of the schedule alone.
fn as_before(before: Option<&DeploymentSchedule>, schedule: Schedule) -> ScheduleChange {
    ScheduleChange {
        of_revision: before.map(|before| before.revision),
        schedule,
        auto_export: before.map(|before| before.auto_export).unwrap_or_default(),
        names_in_exports: before.is_some_and(|before| before.names_in_exports),
        copies: before.map(|before| before.copies.clone()).unwrap_or_default(),
        delete_copies: vec![],
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
    }
}

/// Whether a compliance policy allows a change.
fn allowed(policy: &CompliancePolicy, change: &ScheduleChange) -> Result<()> {
    meets(policy, &change.schedule.policy)?;
    if !change.delete_of.is_empty() {
        return Err(Forbidden::Deletion.into());
    }
    if policy.copies_protected && !change.delete_copies.is_empty() {
        return Err(Forbidden::CopyDeletion.into());
    }
    match (policy.continuous, change.restore_window) {
        (Some(least), Some(window)) if window.days() < least.days() => Err(Forbidden::Window(least).into()),
        _ => Ok(()),
    }
}

fn meets(policy: &CompliancePolicy, schedule: &Policy) -> Result<()> {
    let missing = policy.missing_in(schedule);
    if missing.is_empty() { Ok(()) } else { Err(Forbidden::Schedule(missing).into()) }
}

/// In what the schedule of a deployment that is locked falls short of a compliance policy. Such a one is changed to meet it, if
/// that is wanted.
pub(crate) async fn bring_into_line(
    transaction: &mut Tx,
    deployment: DeploymentId,
    policy: &CompliancePolicy,
    overwrite: bool,
    now: WallTime,
) -> Result<Vec<Shortfall>> {
    let before = locked(transaction, deployment).await?;
    let was = before.as_ref().map(|before| before.schedule.clone()).unwrap_or_default();
    let missing = policy.missing_in(&was.policy);
    if missing.is_empty() || !overwrite {
        return Ok(missing);
    }
    let met = policy.met_by(&was.policy, || new_id(now));
    let met = met.map_err(|bad| Error::corrupt(format!("a schedule or compliance policy: {bad}")))?;
    let change = as_before(before.as_ref(), Schedule { policy: met, ..was });
    let same_times = before.as_ref().filter(|before| before.schedule.is_as_often_as(&change.schedule));
    let times = Times {
        handled_until: same_times.map_or(now, |before| before.handled_until),
        export_from: before.as_ref().map_or(now, |before| before.export_from),
    };
    write(transaction, deployment, &change, times, now).await?;
    Ok(missing)
}

/// Forgets the schedule of a deployment that is locked.
pub(crate) async fn forget(transaction: &mut Tx, deployment: DeploymentId) -> Result<bool> {
    let done = query("DELETE FROM schedules WHERE deployment_id = $1")
        .bind(deployment.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// The schedule of a deployment that is locked, so that it stays as it is.
async fn locked(transaction: &mut Tx, deployment: DeploymentId) -> Result<Option<DeploymentSchedule>> {
    let row = statement(format!("SELECT {COLUMNS} FROM schedules WHERE deployment_id = $1"))
        .bind(deployment.to_string())
        .fetch_optional(&mut **transaction)
        .await?;
    row.as_ref().map(schedule).transpose()
}

/// From when on a schedule does something.
struct Times {
    handled_until: WallTime,
    export_from: WallTime,
}

async fn write(
    transaction: &mut Tx,
    deployment: DeploymentId,
    change: &ScheduleChange,
    times: Times,
    now: WallTime,
) -> Result<DeploymentSchedule> {
    let (wanted, export) = (&change.schedule, change.auto_export.policy());
    // A deleted one that comes back must not have a revision that somebody has seen: the time makes it another.
    let row = statement(format!(
        "INSERT INTO schedules ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (deployment_id) DO UPDATE SET reference_hour = excluded.reference_hour, \
         reference_minute = excluded.reference_minute, items = excluded.items, \
         handled_until = excluded.handled_until, revision = schedules.revision + 1, updated_at = excluded.updated_at, \
         export_bucket_id = excluded.export_bucket_id, export_frequency = excluded.export_frequency, \
         auto_export = excluded.auto_export, export_from = excluded.export_from, \
         extra_retention = excluded.extra_retention, names_in_exports = excluded.names_in_exports, \
         copy_settings = excluded.copy_settings \
         RETURNING {COLUMNS}"
    ))
    .bind(deployment.to_string())
    .bind(i64::from(wanted.reference.hour()))
    .bind(i64::from(wanted.reference.minute()))
    .bind(to_json(&wanted.policy))
    .bind(times.handled_until.0)
    .bind(now.0)
    .bind(export.map(|export| export.bucket_id.to_string()))
    .bind(export.map(|export| export.frequency.as_str()))
    .bind(i64::from(change.auto_export.is_on()))
    .bind(times.export_from.0)
    .bind(to_json(&wanted.extra))
    .bind(i64::from(change.names_in_exports))
    .bind(to_json(&change.copies))
    .fetch_one(&mut **transaction)
    .await?;
    schedule(&row)
}

/// The snapshots that an item decided on: those of its frequency, and those that it took when it had another interval.
/// What is not to be deleted is not the schedule's any more.
const TAKEN_BY: &str = "deployment_id = $1 AND do_not_delete = 0 AND due_at IS NOT NULL AND (frequency = $2 OR \
                        (frequency LIKE $3 AND policy_items LIKE $4))";

/// The values of [`TAKEN_BY`].
fn taken_by(deployment: DeploymentId, item: TakenBy) -> [String; 4] {
    let id: PolicyItemId = item.id;
    [
        deployment.to_string(),
        item.frequency.to_string(),
        format!("{}/%", item.frequency.kind().as_str()),
        format!("%\"{id}\"%"),
    ]
}

/// How snapshots that were taken are kept from now on.
#[derive(Clone, Copy)]
struct Keeping<'a> {
    retention: &'a RetentionChange,
    /// The schedule from now on.
    after: &'a Schedule,
    is_guarded: bool,
}

impl Keeping<'_> {
    /// For how many days a snapshot is kept: as long as the change says, or as another item that wanted it has it. Months have
    /// different lengths, so each has its own number.
    fn days(&self, due_at: WallTime, wanted_by: &[PolicyItemId]) -> u32 {
        let others = wanted_by.iter().filter_map(|id| self.after.policy.item(*id));
        let others = others.map(|item| self.after.days_from(item, due_at)).max();
        self.retention.days_from(due_at).max(others.unwrap_or_default())
    }
}

async fn keep_anew(
    transaction: &mut Tx,
    deployment: DeploymentId,
    keeping: Keeping<'_>,
    lock: &'static str,
) -> Result<u64> {
    let mut asked = statement(format!(
        "SELECT id, due_at, completed_at, retention_days, expires_at, policy_items FROM snapshots WHERE {TAKEN_BY} \
         AND state IN ('queued', 'inProgress', 'completed') ORDER BY id{lock}"
    ));
    for value in taken_by(deployment, keeping.retention.taken_by) {
        asked = asked.bind(value);
    }
    let mut kept = 0;
    for row in &asked.fetch_all(&mut **transaction).await? {
        let due_at = row.time("due_at")?;
        let wanted_by: Vec<PolicyItemId> = row.json("policy_items")?;
        let days = i64::from(keeping.days(due_at, &wanted_by));
        let from = row.maybe_time("completed_at")?.unwrap_or(due_at);
        let expires = from.plus_ms(days * DAY_MS);
        let shortens = row.maybe_time("expires_at")?.is_none_or(|before| expires < before);
        if shortens && keeping.retention.is_longer {
            continue;
        }
        if keeping.is_guarded {
            if row.maybe_int("retention_days")?.is_some_and(|before| days < before) {
                return Err(Forbidden::ShorterRetention.into());
            }
            // Somebody has it kept for longer than that: so it is.
            if shortens {
                continue;
            }
        }
        kept += 1;
        query("UPDATE snapshots SET retention_days = $2, expires_at = $3 WHERE id = $1")
            .bind(row.parsed::<SnapshotId>("id")?.to_string())
            .bind(days)
            .bind(expires.0)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(kept)
}

async fn delete_of(
    transaction: &mut Tx,
    deployment: DeploymentId,
    item: TakenBy,
    now: WallTime,
) -> Result<u64> {
    let moves = transition::snapshot(SnapshotEvent::Deleted);
    let mut update = statement(format!(
        "UPDATE snapshots SET state = {}, deleted_at = $5 WHERE {TAKEN_BY} AND state IN {}",
        moves.next, moves.from
    ));
    for value in taken_by(deployment, item) {
        update = update.bind(value);
    }
    Ok(update.bind(now.0).execute(&mut **transaction).await?.rows_affected())
}
