//! Schedules: what is due is taken once, and what was taken follows a change when it is asked to.

use std::collections::HashSet;

use catalog::{
    Applied, Catalog, Conflict, Deployment, DeploymentSchedule, DueExport, Error, NewExport, NewExportBucket,
    Outcome, Page, Protection, ScheduleChange, Snapshot, SnapshotFilter, SnapshotType, Taken,
};
use model::{
    DeploymentKind, RestoreWindowDays, Retention, RetentionUnit, WallTime,
    id::PolicyItemId,
    schedule::{
        AutoExport, ExportPolicy, Frequency, FrequencyType, Policy, PolicyItem, ReferenceTime, Schedule, Step,
    },
    snapshot::SnapshotState,
};
use tokio::task::JoinSet;

use crate::support::{self, T0};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn item(number: u8, kind: FrequencyType, interval: i64, unit: RetentionUnit, value: u32) -> PolicyItem {
    PolicyItem {
        id: PolicyItemId::from_bytes([number; 12]),
        frequency: Frequency::new(kind, interval).unwrap(),
        retention: Retention::new(unit, value).unwrap(),
    }
}

fn schedule(items: &[PolicyItem]) -> Schedule {
    let policy = if items.is_empty() { Policy::none() } else { Policy::new(items.to_vec()).unwrap() };
    Schedule { reference: ReferenceTime::new(18, 30).unwrap(), policy, ..Schedule::default() }
}

fn hourly(days: u32) -> PolicyItem {
    item(1, FrequencyType::Hourly, 6, RetentionUnit::Days, days)
}

fn daily(days: u32) -> PolicyItem {
    item(2, FrequencyType::Daily, 1, RetentionUnit::Days, days)
}

fn monthly(months: u32) -> PolicyItem {
    item(3, FrequencyType::Monthly, 40, RetentionUnit::Months, months)
}

/// A change that does nothing but set the schedule.
fn to(schedule: Schedule, before: Option<&DeploymentSchedule>) -> ScheduleChange {
    ScheduleChange {
        auto_export: before.map(|before| before.auto_export).unwrap_or_default(),
        of_revision: before.map(|before| before.revision),
        schedule,
        names_in_exports: false,
        copies: Default::default(),
        delete_copies: vec![],
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
    }
}

async fn set(catalog: &Catalog, deployment: &Deployment, items: &[PolicyItem], now: WallTime) -> Applied {
    let before = catalog.schedules().get(deployment.id).await.unwrap();
    catalog.schedules().change(deployment.id, &to(schedule(items), before.as_ref()), now).await.unwrap()
}

/// What a reconciler does at `now`.
async fn look(catalog: &Catalog, now: WallTime) -> Vec<Taken> {
    let mut taken = vec![];
    for seen in catalog.schedules().active().await.unwrap() {
        match seen.schedule.step(seen.handled_until, now) {
            Step::Wait => {}
            Step::TurnBack => assert!(catalog.schedules().turn_back(&seen, now).await.unwrap()),
            Step::Take(due) => taken.push(catalog.schedules().take(&seen, &due, now).await.unwrap()),
        }
    }
    taken
}

/// The snapshot that is taken at `now`, completed.
async fn complete(catalog: &Catalog, now: WallTime) -> Snapshot {
    let taken = look(catalog, now).await;
    let [Taken::Queued(snapshot)] = taken.as_slice() else { panic!("{taken:?}") };
    let lease = support::claim(catalog, "w", now).await;
    catalog.jobs().finish(&lease, support::completion("m"), now).await.unwrap();
    catalog.snapshots().get(snapshot.id).await.unwrap().unwrap()
}

async fn count(catalog: &Catalog, deployment: &Deployment) -> u64 {
    let listing = catalog.snapshots().list(SnapshotFilter::of(deployment.id), Page::default()).await.unwrap();
    listing.total.unwrap()
}

/// The first due time of the schedule after the beginning.
fn first(items: &[PolicyItem]) -> WallTime {
    schedule(items).next_after(T0).unwrap()
}

