//! Slices whose time is over: nothing goes that a restore to a time inside the window reads.

use std::collections::HashSet;

use catalog::{CaptureLease, Catalog, Delivery, Deployment, Lease, NewSlice, SliceState, Timeline};
use model::{
    ClusterTime, ContinuousBackup, OplogPosition, RestoreWindowDays,
    id::{SnapshotId, TimelineId},
    timeline::TimelineEnd,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::support::{self, at, position, time};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// More than there ever are.
const ALL: u32 = 10_000;
/// Far longer than any case goes on, by its own clock.
const LONG_MS: i64 = 1_000_000 * HOUR * 1_000;

pub(crate) async fn nothing_goes_while_somebody_may_read_it(catalog: Catalog) {
    let (deployment, lease, mut timeline) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    for day in 1..=20 {
        timeline = support::record(&catalog, &lease, &timeline, day * DAY).await;
    }
    let done = support::completion_at("m", time(10 * DAY), None);
    let snapshot = support::snapshot_with(&catalog, &deployment, done, at(10 * DAY)).await;
    let now = at(20 * DAY);
    let expired = async |limit| -> Vec<String> {
        let slices = timelines.expired(deployment.id, now, limit).await.unwrap();
        slices.into_iter().map(|slice| slice.name).collect()
    };
    let over = expired(ALL).await;
    assert_eq!(over.len(), 9, "of the window of a week, and what the snapshot before it needs");
    assert_eq!(expired(4).await, over[..4]);
    assert_eq!(expired(0).await, [""; 0]);

    support::request_snapshot(&catalog, &deployment, now).await;
    assert_eq!(expired(ALL).await, [""; 0]);
    assert_eq!(timelines.forget(deployment.id, &over, now).await.unwrap(), [""; 0]);
    let job = support::claim(&catalog, "w", now).await;
    assert_eq!(expired(ALL).await, [""; 0]);
    catalog.jobs().finish(&job, support::failed("x"), now).await.unwrap();
    assert_eq!(expired(ALL).await, over);

    let project = catalog.projects().by_name("shop").await.unwrap().unwrap();
    let elsewhere = support::deployment(&catalog, &project, "Cluster1").await;
    let delivery = Delivery::Automated { target: elsewhere.id };
    let restore = catalog.restores().request(support::new_restore(&snapshot, delivery), now).await.unwrap();
    assert_eq!(expired(ALL).await, [""; 0], "it reads what this deployment has");
    assert_eq!(timelines.forget(deployment.id, &over, now).await.unwrap(), [""; 0]);
    catalog.restores().request_cancel(restore.id, now).await.unwrap().unwrap();

    let middle = timelines.forget(deployment.id, &over[1..], now).await.unwrap();
    assert_eq!(middle, [""; 0], "never a hole");
    let some = [over[0].clone(), over[1].clone(), over[3].clone()];
    assert_eq!(timelines.forget(deployment.id, &some, now).await.unwrap(), over[..2]);
    let moved = timelines.get(timeline.id).await.unwrap().unwrap();
    assert_eq!((moved.start, moved.first_sequence), (position(2 * DAY), 2));
    assert_eq!(moved.end, timeline.end);
    assert_eq!(timelines.recorded().await.unwrap(), [deployment.id]);
    let nobody = timelines.expired(catalog::new_id(now), now, ALL).await;
    assert!(matches!(nobody, Err(catalog::Error::NotFound { .. })));

    catalog.deployments().remove(deployment.id, now).await.unwrap();
    let long_after = at(28 * DAY);
    let rest = timelines.expired(deployment.id, long_after, ALL).await.unwrap();
    assert_eq!(rest.len(), 18, "a removed deployment's record goes too, in its time");
    let rest: Vec<_> = rest.into_iter().map(|slice| slice.name).collect();
    assert_eq!(timelines.forget(deployment.id, &rest, long_after).await.unwrap(), rest);
    assert_eq!(timelines.recorded().await.unwrap(), []);
    assert_eq!(timelines.ranges(deployment.id).await.unwrap(), []);
    assert!(timelines.known(&rest).await.unwrap().is_empty());
}

pub(crate) async fn a_clock_that_is_behind_shortens_no_window(catalog: Catalog) {
    let (deployment, lease, mut timeline) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let (behind, mut last) = (30 * DAY, None);
    for day in 1..=20 {
        let mut slice = support::next_slice(&timeline, day * DAY);
        slice.created_at = at(day * DAY + behind);
        timelines.append(&lease, timeline.id, &slice).await.unwrap();
        timeline = timelines.mark_stored(&lease, &slice.name).await.unwrap();
        if day == 2 || day == 15 {
            let done = support::completion_at(&format!("m{day}"), time(day * DAY), None);
            last = Some(support::snapshot_with(&catalog, &deployment, done, at(day * DAY + behind)).await);
        }
    }
    assert!(last.is_some());
    let now = at(20 * DAY + behind);
    let window = deployment.continuous.restore_window_days;
    let begins = timeline.window_begins(window, now);
    assert_eq!(begins.seconds, timeline.end.time.seconds - window.days() * 86_400);
    let over = timelines.expired(deployment.id, now, ALL).await.unwrap();
    assert_eq!(over.len(), 1, "what the first snapshot needs, which is the last one before the window");
    // One that is ahead makes it longer.
    let ahead = Timeline { recorded_at: at(DAY), ..timeline };
    assert_eq!(ahead.window_begins(window, at(DAY)), window.begins(at(DAY)));
}

/// What happens to the transaction of which capture knows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Transaction {
    Begins,
    GoesOn,
    Ends,
}

