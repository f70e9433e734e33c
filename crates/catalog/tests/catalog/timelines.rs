//! Timelines: what joins them, what is durable of them, and which times they make restorable.

use catalog::{
    Catalog, Ended, Error, ImportedTimeline, NewSlice, Outcome, Page, SliceState, Snapshot, Timeline,
};
use model::{
    ClusterTime, ContinuousBackup, OplogPosition, RestoreWindowDays, WallTime,
    timeline::{RestorableRange, TimelineEnd},
};

use crate::support::{self, LEASE_MS, T0, at, position, time};

fn illegal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let Err(Error::Illegal(illegal)) = result else { panic!("{result:?}") };
    illegal.to_string()
}

pub(crate) async fn settings_of_continuous_backup_are_kept(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    assert_eq!(deployment.continuous, ContinuousBackup::default());
    assert_eq!(deployment.continuous.restore_window_days.days(), 7);
    let month =
        ContinuousBackup { pit_enabled: true, restore_window_days: RestoreWindowDays::new(30).unwrap() };
    let read = async || catalog.deployments().get(deployment.id).await.unwrap().unwrap().continuous;
    catalog.timelines().set_continuous_backup(deployment.id, month).await.unwrap();
    assert_eq!(read().await, month);
    catalog.deployments().remove(deployment.id, at(1)).await.unwrap();
    let new = support::new_deployment(&project, "Cluster0");
    let back = catalog.deployments().add(new.clone(), at(2)).await.unwrap();
    assert_eq!(
        back.continuous,
        ContinuousBackup { pit_enabled: false, ..month },
        "nobody asked for it again"
    );
    catalog.deployments().remove(deployment.id, at(3)).await.unwrap();
    let new = catalog::NewDeployment { continuous: Some(month), ..new };
    assert_eq!(catalog.deployments().add(new.clone(), at(4)).await.unwrap().continuous, month);
    let other = catalog::NewDeployment { name: "Cluster1".parse().unwrap(), ..new };
    assert_eq!(catalog.deployments().add(other, at(5)).await.unwrap().continuous, month);
    let nobody = catalog.timelines().set_continuous_backup(catalog::new_id(T0), month).await;
    assert!(matches!(nobody, Err(Error::NotFound { what: "deployment", .. })));
}

