//! From a row of the catalog to a connection.

use std::time::Duration;

use model::id::DeploymentId;
use mongo::{ConnectOptions, Uri};

use crate::{engine::Services, lease::JobError};

/// What connection strings are sealed for.
pub const URI_PURPOSE: &str = "deployment-uri";
/// How long a job waits for a deployment to answer at first.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A registered deployment and a connection to it.
pub struct Connected {
    /// Its row.
    pub row: catalog::Deployment,
    /// The connection.
    pub deployment: mongo::Deployment,
}

/// Opens the connection string of a registered deployment and connects.
///
/// # Errors
/// [`JobError::Failed`] when it is not registered, its connection string cannot be opened with this master key, or
/// it does not answer: the text names the deployment and what stands in the way.
pub async fn connect(services: &Services, id: DeploymentId) -> Result<Connected, JobError> {
    let found = services.catalog.deployments().get(id).await?;
    let row = found.ok_or_else(|| JobError::failed(format!("deployment {id} is not registered any more")))?;
    if row.removed_at.is_some() {
        return Err(JobError::failed(format!("deployment {} was removed; add it again first", row.name)));
    }
    let sealed = services.master_key.open(URI_PURPOSE, &row.uri_sealed.0);
    let sealed = sealed.map_err(|e| {
        JobError::failed_by(format!("the connection string of {} cannot be opened", row.name), e)
    })?;
    let text = std::str::from_utf8(&sealed);
    let text = text
        .map_err(|e| JobError::failed_by(format!("the connection string of {} is no text", row.name), e))?;
    let refused = |e: mongo::Error| JobError::failed_by(format!("deployment {} cannot be used", row.name), e);
    let options = ConnectOptions {
        app_name: "ebbtide".to_owned(),
        connect_timeout: CONNECT_TIMEOUT,
        allow_untested_version: row
            .options
            .get("allowUntestedVersion")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false),
    };
    let deployment =
        mongo::Deployment::connect(&Uri::parse(text).map_err(refused)?, &options).await.map_err(refused)?;
    Ok(Connected { row, deployment })
}

/// Whether the deployment has had another connection string since: what was opened by the old one may still work, and is
/// not what its owner wants any more.
///
/// # Errors
/// What the catalog says.
pub(crate) async fn is_outdated(services: &Services, connected: &Connected) -> catalog::Result<bool> {
    let now = services.catalog.deployments().get(connected.row.id).await?;
    Ok(now.is_some_and(|now| now.uri_sealed != connected.row.uri_sealed && now.removed_at.is_none()))
}

/// The model's form of a cluster time.
pub fn to_model(time: mongo::ClusterTime) -> model::ClusterTime {
    model::ClusterTime { seconds: time.time, increment: time.increment }
}

/// The driver's form of a cluster time.
pub fn to_mongo(time: model::ClusterTime) -> mongo::ClusterTime {
    mongo::ClusterTime { time: time.seconds, increment: time.increment }
}
