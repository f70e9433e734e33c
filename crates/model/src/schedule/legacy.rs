//! Schedules in the words from before Cloud Backup: one interval, and how long recent, daily, weekly and monthly snapshots
//! are kept. Each such schedule that makes sense is one of ours; not each of ours can be said like that. What is said comes
//! back as it was said, or is refused: never is a part of it taken and forgotten.

use super::{BadPolicy, Frequency, FrequencyType, Policy, PolicyItem, Schedule};
use crate::{Retention, RetentionUnit, id::PolicyItemId};

/// A schedule as the legacy pages have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacySchedule {
    /// Hours between snapshots.
    pub interval_hours: u32,
    /// Days for which each of these is kept.
    pub recent_days: u32,
    /// Days for which one of each day is kept; none is for its sake when it is 0.
    pub daily_days: u32,
    /// Weeks for which one of each week is kept, likewise.
    pub weekly_weeks: u32,
    /// Months for which one of each month is kept, likewise.
    pub monthly_months: u32,
}

/// The interval of snapshots that are taken once a day.
const DAY_HOURS: u32 = 24;
/// The longest retention of recent snapshots.
const RECENT_DAYS_MAX: u32 = 5;

const INTERVAL_HOURS: (&str, &[u32]) = ("snapshotIntervalHours", &[6, 8, 12, DAY_HOURS]);
const RECENT_DAYS: (&str, &[u32]) = ("snapshotRetentionDays", &[2, 3, 4, RECENT_DAYS_MAX]);
const DAILY_DAYS: (&str, &[u32]) =
    ("dailySnapshotRetentionDays", &[0, 3, 4, 5, 6, 7, 15, 30, 60, 90, 120, 180, 360]);
const WEEKLY_WEEKS: (&str, &[u32]) =
    ("weeklySnapshotRetentionWeeks", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 52]);
const MONTHLY_MONTHS: (&str, &[u32]) =
    ("monthlySnapshotRetentionMonths", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 18, 24, 36]);

impl LegacySchedule {
    /// A schedule in these words.
    ///
    /// # Errors
    /// [`NotLegacy`] when they have no way to say it.
    pub fn of(schedule: &Schedule) -> Result<Self, NotLegacy> {
        let items = schedule.policy.items();
        let one = |kind: FrequencyType| {
            let mut found = items.iter().filter(|item| item.frequency.kind() == kind);
            match (found.next(), found.next()) {
                (_, Some(_)) => Err(NotLegacy::Several(kind)),
                (item, None) => Ok(item),
            }
        };
        if let Some(item) = one(FrequencyType::Yearly)? {
            return Err(NotLegacy::Item(*item));
        }
        let kept = |item: Option<&PolicyItem>, unit: RetentionUnit, known: (&str, &[u32])| {
            let Some(item) = item else { return Ok(0) };
            let value = item.retention.value();
            let is_said = item.retention.unit() == unit && known.1.contains(&value);
            if is_said { Ok(value) } else { Err(NotLegacy::Item(*item)) }
        };
        let (hourly, daily) = (one(FrequencyType::Hourly)?, one(FrequencyType::Daily)?);
        let weekly_weeks = kept(one(FrequencyType::Weekly)?, RetentionUnit::Weeks, WEEKLY_WEEKS)?;
        let monthly_months = kept(one(FrequencyType::Monthly)?, RetentionUnit::Months, MONTHLY_MONTHS)?;
        let (interval_hours, recent_days, daily_days) = match (hourly, daily) {
            (Some(hourly), daily) => {
                let interval = u32::from(hourly.frequency.interval());
                if !INTERVAL_HOURS.1.contains(&interval) {
                    return Err(NotLegacy::Item(*hourly));
                }
                let recent = kept(Some(hourly), RetentionUnit::Days, RECENT_DAYS)?;
                (interval, recent, kept(daily, RetentionUnit::Days, DAILY_DAYS)?)
            }
            // Once a day: what is kept as long as a recent one is one, and no other.
            (None, Some(daily)) => match kept(Some(daily), RetentionUnit::Days, RECENT_DAYS) {
                Ok(recent) => (DAY_HOURS, recent, 0),
                Err(_) => (DAY_HOURS, RECENT_DAYS_MAX, kept(Some(daily), RetentionUnit::Days, DAILY_DAYS)?),
            },
            (None, None) => return Err(NotLegacy::Nothing),
        };
        Ok(Self { interval_hours, recent_days, daily_days, weekly_weeks, monthly_months })
    }

