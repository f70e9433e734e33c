//! Schedules: which snapshots of a deployment are taken by themselves.
//!
//! What decides that a due time is taken once, whatever clocks and servers there are: the row says up to which time
//! everything was seen to and moves on by one conditional update, and no two snapshots of a deployment have one due time.

mod change;
mod export;
mod take;

use model::{
    WallTime,
    id::DeploymentId,
    schedule::{AutoExport, CopySettings, ExportPolicy, Policy, ReferenceTime, Schedule},
};
use sqlx::{any::AnyRow, query};

pub use change::{Applied, ScheduleChange};
pub(crate) use change::{bring_into_line, forget};
pub use export::DueExport;
pub use take::Taken;

use crate::{
    Catalog, Error, Result,
    row::{Columns, statement},
};

const COLUMNS: &str = "deployment_id, reference_hour, reference_minute, items, handled_until, revision, updated_at, \
                       export_bucket_id, export_frequency, auto_export, export_from, \
                       extra_retention, names_in_exports, copy_settings";

/// The schedule of a deployment, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentSchedule {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// When snapshots are taken, and how long they are kept.
    pub schedule: Schedule,
    /// Which of them are exported by themselves.
    pub auto_export: AutoExport,
    /// Snapshots that were completed before this time are not.
    pub export_from: WallTime,
    /// Whether the paths of files that are exported of the deployment have the names of the organization and the project,
    /// and not their ids.
    pub names_in_exports: bool,
    /// Which snapshots are copied to other vaults.
    pub copies: CopySettings,
    /// All times up to this one were seen to.
    pub handled_until: WallTime,
    /// Another number after each change.
    pub revision: i64,
    /// When it was changed last.
    pub updated_at: WallTime,
}

/// Operations on schedules.
#[derive(Debug, Clone, Copy)]
pub struct Schedules<'a>(pub(crate) &'a Catalog);

impl Schedules<'_> {
    /// The schedule of a deployment; nothing when nobody has set one, or it was deleted.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, deployment: DeploymentId) -> Result<Option<DeploymentSchedule>> {
        let row = statement(format!("SELECT {COLUMNS} FROM schedules WHERE deployment_id = $1"))
            .bind(deployment.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(schedule).transpose()
    }

    /// The schedules that take anything, of deployments that are not removed.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn active(&self) -> Result<Vec<DeploymentSchedule>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM schedules WHERE items <> '[]' AND EXISTS \
             (SELECT 1 FROM deployments d WHERE d.id = schedules.deployment_id AND d.removed_at IS NULL) \
             ORDER BY deployment_id"
        ))
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(schedule).collect()
    }

    /// Sets back up to when everything was seen to, after the clock was ahead. `false` when somebody was quicker.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn turn_back(&self, seen: &DeploymentSchedule, to: WallTime) -> Result<bool> {
        let done = query(
            "UPDATE schedules SET handled_until = $4 WHERE deployment_id = $1 AND revision = $2 AND handled_until = $3",
        )
        .bind(seen.deployment_id.to_string())
        .bind(seen.revision)
        .bind(seen.handled_until.0)
        .bind(to.0)
        .execute(self.0.database.writer())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}

fn schedule(row: &AnyRow) -> Result<DeploymentSchedule> {
    let reference = ReferenceTime::new(row.int("reference_hour")?, row.int("reference_minute")?);
    let reference = reference
        .map_err(|bad| Error::corrupt(format!("columns reference_hour, reference_minute: {bad}")))?;
    Ok(DeploymentSchedule {
        deployment_id: row.parsed("deployment_id")?,
        schedule: Schedule {
            reference,
            policy: row.json::<Policy>("items")?,
            extra: row.json("extra_retention")?,
        },
        auto_export: auto_export(row)?,
        export_from: row.time("export_from")?,
        names_in_exports: row.flag("names_in_exports")?,
        copies: copy_settings(row)?,
        handled_until: row.time("handled_until")?,
        revision: row.int("revision")?,
        updated_at: row.time("updated_at")?,
    })
}

/// What is copied to other vaults.
pub(crate) fn copy_settings(row: &AnyRow) -> Result<CopySettings> {
    row.json("copy_settings")
}

fn auto_export(row: &AnyRow) -> Result<AutoExport> {
    let Some(bucket_id) = row.maybe_parsed("export_bucket_id")? else { return Ok(AutoExport::Unset) };
    let policy = ExportPolicy { bucket_id, frequency: row.parsed("export_frequency")? };
    Ok(if row.flag("auto_export")? { AutoExport::On(policy) } else { AutoExport::Off(policy) })
}
