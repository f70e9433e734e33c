//! Schedules against the calendar.
#![allow(clippy::unwrap_used)]

use jiff::{Timestamp, tz::Offset};
use proptest::prelude::*;

use super::*;
use crate::WallTime;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn at(text: &str) -> WallTime {
    WallTime(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn item(number: u8, kind: FrequencyType, interval: i64, unit: RetentionUnit, value: u32) -> PolicyItem {
    PolicyItem {
        id: PolicyItemId::from_bytes([number; 12]),
        frequency: Frequency::new(kind, interval).unwrap(),
        retention: Retention::new(unit, value).unwrap(),
    }
}

/// A schedule of one item that is kept long enough for any frequency.
fn only(hour: i64, minute: i64, kind: FrequencyType, interval: i64) -> Schedule {
    Schedule {
        reference: ReferenceTime::new(hour, minute).unwrap(),
        policy: Policy::new(vec![item(1, kind, interval, RetentionUnit::Years, 2)]).unwrap(),
        ..Schedule::default()
    }
}

fn extra_retention(settings: &[(SnapshotKind, u32)]) -> ExtraRetention {
    let extra = |&(frequency_type, retention_days): &_| Extra { frequency_type, retention_days };
    ExtraRetention::new(settings.iter().map(extra).collect()).unwrap()
}

fn default() -> Schedule {
    let mut number = 0;
    Schedule::default_of_atlas(|| {
        number += 1;
        PolicyItemId::from_bytes([number; 12])
    })
}

/// The times that follow one another from `from` on.
fn times(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let mut time = at(from);
    let next = || {
        time = schedule.next_after(time)?;
        Some(time.to_rfc3339())
    };
    std::iter::from_fn(next).take(count).collect()
}

#[test]
fn the_hours_are_those_of_the_reference() {
    let schedule = only(18, 30, FrequencyType::Hourly, 6);
    assert_eq!(
        times(&schedule, "2026-01-31T12:30:00Z", 4),
        ["2026-01-31T18:30:00Z", "2026-02-01T00:30:00Z", "2026-02-01T06:30:00Z", "2026-02-01T12:30:00Z"]
    );
    let schedule = only(23, 59, FrequencyType::Hourly, 12);
    assert_eq!(
        times(&schedule, "2026-01-31T23:58:59Z", 3),
        ["2026-01-31T23:59:00Z", "2026-02-01T11:59:00Z", "2026-02-01T23:59:00Z"]
    );
    for hours in [1, 2, 4, 6, 8, 12] {
        let schedule = only(5, 7, FrequencyType::Hourly, hours);
        let day = times(&schedule, "2026-03-28T05:07:00Z", (24 / hours) as usize);
        assert_eq!(day.last().unwrap(), "2026-03-29T05:07:00Z", "every {hours} hours");
    }
}

#[test]
fn days_weeks_months_and_years_are_those_of_the_calendar() {
    let next = |kind, interval, from: &str| times(&only(18, 0, kind, interval), from, 1).remove(0);
    for (kind, interval, from, expected) in [
        (FrequencyType::Daily, 1, "2026-02-28T18:00:00Z", "2026-03-01T18:00:00Z"),
        (FrequencyType::Daily, 1, "2026-02-28T17:59:59Z", "2026-02-28T18:00:00Z"),
        // 2026-11-28 is a Saturday.
        (FrequencyType::Weekly, 6, "2026-11-27T00:00:00Z", "2026-11-28T18:00:00Z"),
        (FrequencyType::Weekly, 6, "2026-11-28T18:00:00Z", "2026-12-05T18:00:00Z"),
        (FrequencyType::Weekly, 1, "2026-11-28T18:00:00Z", "2026-11-30T18:00:00Z"),
        (FrequencyType::Weekly, 7, "2026-12-31T00:00:00Z", "2027-01-03T18:00:00Z"),
        (FrequencyType::Monthly, 1, "2026-01-31T23:00:00Z", "2026-02-01T18:00:00Z"),
        (FrequencyType::Monthly, 28, "2026-02-28T18:00:00Z", "2026-03-28T18:00:00Z"),
        (FrequencyType::Monthly, 40, "2026-01-31T18:00:00Z", "2026-02-28T18:00:00Z"),
        (FrequencyType::Monthly, 40, "2028-01-31T18:00:00Z", "2028-02-29T18:00:00Z"),
        (FrequencyType::Monthly, 40, "2100-01-31T18:00:00Z", "2100-02-28T18:00:00Z"),
        (FrequencyType::Monthly, 40, "2000-01-31T18:00:00Z", "2000-02-29T18:00:00Z"),
        (FrequencyType::Monthly, 40, "2026-12-31T17:00:00Z", "2026-12-31T18:00:00Z"),
        (FrequencyType::Yearly, 12, "2026-12-01T18:00:00Z", "2027-12-01T18:00:00Z"),
        (FrequencyType::Yearly, 1, "2027-12-31T23:59:59Z", "2028-01-01T18:00:00Z"),
        (FrequencyType::Yearly, 3, "2027-03-01T18:00:00Z", "2028-03-01T18:00:00Z"),
    ] {
        assert_eq!(next(kind, interval, from), expected, "{kind:?} {interval} from {from}");
    }
}

#[test]
fn what_falls_together_is_one_snapshot_of_the_rarest() {
    let schedule = default();
    // The last day of February, a Saturday.
    let due = schedule.missed(at("2026-02-28T17:59:00Z"), at("2026-02-28T18:00:20Z")).unwrap();
    assert_eq!(due.at, at("2026-02-28T18:00:00Z"));
    assert_eq!(due.frequency.kind(), FrequencyType::Monthly);
    assert_eq!(due.retention_days, 365, "twelve months from then on");
    let ids: Vec<_> = [4, 3, 1, 2].map(|number| PolicyItemId::from_bytes([number; 12])).into();
    assert_eq!((due.items[0], due.items[1], due.items.len()), (ids[0], ids[1], 4), "who decides comes first");
    let together: Vec<_> = schedule.due_at(due.at).map(|item| item.frequency.kind()).collect();
    assert_eq!(
        together,
        [FrequencyType::Hourly, FrequencyType::Daily, FrequencyType::Weekly, FrequencyType::Monthly]
    );
    assert_eq!(schedule.due_at(at("2026-02-28T18:00:01Z")).count(), 0);
    let hourly = schedule.missed(at("2026-03-01T00:00:00Z"), at("2026-03-01T06:00:00Z")).unwrap();
    assert_eq!((hourly.frequency.kind(), hourly.retention_days), (FrequencyType::Hourly, 7));
}

#[test]
fn the_longest_is_kept_even_when_the_rarest_is_not() {
    // Twelve months count as long as a year, and have 366 days where the year that follows has 365: they may not differ.
    let policy = vec![
        item(1, FrequencyType::Monthly, 1, RetentionUnit::Days, 365),
        item(2, FrequencyType::Yearly, 3, RetentionUnit::Months, 12),
    ];
    let schedule = Schedule { policy: Policy::new(policy).unwrap(), ..Schedule::default() };
    let from = at("2027-03-01T00:00:00Z");
    let due = schedule.missed(from, from.plus_ms(24 * HOUR_MS)).unwrap();
    assert_eq!((due.frequency.kind(), due.retention_days), (FrequencyType::Yearly, 366));
}

#[test]
fn whoever_was_away_takes_one_snapshot_that_stands_for_all() {
    let schedule = default();
    // From before the end of November to after the yearly one.
    let due = schedule.missed(at("2026-11-30T12:00:00Z"), at("2026-12-04T09:00:00Z")).unwrap();
    assert_eq!((due.at, due.frequency.kind()), (at("2026-12-04T06:00:00Z"), FrequencyType::Yearly));
    assert_eq!(due.items.len(), 4, "no Saturday was missed");
    assert_eq!(due.retention_days, 365);
    assert_eq!(schedule.missed(due.at, at("2026-12-04T11:59:59Z")), None, "and is done with them");
    assert_eq!(schedule.missed(due.at, due.at), None);
}

#[test]
fn a_clock_that_jumps_makes_no_storm_and_no_silence() {
    let schedule = default();
    let (real, ahead) = (at("2026-11-29T10:00:00Z"), at("2031-01-01T00:00:10Z"));
    let handled = at("2026-11-29T06:00:00Z");
    assert_eq!(schedule.step(handled, real), Step::Wait);
    // Forth: one snapshot, whatever lies between.
    let Step::Take(due) = schedule.step(handled, ahead) else { panic!("nothing is due") };
    assert_eq!(schedule.step(due.at, ahead), Step::Wait);
    // And back: what comes next is not years away.
    assert_eq!(schedule.step(due.at, real), Step::TurnBack);
    assert_eq!(schedule.step(real, real), Step::Wait);
    let Step::Take(next) = schedule.step(real, at("2026-11-29T12:00:00Z")) else { panic!("nothing is due") };
    assert_eq!(next.at, at("2026-11-29T12:00:00Z"));
    // A clock that is behind that of another server by less than until the next time waits and writes nothing.
    assert_eq!(schedule.step(at("2026-11-29T12:00:00Z"), at("2026-11-29T11:59:59Z")), Step::Wait);
    assert_eq!(Schedule::default().step(ahead, real), Step::Wait, "nothing is ever due");
    for extreme in [WallTime(i64::MIN), WallTime(i64::MAX)] {
        let _ = (schedule.next_after(extreme), schedule.step(extreme, real), schedule.step(real, extreme));
    }
}

#[test]
fn policies_that_contradict_themselves_are_refused() {
    use FrequencyType::{Daily, Hourly, Monthly, Weekly, Yearly};
    use RetentionUnit::{Days, Months, Weeks, Years};
    let refused = |items: &[PolicyItem]| Policy::new(items.to_vec()).unwrap_err();
    assert_eq!(refused(&[]), BadPolicy::Empty);
    let hourly = item(1, Hourly, 6, Days, 7);
    assert_eq!(refused(&[hourly, item(2, Hourly, 12, Days, 7)]), BadPolicy::TwoOf(Hourly));
    assert_eq!(refused(&[item(1, Daily, 1, Days, 7), item(2, Daily, 1, Days, 9)]), BadPolicy::TwoOf(Daily));
    let saturday = item(2, Weekly, 6, Weeks, 4);
    assert_eq!(refused(&[saturday, item(3, Weekly, 6, Weeks, 5)]), BadPolicy::Twice(saturday.frequency));
    assert_eq!(refused(&[hourly, item(1, Daily, 1, Days, 7)]), BadPolicy::OneId(hourly.id));
    for (short, kept) in [
        (item(1, Weekly, 1, Days, 6), 6),
        (item(1, Monthly, 1, Days, 27), 27),
        (item(1, Yearly, 1, Months, 11), 11),
    ] {
        let BadPolicy::TooShort { retention, .. } = refused(&[short]) else { panic!("{short:?} is taken") };
        assert_eq!(retention.value(), kept);
    }
    let rarer = refused(&[item(1, Daily, 1, Days, 30), saturday]);
    assert_eq!(rarer, BadPolicy::RarerIsShorter { rarer: Weekly, kept: saturday.retention, often: Daily });
    assert_eq!(
        rarer.to_string(),
        "weekly snapshots are kept for 4 weeks, and daily ones longer: what is taken more seldom is kept at least as long"
    );
    // Whichever comes first.
    assert_eq!(refused(&[saturday, item(1, Daily, 1, Days, 30)]), rarer);
    for good in [
        vec![item(1, Weekly, 6, Weeks, 4), item(2, Weekly, 3, Weeks, 2), item(3, Monthly, 1, Months, 1)],
        vec![item(1, Monthly, 1, Months, 12), item(2, Yearly, 1, Years, 1)],
        vec![item(1, Daily, 1, Days, 30), item(2, Monthly, 40, Months, 1)],
        vec![item(1, Yearly, 1, Days, 365)],
    ] {
        Policy::new(good).unwrap();
    }
}

#[test]
fn a_flex_cluster_takes_one_a_day_beside_what_it_takes() {
    use FrequencyType::{Daily, Hourly, Weekly};
    use RetentionUnit::{Days, Weeks};
    let id = PolicyItemId::from_bytes([9; 12]);
    let began = at("2026-05-28T20:26:40Z");
    let own = Schedule::of_flex(None, id, began).unwrap();
    assert_eq!(times(&own, "2026-05-28T20:26:40Z", 2), ["2026-05-29T20:26:00Z", "2026-05-30T20:26:00Z"]);
    assert_eq!(own.policy.items(), [PolicyItem { id, ..item(9, Daily, 1, Days, 8) }]);
    assert_eq!(Schedule::of_flex(Some(&own), id, began), None);
    assert_eq!(Schedule::of_flex(Some(&only(18, 0, Hourly, 6)), id, began), None);
    // Before the epoch too there is a time of day.
    assert_eq!(
        Schedule::of_flex(None, id, WallTime(-1)).unwrap().reference,
        ReferenceTime::new(23, 59).unwrap()
    );
    for (weeks, days) in [(4, 8), (1, 7)] {
        let policy = Policy::new(vec![item(1, Weekly, 6, Weeks, weeks)]).unwrap();
        let before = Schedule { policy, ..own.clone() };
        let after = Schedule::of_flex(Some(&before), id, at("2026-01-01T01:01:01Z")).unwrap();
        assert_eq!(after.policy.items(), [before.policy.items()[0], item(9, Daily, 1, Days, days)]);
        assert_eq!(after.reference, before.reference);
    }
}

#[test]
fn the_default_is_that_of_atlas() {
    let schedule = default();
    assert_eq!(schedule.policy.items().len(), 5);
    assert_eq!((schedule.reference.hour(), schedule.reference.minute()), (18, 0));
    let kept = serde_json::to_string(&schedule).unwrap();
    assert_eq!(serde_json::from_str::<Schedule>(&kept).unwrap(), schedule);
    assert!(serde_json::from_str::<Policy>(&kept.replace("daily/1", "hourly/1")).is_err());
    assert_eq!(serde_json::from_str::<Policy>("[]").unwrap(), Policy::none());
    assert!(Schedule::default().next_after(at("2026-01-01T00:00:00Z")).is_none());
}

#[test]
fn an_item_lives_on_under_its_id_or_at_its_times() {
    use FrequencyType::{Daily, Hourly, Weekly};
    use RetentionUnit::{Days, Weeks};
    let before = Policy::new(vec![
        item(1, Hourly, 6, Days, 2),
        item(2, Daily, 1, Days, 7),
        item(3, Weekly, 6, Weeks, 4),
        item(4, Weekly, 3, Weeks, 4),
    ])
    .unwrap();
    let after = Policy::new(vec![
        // The same item with another interval; the same times under another id; unchanged.
        item(1, Hourly, 12, Days, 3),
        item(9, Daily, 1, Days, 8),
        item(3, Weekly, 6, Weeks, 4),
    ])
    .unwrap();
    let schedule = |policy: &Policy, extra: &[(SnapshotKind, u32)]| Schedule {
        policy: policy.clone(),
        extra: extra_retention(extra),
        ..Schedule::default()
    };
    let changes = schedule(&before, &[]).retention_changes(&schedule(&after, &[]));
    let told: Vec<_> =
        changes.iter().map(|c| (c.taken_by.frequency.to_string(), c.retention.value())).collect();
    assert_eq!(told, [("hourly/6".to_owned(), 3), ("daily/1".to_owned(), 8)]);
    let gone = before.gone(&after);
    assert_eq!(gone, [TakenBy { id: before.items()[3].id, frequency: before.items()[3].frequency }]);
    assert_eq!(before.gone(&Policy::none()).len(), 4);
    assert!(before.gone(&before).is_empty());
    let (none, with) = (schedule(&Policy::none(), &[]), schedule(&before, &[]));
    assert!(with.retention_changes(&none).is_empty());
    // The days on top change as well, also alone.
    let days = |before: &Schedule, after: &Schedule| -> Vec<_> {
        let changes = before.retention_changes(after);
        changes.iter().map(|c| (c.taken_by.frequency.to_string(), c.days_from(WallTime(0)))).collect()
    };
    let longer = schedule(&before, &[(SnapshotKind::Scheduled(Weekly), 3), (SnapshotKind::OnDemand, 9)]);
    assert_eq!(days(&with, &longer), [("weekly/6".to_owned(), 31), ("weekly/3".to_owned(), 31)]);
    assert_eq!(days(&longer, &with), [("weekly/6".to_owned(), 28), ("weekly/3".to_owned(), 28)]);
    assert!(days(&longer, &longer).is_empty());
    assert!(!before.is_as_often_as(&after));
    let reordered = Policy::new(before.items().iter().rev().copied().collect()).unwrap();
    assert!(before.is_as_often_as(&reordered));
}

#[test]
fn a_snapshot_of_two_items_has_the_days_on_top_of_either() {
    use FrequencyType::{Daily, Weekly};
    use RetentionUnit::Days;
    let items = vec![item(1, Daily, 1, Days, 30), item(2, Weekly, 6, Days, 30)];
    let policy = Policy::new(items).unwrap();
    // 1970-01-03 was a Saturday.
    let saturday = WallTime(2 * 86_400_000 + 18 * 3_600_000);
    let days = |extra: &[(SnapshotKind, u32)]| {
        let schedule =
            Schedule { policy: policy.clone(), extra: extra_retention(extra), ..Schedule::default() };
        schedule.missed(saturday.plus_ms(-1), saturday).unwrap()
    };
    let (none, daily) = (days(&[]), days(&[(SnapshotKind::Scheduled(Daily), 60)]));
    assert_eq!((none.frequency.kind(), none.items.len(), none.retention_days), (Weekly, 2, 30));
    assert_eq!((daily.frequency.kind(), daily.retention_days), (Weekly, 90), "no Saturday is missing");
    assert_eq!(
        days(&[(SnapshotKind::Scheduled(Weekly), 7), (SnapshotKind::Scheduled(Daily), 3)]).retention_days,
        37
    );
    assert_eq!(days(&[(SnapshotKind::OnDemand, 7)]).retention_days, 30);
}

fn frequencies() -> impl Strategy<Value = Frequency> {
    prop_oneof![
        prop::sample::select(vec![1, 2, 4, 6, 8, 12]).prop_map(|n| (FrequencyType::Hourly, n)),
        Just((FrequencyType::Daily, 1)),
        (1..=7_i64).prop_map(|n| (FrequencyType::Weekly, n)),
        prop_oneof![1..=28_i64, Just(40)].prop_map(|n| (FrequencyType::Monthly, n)),
        (1..=12_i64).prop_map(|n| (FrequencyType::Yearly, n)),
    ]
    .prop_map(|(kind, interval)| Frequency::new(kind, interval).unwrap())
}

fn schedules() -> impl Strategy<Value = Schedule> {
    (prop::collection::btree_set(frequencies(), 1..6), 0..24_i64, 0..60_i64).prop_map(
        |(frequencies, hour, minute)| {
            let mut items: Vec<PolicyItem> = vec![];
            for frequency in frequencies {
                let kind = frequency.kind();
                if kind.comes_once() && items.iter().any(|other| other.frequency.kind() == kind) {
                    continue;
                }
                let id = PolicyItemId::from_bytes([items.len() as u8; 12]);
                items.push(PolicyItem {
                    id,
                    frequency,
                    retention: Retention::new(RetentionUnit::Years, 2).unwrap(),
                });
            }
            Schedule {
                reference: ReferenceTime::new(hour, minute).unwrap(),
                policy: Policy::new(items).unwrap(),
                ..Schedule::default()
            }
        },
    )
}

/// Whether the item is due, told from the date alone, as a person would.
fn is_due(schedule: &Schedule, item: &PolicyItem, at: WallTime) -> bool {
    let time = Offset::UTC.to_datetime(Timestamp::from_millisecond(at.0).unwrap());
    let (reference, interval) = (schedule.reference, i64::from(item.frequency.interval()));
    let is_sharp = at.0 % MINUTE_MS == 0 && time.minute() as u8 == reference.minute();
    let hours_off = i64::from(time.hour()) - i64::from(reference.hour());
    let is_last = time.date().tomorrow().unwrap().day() == 1;
    is_sharp
        && match item.frequency.kind() {
            FrequencyType::Hourly => hours_off.rem_euclid(interval) == 0,
            _ if hours_off != 0 => false,
            FrequencyType::Daily => true,
            FrequencyType::Weekly => i64::from(time.weekday().to_monday_one_offset()) == interval,
            FrequencyType::Monthly if interval == 40 => is_last,
            FrequencyType::Monthly => i64::from(time.day()) == interval,
            FrequencyType::Yearly => time.day() == 1 && i64::from(time.month()) == interval,
        }
}

proptest! {
    #[test]
    fn the_next_time_is_later_and_due_and_nothing_is_due_before_it(
        schedule in schedules(),
        // 1999 to 2101: leap years that are divisible by 4, by 100 and by 400.
        from in 915_148_800_000..4_133_980_800_000_i64,
    ) {
        let from = WallTime(from);
        let next = schedule.next_after(from).unwrap();
        prop_assert!(next > from);
        let due_at = |at| schedule.policy.items().iter().filter(|item| is_due(&schedule, item, at)).count();
        prop_assert!(due_at(next) > 0, "nothing is due at {}", next.to_rfc3339());
        prop_assert_eq!(schedule.due_at(next).count(), due_at(next));
        // Everything is due at the minute of the reference, so it is enough to look at one minute of each hour.
        let minute = i64::from(schedule.reference.minute()) * MINUTE_MS;
        let mut hour = from.0.div_euclid(HOUR_MS) * HOUR_MS + minute;
        while hour < next.0 {
            if hour > from.0 {
                prop_assert_eq!(due_at(WallTime(hour)), 0, "{} is passed over", WallTime(hour).to_rfc3339());
                prop_assert_eq!(schedule.due_at(WallTime(hour)).count(), 0);
            }
            hour += HOUR_MS;
        }
        prop_assert_eq!(schedule.missed(from, WallTime(next.0 - 1)), None);
        let due = schedule.missed(from, next).unwrap();
        prop_assert_eq!((due.at, due.items.len()), (next, due_at(next)));
        let rarest = schedule.due_at(next).map(|item| item.frequency.kind()).max();
        prop_assert_eq!(Some(due.frequency.kind()), rarest);
    }

    #[test]
    fn steps_one_after_another_take_each_time_once(schedule in schedules(), from in 0..4_000_000_000_000_i64, steps in prop::collection::vec(-5_000_000_000..5_000_000_000_i64, 1..60)) {
        let (mut handled, mut now) = (WallTime(from), WallTime(from));
        let mut last: Option<WallTime> = None;
        for step in steps {
            now = now.plus_ms(step);
            match schedule.step(handled, now) {
                Step::Wait => {}
                Step::TurnBack => handled = now,
                Step::Take(due) => {
                    prop_assert!(due.at > handled && due.at <= now);
                    handled = due.at;
                    last = Some(due.at);
                }
            }
            // Once it has looked, it never looks twice, and what comes next is never out of sight.
            let again = schedule.step(handled, now);
            prop_assert!(matches!(again, Step::Wait), "{again:?} after {last:?}");
            let next = schedule.next_after(now).unwrap();
            let Step::Take(due) = schedule.step(handled, next.plus_ms(1)) else {
                // Unless it was taken already, by a clock that was ahead.
                prop_assert_eq!(handled, next);
                continue;
            };
            prop_assert_eq!(due.at, next);
        }
    }
}