    /// The policy that takes these snapshots. An item of a type that was there keeps its id, and the day on which it is due.
    ///
    /// # Errors
    /// [`BadLegacySchedule`] when a value is none of the known ones, or they contradict each other.
    pub fn policy(
        self,
        before: &Policy,
        mut new_id: impl FnMut() -> PolicyItemId,
    ) -> Result<Policy, BadLegacySchedule> {
        for (value, (field, known)) in [
            (self.interval_hours, INTERVAL_HOURS),
            (self.recent_days, RECENT_DAYS),
            (self.daily_days, DAILY_DAYS),
            (self.weekly_weeks, WEEKLY_WEEKS),
            (self.monthly_months, MONTHLY_MONTHS),
        ] {
            if !known.contains(&value) {
                return Err(BadLegacySchedule::Unknown { field, value, known });
            }
        }
        let (hourly, daily) = if self.interval_hours == DAY_HOURS {
            (0, self.once_a_day()?)
        } else {
            (self.recent_days, self.daily_days)
        };
        let mut items = vec![];
        for (kind, unit, value) in [
            (FrequencyType::Hourly, RetentionUnit::Days, hourly),
            (FrequencyType::Daily, RetentionUnit::Days, daily),
            (FrequencyType::Weekly, RetentionUnit::Weeks, self.weekly_weeks),
            (FrequencyType::Monthly, RetentionUnit::Months, self.monthly_months),
        ] {
            let Ok(retention) = Retention::new(unit, value) else { continue };
            let was = before.items().iter().find(|item| item.frequency.kind() == kind);
            let interval = match (kind, was) {
                (FrequencyType::Hourly, _) => i64::from(self.interval_hours),
                (_, Some(was)) => i64::from(was.frequency.interval()),
                (_, None) => first_interval(kind),
            };
            let Ok(frequency) = Frequency::new(kind, interval) else { continue };
            items.push(PolicyItem { id: was.map_or_else(&mut new_id, |was| was.id), frequency, retention });
        }
        Policy::new(items).map_err(BadLegacySchedule::Contradiction)
    }

    /// For how many days the snapshot of a day is kept, which is the recent and the daily one at once.
    fn once_a_day(self) -> Result<u32, BadLegacySchedule> {
        match self.daily_days {
            0 => Ok(self.recent_days),
            longer if longer > RECENT_DAYS_MAX && self.recent_days == RECENT_DAYS_MAX => Ok(longer),
            _ => Err(BadLegacySchedule::TwiceADay),
        }
    }
}

/// The day on which items of a type are due that nobody has chosen one for: those that Atlas begins with.
fn first_interval(kind: FrequencyType) -> i64 {
    let found = Schedule::DEFAULT_ITEMS.iter().find(|(other, ..)| *other == kind);
    found.map_or(1, |(_, interval, ..)| i64::from(*interval))
}

/// The legacy words have no way to say a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotLegacy {
    /// It has several items of one type.
    #[error("it has several {} items", .0.as_str())]
    Several(FrequencyType),
    /// It has an item that they do not know.
    #[error(
        "its {kind} item (interval {interval}, kept for {retention}) has no legacy form",
        kind = .0.frequency.kind().as_str(), interval = .0.frequency.interval(), retention = .0.retention
    )]
    Item(PolicyItem),
    /// It takes nothing every day.
    #[error("it takes no snapshot every day")]
    Nothing,
}

