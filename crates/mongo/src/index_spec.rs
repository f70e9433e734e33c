//! What the specification of an index says, and which of it is the index's own.

use bson::{RawDocument, RawDocumentBuf};

const LIFETIME: &str = "expireAfterSeconds";

/// Whether it is the index that a clustered collection is stored by.
pub fn is_clustered(spec: &[u8]) -> bool {
    history::raw::field(spec, "clustered").is_ok_and(|field| field.is_some())
}

/// The specification as it is kept: without the lifetime of the documents of a clustered collection. That is an option of the
/// collection, which some servers show here once more (6.0.27) and others do not (6.0.5).
pub(crate) fn as_kept(spec: RawDocumentBuf) -> RawDocumentBuf {
    if !is_clustered(spec.as_bytes()) {
        return spec;
    }
    without_lifetime(&spec).unwrap_or(spec)
}

/// None where it is no BSON.
fn without_lifetime(spec: &RawDocument) -> Option<RawDocumentBuf> {
    let mut kept = RawDocumentBuf::new();
    for element in spec {
        let (name, value) = element.ok()?;
        if name.as_str() != LIFETIME {
            kept.append(name, value);
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_lifetime_is_kept_where_it_is_the_index_s_own() {
        let own = rawdoc! { "v": 2, "key": { "t": 1 }, "name": "t", "expireAfterSeconds": 5 };
        assert_eq!(as_kept(own.clone()), own);
        let shown =
            rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "c", "expireAfterSeconds": 5, "clustered": true };
        let kept = rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "c", "clustered": true };
        assert_eq!(as_kept(shown), kept);
    }
}
