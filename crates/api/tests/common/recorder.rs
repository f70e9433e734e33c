//! Who records a deployment, played: rows of the catalog, and no slice anywhere.

use catalog::{CaptureLease, Deployment, NewSlice, NewTimeline, Renewal, Timeline};
use model::{
    ClusterTime, ContinuousBackup, OplogPosition, chain::SliceSpan, id::TimelineId, timeline::TimelineEnd,
};
use serde_json::Value;

use super::{App, LEASE_MS, START};

/// So many seconds after the tests begin, with an increment.
pub fn second(seconds: u32, increment: u32) -> ClusterTime {
    ClusterTime { seconds: (START / 1000) as u32 + seconds, increment }
}

pub struct Recorder {
    lease: CaptureLease,
    timeline: Timeline,
}

impl Recorder {
    /// Switches continuous backup on and opens a timeline after that time.
    pub async fn start(app: &App, deployment: &Deployment, after: ClusterTime) -> Self {
        let wanted = ContinuousBackup { pit_enabled: true, ..deployment.continuous };
        app.catalog.timelines().set_continuous_backup(deployment.id, wanted).await.unwrap();
        let lease =
            app.catalog.timelines().claim(deployment.id, "keeper", app.now(), LEASE_MS).await.unwrap();
        let lease = lease.expect("nobody records it");
        let timeline = open(app, &lease, after).await;
        Self { lease, timeline }
    }

    pub fn timeline(&self) -> TimelineId {
        self.timeline.id
    }

    /// Records everything up to that time, in one slice that is in the vault at once.
    pub async fn record(&mut self, app: &App, up_to: ClusterTime) {
        let (timelines, after) = (app.catalog.timelines(), self.timeline.end);
        let last = OplogPosition { time: up_to, term: after.term };
        let slice = NewSlice {
            name: format!("slice-{}-{}", self.timeline.id, self.timeline.next_sequence),
            sequence: self.timeline.next_sequence,
            previous: self.timeline.last_slice.clone(),
            span: SliceSpan { after, first: last, last, read_from: up_to },
            entries: 1,
            bytes: 100,
            stored_bytes: 50,
            created_at: app.now(),
        };
        timelines.append(&self.lease, self.timeline.id, &slice).await.unwrap();
        self.timeline = timelines.mark_stored(&self.lease, &slice.name).await.unwrap();
    }

    /// Says what it sees, and goes on holding the capture.
    pub async fn say(&self, app: &App, status: &Value) -> Renewal {
        app.catalog.timelines().renew(&self.lease, status, app.now(), LEASE_MS).await.unwrap()
    }

    pub async fn end(&mut self, app: &App, reason: TimelineEnd, detail: &str) {
        let ended =
            app.catalog.timelines().end(&self.lease, self.timeline.id, reason, detail, app.now()).await;
        self.timeline = ended.unwrap();
    }

    /// Opens another timeline.
    pub async fn begin_anew(&mut self, app: &App, after: ClusterTime) {
        self.timeline = open(app, &self.lease, after).await;
    }
}

async fn open(app: &App, lease: &CaptureLease, after: ClusterTime) -> Timeline {
    let new = NewTimeline {
        replica_set_id: None,
        replica_set_name: "rs0".into(),
        start: OplogPosition { time: after, term: 1 },
    };
    app.catalog.timelines().open(lease, new, app.now()).await.unwrap()
}