/// No schedule is like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLegacySchedule {
    /// A value is none of those that its field has.
    #[error("{field} is one of {known:?}, not {value}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What was given.
        value: u32,
        /// What it may be.
        known: &'static [u32],
    },
    /// One snapshot a day is kept for two different times.
    #[error(
        "with snapshotIntervalHours 24 there is one snapshot a day, which is kept for one time: give \
         dailySnapshotRetentionDays 0, or more than 5 with snapshotRetentionDays 5"
    )]
    TwiceADay,
    /// What is taken more seldom goes earlier, or before the next one is taken.
    #[error(transparent)]
    Contradiction(BadPolicy),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ids() -> impl FnMut() -> PolicyItemId {
        let mut count = 0;
        move || {
            count += 1;
            PolicyItemId::from_parts(count, [0; 8])
        }
    }

    fn schedule(policy: Policy) -> Schedule {
        Schedule { policy, ..Schedule::default() }
    }

    #[test]
    fn whatever_is_taken_comes_back_as_it_was_said() {
        let mut taken = 0;
        for &interval_hours in INTERVAL_HOURS.1 {
            for &recent_days in RECENT_DAYS.1 {
                for &daily_days in DAILY_DAYS.1 {
                    for &weekly_weeks in WEEKLY_WEEKS.1 {
                        for &monthly_months in MONTHLY_MONTHS.1 {
                            let said = LegacySchedule {
                                interval_hours,
                                recent_days,
                                daily_days,
                                weekly_weeks,
                                monthly_months,
                            };
                            let Ok(policy) = said.policy(&Policy::none(), ids()) else { continue };
                            taken += 1;
                            assert_eq!(LegacySchedule::of(&schedule(policy.clone())), Ok(said));
                            assert_eq!(said.policy(&policy, || unreachable!()), Ok(policy));
                        }
                    }
                }
            }
        }
        assert!(taken > 5_000, "{taken} are taken");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let good = LegacySchedule {
            interval_hours: 6,
            recent_days: 2,
            daily_days: 7,
            weekly_weeks: 4,
            monthly_months: 13,
        };
        let refused = |said: LegacySchedule| said.policy(&Policy::none(), ids()).unwrap_err();
        assert!(good.policy(&Policy::none(), ids()).is_ok());
        let unknown = [
            LegacySchedule { interval_hours: 7, ..good },
            LegacySchedule { recent_days: 1, ..good },
            LegacySchedule { daily_days: 8, ..good },
            LegacySchedule { weekly_weeks: 9, ..good },
            LegacySchedule { monthly_months: 14, ..good },
        ];
        for said in unknown {
            assert!(matches!(refused(said), BadLegacySchedule::Unknown { .. }), "{said:?}");
        }
        for (daily_days, recent_days) in [(3, 3), (7, 2), (5, 5)] {
            let said = LegacySchedule { interval_hours: 24, daily_days, recent_days, ..good };
            assert_eq!(refused(said), BadLegacySchedule::TwiceADay);
        }
        for said in [
            LegacySchedule { recent_days: 5, daily_days: 3, ..good },
            LegacySchedule { daily_days: 30, weekly_weeks: 1, ..good },
            LegacySchedule { weekly_weeks: 52, monthly_months: 1, ..good },
        ] {
            assert!(matches!(refused(said), BadLegacySchedule::Contradiction(_)), "{said:?}");
        }
    }

    #[test]
    fn what_has_no_legacy_form_says_so() {
        let item = |kind, interval, unit, value| PolicyItem {
            id: PolicyItemId::from_parts(value, [kind as u8; 8]),
            frequency: Frequency::new(kind, interval).unwrap(),
            retention: Retention::new(unit, value).unwrap(),
        };
        let of = |items: Vec<PolicyItem>| LegacySchedule::of(&schedule(Policy::new(items).unwrap()));
        let (days, weeks) = (RetentionUnit::Days, RetentionUnit::Weeks);
        let daily = item(FrequencyType::Daily, 1, days, 7);
        for odd in [
            item(FrequencyType::Hourly, 4, days, 2),
            item(FrequencyType::Hourly, 6, days, 7),
            item(FrequencyType::Weekly, 1, weeks, 9),
            item(FrequencyType::Monthly, 1, days, 60),
            item(FrequencyType::Yearly, 1, RetentionUnit::Years, 1),
        ] {
            assert_eq!(of(vec![daily, odd]), Err(NotLegacy::Item(odd)));
        }
        let two =
            vec![daily, item(FrequencyType::Weekly, 1, weeks, 1), item(FrequencyType::Weekly, 2, weeks, 2)];
        assert_eq!(of(two), Err(NotLegacy::Several(FrequencyType::Weekly)));
        assert_eq!(of(vec![item(FrequencyType::Weekly, 1, weeks, 1)]), Err(NotLegacy::Nothing));
        assert_eq!(LegacySchedule::of(&Schedule::default()), Err(NotLegacy::Nothing));
    }
}
