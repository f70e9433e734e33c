//! Timelines: which slices there are of which deployment, who records it, and which times can be restored.
//!
//! The holder of a deployment's capture ([`Timelines::claim`]) opens a timeline, appends to it every slice that it has
//! on its own disk, and tells when one is in the vault. A slice is named here before it is uploaded, so that an object
//! in the vault that no row names ([`Timelines::known`]) is what a crash has left; and it is forgotten here before it is
//! deleted there. A timeline's chain has no hole: slices join its end, and leave it from the front.

mod bases;
mod capture;
mod import;
mod read;
mod record;
mod retention;

use model::{
    ClusterTime, OplogPosition, RestoreWindowDays, WallTime,
    chain::{Front, SliceSpan},
    id::{DeploymentId, ProjectId, TimelineId},
    timeline::{Extent, TimelineEnd},
};
use sqlx::any::AnyRow;

use crate::{Catalog, Result, row::Columns};

pub(crate) use capture::set_continuous;
pub use capture::{Capture, CaptureLease, Renewal};
pub use import::ImportedTimeline;
pub(crate) use record::end_of_removed;

const COLUMNS: &str = "id, project_id, deployment_id, replica_set_id, replica_set_name, start_seconds, start_increment, \
    start_term, first_sequence, end_seconds, end_increment, end_term, next_sequence, last_slice, read_from_seconds, \
    read_from_increment, recorded_at, durable_seconds, durable_increment, durable_term, durable_sequence, started_at, \
    ended_at, end_reason, end_detail";

const SLICE_COLUMNS: &str = "name, timeline_id, sequence, after_seconds, after_increment, after_term, first_seconds, \
    first_increment, first_term, last_seconds, last_increment, last_term, read_from_seconds, read_from_increment, \
    entries, bytes, stored_bytes, state, created_at";

/// An unbroken record of a deployment's operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Its id.
    pub id: TimelineId,
    /// The deployment's project.
    pub project_id: ProjectId,
    /// What it is a record of.
    pub deployment_id: DeploymentId,
    /// The id that the replica set was given when it was initiated, where it is known.
    pub replica_set_id: Option<String>,
    /// Name of the replica set.
    pub replica_set_name: String,
    /// The last entry before the first slice that is still there.
    pub start: OplogPosition,
    /// Number of the first slice that is still there; those before it were dropped when their time was over.
    pub first_sequence: u64,
    /// The last entry that was recorded, in the vault or not yet.
    pub end: OplogPosition,
    /// Number of the next slice.
    pub next_sequence: u64,
    /// Name of the last slice, none before the first.
    pub last_slice: Option<String>,
    /// Whoever goes on recording reads the entries from this time on, to know which transactions are open.
    pub read_from: ClusterTime,
    /// When the last slice was made.
    pub recorded_at: WallTime,
    /// The last entry that is in the vault together with all before it.
    pub durable: OplogPosition,
    /// Number of the first slice that is not in the vault yet.
    pub durable_sequence: u64,
    /// When it was opened.
    pub started_at: WallTime,
    /// When and why it ended, if it has.
    pub ended: Option<Ended>,
}

/// The end of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When it was noticed.
    pub at: WallTime,
    /// Why.
    pub reason: TimelineEnd,
    /// The same for people.
    pub detail: String,
}

impl Timeline {
    /// What it has: what is not in the vault yet does not count.
    pub const fn extent(&self) -> Extent {
        Extent { start: self.start.time, end: self.durable.time }
    }

    /// Where the restore window begins, in the deployment's own time. Its clock may be behind ours, and then so is the
    /// window; one that is ahead makes the window longer than it has to be.
    ///
    /// How far it is behind tells the last slice, which was made seconds after its last entry was written. While capture
    /// catches up on what happened hours ago, that looks like a clock that is hours behind, and what is kept longer for
    /// it goes when it has caught up.
    pub fn window_begins(&self, window: RestoreWindowDays, now: WallTime) -> ClusterTime {
        let behind = self.recorded_at.seconds().saturating_sub(i64::from(self.end.time.seconds));
        window.begins(now.plus_ms(behind.max(0).saturating_mul(-1_000)))
    }