pub(crate) async fn only_what_continues_a_timeline_joins_it(catalog: Catalog) {
    let (deployment, lease, opened) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    assert_eq!(timelines.current(deployment.id).await.unwrap().as_ref(), Some(&opened));
    assert!(illegal(timelines.open(&lease, support::new_timeline(1), at(1)).await).contains("open"));

    let first = support::next_slice(&opened, 5);
    let one = timelines.append(&lease, opened.id, &first).await.unwrap();
    assert_eq!((one.end, one.next_sequence, one.last_slice.as_ref()), (position(5), 1, Some(&first.name)));
    assert_eq!((one.read_from, one.recorded_at, one.durable), (time(5), at(5), position(0)));
    assert_eq!(timelines.append(&lease, opened.id, &first).await.unwrap(), one, "once more does no harm");
    assert_eq!(timelines.get(opened.id).await.unwrap().unwrap(), one);

    let good = support::next_slice(&one, 9);
    let span = |change: &dyn Fn(&mut NewSlice)| {
        let mut slice = good.clone();
        change(&mut slice);
        slice
    };
    for (bad, why) in [
        (span(&|s| s.sequence = 2), "slice 1 behind"),
        (span(&|s| s.sequence = 0), "slice 1 behind"),
        (span(&|s| s.previous = None), "slice 1 behind"),
        (span(&|s| s.previous = Some("another".to_owned())), "slice 1 behind"),
        (span(&|s| s.span.after = position(4)), "slice 1 behind"),
        (span(&|s| s.span.after.term = 0), "slice 1 behind"),
        (span(&|s| s.span.first = s.span.after), "does not follow"),
        (span(&|s| s.span.last.term = 0), "does not follow"),
        (span(&|s| s.span.read_from = time(10)), "begin to read behind"),
        (span(&|s| s.name.clone_from(&first.name)), "another place"),
    ] {
        let told = illegal(timelines.append(&lease, opened.id, &bad).await);
        assert!(told.contains(why), "{bad:?}: {told}");
    }
    let nowhere = timelines.append(&lease, catalog::new_id(T0), &good).await;
    assert!(matches!(nowhere, Err(Error::NotFound { what: "timeline", .. })), "{nowhere:?}");
    assert_eq!(timelines.get(opened.id).await.unwrap().unwrap(), one, "what is refused changes nothing");
    timelines.append(&lease, opened.id, &good).await.unwrap();

    // Nobody writes on the timeline of somebody else's deployment.
    let project = catalog.projects().by_name("shop").await.unwrap().unwrap();
    let other = support::deployment(&catalog, &project, "Cluster1").await;
    support::switch_on(&catalog, &other).await;
    let others = support::capture(&catalog, &other, T0).await;
    let two = timelines.get(opened.id).await.unwrap().unwrap();
    let foreign = timelines.append(&others, opened.id, &support::next_slice(&two, 11)).await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })), "{foreign:?}");
    let foreign = timelines.mark_stored(&others, &first.name).await;
    assert!(matches!(foreign, Err(Error::NotFound { what: "slice", .. })), "{foreign:?}");
    let foreign = timelines.end(&others, opened.id, TimelineEnd::Damaged, "", at(9)).await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })), "{foreign:?}");

    let ended = timelines.end(&lease, opened.id, TimelineEnd::RolledOver, "too slow", at(12)).await.unwrap();
    let (reason, detail) = (TimelineEnd::RolledOver, "too slow".to_owned());
    assert_eq!(ended.ended, Some(Ended { at: at(12), reason, detail }));
    let told = illegal(timelines.append(&lease, opened.id, &support::next_slice(&ended, 13)).await);
    assert!(told.contains("ended (rolledOver)"), "{told}");
    timelines.append(&lease, opened.id, &good).await.unwrap();
    assert_eq!(timelines.current(deployment.id).await.unwrap(), None);
    let next = timelines.open(&lease, support::new_timeline(20), at(20)).await.unwrap();
    let listing = timelines.list(deployment.id, Page::new(1, 1)).await.unwrap();
    assert_eq!((listing.items, listing.total), (vec![next], Some(2)));
}

pub(crate) async fn durable_is_what_is_stored_with_all_before_it(catalog: Catalog) {
    let (_, lease, mut timeline) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let mut slices = Vec::new();
    for to in [5, 9, 12, 20] {
        let slice = support::next_slice(&timeline, to);
        timeline = timelines.append(&lease, timeline.id, &slice).await.unwrap();
        slices.push(slice);
    }
    for (stored, durable, count) in [(2, 0, 0), (0, 5, 1), (0, 5, 1), (1, 12, 3), (3, 20, 4)] {
        let after = timelines.mark_stored(&lease, &slices[stored].name).await.unwrap();
        assert_eq!((after.durable, after.durable_sequence), (position(durable), count), "slice {stored}");
        assert_eq!(timelines.get(timeline.id).await.unwrap().unwrap(), after);
        let spooled: Vec<_> =
            timelines.spooled(timeline.id).await.unwrap().iter().map(|s| s.sequence).collect();
        let expected: &[u64] = match (stored, durable) {
            (2, _) => &[0, 1, 3],
            (0, _) => &[1, 3],
            (1, _) => &[3],
            _ => &[],
        };
        assert_eq!(spooled, expected);
    }
    let unknown = timelines.mark_stored(&lease, "nothing").await;
    assert!(matches!(unknown, Err(Error::NotFound { what: "slice", .. })), "{unknown:?}");
}

