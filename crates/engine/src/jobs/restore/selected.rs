//! Which items of a state are restored, and under which names.

use std::collections::{BTreeMap, BTreeSet};

use catalog::RestoreJob;
use history::raw;
use model::{
    Selection,
    selection::{Name, SelectionError, There},
};
use mongo::{
    CollectionInfo, Namespace,
    write::timeseries::{buckets_of, series_of},
};
use vault::Manifest;

use super::{plan::Way, source::Item};
use crate::lease::JobError;

/// What is restored.
#[derive(Debug)]
pub(super) struct Picked {
    /// In the manifest's order, under the names of their destinations.
    pub(super) items: Vec<Item>,
    /// What was selected and is not among them, and why.
    pub(super) left_out: Vec<String>,
}

/// All items, or those that are selected.
///
/// # Errors
/// [`JobError::Failed`] when the selection does not fit the state: all that is wrong, and nothing is touched.
pub(super) fn pick(
    items: Vec<Item>,
    selection: Option<&Selection>,
    row: &RestoreJob,
    manifest: &Manifest,
) -> Result<Picked, JobError> {
    let Some(selection) = selection else { return Ok(Picked { items, left_out: Vec::new() }) };
    choose(items, selection).map_err(|errors| {
        JobError::failed(format!(
            "the restore was not begun, and nothing was changed: of what was in {} at {} not everything can be restored \
             that is selected: {}; mend the selection and restore again",
            row.deployment_name,
            manifest.header().cluster_time,
            SelectionError::joined(&errors)
        ))
    })
}

fn choose(items: Vec<Item>, selection: &Selection) -> Result<Picked, Vec<SelectionError>> {
    let series: BTreeSet<Namespace> =
        items.iter().filter(|item| item.way == Way::TimeSeries).map(|item| item.ns.clone()).collect();
    let names: Vec<(Name, bool)> = items
        .iter()
        .filter(|item| !matches!(item.way, Way::Buckets | Way::Server))
        .map(|item| (name_of(&item.ns), item.way == Way::TimeSeries))
        .collect();
    let resolved =
        selection.resolve(names.iter().map(|(name, is_series)| There { name, is_series: *is_series }))?;
    let mut left_out: Vec<String> = resolved
        .left_out
        .iter()
        .map(|name| {
            format!("{name} was left out: stored functions have one name in every database and cannot be put beside others")
        })
        .collect();
    let mut picked = Vec::new();
    for item in items {
        // Buckets go where their time series goes.
        let (handle, is_buckets) = match series_of(&item.ns).filter(|_| item.way == Way::Buckets) {
            Some(series_name) if series.contains(&series_name) => (name_of(&series_name), true),
            Some(orphan) => {
                if selection.selects(&name_of(&orphan)) {
                    left_out.push(format!(
                        "{} was left out: it belongs to no time series, and no server can be made to hold it",
                        item.ns
                    ));
                }
                continue;
            }
            None if item.way == Way::Server => continue,
            None => (name_of(&item.ns), false),
        };
        let Some(to) = resolved.names.get(&handle) else { continue };
        let to = Namespace::new(&to.db, &to.collection);
        picked.push(Item { ns: if is_buckets { buckets_of(&to) } else { to }, ..item });
    }
    Ok(Picked { items: picked, left_out })
}

fn name_of(ns: &Namespace) -> Name {
    Name::new(&ns.db, &ns.collection)
}