pub(crate) async fn a_schedule_is_kept_changed_and_deleted(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let schedules = catalog.schedules();
    assert_eq!(schedules.get(deployment.id).await.unwrap(), None, "nothing by itself");
    assert_eq!(schedules.active().await.unwrap(), []);
    let mut change = to(schedule(&[hourly(7), monthly(12)]), None);
    change.restore_window = Some(RestoreWindowDays::new(3).unwrap());
    let made = schedules.change(deployment.id, &change, T0).await.unwrap().schedule;
    assert_eq!(made.schedule, change.schedule);
    assert_eq!((made.handled_until, made.updated_at), (T0, T0));
    assert_eq!(schedules.get(deployment.id).await.unwrap(), Some(made.clone()));
    assert_eq!(schedules.active().await.unwrap(), std::slice::from_ref(&made));
    let changed = catalog.deployments().get(deployment.id).await.unwrap().unwrap();
    assert_eq!(changed.continuous.restore_window_days.days(), 3);

    // A change of a schedule that is another one by now is none.
    let later = T0.plus_ms(1000);
    let conflict = schedules.change(deployment.id, &change, later).await;
    assert!(matches!(conflict, Err(Error::Conflict(Conflict::ScheduleChanged))), "{conflict:?}");
    let change = to(schedule(&[monthly(13), hourly(8)]), Some(&made));
    let longer = schedules.change(deployment.id, &change, later).await.unwrap().schedule;
    assert_eq!((longer.handled_until, longer.updated_at), (T0, later), "at the same times as before");
    let conflict = schedules.change(deployment.id, &to(schedule(&[hourly(9)]), Some(&made)), later).await;
    assert!(matches!(conflict, Err(Error::Conflict(Conflict::ScheduleChanged))), "{conflict:?}");
    let fewer = set(&catalog, &deployment, &[hourly(8)], later).await.schedule;
    assert_eq!(fewer.handled_until, later, "other times begin anew");
    set(&catalog, &deployment, &[], later).await;
    assert_eq!(schedules.active().await.unwrap(), [], "a time of day alone takes nothing");

    assert!(schedules.delete(deployment.id).await.unwrap());
    assert!(!schedules.delete(deployment.id).await.unwrap());
    let conflict = schedules.change(deployment.id, &to(schedule(&[hourly(9)]), Some(&fewer)), later).await;
    assert!(matches!(conflict, Err(Error::Conflict(Conflict::ScheduleChanged))), "{conflict:?}");

    // What is removed comes back without.
    set(&catalog, &deployment, &[hourly(7)], later).await;
    catalog.deployments().remove(deployment.id, later).await.unwrap();
    assert_eq!(schedules.active().await.unwrap(), []);
    let gone = schedules.change(deployment.id, &to(schedule(&[hourly(7)]), None), later).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    assert!(matches!(schedules.delete(deployment.id).await, Err(Error::NotFound { .. })));
    let again = support::deployment(&catalog, &project, "Cluster0").await;
    assert_eq!((again.id, schedules.get(again.id).await.unwrap()), (deployment.id, None));
}

pub(crate) async fn what_is_due_is_taken_with_its_retention(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let items = [hourly(2), daily(7)];
    set(&catalog, &deployment, &items, T0).await;
    assert_eq!(look(&catalog, T0).await, []);
    let at = first(&items);
    assert_eq!(look(&catalog, at.plus_ms(-1)).await, []);
    let now = at.plus_ms(20_000);
    let done = complete(&catalog, now).await;
    assert_eq!((done.snapshot_type, done.state), (SnapshotType::Scheduled, SnapshotState::Completed));
    let policy = done.policy.clone().unwrap();
    assert_eq!(policy.due_at, at);
    let is_daily = policy.frequency == items[1].frequency;
    let expected: &[PolicyItem] = if is_daily { &[items[1], items[0]] } else { &items[..1] };
    assert_eq!(policy.items, expected.iter().map(|item| item.id).collect::<Vec<_>>());
    let days = if is_daily { 7 } else { 2 };
    assert_eq!(done.retention_days, Some(days));
    assert_eq!(done.expires_at, Some(now.plus_ms(i64::from(days) * DAY_MS)), "kept from its completion on");
    assert_eq!(look(&catalog, now).await, [], "once");
    // On demand and bases of timelines are of no schedule.
    let other = support::request_snapshot(&catalog, &deployment, now).await;
    assert_eq!(other.policy, None);
}

