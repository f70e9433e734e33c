//! The command line, as types. Help texts live here and nowhere else.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use model::{RestoreWindowDays, timeline::PointInTime};

mod admin;
mod audit;
mod change;
mod compliance;
mod export;
mod past;
mod schedule;
mod selected;
mod verify;

pub(crate) use admin::{AccessChange, Admin, Grant, Key};
pub(crate) use audit::{Audit, Since};
pub(crate) use change::Change;
pub(crate) use compliance::{CompliancePolicy, Wanted as ComplianceWanted};
pub(crate) use export::{Bucket, Export};
pub(crate) use past::{Diff, Doc, Document};
pub(crate) use schedule::{CopyWhat, Rule, Schedule};

pub(crate) use selected::Selected;
pub(crate) use verify::Verify;

/// Backup and restore for MongoDB, spoken through the Atlas Administration API v2.
#[derive(Debug, Parser)]
#[command(name = "ebbtide", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  ebbtide serve --data-dir /var/lib/ebbtide
  ebbtide admin create-project shop --data-dir /var/lib/ebbtide
  ebbtide cluster add orders --project 68a7… --uri 'mongodb://backup:…@db1,db2/?replicaSet=rs0'
  ebbtide snapshot create orders --project 68a7… --watch
  ebbtide schedule set orders --project 68a7… --daily 7d --at 02:30
  ebbtide restore start orders --project 68a7… --snapshot 68a8… --target orders --watch
  ebbtide restore start orders --project 68a7… --at 2026-01-02T03:04:05Z --target orders --watch

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a watched job did not end well, 130 interrupted.")]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How to print results.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) output: Output,
    /// Which server, and who asks.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// How to print results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables and sentences for people.
    Text,
    /// One JSON document for programs.
    Json,
}

/// How to reach the server.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Server")]
pub(crate) struct Server {
    /// Address of the server.
    #[arg(
        long,
        global = true,
        env = "EBBTIDE_URL",
        default_value = "http://127.0.0.1:27080",
        hide_env_values = true
    )]
    pub(crate) url: String,
    /// Public part of an API key.
    #[arg(long, global = true, env = "EBBTIDE_PUBLIC_KEY", hide_env_values = true)]
    pub(crate) public_key: Option<String>,
    /// Private part of an API key. Better given by the environment: arguments show in process lists.
    #[arg(long, global = true, env = "EBBTIDE_PRIVATE_KEY", hide_env_values = true)]
    pub(crate) private_key: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server: the API and the workers.
    Serve(Serve),
    /// Set up and look after a server, on its data directory.
    #[command(subcommand)]
    Admin(Admin),
    /// Read snapshots back from the vault and check every byte, or compare a deployment with what is recorded of it.
    Verify(Verify),
    /// Register, list, show, change and remove deployments.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Show what is recorded of a deployment, and which points in time can be restored.
    #[command(subcommand)]
    Timeline(Timeline),
    /// Look at a document as it was, and at its versions.
    #[command(subcommand)]
    Doc(Doc),
    /// Tell what differs in a collection between two points in time.
    Diff(Diff),
    /// Take, list, show and delete snapshots.
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Show, set and delete when snapshots are taken by themselves.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Show, set and lift the least that the deployments of a project are backed up.
    #[command(subcommand)]
    CompliancePolicy(CompliancePolicy),
    /// Write snapshots to buckets as files for other programs.
    #[command(subcommand)]
    Export(Export),
    /// Restore snapshots and points in time, download snapshots, watch and cancel such jobs.
    #[command(subcommand)]
    Restore(Restore),
    /// List who changed what.
    #[command(subcommand)]
    Audit(Audit),
    /// Print what the server serves, for programs that make clients of it.
    Openapi(Openapi),
}