/// What a person should know of restored views: what they are on is not restored with them, and a rename of it does not
/// change them. `found` is what the target has.
pub(super) fn views_on_others(items: &[Item], found: &[CollectionInfo]) -> Vec<String> {
    let there: BTreeSet<&Namespace> = found.iter().map(|info| &info.namespace).collect();
    let restored: BTreeMap<&Namespace, &Namespace> =
        items.iter().map(|item| (&item.ns, &item.from)).collect();
    let renamed: BTreeMap<&Namespace, &Namespace> =
        items.iter().filter(|item| item.ns != item.from).map(|item| (&item.from, &item.ns)).collect();
    let mut warnings = Vec::new();
    for item in items.iter().filter(|item| item.way == Way::View) {
        let on = raw::field(&item.entry.meta.options, "viewOn").ok().flatten();
        let Some(on) = on.and_then(|on| on.text().map(str::to_owned)) else { continue };
        // The name that a view says is one of its own database, wherever that is.
        let (before, now) = (Namespace::new(&item.from.db, &on), Namespace::new(&item.ns.db, &on));
        if restored.get(&now).is_some_and(|from| **from == before) {
            continue;
        }
        let what = if there.contains(&now) {
            format!("the view {} is on {now}, which is as it was before the restore", item.ns)
        } else {
            format!("the view {} is on {now}, which is not there, so it shows nothing", item.ns)
        };
        warnings.push(match renamed.get(&before) {
            Some(other) => format!("{what}; {before} was restored as {other}, and views are not rewritten"),
            None => format!("{what}; what a view is on is not restored unless it is selected"),
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;
    use mongo::CollectionKind;
    use serde_json::json;
    use vault::{CollectionEntry, CollectionMeta, Order};

    use super::*;

    fn ns(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }

    fn item(text: &str, way: Way, on: Option<&str>) -> Item {
        let options = on.map_or_else(|| rawdoc! {}, |on| rawdoc! { "viewOn": on, "pipeline": [] });
        let meta = CollectionMeta {
            uuid: None,
            db: ns(text).db,
            name: ns(text).collection,
            kind: vault::CollectionKind::Plain,
            order: Order::Sorted,
            options: options.into_bytes(),
            id_index: None,
            indexes: vec![],
            as_of: model::ClusterTime::default(),
            read_through: None,
        };
        let entry = CollectionEntry {
            meta,
            documents: 0,
            bytes: 0,
            content: history::ContentSum::default(),
            segments: 0,
            stored_bytes: 0,
            segment_pages: vec![],
        };
        Item { ns: ns(text), from: ns(text), way, ordinal: 0, entry, beside: None }
    }

    fn found(text: &str) -> CollectionInfo {
        CollectionInfo {
            uuid: None,
            namespace: ns(text),
            kind: CollectionKind::Plain,
            options: vec![],
            id_index: None,
            indexes: vec![],
            collation: false,
        }
    }

    fn shop() -> Vec<Item> {
        vec![
            item("shop.orders", Way::Renamed, None),
            item("shop.recent", Way::View, Some("orders")),
            item("shop.weather", Way::TimeSeries, None),
            item("shop.system.buckets.weather", Way::Buckets, None),
            item("shop.system.buckets.lost", Way::Buckets, None),
            item("shop.system.js", Way::Functions, None),
            item("shop.system.views", Way::Server, None),
            item("bank.orders", Way::Renamed, None),
        ]
    }

    fn chosen(namespaces: &[&str], renames: &[(&str, &str)]) -> Picked {
        let renames: Vec<_> = renames.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
        let said = json!({"namespaces": namespaces, "renames": renames});
        choose(shop(), &serde_json::from_value(said).unwrap()).unwrap()
    }

    fn names(picked: &Picked) -> Vec<String> {
        picked.items.iter().map(|item| format!("{}={}", item.from, item.ns)).collect()
    }

    #[test]
    fn a_time_series_brings_its_buckets_along_under_its_new_name() {
        let picked = chosen(&["shop.weather"], &[("shop.weather", "old.rain")]);
        let renamed = ["shop.weather=old.rain", "shop.system.buckets.weather=old.system.buckets.rain"];
        assert_eq!(names(&picked), renamed);
        assert!(picked.left_out.is_empty());
    }

    #[test]
    fn a_whole_database_is_all_that_a_server_can_be_made_to_hold() {
        let picked = chosen(&["shop"], &[("shop", "old")]);
        assert_eq!(picked.items.len(), 5);
        assert!(picked.items.iter().all(|item| item.ns.db == "old" && item.from.db == "shop"));
        assert!(picked.left_out.len() == 1 && picked.left_out[0].contains("shop.system.buckets.lost"));
        let beside = chosen(&["shop"], &[("shop.*", "shop.old_*")]);
        assert!(beside.items.iter().all(|item| item.way != Way::Functions), "they cannot be beside");
        assert!(beside.left_out.iter().any(|text| text.contains("shop.system.js")), "{:?}", beside.left_out);
    }

    #[test]
    fn a_view_that_is_on_something_else_than_before_is_told() {
        let there = [found("shop.orders"), found("shop.recent")];
        let told = |namespaces: &[&str], renames: &[(&str, &str)], there: &[CollectionInfo]| {
            views_on_others(&chosen(namespaces, renames).items, there)
        };
        assert_eq!(told(&["shop"], &[], &there), [""; 0]);
        assert_eq!(told(&["shop"], &[("shop", "old")], &[found("old.orders")]), [""; 0]);
        assert!(told(&["shop.recent"], &[], &there)[0].contains("as it was before"));
        assert!(told(&["shop.recent"], &[], &there[1..])[0].contains("is not there"));
        let beside = told(&["shop.recent", "shop.orders"], &[("shop.orders", "shop.orders_old")], &there);
        assert!(beside[0].contains("was restored as shop.orders_old"), "{beside:?}");
    }
}
