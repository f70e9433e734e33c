//! Views and time series at the time of a fold.
//!
//! Their definitions are documents of each database's `system.views`, which few accounts may read. So a manifest has them
//! as the listing shows them, and the documents are made of that again: a view's options are its document without `_id`.
//! A time series is a view on its buckets, and its options and indexes are derived from theirs.

use std::collections::BTreeMap;

use history::{
    SortKey,
    catalog_state::{CatalogState, Series},
    raw::{self, Element, kind, write},
};
use mongo::namespace::BUCKETS_PREFIX;
use vault::{CollectionEntry, CollectionKind, CollectionMeta, Order};

use super::{
    Obstacle, Unfoldable,
    base::Base,
    definitions::{doubt, unfoldable},
    delta::{
        Delta,
        overlay::{Overlay, VIEWS},
    },
};

/// The fields of a definition, in the order in which the listing shows them.
const LISTED: [&str; 3] = ["viewOn", "pipeline", "collation"];

/// All views and time series as of `at`, in no order; and those that cannot be folded.
pub(super) fn fold(
    base: &Base,
    delta: &Delta,
    at: model::ClusterTime,
) -> (Vec<CollectionMeta>, Vec<Unfoldable>) {
    let mut databases: BTreeMap<&str, Vec<&CollectionEntry>> = BTreeMap::new();
    for view in &base.views {
        databases.entry(&view.meta.db).or_default().push(view);
    }
    // What cannot be told of definitions may be of the first one of a database.
    for namespace in delta.overlays.keys().chain(delta.obstacles.names()) {
        if let Some((database, VIEWS)) = namespace.split_once('.') {
            databases.entry(database).or_default();
        }
    }
    let (mut metas, mut obstacles) = (Vec::new(), Vec::new());
    for (database, known) in databases {
        let namespace = format!("{database}.{VIEWS}");
        if let Some(found) = delta.obstacles.find(None, &namespace) {
            obstacles.push(found);
            continue;
        }
        let views = Views { database, known, catalog: &delta.catalog, at };
        let (listed, hindered) = match delta.overlays.get(&namespace) {
            None => views.unchanged(),
            Some(overlay) => match views.changed(overlay) {
                Ok(documents) => documents,
                Err(obstacle) => (Vec::new(), vec![unfoldable(&namespace, None, obstacle)]),
            },
        };
        metas.extend(listed);
        obstacles.extend(hindered);
    }
    (metas, obstacles)
}

type Listed = (Vec<CollectionMeta>, Vec<Unfoldable>);

/// The views of one database.
struct Views<'a> {
    database: &'a str,
    /// Those of the base.
    known: Vec<&'a CollectionEntry>,
    catalog: &'a CatalogState,
    at: model::ClusterTime,
}