/// Something that happens. Times are hours.
#[derive(Debug, Clone, Copy)]
enum Event {
    Append(i64, Transaction),
    Store(usize),
    Rewind,
    Snapshot { ago: i64, capped: i64 },
    Delete(usize),
    Hold,
    LetGo,
    Pass(i64),
    Window(u32),
    Restart,
    Forget(u32),
    ForgetAll,
}

fn event() -> impl Strategy<Value = Event> {
    let transaction =
        prop_oneof![Just(Transaction::Begins), Just(Transaction::GoesOn), Just(Transaction::Ends)];
    prop_oneof![
        8 => (1..9_i64, transaction).prop_map(|(hours, t)| Event::Append(hours, t)),
        8 => (0..3_usize).prop_map(Event::Store),
        1 => Just(Event::Rewind),
        4 => (0..12_i64, 0..4_i64).prop_map(|(ago, capped)| Event::Snapshot { ago, capped }),
        1 => any::<usize>().prop_map(Event::Delete),
        1 => Just(Event::Hold),
        1 => Just(Event::LetGo),
        2 => (1..30_i64).prop_map(Event::Pass),
        1 => (1..3_u32).prop_map(Event::Window),
        1 => Just(Event::Restart),
        3 => (1..5_u32).prop_map(Event::Forget),
        4 => Just(Event::ForgetAll),
    ]
}

/// A slice that was ever recorded.
#[derive(Debug, Clone)]
struct Written {
    slice: NewSlice,
    stored: bool,
    forgotten: bool,
}

/// All that was ever recorded on a timeline.
#[derive(Debug)]
struct Line {
    id: TimelineId,
    start: ClusterTime,
    slices: Vec<Written>,
    ended_at: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    id: SnapshotId,
    at: ClusterTime,
    complete_at: ClusterTime,
}

impl Line {
    fn new(opened: &Timeline) -> Self {
        Self { id: opened.id, start: opened.start.time, slices: Vec::new(), ended_at: None }
    }

    fn needed(&self, base: &Taken) -> ClusterTime {
        let before = self.slices.iter().rev().find(|w| w.slice.span.last.time <= base.at);
        before.map_or(self.start, |w| w.slice.span.read_from)
    }

    /// Whether every entry that a fold from the base to the time reads is in the vault, and every operation between.
    fn folds(&self, base: &Taken, to: ClusterTime) -> bool {
        let needed = self.needed(base);
        let stored = self.slices.iter().take_while(|w| w.stored).last();
        let durable = stored.map_or(self.start, |w| w.slice.span.last.time);
        let begins_inside = base.at >= self.start
            && (needed > self.start || needed == self.start && !self.began_before(base));
        begins_inside
            && base.complete_at <= to
            && to <= durable
            && self
                .slices
                .iter()
                .filter(|w| w.slice.span.last.time >= needed && w.slice.span.after.time < to)
                .all(|w| w.stored && !w.forgotten)
            && !self.lost_front(base)
    }

    /// Whether the base relies on a slice that there is and that tells a beginning at the very start.
    fn began_before(&self, base: &Taken) -> bool {
        self.slices.iter().any(|w| w.slice.span.last.time <= base.at)
    }

    /// Whether operations after the base are gone, though no slice that is named above had them.
    fn lost_front(&self, base: &Taken) -> bool {
        self.slices.iter().any(|w| w.forgotten && w.slice.span.last.time > base.at)
    }

