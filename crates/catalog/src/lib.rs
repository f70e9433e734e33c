//! The nouns of the control plane in SQL: SQLite or PostgreSQL.
//!
//! The catalog is all that the API and the workers share. The API writes rows that state an intent, workers
//! claim the work items that belong to them, and the rows that result say what was observed. It knows no
//! MongoDB, no object store and no HTTP, keeps no clock (every function that needs one is told `now`) and
//! never sees a secret in the clear: connection strings and HA1 values come sealed, tokens hashed.
//!
//! Rules that hold everywhere in here:
//!
//! * One text per statement for both databases; the few differences are in `database`.
//! * Every change of a state is one conditional `UPDATE` whose condition and result are generated from the
//!   state machines of the model (see `transition`), so that SQL cannot disagree with Rust.
//! * Whatever a worker writes stands in one transaction behind a check of its lease epoch that also locks the
//!   row of the job (or capture): who lost the lease changes nothing, whatever the interleaving.
//! * Locks are taken in one order: project, deployment, export bucket, capture, job, subject, timeline, slices, objects,
//!   and for what is in other vaults: deployment, vault, copies, copied objects.

mod audit;
mod collector;
mod compliance;
mod copies;
mod credentials;
mod database;
mod defects;
mod deployments;
mod error;
mod exports;
mod import;
mod jobs;
mod live_checks;
mod objects;
mod obligations;
mod page;
mod projects;
mod restores;
mod row;
mod schedules;
mod sealed;
mod settings;
mod snapshots;
mod timelines;
mod tokens;
mod transition;

use std::sync::Arc;

use model::{Id, WallTime};

pub use audit::{Audit, AuditEntry, AuditFilter, AuditOutcome};
pub use collector::{Collector, Cycle};
pub use compliance::{Compliance, PolicySet, ProjectPolicy};
pub use copies::{CopiedState, Copies, CopiesDecided, CopyLease, SnapshotCopy, Upkeep};
pub use credentials::{
    Credential, CredentialChange, CredentialFilter, CredentialKind, Credentials, Grant, NewCredential,
    NewProof, NewSecret, Proof,
};
pub use defects::{Defect, Defects};
pub use deployments::{Deployment, DeploymentFacts, Deployments, NewDeployment};
pub use error::{Conflict, Error, Result};
pub use exports::{ExportBucket, ExportBuckets, ExportJob, Exports, NewExport, NewExportBucket};
pub use jobs::{ATTEMPTS_MAX, Completion, Job, Jobs, Lease, Outcome};
pub use live_checks::{LiveChecks, LiveLease, LivePlace, LiveRound};
pub use objects::{ObjectRow, ObjectStats, Objects, PinReport, StoredObject};
pub use obligations::{Obligation, Obligations};
pub use page::{Listing, PAGE_SIZE_MAX, Page};
pub use projects::{Project, Projects};
pub use restores::{
    CollectionFilter, CollectionSums, Delivery, NewRestore, PROJECT_DOWNLOADS_MAX, RestoreFilter, RestoreJob,
    RestoredCollection, Restores, Target,
};
pub use schedules::{Applied, DeploymentSchedule, DueExport, ScheduleChange, Schedules, Taken};
pub use sealed::{Sealed, SealedKind, SealedValue};
pub use settings::Settings;
pub use snapshots::{
    NewSnapshot, Protection, Snapshot, SnapshotFilter, SnapshotPolicy, SnapshotType, Snapshots,
};
pub use timelines::{
    Capture, CaptureLease, Ended, ImportedTimeline, NewSlice, NewTimeline, Renewal, Slice, SliceState,
    Timeline, Timelines,
};
pub use tokens::{NewToken, Tokens};

/// The catalog. Cheap to clone; all clones share the same connections.
#[derive(Clone)]
pub struct Catalog {
    database: Arc<database::Database>,
}

impl Catalog {
    /// Opens the catalog at a path (SQLite; made when missing, readable by its owner only) or at a
    /// `postgres://` URL, and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be reached or written, [`Error::Corrupt`] when it is no catalog
    /// or one of a newer version.
    pub async fn open(location: &str) -> Result<Self> {
        Ok(Self { database: Arc::new(database::Database::open(location).await?) })
    }

    /// Closes all connections; what was acknowledged is durable with or without it.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Projects (Atlas: groups).
    pub const fn projects(&self) -> Projects<'_> {
        Projects(self)
    }

    /// Deployments (Atlas: clusters).
    pub const fn deployments(&self) -> Deployments<'_> {
        Deployments(self)
    }

    /// API keys and service accounts.
    pub const fn credentials(&self) -> Credentials<'_> {
        Credentials(self)
    }

    /// OAuth access tokens.
    pub const fn tokens(&self) -> Tokens<'_> {
        Tokens(self)
    }

    /// Snapshots.
    pub const fn snapshots(&self) -> Snapshots<'_> {
        Snapshots(self)
    }

    /// Restore jobs, as the API shows them.
    pub const fn restores(&self) -> Restores<'_> {
        Restores(self)
    }

    /// Exports of snapshots, as the API shows them.
    pub const fn exports(&self) -> Exports<'_> {
        Exports(self)
    }

    /// Backup compliance policies of projects.
    pub const fn compliance(&self) -> Compliance<'_> {
        Compliance(self)
    }

    /// Copies of snapshots in other vaults.
    pub const fn copies(&self) -> Copies<'_> {
        Copies(self)
    }

    /// Buckets that snapshots are exported to.
    pub const fn export_buckets(&self) -> ExportBuckets<'_> {
        ExportBuckets(self)
    }

    /// The queue of work items.
    pub const fn jobs(&self) -> Jobs<'_> {
        Jobs(self)
    }

    /// Objects of the vault, and which jobs rely on them.
    pub const fn objects(&self) -> Objects<'_> {
        Objects(self)
    }

    /// The garbage collector's side of [`Catalog::objects`].
    pub const fn collector(&self) -> Collector<'_> {
        Collector(self)
    }

    /// What has to be undone on deployments if the job that did it dies.
    pub const fn obligations(&self) -> Obligations<'_> {
        Obligations(self)
    }

    /// Timelines: what is recorded, and which times can be restored.
    pub const fn timelines(&self) -> Timelines<'_> {
        Timelines(self)
    }

    /// Schedules: which snapshots are taken by themselves.
    pub const fn schedules(&self) -> Schedules<'_> {
        Schedules(self)
    }

    /// How far deployments are compared with what is recorded of them.
    pub const fn live_checks(&self) -> LiveChecks<'_> {
        LiveChecks(self)
    }

    /// Collections that are not what is recorded of them.
    pub const fn defects(&self) -> Defects<'_> {
        Defects(self)
    }

    /// The audit log.
    pub const fn audit(&self) -> Audit<'_> {
        Audit(self)
    }

    /// Facts about this server: its id, its first start.
    pub const fn settings(&self) -> Settings<'_> {
        Settings(self)
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("backend", &self.database.backend()).finish_non_exhaustive()
    }
}

/// A new id: the time in seconds, then eight random bytes.
pub fn new_id<T>(now: WallTime) -> Id<T> {
    let mut random = [0; 8];
    // The library documents no failure on the platforms that we build for: it aborts at start-up instead.
    aws_lc_rs::rand::fill(&mut random).expect("the operating system gives random bytes");
    Id::from_parts(u32::try_from(now.seconds().max(0)).unwrap_or(u32::MAX), random)
}
