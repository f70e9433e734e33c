//! Time series as users see them: views, whose definition servers derive from that of the buckets below.
//!
//! Source: `listCollections` and `listIndexes` of servers of 5.0 and 6.0, and
//! `timeseries_index_schema_conversion_functions` of the server.

use super::{Collection, fields::Fields, index};
use crate::raw::{self, Element, write};

/// Options of buckets that are those of the series as well.
const SHARED_OPTIONS: [&str; 5] =
    ["storageEngine", "indexOptionDefaults", "collation", "expireAfterSeconds", "timeseries"];
/// Options that only buckets have.
const OPTIONS_OF_BUCKETS: [&str; 2] = ["validator", "clusteredIndex"];
/// The field of a bucket that holds what all its measurements have in common.
const META: &[u8] = b"meta";

/// What a server lists for the time series above buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// As `listCollections` shows them under `options`, raw.
    pub options: Vec<u8>,
    /// As `listIndexes` shows them, in its order.
    pub indexes: Vec<Vec<u8>>,
}

impl Series {
    /// Of these buckets; an error says what is not known.
    ///
    /// # Errors
    /// In words, when the definition of the buckets has something that this version does not know.
    pub fn of(buckets: &Collection) -> Result<Self, String> {
        let options = options(&buckets.options)?;
        let series = raw::field(&options, "timeseries").map_err(|error| error.to_string())?;
        let series = series.and_then(|series| series.document()).ok_or("buckets without a time series")?;
        let indexes =
            buckets.built_indexes().map(|index| index_of(index, series)).collect::<Result<_, _>>()?;
        Ok(Self { options, indexes })
    }
}

fn options(of_buckets: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = Fields::read(of_buckets).map_err(|error| error.to_string())?;
    OPTIONS_OF_BUCKETS.iter().for_each(|name| fields.remove(name));
    // The order is that of the listing of the buckets; only what is not known is told apart here.
    let known = fields.clone().in_order(&SHARED_OPTIONS).map_err(|name| format!("the option {name}"));
    known.map(|_| fields.as_they_are())
}

/// The index on the measurements that stands for one on the buckets.
fn index_of(of_buckets: &[u8], series: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = Fields::read(of_buckets).map_err(|error| error.to_string())?;
    let original = raw::field(of_buckets, "originalSpec").map_err(|error| error.to_string())?;
    if let Some(original) = original {
        let original = original.document().ok_or("the index option originalSpec")?;
        return index::as_listed(Fields::read(original).map_err(|error| error.to_string())?);
    }
    if fields.has("partialFilterExpression") {
        return Err("a partial index on buckets".to_owned());
    }
    let key = raw::field(of_buckets, "key").map_err(|error| error.to_string())?;
    let key = key.and_then(|key| key.document()).ok_or("an index without a key")?;
    fields.set("key", raw::kind::DOCUMENT, &key_of(key, series)?);
    Ok(fields.as_they_are())
}

