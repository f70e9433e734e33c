//! What cannot be folded, as the operations tell it.

use std::collections::HashMap;

use history::{ClusterTime, CollectionId, catalog_state::CatalogState, change::Scope};

use super::overlay::is_overlaid;
use crate::fold::{Obstacle, Unfoldable};

type Since = (ClusterTime, Obstacle);

/// The first obstacle of each collection.
#[derive(Debug, Default)]
pub(in crate::fold) struct Obstacles {
    collections: HashMap<CollectionId, Since>,
    /// Of what has no identity that is known: users, roles, views, and operations that name no collection.
    names: HashMap<String, Since>,
    everything: Option<Since>,
}

impl Obstacles {
    /// Something in the way of one collection.
    pub(in crate::fold) fn of_collection(&mut self, id: CollectionId, at: ClusterTime, obstacle: Obstacle) {
        self.collections.entry(id).or_insert((at, obstacle));
    }

    /// Something in the way of whatever has this name then, or later.
    pub(in crate::fold) fn of_name(&mut self, name: &str, at: ClusterTime, obstacle: Obstacle) {
        self.names.entry(name.to_owned()).or_insert((at, obstacle));
    }

    /// What an operation in `namespace` makes unknown.
    pub(in crate::fold) fn of_scope(
        &mut self,
        scope: Scope,
        namespace: &str,
        catalog: &CatalogState,
        at: ClusterTime,
        obstacle: Obstacle,
    ) {
        match scope {
            Scope::Everything => {
                self.everything.get_or_insert((at, obstacle));
            }
            Scope::Collection(id) => {
                if is_overlaid(namespace) {
                    self.of_name(namespace, at, obstacle.clone());
                }
                self.of_collection(id, at, obstacle);
            }
            Scope::Namespace(name) => match catalog.named(&name) {
                Some(id) if !is_overlaid(&name) => self.of_collection(id, at, obstacle),
                _ => self.of_name(&name, at, obstacle),
            },
        }
    }

    /// All names of which something is not known.
    pub(in crate::fold) fn names(&self) -> impl Iterator<Item = &String> {
        self.names.keys()
    }

    /// Whether changes of the collection need not be kept any more.
    pub(in crate::fold) fn has(&self, id: CollectionId) -> bool {
        self.collections.contains_key(&id)
    }

    /// What is in the way of everything.
    pub(in crate::fold) fn everything(&self) -> Option<Unfoldable> {
        let (since, obstacle) = self.everything.clone()?;
        Some(Unfoldable { namespace: None, since: Some(since), obstacle })
    }

    /// What is in the way of this collection.
    pub(in crate::fold) fn find(&self, id: Option<CollectionId>, namespace: &str) -> Option<Unfoldable> {
        let by_id = id.and_then(|id| self.collections.get(&id));
        let (since, obstacle) = by_id.or_else(|| self.names.get(namespace))?.clone();
        Some(Unfoldable { namespace: Some(namespace.to_owned()), since: Some(since), obstacle })
    }
}
