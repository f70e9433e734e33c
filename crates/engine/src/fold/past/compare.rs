//! What changed in a collection between two times: the documents that the record touches in between, each as it was at both.

use std::collections::VecDeque;

use history::{
    CollectionId, Malformed, SortKey,
    catalog_state::{CatalogState, Collection},
    change::{Change, Coalesced, Outcome},
    raw,
    skim::Wanted,
};
use model::ClusterTime;
use mongo::Namespace;

use super::{Origin, Past, PastError, base::Lookup, of_model, place, sift::off_the_runtime};
use crate::{
    extjson::{self, Mode},
    fold::{
        Obstacle,
        base::Base,
        definitions::unfoldable,
        delta::{Delta, SortedChanges},
    },
    lease::JobError,
};

/// Changes of one document that are held before it is looked up.
const HELD_BYTES_MAX: usize = 1 << 20;
/// Documents that are shown hold so many bytes, or one document.
const SHOWN_BYTES_MAX: usize = 32 << 20;

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentChange {
    /// As it was at the earlier time, if it was there.
    pub before: Option<Vec<u8>>,
    /// As it was at the later time, if it was there.
    pub after: Option<Vec<u8>>,
}

/// What became of the documents of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// How many are new.
    pub added: u64,
    /// How many are gone.
    pub removed: u64,
    /// How many are others than they were.
    pub changed: u64,
    /// The first of them, in the order of their `_id`s.
    pub shown: Vec<DocumentChange>,
}

/// What became of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// There was no collection of that name before.
    Created,
    /// There is none any more.
    Dropped,
    /// It has this name now, and no other has taken its place.
    RenamedTo(String),
    /// Another collection has the name.
    Replaced,
    /// Its options are others.
    Options {
        /// Before, raw.
        before: Vec<u8>,
        /// After, raw.
        after: Vec<u8>,
    },
    /// An index is new. An index that is another one under its name was dropped and is new.
    IndexAdded(Vec<u8>),
    /// An index is gone.
    IndexDropped(Vec<u8>),
}

/// What changed in a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What became of its definition.
    pub definition: Vec<Definition>,
    /// What became of its documents; none where the collection is not the same one at both times.
    pub documents: Option<Documents>,
}

impl Past {
    /// What changed between two times, which one timeline has; `origin` serves the earlier one.
    ///
    /// # Errors
    /// [`PastError`].
    pub async fn difference(
        &self,
        origin: &Origin,
        namespace: &str,
        from: ClusterTime,
        to: ClusterTime,
        limit: usize,
    ) -> Result<Difference, PastError> {
        let namespace = place::parse(namespace)?;
        let _permit = self.permit().await?;
        let base = self.open(&origin.snapshot).await?;
        let name = namespace.to_string();
        let [earlier, later] = self.gather(origin, &base, &Wanted::Definitions, &name, [from, to]).await?;
        let [before, after] =
            [(&earlier, from), (&later, to)].map(|(delta, at)| id_at(&base, delta, &namespace, at));
        let (before, after) = (before?, after?);
        let Some(id) = before.filter(|_| before == after) else {
            let change = match (before, after) {
                (None, None) => return Err(PastError::NoCollection),
                (None, Some(_)) => Definition::Created,
                (Some(_), Some(_)) => Definition::Replaced,
                (Some(id), None) => match later.catalog.get(id) {
                    Some(there) => Definition::RenamedTo(there.namespace.clone()),
                    None => Definition::Dropped,
                },
            };
            return Ok(Difference { definition: vec![change], documents: None });
        };
        let definition = redefined(&earlier.catalog, &later.catalog, id)?;
        drop((earlier, later));
        let [delta] = self.gather(origin, &base, &Wanted::Collection(id), &name, [to]).await?;
        place::check(&delta, id, &name)?;
        let documents = self.compare(&base, delta.changes, id, &namespace, from, limit).await?;
        Ok(Difference { definition, documents: Some(documents) })
    }

    async fn compare(
        &self,
        base: &Base,
        changes: SortedChanges,
        id: CollectionId,
        namespace: &Namespace,
        from: ClusterTime,
        limit: usize,
    ) -> Result<Documents, PastError> {
        let (mut documents, mut shown_bytes) = (Documents::default(), 0);
        let mut lookup = Lookup::new(self, base, id).await?;
        let mut touched = Touched { changes, id, split: of_model(from), namespace: namespace.to_string() };
        let mut document: Option<Group>;
        (touched, document) = off_the_runtime(move || {
            touched.changes.skip_to(id)?;
            let next = touched.next()?;
            Ok((touched, next))
        })
        .await?;
        while let Some(group) = document {
            let there = lookup.find(&group.key).await?;
            let change;
            (touched, change, document) = off_the_runtime(move || {
                let change = touched.apply(group, there)?;
                let next = touched.next()?;
                Ok((touched, change, next))
            })
            .await?;
            match (&change.before, &change.after) {
                (before, after) if before == after => continue,
                (None, _) => documents.added += 1,
                (_, None) => documents.removed += 1,
                _ => documents.changed += 1,
            }
            if documents.shown.len() < limit && shown_bytes < SHOWN_BYTES_MAX {
                shown_bytes +=
                    [&change.before, &change.after].into_iter().flatten().map(Vec::len).sum::<usize>();
                documents.shown.push(change);
            }
        }
        Ok(documents)
    }
}