    /// Where its record begins now.
    pub const fn front(&self) -> Front {
        Front { start: self.start.time, whole: self.first_sequence == 0 }
    }
}

/// Where a slice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SliceState {
    /// On the disk of whoever recorded it.
    Spooled,
    /// In the vault.
    Stored,
}

impl SliceState {
    /// The word in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spooled => "spooled",
            Self::Stored => "stored",
        }
    }
}

impl std::str::FromStr for SliceState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "spooled" => Ok(Self::Spooled),
            "stored" => Ok(Self::Stored),
            other => Err(format!("unknown state of a slice {other:?}")),
        }
    }
}

/// A slice of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Its name in the vault.
    pub name: String,
    /// The timeline.
    pub timeline_id: TimelineId,
    /// Its number on the timeline, from 0 on.
    pub sequence: u64,
    /// What it holds.
    pub span: SliceSpan,
    /// How many entries.
    pub entries: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// Its bytes in the vault.
    pub stored_bytes: u64,
    /// Where it is.
    pub state: SliceState,
    /// When it was made.
    pub created_at: WallTime,
}

/// What is needed to open a timeline.
#[derive(Debug, Clone)]
pub struct NewTimeline {
    /// The id that the replica set was given when it was initiated, where it is known.
    pub replica_set_id: Option<String>,
    /// Name of the replica set.
    pub replica_set_name: String,
    /// The last entry before its first slice. No transaction may be open there that takes effect later.
    pub start: OplogPosition,
}

/// A slice that is to join a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSlice {
    /// Its name in the vault.
    pub name: String,
    /// Its number on the timeline, from 0 on.
    pub sequence: u64,
    /// The slice before it; the first has none.
    pub previous: Option<String>,
    /// What it holds.
    pub span: SliceSpan,
    /// How many entries.
    pub entries: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// Its bytes in the vault.
    pub stored_bytes: u64,
    /// When it was made.
    pub created_at: WallTime,
}

/// Operations on timelines, their slices, and the right to record.
#[derive(Debug, Clone, Copy)]
pub struct Timelines<'a>(pub(crate) &'a Catalog);

fn timeline(row: &AnyRow) -> Result<Timeline> {
    let ended = match row.maybe_time("ended_at")? {
        None => None,
        Some(at) => Some(Ended {
            at,
            reason: row.parsed("end_reason")?,
            detail: row.maybe_text("end_detail")?.unwrap_or_default(),
        }),
    };
    Ok(Timeline {
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        deployment_id: row.parsed("deployment_id")?,
        replica_set_id: row.maybe_text("replica_set_id")?,
        replica_set_name: row.text("replica_set_name")?,
        start: position(row, ["start_seconds", "start_increment", "start_term"])?,
        first_sequence: row.count("first_sequence")?,
        end: position(row, ["end_seconds", "end_increment", "end_term"])?,
        next_sequence: row.count("next_sequence")?,
        last_slice: row.maybe_text("last_slice")?,
        read_from: row.cluster_time("read_from_seconds", "read_from_increment")?,
        recorded_at: row.time("recorded_at")?,
        durable: position(row, ["durable_seconds", "durable_increment", "durable_term"])?,
        durable_sequence: row.count("durable_sequence")?,
        started_at: row.time("started_at")?,
        ended,
    })
}

fn slice(row: &AnyRow) -> Result<Slice> {
    Ok(Slice {
        name: row.text("name")?,
        timeline_id: row.parsed("timeline_id")?,
        sequence: row.count("sequence")?,
        span: SliceSpan {
            after: position(row, ["after_seconds", "after_increment", "after_term"])?,
            first: position(row, ["first_seconds", "first_increment", "first_term"])?,
            last: position(row, ["last_seconds", "last_increment", "last_term"])?,
            read_from: row.cluster_time("read_from_seconds", "read_from_increment")?,
        },
        entries: row.count("entries")?,
        bytes: row.count("bytes")?,
        stored_bytes: row.count("stored_bytes")?,
        state: row.parsed("state")?,
        created_at: row.time("created_at")?,
    })
}

fn position(row: &AnyRow, [seconds, increment, term]: [&str; 3]) -> Result<OplogPosition> {
    Ok(OplogPosition { time: row.cluster_time(seconds, increment)?, term: row.int(term)? })
}