pub(crate) async fn what_was_not_stored_can_be_taken_back(catalog: Catalog) {
    let (_, lease, opened) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let lost = support::next_slice(&opened, 5);
    timelines.append(&lease, opened.id, &lost).await.unwrap();
    assert_eq!(timelines.rewind(&lease, opened.id).await.unwrap(), opened, "as it was when it was opened");
    assert_eq!(timelines.rewind(&lease, opened.id).await.unwrap(), opened);

    let one = support::record(&catalog, &lease, &opened, 6).await;
    let two = timelines.append(&lease, opened.id, &support::next_slice(&one, 7)).await.unwrap();
    let third = support::next_slice(&two, 8);
    timelines.append(&lease, opened.id, &third).await.unwrap();
    timelines.mark_stored(&lease, &third.name).await.unwrap();
    let rewound = timelines.rewind(&lease, opened.id).await.unwrap();
    assert_eq!(rewound, one, "what is stored behind a hole goes too");
    assert_eq!(timelines.get(opened.id).await.unwrap().unwrap(), one);
    let names = [lost.name, third.name, one.last_slice.clone().unwrap()];
    let known = timelines.known(&names).await.unwrap();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), names[2..], "the sweep finds the others");
    support::record(&catalog, &lease, &rewound, 9).await;

    timelines.end(&lease, opened.id, TimelineEnd::Damaged, "", at(9)).await.unwrap();
    illegal(timelines.rewind(&lease, opened.id).await);
}

pub(crate) async fn slices_are_found_by_time(catalog: Catalog) {
    let (_, lease, mut timeline) = support::recorded(&catalog).await;
    for to in [5, 10, 15, 20] {
        timeline = support::record(&catalog, &lease, &timeline, to).await;
    }
    let spooled = support::next_slice(&timeline, 25);
    catalog.timelines().append(&lease, timeline.id, &spooled).await.unwrap();
    let found = async |from, to| -> Vec<u64> {
        let slices = catalog.timelines().slices(timeline.id, from, to).await.unwrap();
        slices.iter().map(|slice| slice.sequence).collect()
    };
    let after = |seconds| ClusterTime { increment: 2, ..time(seconds) };
    assert_eq!(found(time(0), time(30)).await, [0, 1, 2, 3, 4]);
    assert_eq!(found(time(5), time(10)).await, [0, 1], "the entry at 5 itself is in the first");
    assert_eq!(found(after(5), time(10)).await, [1]);
    assert_eq!(found(after(5), after(10)).await, [1, 2]);
    assert_eq!(found(time(12), time(12)).await, [2]);
    assert_eq!(found(after(25), time(40)).await, [0_u64; 0]);
    let slices = catalog.timelines().slices(timeline.id, time(17), time(30)).await.unwrap();
    assert_eq!(slices[0].state, SliceState::Stored);
    let (last, spooled_state) = (&slices[1], SliceState::Spooled);
    assert_eq!((&last.name, last.span, last.state), (&spooled.name, spooled.span, spooled_state));
    assert_eq!((last.entries, last.bytes, last.stored_bytes), (10, 1 << 20, 1 << 18));
    assert_eq!((last.timeline_id, last.created_at), (timeline.id, at(25)));
}

async fn taken_amid_a_restore(catalog: &Catalog, timeline: &Timeline, from: i64, now: i64) -> Snapshot {
    let deployment = catalog.deployments().get(timeline.deployment_id).await.unwrap().unwrap();
    let Outcome::SnapshotCompleted(mut done) = support::completion_at("m", time(from), None) else {
        panic!()
    };
    done.amid_restore = true;
    support::snapshot_with(catalog, &deployment, Outcome::SnapshotCompleted(done), at(now)).await
}

