//! `ebbtide verify`.

use clap::Args as ClapArgs;
use engine::live::Share;
use model::copy::RegionName;

use super::DataDir;

/// `ebbtide verify`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
With --live a deployment with continuous backup is compared with what is recorded of it: its documents are read at one
cluster time and held against the newest snapshot and the operations since, byte for byte. Writes meanwhile do no harm.
A collection that differs is noted, and the next snapshot reads it from the deployment. The server has to run: it records.

Examples:
  ebbtide verify 68a8… --data-dir /var/lib/ebbtide
  ebbtide verify --all --data-dir /var/lib/ebbtide
  ebbtide verify --all --copies-in EU_WEST_1 --data-dir /var/lib/ebbtide --config /etc/ebbtide.toml
  ebbtide verify --all --mend-from EU_WEST_1 --data-dir /var/lib/ebbtide --config /etc/ebbtide.toml
  ebbtide verify --live orders --project 68a7… --data-dir /var/lib/ebbtide
  ebbtide verify --live orders --project 68a7… --share 5% --namespace shop --namespace bank.log --data-dir /var/lib/ebbtide")]
pub(crate) struct Verify {
    /// The snapshot to read.
    #[arg(required_unless_present_any = ["all", "live"], conflicts_with_all = ["all", "live"])]
    pub(crate) snapshot: Option<String>,
    /// Read every completed snapshot, and everything that was recorded of the deployments.
    #[arg(long, conflicts_with = "live")]
    pub(crate) all: bool,
    /// Read the copies in this region, as the configuration names it, and not the vault itself.
    #[arg(long, value_name = "REGION", conflicts_with = "live")]
    pub(crate) copies_in: Option<RegionName>,
    /// Put what is damaged or missing back from the copies in this region, where they have it whole.
    #[arg(long, value_name = "REGION", conflicts_with_all = ["live", "copies_in"])]
    pub(crate) mend_from: Option<RegionName>,
    /// Compare this deployment with what is recorded of it.
    #[arg(long, value_name = "CLUSTER", requires = "project")]
    pub(crate) live: Option<String>,
    /// Project of that deployment.
    #[arg(long, env = "EBBTIDE_PROJECT")]
    pub(crate) project: Option<String>,
    /// Compare so much of it, drawn by lot, in ranges of keys. Default: everything.
    #[arg(long, value_name = "PERCENT", requires = "live", value_parser = share)]
    pub(crate) share: Option<Share>,
    /// Compare this database (shop) or collection (shop.items) and nothing else; may be given several times.
    #[arg(long, value_name = "NAME", requires = "live")]
    pub(crate) namespace: Vec<String>,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

fn share(text: &str) -> Result<Share, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse().ok().and_then(Share::percent);
    percent.ok_or_else(|| "a share is more than 0% and not more than 100%".to_owned())
}
