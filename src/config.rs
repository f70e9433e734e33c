//! The configuration file, and how flags lie over it. Read once, at the start.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use model::{copy::RegionName, export::PlaceName};
use serde::Deserialize;

use crate::args::DataDir;

/// Default address: this machine only.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:27080";

/// What `--config` may hold. Unknown names are errors, so that a typing mistake is not silence.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// Address to listen on.
    pub(crate) listen: Option<SocketAddr>,
    /// What links and download URLs start with; default: the `Host` of each request.
    pub(crate) public_url: Option<String>,
    /// What the API answers where Atlas and its own specification differ.
    pub(crate) api: ApiSection,
    /// The vault.
    pub(crate) vault: StoreSection,
    /// The places that snapshots may be exported to.
    pub(crate) exports: BTreeMap<PlaceName, StoreSection>,
    /// Other vaults that snapshots may be copied to.
    pub(crate) copies: BTreeMap<RegionName, StoreSection>,
    /// The catalog.
    pub(crate) catalog: CatalogSection,
    /// The master key.
    pub(crate) master_key: MasterKeySection,
    /// Limits per project.
    pub(crate) rate_limit: RateLimit,
    /// The workers.
    pub(crate) jobs: Jobs,
    /// The audit log.
    pub(crate) audit: AuditSection,
}

/// `[api]`: choices where real Atlas does something else than its specification says, or than is useful here.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ApiSection {
    /// Refuse API keys and service accounts that have no access list.
    pub(crate) access_list_required: bool,
    /// What the legacy pages of restore jobs answer.
    pub(crate) legacy_restore_jobs: api::LegacyMode,
    /// `frequencyType: "ondemand"` on snapshots, as real Atlas sends it.
    pub(crate) ondemand_frequency_type: bool,
    /// `desiredTimestamp` with three nulls on every restore job, as real Atlas sends it.
    pub(crate) null_desired_timestamp: bool,
}

impl ApiSection {
    /// The deviations as the API takes them.
    pub(crate) fn quirks(&self) -> api::Quirks {
        api::Quirks {
            ondemand_frequency_type: self.ondemand_frequency_type,
            null_desired_timestamp: self.null_desired_timestamp,
        }
    }
}

/// `[vault]`, `[exports.NAME]` and `[copies.REGION]`: where objects are put.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreSection {
    /// A directory, or s3://BUCKET/PREFIX.
    pub(crate) url: Option<String>,
    /// Address of an S3-compatible store.
    pub(crate) endpoint: Option<String>,
    /// Region of the bucket.
    pub(crate) region: Option<String>,
    /// Access key; default: AWS_ACCESS_KEY_ID.
    pub(crate) access_key_id: Option<String>,
    /// File that holds the secret key; default: AWS_SECRET_ACCESS_KEY.
    pub(crate) secret_access_key_file: Option<PathBuf>,
    /// Allow http:// endpoints.
    pub(crate) allow_http: bool,
}

/// `[catalog]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CatalogSection {
    /// A PostgreSQL URL.
    pub(crate) url: Option<String>,
}

/// `[master_key]`: one of the two.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MasterKeySection {
    /// File with the key, mode 0600.
    pub(crate) file: Option<PathBuf>,
    /// Command that prints the key.
    pub(crate) command: Option<Vec<String>>,
}

/// `[rate_limit]`: two token buckets per project, as Atlas documents them for Cloud Backups and for Clusters, and one
/// per asker of access tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RateLimit {
    /// Off means no limit and no headers.
    pub(crate) enabled: bool,
    /// Requests for snapshots and restore jobs that may come at once.
    pub(crate) capacity: u32,
    /// Such requests regained each minute.
    pub(crate) refill_per_minute: u32,
    /// Requests for anything else that may come at once.
    pub(crate) clusters_capacity: u32,
    /// Such requests regained each minute.
    pub(crate) clusters_refill_per_minute: u32,
    /// Requests for access tokens that one service account, or one address, may send at once.
    pub(crate) tokens_capacity: u32,
    /// Such requests regained each minute.
    pub(crate) tokens_refill_per_minute: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        let api::RateLimits { backups, clusters, tokens } = api::RateLimits::default();
        Self {
            enabled: true,
            capacity: backups.capacity,
            refill_per_minute: backups.refill,
            clusters_capacity: clusters.capacity,
            clusters_refill_per_minute: clusters.refill,
            tokens_capacity: tokens.capacity,
            tokens_refill_per_minute: tokens.refill,
        }
    }
}