async fn taken(catalog: &Catalog, timeline: &Timeline, from: i64, to: Option<i64>, now: i64) -> Snapshot {
    let deployment = catalog.deployments().get(timeline.deployment_id).await.unwrap().unwrap();
    let done: Outcome = support::completion_at("m", time(from), to.map(time));
    support::snapshot_with(catalog, &deployment, done, at(now)).await
}

pub(crate) async fn ranges_begin_with_a_snapshot_that_is_complete(catalog: Catalog) {
    let (deployment, lease, timeline) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let ranges = async || -> Vec<RestorableRange> {
        timelines.ranges(deployment.id).await.unwrap().into_iter().map(|(_, range)| range).collect()
    };
    let base =
        async |seconds| timelines.base_for(deployment.id, time(seconds)).await.unwrap().map(|(_, s)| s.id);
    let mut timeline = support::record(&catalog, &lease, &timeline, 10).await;
    taken(&catalog, &timeline, -5, Some(5), 11).await;
    assert_eq!(ranges().await, [], "operations before the record are missing");
    let capped = taken(&catalog, &timeline, 3, Some(12), 12).await;
    assert_eq!(ranges().await, [], "one collection is as of 12");
    timeline = support::record(&catalog, &lease, &timeline, 15).await;
    assert_eq!(ranges().await, [RestorableRange { from: time(12), to: time(15) }]);
    assert_eq!((base(11).await, base(12).await, base(15).await), (None, Some(capped.id), Some(capped.id)));
    assert_eq!(base(16).await, None, "not recorded yet");
    let plain = taken(&catalog, &timeline, 8, None, 16).await;
    assert_eq!(ranges().await, [RestorableRange { from: time(8), to: time(15) }]);
    assert_eq!(
        (base(8).await, base(11).await, base(12).await),
        (Some(plain.id), Some(plain.id), Some(capped.id))
    );
    let next = timelines.append(&lease, timeline.id, &support::next_slice(&timeline, 20)).await.unwrap();
    assert_eq!(ranges().await[0].to, time(15), "what is not in the vault does not count");
    let spooled = next.last_slice.clone().unwrap();
    timelines.mark_stored(&lease, &spooled).await.unwrap();
    assert_eq!(ranges().await[0].to, time(20));

    // A transaction that is open from 16 on.
    let mut slice = support::next_slice(&next, 25);
    slice.span.read_from = time(16);
    timelines.append(&lease, timeline.id, &slice).await.unwrap();
    let timeline = timelines.mark_stored(&lease, &slice.name).await.unwrap();
    let late = taken(&catalog, &timeline, 25, None, 26).await;
    assert_eq!(timelines.needed_from(&timeline, &late).await.unwrap(), Some(time(16)));
    assert_eq!(timelines.needed_from(&timeline, &plain).await.unwrap(), Some(time(0)));
    assert_eq!(timelines.needed_from(&timeline, &capped).await.unwrap(), Some(time(0)));

    catalog.snapshots().delete(plain.id, at(30)).await.unwrap();
    assert_eq!(ranges().await, [RestorableRange { from: time(12), to: time(25) }]);
    timelines.end(&lease, timeline.id, TimelineEnd::RolledOver, "", at(31)).await.unwrap();
    let second = timelines.open(&lease, support::new_timeline(40), at(40)).await.unwrap();
    support::record(&catalog, &lease, &second, 50).await;
    assert_eq!(ranges().await.len(), 1, "no snapshot is on it yet");
    let newest = taken(&catalog, &second, 45, None, 51).await;
    let both = [(12, 25), (45, 50)].map(|(from, to)| RestorableRange { from: time(from), to: time(to) });
    assert_eq!(ranges().await, both);
    assert_eq!((base(25).await, base(30).await, base(42).await), (Some(late.id), None, None));
    let (on, from) = timelines.base_for(deployment.id, time(50)).await.unwrap().unwrap();
    assert_eq!((on.id, from.id), (second.id, newest.id));
    catalog.deployments().remove(deployment.id, at(60)).await.unwrap();
    assert_eq!(ranges().await, both, "a removed deployment keeps what it has");
}

