//! Which points in time can be restored, each from which snapshot on; and of any other one, why not.

use catalog::{Capture, Deployment, PAGE_SIZE_MAX, Page, Snapshot, Timeline};
use model::{
    ClusterTime, WallTime,
    timeline::{Extent, PointInTime, RestorableRange},
};

use super::restore_view::date;
use crate::{
    error::{Answer, Code, Problem},
    gate::Call,
};

/// The record may end so long before a time that is asked for and has passed: then the job waits until it reaches that.
/// Slices are closed after seconds, and a deployment that nobody writes to notes its time every ten.
const BEHIND_SECONDS_MAX: u32 = 60;
/// How many ranges a refusal tells; the newest ones.
const RANGES_TOLD_MAX: usize = 5;

/// The snapshot from which the state at a point in time is folded.
pub(super) async fn base(call: &Call, source: &Deployment, at: PointInTime) -> Answer<Snapshot> {
    let (time, now) = (at.time(), call.server.now());
    let found = base_for(call, source, time).await?;
    let window = window_of(source, found.as_ref(), now);
    if let Some((_, snapshot)) = found
        && window.is_some_and(|begins| begins <= time)
    {
        return Ok(snapshot);
    }
    let record = Record::read(call, source).await?;
    if window.is_none()
        && let Some(open) = record.about_to_reach(time, now)
        && let Some((timeline, snapshot)) = base_for(call, source, open.durable.time).await?
        && timeline.id == open.id
    {
        return Ok(snapshot);
    }
    Err(record.refusal(source, time, window, now))
}

/// Where the restore window of the timeline begins that has a point in time.
fn window_of(
    source: &Deployment,
    found: Option<&(Timeline, Snapshot)>,
    now: WallTime,
) -> Option<ClusterTime> {
    found.map(|(timeline, _)| timeline.window_begins(source.continuous.restore_window_days, now))
}

/// The timeline that has a point in time, and the snapshot from which its state is folded: for who looks at it now, and does
/// not wait until it is recorded.
pub(super) async fn recorded(
    call: &Call,
    source: &Deployment,
    at: PointInTime,
) -> Answer<(Timeline, Snapshot)> {
    let (time, now) = (at.time(), call.server.now());
    let found = base_for(call, source, time).await?;
    let window = window_of(source, found.as_ref(), now);
    match found.filter(|_| window.is_some_and(|begins| begins <= time)) {
        Some(found) => Ok(found),
        None => Err(Record::read(call, source).await?.refusal(source, time, window, now)),
    }
}

async fn base_for(
    call: &Call,
    source: &Deployment,
    time: ClusterTime,
) -> Answer<Option<(Timeline, Snapshot)>> {
    let found = call.server.state.catalog.timelines().base_for(source.id, time).await;
    found.map_err(|e| call.server.catalog_problem("look for the base of a point in time", e))
}

/// What is recorded of a deployment.
pub(super) struct Record {
    /// Newest first.
    pub(super) timelines: Vec<Timeline>,
    /// What can be restored and whether or not it lies in the restore window, oldest first.
    ranges: Vec<(Timeline, RestorableRange)>,
    /// How the recording stands, if it ever began.
    pub(super) capture: Option<Capture>,
}

impl Record {
    pub(super) async fn read(call: &Call, deployment: &Deployment) -> Answer<Self> {
        let timelines = call.server.state.catalog.timelines();
        let fault = |e| call.server.catalog_problem("read what is recorded of a deployment", e);
        let listed = timelines.list(deployment.id, Page::new(1, PAGE_SIZE_MAX)).await.map_err(fault)?;
        Ok(Self {
            timelines: listed.items,
            ranges: timelines.ranges(deployment.id).await.map_err(fault)?,
            capture: timelines.capture(deployment.id).await.map_err(fault)?,
        })
    }

    /// What can be restored within the restore window, oldest first.
    pub(super) fn restorable(
        &self,
        deployment: &Deployment,
        now: WallTime,
    ) -> Vec<(&Timeline, RestorableRange)> {
        let within = |(timeline, range): &(Timeline, RestorableRange)| {
            let begins = timeline.window_begins(deployment.continuous.restore_window_days, now);
            (begins <= range.to).then(|| RestorableRange { from: range.from.max(begins), to: range.to })
        };
        self.ranges.iter().filter_map(|known| Some((&known.0, within(known)?))).collect()
    }

    /// Whether somebody records, now.
    pub(super) fn is_recorded(&self, now: WallTime) -> bool {
        self.capture.as_ref().is_some_and(|capture| capture.owner.is_some() && capture.lease_until > now)
    }

    /// The open timeline, when it will surely have a time soon that has passed.
    fn about_to_reach(&self, time: ClusterTime, now: WallTime) -> Option<&Timeline> {
        let open = self.timelines.iter().find(|timeline| timeline.ended.is_none())?;
        let end = open.durable.time;
        let soon = end < time
            && time.seconds - end.seconds < BEHIND_SECONDS_MAX
            && i64::from(time.seconds) <= now.seconds();
        (soon && self.is_recorded(now)).then_some(open)
    }

