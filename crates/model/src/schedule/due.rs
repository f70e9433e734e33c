//! When snapshots are due. All times are in UTC, where no hour comes twice and none is left out.

use jiff::{Timestamp, civil::Date, tz::Offset};

use super::{Frequency, FrequencyType, PolicyItem, ReferenceTime, Schedule, SnapshotKind};
use crate::{WallTime, id::PolicyItemId};

const DAY_SECONDS: i64 = 86_400;
const HOUR_SECONDS: i64 = 3_600;
/// Every frequency has a day within so many: the longest is the first of a month, from a leap year to the next year.
const DAYS_SEARCHED: i64 = 367;

/// A snapshot that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// When: the last of the times, if several were missed.
    pub at: WallTime,
    /// The items that want it; the one that decides first.
    pub items: Vec<PolicyItemId>,
    /// The frequency of the one that decides: the rarest.
    pub frequency: Frequency,
    /// How many days it is kept: as long as the item that keeps longest wants, each with the extra days of its type.
    pub retention_days: u32,
}

/// What is to be done about a schedule at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// A snapshot is due.
    Take(Due),
    /// The clock was ahead when the last snapshot was taken, by more than until the next time: what is handled ends now,
    /// or nothing would be taken until the clock has come so far again.
    TurnBack,
}

impl Schedule {
    /// The items that are due at exactly that time.
    pub fn due_at(&self, at: WallTime) -> impl Iterator<Item = &PolicyItem> {
        self.policy.items().iter().filter(move |item| self.last(item, at) == Some(at))
    }

    /// The first time after `after` at which anything is due.
    pub fn next_after(&self, after: WallTime) -> Option<WallTime> {
        self.policy.items().iter().filter_map(|item| self.next(item, after)).min()
    }

    /// The one snapshot that stands for all that were due after `since`, up to `until`: whoever was away takes one and not
    /// many. It is kept as long as the longest of them, and counts as the rarest.
    pub fn missed(&self, since: WallTime, until: WallTime) -> Option<Due> {
        let mut due: Vec<(WallTime, &PolicyItem)> = self
            .policy
            .items()
            .iter()
            .filter_map(|item| Some((self.last(item, until)?, item)))
            .filter(|(at, _)| *at > since)
            .collect();
        let at = due.iter().map(|(at, _)| *at).max()?;
        let days = |item: &PolicyItem| item.retention.days_from(at);
        due.sort_by_key(|(_, item)| std::cmp::Reverse((item.frequency.kind(), days(item))));
        let frequency = due.first()?.1.frequency;
        let retention_days = due.iter().map(|(_, item)| self.days_from(item, at)).max()?;
        Some(Due { at, items: due.iter().map(|(_, item)| item.id).collect(), frequency, retention_days })
    }

    /// How many days a snapshot is kept that an item wanted at that time.
    pub fn days_from(&self, item: &PolicyItem, at: WallTime) -> u32 {
        let kind = SnapshotKind::Scheduled(item.frequency.kind());
        self.extra.on_top_of(item.retention.days_from(at), kind)
    }

    /// What is to be done at `now`, when everything up to `handled_until` was seen to.
    pub fn step(&self, handled_until: WallTime, now: WallTime) -> Step {
        if handled_until <= now {
            return self.missed(handled_until, now).map_or(Step::Wait, Step::Take);
        }
        let is_far_ahead = self.next_after(now).is_some_and(|next| handled_until > next);
        if is_far_ahead { Step::TurnBack } else { Step::Wait }
    }

    /// The first time after `after` at which the item is due.
    fn next(&self, item: &PolicyItem, after: WallTime) -> Option<WallTime> {
        let (period, offset) = rhythm(item.frequency, self.reference);
        let first = after.seconds().checked_sub(offset)?.div_euclid(period).checked_add(1)?;
        let first = first.checked_mul(period)?.checked_add(offset)?;
        let mut times = (0..DAYS_SEARCHED).map(|day| first.saturating_add(day * DAY_SECONDS));
        times.find(|time| is_on_its_day(item.frequency, *time)).and_then(wall)
    }

    /// The last time at which the item was due, `until` included.
    fn last(&self, item: &PolicyItem, until: WallTime) -> Option<WallTime> {
        let (period, offset) = rhythm(item.frequency, self.reference);
        let last = until.seconds().checked_sub(offset)?.div_euclid(period);
        let last = last.checked_mul(period)?.checked_add(offset)?;
        let mut times = (0..DAYS_SEARCHED).map(|day| last.saturating_sub(day * DAY_SECONDS));
        times.find(|time| is_on_its_day(item.frequency, *time)).and_then(wall)
    }
}

/// Seconds between the times of day at which a frequency may be due, and those after midnight of one of them. All
/// intervals of hours divide a day, so each day has the same times.
fn rhythm(frequency: Frequency, reference: ReferenceTime) -> (i64, i64) {
    let period = match frequency.kind() {
        FrequencyType::Hourly => i64::from(frequency.interval()) * HOUR_SECONDS,
        FrequencyType::Daily | FrequencyType::Weekly | FrequencyType::Monthly | FrequencyType::Yearly => {
            DAY_SECONDS
        }
    };
    (period, reference.seconds() % period)
}

fn is_on_its_day(frequency: Frequency, seconds: i64) -> bool {
    if matches!(frequency.kind(), FrequencyType::Hourly | FrequencyType::Daily) {
        return true;
    }
    let Some(date) = date(seconds) else { return false };
    let interval = i8::try_from(frequency.interval()).unwrap_or(i8::MAX);
    match frequency.kind() {
        FrequencyType::Hourly | FrequencyType::Daily => true,
        FrequencyType::Weekly => date.weekday().to_monday_one_offset() == interval,
        FrequencyType::Monthly if frequency.interval() == Frequency::LAST_DAY => {
            date.day() == date.days_in_month()
        }
        FrequencyType::Monthly => date.day() == interval,
        FrequencyType::Yearly => date.month() == interval && date.day() == 1,
    }
}

fn date(seconds: i64) -> Option<Date> {
    Timestamp::from_second(seconds).ok().map(|time| Offset::UTC.to_datetime(time).date())
}

fn wall(seconds: i64) -> Option<WallTime> {
    seconds.checked_mul(1_000).map(WallTime)
}
