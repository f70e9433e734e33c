#![allow(clippy::unwrap_used)]
use std::collections::HashSet;

use super::*;

#[test]
fn every_operation_is_described_once_and_nothing_else_is() {
    let described: Vec<_> =
        GROUPS.iter().flat_map(|group| group.operations).map(|described| described.id).collect();
    let names: HashSet<_> = described.iter().copied().collect();
    assert_eq!(names.len(), described.len(), "one is described twice");
    let served: HashSet<_> = ops::atlas().chain(ops::own()).map(|operation| operation.id).collect();
    let missing: Vec<_> = served.difference(&names).collect();
    assert!(missing.is_empty(), "not described: {missing:?}");
    let unknown: Vec<_> = names.difference(&served).collect();
    assert!(unknown.is_empty(), "described, and not served: {unknown:?}");
}

#[test]
fn the_document_has_every_route_with_its_parameters_and_versions() {
    let document = document("1.2.3");
    let told = |path: &str, method: &str| document["paths"][path][method].clone();
    for served in crate::router::operations() {
        let told = told(&served.path, &served.method.as_str().to_ascii_lowercase());
        assert_eq!(told["operationId"], served.id);
        let parameters = told["parameters"].as_array().unwrap();
        for name in names_in(&served.path) {
            assert!(
                parameters.iter().any(|p| p["name"] == name && p["in"] == "path"),
                "{}: {name}",
                served.id
            );
        }
    }
    let restore = told(
        "/api/atlas/v2/groups/{groupId}/clusters/{clusterName}/backup/restoreJobs/{restoreJobId}",
        "delete",
    );
    assert!(restore["responses"]["204"]["content"]["application/vnd.atlas.2023-01-01+json"].is_object());
    let own = told("/api/ebbtide/v1/status", "get");
    assert!(own["responses"]["200"]["content"]["application/json"].is_object());
    let operations: usize =
        document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!(operations, crate::router::operations().count() + 2, "and the two of OAuth");
}

#[test]
fn references_within_the_document_lead_somewhere() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                Value::String(to) if name == "$ref" => found.push(to),
                value => walk(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let document = document("1");
    let mut found = Vec::new();
    walk(&document, &mut found);
    assert!(found.len() > 100);
    for to in found {
        assert!(document.pointer(to.strip_prefix('#').unwrap()).is_some(), "{to}");
    }
}

#[test]
fn what_is_sent_is_told_and_with_which_status_it_succeeds() {
    let document = document("1");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, told) in item.as_object().unwrap() {
            let sends = ["post", "patch", "put"].contains(&method.as_str());
            assert_eq!(told["requestBody"]["content"].is_object(), sends, "{method} {path}");
            let statuses: Vec<&str> =
                told["responses"].as_object().unwrap().keys().map(String::as_str).collect();
            assert!(statuses.contains(&"default") && statuses.len() > 1, "{method} {path}: {statuses:?}");
            let nothing = &told["responses"]["204"]["content"];
            assert!(
                nothing.is_null() || !nothing.to_string().contains("schema"),
                "{method} {path}: {nothing}"
            );
        }
    }
    let names = |path: &str, method: &str| -> Vec<String> {
        let parameters = document["paths"][path][method]["parameters"].as_array().unwrap().iter();
        parameters.filter_map(|parameter| parameter["name"].as_str()).map(str::to_owned).collect()
    };
    let snapshots = "/api/atlas/v2/groups/{groupId}/clusters/{clusterName}/backup/snapshots";
    assert!(names(snapshots, "get").contains(&"pageNum".to_owned()));
    assert!(!names(snapshots, "post").contains(&"pageNum".to_owned()));
    let document_of = "/api/ebbtide/v1/groups/{groupId}/clusters/{clusterName}/document";
    assert_eq!(names(document_of, "get")[2..], ["namespace", "id", "at", "relaxed", "bson"]);
    let revoked = &document["paths"]["/api/oauth/revoke"]["post"]["responses"];
    assert!(revoked["200"]["content"].is_null(), "{revoked}");
    assert_eq!(revoked["default"]["$ref"], "#/components/responses/oauthError");
}
