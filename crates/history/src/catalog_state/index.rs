//! Specifications of indexes, as entries have them and as `listIndexes` shows them.

use super::fields::{Field, Fields};
use crate::raw::{self, Element, kind};

/// The order in which servers list the fields. Source: `list_indexes.idl` of the server.
const LISTED_ORDER: [&str; 27] = [
    "v",
    "key",
    "name",
    "background",
    "unique",
    "hidden",
    "partialFilterExpression",
    "sparse",
    "expireAfterSeconds",
    "storageEngine",
    "weights",
    "default_language",
    "language_override",
    "textIndexVersion",
    "2dsphereIndexVersion",
    "bits",
    "min",
    "max",
    "bucketSize",
    "collation",
    "wildcardProjection",
    "coarsestIndexedLevel",
    "finestIndexedLevel",
    "dropDups",
    "originalSpec",
    "clustered",
    "prepareUnique",
];
/// Listed as 32-bit integers, whatever number they were given as.
const INTEGERS: [&[u8]; 7] = [
    b"v",
    b"expireAfterSeconds",
    b"textIndexVersion",
    b"2dsphereIndexVersion",
    b"bits",
    b"coarsestIndexedLevel",
    b"finestIndexedLevel",
];
/// Listed as truths.
const TRUTHS: [&[u8]; 7] =
    [b"background", b"unique", b"hidden", b"sparse", b"dropDups", b"clustered", b"prepareUnique"];
/// Listed as floats.
const FLOATS: [&[u8]; 3] = [b"min", b"max", b"bucketSize"];

/// The specification as a server lists it; an error says why that is not known.
pub(super) fn as_listed(fields: Fields) -> Result<Vec<u8>, String> {
    let mut fields = fields;
    // Of 4.2 and older.
    fields.remove("ns");
    for field in fields.iter_mut() {
        convert(field).ok_or_else(|| format!("the index option {}", String::from_utf8_lossy(&field.name)))?;
    }
    fields.in_order(&LISTED_ORDER).map_err(|unknown| format!("the index option {unknown}"))
}

/// Gives a number or truth the type in which it is listed, where no rounding is to be guessed.
fn convert(field: &mut Field) -> Option<()> {
    let name = field.name.as_slice();
    let element = Element { kind: field.kind, name, value: &field.value };
    if INTEGERS.contains(&name) && field.kind != kind::INT32 {
        let number = i32::try_from(element.integer()?).ok()?;
        (field.kind, field.value) = (kind::INT32, number.to_le_bytes().to_vec());
    } else if TRUTHS.contains(&name) && field.kind != kind::BOOLEAN {
        let truth = element.integer()? != 0;
        (field.kind, field.value) = (kind::BOOLEAN, vec![truth.into()]);
    } else if FLOATS.contains(&name) && field.kind != kind::DOUBLE {
        let number = i32::try_from(element.integer()?).ok()?;
        (field.kind, field.value) = (kind::DOUBLE, f64::from(number).to_le_bytes().to_vec());
    }
    Some(())
}

/// Changes a listed specification as `collMod` does by its `index` document; an error says what is not known.
pub(super) fn modify(specification: &[u8], change: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = Fields::read(specification).map_err(|error| error.to_string())?;
    for element in raw::elements(change) {
        let element = element.map_err(|error| error.to_string())?;
        match (element.name, element.boolean()) {
            (b"name" | b"keyPattern", _) => {}
            (b"expireAfterSeconds", _) => fields.set("expireAfterSeconds", element.kind, element.value),
            (b"hidden", Some(true)) => fields.set("hidden", kind::BOOLEAN, &[1]),
            (b"hidden", Some(false)) => fields.remove("hidden"),
            (b"prepareUnique", Some(true)) => fields.set("prepareUnique", kind::BOOLEAN, &[1]),
            (b"prepareUnique", Some(false)) => fields.remove("prepareUnique"),
            (b"unique", Some(true)) => {
                fields.remove("prepareUnique");
                fields.set("unique", kind::BOOLEAN, &[1]);
            }
            (other, _) => return Err(format!("collMod of index.{}", String::from_utf8_lossy(other))),
        }
    }
    as_listed(fields)
}
