//! The documents that requests are made of: what `ebbtide openapi` prints, and the official one, with what it gets wrong mended.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    specification::{Specification, UNDOCUMENTED, mend},
    support,
};

const NAME_IN_ASCII: &str = r"^[a-zA-Z0-9\-_.(),:&@+']{1,64}$";
/// Whatever lies beyond ASCII beside it: ranges of characters mean the same to everything that reads this.
const NAME: &str = "^[a-zA-Z0-9\u{aa}-\u{10ffff} \\-_.(),:&@+']{1,64}$";

/// What the program prints.
pub fn own() -> Value {
    let output = support::program().arg("openapi").output().unwrap();
    assert!(output.status.success(), "{}", support::stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The official document, where it is at hand. What is changed, and why:
///
/// * the schemas that the contract lists as wrong are mended, as for the test of conformance;
/// * errors that Atlas gives and the document leaves out of some operations (`UNDOCUMENTED` has them, with their reasons) are
///   put in, each with its codes: any other code stays undocumented. Where there is a body, it may be wrong in any way, which
///   one page of the document leaves out;
/// * a project without a compliance policy shows none, which the document has no form for;
/// * a 204 has no body, and so no schema of one;
/// * names of projects are letters and digits of any script and blanks, as at Atlas: this form of the document narrows them to
///   those of ASCII, since few programs know the classes of Unicode.
pub fn official() -> Option<Value> {
    let mut document = Specification::document()?;
    let schemas = document.pointer_mut("/components/schemas").unwrap().as_object_mut().unwrap();
    let mut mended: BTreeMap<_, _> = std::mem::take(schemas).into_iter().collect();
    mend(&mut mended);
    *schemas = mended.into_iter().collect();
    assert!(widen_names(&mut document) > 0, "no name of a project has the pattern {NAME_IN_ASCII}");
    for operation in operations(&mut document) {
        let has_body = operation["requestBody"].is_object();
        let is_policy = operation["operationId"] == "getGroupBackupCompliancePolicy";
        let responses = operation["responses"].as_object_mut().unwrap();
        if let Some(deleted) = responses.get_mut("204").and_then(Value::as_object_mut) {
            deleted.remove("content");
        }
        if is_policy {
            for content in responses["200"]["content"].as_object_mut().unwrap().values_mut() {
                let none = json!({ "type": "object", "maxProperties": 0 });
                content["schema"] = json!({ "anyOf": [none, content["schema"]] });
            }
        }
        let statuses: BTreeSet<u16> = UNDOCUMENTED.iter().map(|(status, ..)| *status).collect();
        for status in statuses {
            let any_code = status == 400 && has_body;
            responses.entry(status.to_string()).or_insert_with(|| undocumented(status, any_code));
        }
    }
    Some(document)
}

/// How many there were.
fn widen_names(value: &mut Value) -> usize {
    match value {
        Value::Object(fields) => {
            let found = fields.get_mut("pattern").filter(|pattern| **pattern == NAME_IN_ASCII);
            let here = found.map_or(0, |pattern| {
                *pattern = NAME.into();
                1
            });
            here + fields.values_mut().map(widen_names).sum::<usize>()
        }
        Value::Array(items) => items.iter_mut().map(widen_names).sum(),
        _ => 0,
    }
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().unwrap().values_mut();
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut).filter(|o| o["operationId"].is_string())
}

fn undocumented(status: u16, any_code: bool) -> Value {
    let codes: Vec<_> =
        UNDOCUMENTED.iter().filter(|(of, ..)| *of == status).map(|(_, code, _)| *code).collect();
    let code = if any_code { json!({}) } else { json!({ "enum": codes }) };
    let narrowed = json!({ "type": "object", "properties": { "errorCode": code } });
    let schema = json!({ "allOf": [{ "$ref": "#/components/schemas/ApiError" }, narrowed] });
    json!({ "description": "Not documented.", "content": { "application/json": { "schema": schema } } })
}

/// The operations that have more than one resource version.
pub fn of_several_versions(document: &mut Value) -> Vec<String> {
    let versions = |operation: &Value| {
        let responses = operation["responses"].as_object().unwrap();
        let success = responses.iter().find(|(status, _)| status.starts_with('2'));
        success.and_then(|(_, success)| success["content"].as_object()).map_or(0, Map::len)
    };
    let several = operations(document).filter(|operation| versions(operation) > 1);
    several.map(|operation| operation["operationId"].as_str().unwrap().to_owned()).collect()
}
