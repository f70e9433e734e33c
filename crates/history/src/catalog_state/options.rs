//! Options of collections, as `listCollections` shows them.

use super::fields::Fields;
use crate::raw::{self, Element, kind, write};

/// The order in which servers list options. Source: `CollectionOptions::appendBSON` of the server.
const LISTED_ORDER: [&str; 20] = [
    "capped",
    "size",
    "max",
    "autoIndexId",
    "temp",
    "recordPreImages",
    "changeStreamPreAndPostImages",
    "storageEngine",
    "indexOptionDefaults",
    "validator",
    "validationLevel",
    "validationAction",
    "collation",
    "clusteredIndex",
    "expireAfterSeconds",
    "viewOn",
    "pipeline",
    "timeseries",
    "encryptedFields",
    "flags",
];
/// Sizes of capped collections are multiples of this.
const CAPPED_SIZE_STEP: i64 = 256;
/// Granularities of time series, and how many seconds a bucket spans then.
const GRANULARITIES: [(&str, i32); 3] = [("seconds", 3_600), ("minutes", 86_400), ("hours", 2_592_000)];

/// The options in a `create` command: all that is not the name or the index on `_id`.
pub(super) fn of_create(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = Fields::read(body).map_err(|error| error.to_string())?;
    for name in ["create", "idIndex", "uuid"] {
        fields.remove(name);
    }
    // Servers write them in the order in which they list them.
    Ok(fields.as_they_are())
}

/// The options without one of them.
pub(super) fn without(options: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let mut fields = Fields::read(options).map_err(|error| error.to_string())?;
    fields.remove(name);
    Ok(fields.as_they_are())
}

/// Whether the options say so.
pub(super) fn is_capped(options: &[u8]) -> bool {
    raw::field(options, "capped").ok().flatten().and_then(|capped| capped.boolean()) == Some(true)
}

/// Whether the options have a collation; servers leave the simple one out.
pub(super) fn has_collation(options: &[u8]) -> bool {
    raw::field(options, "collation").is_ok_and(|collation| collation.is_some())
}

/// Changes options as `collMod` does; an error says what is not known. `index` is not looked at.
pub(super) fn modify(options: &[u8], command: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = Fields::read(options).map_err(|error| error.to_string())?;
    let mut changed = false;
    for element in raw::elements(command) {
        let element = element.map_err(|error| error.to_string())?;
        if matches!(element.name, b"collMod" | b"index") {
            continue;
        }
        changed = true;
        set(&mut fields, &element)
            .ok_or_else(|| format!("collMod of {}", String::from_utf8_lossy(element.name)))?;
    }
    if !changed {
        return Ok(options.to_vec());
    }
    fields.in_order(&LISTED_ORDER).map_err(|unknown| format!("the option {unknown}"))
}

/// One option; none when it is not known what becomes of it.
fn set(fields: &mut Fields, element: &Element<'_>) -> Option<()> {
    match element.name {
        b"validator" => {
            if element.document()?.len() == raw::DOCUMENT_BYTES_MIN {
                fields.remove("validator");
            } else {
                fields.set("validator", element.kind, element.value);
            }
            set_validation_defaults(fields);
        }
        b"validationLevel" => {
            fields.set_text("validationLevel", element.text()?);
            set_validation_defaults(fields);
        }
        b"validationAction" => {
            fields.set_text("validationAction", element.text()?);
            set_validation_defaults(fields);
        }
        b"expireAfterSeconds" if element.text() == Some("off") => fields.remove("expireAfterSeconds"),
        b"expireAfterSeconds" => {
            let seconds = element.integer()?;
            fields.set("expireAfterSeconds", kind::INT64, &seconds.to_le_bytes());
        }
        b"recordPreImages" => set_flag(fields, "recordPreImages", element.boolean()?),
        b"changeStreamPreAndPostImages" => {
            let enabled = raw::field(element.document()?, "enabled").ok()??.boolean()?;
            fields.remove("changeStreamPreAndPostImages");
            if enabled {
                fields.set("changeStreamPreAndPostImages", element.kind, element.value);
            }
        }
        b"cappedSize" => {
            let size = element.integer().filter(|&size| size > 0)?;
            let size = size.checked_add(CAPPED_SIZE_STEP - 1)? / CAPPED_SIZE_STEP * CAPPED_SIZE_STEP;
            set_number_like_before(fields, "size", size)?;
        }
        b"cappedMax" => {
            let documents = element.integer().filter(|&documents| documents > 0)?;
            set_number_like_before(fields, "max", documents)?;
        }
        b"timeseries" => set_granularity(fields, element.document()?)?,
        _ => return None,
    }
    Some(())
}

/// Whoever changes one of the three gets the defaults of the two that have one.
fn set_validation_defaults(fields: &mut Fields) {
    for (name, default) in [("validationLevel", "strict"), ("validationAction", "error")] {
        if !fields.has(name) {
            fields.set_text(name, default);
        }
    }
}

fn set_flag(fields: &mut Fields, name: &str, on: bool) {
    if on {
        fields.set(name, kind::BOOLEAN, &[1]);
    } else {
        fields.remove(name);
    }
}

/// Servers list a number as 32 bits where it fits and was given so; only a number of the same width is set.
fn set_number_like_before(fields: &mut Fields, name: &str, number: i64) -> Option<()> {
    match fields.get(name)?.kind {
        kind::INT32 => fields.set(name, kind::INT32, &i32::try_from(number).ok()?.to_le_bytes()),
        kind::INT64 => fields.set(name, kind::INT64, &number.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

/// A coarser granularity sets the span of buckets too.
fn set_granularity(fields: &mut Fields, change: &[u8]) -> Option<()> {
    let mut elements = raw::elements(change);
    let granularity = elements.next()?.ok()?;
    if granularity.name != b"granularity" || elements.next().is_some() {
        return None;
    }
    let text = granularity.text()?;
    let (_, span) = GRANULARITIES.iter().find(|(name, _)| *name == text)?;
    let series = fields.get("timeseries").filter(|series| series.kind == kind::DOCUMENT)?;
    let mut out = Vec::new();
    let start = write::open(&mut out);
    for element in raw::elements(&series.value) {
        let element = element.ok()?;
        match element.name {
            b"granularity" => write::push(&mut out, &granularity),
            b"bucketMaxSpanSeconds" => {
                write::push_as(&mut out, kind::INT32, b"bucketMaxSpanSeconds", &span.to_le_bytes());
            }
            _ => write::push(&mut out, &element),
        }
    }
    write::close(&mut out, start);
    fields.set("timeseries", kind::DOCUMENT, &out);
    Some(())
}
