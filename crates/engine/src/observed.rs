//! What a job saw of a deployment, written down: for lists, and for what is decided before a job is asked for.

use catalog::DeploymentFacts;
use model::id::DeploymentId;
use mongo::{Deployment, Facts};
use serde_json::{Value, json};

use crate::{
    engine::Services,
    lease::{JobContext, JobError},
};

/// Records what was just seen of a registered deployment; so an upgrade of its servers is noticed.
///
/// # Errors
/// What the catalog says.
pub(crate) async fn record(services: &Services, id: DeploymentId, facts: &Facts) -> Result<(), JobError> {
    let seen = DeploymentFacts {
        replica_set_name: Some(facts.replica_set_name.clone()),
        replica_set_id: facts.replica_set_id.clone(),
        mongodb_version: Some(facts.version_text.clone()),
        details: details(facts),
        checked_at: Some(services.now()),
    };
    Ok(services.catalog.deployments().update_facts(id, &seen).await?)
}

fn details(facts: &Facts) -> Value {
    let mut details = json!({ "featureCompatibilityVersion": facts.fcv });
    if facts.untested {
        details["untestedVersion"] = true.into();
    }
    details
}

/// Tells on the job itself, from its beginning and whatever becomes of it, that nobody has tested the version it works
/// with.
///
/// # Errors
/// As [`JobContext::check`], and what the catalog says.
pub(crate) async fn warn_if_untested(ctx: &JobContext, deployment: &Deployment) -> Result<(), JobError> {
    let identity = deployment.identity();
    if !identity.untested {
        return Ok(());
    }
    let warning =
        format!("Ebbtide is not tested with MongoDB {}; verify what it does", identity.version_text);
    tracing::warn!(job.id = %ctx.lease().job_id, version = identity.version_text, "{warning}");
    ctx.progress().warn(warning);
    ctx.beat(None).await
}
