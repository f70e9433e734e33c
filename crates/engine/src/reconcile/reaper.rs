//! Undoes what dead jobs left on deployments.
//!
//! Jobs record what they are about to do to a deployment before they do it. A job that ended, in whatever way, and
//! left such a record behind is finished off here: a write block is lifted, a history window put back, staging
//! collections are dropped.

use std::time::Duration;

use mongo::Permit;
use serde_json::{Value, json};

use crate::{
    engine::Services,
    jobs,
    lease::{JobError, Moment},
};

/// A reaper that was frozen must not lift what a new job has raised since.
const PATIENCE: Duration = Duration::from_secs(300);

/// Leave to write to a deployment for as long as nobody is frozen in.
pub(super) fn for_a_while() -> Permit {
    let began = Moment::now();
    Permit::new(move || began.elapsed() < PATIENCE)
}

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    let mut undone = 0;
    let mut left = vec![];
    for obligation in services.catalog.obligations().orphaned().await? {
        match jobs::discharge(services, &obligation, for_a_while()).await {
            Ok(()) => {
                services
                    .catalog
                    .obligations()
                    .settle(obligation.job_id, obligation.deployment_id, &obligation.kind)
                    .await?;
                tracing::info!(job.id = %obligation.job_id, kind = obligation.kind, "undid {} that job {} had left", obligation.kind, obligation.job_id);
                undone += 1;
            }
            // One deployment that is away must not keep the others waiting.
            Err(hindrance) => left.push(json!({
                "deploymentId": obligation.deployment_id,
                "jobId": obligation.job_id,
                "kind": obligation.kind,
                "hindrance": hindrance.full_text(),
            })),
        }
    }
    Ok(json!({ "undone": undone, "left": left }))
}