pub(crate) async fn many_servers_take_each_time_once(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let items = [hourly(2)];
    set(&catalog, &deployment, &items, T0).await;
    for round in 0..5 {
        let now = first(&items).plus_ms(round * 6 * HOUR_MS);
        let mut servers: JoinSet<Vec<Taken>> = JoinSet::new();
        for server in 0..6 {
            let catalog = catalog.clone();
            // Their clocks are not the same.
            servers.spawn(async move { look(&catalog, now.plus_ms(server)).await });
        }
        let taken: Vec<Taken> = servers.join_all().await.into_iter().flatten().collect();
        let queued = taken.iter().filter(|taken| matches!(taken, Taken::Queued(_))).count();
        assert_eq!(queued, 1, "{taken:?}");
        let now = now.plus_ms(1000);
        let lease = support::claim(&catalog, "w", now).await;
        catalog.jobs().finish(&lease, support::completion("m"), now).await.unwrap();
    }
    assert_eq!(count(&catalog, &deployment).await, 5);
}

pub(crate) async fn who_was_away_takes_one_and_a_clock_that_jumps_none_twice(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let items = [hourly(2), daily(7), monthly(12)];
    set(&catalog, &deployment, &items, T0).await;
    let back = T0.plus_ms(70 * DAY_MS);
    let one = complete(&catalog, back).await;
    assert_eq!(one.policy.unwrap().frequency.kind(), FrequencyType::Monthly, "it stands for what was missed");
    assert_eq!(look(&catalog, back).await, []);

    // Forth by years and back again: one more, and what comes next is taken in time.
    let ahead = back.plus_ms(900 * DAY_MS);
    complete(&catalog, ahead).await;
    assert_eq!(look(&catalog, back).await, []);
    let next = schedule(&items).next_after(back).unwrap();
    let due = complete(&catalog, next).await;
    assert_eq!(due.policy.unwrap().due_at, next);
    // The clock comes by the same times once more, however often.
    for _ in 0..3 {
        assert_eq!(look(&catalog, back).await, []);
        let again = look(&catalog, next.plus_ms(1)).await;
        assert!(again.iter().all(|taken| *taken == Taken::NotOurs), "{again:?}");
        let again = look(&catalog, ahead).await;
        assert!(again.iter().all(|taken| *taken == Taken::NotOurs), "{again:?}");
    }
    assert_eq!(count(&catalog, &deployment).await, 3);
}

