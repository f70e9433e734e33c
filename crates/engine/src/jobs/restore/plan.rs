//! What the cut-over has to do with each name on the target. Pure: lists in, lists out.

use std::collections::{BTreeMap, BTreeSet};

use mongo::{CollectionInfo, CollectionKind, Namespace, write::timeseries::series_of};

/// How something of the snapshot gets to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Loaded under a staging name and renamed.
    Renamed,
    /// Loaded in the cut-over: a time series, which no server renames.
    TimeSeries,
    /// The documents of a time series; goes with it.
    Buckets,
    /// Loaded in the cut-over: stored functions, whose collection cannot be renamed.
    Functions,
    /// Made at the end of the cut-over.
    View,
    /// Kept by the server itself.
    Server,
    /// Stays where it is, and what changed in it is put back: a rewind.
    Kept,
}

impl Way {
    /// The way for what a listing calls `kind`.
    pub(crate) const fn of(kind: CollectionKind) -> Self {
        match kind {
            CollectionKind::Plain | CollectionKind::Capped | CollectionKind::Clustered => Self::Renamed,
            CollectionKind::TimeSeriesBuckets => Self::Buckets,
            CollectionKind::TimeSeriesView => Self::TimeSeries,
            CollectionKind::View => Self::View,
            CollectionKind::SystemJs => Self::Functions,
            CollectionKind::SystemViews => Self::Server,
        }
    }
}

/// Something of the snapshot, as far as names go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// How it gets there.
    pub(crate) way: Way,
    /// Its raw options.
    pub(crate) options: &'a [u8],
}

/// What has to go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Removals {
    /// Databases that the snapshot does not have.
    pub(crate) databases: Vec<String>,
    /// Collections, views and time series that the snapshot does not have, in databases that stay.
    pub(crate) collections: Vec<Namespace>,
    /// What stands where the snapshot has a view, and is not that view.
    pub(crate) before_views: Vec<Namespace>,
}

impl Removals {
    /// Of a selection nothing goes but what stands in the place of something that is selected.
    pub(crate) fn of_selection(self) -> Self {
        Self { before_views: self.before_views, ..Self::default() }
    }
}

/// Compares the names of the target with those of the snapshot.
///
/// `found` never holds what a backup does not take, so that is never removed either.
pub(crate) fn removals(wanted: &BTreeMap<Namespace, Wanted<'_>>, found: &[CollectionInfo]) -> Removals {
    let kept: BTreeSet<&str> = wanted.keys().map(|ns| ns.db.as_str()).collect();
    let names: BTreeSet<&Namespace> = found.iter().map(|info| &info.namespace).collect();
    let mut removals = Removals::default();
    let mut databases = BTreeSet::new();
    for info in found {
        let ns = &info.namespace;
        if ns.db != "admin" && !kept.contains(ns.db.as_str()) {
            databases.insert(ns.db.clone());
            continue;
        }
        let goes_with_another = match Way::of(info.kind) {
            Way::Server => true,
            Way::Buckets => {
                series_of(ns).is_some_and(|series| names.contains(&series) || wanted.contains_key(&series))
            }
            Way::Renamed | Way::TimeSeries | Way::Functions | Way::View | Way::Kept => false,
        };
        if goes_with_another {
            continue;
        }
        match wanted.get(ns) {
            None => removals.collections.push(ns.clone()),
            Some(want)
                if want.way == Way::View
                    && !(info.kind == CollectionKind::View && info.options == want.options) =>
            {
                removals.before_views.push(ns.clone());
            }
            Some(_) => {}
        }
    }
    removals.databases = databases.into_iter().collect();
    removals
}