pub(crate) async fn a_snapshot_amid_a_restore_is_no_base(catalog: Catalog) {
    let (deployment, lease, timeline) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let timeline = support::record(&catalog, &lease, &timeline, 30).await;
    let base = async || timelines.base_for(deployment.id, time(30)).await.unwrap().map(|(_, s)| s.id);
    let amid = taken_amid_a_restore(&catalog, &timeline, 5, 6).await;
    assert!(amid.amid_restore);
    assert_eq!((base().await, timelines.ranges(deployment.id).await.unwrap().len()), (None, 0));
    let before = taken(&catalog, &timeline, 10, None, 11).await;
    taken_amid_a_restore(&catalog, &timeline, 15, 16).await;
    assert_eq!(base().await, Some(before.id), "the one before the restore serves");
    let after = taken(&catalog, &timeline, 20, None, 21).await;
    assert_eq!(base().await, Some(after.id));
}

pub(crate) async fn a_fork_keeps_two_histories_apart(catalog: Catalog) {
    let (deployment, lease, timeline) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let timeline = support::record(&catalog, &lease, &timeline, 20).await;
    let before = taken(&catalog, &timeline, 5, None, 6).await;
    // The entries behind 10 were rolled back. A snapshot saw what came in their place before anybody noticed.
    let other = taken(&catalog, &timeline, 15, None, 25).await;
    timelines.end(&lease, timeline.id, TimelineEnd::RolledBack, "", at(26)).await.unwrap();
    let start = OplogPosition { term: 2, ..position(10) };
    let new = catalog::NewTimeline { start, ..support::new_timeline(10) };
    let second = timelines.open(&lease, new, at(27)).await.unwrap();
    support::record(&catalog, &lease, &second, 30).await;
    let bases = async |seconds| {
        let found = timelines.base_for(deployment.id, time(seconds)).await.unwrap();
        found.map(|(timeline, snapshot)| (timeline.id, snapshot.id))
    };
    assert_eq!(bases(18).await, Some((timeline.id, before.id)), "never {}", other.id);
    assert_eq!(bases(25).await, None, "it may be of either history");
    let after = taken(&catalog, &second, 28, None, 29).await;
    assert_eq!(bases(30).await, Some((second.id, after.id)));
    let ranges = timelines.ranges(deployment.id).await.unwrap();
    let times: Vec<_> = ranges.iter().map(|(_, range)| (range.from, range.to)).collect();
    assert_eq!(times, [(time(5), time(20)), (time(28), time(30))]);
}

fn unknown_end() -> Ended {
    Ended { at: at(90), reason: TimelineEnd::SwitchedOff, detail: "nothing tells".to_owned() }
}

/// What the vault has of a timeline: slices up to these seconds.
fn listed(timeline: &Timeline, seconds: &[i64], ended: Option<Ended>) -> ImportedTimeline {
    let mut grown = timeline.clone();
    let mut slices = Vec::new();
    for to in seconds {
        let slice = support::next_slice(&grown, *to);
        grown.end = slice.span.last;
        grown.next_sequence += 1;
        grown.last_slice = Some(slice.name.clone());
        slices.push(slice);
    }
    ImportedTimeline {
        id: timeline.id,
        project_id: timeline.project_id,
        deployment_id: timeline.deployment_id,
        replica_set_name: timeline.replica_set_name.clone(),
        ended,
        unknown_end: unknown_end(),
        slices,
    }
}