/// Where a server keeps its things.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct DataDir {
    /// Directory of the server: its catalog, its master key and, unless told otherwise, its vault.
    #[arg(long, env = "EBBTIDE_DATA_DIR", default_value = "ebbtide-data")]
    pub(crate) data_dir: PathBuf,
    /// Configuration file (TOML); see docs/configuration.md.
    #[arg(long, env = "EBBTIDE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where snapshots are kept: a directory, or s3://BUCKET/PREFIX.
    #[arg(long, env = "EBBTIDE_VAULT")]
    pub(crate) vault: Option<String>,
    /// Database of the catalog: a PostgreSQL URL. Default: SQLite in the data directory.
    #[arg(long, env = "EBBTIDE_CATALOG", hide_env_values = true)]
    pub(crate) catalog: Option<String>,
    /// File with the master key, mode 0600. Default: master.key in the data directory.
    #[arg(long, env = "EBBTIDE_MASTER_KEY_FILE")]
    pub(crate) master_key_file: Option<PathBuf>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `ebbtide serve`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
An empty data directory is initialised: a catalog, a vault and a master key are made. Back the master key up
at once, somewhere else: without it no snapshot can be read.

Example:
  ebbtide serve --data-dir /var/lib/ebbtide --listen 0.0.0.0:27080")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// Address to listen on.
    #[arg(long, env = "EBBTIDE_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve the API only; jobs wait for another process on the same catalog and vault.
    #[arg(long)]
    pub(crate) no_jobs: bool,
    /// How logs are written.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// `ebbtide openapi`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Prints an OpenAPI 3 document, as JSON. Asks no server: it tells what this program serves.

Examples:
  ebbtide openapi > ebbtide.json
  ebbtide openapi --coverage")]
pub(crate) struct Openapi {
    /// Print a page in Markdown instead: how much of each operation of the Atlas API is there.
    #[arg(long)]
    pub(crate) coverage: bool,
}

/// A deployment in a project.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Target {
    /// Name of the deployment.
    pub(crate) cluster: String,
    /// Its project.
    #[arg(long, env = "EBBTIDE_PROJECT")]
    pub(crate) project: String,
}

/// A project.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct InProject {
    /// The project.
    #[arg(long, env = "EBBTIDE_PROJECT")]
    pub(crate) project: String,
}

/// What a deployment is served as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Under /clusters.
    #[value(name = "replicaSet")]
    ReplicaSet,
    /// Under /serverless.
    #[value(name = "serverless")]
    Serverless,
    /// Under /flexClusters.
    #[value(name = "flex")]
    Flex,
}

/// What a MongoDB account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RolePurpose {
    /// Take snapshots.
    Backup,
    /// Restore data.
    Restore,
    /// Restore data, users and roles.
    RestoreUsers,
}

fn point_in_time(text: &str) -> Result<PointInTime, String> {
    text.parse()
}

fn parse_version(text: &str) -> Result<(u32, u32, u32), String> {
    let mut numbers = text.splitn(3, '.').map(str::parse);
    let mut next =
        || numbers.next().unwrap_or(Ok(0)).map_err(|_| format!("{text:?} is no version such as 6.0"));
    Ok((next()?, next()?, next()?))
}

/// `ebbtide cluster …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Check a deployment and register it.
    #[command(after_help = "\
The account needs few privileges; what is missing is told by name, with the command that mends it.
Without --uri the connection string is read from the environment (EBBTIDE_CLUSTER_URI).

Examples:
  ebbtide cluster add orders --project 68a7… --uri 'mongodb://ebbtide:…@db1,db2,db3/?replicaSet=rs0&authSource=admin'
  ebbtide cluster add orders --project 68a7… --uri 'mongodb://ebbtide:…@db1/?replicaSet=rs0' --pit --restore-window-days 2")]
    Add {
        #[command(flatten)]
        target: Target,
        /// Connection string of the replica set.
        #[arg(long, env = "EBBTIDE_CLUSTER_URI", hide_env_values = true)]
        uri: String,
        /// What the API serves it as.
        #[arg(long, value_enum, default_value = "replicaSet")]
        kind: Kind,
        /// Register a MongoDB newer than those tested; every job will say so.
        #[arg(long)]
        allow_untested_version: bool,
        /// Record every operation from now on, so that points in time can be restored.
        #[arg(long)]
        pit: bool,
        /// Days back that every point in time can be restored. Default: 7.
        #[arg(long, value_name = "DAYS", requires = "pit", value_parser = parse_window())]
        restore_window_days: Option<u32>,
        /// Check only.
        #[arg(long)]
        dry_run: bool,
    },
    /// Change how a deployment is reached, whether every operation of it is recorded, and for how long.
    #[command(after_help = "\