/// Databases whose names differ only by case: no server holds both.
pub(crate) fn differ_by_case<'a>(
    wanted: impl IntoIterator<Item = &'a str>,
    found: &'a [String],
) -> Vec<(&'a str, &'a str)> {
    wanted
        .into_iter()
        .filter_map(|want| {
            found
                .iter()
                .find(|have| *have != want && have.eq_ignore_ascii_case(want))
                .map(|have| (want, have.as_str()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ns(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }

    fn found(text: &str, kind: CollectionKind, options: &[u8]) -> CollectionInfo {
        CollectionInfo {
            uuid: None,
            namespace: ns(text),
            kind,
            options: options.to_vec(),
            id_index: None,
            indexes: vec![],
            collation: false,
        }
    }

    fn wanted<'a>(items: &[(&str, Way, &'a [u8])]) -> BTreeMap<Namespace, Wanted<'a>> {
        items.iter().map(|(name, way, options)| (ns(name), Wanted { way: *way, options })).collect()
    }

    #[test]
    fn whole_databases_and_single_collections_go() {
        let wanted = wanted(&[("app.kept", Way::Renamed, b"")]);
        let found = [
            found("app.kept", CollectionKind::Plain, b""),
            found("app.extra", CollectionKind::Capped, b""),
            found("app.a_view", CollectionKind::View, b""),
            found("app.system.views", CollectionKind::SystemViews, b""),
            found("other.x", CollectionKind::Plain, b""),
            found("other.y", CollectionKind::View, b""),
            found("admin.mine", CollectionKind::Plain, b""),
        ];
        let removals = removals(&wanted, &found);
        assert_eq!(removals.databases, ["other"]);
        assert_eq!(removals.collections, [ns("app.extra"), ns("app.a_view"), ns("admin.mine")]);
        assert!(removals.before_views.is_empty());
    }

    #[test]
    fn buckets_go_with_their_series_and_alone_when_they_have_none() {
        let wanted =
            wanted(&[("app.kept", Way::TimeSeries, b""), ("app.system.buckets.kept", Way::Buckets, b"")]);
        let found = [
            found("app.kept", CollectionKind::TimeSeriesView, b""),
            found("app.system.buckets.kept", CollectionKind::TimeSeriesBuckets, b""),
            found("app.gone", CollectionKind::TimeSeriesView, b""),
            found("app.system.buckets.gone", CollectionKind::TimeSeriesBuckets, b""),
            found("app.system.buckets.orphan", CollectionKind::TimeSeriesBuckets, b""),
        ];
        assert_eq!(removals(&wanted, &found).collections, [ns("app.gone"), ns("app.system.buckets.orphan")]);
    }

    #[test]
    fn a_view_is_made_again_only_when_it_is_not_the_same() {
        let wanted = wanted(&[
            ("app.same", Way::View, b"1"),
            ("app.changed", Way::View, b"1"),
            ("app.was_a_collection", Way::View, b"1"),
            ("app.was_a_view", Way::Renamed, b""),
        ]);
        let found = [
            found("app.same", CollectionKind::View, b"1"),
            found("app.changed", CollectionKind::View, b"2"),
            found("app.was_a_collection", CollectionKind::Plain, b"1"),
            found("app.was_a_view", CollectionKind::View, b""),
        ];
        let removals = removals(&wanted, &found);
        assert_eq!(removals.before_views, [ns("app.changed"), ns("app.was_a_collection")]);
        assert!(removals.collections.is_empty(), "the rename takes the view out of its way itself");
    }

    #[test]
    fn a_selection_removes_only_what_is_in_the_place_of_a_view() {
        let wanted = wanted(&[("app.view", Way::View, b"1"), ("app.kept", Way::Renamed, b"")]);
        let found = [
            found("app.view", CollectionKind::Plain, b""),
            found("app.extra", CollectionKind::Plain, b""),
            found("app.series", CollectionKind::TimeSeriesView, b""),
            found("app.system.buckets.orphan", CollectionKind::TimeSeriesBuckets, b""),
            found("other.x", CollectionKind::Plain, b""),
        ];
        let removals = removals(&wanted, &found).of_selection();
        assert_eq!(removals, Removals { before_views: vec![ns("app.view")], ..Removals::default() });
    }

    #[test]
    fn databases_that_differ_by_case_are_named() {
        let found = ["App".to_owned(), "b".to_owned()];
        assert_eq!(differ_by_case(["app", "b"], &found), [("app", "App")]);
    }
}
