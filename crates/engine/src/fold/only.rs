//! Which part of a state is folded.

use model::{Selection, selection::Name};
use mongo::namespace::BUCKETS_PREFIX;
use vault::CollectionMeta;

use super::{Unfoldable, delta::overlay::VIEWS};

/// What of a state is wanted, by the names that it has then.
#[derive(Debug, Clone, Copy)]
pub enum Only<'a> {
    /// All of it.
    Everything,
    /// What was selected. Users and roles never are.
    Selected(&'a Selection),
}

impl Only<'_> {
    /// Whether this is wanted. Buckets go with their time series; of definitions of views only the views themselves.
    pub(super) fn wants(self, db: &str, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Selected(_) if name == VIEWS => false,
            Self::Selected(selection) => {
                selection.selects(&Name::new(db, name.strip_prefix(BUCKETS_PREFIX).unwrap_or(name)))
            }
        }
    }

    /// Whether what stands in the way of a view, or of all views of a database, stands in the way of something wanted.
    /// `found` are the wanted collections. Whatever they do not account for may be a view.
    pub(super) fn is_hindered<'a>(
        self,
        hindered: &Unfoldable,
        found: impl Iterator<Item = &'a CollectionMeta> + Clone,
    ) -> bool {
        let selection = match self {
            Self::Everything => return true,
            Self::Selected(selection) => selection,
        };
        let Some((db, name)) = hindered.namespace.as_deref().and_then(|name| name.split_once('.')) else {
            return true;
        };
        if name != VIEWS {
            return self.wants(db, name);
        }
        let is_found =
            |wanted: &Name| found.clone().any(|meta| meta.db == wanted.db && meta.name == wanted.collection);
        let of_database = selection.namespaces().iter().filter(|pattern| pattern.db() == db);
        of_database.map(|pattern| pattern.one()).any(|one| one.is_none_or(|wanted| !is_found(&wanted)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use vault::{CollectionKind, Order};

    use super::*;
    use crate::fold::Obstacle;

    fn selection(namespaces: &[&str]) -> Selection {
        serde_json::from_value(json!({"namespaces": namespaces})).unwrap()
    }

    fn hindered(namespace: &str) -> Unfoldable {
        let namespace = Some(namespace.to_owned());
        Unfoldable { namespace, since: None, obstacle: Obstacle::TooMuch(1) }
    }

    fn meta(db: &str, name: &str) -> CollectionMeta {
        CollectionMeta {
            uuid: None,
            db: db.to_owned(),
            name: name.to_owned(),
            kind: CollectionKind::Plain,
            order: Order::Sorted,
            options: vec![],
            id_index: None,
            indexes: vec![],
            as_of: model::ClusterTime::default(),
            read_through: None,
        }
    }

    #[test]
    fn buckets_are_wanted_with_their_series() {
        let wanted = selection(&["a.series"]);
        let only = Only::Selected(&wanted);
        assert!(only.wants("a", "series") && only.wants("a", "system.buckets.series"));
        assert!(!only.wants("a", "x") && !only.wants("a", "system.buckets.x") && !only.wants("b", "series"));
        let whole = selection(&["a"]);
        assert!(!Only::Selected(&whole).wants("a", "system.views"), "the server keeps them");
        assert!(Only::Everything.wants("a", "system.views"));
    }

    #[test]
    fn views_that_cannot_be_told_are_in_the_way_of_who_may_want_one() {
        let found = [meta("a", "x")];
        for (namespaces, namespace, is_in_the_way) in [
            (&["a.x"][..], "a.system.views", false),
            (&["a.x", "a.y"], "a.system.views", true),
            (&["a.*"], "a.system.views", true),
            (&["b.*"], "a.system.views", false),
            (&["a.x"], "a.series", false),
            (&["a.s*"], "a.series", true),
        ] {
            let wanted = selection(namespaces);
            let is = Only::Selected(&wanted).is_hindered(&hindered(namespace), found.iter());
            assert_eq!(is, is_in_the_way, "{namespaces:?} {namespace}");
        }
        assert!(Only::Everything.is_hindered(&hindered("a.system.views"), found.iter()));
    }
}
