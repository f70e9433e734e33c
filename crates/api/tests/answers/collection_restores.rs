//! Collection restore jobs: what is asked for and answered, and how what a worker tells is shown. The worker is played.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::{Lease, Outcome, RestoredCollection};
use common::{
    App, Request,
    recorder::{Recorder, second},
};
use model::{DeploymentKind, collection_restore::CollectionStep, restore::RestoreState, role::Role};
use serde_json::{Value, json};

fn jobs(app: &App) -> String {
    app.group("/clusters/c1/collectionRestoreJobs")
}

fn body(app: &App, snapshot: &catalog::Snapshot) -> Value {
    json!({
        "snapshotId": snapshot.id.to_string(), "targetClusterName": "c1",
        "targetGroupId": app.project.id.to_string(), "indexStrategy": "ALL", "writeStrategy": "CREATE_NEW",
        "databases": [{"sourceNamespace": "bank"}],
        "collections": [{"sourceNamespace": "shop.orders", "targetNamespace": "shop.old"}],
    })
}

fn with(mut body: Value, changes: Value) -> Value {
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

fn line(ordinal: u64, source: &str, target: &str, step: CollectionStep) -> RestoredCollection {
    RestoredCollection {
        ordinal,
        source: source.to_owned(),
        target: target.to_owned(),
        effective_target: format!("{target}_restored"),
        step,
        documents_total: 100,
        documents_done: if step == CollectionStep::Waiting { 0 } else { 40 },
        error: None,
    }
}

async fn tell(app: &App, lease: &Lease, lines: &[RestoredCollection]) {
    app.catalog.restores().begin_collections(lease, lines).await.unwrap();
}

/// A job that is running, of which the worker has told this.
async fn running(app: &App, changes: Value, lines: &[RestoredCollection]) -> (String, Lease) {
    let snapshot = app.snapshot().await;
    let made = app.post(&jobs(app), with(body(app, &snapshot), changes)).await.expect(201);
    let lease = app.claim(&["restore"]).await;
    tell(app, &lease, lines).await;
    (format!("{}/{}", jobs(app), made["id"].as_str().unwrap()), lease)
}

fn states(page: &Value) -> Vec<(&str, &str)> {
    let results = page["results"].as_array().unwrap();
    results
        .iter()
        .map(|line| (line["sourceNamespace"].as_str().unwrap(), line["state"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_job_is_made_shown_and_listed_with_its_kind() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let answer = app.post(&jobs(&app), body(&app, &snapshot)).await;
    let made = answer.expect(201);
    assert_eq!(answer.header("content-type"), Some("application/vnd.atlas.2025-03-12+json;charset=utf-8"));
    let expected = json!({
        "collections": [{"sourceNamespace": "shop.orders", "targetNamespace": "shop.old"}],
        "createdAt": "2025-11-22T00:00:00Z",
        "databases": [{"sourceNamespace": "bank"}],
        "id": made["id"],
        "indexStatus": {"failedCollectionCount": 0, "state": "NOT_STARTED"},
        "indexStrategy": "ALL",
        "restoredDocuments": 0,
        "snapshotId": snapshot.id.to_string(),
        "state": "INITIALIZING",
        "targetClusterName": "c1",
        "targetGroupId": app.project.id.to_string(),
        "totalDocuments": 0,
        "writeStrategy": "CREATE_NEW",
    });
    assert_eq!(made, expected);
    let id = made["id"].as_str().unwrap();
    let one = format!("{}/{id}", jobs(&app));
    assert_eq!(app.get(&one).await.expect(200), made);
    assert_eq!(app.get(&format!("{one}/collections")).await.expect(200)["results"], json!([]));
    let page = app.get(&jobs(&app)).await.expect(200);
    assert_eq!((&page["results"], &page["totalCount"]), (&json!([made]), &json!(1)));

    // Each kind is listed with its own; Ebbtide's own paths show both.
    let restores = app.backup("/restoreJobs");
    assert_eq!(app.get(&restores).await.expect(200)["totalCount"], 0);
    assert_eq!(app.get(&app.group("/clusters/c1/restoreJobs")).await.expect(200)["totalCount"], 0);
    app.get(&format!("{restores}/{id}")).await.refused(404, "RESTORE_JOB_NOT_FOUND");
    app.delete(&format!("{restores}/{id}")).await.refused(404, "RESTORE_JOB_NOT_FOUND");
    let own = app.own(&format!("/clusters/c1/restoreJobs/{id}"));
    let shown = app.get(&own).await.expect(200);
    assert_eq!(shown["resource"], "collectionRestoreJob", "{shown}");
    assert_eq!(shown["options"]["collectionRestore"]["writeStrategy"], "CREATE_NEW", "{shown}");
    assert_eq!(app.get(&app.own("/clusters/c1/restoreJobs")).await.expect(200)["totalCount"], 1);
    app.post(&jobs(&app), body(&app, &snapshot)).await.refused(409, "ATLAS_CLUSTER_RESTORE_IN_PROGRESS");
    assert_eq!(app.delete(&own).await.status, 204);
    let canceled = app.get(&one).await.expect(200);
    assert_eq!(canceled["state"], "CANCELED");
    assert!(canceled["finishedAt"].is_string(), "{canceled}");
    let whole = json!({
        "deliveryType": "automated", "snapshotId": snapshot.id.to_string(), "targetClusterName": "c1",
        "targetGroupId": app.project.id.to_string(),
    });
    let whole = app.post(&restores, whole).await.expect(200);
    let other = format!("{}/{}", jobs(&app), whole["id"].as_str().unwrap());
    app.get(&other).await.refused(404, "RESTORE_JOB_NOT_FOUND");
    app.get(&format!("{other}/collections")).await.refused(404, "RESTORE_JOB_NOT_FOUND");
    assert_eq!(app.get(&jobs(&app)).await.expect(200)["totalCount"], 1);
    app.stop().await;
}

#[tokio::test]
async fn a_point_in_time_is_answered_as_it_was_asked_for() {
    let app = App::start().await;
    app.pass_seconds(600);
    let mut recorder = Recorder::start(&app, &app.cluster, second(5, 1)).await;
    recorder.record(&app, second(600, 1)).await;
    let snapshot = app.snapshot_as_of(&app.cluster, second(10, 2)).await;
    let at = second(200, 7);
    for fields in [
        json!({"pointInTimeUtcSeconds": at.seconds}),
        json!({"oplogTs": at.seconds, "oplogInc": at.increment}),
    ] {
        let asked = with(with(body(&app, &snapshot), json!({"snapshotId": null})), fields.clone());
        let made = app.post(&jobs(&app), asked).await.expect(201);
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(&made[name], value, "{made}");
        }
        assert!(made.get("snapshotId").is_none() && made.get("desiredTimestamp").is_none(), "{made}");
        let own = app.own(&format!("/clusters/c1/restoreJobs/{}", made["id"].as_str().unwrap()));
        assert_eq!(app.get(&own).await.expect(200)["deliveryType"], "pointInTime");
        assert_eq!(app.delete(&own).await.status, 204);
    }
    let late = json!({"snapshotId": null, "pointInTimeUtcSeconds": second(5_000, 0).seconds});
    app.post(&jobs(&app), with(body(&app, &snapshot), late)).await.refused(400, "INVALID_PIT_RESTORE_TIME");
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let unknown = "f".repeat(24);
    let names =
        |texts: &[&str]| -> Value { texts.iter().map(|text| json!({"sourceNamespace": text})).collect() };
    let many: Vec<String> = (0..101).map(|n| format!("shop.c{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    app.add("c2", DeploymentKind::Serverless).await;
    for (changes, status, code, why) in [
        (json!({"collections": names(&many)}), 400, "INVALID_ATTRIBUTE", "100 are the most"),
        (json!({"databases": names(&["admin"])}), 400, "INVALID_ATTRIBUTE", "belong to the server"),
        (
            json!({"collections": names(&["shop.system.js"])}),
            400,
            "INVALID_ATTRIBUTE",
            "belong to the server",
        ),
        (json!({"collections": names(&["bank.log"])}), 400, "INVALID_ATTRIBUTE", "as a whole"),
        (json!({"collections": [], "databases": []}), 400, "MISSING_ONE_OF_ATTRIBUTES", "databases"),
        (json!({"pointInTimeUtcSeconds": 1_700_000_000}), 400, "VALIDATION_ERROR", "give one of them"),
        (json!({"indexStrategy": "SOME"}), 400, "INVALID_ENUM_VALUE", "SOME"),
        (json!({"snapshotId": unknown}), 404, "SNAPSHOT_NOT_FOUND", ""),
        (json!({"targetClusterName": "nobody"}), 404, "CLUSTER_NOT_FOUND", ""),
        (json!({"targetClusterName": "c2"}), 400, "PROVIDER_BACKUP_NOT_SUPPORTED", ""),
        (json!({"deliveryType": "automated"}), 400, "INVALID_ATTRIBUTE", "deliveryType"),
    ] {
        let refused = app.post(&jobs(&app), with(body(&app, &snapshot), changes.clone())).await;
        let refused = refused.refused(status, code);
        assert!(refused["detail"].as_str().unwrap().contains(why), "{changes}: {refused}");
    }
    let most: Vec<String> = (0..100).map(|n| format!("{}{n}", "d".repeat(60))).collect();
    let renamed = |name: &String| json!({"sourceNamespace": name, "targetNamespace": format!("{name}x")});
    let databases: Vec<Value> = most.iter().map(renamed).collect();
    let long = "c".repeat(180);
    let collection = |n| json!({"sourceNamespace": format!("shop.{long}{n}"), "targetNamespace": format!("shop.{long}{n}_old")});
    let collections: Vec<Value> = (0..100).map(collection).collect();
    let largest = json!({"databases": databases, "collections": collections});
    let made = app.post(&jobs(&app), with(body(&app, &snapshot), largest)).await.expect(201);
    assert_eq!(made["collections"].as_array().unwrap().len(), 100);
    assert_eq!(app.get(&jobs(&app)).await.expect(200)["totalCount"], 1, "what was refused made no job");
    app.stop().await;
}

#[tokio::test]
async fn who_may_restore_may_on_both_sides() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let other = app.catalog.projects().create("p2", app.now()).await.unwrap();
    common::deployment(&app.catalog, &other, "theirs", DeploymentKind::ReplicaSet).await;
    let into_other = json!({"targetGroupId": other.id.to_string(), "targetClusterName": "theirs"});
    let post = |changes: &Value| {
        Request::new("POST", &jobs(&app)).json(&with(body(&app, &snapshot), changes.clone()))
    };
    for role in [Role::GroupReadOnly, Role::GroupBackupCreator, Role::GroupBackupExportOperator] {
        let key = app.key(&[role]).await;
        app.send(&key, post(&json!({}))).await.refused(403, "ACCESS_FORBIDDEN");
    }
    let operator = app.key(&[Role::GroupBackupRecoveryOperator]).await;
    app.send(&operator, post(&into_other)).await.refused(403, "CANNOT_RESTORE_TO_TARGET");
    let made = app.send(&operator, post(&json!({}))).await.expect(201);
    let one = format!("{}/{}", jobs(&app), made["id"].as_str().unwrap());
    for (role, status) in [
        (Role::GroupBackupManager, 200),
        (Role::GroupBackupRecoveryOperator, 200),
        (Role::GroupReadOnly, 403),
    ] {
        let key = app.key(&[role]).await;
        for target in [jobs(&app), one.clone(), format!("{one}/collections")] {
            assert_eq!(
                app.send(&key, Request::new("GET", &target)).await.status,
                status,
                "{role:?} {target}"
            );
        }
    }
    let older = Request::new("GET", &one).header("Accept", "application/vnd.atlas.2024-11-13+json");
    app.send(&app.owner, older).await.refused(406, "INVALID_VERSION_DATE");
    app.stop().await;
}

#[tokio::test]
async fn each_collection_is_shown_as_far_as_it_is() {
    let app = App::start().await;
    let lines = [
        line(0, "bank.ledger", "bank.ledger", CollectionStep::Indexing),
        line(1, "bank.log", "bank.log", CollectionStep::Waiting),
        RestoredCollection {
            documents_total: 0,
            documents_done: 0,
            ..line(2, "bank.recent", "bank.recent", CollectionStep::Unsupported)
        },
        line(3, "shop.orders/x y", "shop.old", CollectionStep::Loading),
    ];
    let (one, lease) = running(&app, json!({}), &lines).await;
    let job = app.get(&one).await.expect(200);
    assert_eq!(
        (&job["state"], &job["totalDocuments"], &job["restoredDocuments"]),
        (&json!("IN_PROGRESS"), &json!(300), &json!(80))
    );
    assert_eq!(job["indexStatus"], json!({"failedCollectionCount": 0, "state": "IN_PROGRESS"}));
    assert_eq!(app.get(&jobs(&app)).await.expect(200)["results"], json!([job]));
    let collections = format!("{one}/collections");
    let page = app.get(&collections).await.expect(200);
    assert_eq!(
        states(&page),
        [
            ("bank.ledger", "IN_PROGRESS"),
            ("bank.log", "NOT_STARTED"),
            ("bank.recent", "UNSUPPORTED"),
            ("shop.orders/x y", "IN_PROGRESS")
        ]
    );
    assert_eq!(page["totalCount"], 4);
    assert_eq!(
        page["results"][0],
        json!({
            "effectiveTargetNamespace": "bank.ledger_restored", "indexStatus": {"state": "IN_PROGRESS"},
            "restoredDocuments": 40, "sourceNamespace": "bank.ledger", "state": "IN_PROGRESS",
            "targetNamespace": "bank.ledger", "totalDocuments": 100,
        })
    );
    assert!(page["results"][2].get("effectiveTargetNamespace").is_none(), "it goes nowhere: {page}");
    for (query, expected) in [
        ("?state=IN_PROGRESS", vec!["bank.ledger", "shop.orders/x y"]),
        ("?state=UNSUPPORTED", vec!["bank.recent"]),
        ("?state=SUCCESSFUL", vec![]),
        ("?sourceNamespace=bank.log", vec!["bank.log"]),
        ("?targetNamespace=shop.old", vec!["shop.orders/x y"]),
        ("?targetNamespace=shop.old&state=NOT_STARTED", vec![]),
        ("?itemsPerPage=1&pageNum=2", vec!["bank.log"]),
    ] {
        let page = app.get(&format!("{collections}{query}")).await.expect(200);
        let sources: Vec<_> = states(&page).into_iter().map(|(source, _)| source).collect();
        assert_eq!(sources, expected, "{query}");
    }
    for bad in ["state=DONE", "state=", "state=in_progress"] {
        app.get(&format!("{collections}?{bad}")).await.refused(400, "INVALID_QUERY_PARAMETER");
    }
    let found = app.get(&format!("{collections}/shop.orders%2Fx%20y")).await.expect(200);
    assert_eq!(found, page["results"][3]);
    app.get(&format!("{collections}/shop.nothing")).await.refused(404, "COLLECTION_NOT_FOUND");

    // The cut-over, and the end.
    let staged: Vec<_> = lines
        .iter()
        .cloned()
        .map(|line| {
            let step = if line.step.is_restored() { CollectionStep::Staged } else { line.step };
            RestoredCollection { step, documents_done: line.documents_total, ..line }
        })
        .collect();
    tell(&app, &lease, &staged).await;
    assert!(app.catalog.restores().begin_cut_over(&lease, app.now()).await.unwrap());
    let job = app.get(&one).await.expect(200);
    assert_eq!((&job["state"], &job["indexStatus"]["state"]), (&json!("FINALIZING"), &json!("SUCCESSFUL")));
    let page = app.get(&format!("{collections}?state=FINALIZING")).await.expect(200);
    assert_eq!(page["totalCount"], 3);
    let outcome = Outcome::RestoreFinished { receipt: json!({}) };
    app.catalog.jobs().finish(&lease, outcome, app.now()).await.unwrap();
    let job = app.get(&one).await.expect(200);
    assert_eq!((&job["state"], &job["restoredDocuments"]), (&json!("SUCCESSFUL"), &json!(300)));
    assert_eq!(job["finishedAt"], "2025-11-22T00:00:00Z");
    let page = app.get(&format!("{collections}?state=SUCCESSFUL")).await.expect(200);
    assert_eq!(page["totalCount"], 3);
    app.stop().await;
}

#[tokio::test]
async fn a_job_that_fails_says_of_which_collection_and_of_the_others_that_they_were_not_restored() {
    let app = App::start().await;
    let lines = [
        line(0, "bank.ledger", "bank.ledger", CollectionStep::Staged),
        RestoredCollection {
            error: Some("a duplicate key".to_owned()),
            ..line(1, "bank.log", "bank.log", CollectionStep::IndexesFailed)
        },
        line(2, "bank.other", "bank.other", CollectionStep::Waiting),
    ];
    let (one, lease) = running(&app, json!({"indexStrategy": "ALL_EXCEPT_TTL"}), &lines).await;
    let outcome = Outcome::Failed { error: "the indexes of bank.log cannot be built".to_owned() };
    app.catalog.jobs().finish(&lease, outcome, app.now()).await.unwrap();
    let job = app.get(&one).await.expect(200);
    assert_eq!((&job["state"], &job["restoredDocuments"]), (&json!("FAILED"), &json!(0)));
    assert_eq!(job["errorMessage"], "the indexes of bank.log cannot be built");
    assert_eq!(job["indexStatus"], json!({"failedCollectionCount": 1, "state": "FAILED"}));
    let page = app.get(&format!("{one}/collections")).await.expect(200);
    assert_eq!(
        states(&page),
        [("bank.ledger", "NOT_RESTORED"), ("bank.log", "INDEX_BUILD_FAILED"), ("bank.other", "NOT_RESTORED")]
    );
    assert_eq!(
        page["results"][1]["indexStatus"],
        json!({"errorMessage": "a duplicate key", "state": "FAILED"})
    );
    assert!(page["results"].as_array().unwrap().iter().all(|line| line["restoredDocuments"] == 0), "{page}");
    app.stop().await;
}

#[tokio::test]
async fn a_cancel_is_seen_until_nobody_writes_any_more() {
    let app = App::start().await;
    let lines = [
        line(0, "bank.ledger", "bank.ledger", CollectionStep::Loading),
        line(1, "bank.log", "bank.log", CollectionStep::Waiting),
    ];
    let (one, lease) = running(&app, json!({"indexStrategy": "NONE"}), &lines).await;
    assert_eq!(app.get(&one).await.expect(200)["indexStatus"]["state"], "NOT_RESTORED", "none are wanted");
    let id = one.rsplit('/').next().unwrap();
    assert_eq!(app.delete(&app.own(&format!("/clusters/c1/restoreJobs/{id}"))).await.status, 204);
    let page = app.get(&format!("{one}/collections")).await.expect(200);
    assert_eq!(states(&page), [("bank.ledger", "ROLLBACK"), ("bank.log", "NOT_RESTORED")]);
    assert_eq!(app.get(&one).await.expect(200)["state"], "IN_PROGRESS");
    app.catalog.jobs().finish(&lease, Outcome::Cancelled, app.now()).await.unwrap();
    let job = app.get(&one).await.expect(200);
    assert_eq!((&job["state"], &job["restoredDocuments"]), (&json!("CANCELED"), &json!(0)));
    let page = app.get(&format!("{one}/collections?state=NOT_RESTORED")).await.expect(200);
    assert_eq!(page["totalCount"], 2);
    let stored = app.catalog.restores().get(id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored.state, RestoreState::Cancelled);
    app.stop().await;
}
