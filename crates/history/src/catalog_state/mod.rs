//! The fold of definitions: which collections there are, under which names, with which options and indexes.
//!
//! Options and specifications are raw, in the form in which servers list them, so that a fold can be compared with a
//! listing byte by byte. Views and time series are documents of `system.views`, and fold as documents.
//!
//! Where it is not known what a change makes of the raw form, the collection is marked as one that has to be listed,
//! with the reason. It goes on being folded: its documents, its name, and what of its definition is known.

mod collection;
mod fields;
mod index;
mod options;
mod series;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use crate::{
    ClusterTime, CollectionId, Malformed,
    entry::{Command, Kind, Operation, Rename},
    raw,
};
use fields::Fields;

pub use collection::{Collection, Doubt, Index};
pub use series::Series;

/// A change of a definition that contradicts the ones that are known: the base or the record is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The operation is malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The operation is about a collection that is not known.
    #[error("at {at}: {namespace} is not known")]
    UnknownCollection {
        /// When.
        at: ClusterTime,
        /// As the operation names it.
        namespace: String,
    },
    /// The name is another collection's.
    #[error("at {at}: {namespace} exists already")]
    NameTaken {
        /// When.
        at: ClusterTime,
        /// The name.
        namespace: String,
    },
}

/// The definitions of all collections at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogState {
    collections: BTreeMap<CollectionId, Collection>,
    names: HashMap<String, CollectionId>,
}

impl CatalogState {
    /// Without collections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a collection that a listing showed.
    pub fn insert(&mut self, id: CollectionId, collection: Collection) {
        self.remove(id);
        self.names.insert(collection.namespace.clone(), id);
        self.collections.insert(id, collection);
    }

    /// One collection.
    pub fn get(&self, id: CollectionId) -> Option<&Collection> {
        self.collections.get(&id)
    }

    /// The collection of this name.
    pub fn named(&self, namespace: &str) -> Option<CollectionId> {
        self.names.get(namespace).copied()
    }

    /// All collections.
    pub fn iter(&self) -> impl Iterator<Item = (CollectionId, &Collection)> {
        self.collections.iter().map(|(id, collection)| (*id, collection))
    }