pub(crate) async fn one_of_a_schedule_at_a_time(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let items = [hourly(2), daily(7)];
    set(&catalog, &deployment, &items, T0).await;
    let reference = Schedule { policy: Policy::new(vec![daily(7)]).unwrap(), ..schedule(&[]) };
    // The day's own time, six hours before it and after it.
    let day = reference.next_after(T0.plus_ms(DAY_MS)).unwrap();
    set(&catalog, &deployment, &[], T0).await;
    set(&catalog, &deployment, &items, day.plus_ms(-12 * HOUR_MS)).await;
    // One on demand stands in nobody's way, and the other way round.
    support::request_snapshot(&catalog, &deployment, T0).await;
    assert!(matches!(look(&catalog, day.plus_ms(-6 * HOUR_MS)).await[..], [Taken::Queued(_)]));
    // It lasts. The next hourly one would be left out; the daily one waits, and takes the hourly one after it along.
    for now in [day, day.plus_ms(30_000), day.plus_ms(6 * HOUR_MS)] {
        assert_eq!(look(&catalog, now).await, [Taken::PutOff]);
    }
    let now = day.plus_ms(7 * HOUR_MS);
    for _ in 0..2 {
        let lease = support::claim(&catalog, "w", now).await;
        catalog.jobs().finish(&lease, support::completion("m"), now).await.unwrap();
    }
    let taken = look(&catalog, now).await;
    let [Taken::Queued(put_off)] = taken.as_slice() else { panic!("{taken:?}") };
    let policy = put_off.policy.clone().unwrap();
    assert_eq!(policy.frequency.kind(), FrequencyType::Daily);
    assert_eq!(policy.due_at, day.plus_ms(6 * HOUR_MS), "and the six hours after it are seen to");
    assert_eq!(look(&catalog, now).await, []);
    let hour = day.plus_ms(12 * HOUR_MS);
    assert_eq!(look(&catalog, hour).await, [Taken::Skipped]);
    assert_eq!(look(&catalog, hour).await, [], "it is left out once");
    let lease = support::claim(&catalog, "w", hour).await;
    catalog.jobs().finish(&lease, support::failed("no luck"), hour).await.unwrap();
    assert_eq!(look(&catalog, hour).await, [], "and is not made up for");
    // What has failed goes when its time is over, and not before.
    let failed = catalog.snapshots().get(put_off.id).await.unwrap().unwrap();
    assert_eq!(failed.state, SnapshotState::Failed);
    let expires = failed.expires_at.unwrap();
    let over = async |now| {
        let over = catalog.snapshots().expired(now).await.unwrap();
        over.iter().any(|snapshot| snapshot.id == failed.id)
    };
    assert!(!over(expires.plus_ms(-1)).await && over(expires).await);
    catalog.snapshots().delete(failed.id, expires).await.unwrap();
    assert!(!over(expires).await);

    // Changed, deleted or removed in between: nothing is taken of what was seen.
    let seen = catalog.schedules().get(deployment.id).await.unwrap().unwrap();
    let due = seen.schedule.missed(seen.handled_until, hour.plus_ms(6 * HOUR_MS)).unwrap();
    set(&catalog, &deployment, &[daily(9)], hour).await;
    assert_eq!(catalog.schedules().take(&seen, &due, hour).await.unwrap(), Taken::NotOurs);
    assert!(!catalog.schedules().turn_back(&seen, hour).await.unwrap());
    catalog.schedules().delete(deployment.id).await.unwrap();
    assert_eq!(catalog.schedules().take(&seen, &due, hour).await.unwrap(), Taken::NotOurs);
    catalog.deployments().remove(deployment.id, hour).await.unwrap();
    assert_eq!(catalog.schedules().take(&seen, &due, hour).await.unwrap(), Taken::NotOurs);
}

pub(crate) async fn snapshots_follow_a_change_when_they_are_asked_to(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let before = [hourly(2), daily(7), monthly(12)];
    set(&catalog, &deployment, &before, T0).await;
    // A base of a timeline, one on demand, and two weeks of the schedule.
    let base = support::new_snapshot(&deployment, SnapshotType::Scheduled);
    let base = catalog.snapshots().request(base, T0).await.unwrap();
    let lease = support::claim(&catalog, "w", T0).await;
    catalog.jobs().finish(&lease, support::completion("m"), T0).await.unwrap();
    let own = support::snapshot(&catalog, &deployment, "own", T0).await;
    let (mut now, mut taken) = (T0, vec![]);
    while now < T0.plus_ms(14 * DAY_MS) {
        now = schedule(&before).next_after(now).unwrap();
        taken.push(complete(&catalog, now).await);
    }
    let of = |kind: FrequencyType| {
        let of_kind = move |s: &&Snapshot| s.policy.as_ref().is_some_and(|p| p.frequency.kind() == kind);
        taken.iter().filter(of_kind).map(|s| s.id).collect::<HashSet<_>>()
    };
    assert!(of(FrequencyType::Hourly).len() > 30 && of(FrequencyType::Daily).len() > 10);
    // One of each that the change is about is not to be deleted, and is left alone.
    let protected =
        [FrequencyType::Hourly, FrequencyType::Daily].map(|kind| *of(kind).iter().next().unwrap());
    for id in protected {
        catalog.snapshots().protect(id, Protection::On).await.unwrap();
    }
    let unfinished = {
        now = schedule(&before).next_after(now).unwrap();
        look(&catalog, now).await
    };
    let [Taken::Queued(unfinished)] = unfinished.as_slice() else { panic!("{unfinished:?}") };

    // Hourly ones are gone with their snapshots, daily ones go on under another id and are kept for longer.
    let after = [item(9, FrequencyType::Daily, 1, RetentionUnit::Months, 1), monthly(12)];
    let seen = catalog.schedules().get(deployment.id).await.unwrap().unwrap();
    let (old, new) = (schedule(&before), schedule(&after));
    let change = ScheduleChange {
        retention: old.retention_changes(&new),
        delete_of: old.policy.gone(&new.policy),
        ..to(schedule(&after), Some(&seen))
    };
    let applied = catalog.schedules().change(deployment.id, &change, now).await.unwrap();
    let unfinished_kind = unfinished.policy.as_ref().unwrap().frequency.kind();
    let extra = u64::from(unfinished_kind == FrequencyType::Daily);
    assert_eq!(applied.snapshots_deleted, of(FrequencyType::Hourly).len() as u64 - 1);
    assert_eq!(applied.snapshots_kept_anew, of(FrequencyType::Daily).len() as u64 - 1 + extra);
    for was in &taken {
        let is = catalog.snapshots().get(was.id).await.unwrap().unwrap();
        let policy = was.policy.as_ref().unwrap();
        if protected.contains(&was.id) {
            assert_eq!((is.state, is.expires_at), (SnapshotState::Completed, None));
            continue;
        }
        match policy.frequency.kind() {
            FrequencyType::Hourly => assert_eq!(is.state, SnapshotState::Deleted),
            FrequencyType::Daily => {
                let month = RetentionUnit::Months.later(policy.due_at, 1).unwrap();
                let kept = month.0 - policy.due_at.0;
                assert_eq!(is.expires_at, Some(was.completed_at.unwrap().plus_ms(kept)));
                assert_eq!(is.retention_days.map(i64::from), Some(kept / DAY_MS));
            }
            _ => assert_eq!(&is, was),
        }
    }
    for (id, expires_at) in [(base.id, T0.plus_ms(7 * DAY_MS)), (own.id, T0.plus_ms(7 * DAY_MS))] {
        let is = catalog.snapshots().get(id).await.unwrap().unwrap();
        assert_eq!((is.state, is.expires_at), (SnapshotState::Completed, Some(expires_at)), "of no schedule");
    }
    let is = catalog.snapshots().get(unfinished.id).await.unwrap().unwrap();
    assert_eq!(is.state, SnapshotState::Queued, "it is not done, and stays");
}

