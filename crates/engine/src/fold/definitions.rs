//! From definitions to what a manifest says of collections: the same as a listing of the deployment would give.

use history::{
    ClusterTime, CollectionId,
    catalog_state::{Collection, Doubt},
    raw::{self, kind},
};
use mongo::{Namespace, namespace::BUCKETS_PREFIX};
use vault::{CollectionKind, CollectionMeta, Order};

use super::{Obstacle, Unfoldable};

/// What a manifest as of `at` says of a collection; none when no snapshot takes it.
pub(super) fn meta_of(
    id: CollectionId,
    collection: &Collection,
    at: model::ClusterTime,
) -> Option<CollectionMeta> {
    let Namespace { db, collection: name } = Namespace::parse(&collection.namespace)?;
    if Namespace::new(&db, &name).never_taken().is_some() || is_true(&collection.options, "temp") {
        return None;
    }
    let kind = kind_of(&name, &collection.options);
    let indexes = match kind {
        // Those of `system.views` are the server's affair.
        CollectionKind::SystemViews => Vec::new(),
        _ => collection.built_indexes().map(<[u8]>::to_vec).collect(),
    };
    Some(CollectionMeta {
        uuid: Some(id.0),
        db,
        name,
        kind,
        order: if kind == CollectionKind::Capped { Order::Natural } else { Order::Sorted },
        options: collection.options.clone(),
        id_index: collection.id_index.clone(),
        indexes,
        as_of: at,
        read_through: None,
    })
}

/// As the listing tells the kinds apart.
fn kind_of(name: &str, options: &[u8]) -> CollectionKind {
    match name {
        "system.js" => CollectionKind::SystemJs,
        "system.views" => CollectionKind::SystemViews,
        _ if name.starts_with(BUCKETS_PREFIX) => CollectionKind::TimeSeriesBuckets,
        _ if is_true(options, "capped") => CollectionKind::Capped,
        _ if is_true(options, "clusteredIndex") || is_document(options, "clusteredIndex") => {
            CollectionKind::Clustered
        }
        _ => CollectionKind::Plain,
    }
}

fn is_true(options: &[u8], name: &str) -> bool {
    raw::field(options, name).ok().flatten().and_then(|option| option.boolean()) == Some(true)
}

fn is_document(options: &[u8], name: &str) -> bool {
    raw::field(options, name).ok().flatten().is_some_and(|option| option.kind == kind::DOCUMENT)
}

/// Why the definition is not known, if it is not.
pub(super) fn doubt(collection: &Collection) -> Option<Unfoldable> {
    let Doubt { since, reason } = collection.doubt.clone()?;
    Some(unfoldable(&collection.namespace, Some(since), Obstacle::Definition(reason)))
}

/// One collection that cannot be folded.
pub(super) fn unfoldable(namespace: &str, since: Option<ClusterTime>, obstacle: Obstacle) -> Unfoldable {
    Unfoldable { namespace: Some(namespace.to_owned()), since, obstacle }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn meta(namespace: &str, options: &RawDocumentBuf) -> Option<CollectionMeta> {
        let collection = Collection {
            namespace: namespace.to_owned(),
            options: options.as_bytes().to_vec(),
            id_index: None,
            indexes: vec![],
            doubt: None,
        };
        meta_of(CollectionId([1; 16]), &collection, model::ClusterTime::default())
    }

    #[test]
    fn kinds_are_those_of_the_listing() {
        let kind = |namespace, options: RawDocumentBuf| meta(namespace, &options).unwrap().kind;
        assert_eq!(kind("a.x", rawdoc! {}), CollectionKind::Plain);
        assert_eq!(kind("a.x", rawdoc! { "capped": true }), CollectionKind::Capped);
        assert_eq!(meta("a.x", &rawdoc! { "capped": true }).unwrap().order, Order::Natural);
        assert_eq!(kind("a.x", rawdoc! { "clusteredIndex": { "v": 2 } }), CollectionKind::Clustered);
        assert_eq!(
            kind("a.system.buckets.x", rawdoc! { "clusteredIndex": true }),
            CollectionKind::TimeSeriesBuckets
        );
        assert_eq!(kind("a.system.js", rawdoc! {}), CollectionKind::SystemJs);
        assert_eq!(kind("a.system.views", rawdoc! {}), CollectionKind::SystemViews);
    }

    #[test]
    fn what_no_snapshot_takes_is_left_out() {
        for namespace in
            ["admin.system.users", "local.x", "a.system.profile", "a.ebbtide.staging.1.2", "nothing"]
        {
            assert_eq!(meta(namespace, &rawdoc! {}), None, "{namespace}");
        }
        assert_eq!(meta("a.x", &rawdoc! { "temp": true }), None);
    }
}
