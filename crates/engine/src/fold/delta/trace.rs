//! What a namespace stood for, one collection after the other, and when the writes that were asked for were made.

use std::collections::VecDeque;

use history::{
    ClusterTime, CollectionId,
    catalog_state::CatalogState,
    change::Position,
    entry::{Command, Kind, Operation},
};

/// So many wall times are kept; the newest ones.
const WALLS_MAX: usize = 16 << 10;

/// The collection that a namespace stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fold) struct Bound {
    pub(in crate::fold) id: CollectionId,
    pub(in crate::fold) capped: bool,
}

/// Why a namespace stands for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fold) enum Cause {
    /// It does so in the base.
    Base,
    Create,
    Drop,
    Rename,
}

/// From when on a namespace stands for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fold) struct Binding {
    pub(in crate::fold) since: Position,
    pub(in crate::fold) wall_ms: Option<i64>,
    pub(in crate::fold) bound: Option<Bound>,
    pub(in crate::fold) cause: Cause,
}

/// A namespace over time.
#[derive(Debug)]
pub(in crate::fold) struct Trace {
    namespace: String,
    bindings: Vec<Binding>,
    walls: VecDeque<(ClusterTime, i64)>,
}

impl Trace {
    pub(in crate::fold) fn new(namespace: &str, catalog: &CatalogState) -> Self {
        let bound = bound(catalog, namespace);
        let first = Binding { since: Position::default(), wall_ms: None, bound, cause: Cause::Base };
        Self { namespace: namespace.to_owned(), bindings: vec![first], walls: VecDeque::new() }
    }

    /// What the namespace stood for, in the order of time; the first is that of the base.
    pub(in crate::fold) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// What o'clock it was at the primary when something was written, in milliseconds since 1970.
    pub(in crate::fold) fn wall_ms(&self, time: ClusterTime) -> Option<i64> {
        self.walls.iter().rev().find(|(at, _)| *at == time).map(|(_, wall_ms)| *wall_ms)
    }

    pub(super) fn wrote(&mut self, time: ClusterTime, wall_ms: Option<i64>) {
        let Some(wall_ms) = wall_ms else { return };
        if self.walls.back().is_some_and(|(last, _)| *last == time) {
            return;
        }
        if self.walls.len() == WALLS_MAX {
            self.walls.pop_front();
        }
        self.walls.push_back((time, wall_ms));
    }

    pub(super) fn defined(
        &mut self,
        catalog: &CatalogState,
        operation: &Operation<'_>,
        since: Position,
        wall_ms: Option<i64>,
    ) {
        let bound = bound(catalog, &self.namespace);
        if self.bindings.last().is_some_and(|last| last.bound == bound) {
            return;
        }
        let cause = match operation.kind {
            Kind::Command(Command::Create { .. }) => Cause::Create,
            Kind::Command(Command::Rename(_)) => Cause::Rename,
            _ => Cause::Drop,
        };
        self.bindings.push(Binding { since, wall_ms, bound, cause });
    }
}

fn bound(catalog: &CatalogState, namespace: &str) -> Option<Bound> {
    let id = catalog.named(namespace)?;
    Some(Bound { id, capped: catalog.get(id)?.is_capped() })
}