pub(crate) async fn what_a_schedule_exports_it_exports_once(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let new = NewExportBucket {
        project_id: project.id,
        place: "archive".parse().unwrap(),
        iam_role_id: "0123456789abcdef01234567".to_owned(),
    };
    let bucket = catalog.export_buckets().add(new, T0).await.unwrap();
    let export = ExportPolicy { bucket_id: bucket.id, frequency: FrequencyType::Daily };
    // Before it is switched on nothing is exported, and nothing is later that was completed before.
    let set = async |auto_export: AutoExport, now: WallTime| {
        let seen = catalog.schedules().get(deployment.id).await.unwrap();
        let change = ScheduleChange { auto_export, ..to(schedule(&[hourly(2), daily(7)]), seen.as_ref()) };
        catalog.schedules().change(deployment.id, &change, now).await.unwrap();
    };
    let take = async |now: WallTime| -> Snapshot {
        let seen = catalog.schedules().get(deployment.id).await.unwrap().unwrap();
        let Step::Take(due) = seen.schedule.step(seen.handled_until, now) else { panic!("nothing is due") };
        let Taken::Queued(snapshot) = catalog.schedules().take(&seen, &due, now).await.unwrap() else {
            panic!("not taken")
        };
        let lease = support::claim(&catalog, "w", now).await;
        catalog.jobs().finish(&lease, support::completion(&snapshot.id.to_string()), now).await.unwrap();
        catalog.snapshots().get(snapshot.id).await.unwrap().unwrap()
    };
    set(AutoExport::Off(export), T0).await;
    let mut now = T0.plus_ms(DAY_MS);
    take(now).await;
    assert_eq!(catalog.schedules().exports_due().await.unwrap(), [], "it is off");
    now = now.plus_ms(1);
    set(AutoExport::On(export), now).await;
    let (mut daily_ones, mut others) = (vec![], 0);
    for _ in 0..8 {
        now = now.plus_ms(6 * HOUR_MS);
        let snapshot = take(now).await;
        let is_daily = snapshot.policy.as_ref().unwrap().frequency.kind() == FrequencyType::Daily;
        if is_daily { daily_ones.push(snapshot.id) } else { others += 1 }
    }
    assert_eq!((daily_ones.len(), others), (2, 6));
    let due = catalog.schedules().exports_due().await.unwrap();
    assert_eq!(due.iter().map(|due| due.snapshot_id).collect::<Vec<_>>(), daily_ones);
    let request = async |due: &DueExport| {
        let DueExport { deployment_id, snapshot_id, bucket_id } = *due;
        let new = NewExport {
            deployment_id,
            snapshot_id,
            bucket_id,
            custom_data: vec![],
            organization: &model::organization::Organization::default(),
            scheduled: true,
        };
        catalog.exports().request(new, now).await
    };
    assert!(request(&due[0]).await.unwrap().scheduled);
    let left = catalog.schedules().exports_due().await.unwrap();
    assert_eq!(left.iter().map(|due| due.snapshot_id).collect::<Vec<_>>(), daily_ones[1..]);
    // One that failed is not exported again by itself, whoever thinks so.
    let lease = support::claim(&catalog, "w", now).await;
    catalog.jobs().finish(&lease, Outcome::Failed { error: "full".to_owned() }, now).await.unwrap();
    assert_eq!(catalog.schedules().exports_due().await.unwrap().len(), 1);
    let refused = request(&due[0]).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict(Conflict::SnapshotExporting)), "{refused}");
    let refused = catalog.export_buckets().delete(bucket.id, now).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict(Conflict::BucketInUse)), "{refused}");
    set(AutoExport::Off(export), now).await;
    assert_eq!(catalog.schedules().exports_due().await.unwrap(), []);
    catalog.export_buckets().delete(bucket.id, now).await.unwrap();
    let seen = catalog.schedules().get(deployment.id).await.unwrap();
    let change =
        ScheduleChange { auto_export: AutoExport::On(export), ..to(schedule(&[daily(7)]), seen.as_ref()) };
    let refused = catalog.schedules().change(deployment.id, &change, now).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound { what: "export bucket", .. }), "{refused}");
}