    fn first(&self) -> Option<&Written> {
        self.slices.iter().find(|w| !w.forgotten)
    }
}

/// The catalog, and next to it all that ever happened.
struct World {
    catalog: Catalog,
    deployment: Deployment,
    lease: CaptureLease,
    timeline: Timeline,
    lines: Vec<Line>,
    open_since: Option<ClusterTime>,
    snapshots: Vec<Taken>,
    held: Option<Lease>,
    window: RestoreWindowDays,
    now: i64,
}

impl World {
    async fn new(catalog: &Catalog, deployment: Deployment) -> Self {
        let lease = catalog.timelines().claim(deployment.id, "k", at(0), LONG_MS).await.unwrap().unwrap();
        let timeline = catalog.timelines().open(&lease, support::new_timeline(0), at(0)).await.unwrap();
        let mut world = Self {
            catalog: catalog.clone(),
            deployment,
            lease,
            lines: vec![Line::new(&timeline)],
            timeline,
            open_since: None,
            snapshots: Vec::new(),
            held: None,
            window: RestoreWindowDays::MIN,
            now: 0,
        };
        world.set_window(1).await;
        world
    }

    async fn set_window(&mut self, days: u32) {
        self.window = RestoreWindowDays::new(days).unwrap();
        let wanted = ContinuousBackup { pit_enabled: true, restore_window_days: self.window };
        self.catalog.timelines().set_continuous_backup(self.deployment.id, wanted).await.unwrap();
    }

    fn line(&mut self) -> &mut Line {
        self.lines.last_mut().unwrap()
    }

    async fn step(&mut self, event: Event) {
        let catalog = self.catalog.clone();
        let timelines = catalog.timelines();
        match event {
            Event::Append(hours, transaction) => self.append(hours, transaction).await,
            Event::Store(which) => {
                let spooled = timelines.spooled(self.timeline.id).await.unwrap();
                let Some(slice) = spooled.get(which) else { return };
                self.timeline = timelines.mark_stored(&self.lease, &slice.name).await.unwrap();
                let line = self.line();
                line.slices.iter_mut().filter(|w| w.slice.name == slice.name).for_each(|w| w.stored = true);
            }
            Event::Rewind => {
                self.timeline = timelines.rewind(&self.lease, self.timeline.id).await.unwrap();
                let line = self.line();
                let durable = line.slices.iter().take_while(|w| w.stored).count();
                line.slices.truncate(durable);
                // What capture knows is what its last slice tells.
                let last = line.slices.last().map(|w| w.slice.span);
                self.open_since = last.and_then(|s| (s.read_from < s.last.time).then_some(s.read_from));
            }
            Event::Snapshot { ago, capped } if self.held.is_none() => {
                let at = time(self.now - ago * HOUR);
                let complete_at = time(self.now - (ago - capped) * HOUR);
                let done = support::completion_at("m", at, (capped > 0).then_some(complete_at));
                let now = support::at(self.now);
                let id = support::snapshot_with(&catalog, &self.deployment, done, now).await.id;
                self.snapshots.push(Taken { id, at, complete_at });
            }
            Event::Delete(which) if !self.snapshots.is_empty() => {
                let gone = self.snapshots.remove(which % self.snapshots.len());
                catalog.snapshots().delete(gone.id, at(self.now)).await.unwrap();
            }
            Event::Hold if self.held.is_none() => {
                support::request_snapshot(&catalog, &self.deployment, at(self.now)).await;
                let lease = catalog.jobs().claim("w", &[], at(self.now), LONG_MS).await.unwrap();
                self.held = Some(lease.unwrap());
            }
            Event::LetGo => self.let_go().await,
            Event::Pass(hours) => self.now += hours * HOUR,
            Event::Window(days) => self.set_window(days).await,
            Event::Restart => {
                let now = self.now;
                let reason = TimelineEnd::RolledOver;
                timelines.end(&self.lease, self.timeline.id, reason, "", at(now)).await.unwrap();
                self.line().ended_at = Some(now);
                // Never in the same second: the newer one would not be known by its age.
                self.now += HOUR;
                let new = support::new_timeline(self.now);
                self.timeline = timelines.open(&self.lease, new, at(self.now)).await.unwrap();
                self.lines.push(Line::new(&self.timeline));
                self.open_since = None;
            }
            Event::Forget(limit) => self.forget(Some(limit)).await,
            Event::ForgetAll => self.forget(None).await,
            Event::Snapshot { .. } | Event::Delete(_) | Event::Hold => {}
        }
    }

