//! One collection's definition, and what operations make of it.

use super::{fields::Fields, index, options};
use crate::{ClusterTime, Malformed, entry::IndexBuild, raw};

/// One collection's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// `db.collection`
    pub namespace: String,
    /// As `listCollections` shows them under `options`, raw.
    pub options: Vec<u8>,
    /// As `listCollections` shows it, raw; clustered collections have none.
    pub id_index: Option<Vec<u8>>,
    /// As `listIndexes` shows them, in its order: all, the one on `_id` and those that are being built included.
    pub indexes: Vec<Index>,
    /// Why the definition has to be taken from a listing, if it has to be.
    pub doubt: Option<Doubt>,
}

/// One index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The specification as `listIndexes` shows it, raw.
    pub specification: Vec<u8>,
    /// The build that has not committed: the index does not exist yet, but has its place among the others.
    pub building: Option<[u8; 16]>,
}

/// Why a definition is not known any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// From when on.
    pub since: ClusterTime,
    /// What was not understood.
    pub reason: String,
}

impl Collection {
    /// Whether documents are kept in the order of their insertion, and the oldest go away.
    pub fn is_capped(&self) -> bool {
        options::is_capped(&self.options)
    }

    /// Whether strings are compared in another way than byte by byte.
    pub fn has_collation(&self) -> bool {
        options::has_collation(&self.options)
    }

    /// The indexes that exist.
    pub fn built_indexes(&self) -> impl Iterator<Item = &[u8]> {
        self.indexes
            .iter()
            .filter(|index| index.building.is_none())
            .map(|index| index.specification.as_slice())
    }

    pub(super) fn doubt(&mut self, since: ClusterTime, reason: String) {
        self.doubt.get_or_insert(Doubt { since, reason });
    }

    /// Adds an index, or changes the one of its name.
    pub(super) fn add_index(&mut self, at: ClusterTime, fields: Fields, building: Option<[u8; 16]>) {
        let specification = match index::as_listed(fields.clone()) {
            Ok(specification) => specification,
            Err(reason) => {
                self.doubt(at, reason);
                fields.as_they_are()
            }
        };
        let new = Index { specification, building };
        match self.indexes.iter_mut().find(|index| index.name() == new.name()) {
            Some(index) => *index = new,
            None => self.indexes.push(new),
        }
    }

    /// Indexes begin to be built: they get their places.
    pub(super) fn start(&mut self, at: ClusterTime, build: &IndexBuild<'_>) -> Result<(), Malformed> {
        for fields in specifications(build)? {
            self.add_index(at, fields, Some(build.build));
        }
        Ok(())
    }

    /// The indexes of a build exist from here on.
    pub(super) fn commit(&mut self, at: ClusterTime, build: &IndexBuild<'_>) -> Result<(), Malformed> {
        let mut begun = false;
        for index in self.indexes.iter_mut().filter(|index| index.building == Some(build.build)) {
            index.building = None;
            begun = true;
        }
        if !begun {
            // It began before what is recorded.
            for fields in specifications(build)? {
                self.add_index(at, fields, None);
            }
        }
        Ok(())
    }

    /// The indexes of a build will not exist.
    pub(super) fn abort(&mut self, build: &IndexBuild<'_>) {
        self.indexes.retain(|index| index.building != Some(build.build));
    }

    /// An index went away.
    pub(super) fn drop_index(&mut self, at: ClusterTime, name: Option<&str>) {
        let before = self.indexes.len();
        // Servers write one entry for each index, by its name.
        if let Some(name) = name {
            self.indexes.retain(|index| index.name() != Some(name));
        }
        if self.indexes.len() == before {
            self.doubt(at, "an index was dropped that is not known".to_owned());
        }
    }

    /// `collMod`: changes options, or an index.
    pub(super) fn modify(
        &mut self,
        at: ClusterTime,
        body: &[u8],
        old_options: Option<&[u8]>,
    ) -> Result<(), Malformed> {
        if let Some(old) = old_options {
            let mut old = Fields::read(old)?;
            old.remove("uuid");
            if old.as_they_are() != self.options {
                self.doubt(at, "the options were others than collMod says".to_owned());
            }
        }
        match options::modify(&self.options, body) {
            Ok(options) => self.options = options,
            Err(reason) => self.doubt(at, reason),
        }
        let Some(change) = raw::field(body, "index")?.and_then(|index| index.document()) else {
            return Ok(());
        };
        let name = raw::field(change, "name")?.and_then(|name| name.text());
        let index = self.indexes.iter_mut().find(|index| name.is_some() && index.name() == name);
        let Some(index) = index else {
            self.doubt(at, "an index was changed that is not known".to_owned());
            return Ok(());
        };
        match index::modify(&index.specification, change) {
            Ok(specification) => index.specification = specification,
            Err(reason) => self.doubt(at, reason),
        }
        Ok(())
    }
}

impl Index {
    fn name(&self) -> Option<&str> {
        raw::field(&self.specification, "name").ok().flatten()?.text()
    }
}

fn specifications(build: &IndexBuild<'_>) -> Result<Vec<Fields>, Malformed> {
    let document = |element: raw::Element<'_>| {
        Fields::read(element.document().ok_or(Malformed("an index that is no document"))?)
    };
    raw::elements(build.specifications).map(|element| element.and_then(document)).collect()
}
