//! What a job saw of a deployment, written down: for lists, and for what is decided before a job is asked for.

use catalog::DeploymentFacts;
use model::id::DeploymentId;
use mongo::Facts;
use serde_json::json;

use crate::{engine::Services, lease::JobError};

/// Records what was just seen of a registered deployment; so an upgrade of its servers is noticed.
///
/// # Errors
/// What the catalog says.
pub(crate) async fn record(services: &Services, id: DeploymentId, facts: &Facts) -> Result<(), JobError> {
    let seen = DeploymentFacts {
        replica_set_name: Some(facts.replica_set_name.clone()),
        mongodb_version: Some(facts.version_text.clone()),
        details: json!({ "featureCompatibilityVersion": facts.fcv }),
        checked_at: Some(services.now()),
    };
    Ok(services.catalog.deployments().update_facts(id, &seen).await?)
}
