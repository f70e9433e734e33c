//! The body of a change of a legacy schedule: what is given is changed, what is left out stays. What would come back in
//! other words than it was said is refused.

use catalog::{Deployment, DeploymentSchedule, ScheduleChange};
use model::{
    RestoreWindowDays,
    id::PolicyItemId,
    schedule::{LegacySchedule, Schedule},
};

use super::schedule::{CHECKPOINT_INTERVAL_MINUTES, legacy_of, window_hours};
use crate::{
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
    gate::Call,
};

const KNOWN: &[&str] = &[
    "clusterCheckpointIntervalMin",
    "clusterId",
    "dailySnapshotRetentionDays",
    "groupId",
    "links",
    "monthlySnapshotRetentionMonths",
    "pointInTimeWindowHours",
    "snapshotIntervalHours",
    "snapshotRetentionDays",
    "weeklySnapshotRetentionWeeks",
];
const HOURS_A_DAY: u32 = 24;

/// What is asked for, each of it or nothing.
#[derive(Debug)]
pub(super) struct Wanted {
    interval_hours: Option<u32>,
    recent_days: Option<u32>,
    daily_days: Option<u32>,
    weekly_weeks: Option<u32>,
    monthly_months: Option<u32>,
    window: Option<RestoreWindowDays>,
}

impl Wanted {
    pub(super) fn read(call: &Call, deployment: &Deployment) -> Answer<Self> {
        let mut fields = Fields::parse(&call.headers, &call.body, KNOWN)?;
        if fields.text("clusterId")?.is_some_and(|id| id != deployment.id.to_string()) {
            return Err(invalid("clusterId").because("It is another cluster's than that of the path."));
        }
        if let Some(minutes) = fields.int32("clusterCheckpointIntervalMin")?
            && i64::from(minutes) != i64::from(CHECKPOINT_INTERVAL_MINUTES)
        {
            return Err(Problem::new(Code::InvalidClusterCheckpointInterval).with(minutes).because(format!(
                "Checkpoints are of sharded clusters, and this is a replica set: leave it out, or send {CHECKPOINT_INTERVAL_MINUTES}."
            )));
        }
        Ok(Self {
            window: fields
                .int32("pointInTimeWindowHours")?
                .map(|hours| window(deployment, hours))
                .transpose()?
                .flatten(),
            interval_hours: number(&mut fields, "snapshotIntervalHours")?,
            recent_days: number(&mut fields, "snapshotRetentionDays")?,
            daily_days: number(&mut fields, "dailySnapshotRetentionDays")?,
            weekly_weeks: number(&mut fields, "weeklySnapshotRetentionWeeks")?,
            monthly_months: number(&mut fields, "monthlySnapshotRetentionMonths")?,
        })
    }

    /// What is wanted, as a change of what is there. Snapshots that were taken stay as they are.
    pub(super) fn change(
        &self,
        deployment: &Deployment,
        before: Option<&DeploymentSchedule>,
        new_id: impl FnMut() -> PolicyItemId,
    ) -> Answer<ScheduleChange> {
        let was = before.map(|kept| kept.schedule.clone()).unwrap_or_default();
        let shown = match before {
            Some(_) if !was.policy.is_none() => Some(legacy_of(deployment, &was)?),
            _ => None,
        };
        let said = LegacySchedule {
            interval_hours: of(self.interval_hours, shown, "snapshotIntervalHours", |s| s.interval_hours)?,
            recent_days: of(self.recent_days, shown, "snapshotRetentionDays", |s| s.recent_days)?,
            daily_days: of(self.daily_days, shown, "dailySnapshotRetentionDays", |s| s.daily_days)?,
            weekly_weeks: of(self.weekly_weeks, shown, "weeklySnapshotRetentionWeeks", |s| s.weekly_weeks)?,
            monthly_months: of(self.monthly_months, shown, "monthlySnapshotRetentionMonths", |s| {
                s.monthly_months
            })?,
        };
        let policy = said
            .policy(&was.policy, new_id)
            .map_err(|bad| Problem::new(Code::InvalidSnapshotSchedule).with(bad.to_string()))?;
        Ok(ScheduleChange {
            of_revision: before.map(|kept| kept.revision),
            auto_export: before.map(|kept| kept.auto_export).unwrap_or_default(),
            names_in_exports: before.is_some_and(|kept| kept.names_in_exports),
            copies: before.map(|kept| kept.copies.clone()).unwrap_or_default(),
            delete_copies: vec![],
            restore_window: self.window,
            retention: vec![],
            delete_of: vec![],
            schedule: Schedule { policy, ..was },
        })
    }

    /// The restore window afterwards.
    pub(super) fn window(&self, deployment: &Deployment) -> RestoreWindowDays {
        self.window.unwrap_or(deployment.continuous.restore_window_days)
    }
}

fn of(
    given: Option<u32>,
    shown: Option<LegacySchedule>,
    name: &'static str,
    field: impl Fn(LegacySchedule) -> u32,
) -> Answer<u32> {
    given.or(shown.map(field)).ok_or_else(|| missing(name))
}

fn number(fields: &mut Fields, name: &'static str) -> Answer<Option<u32>> {
    let Some(value) = fields.int32(name)? else { return Ok(None) };
    let why = || format!("{name} is not negative");
    let good = u32::try_from(value).map_err(|_| Problem::new(Code::InvalidSnapshotSchedule).with(why()))?;
    Ok(Some(good))
}

/// A window in hours as the days that there are here. Nothing when it is the one that is shown, which may be that continuous
/// backup is off.
fn window(deployment: &Deployment, hours: i32) -> Answer<Option<RestoreWindowDays>> {
    let refuse = |why: String| Problem::new(Code::CannotSetPointInTimeWindow).because(why);
    let hours = u32::try_from(hours).map_err(|_| refuse("It is negative.".to_owned()))?;
    if hours == window_hours(deployment, deployment.continuous.restore_window_days) {
        return Ok(None);
    }
    let name = &deployment.name;
    if !deployment.continuous.pit_enabled {
        return Err(refuse(format!(
            "Continuous backup of {name} is off: switch it on with `ebbtide cluster update {name} --pit on`."
        )));
    }
    if hours == 0 {
        return Err(refuse(format!(
            "To switch continuous backup of {name} off is to delete what is recorded: do it with `ebbtide cluster update \
             {name} --pit off`."
        )));
    }
    if hours % HOURS_A_DAY != 0 {
        return Err(refuse("A restore window has whole days: give a multiple of 24.".to_owned()));
    }
    let days = RestoreWindowDays::new(hours / HOURS_A_DAY);
    days.map(Some).map_err(|bad| refuse(format!("It cannot be: {bad}.")))
}
