//! Backup schedules of replica sets: when snapshots are taken by themselves, and how long they are kept.
//!
//! Atlas sets one by itself when backup is switched on. Here a deployment has none until somebody asks for one, since it
//! is somebody's own server that has to bear the load; it is shown as one without policy items, as it is after a DELETE.

use catalog::{Applied, Conflict, Deployment, DeploymentSchedule, ScheduleChange};
use http::Method;
use model::role::Action;
use serde_json::json;

use super::{Operation, audit, clusters::cluster, export_buckets, schedule_input::Wanted, schedule_view};
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    rate::Set,
    reply::Reply,
    version::Version,
};

const PATH: &str = "/groups/{groupId}/clusters/{clusterName}/backup/schedule";
/// They differ in what a copy to another region is told by.
const VERSIONS: &[Version] = &[
    Version::current(2023, 1, 1)
        .deprecated("Mon, 5 Aug 2024 00:00:00 GMT", Some("Thu, 1 Jul 2027 00:00:00 GMT")),
    Version::current(2024, 8, 5),
];
/// So often a change is made of what somebody else has just made, before it is refused.
const ATTEMPTS: usize = 3;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "getGroupClusterBackupSchedule",
        method: Method::GET,
        path: PATH,
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "updateGroupClusterBackupSchedule",
        method: Method::PATCH,
        path: PATH,
        versions: VERSIONS,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(update(call)),
    },
    Operation {
        id: "deleteGroupClusterBackupSchedule",
        method: Method::DELETE,
        path: PATH,
        versions: VERSIONS,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(delete(call)),
    },
];

async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let kept = read(&call, &deployment).await?;
    let window = deployment.continuous.restore_window_days;
    Ok(Reply::object(schedule_view::schedule(&call, &deployment, kept.as_ref(), window)))
}

async fn update(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let wanted = Wanted::read(&call)?;
    // What the settings of now want copied is wanted, though nobody has looked since it was completed.
    let decided = call.server.state.catalog.copies().decide(call.server.now()).await;
    decided.map_err(|e| call.server.catalog_problem("decide what is copied", e))?;
    let applied = replace(&call, &deployment, |before| change(&wanted, &deployment, before, &call)).await?;
    if applied.snapshots_deleted > 0 || applied.schedule.auto_export.is_on() {
        call.server.state.poke.notify_one();
    }
    write_down(&call, &deployment, &wanted, &applied);
    let window = wanted.restore_window.unwrap_or(deployment.continuous.restore_window_days);
    Ok(Reply::object(schedule_view::schedule(&call, &deployment, Some(&applied.schedule), window)))
}

/// Makes a change of what is there, again when somebody else was quicker.
pub(super) async fn replace(
    call: &Call,
    deployment: &Deployment,
    change: impl Fn(Option<&DeploymentSchedule>) -> Answer<ScheduleChange>,
) -> Answer<Applied> {
    let mut before = read(call, deployment).await?;
    let mut attempt = 1;
    let applied = loop {
        let change = change(before.as_ref())?;
        let schedules = call.server.state.catalog.schedules();
        match schedules.change(deployment.id, &change, call.server.now()).await {
            Ok(applied) => break applied,
            Err(catalog::Error::Conflict(Conflict::ScheduleChanged)) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(refused(call, deployment, "change a schedule", error)),
        }
        before = read(call, deployment).await?;
    };
    call.server.forget_deployments();
    Ok(applied)
}

/// What is wanted, as a change of what is there.
fn change(
    wanted: &Wanted,
    deployment: &Deployment,
    before: Option<&DeploymentSchedule>,
    call: &Call,
) -> Answer<ScheduleChange> {
    let was = before.map(|kept| kept.schedule.clone()).unwrap_or_default();
    let schedule = wanted.apply(deployment, &was, || catalog::new_id(call.server.now()))?;
    let (copies, delete_copies) = wanted.copies(call, before)?;
    Ok(ScheduleChange {
        of_revision: before.map(|kept| kept.revision),
        auto_export: wanted.auto_export(before)?,
        restore_window: wanted.restore_window,
        names_in_exports: wanted
            .names_in_exports
            .unwrap_or_else(|| before.is_some_and(|kept| kept.names_in_exports)),
        copies,
        delete_copies,
        retention: if wanted.update_snapshots { was.retention_changes(&schedule) } else { vec![] },
        delete_of: if wanted.delete_snapshots { was.policy.gone(&schedule.policy) } else { vec![] },
        schedule,
    })
}

fn write_down(call: &Call, deployment: &Deployment, wanted: &Wanted, applied: &Applied) {
    let mut detail = schedule_view::as_written_down(&applied.schedule);
    detail["cluster"] = deployment.name.as_str().into();
    if let Some(window) = wanted.restore_window {
        detail["restoreWindowDays"] = window.days().into();
    }
    if wanted.update_snapshots {
        detail["snapshotsKeptAnew"] = applied.snapshots_kept_anew.into();
    }
    if wanted.delete_snapshots {
        detail["snapshotsDeleted"] = applied.snapshots_deleted.into();
    }
    if applied.copies_deleted > 0 {
        detail["copiesDeleted"] = applied.copies_deleted.into();
    }
    audit::record(call, "schedule.update", deployment.id, detail);
}

/// Takes no more snapshots; those that were taken stay until they expire.
async fn delete(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let deleted = call.server.state.catalog.schedules().delete(deployment.id).await;
    let was_there = deleted.map_err(|e| refused(&call, &deployment, "delete a schedule", e))?;
    if was_there {
        let detail = json!({"cluster": deployment.name.as_str()});
        audit::record(&call, "schedule.delete", deployment.id, detail);
    }
    let window = deployment.continuous.restore_window_days;
    Ok(Reply::object(schedule_view::schedule(&call, &deployment, None, window)))
}

/// The schedule of a deployment, if somebody has set one.
pub(super) async fn read(call: &Call, deployment: &Deployment) -> Answer<Option<DeploymentSchedule>> {
    let found = call.server.state.catalog.schedules().get(deployment.id).await;
    found.map_err(|e| call.server.catalog_problem("read a schedule", e))
}

fn refused(call: &Call, deployment: &Deployment, context: &str, error: catalog::Error) -> Problem {
    match error {
        catalog::Error::NotFound { what: "export bucket", id } => export_buckets::unknown(&id),
        // It was removed since it was looked up.
        catalog::Error::NotFound { .. } => {
            call.server.forget_deployments();
            Problem::new(Code::ClusterNotFound)
                .with(deployment.name.as_str())
                .with(deployment.project_id.to_string())
        }
        catalog::Error::Conflict(conflict @ Conflict::ScheduleChanged) => {
            Problem::new(Code::ServiceUnavailable).with(conflict.to_string())
        }
        other => call.server.catalog_problem(context, other),
    }
}