pub(crate) async fn a_timeline_is_imported_once(catalog: Catalog) {
    let (other, _directory) = support::sqlite().await;
    let (deployment, lease, opened) = support::recorded(&other).await;
    let mut grown = opened.clone();
    for to in [5, 9, 14] {
        grown = support::record(&other, &lease, &grown, to).await;
    }
    let found = listed(&opened, &[5, 9, 14], None);
    let project = other.projects().by_name("shop").await.unwrap().unwrap();
    catalog.import_project(&project).await.unwrap();
    catalog.import_deployment(&deployment).await.unwrap();
    assert_eq!(catalog.import_timeline(&found).await.unwrap(), 3);
    assert_eq!(catalog.import_timeline(&found).await.unwrap(), 0);
    let back = catalog.timelines().get(opened.id).await.unwrap().unwrap();
    assert_eq!(back, Timeline { replica_set_id: None, started_at: at(5), ..grown });
    let all = (ClusterTime::default(), time(99));
    let slices = catalog.timelines().slices(opened.id, all.0, all.1).await.unwrap();
    assert_eq!(slices, other.timelines().slices(opened.id, all.0, all.1).await.unwrap());

    let mut second = listed(&opened, &[30, 35], None);
    second.id = catalog::new_id(T0);
    let mut twice = second.clone();
    twice.slices[1].name.clone_from(&found.slices[0].name);
    twice.slices.remove(0);
    let twice = catalog.import_timeline(&twice).await;
    assert!(matches!(twice, Err(Error::AlreadyExists { .. })), "a slice on two timelines: {twice:?}");
    assert_eq!(catalog.timelines().get(opened.id).await.unwrap().unwrap().ended, None);
    let ended = Ended { at: at(40), reason: TimelineEnd::RolledOver, detail: "told by nobody".to_owned() };
    second.ended = Some(ended.clone());
    // Its first slices were dropped long ago.
    second.slices.remove(0);
    assert_eq!(catalog.import_timeline(&second).await.unwrap(), 1);
    let read = catalog.timelines().get(second.id).await.unwrap().unwrap();
    assert_eq!((read.start, read.first_sequence, read.next_sequence), (position(30), 1, 2));
    assert_eq!((read.durable, read.ended), (position(35), Some(ended)));

    let mut hole = listed(&opened, &[50, 55, 60], None);
    hole.id = catalog::new_id(T0);
    hole.slices.remove(1);
    illegal(catalog.import_timeline(&hole).await);
    assert_eq!(catalog.timelines().get(hole.id).await.unwrap(), None);
    hole.slices.clear();
    assert_eq!(catalog.import_timeline(&hole).await.unwrap(), 0);
}

pub(crate) async fn of_two_open_timelines_the_one_that_ends_last_stays_open(catalog: Catalog) {
    // A catalog that was put back from a copy has open what has ended since.
    let (deployment, lease, opened) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let opened = support::record(&catalog, &lease, &opened, 5).await;
    let after = |seconds| Timeline { id: catalog::new_id(T0), end: position(seconds), ..opened.clone() };
    let first_of = |timeline: &Timeline, to: &[i64]| {
        let timeline = Timeline { next_sequence: 0, last_slice: None, ..timeline.clone() };
        listed(&timeline, to, None)
    };
    let next = first_of(&after(20), &[25, 30]);
    assert_eq!(catalog.import_timeline(&next).await.unwrap(), 2);
    let ended = timelines.get(opened.id).await.unwrap().unwrap();
    assert_eq!(ended, Timeline { ended: Some(unknown_end()), ..opened.clone() });
    let current = timelines.current(deployment.id).await.unwrap().unwrap();
    assert_eq!((current.id, current.durable), (next.id, position(30)));
    illegal(timelines.append(&lease, opened.id, &support::next_slice(&opened, 7)).await);

    // What could not be read before it is no reason to end it.
    let between = first_of(&after(10), &[15]);
    assert_eq!(catalog.import_timeline(&between).await.unwrap(), 1);
    let read = timelines.get(between.id).await.unwrap().unwrap();
    assert_eq!((read.ended, read.durable), (Some(unknown_end()), position(15)));
    assert_eq!(timelines.current(deployment.id).await.unwrap(), Some(current));
}

