//! Names under which a restore loads, before the cut-over renames them into place.
//!
//! The names are short, so that they fit wherever the final name fits, begin with a prefix that a backup never takes,
//! and hold the job's id, so that what a dead job left is found and swept without any other record.

use crate::{Deployment, Namespace, Result, STAGING_PREFIX, namespace::never_taken_database};

use super::collections;

/// Longest part of a job's id that goes into a name; ids are 24 hexadecimal digits.
const JOB_DIGITS_MAX: usize = 24;

/// The server's limit for `db.collection`.
pub const NAMESPACE_BYTES_MAX: usize = 255;

/// The staging name of a job's `ordinal`-th collection of one database.
pub fn staging_name(job_hex: &str, ordinal: u64) -> String {
    format!("{}{ordinal:x}", job_prefix(job_hex))
}

/// Whether any job of Ebbtide made this name.
pub fn is_staging_name(collection: &str) -> bool {
    collection.starts_with(STAGING_PREFIX)
}

/// Whether this job made this name.
pub fn is_staging_name_of(job_hex: &str, collection: &str) -> bool {
    let ordinal = collection.strip_prefix(&job_prefix(job_hex));
    ordinal
        .is_some_and(|ordinal| !ordinal.is_empty() && ordinal.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn job_prefix(job_hex: &str) -> String {
    let digits: String = job_hex.chars().filter(char::is_ascii_alphanumeric).take(JOB_DIGITS_MAX).collect();
    format!("{STAGING_PREFIX}{digits}.")
}

/// Drops everything that a job left under staging names, in every database, and says what that was.
///
/// # Errors
/// The server's, sorted; what was dropped before stays dropped.
pub async fn sweep_staging(deployment: &Deployment, job_hex: &str) -> Result<Vec<Namespace>> {
    let prefix = job_prefix(job_hex);
    let mut swept = Vec::new();
    let databases = collections::database_names(deployment).await?;
    for db in databases.into_iter().filter(|db| !never_taken_database(db)) {
        let named = collections::collection_names_with_prefix(deployment, &db, &prefix).await?;
        for name in named.into_iter().filter(|name| is_staging_name_of(job_hex, name)) {
            collections::drop(deployment, &db, &name).await?;
            swept.push(Namespace::new(db.as_str(), name));
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "5f4007f327a3bd7b6f4103c5";

    #[test]
    fn names_are_recognised_and_belong_to_their_job() {
        let name = staging_name(JOB, 31);
        assert_eq!(name, "ebbtide.staging.5f4007f327a3bd7b6f4103c5.1f");
        assert!(is_staging_name(&name) && is_staging_name_of(JOB, &name));
        assert!(!is_staging_name_of("5f4007f327a3bd7b6f4103c6", &name));
        assert!(!is_staging_name_of("5f4007f327a3bd7b6f4103", &name));
        for users in ["", "x", "1f.orders", "kept forever"] {
            assert!(
                !is_staging_name_of(JOB, &format!("{STAGING_PREFIX}{JOB}.{users}")),
                "{users} is a user's"
            );
        }
        assert!(!is_staging_name("orders"));
        assert!(Namespace::new("app", name).never_taken().is_some());
    }

    #[test]
    fn names_fit_into_a_database_with_the_longest_name() {
        let name = staging_name(&"f".repeat(100), u64::MAX);
        assert!(Namespace::new("d".repeat(63), name).to_string().len() <= NAMESPACE_BYTES_MAX);
    }
}
