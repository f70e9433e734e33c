//! The schedule in its legacy form: that of Cloud Backup in other words, as far as they go.

use catalog::{Deployment, DeploymentSchedule};
use model::{
    RestoreWindowDays,
    schedule::{LegacySchedule, Schedule},
};
use serde_json::{Value, json};

use super::{elsewhere, require_everything, schedule_input::Wanted};
use crate::{
    error::{Answer, Code, Problem},
    gate::Call,
    ops::{audit, clusters::cluster, links, schedule, schedule_view},
    reply::Reply,
};

/// Where the schedule is shown today.
const INSTEAD: &str = "/backup/schedule";
/// What the schema wants to be told although there are no checkpoints: what Atlas begins with.
pub(super) const CHECKPOINT_INTERVAL_MINUTES: u32 = 15;

pub(super) async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    require_everything(&call, &deployment, INSTEAD)?;
    let kept = schedule::read(&call, &deployment).await?;
    let kept = kept.filter(|kept| !kept.schedule.policy.is_none()).ok_or_else(|| {
        let problem = Problem::new(Code::BackupConfigNotFound).with(deployment.name.as_str());
        problem.with(deployment.project_id.to_string()).because("Nobody has set a schedule.")
    })?;
    let said = legacy_of(&deployment, &kept.schedule)?;
    let window = deployment.continuous.restore_window_days;
    Ok(Reply::object(view(&call, &deployment, said, window)))
}

pub(super) async fn update(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    require_everything(&call, &deployment, INSTEAD)?;
    let wanted = Wanted::read(&call, &deployment)?;
    let applied = schedule::replace(&call, &deployment, |before: Option<&DeploymentSchedule>| {
        wanted.change(&deployment, before, || catalog::new_id(call.server.now()))
    })
    .await?;
    let kept = &applied.schedule;
    let mut detail = schedule_view::as_written_down(kept);
    detail["cluster"] = deployment.name.as_str().into();
    detail["restoreWindowDays"] = wanted.window(&deployment).days().into();
    audit::record(&call, "schedule.update", deployment.id, detail);
    let said = legacy_of(&deployment, &kept.schedule)?;
    Ok(Reply::object(view(&call, &deployment, said, wanted.window(&deployment))))
}

/// A schedule in legacy words, or where one that they have no way to say is shown.
pub(super) fn legacy_of(deployment: &Deployment, schedule: &Schedule) -> Answer<LegacySchedule> {
    LegacySchedule::of(schedule)
        .map_err(|why| elsewhere(deployment, INSTEAD).because(format!("The schedule is another one: {why}.")))
}

/// How far back every time can be restored: nowhere, while continuous backup is off.
pub(super) fn window_hours(deployment: &Deployment, window: RestoreWindowDays) -> u32 {
    if deployment.continuous.pit_enabled { window.days() * 24 } else { 0 }
}

/// `ApiAtlasSnapshotScheduleView`.
fn view(call: &Call, deployment: &Deployment, said: LegacySchedule, window: RestoreWindowDays) -> Value {
    let path = links::deployment_path(deployment);
    json!({
        "clusterCheckpointIntervalMin": CHECKPOINT_INTERVAL_MINUTES,
        "clusterId": deployment.id.to_string(),
        "dailySnapshotRetentionDays": said.daily_days,
        "groupId": deployment.project_id.to_string(),
        "links": [links::own(call.link(&format!("{path}/snapshotSchedule")))],
        "monthlySnapshotRetentionMonths": said.monthly_months,
        "pointInTimeWindowHours": window_hours(deployment, window),
        "snapshotIntervalHours": said.interval_hours,
        "snapshotRetentionDays": said.recent_days,
        "weeklySnapshotRetentionWeeks": said.weekly_weeks,
    })
}