/// Buckets are indexed by the field that measurements have in common, and by the first and the last time in them.
fn key_of(of_buckets: &[u8], series: &[u8]) -> Result<Vec<u8>, String> {
    let name_of = |option| {
        let name = raw::field(series, option).map_err(|error| error.to_string())?;
        Ok::<_, String>(name.and_then(|name| name.text()))
    };
    let time = name_of("timeField")?.ok_or("a time series without timeField")?;
    let meta = name_of("metaField")?;
    let (first, last) = (format!("control.min.{time}"), format!("control.max.{time}"));
    let elements: Vec<Element<'_>> =
        raw::elements(of_buckets).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let start = write::open(&mut out);
    let mut rest = elements.as_slice();
    while let Some((element, after)) = rest.split_first() {
        rest = after;
        let below =
            element.name.strip_prefix(META).filter(|below| below.is_empty() || below.starts_with(b"."));
        if let (Some(below), Some(meta)) = (below, meta) {
            write::push_as(&mut out, element.kind, &[meta.as_bytes(), below].concat(), element.value);
            continue;
        }
        // Ascending: the first time, then the last; descending the other way round.
        let other = match after.first() {
            Some(other) if element.name == first.as_bytes() && other.name == last.as_bytes() => other,
            Some(other) if element.name == last.as_bytes() && other.name == first.as_bytes() => other,
            _ => return Err(format!("an index on {}", String::from_utf8_lossy(element.name))),
        };
        if (other.kind, other.value) != (element.kind, element.value) {
            return Err("an index on times in two directions".to_owned());
        }
        rest = &after[1..];
        write::push_as(&mut out, element.kind, time.as_bytes(), element.value);
    }
    write::close(&mut out, start);
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;
    use crate::catalog_state::Index;

    fn buckets(options: &RawDocumentBuf, indexes: &[RawDocumentBuf]) -> Collection {
        let built =
            |index: &RawDocumentBuf| Index { specification: index.as_bytes().to_vec(), building: None };
        Collection {
            namespace: "app.system.buckets.t".to_owned(),
            options: options.as_bytes().to_vec(),
            id_index: None,
            indexes: indexes.iter().map(built).collect(),
            doubt: None,
        }
    }

    /// Recorded from servers of 5.0.4 and 6.0.5.
    #[test]
    fn a_series_is_listed_as_servers_do() {
        let series = rawdoc! { "timeField": "at", "metaField": "m", "granularity": "hours", "bucketMaxSpanSeconds": 2_592_000 };
        let options = rawdoc! {
            "storageEngine": { "wiredTiger": {} }, "validator": { "x": 1 }, "collation": { "locale": "de" },
            "clusteredIndex": true, "expireAfterSeconds": 3600_i64, "timeseries": series.clone(),
        };
        let listed = rawdoc! {
            "storageEngine": { "wiredTiger": {} }, "collation": { "locale": "de" }, "expireAfterSeconds": 3600_i64,
            "timeseries": series,
        };
        let pairs = [
            (
                rawdoc! { "v": 2, "key": { "meta": 1, "control.min.at": 1, "control.max.at": 1 }, "name": "a", "hidden": true },
                rawdoc! { "v": 2, "key": { "m": 1, "at": 1 }, "name": "a", "hidden": true },
            ),
            (
                rawdoc! { "v": 2, "key": { "meta.x": -1, "control.max.at": -1, "control.min.at": -1 }, "name": "b", "sparse": true },
                rawdoc! { "v": 2, "key": { "m.x": -1, "at": -1 }, "name": "b", "sparse": true },
            ),
            (
                rawdoc! { "v": 2, "key": { "meta": "hashed" }, "name": "c" },
                rawdoc! { "v": 2, "key": { "m": "hashed" }, "name": "c" },
            ),
            (
                rawdoc! {
                    "v": 2, "key": { "control.min.v": 1, "control.max.v": 1 }, "name": "d",
                    "originalSpec": { "key": { "v": 1 }, "name": "d", "v": 2 },
                },
                rawdoc! { "v": 2, "key": { "v": 1 }, "name": "d" },
            ),
        ];
        let (of_buckets, of_series): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let found = Series::of(&buckets(&options, &of_buckets)).unwrap();
        assert_eq!(found.options, listed.as_bytes());
        let expected: Vec<_> = of_series.iter().map(|index| index.as_bytes().to_vec()).collect();
        assert_eq!(found.indexes, expected);
    }

    #[test]
    fn what_is_not_known_is_told() {
        let series = rawdoc! { "timeseries": { "timeField": "at" } };
        let index = |key| rawdoc! { "v": 2, "key": key, "name": "x" };
        for (options, indexes, why) in [
            (rawdoc! { "shiny": 1, "timeseries": { "timeField": "at" } }, vec![], "the option shiny"),
            (rawdoc! {}, vec![], "buckets without a time series"),
            (series.clone(), vec![index(rawdoc! { "meta": 1 })], "an index on meta"),
            (series.clone(), vec![index(rawdoc! { "control.min.v": 1 })], "an index on control.min.v"),
            (
                series.clone(),
                vec![index(rawdoc! { "control.min.at": 1, "control.max.at": -1 })],
                "an index on times in two directions",
            ),
            (
                series,
                vec![
                    rawdoc! { "v": 2, "key": { "meta": 1 }, "name": "x", "partialFilterExpression": { "meta": 1 } },
                ],
                "a partial index on buckets",
            ),
        ] {
            assert_eq!(Series::of(&buckets(&options, &indexes)), Err(why.to_owned()));
        }
    }
}
