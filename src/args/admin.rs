//! `ebbtide admin …`: what is done on the data directory of a server.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use model::{account::SecretHours, copy::RegionName, network::AddressBlock};

use super::{DataDir, InProject};

/// `ebbtide admin …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Make a project.
    #[command(after_help = "Example:\n  ebbtide admin create-project shop --data-dir /var/lib/ebbtide")]
    CreateProject {
        /// Its name.
        name: String,
        #[command(flatten)]
        data: DataDir,
    },
    /// Make an API key; its private part is shown once.
    #[command(after_help = "Example:\n  ebbtide admin create-key --project 68a7… --role GROUP_OWNER")]
    CreateKey {
        #[command(flatten)]
        grant: Grant,
        #[command(flatten)]
        data: DataDir,
    },
    /// Make a service account for OAuth; its secret is shown once.
    #[command(after_help = "\
Its secret works until another one is made by the API, and for a week after that, or for as many hours as said here.

Examples:
  ebbtide admin create-service-account --project 68a7… --role GROUP_BACKUP_MANAGER
  ebbtide admin create-service-account --project 68a7… --role GROUP_OWNER --secret-expires-after-hours 2160")]
    CreateServiceAccount {
        #[command(flatten)]
        grant: Grant,
        /// How long its secret works: 8 hours to 8760, which are 365 days.
        #[arg(long, value_name = "HOURS", value_parser = secret_hours)]
        secret_expires_after_hours: Option<SecretHours>,
        #[command(flatten)]
        data: DataDir,
    },
    /// Say from which addresses an API key or a service account may be used; without options, show it.
    #[command(after_help = "\
While nothing is in the list, it may be used from everywhere. An address is that of whoever connects to the server: behind a proxy
it is the proxy's. A key that has shut itself out is let in again by this command. A running server follows within seconds.

Examples:
  ebbtide admin access-list abcdefgh --data-dir /var/lib/ebbtide
  ebbtide admin access-list abcdefgh --add 10.0.0.0/8 --add 192.0.2.7
  ebbtide admin access-list mdb_sa_id_68a7… --clear")]
    AccessList {
        #[command(flatten)]
        change: AccessChange,
        #[command(flatten)]
        data: DataDir,
    },
    /// Export or change the master key.
    #[command(subcommand)]
    Key(Key),
    /// Let the compliance policy of a project be lifted, or replaced by one that asks for less, until it is set anew.
    #[command(
        after_help = "Example:\n  ebbtide admin release-compliance-policy --project 68a7… --data-dir /var/lib/ebbtide"
    )]
    ReleaseCompliancePolicy {
        #[command(flatten)]
        within: InProject,
        #[command(flatten)]
        data: DataDir,
    },
    /// Forget what was copied to a region, when its place is gone for good or another place takes its name.
    #[command(after_help = "\
What is at the place stays there. Where a schedule still copies to the region, that begins anew, at an empty place.

Example:
  ebbtide admin forget-copies EU_WEST_1 --data-dir /var/lib/ebbtide")]
    ForgetCopies {
        /// The region.
        region: RegionName,
        #[command(flatten)]
        data: DataDir,
    },
    /// Make a new catalog out of what the vault says of itself.
    #[command(after_help = "\
Projects, deployments and snapshots come back. Credentials, connection strings, schedules, compliance policies and export
buckets do not: they are not in the vault. Make new keys with `ebbtide admin create-key`, and add each deployment again under its old name.
Nothing that comes back expires within 30 days, since changes of retention are not in the vault either.

Example:
  ebbtide admin rebuild-catalog --data-dir /var/lib/ebbtide-new --vault /backup/vault --master-key-file master.key")]
    RebuildCatalog {
        #[command(flatten)]
        data: DataDir,
    },
}

/// A change of an access list.
#[derive(Debug, ClapArgs)]
pub(crate) struct AccessChange {
    /// The public part of the API key, or the client id of the service account.
    pub(crate) credential: String,
    /// Addresses from which it may be used: 192.0.2.7, 192.0.2.0/24, 2001:db8::/32; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) add: Vec<AddressBlock>,
    /// Addresses to take out; may be given several times.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "clear")]
    pub(crate) remove: Vec<AddressBlock>,
    /// Take all addresses out, before any are added.
    #[arg(long)]
    pub(crate) clear: bool,
}

/// Who may do what.
#[derive(Debug, ClapArgs)]
pub(crate) struct Grant {
    /// Project in which the role is held.
    #[arg(long)]
    pub(crate) project: String,
    /// Role, such as GROUP_OWNER, GROUP_BACKUP_MANAGER or GROUP_READ_ONLY; may be given several times.
    #[arg(long, required = true)]
    pub(crate) role: Vec<String>,
    /// What it is for.
    #[arg(long, default_value = "")]
    pub(crate) description: String,
}

/// `ebbtide admin key …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Print the master key, to keep a copy of it somewhere safe.
    #[command(
        after_help = "Example:\n  ebbtide admin key export --data-dir /var/lib/ebbtide > ebbtide-master-key.txt"
    )]
    Export {
        #[command(flatten)]
        data: DataDir,
    },
    /// Make a new master key and seal everything under it. The server must be stopped. Run it again if it was interrupted.
    #[command(after_help = "Example:\n  ebbtide admin key rotate --data-dir /var/lib/ebbtide")]
    Rotate {
        #[command(flatten)]
        data: DataDir,
        /// File to write the new key to; it must not exist. Default: beside the old one, which is kept as `.old`.
        #[arg(long)]
        new_key_file: Option<PathBuf>,
    },
}

fn secret_hours(text: &str) -> Result<SecretHours, String> {
    let hours = text.parse().ok().and_then(SecretHours::new);
    hours.ok_or_else(|| format!("a secret works for {} to {} hours", SecretHours::MIN, SecretHours::MAX))
}
