//! Schedules: when snapshots are taken by themselves, and how long they are kept.
//!
//! A schedule is a time of day and a policy; the policy has items, each with a frequency and a retention. Every item that
//! is not hourly is due at that time of day, and hourly ones are due at it too, so the times of several items often fall
//! together: then one snapshot is taken, kept as long as the longest of them and counted as the rarest, as Atlas does it.

mod copy;
mod due;
mod export;
mod extra;
mod frequency;
mod kind;
mod legacy;
mod policy;

use serde::{Deserialize, Serialize};

pub use copy::{BadCopySettings, Copied, CopySetting, CopySettings};
pub use due::{Due, Step};
pub use export::{AutoExport, ExportPolicy};
pub use extra::{BadExtra, Extra, ExtraRetention};
pub use frequency::{BadInterval, BadReferenceTime, Frequency, FrequencyType, ReferenceTime};
pub use kind::SnapshotKind;
pub use legacy::{BadLegacySchedule, LegacySchedule, NotLegacy};
pub use policy::{BadPolicy, Policy, PolicyItem, RetentionChange, TakenBy, policy_id};

use crate::{Retention, RetentionUnit, WallTime, id::PolicyItemId};

/// When snapshots of a deployment are taken by themselves, and how long they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// The time of day.
    pub reference: ReferenceTime,
    /// What is taken; nothing, when it has no items.
    pub policy: Policy,
    /// By how much longer than that snapshots are kept.
    #[serde(default)]
    pub extra: ExtraRetention,
}

impl Schedule {
    /// What Atlas begins with, which here somebody has to ask for: every 6 hours, kept for 7 days; daily, 7 days; on
    /// Saturdays, 4 weeks; on the last day of a month, 12 months; on December 1st, a year.
    pub const DEFAULT_ITEMS: [(FrequencyType, u8, RetentionUnit, u32); 5] = [
        (FrequencyType::Hourly, 6, RetentionUnit::Days, 7),
        (FrequencyType::Daily, 1, RetentionUnit::Days, 7),
        (FrequencyType::Weekly, 6, RetentionUnit::Weeks, 4),
        (FrequencyType::Monthly, Frequency::LAST_DAY, RetentionUnit::Months, 12),
        (FrequencyType::Yearly, 12, RetentionUnit::Years, 1),
    ];

    /// For how many days a snapshot of a flex cluster is kept.
    const FLEX_DAYS: u32 = 8;

    /// The schedule that Atlas begins with, its items under ids of the caller's making.
    pub fn default_of_atlas(mut new_id: impl FnMut() -> PolicyItemId) -> Self {
        let items = Self::DEFAULT_ITEMS.into_iter().filter_map(|(kind, interval, unit, value)| {
            let frequency = Frequency::new(kind, interval.into()).ok()?;
            let retention = Retention::new(unit, value).ok()?;
            Some(PolicyItem { id: new_id(), frequency, retention })
        });
        let policy = Policy::new(items.collect()).unwrap_or_default();
        Self { reference: ReferenceTime::DEFAULT, policy, extra: ExtraRetention::default() }
    }

    /// The schedule of a flex cluster, which at Atlas nobody sets: one a day, at the time of day at which it began, and eight of them kept;
    /// beside what it has already, such as what a compliance policy asks for. Nothing, when it takes one a day or more.
    pub fn of_flex(before: Option<&Self>, id: PolicyItemId, began: WallTime) -> Option<Self> {
        let frequency = Frequency::new(FrequencyType::Daily, 1).ok()?;
        let items = before.map_or(&[][..], |before| before.policy.items());
        let is_often =
            |item: &PolicyItem| matches!(item.frequency.kind(), FrequencyType::Hourly | FrequencyType::Daily);
        if items.iter().any(is_often) {
            return None;
        }
        // What is taken more seldom is kept at least as long.
        let policy = (1..=Self::FLEX_DAYS).rev().find_map(|days| {
            let retention = Retention::new(RetentionUnit::Days, days).ok()?;
            let daily = PolicyItem { id, frequency, retention };
            Policy::new(items.iter().copied().chain([daily]).collect()).ok()
        })?;
        let minutes = began.seconds().div_euclid(60);
        let of_day = ReferenceTime::new(minutes.div_euclid(60).rem_euclid(24), minutes.rem_euclid(60));
        let begun = || Self { reference: of_day.unwrap_or_default(), ..Self::default() };
        Some(Self { policy, ..before.cloned().unwrap_or_else(begun) })
    }

    /// How the retention of snapshots changes that were taken by our items when `after` replaces this schedule.
    pub fn retention_changes(&self, after: &Self) -> Vec<RetentionChange> {
        let changes = self.policy.successors(&after.policy).filter_map(|(item, next)| {
            let kind = SnapshotKind::Scheduled(item.frequency.kind());
            let (before, extra_days) = (self.extra.days(kind), after.extra.days(kind));
            let same = next.retention == item.retention;
            (!same || before != extra_days).then_some(RetentionChange {
                taken_by: TakenBy { id: item.id, frequency: item.frequency },
                retention: next.retention,
                extra_days,
                is_longer: same && extra_days > before,
            })
        });
        changes.collect()
    }

    /// Whether both take snapshots at the same times.
    pub fn is_as_often_as(&self, other: &Self) -> bool {
        self.reference == other.reference && self.policy.is_as_often_as(&other.policy)
    }
}

#[cfg(test)]
mod tests;