    /// Applies an operation that changes definitions; others change nothing.
    ///
    /// # Errors
    /// [`CatalogError`]; the state is then as before.
    pub fn apply(&mut self, operation: &Operation<'_>, at: ClusterTime) -> Result<(), CatalogError> {
        let Kind::Command(command) = &operation.kind else { return Ok(()) };
        match *command {
            Command::Create { collection, body } => self.create(operation, at, collection, body),
            Command::Drop { collection } => {
                let id = self.find(operation, at, collection)?;
                self.remove(id);
                Ok(())
            }
            Command::DropDatabase => {
                self.drop_database(operation.database());
                Ok(())
            }
            Command::Rename(rename) => self.rename(operation, at, &rename),
            Command::CollMod { collection, body, old_options } => {
                Ok(self.find_mut(operation, at, collection)?.modify(at, body, old_options)?)
            }
            Command::CreateIndexes { collection, body } => {
                let mut fields = Fields::read(body)?;
                for name in ["createIndexes", "indexes"] {
                    fields.remove(name);
                }
                self.find_mut(operation, at, collection)?.add_index(at, fields, None);
                Ok(())
            }
            Command::StartIndexBuild(build) => {
                Ok(self.find_mut(operation, at, build.collection)?.start(at, &build)?)
            }
            Command::CommitIndexBuild(build) => {
                Ok(self.find_mut(operation, at, build.collection)?.commit(at, &build)?)
            }
            Command::AbortIndexBuild(build) => {
                self.find_mut(operation, at, build.collection)?.abort(&build);
                Ok(())
            }
            Command::DropIndexes { collection, index } => {
                let name = index.and_then(|index| index.text());
                self.find_mut(operation, at, collection)?.drop_index(at, name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn create(
        &mut self,
        operation: &Operation<'_>,
        at: ClusterTime,
        collection: &str,
        body: &[u8],
    ) -> Result<(), CatalogError> {
        let namespace = format!("{}.{collection}", operation.database());
        let id = operation.collection.ok_or(Malformed("a collection without a UUID"))?;
        if self.named(&namespace).is_some_and(|other| other != id) {
            return Err(CatalogError::NameTaken { at, namespace });
        }
        let id_index = raw::field(body, "idIndex")?.and_then(|index| index.document());
        let mut created = Collection {
            namespace,
            options: Vec::new(),
            id_index: id_index.map(<[u8]>::to_vec),
            indexes: Vec::new(),
            doubt: None,
        };
        match options::of_create(body) {
            Ok(options) => created.options = options,
            Err(reason) => created.doubt(at, reason),
        }
        if let Some(id_index) = id_index {
            created.add_index(at, Fields::read(id_index)?, None);
        }
        // The clustered index is listed among the others; that of time series, which is no document, is not.
        let clustered = raw::field(body, "clusteredIndex")?.and_then(|index| index.document());
        if let Some(clustered) = clustered {
            let mut fields = Fields::read(clustered)?;
            fields.set("clustered", raw::kind::BOOLEAN, &[1]);
            // Listed with the collection's own collation (6.0.5, 6.0.27).
            if let Some(collation) = raw::field(body, "collation")? {
                fields.set("collation", collation.kind, collation.value);
            }
            created.add_index(at, fields, None);
        }
        self.insert(id, created);
        Ok(())
    }

    fn rename(
        &mut self,
        operation: &Operation<'_>,
        at: ClusterTime,
        rename: &Rename<'_>,
    ) -> Result<(), CatalogError> {
        let unknown = || CatalogError::UnknownCollection { at, namespace: rename.from.to_owned() };
        let id = operation.collection.or_else(|| self.named(rename.from)).ok_or_else(unknown)?;
        if !self.collections.contains_key(&id) {
            return Err(unknown());
        }
        if self.named(rename.to).is_some_and(|other| other != id && Some(other) != rename.dropped) {
            return Err(CatalogError::NameTaken { at, namespace: rename.to.to_owned() });
        }
        if let Some(dropped) = rename.dropped {
            self.remove(dropped);
        }
        let Some(mut collection) = self.remove(id) else { return Err(unknown()) };
        rename.to.clone_into(&mut collection.namespace);
        if !rename.stay_temporary {
            match options::without(&collection.options, "temp") {
                Ok(options) => collection.options = options,
                Err(reason) => collection.doubt(at, reason),
            }
        }
        self.insert(id, collection);
        Ok(())
    }

    fn drop_database(&mut self, database: &str) {
        let inside = |namespace: &str| namespace.split_once('.').is_some_and(|(name, _)| name == database);
        let ids: Vec<_> = self.iter().filter(|(_, c)| inside(&c.namespace)).map(|(id, _)| id).collect();
        for id in ids {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: CollectionId) -> Option<Collection> {
        let collection = self.collections.remove(&id)?;
        if self.names.get(&collection.namespace) == Some(&id) {
            self.names.remove(&collection.namespace);
        }
        Some(collection)
    }

    /// The collection that an operation is about: by its UUID, and by its name only if there is none.
    fn find(
        &self,
        operation: &Operation<'_>,
        at: ClusterTime,
        collection: &str,
    ) -> Result<CollectionId, CatalogError> {
        let namespace = format!("{}.{collection}", operation.database());
        let id = operation.collection.or_else(|| self.named(&namespace));
        id.filter(|id| self.collections.contains_key(id))
            .ok_or(CatalogError::UnknownCollection { at, namespace })
    }

    fn find_mut(
        &mut self,
        operation: &Operation<'_>,
        at: ClusterTime,
        collection: &str,
    ) -> Result<&mut Collection, CatalogError> {
        let id = self.find(operation, at, collection)?;
        self.collections.get_mut(&id).ok_or(CatalogError::UnknownCollection {
            at,
            namespace: format!("{}.{collection}", operation.database()),
        })
    }
}