/// The collection that has the name at a time, if one has.
fn id_at(
    base: &Base,
    delta: &Delta,
    namespace: &Namespace,
    at: ClusterTime,
) -> Result<Option<CollectionId>, PastError> {
    match place::find(base, delta, namespace, at) {
        Ok((id, _)) => Ok(Some(id)),
        Err(PastError::NoCollection) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How the definition of a collection differs.
fn redefined(
    earlier: &CatalogState,
    later: &CatalogState,
    id: CollectionId,
) -> Result<Vec<Definition>, PastError> {
    let (Some(before), Some(after)) = (earlier.get(id), later.get(id)) else { return Ok(Vec::new()) };
    for collection in [before, after] {
        if let Some(unfoldable) = crate::fold::definitions::doubt(collection) {
            return Err(unfoldable.into());
        }
    }
    let mut changes = Vec::new();
    if before.options != after.options {
        changes.push(Definition::Options { before: before.options.clone(), after: after.options.clone() });
    }
    let lacking = |one: &Collection, other: &Collection| -> Vec<Vec<u8>> {
        let has = |index: &&[u8]| !other.built_indexes().any(|there| there == *index);
        one.built_indexes().filter(has).map(<[u8]>::to_vec).collect()
    };
    changes.extend(lacking(before, after).into_iter().map(Definition::IndexDropped));
    changes.extend(lacking(after, before).into_iter().map(Definition::IndexAdded));
    Ok(changes)
}

/// The changes of one document, or the first of them.
struct Group {
    key: SortKey,
    held: VecDeque<Change<'static>>,
}

/// The documents of one collection that the record touches after the split, in the order of their keys.
struct Touched {
    changes: SortedChanges,
    id: CollectionId,
    split: history::ClusterTime,
    namespace: String,
}

impl Touched {
    /// The next document that may differ. Those that were touched before the split only are passed over without a look at
    /// the base.
    fn next(&mut self) -> Result<Option<Group>, PastError> {
        while let Some(first) = self.changes.take_in(self.id)? {
            let mut group = Group { key: first.key.clone(), held: VecDeque::new() };
            let (mut bytes, mut differs) = (first.write.bytes(), first.position.time > self.split);
            group.held.push_back(first);
            while !differs && bytes <= HELD_BYTES_MAX {
                let Some(change) = self.take_of(&group.key)? else { break };
                bytes += change.write.bytes();
                differs = change.position.time > self.split;
                group.held.push_back(change);
            }
            if differs || bytes > HELD_BYTES_MAX {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    fn take_of(&mut self, key: &SortKey) -> Result<Option<Change<'static>>, PastError> {
        match self.changes.key_in(self.id) {
            Some(next) if next == key.as_bytes() => Ok(self.changes.take_in(self.id)?),
            _ => Ok(None),
        }
    }

    /// What all changes of the document make of it: as it was at the split, and as it is at the end.
    fn apply(&mut self, group: Group, base: Option<Vec<u8>>) -> Result<DocumentChange, PastError> {
        let Group { key, mut held } = group;
        let (mut state, mut before) = (base, None);
        loop {
            let next = match held.pop_front() {
                Some(change) => Some(change),
                None => self.take_of(&key)?,
            };
            let Some(change) = next else { break };
            let at = change.position;
            if at.time > self.split && before.is_none() {
                before = Some(state.clone());
            }
            let mut after = Vec::new();
            state = match Coalesced::new(change.write, at).onto(state.as_deref(), &mut after) {
                Ok(Outcome::Document) => Some(after),
                Ok(Outcome::Absent) => None,
                Err(defect) => {
                    return Err(unfoldable(&self.namespace, None, Obstacle::Document { key, defect }).into());
                }
            };
        }
        let before = before.unwrap_or_else(|| state.clone());
        Ok(DocumentChange { before, after: state })
    }
}

impl DocumentChange {
    /// The `_id`, by which it is known at both times, as extended JSON.
    ///
    /// # Errors
    /// When the document cannot be read.
    pub fn id(&self) -> Result<String, PastError> {
        let document = self.after.as_deref().or(self.before.as_deref()).unwrap_or_default();
        let shown = raw::field(document, "_id").and_then(|id| {
            let id = id.ok_or(Malformed("a document without _id"))?;
            extjson::value(id.kind, id.value, Mode::Canonical)
        });
        shown.map_err(|error| JobError::failed_by("a document of the vault cannot be read", error).into())
    }
}