    async fn append(&mut self, hours: i64, transaction: Transaction) {
        let end = self.timeline.end;
        let first = OplogPosition { time: ClusterTime { increment: 2, ..end.time }, ..end };
        let ends = i64::from(end.time.seconds) - at(0).seconds() + hours * HOUR;
        let last = position(ends);
        match transaction {
            // With its very last entry, or its first one.
            Transaction::Begins if self.open_since.is_none() => {
                self.open_since = Some(if hours % 2 == 0 { last.time } else { first.time });
            }
            Transaction::Ends => self.open_since = None,
            Transaction::Begins | Transaction::GoesOn => {}
        }
        let mut slice = support::next_slice(&self.timeline, ends);
        slice.span.first = first;
        slice.span.last = last;
        slice.span.read_from = self.open_since.unwrap_or(last.time);
        self.now = self.now.max(ends);
        slice.created_at = at(self.now);
        self.timeline = self.catalog.timelines().append(&self.lease, self.timeline.id, &slice).await.unwrap();
        self.line().slices.push(Written { slice, stored: false, forgotten: false });
    }

    async fn let_go(&mut self) {
        if let Some(lease) = self.held.take() {
            self.catalog.jobs().finish(&lease, support::failed("x"), at(self.now)).await.unwrap();
        }
    }

    /// The names of all slices that are there.
    fn names(&self) -> Vec<String> {
        let slices = self.lines.iter().flat_map(|line| &line.slices);
        slices.filter(|w| !w.forgotten).map(|w| w.slice.name.clone()).collect()
    }

    async fn forget(&mut self, limit: Option<u32>) {
        let timelines = self.catalog.timelines();
        let (id, now) = (self.deployment.id, at(self.now));
        let begins = self.window.begins(now);
        let before: Vec<_> =
            self.times().into_iter().filter(|t| *t >= begins && self.restorable(*t)).collect();
        let expired = timelines.expired(id, now, limit.unwrap_or(ALL)).await.unwrap();
        let expired: Vec<String> = expired.into_iter().map(|slice| slice.name).collect();
        if self.held.is_some() {
            assert_eq!(expired, [""; 0], "a snapshot is running");
        }
        // Whatever is asked for, only that goes which may.
        let asked = if limit.is_some() { expired.clone() } else { self.names() };
        let forgotten = timelines.forget(id, &asked, now).await.unwrap();
        assert_eq!(forgotten, expired);
        let gone: HashSet<&str> = forgotten.iter().map(String::as_str).collect();
        for written in self.lines.iter_mut().flat_map(|line| &mut line.slices) {
            written.forgotten |= gone.contains(written.slice.name.as_str());
        }
        for time in before {
            assert!(self.restorable(time), "{time} was restorable, and is inside the window");
        }
        if limit.is_none() && self.held.is_none() {
            self.nothing_more_could_go();
        }
        if let Some(timeline) = timelines.current(id).await.unwrap() {
            self.timeline = timeline;
        }
    }

    fn nothing_more_could_go(&self) {
        let now = at(self.now);
        for line in &self.lines {
            let Some(first) = line.first() else { continue };
            // What was recorded late is kept longer: nobody can tell a clock that is behind from a capture that was.
            let late = line
                .slices
                .last()
                .map_or(0, |w| w.slice.created_at.seconds() - i64::from(w.slice.span.last.time.seconds));
            let begins = self.window.begins(now.plus_ms(-1_000 * late.max(0)));
            let last = first.slice.span.last.time;
            let long_over = line.ended_at.is_some_and(|ended| at(ended) < self.window.begins_at(now))
                && line.slices.last().is_some_and(|w| w.slice.span.last.time < begins);
            assert!(!long_over, "{line:?} ended before the window began");
            // Bases are judged without an upper end, since what is not durable yet soon will be.
            let usable = |base: &&Taken| {
                base.at >= line.start
                    && !line.lost_front(base)
                    && line.slices.iter().all(|w| !w.forgotten || w.slice.span.last.time < line.needed(base))
            };
            let bases: Vec<_> = self.snapshots.iter().filter(usable).collect();
            let before = bases.iter().filter(|base| base.complete_at <= begins).max_by_key(|b| b.complete_at);
            let base = before.or_else(|| bases.iter().min_by_key(|b| b.complete_at));
            let next = line.slices.iter().take_while(|w| w.stored).last();
            let next = next.map_or(line.start, |w| w.slice.span.read_from);
            let kept = last >= begins || last >= next || base.is_some_and(|base| last >= line.needed(base));
            assert!(kept, "{first:?} is needed by nobody; {begins}");
        }
    }

