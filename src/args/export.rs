//! `ebbtide export …`: snapshots as files for other programs, in a place outside the vault.

use clap::Subcommand;

use super::{InProject, Target};

/// The role of a bucket that is registered without one: Atlas's API demands one, and here it gives no rights.
pub(crate) const NO_ROLE: &str = "000000000000000000000000";

/// `ebbtide export …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Export {
    /// Register, list and delete buckets that snapshots are exported to.
    #[command(subcommand)]
    Bucket(Bucket),
    /// Write the documents of a snapshot to a bucket, as compressed lines of Extended JSON.
    #[command(after_help = "\
The files are not encrypted: whoever can read the bucket reads the data. They lie below a prefix of their own, under the
names that Atlas gives them. The file .complete comes last; without it an export is not complete. Users, roles and what
JSON cannot tell are not in it: to restore, use `ebbtide restore`.

Examples:
  ebbtide export start orders --project 68a7… --snapshot 68a8… --bucket 68a9… --watch
  ebbtide export start orders --project 68a7… --snapshot 68a8… --bucket 68a9… --data purpose=audit --data year=2026")]
    Start {
        #[command(flatten)]
        target: Target,
        /// The snapshot to export.
        #[arg(long)]
        snapshot: String,
        /// Id of the bucket; `ebbtide export bucket list` shows it.
        #[arg(long)]
        bucket: String,
        /// What the file .complete is to tell; may be given several times.
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        data: Vec<(String, String)>,
        /// Wait until it has ended.
        #[arg(long)]
        watch: bool,
    },
    /// List the exports of a deployment's snapshots, newest first.
    #[command(after_help = "Example:\n  ebbtide export list orders --project 68a7…")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show an export: its state, how far it is, where its files lie, why it failed.
    #[command(after_help = "Example:\n  ebbtide export show orders 68aa… --project 68a7…")]
    Show {
        #[command(flatten)]
        target: Target,
        /// The export.
        export: String,
    },
    /// Wait until an export has ended.
    #[command(after_help = "Example:\n  ebbtide export watch orders 68aa… --project 68a7…")]
    Watch {
        #[command(flatten)]
        target: Target,
        /// The export.
        export: String,
    },
}

/// `ebbtide export bucket …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Bucket {
    /// Register a bucket.
    #[command(after_help = "\
NAME is that of a place in the server's configuration, such as [exports.archive]: a directory, or a store that speaks S3.
docs/configuration.md tells how one is described.

Example:
  ebbtide export bucket add archive --project 68a7…")]
    Add {
        /// Name of the place.
        name: String,
        #[command(flatten)]
        within: InProject,
        /// What to keep as `iamRoleId`, for clients of the API that look at it. It gives no rights.
        #[arg(long, value_name = "ID", default_value = NO_ROLE)]
        iam_role_id: String,
    },
    /// List the buckets of a project.
    #[command(after_help = "Example:\n  ebbtide export bucket list --project 68a7…")]
    List {
        #[command(flatten)]
        within: InProject,
    },
    /// Forget a bucket; what was exported to it stays where it lies.
    #[command(after_help = "Example:\n  ebbtide export bucket delete 68a9… --project 68a7…")]
    Delete {
        /// Id of the bucket.
        bucket: String,
        #[command(flatten)]
        within: InProject,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}