A new connection string is checked as `cluster add` does it, and has to lead to the same replica set. Jobs use it when they
next connect, and a recording goes on with it by itself. Without any flag it is read from the environment
(EBBTIDE_CLUSTER_URI).

Points in time can be restored from the first snapshot on that is taken while operations are recorded. What is recorded
stays restorable within the window when recording is switched off.

Examples:
  ebbtide cluster update orders --project 68a7… --uri 'mongodb://ebbtide:…@db1,db2,db3/?replicaSet=rs0&authSource=admin'
  ebbtide cluster update orders --project 68a7… --pit on --restore-window-days 7
  ebbtide cluster update orders --project 68a7… --pit off")]
    Update {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        change: Change,
    },
    /// List the deployments of a project.
    #[command(after_help = "Example:\n  ebbtide cluster list --project 68a7… --output json")]
    List {
        #[command(flatten)]
        project: InProject,
    },
    /// Show one deployment.
    #[command(after_help = "Example:\n  ebbtide cluster show orders --project 68a7…")]
    Show {
        #[command(flatten)]
        target: Target,
    },
    /// Print the commands that make a MongoDB role with the least that Ebbtide needs.
    #[command(
        after_help = "Example:\n  ebbtide cluster role --purpose restore --mongodb 6.0 | mongosh mongodb://admin@db1/admin"
    )]
    Role {
        /// What the account is for.
        #[arg(long, value_enum, default_value = "backup")]
        purpose: RolePurpose,
        /// Version of the deployment.
        #[arg(long, value_parser = parse_version, default_value = "6.0")]
        mongodb: (u32, u32, u32),
    },
    /// Forget a deployment; its snapshots stay.
    #[command(after_help = "Example:\n  ebbtide cluster remove orders --project 68a7…")]
    Remove {
        #[command(flatten)]
        target: Target,
        /// Also when something that a job did to it is not undone yet, such as a raised history window: it is told of in
        /// the refusal, and is yours to undo.
        #[arg(long)]
        force: bool,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Do it.
    On,
    /// Do not.
    Off,
}

/// Days of a restore window.
fn parse_window() -> clap::builder::RangedI64ValueParser<u32> {
    let days = |window: RestoreWindowDays| i64::from(window.days());
    clap::value_parser!(u32).range(days(RestoreWindowDays::MIN)..=days(RestoreWindowDays::MAX))
}

/// `ebbtide timeline …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Timeline {
    /// Show whether a deployment is recorded, which points in time can be restored, and where records ended and why.
    #[command(after_help = "Example:\n  ebbtide timeline show orders --project 68a7…")]
    Show {
        #[command(flatten)]
        target: Target,
    },
}

/// `ebbtide snapshot …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Take a snapshot.
    #[command(
        after_help = "Example:\n  ebbtide snapshot create orders --project 68a7… --retention-days 7 --watch"
    )]
    Create {
        #[command(flatten)]
        target: Target,
        /// What it is for.
        #[arg(long, default_value = "on demand")]
        description: String,
        /// Days to keep it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        retention_days: u32,
        /// Wait until it has ended.
        #[arg(long)]
        watch: bool,
    },
    /// List snapshots, newest first.
    #[command(after_help = "Example:\n  ebbtide snapshot list orders --project 68a7…")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show one snapshot.
    #[command(after_help = "Example:\n  ebbtide snapshot show orders 68a8… --project 68a7…")]
    Show {
        #[command(flatten)]
        target: Target,
        /// The snapshot.
        snapshot: String,
    },
    /// List the databases that a snapshot holds.
    #[command(after_help = "Example:\n  ebbtide snapshot databases orders 68a8… --project 68a7…")]
    Databases {
        #[command(flatten)]
        target: Target,
        /// The snapshot.
        snapshot: String,
    },
    /// List what a snapshot holds of one database: collections, views and time series.
    #[command(after_help = "Example:\n  ebbtide snapshot collections orders 68a8… shop --project 68a7…")]
    Collections {
        #[command(flatten)]
        target: Target,
        /// The snapshot.
        snapshot: String,
        /// The database.
        database: String,
    },
    /// Wait until a snapshot has ended.
    #[command(after_help = "Example:\n  ebbtide snapshot watch orders 68a8… --project 68a7…")]
    Watch {
        #[command(flatten)]
        target: Target,
        /// The snapshot.
        snapshot: String,
    },
    /// Delete a snapshot. What only it refers to is freed.
    #[command(after_help = "Example:\n  ebbtide snapshot delete orders 68a8… --project 68a7…")]
    Delete {
        #[command(flatten)]
        target: Target,
        /// The snapshot.
        snapshot: String,
    },
}