    /// Times worth asking for.
    fn times(&self) -> Vec<ClusterTime> {
        let spans = self.lines.iter().flat_map(|line| &line.slices).map(|w| w.slice.span);
        let mut times: Vec<_> =
            spans.flat_map(|span| [span.after.time, span.first.time, span.last.time]).collect();
        times.extend(self.snapshots.iter().flat_map(|base| [base.at, base.complete_at]));
        times.sort_unstable();
        times.dedup();
        times
    }

    fn restorable(&self, time: ClusterTime) -> bool {
        self.lines.iter().any(|line| self.snapshots.iter().any(|base| line.folds(base, time)))
    }

    /// What the catalog says against what is.
    async fn compare(&self) {
        let timelines = self.catalog.timelines();
        let id = self.deployment.id;
        let ranges = timelines.ranges(id).await.unwrap();
        let times = self.times();
        for time in &times {
            for line in &self.lines {
                let claimed = ranges.iter().any(|(t, range)| t.id == line.id && range.contains(*time));
                let folds = self.snapshots.iter().any(|base| line.folds(base, *time));
                assert_eq!(claimed, folds, "{time} on {line:?} from {:?}", self.snapshots);
            }
        }
        for time in times.iter().step_by(times.len() / 4 + 1) {
            self.compare_base(*time).await;
        }
        for line in &self.lines {
            let everything = (ClusterTime::default(), ClusterTime::from_u64(u64::MAX));
            let slices = timelines.slices(line.id, everything.0, everything.1).await.unwrap();
            let kept = line.slices.iter().filter(|w| !w.forgotten);
            assert!(slices.iter().map(|s| &s.name).eq(kept.map(|w| &w.slice.name)));
            let timeline = timelines.get(line.id).await.unwrap().unwrap();
            if let Some(first) = slices.first() {
                assert_eq!((timeline.start, timeline.first_sequence), (first.span.after, first.sequence));
            }
        }
        let all: Vec<String> =
            self.lines.iter().flat_map(|line| &line.slices).map(|w| w.slice.name.clone()).collect();
        assert_eq!(timelines.known(&all).await.unwrap(), self.names().into_iter().collect());
    }

    async fn compare_base(&self, time: ClusterTime) {
        let timelines = self.catalog.timelines();
        let Some((timeline, snapshot)) = timelines.base_for(self.deployment.id, time).await.unwrap() else {
            assert!(!self.restorable(time), "{time}");
            return;
        };
        let line = self.lines.iter().find(|line| line.id == timeline.id).unwrap();
        let base = self.snapshots.iter().find(|base| base.id == snapshot.id).unwrap();
        assert!(line.folds(base, time), "{time} from {base:?} on {line:?}");
        let better = |other: &Taken| other.complete_at > base.complete_at && line.folds(other, time);
        assert!(!self.snapshots.iter().any(better), "{time} from {base:?}: {:?}", self.snapshots);
        let needed = timelines.needed_from(&timeline, &snapshot).await.unwrap().unwrap();
        assert_eq!(needed, line.needed(base));
        let slices = timelines.slices(timeline.id, needed, time).await.unwrap();
        assert!(slices.iter().all(|slice| slice.state == SliceState::Stored));
        assert!(slices.first().is_none_or(|first| first.span.after.time <= needed));
        assert!(
            time == needed
                || slices
                    .last()
                    .is_some_and(|last| last.span.last.time >= time || last.span.last.time >= base.at)
        );
    }
}

pub(crate) async fn what_goes_is_outside_the_window_and_never_needed(catalog: Catalog) {
    let project = support::project(&catalog).await;
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&prop::collection::vec(event(), 1..60), |events| {
            tokio::runtime::Handle::current().block_on(async {
                let name = format!("T{}", catalog::new_id::<()>(support::T0));
                let deployment = support::deployment(&catalog, &project, &name).await;
                support::switch_on(&catalog, &deployment).await;
                let mut world = World::new(&catalog, deployment).await;
                for event in events {
                    world.step(event).await;
                    world.compare().await;
                }
                world.let_go().await;
            });
            Ok(())
        })
    });
    outcome.unwrap();
}
