//! Documents that manifests do not hold as those of collections: users, roles, the definitions of views. They are few, and
//! held in memory.

use std::collections::BTreeMap;

use history::{
    SortKey,
    change::{Coalesced, Outcome, Position, Write},
};

use crate::fold::Obstacle;

/// Where users lie.
pub(in crate::fold) const USERS: &str = "admin.system.users";
/// Where roles lie.
pub(in crate::fold) const ROLES: &str = "admin.system.roles";
/// Where the definitions of a database's views lie in it.
pub(in crate::fold) const VIEWS: &str = "system.views";
/// The changes of one such collection may hold so much.
pub(in crate::fold) const OVERLAY_BYTES_MAX: usize = 64 << 20;

/// Whether this collection is one of them.
pub(in crate::fold) fn is_overlaid(namespace: &str) -> bool {
    matches!(namespace, USERS | ROLES) || namespace.split_once('.').is_some_and(|(_, name)| name == VIEWS)
}

/// The changes of one such collection.
#[derive(Debug, Default)]
pub(in crate::fold) struct Overlay {
    /// Whether nothing of the base is left.
    emptied: bool,
    changes: BTreeMap<SortKey, Coalesced>,
    bytes: usize,
}

impl Overlay {
    /// Takes the next write. Positions ascend.
    pub(in crate::fold) fn write(&mut self, key: SortKey, write: Write<'_>, position: Position) {
        let before = self.changes.get(&key).map_or(0, Coalesced::bytes);
        let added = key.as_bytes().len();
        let coalesced = match self.changes.entry(key) {
            std::collections::btree_map::Entry::Occupied(there) => {
                let there = there.into_mut();
                there.then(write, position);
                there
            }
            std::collections::btree_map::Entry::Vacant(free) => {
                self.bytes += added;
                free.insert(Coalesced::new(write, position))
            }
        };
        self.bytes = (self.bytes + coalesced.bytes()).saturating_sub(before);
    }

    /// All documents went away.
    pub(in crate::fold) fn empty(&mut self) {
        *self = Self { emptied: true, ..Self::default() };
    }

    /// Bytes that are held.
    pub(in crate::fold) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the changes make of the base, by key. What does not fit is an obstacle.
    pub(in crate::fold) fn onto(
        &self,
        base: BTreeMap<SortKey, Vec<u8>>,
    ) -> Result<BTreeMap<SortKey, Vec<u8>>, Obstacle> {
        let mut documents = if self.emptied { BTreeMap::new() } else { base };
        for (key, coalesced) in &self.changes {
            let mut after = Vec::new();
            match coalesced.onto(documents.get(key).map(Vec::as_slice), &mut after) {
                Ok(Outcome::Document) => documents.insert(key.clone(), after),
                Ok(Outcome::Absent) => documents.remove(key),
                Err(defect) => return Err(Obstacle::Document { key: key.clone(), defect }),
            };
        }
        Ok(documents)
    }
}
