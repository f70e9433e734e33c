//! Whether the oplog tells what leaves a capped collection. Servers log it only where the feature compatibility version is 5.0 or
//! later; below, as after an upgrade from 4.4 that was not completed, each removes by itself what becomes too much (measured on
//! 5.0.4: six inserts into a collection of three, and no deletion).

use bson::rawdoc;
use history::{SortKey, change::Write, raw};

/// Where the version stands in force.
const VERSIONS: &str = "admin.system.version";
const ID: &str = "featureCompatibilityVersion";
/// The first version whose servers log it.
const FIRST_MAJOR: u32 = 5;

/// What is known of it at the time that the reading has come to.
#[derive(Debug)]
pub(super) struct Evictions {
    are_logged: bool,
    /// That of the document that says it.
    key: Option<SortKey>,
}

impl Evictions {
    /// Where this version is in force.
    pub(super) fn under(version: &str) -> Self {
        Self {
            are_logged: is_logged(version),
            key: SortKey::of_document(rawdoc! { "_id": ID }.as_bytes()).ok(),
        }
    }

    /// Takes a write, which may be of the version in force.
    pub(super) fn see(&mut self, namespace: &str, key: &SortKey, write: &Write<'_>) {
        if namespace == VERSIONS && self.key.as_ref() == Some(key) {
            // While it is being changed, `version` is the lower one. Servers write it whole.
            self.are_logged = match write {
                Write::Insert(document) | Write::Replace(document) => is_logged(version_in(document)),
                _ => false,
            };
        }
    }

    /// Whether the oplog tells it.
    pub(super) const fn are_logged(&self) -> bool {
        self.are_logged
    }
}

fn is_logged(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= FIRST_MAJOR)
}

fn version_in(document: &[u8]) -> &str {
    raw::field(document, "version").ok().flatten().and_then(|version| version.text()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(id: &str) -> SortKey {
        SortKey::of_document(rawdoc! { "_id": id }.as_bytes()).unwrap()
    }

    fn after(document: &bson::RawDocumentBuf) -> bool {
        let mut evictions = Evictions::under("6.0");
        evictions.see(VERSIONS, &key(ID), &Write::Replace(document.as_bytes().into()));
        evictions.are_logged()
    }

    #[test]
    fn only_the_version_in_force_counts() {
        assert!(Evictions::under("5.0").are_logged() && Evictions::under("10.0").are_logged());
        assert!(!Evictions::under("4.4").are_logged() && !Evictions::under("").are_logged());
        // As 5.0.4 writes them on the way down and up.
        assert!(!after(
            &rawdoc! { "_id": ID, "version": "4.4", "targetVersion": "4.4", "previousVersion": "5.0" }
        ));
        assert!(!after(&rawdoc! { "_id": ID, "version": "4.4" }));
        assert!(!after(&rawdoc! { "_id": ID, "version": "4.4", "targetVersion": "5.0" }));
        assert!(after(&rawdoc! { "_id": ID, "version": "5.0" }));
        let mut evictions = Evictions::under("6.0");
        let other = rawdoc! { "_id": "authSchema", "version": "4.4" };
        evictions.see(VERSIONS, &key("authSchema"), &Write::Replace(other.as_bytes().into()));
        evictions.see("app.c", &key(ID), &Write::Delete);
        assert!(evictions.are_logged());
        evictions.see(VERSIONS, &key(ID), &Write::Delete);
        assert!(!evictions.are_logged());
    }
}