impl RateLimit {
    /// The limits as the API takes them; none when they are switched off.
    pub(crate) fn limits(&self) -> Option<api::RateLimits> {
        self.enabled.then(|| api::RateLimits {
            backups: api::Bucket::per_minute(self.capacity, self.refill_per_minute),
            clusters: api::Bucket::per_minute(self.clusters_capacity, self.clusters_refill_per_minute),
            tokens: api::Bucket::per_minute(self.tokens_capacity, self.tokens_refill_per_minute),
        })
    }
}

/// `[jobs]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Jobs {
    /// Jobs that run at once.
    pub(crate) concurrent: usize,
    /// Collections, or ranges of one, that are read at once; each more may use 36 MB of memory.
    pub(crate) readers: usize,
    /// Seconds after which a silent worker's job is taken over.
    pub(crate) lease_seconds: u32,
    /// Where big sorts spill, compressed and sealed; default: `spill` in the data directory.
    pub(crate) spill_dir: Option<PathBuf>,
    /// Where captured operations wait, sealed, while the vault is away; default: `spool` in the data directory.
    pub(crate) spool_dir: Option<PathBuf>,
    /// Days in which every deployment with continuous backup is compared once with what is recorded of it; 0 never does.
    pub(crate) live_check_days: u32,
}

impl Jobs {
    /// The same as a time.
    pub(crate) fn live_check_every(&self) -> Option<Duration> {
        (self.live_check_days > 0).then(|| Duration::from_secs(u64::from(self.live_check_days) * 24 * 3600))
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            concurrent: 2,
            readers: engine::engine::READERS,
            lease_seconds: 30,
            spill_dir: None,
            spool_dir: None,
            live_check_days: 30,
        }
    }
}

/// `[audit]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuditSection {
    /// Days that lines are kept; 0 keeps them for ever.
    pub(crate) keep_days: u32,
}

impl AuditSection {
    /// The same as a time.
    pub(crate) fn kept(&self) -> Option<Duration> {
        (self.keep_days > 0).then(|| Duration::from_secs(u64::from(self.keep_days) * 24 * 3600))
    }
}

impl Default for AuditSection {
    fn default() -> Self {
        Self { keep_days: 400 }
    }
}

/// Everything a process needs to know, flags over file over defaults.
#[derive(Debug)]
pub(crate) struct Config {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// What the file said, with flags laid over.
    pub(crate) file: File,
}

impl Config {
    /// Reads the configuration file, if one is named, and lays the flags over it.
    pub(crate) fn read(flags: &DataDir) -> anyhow::Result<Self> {
        let mut file = match &flags.config {
            None => File::default(),
            Some(path) => read_file(path)?,
        };
        if let Some(url) = &flags.vault {
            file.vault.url = Some(url.clone());
        }
        if let Some(url) = &flags.catalog {
            file.catalog.url = Some(url.clone());
        }
        if let Some(path) = &flags.master_key_file {
            file.master_key = MasterKeySection { file: Some(path.clone()), command: None };
        }
        if file.master_key.file.is_some() && file.master_key.command.is_some() {
            anyhow::bail!("[master_key] names both a file and a command; keep one");
        }
        Ok(Self { data_dir: flags.data_dir.clone(), file })
    }
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the configuration {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("understand the configuration {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_name_is_an_error_and_not_silence() {
        assert!(toml::from_str::<File>("[jobs]\nconcurent = 3").is_err());
        let file: File = toml::from_str("[jobs]\nconcurrent = 3").unwrap();
        assert_eq!(file.jobs.concurrent, 3);
        assert!(
            toml::from_str::<File>("[exports.Archive]\nurl = \"/backup\"").is_err(),
            "no name of a bucket"
        );
        assert!(toml::from_str::<File>("[copies.eu]\nurl = \"/second\"").is_err(), "no name of a region");
        assert_eq!(file.rate_limit.capacity, 1200);
    }

    /// Every name on the page is one that the program knows, and the limits on it are the defaults.
    #[test]
    fn the_documented_configuration_is_understood() {
        let page = include_str!("../docs/configuration.md");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let file: File = toml::from_str(example).unwrap();
        assert_eq!(file.rate_limit.limits(), Some(api::RateLimits::default()));
        assert_eq!(file.api.legacy_restore_jobs, api::LegacyMode::default());
        assert_eq!(file.api.quirks(), api::Quirks::default());
        assert_eq!(file.jobs.live_check_every(), Jobs::default().live_check_every());
        assert_eq!(file.audit.kept(), AuditSection::default().kept());
        assert!(!file.exports.is_empty() && !file.copies.is_empty());
    }
}
