//! The running server: what it was given, and the tables that it keeps in memory.

use std::sync::{Arc, atomic::AtomicU64};

use catalog::{Conflict, Credential, Deployment, Project};
use model::{DeploymentName, WallTime, id::ProjectId};

use crate::{
    audit::Refusals,
    auth::{Key, nonce::Nonces},
    cache::{Cache, TTL_MS},
    download::ledger::Ledger,
    error::{Answer, Code, Problem},
    forbidden,
    rate::Limiter,
    state::State,
};

/// How long a project or a deployment is believed to be what it was.
const NOUN_TTL_MS: i64 = 1_000;

/// Shared by all requests.
pub(crate) struct Server {
    pub(crate) state: State,
    pub(crate) nonces: Nonces,
    pub(crate) keys: Cache<String, Option<Arc<Key>>>,
    pub(crate) tokens: Cache<String, Option<Arc<Credential>>>,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) downloads: Ledger,
    pub(crate) refusals: Refusals,
    pub(crate) requests: AtomicU64,
    projects: Cache<ProjectId, Arc<Project>>,
    deployments: Cache<(ProjectId, String), Arc<Deployment>>,
}

impl Server {
    pub(crate) fn new(state: State) -> Self {
        Self {
            nonces: Nonces::new(),
            keys: Cache::new(TTL_MS),
            tokens: Cache::new(TTL_MS),
            limiter: state.settings.rate_limits.map(Limiter::new),
            downloads: Ledger::default(),
            refusals: Refusals::default(),
            requests: AtomicU64::new(0),
            projects: Cache::new(NOUN_TTL_MS),
            deployments: Cache::new(NOUN_TTL_MS),
            state,
        }
    }

    pub(crate) fn now(&self) -> WallTime {
        (self.state.clock)()
    }

    /// A project, or 404.
    pub(crate) async fn project(&self, id: ProjectId) -> Answer<Arc<Project>> {
        let now = self.now();
        if let Some(known) = self.projects.get(&id, now) {
            return Ok(known);
        }
        let before = self.projects.generation();
        let found = self.state.catalog.projects().get(id).await;
        let found = found.map_err(|e| self.catalog_problem("read a project", e))?;
        let project = found.ok_or_else(|| Problem::new(Code::GroupNotFound).with(id.to_string()))?;
        let project = Arc::new(project);
        self.projects.put(id, project.clone(), before, now);
        Ok(project)
    }

    /// A deployment that is not removed, or none.
    pub(crate) async fn deployment(&self, project: ProjectId, name: &str) -> Answer<Option<Arc<Deployment>>> {
        let now = self.now();
        let key = (project, name.to_owned());
        if let Some(known) = self.deployments.get(&key, now) {
            return Ok(Some(known));
        }
        if name.parse::<DeploymentName>().is_err() {
            return Ok(None);
        }
        let before = self.deployments.generation();
        let found = self.state.catalog.deployments().by_name(project, name).await;
        let found = found.map_err(|e| self.catalog_problem("read a deployment", e))?;
        let Some(deployment) = found.filter(|d| d.removed_at.is_none()).map(Arc::new) else {
            return Ok(None);
        };
        self.deployments.put(key, deployment.clone(), before, now);
        Ok(Some(deployment))
    }

    /// Forgets what is remembered of deployments, after one was changed.
    pub(crate) fn forget_deployments(&self) {
        self.deployments.clear();
    }

    /// Forgets what is remembered of projects, after one was changed or deleted.
    pub(crate) fn forget_projects(&self) {
        self.projects.clear();
    }

    /// Forgets what is remembered of credentials, after one was changed.
    pub(crate) fn forget_credentials(&self) {
        self.keys.clear();
        self.tokens.clear();
    }

    /// What a catalog error that no handler understands better is answered with.
    pub(crate) fn catalog_problem(&self, context: &str, error: catalog::Error) -> Problem {
        match &error {
            catalog::Error::Conflict(Conflict::OnDemandUnfinished) => {
                Problem::new(Code::UnfinishedOnDemandSnapshot)
            }
            // It was deleted under the request.
            catalog::Error::NotFound { what: "project", id } => {
                self.forget_projects();
                Problem::new(Code::GroupNotFound).with(id.as_str())
            }
            catalog::Error::Conflict(Conflict::TargetBusy) => Problem::new(Code::ClusterRestoreInProgress),
            catalog::Error::Conflict(Conflict::SnapshotDownloading) => {
                Problem::new(Code::CannotDownloadSnapshotConcurrently)
            }
            catalog::Error::Conflict(Conflict::TooManyDownloads { .. }) => {
                Problem::new(Code::TooManySnapshotDownloads)
            }
            catalog::Error::Conflict(conflict @ Conflict::SnapshotKept) => {
                Problem::new(Code::ResourceBusy).with(conflict.to_string())
            }
            catalog::Error::Conflict(conflict @ (Conflict::DeploymentBusy | Conflict::NotUndone { .. })) => {
                Problem::new(Code::ResourceBusy).with(conflict.to_string())
            }
            catalog::Error::Conflict(Conflict::Forbidden(forbidden)) => forbidden::problem(forbidden),
            catalog::Error::Busy(_) => {
                tracing::warn!(context, %error, "the catalog is busy");
                Problem::new(Code::ServiceUnavailable).with("the catalog is busy, try again")
            }
            // Such as a full disk: whoever asks should know that it is not the request.
            catalog::Error::Unavailable { source, .. } => {
                tracing::error!(context, %error, %source, "the catalog cannot be used");
                Problem::new(Code::ServiceUnavailable).with(error.to_string())
            }
            _ => Problem::internal(context, &error),
        }
    }
}
