//! What the whole run has left in the audit log.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use super::{client::Ask, refusals::ONLY_REFUSED, world::World};

/// It succeeds, and what it can be told is what holds anyway.
const CHANGES_NOTHING: &str = "updateGroupBackupExportBucket";

/// Every operation that changes something has left a line that says so, and every one has left one of a refusal.
pub async fn tells_of_every_change(world: &World) {
    let mut lines: Vec<Value> = Vec::new();
    for page in 1.. {
        let target = format!("/api/ebbtide/v1/audit?itemsPerPage=500&pageNum={page}");
        let answer =
            world.checker.ok(world.organization("digest"), Ask::new(Method::GET, &target), 200).await;
        let results = answer["results"].as_array().unwrap();
        if results.is_empty() {
            break;
        }
        lines.extend(results.iter().cloned());
    }
    let with = |outcome: &str| -> BTreeSet<&str> {
        let fitting = lines.iter().filter(|line| line["outcome"] == outcome);
        fitting.map(|line| line["operation"].as_str().unwrap()).collect()
    };
    let (changed, unchanged) = (with("ok"), with("unchanged"));
    for operation in world.checker.operations() {
        if operation.method == Method::GET || ONLY_REFUSED.contains(&operation.id) {
            continue;
        }
        let kept = if operation.id == CHANGES_NOTHING { &unchanged } else { &changed };
        assert!(kept.contains(operation.id), "no change by {} is in the audit log", operation.id);
    }
    for line in lines.iter().filter(|line| line["operation"].as_str().unwrap().starts_with("admin ")) {
        assert!(line["who"].as_str().unwrap().starts_with("admin ("), "{line}");
    }
    assert!(with("ok").contains("admin create-key") && !with("refused").is_empty());
    let known = ["ok", "unchanged", "refused", "failed"];
    let others: Vec<_> =
        lines.iter().filter(|line| !known.contains(&line["outcome"].as_str().unwrap())).collect();
    assert!(others.is_empty(), "{others:?}");
    world.check_no_secret(&format!("{lines:?}"));
}
