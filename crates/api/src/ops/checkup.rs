//! Asking a deployment itself what it is: before it is registered, and again before something is refused because of
//! what was seen of it earlier.

use std::time::Duration;

use catalog::{Deployment, DeploymentFacts};
use model::{DeploymentKind, WallTime};
use serde_json::json;

use crate::{
    gate::Call,
    state::{CheckFinding, CheckReport, PURPOSE_URI, Secret, UNTESTED_VERSION},
};

/// How long a check may take before the deployment counts as unreachable.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request for something else waits for it.
const SECOND_LOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// Checks what a connection string leads to, before it is kept.
pub(super) async fn of_new(
    call: &Call,
    uri: &Secret,
    kind: DeploymentKind,
    allow_untested: bool,
) -> CheckReport {
    let checking = call.server.state.registrar.check(uri, kind, allow_untested);
    tokio::time::timeout(CHECK_TIMEOUT, checking).await.unwrap_or_else(|_| {
        let message = format!("the deployment did not answer within {} seconds", CHECK_TIMEOUT.as_secs());
        let late = CheckFinding { code: "UNREACHABLE".to_owned(), message, remedy: None };
        CheckReport { problems: vec![late], ..CheckReport::default() }
    })
}

/// Looks at a registered deployment again and records what it is now; `None` when it cannot be seen.
pub(super) async fn again(call: &Call, deployment: &Deployment) -> Option<DeploymentFacts> {
    let state = &call.server.state;
    let uri = state.secrets.open(PURPOSE_URI, &deployment.uri_sealed.0).ok()?;
    let allow_untested = deployment.options["allowUntestedVersion"].as_bool().unwrap_or(false);
    let checking = state.registrar.check(&uri, deployment.kind, allow_untested);
    let report = tokio::time::timeout(SECOND_LOOK_TIMEOUT, checking).await.ok().filter(|report| report.ok)?;
    let facts = facts_of(&report, call.server.now());
    if let Err(error) = state.catalog.deployments().update_facts(deployment.id, &facts).await {
        // What was seen counts all the same; the next job records it.
        tracing::warn!(deployment.id = %deployment.id, %error, "what was seen of a deployment cannot be recorded");
    }
    call.server.forget_deployments();
    Some(facts)
}

/// What a check saw, as it is recorded.
pub(super) fn facts_of(report: &CheckReport, now: WallTime) -> DeploymentFacts {
    let mut details = json!({"featureCompatibilityVersion": report.feature_compatibility_version});
    if report.warnings.iter().any(|warning| warning.code == UNTESTED_VERSION) {
        details["untestedVersion"] = true.into();
    }
    DeploymentFacts {
        replica_set_name: report.replica_set_name.clone(),
        replica_set_id: report.replica_set_id.clone(),
        mongodb_version: report.mongodb_version.clone(),
        details,
        checked_at: Some(now),
    }
}
