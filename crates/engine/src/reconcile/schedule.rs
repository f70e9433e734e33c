//! Asks for the snapshots that schedules want, and for the exports of those.
//!
//! What is due is told by the model, out of the schedule, of up to when everything was seen to, and of the clock; that it is
//! taken once is decided by the catalog. So it does no harm to run this in several processes, to be away for days, or to
//! have a clock that jumps: whoever was away takes one snapshot, which stands for all that were due meanwhile.

use catalog::{Conflict, DeploymentSchedule, DueExport, NewExport, Taken};
use model::{
    WallTime,
    schedule::{Due, Step},
};
use serde::Serialize;
use serde_json::Value;

use crate::{crash, engine::Services, lease::JobError};

/// What one look at all schedules did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Did {
    /// Deployments that have a schedule since this look, as flex clusters have one.
    given: u64,
    /// Schedules that take anything.
    schedules: u64,
    /// Snapshots that were asked for.
    requested: u64,
    /// Hourly ones that were left out, since the one before was not done.
    skipped: u64,
    /// Ones that wait for the one before to be done.
    put_off: u64,
    /// Exports that were asked for.
    exports: u64,
    /// Schedules that began anew, since the clock had been ahead.
    turned_back: u64,
}

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    // Nobody sets one for them, as at Atlas: also not for those that were registered by a version that gave them none.
    let given = services.catalog.schedules().give_to_flex(services.now()).await?;
    for deployment in &given {
        tracing::info!(deployment.id = %deployment, "a snapshot a day is taken of deployment {deployment} from now on, as of every flex cluster");
    }
    let mut did = look(services, services.now()).await?;
    did.given = given.len() as u64;
    for due in services.catalog.schedules().exports_due().await? {
        did.exports += u64::from(export(services, due).await?);
    }
    if did.requested + did.exports > 0 {
        services.poke.notify_one();
    }
    serde_json::to_value(did).map_err(|e| JobError::failed_by("tell what was done about schedules", e))
}

async fn look(services: &Services, now: WallTime) -> Result<Did, JobError> {
    let schedules = services.catalog.schedules();
    let mut did = Did::default();
    for seen in schedules.active().await? {
        did.schedules += 1;
        match seen.schedule.step(seen.handled_until, now) {
            Step::Wait => {}
            Step::TurnBack if schedules.turn_back(&seen, now).await? => {
                let deployment = seen.deployment_id;
                tracing::warn!(deployment.id = %deployment, ahead = %seen.handled_until.to_rfc3339(), "the clock was ahead when a snapshot of deployment {deployment} was due last; its schedule goes on from now");
                did.turned_back += 1;
            }
            Step::TurnBack => {}
            Step::Take(due) => take(services, &seen, &due, now, &mut did).await?,
        }
    }
    Ok(did)
}

async fn take(
    services: &Services,
    seen: &DeploymentSchedule,
    due: &Due,
    now: WallTime,
    did: &mut Did,
) -> Result<(), JobError> {
    let (deployment, at) = (seen.deployment_id, due.at.to_rfc3339());
    let kind = due.frequency.kind().as_str();
    crash::point("schedule.before-take");
    match services.catalog.schedules().take(seen, due, now).await? {
        Taken::Queued(snapshot) => {
            crash::point("schedule.after-take");
            tracing::info!(snapshot.id = %snapshot.id, deployment.id = %deployment, due = at, "snapshot {} is the {kind} one of deployment {deployment} that was due at {at}", snapshot.id);
            did.requested += 1;
        }
        Taken::Skipped => {
            tracing::warn!(deployment.id = %deployment, due = at, "the {kind} snapshot of deployment {deployment} that was due at {at} is left out: the one before it is not done");
            did.skipped += 1;
        }
        Taken::PutOff => {
            tracing::debug!(deployment.id = %deployment, due = at, "the {kind} snapshot of deployment {deployment} that was due at {at} waits for the one before it");
            did.put_off += 1;
        }
        Taken::NotOurs => {}
    }
    Ok(())
}

/// Asks for the export of a snapshot, unless that has become impossible or unnecessary meanwhile.
async fn export(services: &Services, due: DueExport) -> Result<bool, JobError> {
    let DueExport { deployment_id, snapshot_id, bucket_id } = due;
    let organization = &services.settings.organization;
    let new = NewExport {
        deployment_id,
        snapshot_id,
        bucket_id,
        custom_data: vec![],
        organization,
        scheduled: true,
    };
    match services.catalog.exports().request(new, services.now()).await {
        Ok(job) => {
            tracing::info!(export.id = %job.id, snapshot.id = %snapshot_id, "export {} is that of snapshot {snapshot_id}, as the schedule of deployment {deployment_id} wants it", job.id);
            Ok(true)
        }
        // Somebody was quicker, or deleted what it is about.
        Err(
            catalog::Error::Conflict(Conflict::SnapshotExporting)
            | catalog::Error::NotFound { .. }
            | catalog::Error::Illegal(_),
        ) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
