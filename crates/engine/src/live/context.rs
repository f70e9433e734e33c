//! A context for work that is no job.

use std::sync::Arc;

use catalog::Lease;
use model::job::Work;

use crate::{
    engine::{Services, Settings},
    lease::{Asking, JobContext},
};

/// A context that nobody granted a lease, so there is none to lose: it stops when it is told to. Nothing can be written to
/// the catalog under it, since no row has its epoch.
pub(super) fn without_lease(services: &Services) -> JobContext {
    let settings = Settings { lease_ms: i64::MAX, ..(*services.settings).clone() };
    let services = Services { settings: Arc::new(settings), ..services.clone() };
    let now = services.now();
    let lease = Lease {
        job_id: catalog::new_id(now),
        work: Work::Snapshot { snapshot_id: catalog::new_id(now) },
        epoch: 0,
        attempt: 1,
        checkpoint: None,
        restore_state: None,
        worker: services.settings.worker_name.clone(),
    };
    JobContext::new(services, lease, Asking::now())
}
