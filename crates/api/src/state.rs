//! What the server is given: the catalog, the sealed secrets, the archives, the clock. Everything that
//! reaches outside this crate comes through here, so that tests can stand in for it.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use model::{DeploymentKind, WallTime, copy::RegionName, export::PlaceName, organization::Organization};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{contents::Contents, past::Past, rate::RateLimits};

/// Purpose (associated data) under which the HA1 of an API key is sealed with the master key.
pub const PURPOSE_HA1: &str = "api-key-ha1";
/// Purpose under which a deployment's connection string is sealed.
pub const PURPOSE_URI: &str = "deployment-uri";
/// Purpose under which a download's token is sealed.
pub const PURPOSE_DOWNLOAD_TOKEN: &str = "download-token";

/// Reads the wall clock.
pub type Clock = Arc<dyn Fn() -> WallTime + Send + Sync>;

/// Opens and seals small secrets with the master key, which this crate never sees.
pub trait SecretOpener: Send + Sync {
    /// Seals `plain` for `purpose`.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn seal(&self, purpose: &str, plain: &[u8]) -> Result<String, SecretError>;

    /// Opens what was sealed for `purpose`.
    ///
    /// # Errors
    /// When it was sealed with another key or for another purpose.
    fn open(&self, purpose: &str, sealed: &str) -> Result<Secret, SecretError>;
}

/// A sealed secret cannot be opened, or a plain one not sealed.
#[derive(Debug, thiserror::Error)]
#[error(
    "a secret of the catalog cannot be used with this master key ({0}); start the server with the key it was sealed with"
)]
pub struct SecretError(pub String);

/// Plain bytes of a secret: never printed, wiped when dropped.
#[derive(Clone)]
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl Secret {
    /// Wraps secret bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(zeroize::Zeroizing::new(bytes.into()))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, when they are text.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Checks a deployment before it is registered. The binary implements it; this crate knows no MongoDB.
pub trait Registrar: Send + Sync {
    /// Connects, looks at version, topology and privileges, changes nothing.
    fn check<'a>(
        &'a self,
        uri: &'a Secret,
        kind: DeploymentKind,
        allow_untested: bool,
    ) -> BoxFuture<'a, CheckReport>;
}

/// What a check of a deployment found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckReport {
    /// The deployment can be backed up; it is registered only then.
    pub ok: bool,
    /// Version of the server, such as `6.0.5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb_version: Option<String>,
    /// Feature compatibility version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_compatibility_version: Option<String>,
    /// Name of the replica set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_set_name: Option<String>,
    /// The id that it got when it was initiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_set_id: Option<String>,
    /// What stands in the way, each with what to do about it.
    pub problems: Vec<CheckFinding>,
    /// What does not stand in the way but ought to be known.
    pub warnings: Vec<CheckFinding>,
}

/// The code of the finding that the version is not one that Ebbtide is tested with.
pub const UNTESTED_VERSION: &str = "UNTESTED_VERSION";

/// One finding of a check.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckFinding {
    /// A stable word, such as `MISSING_PRIVILEGE`.
    pub code: String,
    /// What was found.
    pub message: String,
    /// What mends it: a command where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Reads archives out of the vault. `archive` is what the worker recorded with the restore job.
pub trait ArchiveSource: Send + Sync {
    /// Streams the bytes of `range`.
    fn read_range(
        &self,
        archive: &serde_json::Value,
        range: Range<u64>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, ArchiveError>>, ArchiveError>>;
}

/// An archive, or a piece of it, cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("an archive cannot be read")]
pub struct ArchiveError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What the legacy pages answer, since a Cloud Backup cluster has no legacy backups at Atlas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LegacyMode {
    /// The deployment's snapshots, restore jobs and schedule in their legacy shapes.
    #[default]
    Mirror,
    /// That there is nothing: empty pages, and nothing to be found. What would begin something is refused.
    Empty,
    /// 400 `INCORRECT_BACKUP_API_ENDPOINT`, as Atlas does.
    Refuse,
}

/// Things that real Atlas sends and its own specification forbids; off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Quirks {
    /// `frequencyType: "ondemand"` on snapshots; strict clients refuse it.
    pub ondemand_frequency_type: bool,
    /// `desiredTimestamp` with three nulls on every restore job.
    pub null_desired_timestamp: bool,
}

/// Configuration of the API.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Scheme and authority of links; taken from the request's `Host` when absent.
    pub public_url: Option<String>,
    /// Whether credentials without an access list may do nothing.
    pub access_list_required: bool,
    /// Rate limits; none when switched off.
    pub rate_limits: Option<RateLimits>,
    /// What the legacy pages answer.
    pub legacy_mode: LegacyMode,
    /// Deviations of real Atlas to copy.
    pub quirks: Quirks,
    /// The organization.
    pub organization: Organization,
    /// The places that the workers may export snapshots to.
    pub export_places: BTreeSet<PlaceName>,
    /// The regions that the workers may copy snapshots to.
    pub copy_regions: BTreeSet<RegionName>,
    /// Version of the server, told in `X-MongoDB-Service-Version`.
    pub server_version: String,
    /// Commit it was built from.
    pub git_hash: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_url: None,
            access_list_required: false,
            rate_limits: Some(RateLimits::default()),
            legacy_mode: LegacyMode::default(),
            quirks: Quirks::default(),
            organization: Organization::default(),
            export_places: BTreeSet::new(),
            copy_regions: BTreeSet::new(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_hash: "unknown".to_owned(),
        }
    }
}

/// Everything the server is given.
#[derive(Clone)]
pub struct State {
    /// Projects, credentials, deployments, snapshots, jobs.
    pub catalog: catalog::Catalog,
    /// The read side of the vault.
    pub archives: Arc<dyn ArchiveSource>,
    /// What was recorded, to be looked into.
    pub past: Arc<dyn Past>,
    /// Looks into snapshots.
    pub contents: Arc<dyn Contents>,
    /// The master key, behind a wall.
    pub secrets: Arc<dyn SecretOpener>,
    /// The check of a new deployment.
    pub registrar: Arc<dyn Registrar>,
    /// Rung after every insert that a worker should see at once.
    pub poke: Arc<Notify>,
    /// The wall clock.
    pub clock: Clock,
    /// Status of the workers and reconcilers, as JSON, for `/api/ebbtide/v1/status`.
    pub engine_status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Configuration.
    pub settings: Settings,
}