pub(crate) async fn a_flex_cluster_has_a_snapshot_a_day(catalog: Catalog) {
    let project = support::project(&catalog).await;
    let add = async |name: &str, kind| {
        let new = catalog::NewDeployment { kind, ..support::new_deployment(&project, name) };
        catalog.deployments().add(new, T0).await.unwrap()
    };
    let flex = add("flexible", DeploymentKind::Flex).await;
    let others =
        [add("main", DeploymentKind::ReplicaSet).await, add("tenant", DeploymentKind::Serverless).await];
    let removed = add("removed", DeploymentKind::Flex).await;
    catalog.deployments().remove(removed.id, T0).await.unwrap();
    let now = T0.plus_ms(3 * HOUR_MS);
    assert_eq!(catalog.schedules().give_to_flex(now).await.unwrap(), [flex.id]);
    assert_eq!(catalog.schedules().give_to_flex(now.plus_ms(30_000)).await.unwrap(), []);
    for other in others.iter().chain([&removed]) {
        assert_eq!(catalog.schedules().get(other.id).await.unwrap(), None);
    }
    // It was registered at 20:26:40.
    let given = catalog.schedules().get(flex.id).await.unwrap().unwrap();
    assert_eq!(given.schedule.reference, ReferenceTime::new(20, 26).unwrap());
    let due = T0.plus_ms(DAY_MS - 40_000);
    assert_eq!(look(&catalog, due.plus_ms(-1)).await, []);
    let taken = look(&catalog, due).await;
    let [Taken::Queued(snapshot)] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((snapshot.deployment_id, snapshot.retention_days), (flex.id, Some(8)));
    assert_eq!(look(&catalog, due.plus_ms(60_000)).await, [], "once");

    // What a compliance policy asked for stays beside it.
    let guarded = add("guarded", DeploymentKind::Flex).await;
    set(&catalog, &guarded, &[monthly(12)], now).await;
    assert_eq!(catalog.schedules().give_to_flex(now).await.unwrap(), [guarded.id]);
    let both = catalog.schedules().get(guarded.id).await.unwrap().unwrap();
    assert_eq!((both.schedule.policy.items().len(), both.schedule.policy.items()[0]), (2, monthly(12)));
    assert_eq!(both.schedule.reference.hour(), 18);
    set(&catalog, &guarded, &[hourly(2)], now).await;
    assert_eq!(catalog.schedules().give_to_flex(now).await.unwrap(), [], "that is often enough");
}
