//! What the files of an export are called: as Atlas calls them.
//!
//! `<prefix>/<database>/<collection>/<replica set>.<n>.json.gz` and `metadata.json` beside it, `<prefix>/.complete` at the
//! end. Names are escaped as in an archive: they may hold what no file system and no bucket takes.

use crate::jobs::download::layout;

/// The file that says that all others are there.
pub(super) fn marker(prefix: &str) -> String {
    format!("{prefix}/.complete")
}

/// The file that describes a collection.
pub(super) fn metadata(prefix: &str, database: &str, collection: &str) -> String {
    format!("{}/metadata.json", directory(prefix, database, collection))
}

/// The `increment`th file of a collection's documents, counted from 0.
pub(super) fn documents(
    prefix: &str,
    database: &str,
    collection: &str,
    replica_set: &str,
    increment: u64,
) -> String {
    let directory = directory(prefix, database, collection);
    format!("{directory}/{}.{increment}.json.gz", part(replica_set))
}

fn directory(prefix: &str, database: &str, collection: &str) -> String {
    format!("{prefix}/{}/{}", part(database), part(collection))
}

/// A part of a path. Two dots, or one, would be another directory.
fn part(name: &str) -> String {
    if name.bytes().all(|byte| byte == b'.') { name.replace('.', "%2E") } else { layout::file_stem(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_atlas() {
        let prefix = "exported_snapshots/o/g/c/2026-01-02T0304/1767323045";
        assert_eq!(
            documents(prefix, "shop", "orders", "rs0", 12),
            format!("{prefix}/shop/orders/rs0.12.json.gz")
        );
        assert_eq!(metadata(prefix, "shop", "a/b c"), format!("{prefix}/shop/a%2Fb%20c/metadata.json"));
        assert_eq!(metadata(prefix, "a", ".."), format!("{prefix}/a/%2E%2E/metadata.json"));
        assert_eq!(marker(prefix), format!("{prefix}/.complete"));
    }

    #[test]
    fn no_part_is_longer_than_a_file_system_takes() {
        // So many files of 8 MiB are more than any disk has.
        let long = "é".repeat(127);
        let name = documents("p", &long, &long, &long, 9_999_999);
        assert!(name.split('/').all(|part| part.len() <= 255), "{name}");
    }
}