/// How a restore goes about it; what is not given is left to the server.
#[derive(Debug, ClapArgs)]
pub(crate) struct Choices {
    /// How many members must have built an index before it counts: a number, majority or votingMembers
    /// (indexCommitQuorum). Default: majority.
    #[arg(long, value_name = "QUORUM", value_parser = parse_quorum)]
    pub(crate) index_commit_quorum: Option<serde_json::Value>,
    /// How long one index build may take (indexDeadlineSeconds). Default: a day.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub(crate) index_deadline: Option<u32>,
    /// Whether other writers are kept out during the cut-over, where the server can and the account may. Default: auto.
    #[arg(long, value_enum)]
    pub(crate) fence: Option<Fence>,
    /// Whether TTL indexes under which restored documents would be deleted at once are put aside; the receipt has the
    /// command that gives each its lifetime back. Default: true.
    #[arg(long, value_name = "true|false")]
    pub(crate) park_ttl: Option<bool>,
    /// Whether a captured deployment that is restored onto itself is rewound: only what changed since is put back.
    /// Default: auto.
    #[arg(long, value_enum)]
    pub(crate) rewind: Option<Rewind>,
}

/// Whether only what changed is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rewind {
    /// Where that is possible and cheaper.
    Auto,
    /// In any case: where it is not possible, nothing is done.
    Only,
    /// Never.
    Off,
}

/// Whether other writers are kept out during the cut-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fence {
    /// Where that is possible.
    Auto,
    /// Not at all.
    Off,
}

fn parse_quorum(text: &str) -> Result<serde_json::Value, String> {
    match text {
        "majority" | "votingMembers" => Ok(text.into()),
        number => match number.parse::<u8>() {
            Ok(members @ 0..=50) => Ok(members.into()),
            _ => Err("a quorum is a number of members up to 50, majority or votingMembers".to_owned()),
        },
    }
}

/// `ebbtide restore …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Restore {
    /// Restore a snapshot or a point in time into a deployment, replacing what is there; or chosen databases and
    /// collections of it, and nothing else.
    #[command(after_help = "\
Data is loaded beside what is there and switched at the end: until then a cancel leaves the target as it was. A
deployment with continuous backup that is restored onto itself is rewound where that is cheaper: what changed since is put
back, and nothing else is touched.

WHEN is a time (RFC 3339, or seconds since the epoch): what was there at the beginning of that second, nothing that
happened in it. Or it is SECONDS,INCREMENT, the `ts` of an operation: what was there after it. To undo an operation, take
the one before it. `ebbtide timeline show` tells which points in time can be restored.

With --namespace nothing is removed, and only what is selected is replaced. A time series brings its buckets along, a view
comes alone. With --rename it goes beside what is there, where nothing may stand yet; of several that fit a name, the one
that says most of it counts. Inside of names, * and = and \\ are written \\* and \\= and \\\\.