impl Views<'_> {
    /// Nobody has written a definition. Those of buckets may have changed all the same.
    fn unchanged(&self) -> Listed {
        let views = self.known.iter().map(|view| match view.meta.kind {
            CollectionKind::TimeSeriesView => self.series(&view.meta.name),
            _ => Ok(CollectionMeta { as_of: self.at, ..view.meta.clone() }),
        });
        sorted_out(views)
    }

    fn changed(&self, overlay: &Overlay) -> Result<Listed, Obstacle> {
        let malformed = |error: history::Malformed| Obstacle::Definition(error.to_string());
        let mut documents = BTreeMap::new();
        for view in &self.known {
            let document = document_of(self.database, view).map_err(malformed)?;
            documents.insert(SortKey::of_document(&document).map_err(malformed)?, document);
        }
        let documents = overlay.onto(documents)?;
        Ok(sorted_out(documents.values().map(|document| self.view(document))))
    }

    /// What the listing shows for a document of `system.views`.
    fn view(&self, document: &[u8]) -> Result<CollectionMeta, Unfoldable> {
        let hindered = |what: &str| {
            unfoldable(&format!("{}.{VIEWS}", self.database), None, Obstacle::Definition(what.to_owned()))
        };
        let elements: Result<Vec<Element<'_>>, _> = raw::elements(document).collect();
        let elements = elements.map_err(|error| hindered(&error.to_string()))?;
        let named = |name: &str| elements.iter().find(|element| element.name == name.as_bytes());
        let id = named("_id").and_then(Element::text).ok_or_else(|| hindered("a view without a name"))?;
        let name = id.strip_prefix(self.database).and_then(|rest| rest.strip_prefix('.'));
        let name = name.ok_or_else(|| hindered("a view of another database"))?;
        let known = |element: &Element<'_>| LISTED.iter().any(|name| name.as_bytes() == element.name);
        if let Some(other) = elements.iter().find(|element| element.name != b"_id" && !known(element)) {
            return Err(hindered(&format!("a view with the field {}", String::from_utf8_lossy(other.name))));
        }
        let view_on = named("viewOn").and_then(Element::text);
        let view_on = view_on.ok_or_else(|| hindered("a view that says not on what"))?;
        if view_on.strip_prefix(BUCKETS_PREFIX) == Some(name) {
            return self.series(name);
        }
        if view_on.starts_with(BUCKETS_PREFIX) {
            return Err(hindered("a view on the buckets of a time series of another name"));
        }
        let mut options = Vec::new();
        let start = write::open(&mut options);
        for element in LISTED.iter().filter_map(|name| named(name)).filter(|element| !is_simple(element)) {
            write::push(&mut options, element);
        }
        write::close(&mut options, start);
        Ok(self.meta(name, CollectionKind::View, options, Vec::new()))
    }

    /// What the listing shows for a time series.
    fn series(&self, name: &str) -> Result<CollectionMeta, Unfoldable> {
        let namespace = format!("{}.{name}", self.database);
        let hindered = |what: String| unfoldable(&namespace, None, Obstacle::Definition(what));
        let buckets = self.catalog.named(&format!("{}.{BUCKETS_PREFIX}{name}", self.database));
        let buckets = buckets.and_then(|id| self.catalog.get(id));
        let buckets = buckets.ok_or_else(|| hindered("its buckets are missing".to_owned()))?;
        if let Some(Unfoldable { since, obstacle, .. }) = doubt(buckets) {
            return Err(unfoldable(&namespace, since, obstacle));
        }
        let Series { options, indexes } = Series::of(buckets).map_err(hindered)?;
        Ok(self.meta(name, CollectionKind::TimeSeriesView, options, indexes))
    }

    fn meta(
        &self,
        name: &str,
        kind: CollectionKind,
        options: Vec<u8>,
        indexes: Vec<Vec<u8>>,
    ) -> CollectionMeta {
        CollectionMeta {
            uuid: None,
            db: self.database.to_owned(),
            name: name.to_owned(),
            kind,
            order: Order::Sorted,
            options,
            id_index: None,
            indexes,
            as_of: self.at,
            read_through: None,
        }
    }
}

fn sorted_out(views: impl Iterator<Item = Result<CollectionMeta, Unfoldable>>) -> Listed {
    let (mut metas, mut obstacles) = (Vec::new(), Vec::new());
    views.for_each(|view| match view {
        Ok(meta) => metas.push(meta),
        Err(obstacle) => obstacles.push(obstacle),
    });
    (metas, obstacles)
}

/// Views have no collation then, and none is listed.
fn is_simple(element: &Element<'_>) -> bool {
    element.name == b"collation"
        && element.document().is_some_and(|collation| {
            let locale = raw::field(collation, "locale").ok().flatten();
            locale.and_then(|locale| locale.text()) == Some("simple")
        })
}

/// The document of `system.views` that a view's options come from. That of a time series says only on what it is:
/// servers always replace such a document as a whole, and a diff of it would not fit.
fn document_of(database: &str, view: &CollectionEntry) -> Result<Vec<u8>, history::Malformed> {
    let mut out = Vec::new();
    let start = write::open(&mut out);
    push_text(&mut out, "_id", &format!("{database}.{}", view.meta.name));
    if view.meta.kind == CollectionKind::TimeSeriesView {
        push_text(&mut out, "viewOn", &format!("{BUCKETS_PREFIX}{}", view.meta.name));
    } else {
        for element in raw::elements(&view.meta.options) {
            write::push(&mut out, &element?);
        }
    }
    write::close(&mut out, start);
    Ok(out)
}

fn push_text(out: &mut Vec<u8>, name: &str, text: &str) {
    // Names are far below 4 GiB.
    let mut value = (text.len() as u32 + 1).to_le_bytes().to_vec();
    value.extend(text.as_bytes());
    value.push(0);
    write::push_as(out, kind::STRING, name.as_bytes(), &value);
}
