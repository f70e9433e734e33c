//! The contract, driven over HTTP against the real program and a real mongod: every operation by digest and by OAuth,
//! each answer against the OpenAPI document of Atlas, when that is at hand.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

mod support;
mod conformance {
    pub mod audit;
    pub mod checker;
    pub mod client;
    pub mod collections;
    pub mod compliance;
    pub mod credentials;
    pub mod exports;
    pub mod flex;
    pub mod legacy;
    pub mod life;
    pub mod refusals;
    pub mod schedule;
    pub mod specification;
    pub mod world;
}

use conformance::{audit, life, refusals, specification::Specification, world::World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_does_what_the_contract_says() {
    let mut world = World::build().await;
    for name in ["digest", "oauth"] {
        life::from_snapshot_to_restore(&mut world, name).await;
        let neglected = world.checker.take_neglected();
        let only_refused = refusals::ONLY_REFUSED;
        let missing: Vec<_> = neglected.iter().filter(|id| !only_refused.contains(id)).collect();
        assert!(missing.is_empty(), "never seen to succeed by {name}: {missing:?}");
        refusals::of_every_operation(&world, name).await;
    }
    audit::tells_of_every_change(&world).await;
    let deviations = world.checker.deviations();
    assert!(deviations.is_empty(), "{} answers are wrong:\n{}", deviations.len(), deviations.join("\n\n"));
    world.ebbtide.stop();
    world.check_log();
}

/// What a server of one's own does not have answers with an error that says so; nothing is simply not there.
#[test]
fn every_operation_of_backups_is_served() {
    const TAGS: [&str; 4] = ["Cloud Backups", "Legacy Backup", "Flex Snapshots", "Flex Restore Jobs"];
    let Some(specification) = Specification::find() else {
        return eprintln!("SKIPPED: the OpenAPI document of Atlas is not at hand");
    };
    let served: Vec<_> = api::operations().map(|served| served.id).collect();
    let documented = specification.tagged(&TAGS);
    assert!(documented.len() > 60, "{documented:?}");
    let missing: Vec<_> = documented.iter().filter(|id| !served.contains(&id.as_str())).collect();
    assert!(missing.is_empty(), "not served: {missing:?}");
}

/// A validator that takes everything would prove nothing.
#[test]
fn the_document_of_atlas_tells_good_from_bad() {
    let Some(specification) = Specification::find() else { return };
    let path = "/api/atlas/v2/groups/{groupId}/clusters/{clusterName}/backup/restoreJobs";
    let operation = specification.operation("GET", path).unwrap();
    let check = |field: &str, value: serde_json::Value| {
        let link = json!({"href": "http://h/", "rel": "self"});
        let job = json!({"deliveryType": "download", "deliveryUrl": [], "failed": false});
        let mut page = json!({"links": [link], "results": [job], "totalCount": 1});
        let (parent, name) = field.rsplit_once('/').unwrap();
        page.pointer_mut(parent).unwrap()[name] = value;
        operation.check(200, None, "application/vnd.atlas.2023-01-01+json", Some(&page))
    };
    check("/results/0/finishedAt", json!("2026-01-02T03:04:05Z")).unwrap();
    for (field, wrong) in [
        ("/results/0/finishedAt", json!("yesterday")),
        ("/results/0/finishedAt", json!(null)),
        ("/results/0/deliveryType", json!("pigeon")),
        ("/results/0/snapshotId", json!("xyz")),
        ("/results/0/status", json!("done")),
        ("/links/0/title", json!("self")),
        ("/count", json!(1)),
        ("/results", json!({})),
    ] {
        assert!(check(field, wrong.clone()).is_err(), "{field}: {wrong} is taken");
    }
    let error = json!({"error": 404, "errorCode": "X", "parameters": []});
    operation.check(404, Some("X"), "application/json", Some(&error)).unwrap();
    assert!(operation.check(418, Some("X"), "application/json", Some(&error)).is_err());
    assert!(operation.check(200, None, "application/json", Some(&json!({"results": []}))).is_err());
}