    /// Why a point in time cannot be restored; `known` is where the restore window begins when its state is known.
    pub(super) fn refusal(
        &self,
        source: &Deployment,
        time: ClusterTime,
        known: Option<ClusterTime>,
        now: WallTime,
    ) -> Problem {
        let extents: Vec<Extent> = self.timelines.iter().map(Timeline::extent).collect();
        let why = known.map_or_else(|| Why::of(&extents, time, now), Why::OutsideWindow);
        let (name, continuous) = (source.name.as_str(), source.continuous);
        let reason = match why {
            Why::NothingRecorded if continuous.pit_enabled => {
                format!("Continuous backup of {name} is switched on, and nothing is recorded yet.")
            }
            Why::NothingRecorded => format!(
                "Continuous backup of {name} is switched off, and nothing is recorded: from when it is switched on, \
                 with the next snapshot, points in time can be restored."
            ),
            Why::NotCome => format!("{} has not come yet.", told(time)),
            Why::OutsideWindow(begins) => {
                let window = continuous.restore_window_days;
                format!(
                    "{} lies before the restore window (restoreWindowDays: {}), which begins at {}.",
                    told(time),
                    window.days(),
                    date(begins)
                )
            }
            Why::NoBase => format!("No snapshot of {name} leads to {}.", told(time)),
            Why::NotRecorded => {
                format!("The operations up to {} were not recorded{}.", told(time), self.end_before(time))
            }
        };
        let restorable = self.restorable(source, now);
        let problem = Problem::new(why.code());
        if matches!(why, Why::NothingRecorded) {
            return problem.because(reason);
        }
        problem.because(format!("{reason} {}", restorable_told(&restorable)))
    }

    /// What is known of the end of the record before a time.
    fn end_before(&self, time: ClusterTime) -> String {
        let before = self.timelines.iter().filter(|timeline| timeline.durable.time < time);
        let Some(last) = before.max_by_key(|timeline| timeline.durable.time) else { return String::new() };
        let end = told(last.durable.time);
        match &last.ended {
            None => format!(": the record ends at {end} so far"),
            Some(ended) if ended.detail.is_empty() => {
                format!(": the record ends at {end} ({})", ended.reason.as_str())
            }
            Some(ended) => {
                format!(": the record ends at {end} ({}: {})", ended.reason.as_str(), ended.detail)
            }
        }
    }
}

/// Why a point in time cannot be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    NothingRecorded,
    NotCome,
    /// It begins then.
    OutsideWindow(ClusterTime),
    NoBase,
    NotRecorded,
}

impl Why {
    /// Why no snapshot leads to a time, with these timelines.
    fn of(timelines: &[Extent], time: ClusterTime, now: WallTime) -> Self {
        if timelines.is_empty() {
            Self::NothingRecorded
        } else if i64::from(time.seconds) > now.seconds() {
            Self::NotCome
        } else if timelines.iter().any(|extent| extent.start <= time && time <= extent.end)
            || timelines.iter().all(|extent| time < extent.start)
        {
            Self::NoBase
        } else {
            Self::NotRecorded
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::NoBase => Code::UnableToFindSnapshotPriorToPitRestoreOptime,
            Self::NothingRecorded | Self::NotCome | Self::OutsideWindow(_) | Self::NotRecorded => {
                Code::InvalidPitRestoreTime
            }
        }
    }
}

/// A cluster time for people, and as it is typed.
fn told(time: ClusterTime) -> String {
    format!("{} ({time})", date(time))
}

fn restorable_told(ranges: &[(&Timeline, RestorableRange)]) -> String {
    if ranges.is_empty() {
        return "Nothing can be restored to a point in time before the next snapshot on the record."
            .to_owned();
    }
    let skipped = ranges.len().saturating_sub(RANGES_TOLD_MAX);
    let told: Vec<String> = ranges[skipped..]
        .iter()
        .map(|(_, range)| format!("from {} to {}", told(range.from), told(range.to)))
        .collect();
    format!("What can be restored: {}.", told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_000_000);

    fn at(seconds: u32) -> ClusterTime {
        ClusterTime { seconds, increment: 1 }
    }

    fn extent(start: u32, end: u32) -> Extent {
        Extent { start: at(start), end: at(end) }
    }

    #[test]
    fn the_reason_follows_from_where_the_time_lies() {
        let two = [extent(500, 600), extent(100, 200)];
        for (timelines, time, why) in [
            (&[][..], at(150), Why::NothingRecorded),
            (&[][..], at(2_000), Why::NothingRecorded),
            (&two[..], at(1_001), Why::NotCome),
            (&two[..], at(1_000), Why::NotRecorded),
            (&two[..], at(700), Why::NotRecorded),
            (&two[..], at(600), Why::NoBase),
            (&two[..], at(500), Why::NoBase),
            (&two[..], at(300), Why::NotRecorded),
            (&two[..], at(100), Why::NoBase),
            (&two[..], at(99), Why::NoBase),
        ] {
            assert_eq!(Why::of(timelines, time, NOW), why, "{time}");
        }
    }

    #[test]
    fn the_codes_are_the_documented_ones() {
        assert_eq!(Why::NoBase.code().status(), 404);
        for why in [Why::NothingRecorded, Why::NotCome, Why::OutsideWindow(at(1)), Why::NotRecorded] {
            assert_eq!(why.code(), Code::InvalidPitRestoreTime);
        }
        assert_eq!(told(ClusterTime { seconds: 0, increment: 7 }), "1970-01-01T00:00:00Z (0,7)");
    }
}
