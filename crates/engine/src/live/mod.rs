//! Live checks: whether a captured deployment is what is recorded of it, document for document.
//!
//! A snapshot of a captured deployment reads no document, so a write that went past the oplog, a defect of the fold or of
//! the record would stay unnoticed and be handed on from snapshot to snapshot. A check reads ranges of keys from the
//! deployment and holds them against the fold:
//!
//! 1. the deployment is listed so that the listing is true at a time T, as for every snapshot;
//! 2. capture is waited for until everything up to T is in the vault;
//! 3. the record since the newest snapshot is gathered once, sorted by collection and key;
//! 4. range by range, the segment of the snapshot with the changes in it is compared with a read at T ([`compare`]).
//!
//! Both sides are exact at T, so writes under the check are no differences. When the deployment has forgotten T, a later
//! time is taken and the check goes on where it was. A difference is a defect in the catalog: the next snapshot reads that
//! collection from the deployment.

mod actual;
mod compare;
mod context;
mod expected;
mod pass;
mod ranges;
mod report;
mod scope;

use std::time::Duration;

use catalog::LivePlace;
use model::{CollectionUuid, id::DeploymentId};

use crate::{
    connect::{self, Connected},
    engine::Services,
    lease::{JobContext, JobError, StopToken},
    progress::Counters,
};
pub use report::{Difference, LiveReport, Skipped};
pub use scope::{Scope, Share};

/// So many passes without headway end a check, or leave out the collection that it stands at.
const FRUITLESS_MAX: u32 = 6;
/// Wait after the first of them; doubled each time. All waits together outlast an election.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// Why a pass ended early.
pub(crate) enum Ended {
    /// Another one at a later time may succeed, and why this one did not.
    Again(String),
    /// The server gave documents in another order than that of their keys.
    Disordered,
    /// No other one will.
    Job(JobError),
}

impl From<JobError> for Ended {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Retry { .. } => Self::Again(error.full_text()),
            error => Self::Job(error),
        }
    }
}

impl From<catalog::Error> for Ended {
    fn from(error: catalog::Error) -> Self {
        JobError::from(error).into()
    }
}

impl From<mongo::Error> for Ended {
    fn from(error: mongo::Error) -> Self {
        use mongo::Error as E;
        match error {
            E::SnapshotTooOld { .. }
            | E::SnapshotUnavailable { .. }
            | E::NamespaceNotFound(_)
            | E::Unstable { .. }
            | E::OplogGap { .. } => Self::Again(error.to_string()),
            error => JobError::from(error).into(),
        }
    }
}

/// Whether a check goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    On,
    Stop,
}

/// A range that was compared or passed over.
pub(crate) struct Passed<'a> {
    /// What comes next; none when everything was compared.
    pub(crate) next: Option<&'a LivePlace>,
    /// Documents in it.
    pub(crate) documents: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Whoever follows a check from range to range.
pub(crate) trait Watch: Send {
    /// Called after each range.
    fn passed(&mut self, range: Passed<'_>) -> impl Future<Output = Result<Go, JobError>> + Send;
}

/// Follows a check that goes through.
struct ToTheEnd;

impl Watch for ToTheEnd {
    async fn passed(&mut self, _: Passed<'_>) -> Result<Go, JobError> {
        Ok(Go::On)
    }
}

/// A check of one deployment.
pub struct LiveCheck {
    ctx: JobContext,
    connected: Connected,
    scope: Scope,
    seed: u64,
}

/// Where a check stands, and what it has found.
struct Walk {
    report: LiveReport,
    /// What comes next; none at the end.
    next: Option<LivePlace>,
    /// The name of the collection that is being compared.
    namespace: Option<String>,
}

impl Walk {
    /// Goes on behind a collection.
    fn leave(&mut self, collection: CollectionUuid) {
        self.next = collection.next().map(|collection| LivePlace { collection, key: None });
        self.namespace = None;
    }
}

impl LiveCheck {
    /// Connects to a captured deployment.
    ///
    /// # Errors
    /// When it is not registered or does not answer, or nothing is recorded of it.
    pub async fn open(services: &Services, deployment: DeploymentId, scope: Scope) -> Result<Self, JobError> {
        let ctx = context::without_lease(services);
        let connected = connect::connect(services, deployment).await?;
        if !connected.row.continuous.pit_enabled {
            return Err(JobError::failed(format!(
                "nothing is recorded of {}, so there is nothing to compare it with; switch it on with `ebbtide cluster \
                 update --pit on`",
                connected.row.name
            )));
        }
        let seed = services.now().0.unsigned_abs();
        Ok(Self { ctx, connected, scope, seed })
    }

    /// How far it is.
    pub fn progress(&self) -> &Counters {
        self.ctx.progress()
    }

    /// What makes it stop.
    pub fn stop_token(&self) -> &StopToken {
        self.ctx.stop_token()
    }

    /// Compares everything that is to be compared.
    ///
    /// # Errors
    /// When nothing can be compared: no snapshot on the timeline, capture stands still, damage in the vault. A collection
    /// that cannot be compared is skipped and told.
    pub async fn run(&self) -> Result<LiveReport, JobError> {
        let first = LivePlace { collection: CollectionUuid::FIRST, key: None };
        self.follow(first, &mut ToTheEnd).await
    }

    /// As [`LiveCheck::run`], from some place on and for as long as `watch` says.
    pub(crate) async fn follow(
        &self,
        from: LivePlace,
        watch: &mut impl Watch,
    ) -> Result<LiveReport, JobError> {
        let mut walk = Walk { report: LiveReport::default(), next: Some(from), namespace: None };
        let mut fruitless = 0;
        while let Some(place) = walk.next.clone() {
            walk.namespace = None;
            let why = match self.pass(&mut walk, watch).await {
                Ok(Go::On) => continue,
                Ok(Go::Stop) => break,
                Err(Ended::Again(why)) => why,
                Err(Ended::Disordered) => {
                    "the server gave documents in another order than that of their _id".to_owned()
                }
                Err(Ended::Job(error)) => return Err(error),
            };
            fruitless = if walk.next.as_ref() == Some(&place) { fruitless + 1 } else { 1 };
            tracing::debug!(deployment = %self.connected.row.name, why, "a live check goes on at a later time: {why}");
            if fruitless >= FRUITLESS_MAX {
                let (Some(namespace), Some(next)) = (walk.namespace.clone(), walk.next.clone()) else {
                    return Err(JobError::failed(format!(
                        "{} cannot be compared with what is recorded of it: {why}",
                        self.connected.row.name
                    )));
                };
                walk.report.skip(namespace, format!("it could not be read: {why}"));
                walk.leave(next.collection);
                fruitless = 0;
                let passed = Passed { next: walk.next.as_ref(), documents: 0, bytes: 0 };
                if watch.passed(passed).await? == Go::Stop {
                    break;
                }
            }
            let pause = PAUSE_FIRST * 2_u32.pow(fruitless);
            self.ctx.or_stop(tokio::time::sleep(pause)).await?;
        }
        Ok(walk.report)
    }
}
