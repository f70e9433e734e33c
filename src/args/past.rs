//! Commands that look into the past.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use model::timeline::PointInTime;

use super::{Target, point_in_time};

/// `ebbtide doc …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Doc {
    /// Show a document as it was at a point in time.
    #[command(after_help = "\
Answered from the vault: no deployment is asked, and nothing is restored. The document goes to standard output, with its
fields in their order, as extended JSON that tells every type.

WHEN is a time (RFC 3339, or seconds since the epoch): what was there at the beginning of that second. Or it is
SECONDS,INCREMENT, the `ts` of an operation: what was there after it.

ID is JSON, extended JSON included: 5, true, '\"text\"', '{\"$oid\":\"…\"}', '{\"$uuid\":\"…\"}'. As a convenience, 24
hexadecimal digits are an ObjectId, and what is no JSON is a string. So 5 is a number and '\"5\"' a string; a string of 24
hexadecimal digits, and the strings true and null, need their quotes. Numbers of all types are equal, as they are to the
server. Of an id that is a document, the order of the fields counts.

Examples:
  ebbtide doc show orders shop.items 68a7f0c2b7d54e1f3a6c8d90 --at 2026-01-02T03:04:05Z --project 68a7…
  ebbtide doc show orders shop.items '{\"$oid\":\"68a7f0c2b7d54e1f3a6c8d90\"}' --at 1767323045,7 --relaxed --project 68a7…
  ebbtide doc show orders shop.items 17 --at 2026-01-02T03:04:05Z --bson item.bson --project 68a7…")]
    Show {
        #[command(flatten)]
        document: Document,
        /// The point in time.
        #[arg(long, value_name = "WHEN", value_parser = point_in_time)]
        at: PointInTime,
        /// Numbers and dates as people write them; their types do not show then.
        #[arg(long)]
        relaxed: bool,
        /// File to write the very bytes of the document to.
        #[arg(long, value_name = "FILE")]
        bson: Option<PathBuf>,
    },
    /// List the versions of a document, newest first.
    #[command(after_help = "\
A version begins where `ebbtide doc show` begins to show something else: also where the collection is dropped, or another
one is renamed in its place. `present` is a document that was there already where the record, or --from, begins. How ID
and WHEN are read is told by `ebbtide doc show --help`.

Examples:
  ebbtide doc history orders shop.items 68a7f0c2b7d54e1f3a6c8d90 --project 68a7…
  ebbtide doc history orders shop.items 17 --from 2026-01-02T00:00:00Z --documents --limit 10 --project 68a7… --output json")]
    History {
        #[command(flatten)]
        document: Document,
        /// Look at nothing before this point in time. Default: where the record begins.
        #[arg(long, value_name = "WHEN", value_parser = point_in_time)]
        from: Option<PointInTime>,
        /// Look at nothing after this point in time. Default: where the record ends.
        #[arg(long, value_name = "WHEN", value_parser = point_in_time)]
        to: Option<PointInTime>,
        /// Show at most so many versions.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Show the documents too.
        #[arg(long)]
        documents: bool,
        /// Numbers and dates as people write them; their types do not show then.
        #[arg(long)]
        relaxed: bool,
    },
}

/// A document of a collection of a deployment.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Document {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Its collection: DATABASE.COLLECTION.
    pub(crate) namespace: String,
    /// Its `_id`, as JSON or as it is.
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,
}

/// `ebbtide diff`.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "\
Answered from the vault. Only documents that were written in between are looked at; those that are the same at both times
are left out. All that differ are counted, and the first are shown, in the order of their _id. Changes of the collection
itself are told too; where it was dropped, renamed or replaced in between, its documents are not compared.

Examples:
  ebbtide diff orders shop.items --from 2026-01-02T03:00:00Z --to 2026-01-02T03:10:00Z --project 68a7…
  ebbtide diff orders shop.items --from 1767322800 --to 1767323045,7 --limit 1000 --project 68a7… --output json")]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The collection: DATABASE.COLLECTION.
    pub(crate) namespace: String,
    /// The earlier point in time.
    #[arg(long, value_name = "WHEN", value_parser = point_in_time)]
    pub(crate) from: PointInTime,
    /// The later one.
    #[arg(long, value_name = "WHEN", value_parser = point_in_time)]
    pub(crate) to: PointInTime,
    /// Show at most so many documents.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Numbers and dates as people write them; their types do not show then.
    #[arg(long)]
    pub(crate) relaxed: bool,
}