Examples:
  ebbtide restore start orders --project 68a7… --snapshot 68a8… --target orders-test --dry-run
  ebbtide restore start orders --project 68a7… --snapshot 68a8… --target orders-test --watch
  ebbtide restore start orders --project 68a7… --snapshot 68a8… --target orders --index-commit-quorum 2 --fence off
  ebbtide restore start orders --project 68a7… --at 2026-01-02T03:04:05Z --target orders-test --watch
  ebbtide restore start orders --project 68a7… --at 1767323045,7 --target orders --dry-run
  ebbtide restore start orders --project 68a7… --at 1767323045,7 --target orders --rewind only --watch
  ebbtide restore start orders --project 68a7… --at 1767323045,7 --target orders --namespace shop.orders --watch
  ebbtide restore start orders --project 68a7… --snapshot 68a8… --target orders --namespace shop.orders --rename shop.orders=shop.orders_old
  ebbtide restore start orders --project 68a7… --snapshot 68a8… --target orders-test --namespace 'shop.*' --namespace 'bank.log_*'
  ebbtide restore start orders --project 68a7… --snapshot 68a8… --target orders --namespace shop --rename shop=shop_old --overwrite")]
    Start {
        #[command(flatten)]
        target: Target,
        /// The snapshot to restore.
        #[arg(long, required_unless_present = "at")]
        snapshot: Option<String>,
        /// The point in time to restore.
        #[arg(long, value_name = "WHEN", conflicts_with = "snapshot", value_parser = point_in_time)]
        at: Option<PointInTime>,
        /// Deployment to restore into.
        #[arg(long = "target")]
        into: String,
        /// Project of that deployment, if it is another one.
        #[arg(long)]
        target_project: Option<String>,
        #[command(flatten)]
        selected: Selected,
        /// Restore users and roles too.
        #[arg(long)]
        with_users: bool,
        /// Drop first and load in place: needs less disk, and leaves the target broken if it fails.
        #[arg(long)]
        in_place: bool,
        #[command(flatten)]
        choices: Choices,
        /// Say what would be done and how long the target would be out of use, and do nothing. Onto itself it is also
        /// looked what has changed since, and whether that can be put back alone.
        #[arg(long, conflicts_with = "watch")]
        dry_run: bool,
        /// Wait until it has ended.
        #[arg(long)]
        watch: bool,
    },
    /// Have an archive made of a snapshot, for mongorestore, and fetch it.
    #[command(after_help = "\
A download of the snapshot that is under way, or ready and not yet fetched, is taken up: the same command goes on where
a broken one ended, also after its process was killed.

Examples:
  ebbtide restore download orders --project 68a7… --snapshot 68a8… --file orders.tar.gz
  ebbtide restore download orders --project 68a7… --job 68a9… --file orders.tar.gz")]
    Download {
        #[command(flatten)]
        target: Target,
        /// The snapshot.
        #[arg(long, required_unless_present = "job")]
        snapshot: Option<String>,
        /// Fetch the archive of this restore job.
        #[arg(long, conflicts_with = "snapshot")]
        job: Option<String>,
        /// File to write; what was fetched so far is kept beside it as FILE.JOB.part. Without it the URL is printed.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// List restore jobs, newest first.
    #[command(after_help = "Example:\n  ebbtide restore list orders --project 68a7…")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show one restore job.
    #[command(after_help = "Example:\n  ebbtide restore show orders 68a9… --project 68a7…")]
    Show {
        #[command(flatten)]
        target: Target,
        /// The restore job.
        job: String,
    },
    /// Show how far each collection of a collection restore job of the Atlas API is.
    #[command(after_help = "Example:\n  ebbtide restore collections orders 68a9… --project 68a7…")]
    Collections {
        #[command(flatten)]
        target: Target,
        /// The collection restore job.
        job: String,
    },
    /// Wait until a restore job has ended.
    #[command(after_help = "Example:\n  ebbtide restore watch orders 68a9… --project 68a7…")]
    Watch {
        #[command(flatten)]
        target: Target,
        /// The restore job.
        job: String,
    },
    /// Cancel a restore job, as long as the target has not been touched.
    #[command(after_help = "Example:\n  ebbtide restore cancel orders 68a9… --project 68a7…")]
    Cancel {
        #[command(flatten)]
        target: Target,
        /// The restore job.
        job: String,
    },
}

#[cfg(test)]
mod tests;
