//! Which collection a namespace stood for, and whether documents can be looked up in it.

use history::CollectionId;
use model::ClusterTime;
use mongo::{Namespace, namespace::BUCKETS_PREFIX};
use vault::{CollectionKind, CollectionMeta};

use super::PastError;
use crate::fold::{base::Base, definitions, delta::Delta, disorder, views};

/// A namespace that documents may be looked up in.
pub(super) fn parse(namespace: &str) -> Result<Namespace, PastError> {
    let parsed = Namespace::parse(namespace)
        .ok_or_else(|| PastError::Namespace(namespace.chars().take(64).collect()))?;
    if let Some(why) = parsed.never_taken() {
        return Err(PastError::NotSearchable(format!("{parsed} is never backed up: {why}")));
    }
    match parsed.collection.as_str() {
        "system.views" => searchable(namespace, CollectionKind::SystemViews)?,
        name if name.starts_with(BUCKETS_PREFIX) => searchable(namespace, CollectionKind::TimeSeriesBuckets)?,
        _ => {}
    }
    Ok(parsed)
}

/// The collection that has the name at a time to which everything was folded.
pub(super) fn find(
    base: &Base,
    delta: &Delta,
    namespace: &Namespace,
    at: ClusterTime,
) -> Result<(CollectionId, CollectionMeta), PastError> {
    if let Some(everything) = delta.obstacles.everything() {
        return Err(everything.into());
    }
    let name = namespace.to_string();
    let Some(id) = delta.catalog.named(&name) else { return Err(no_collection(base, delta, namespace, at)) };
    check(delta, id, &name)?;
    let collection = delta.catalog.get(id).ok_or(PastError::NoCollection)?;
    let meta = definitions::meta_of(id, collection, at).ok_or(PastError::NoCollection)?;
    searchable(&name, meta.kind)?;
    match disorder(base, id, &meta) {
        Some(unfoldable) => Err(unfoldable.into()),
        None => Ok((id, meta)),
    }
}

/// Whether nothing stands in the way of the fold of this collection.
pub(super) fn check(delta: &Delta, id: CollectionId, namespace: &str) -> Result<(), PastError> {
    match delta.obstacles.find(Some(id), namespace) {
        Some(unfoldable) => Err(unfoldable.into()),
        None => Ok(()),
    }
}

/// Whether documents can be looked up in a collection of this kind by their `_id`.
pub(super) fn searchable(namespace: &str, kind: CollectionKind) -> Result<(), PastError> {
    let why = match kind {
        CollectionKind::Plain | CollectionKind::Clustered | CollectionKind::SystemJs => return Ok(()),
        CollectionKind::Capped => "is capped: its documents are kept in their order and not by _id",
        CollectionKind::TimeSeriesBuckets => {
            "holds the buckets of a time series, which are no documents of users"
        }
        CollectionKind::TimeSeriesView => "is a time series: its measurements have no _id to be found by",
        CollectionKind::View => "is a view: look into the collection that it is on",
        CollectionKind::SystemViews => "holds the definitions of views, which are kept apart",
    };
    let instead = "; to see it as it was, restore the point in time into another deployment";
    Err(PastError::NotSearchable(format!("{namespace} {why}{instead}")))
}

/// What has this name, if no collection has.
fn no_collection(base: &Base, delta: &Delta, namespace: &Namespace, at: ClusterTime) -> PastError {
    let name = namespace.to_string();
    if let Some(unfoldable) = delta.obstacles.find(None, &name) {
        return unfoldable.into();
    }
    let (listed, hindered) = views::fold(base, delta, at);
    let is_it = |meta: &&CollectionMeta| meta.db == namespace.db && meta.name == namespace.collection;
    if let Some(view) = listed.iter().find(is_it) {
        return searchable(&name, view.kind).err().unwrap_or(PastError::NoCollection);
    }
    let of_database =
        |namespace_of: &str| namespace_of.split_once('.').is_some_and(|(db, _)| db == namespace.db);
    let hindrance =
        hindered.into_iter().find(|hindered| hindered.namespace.as_deref().is_some_and(of_database));
    hindrance.map_or(PastError::NoCollection, PastError::from)
}

/// Whether documents can be looked up in a collection that had the name for a while.
pub(super) fn searchable_bound(
    delta: &Delta,
    id: CollectionId,
    capped: bool,
    namespace: &Namespace,
) -> Result<(), PastError> {
    let name = namespace.to_string();
    check(delta, id, &name)?;
    if capped { searchable(&name, CollectionKind::Capped) } else { Ok(()) }
}

/// Whether something that was not understood concerns everything.
pub(super) fn check_everything(delta: &Delta) -> Result<(), PastError> {
    delta.obstacles.everything().map_or(Ok(()), |unfoldable| Err(unfoldable.into()))
}