pub(crate) async fn a_known_timeline_goes_on_with_what_follows_in_the_vault(catalog: Catalog) {
    let (_, lease, opened) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let read = async || timelines.get(opened.id).await.unwrap().unwrap();
    let all = listed(&opened, &[5, 9, 14], None);
    let one = support::record(&catalog, &lease, &opened, 5).await;
    // Another one was in the place of the first.
    let mut fork = all.clone();
    fork.slices.remove(0);
    fork.slices[0].previous = Some("another".to_owned());
    assert!(matches!(catalog.import_timeline(&fork).await, Err(Error::Illegal(_))));
    let mut gap = all.clone();
    gap.slices.drain(..2);
    assert!(matches!(catalog.import_timeline(&gap).await, Err(Error::Illegal(_))));
    assert_eq!(read().await, one);

    assert_eq!(catalog.import_timeline(&all).await.unwrap(), 2);
    assert_eq!(catalog.import_timeline(&all).await.unwrap(), 0);
    let three = read().await;
    let expected = Timeline {
        end: position(14),
        next_sequence: 3,
        last_slice: Some(all.slices[2].name.clone()),
        read_from: time(14),
        recorded_at: at(14),
        durable: position(14),
        durable_sequence: 3,
        ..one
    };
    assert_eq!(three, expected);
    let slices = timelines.slices(opened.id, ClusterTime::default(), time(99)).await.unwrap();
    assert_eq!(slices.len(), 3);
    assert!(slices.iter().all(|slice| slice.state == SliceState::Stored));

    // What waits in a spool is for whoever has it.
    timelines.append(&lease, opened.id, &support::next_slice(&three, 20)).await.unwrap();
    let waiting = read().await;
    assert_eq!(catalog.import_timeline(&listed(&waiting, &[25], None)).await.unwrap(), 0);
    assert_eq!(read().await, waiting);
    timelines.mark_stored(&lease, waiting.last_slice.as_deref().unwrap()).await.unwrap();
    timelines.end(&lease, opened.id, TimelineEnd::RolledOver, "", at(21)).await.unwrap();
    let ended = read().await;
    assert_eq!(catalog.import_timeline(&listed(&ended, &[25], None)).await.unwrap(), 1);
    let longer = read().await;
    assert_eq!((longer.durable, longer.ended), (position(25), ended.ended));
}

pub(crate) async fn an_open_timeline_goes_on_after_a_rebuild(catalog: Catalog) {
    let (other, _directory) = support::sqlite().await;
    let (deployment, _, opened) = support::recorded(&other).await;
    let project = other.projects().by_name("shop").await.unwrap().unwrap();
    let continuous = ContinuousBackup { pit_enabled: true, restore_window_days: RestoreWindowDays::MAX };
    catalog.import_project(&project).await.unwrap();
    let found = catalog::Deployment { continuous, ..deployment };
    catalog.import_deployment(&found).await.unwrap();
    catalog.import_timeline(&listed(&opened, &[5, 9], None)).await.unwrap();
    let timelines = catalog.timelines();
    assert_eq!(timelines.wanted().await.unwrap(), []);
    assert_eq!(timelines.unfinished().await.unwrap(), [], "it waits for its deployment");
    assert_eq!(timelines.claim(found.id, "k", T0, LEASE_MS).await.unwrap(), None);

    let back =
        catalog.deployments().add(support::new_deployment(&project, "Cluster0"), at(10)).await.unwrap();
    assert_eq!((back.id, back.continuous), (found.id, continuous));
    assert_eq!(timelines.wanted().await.unwrap(), [back.id]);
    let lease = support::capture(&catalog, &back, WallTime(at(10).0)).await;
    let open = timelines.current(back.id).await.unwrap().unwrap();
    let grown = support::record(&catalog, &lease, &open, 15).await;
    assert_eq!((grown.id, grown.durable, grown.next_sequence), (opened.id, position(15), 3));
}
