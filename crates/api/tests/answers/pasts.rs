//! Questions about the past: who may ask, what is asked of whom, and how answers and refusals are told. The answers
//! themselves are played; what is recorded is entered into the catalog.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::time::{Duration, Instant};

use api::PastError;
use base64::{Engine, engine::general_purpose::STANDARD};
use common::{
    ACCEPT, App, Request,
    http::{self, Connection},
    past::{BSON, DOCUMENT},
    recorder::{Recorder, second},
};
use ebbtide_api as api;
use model::{ClusterTime, ContinuousBackup, RestoreWindowDays, role::Role, timeline::TimelineEnd};
use serde_json::{Value, json};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// Recorded from second 5 to second 600, with snapshots of the seconds 10 and 100; it is second 600.
async fn recorded(app: &App) -> (Recorder, [catalog::Snapshot; 2]) {
    app.pass_seconds(600);
    let mut recorder = Recorder::start(app, &app.cluster, second(5, 1)).await;
    recorder.record(app, second(50, 1)).await;
    recorder.record(app, second(600, 1)).await;
    let first = app.snapshot_as_of(&app.cluster, second(10, 2)).await;
    let last = app.snapshot_as_of(&app.cluster, second(100, 3)).await;
    (recorder, [first, last])
}

fn document(app: &App, query: &str) -> String {
    app.own(&format!("/clusters/c1/document?{query}"))
}

fn versions(app: &App, query: &str) -> String {
    app.own(&format!("/clusters/c1/document/versions?{query}"))
}

fn difference(app: &App, query: &str) -> String {
    app.own(&format!("/clusters/c1/diff?{query}"))
}

fn time(seconds: u32, increment: u32, date: &str) -> Value {
    json!({"date": date, "increment": increment, "seconds": second(seconds, 0).seconds})
}

/// A time as a query has it.
fn typed(time: ClusterTime) -> String {
    if time.increment == 0 {
        time.seconds.to_string()
    } else {
        format!("{},{}", time.seconds, time.increment)
    }
}

#[tokio::test]
async fn a_document_is_asked_of_the_snapshot_before_its_time_and_keeps_its_order() {
    let app = App::start().await;
    let (recorder, [first, last]) = recorded(&app).await;
    for (at, time, base) in [
        (typed(second(200, 4)), second(200, 4), &last),
        (typed(second(100, 0)), second(100, 0), &first),
        ("2025-11-22T00:01:41Z".to_owned(), second(101, 0), &last),
        ("2025-11-22T01:01:41%2B01:00".to_owned(), second(101, 0), &last),
    ] {
        let path = document(&app, &format!("namespace=shop.items&id=%7B%22a%22:1%7D&at={at}&relaxed=true"));
        let response = app.get(&path).await;
        let text = response.text();
        let answer = response.expect(200);
        // Written as it was given: a JSON value would sort the fields and lose one.
        assert!(text.contains(&format!(r#""document":{DOCUMENT},"#)), "{text}");
        assert_eq!(answer["at"]["seconds"], time.seconds, "{at}");
        assert_eq!((&answer["id"], &answer["namespace"]), (&json!({"a": 1}), &json!("shop.items")));
        assert_eq!((&answer["clusterName"], answer.get("bson")), (&json!("c1"), None));
        assert_eq!(answer["snapshotId"], base.id.to_string(), "{at}");
        assert_eq!(answer["timelineId"], recorder.timeline().to_string());
        let asked = app.past.documents.lock().unwrap().pop().unwrap();
        assert_eq!((asked.at, asked.snapshot.id, asked.timeline.id), (time, base.id, recorder.timeline()));
        assert_eq!((asked.namespace.as_str(), asked.id.as_str()), ("shop.items", "{\"a\":1}"));
        assert!(asked.relaxed);
    }
    let path = document(
        &app,
        &format!("namespace=shop.items&id=5&at={}&bson=true&envelope=true", typed(second(200, 0))),
    );
    let answer = app.get(&path).await.expect(200);
    assert_eq!((&answer["status"], &answer["content"]["bson"]), (&json!(200), &json!(STANDARD.encode(BSON))));
    assert!(!app.past.documents.lock().unwrap().pop().unwrap().relaxed);
    app.stop().await;
}

#[tokio::test]
async fn what_is_not_understood_is_refused_before_anybody_looks() {
    let app = App::start().await;
    recorded(&app).await;
    let at = typed(second(200, 0));
    for (query, code) in [
        (format!("id=5&at={at}"), "MISSING_QUERY_PARAMETER"),
        (format!("namespace=a.b&at={at}"), "MISSING_QUERY_PARAMETER"),
        (format!("namespace=a.b&id=&at={at}"), "MISSING_QUERY_PARAMETER"),
        ("namespace=a.b&id=5".to_owned(), "MISSING_QUERY_PARAMETER"),
        ("namespace=a.b&id=5&at=yesterday".to_owned(), "INVALID_QUERY_PARAMETER"),
        ("namespace=a.b&id=5&at=1767323045,0".to_owned(), "INVALID_QUERY_PARAMETER"),
        (format!("namespace=a.b&id=5&at={at}&relaxed=maybe"), "INVALID_QUERY_PARAMETER"),
        (format!("namespace=a.b&id=5&at={at}&bson=1"), "INVALID_QUERY_PARAMETER"),
    ] {
        app.get(&document(&app, &query)).await.refused(400, code);
    }
    let told = app.get(&document(&app, "namespace=a.b&id=5&at=yesterday")).await.expect(400);
    assert!(told["detail"].as_str().unwrap().contains("SECONDS,INCREMENT"), "{told}");
    for query in ["limit=0", "limit=1001", "limit=x", "documents=1", "from=x", "from=200&to=100"] {
        let path = versions(&app, &format!("namespace=a.b&id=5&{query}"));
        app.get(&path).await.refused(400, "INVALID_QUERY_PARAMETER");
    }
    let (from, to) = (typed(second(100, 0)), typed(second(200, 0)));
    for (query, code) in [
        (format!("from={from}&to={to}"), "MISSING_QUERY_PARAMETER"),
        (format!("namespace=a.b&from={from}"), "MISSING_QUERY_PARAMETER"),
        (format!("namespace=a.b&to={to}"), "MISSING_QUERY_PARAMETER"),
        (format!("namespace=a.b&from={to}&to={from}"), "INVALID_QUERY_PARAMETER"),
        (format!("namespace=a.b&from={from}&to={to}&limit=0"), "INVALID_QUERY_PARAMETER"),
    ] {
        app.get(&difference(&app, &query)).await.refused(400, code);
    }
    assert!(app.past.documents.lock().unwrap().is_empty() && app.past.versions.lock().unwrap().is_empty());
    assert!(app.past.differences.lock().unwrap().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn each_reason_for_no_answer_has_a_code_of_its_own() {
    let app = App::start().await;
    recorded(&app).await;
    let at = typed(second(200, 0));
    let path = document(&app, &format!("namespace=shop.items&id=5&at={at}"));
    for (refusal, status, code, said) in [
        (PastError::Id("\"x\" is no _id: why".into()), 400, "INVALID_DOCUMENT_ID", "is no _id: why."),
        (PastError::Namespace("why".into()), 400, "INVALID_QUERY_PARAMETER", "namespace"),
        (PastError::NotSearchable("it is capped".into()), 400, "COLLECTION_NOT_SEARCHABLE", "It is capped."),
        (
            PastError::NoCollection,
            404,
            "COLLECTION_NOT_FOUND",
            "No collection shop.items existed in cluster c1 at ",
        ),
        (
            PastError::NoDocument,
            404,
            "DOCUMENT_NOT_FOUND",
            "No document with the _id 5 existed in shop.items at ",
        ),
        (PastError::Unknown("an entry is odd".into()), 409, "STATE_NOT_KNOWN", "An entry is odd."),
        (PastError::Busy, 503, "SERVICE_UNAVAILABLE", "try again"),
        (PastError::Failed("the secret reason".into()), 500, "UNEXPECTED_ERROR", "Unexpected error."),
    ] {
        *app.past.refusal.lock().unwrap() = Some(refusal);
        let answer = app.get(&path).await.refused(status, code);
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(said) && !detail.contains("secret"), "{detail}");
    }
    app.get(&path.replace("/c1/", "/zz/")).await.refused(404, "CLUSTER_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn times_that_cannot_be_restored_cannot_be_looked_at_either() {
    let app = App::start().await;
    let at = |time| typed(time);
    let asked_at = |time| format!("namespace=a.b&id=5&at={}", at(time));
    let nothing =
        app.get(&document(&app, &asked_at(second(10, 0)))).await.refused(400, "INVALID_PIT_RESTORE_TIME");
    assert!(nothing["detail"].as_str().unwrap().contains("nothing is recorded"), "{nothing}");
    app.get(&versions(&app, "namespace=a.b&id=5")).await.refused(400, "INVALID_PIT_RESTORE_TIME");
    let (mut recorder, _) = recorded(&app).await;
    for (time, status, code) in [
        (second(9, 0), 404, "UNABLE_T0_FIND_SNAPSHOT_PRIOR_TO_PIT_RESTORE_OPTIME"),
        // A restore would wait for it; who looks is told how far the record is.
        (second(600, 2), 400, "INVALID_PIT_RESTORE_TIME"),
        (second(700, 0), 400, "INVALID_PIT_RESTORE_TIME"),
    ] {
        let told = app.get(&document(&app, &asked_at(time))).await.refused(status, code);
        assert!(told["detail"].as_str().unwrap().contains("What can be restored"), "{told}");
    }
    recorder.end(&app, TimelineEnd::RolledOver, "the oplog was too small").await;
    app.pass_seconds(10);
    recorder.begin_anew(&app, second(605, 1)).await;
    recorder.record(&app, second(610, 1)).await;
    app.snapshot_as_of(&app.cluster, second(606, 1)).await;
    let across = format!("namespace=a.b&from={}&to={}", at(second(200, 0)), at(second(610, 0)));
    let told = app.get(&difference(&app, &across)).await.refused(409, "STATE_NOT_KNOWN");
    assert!(told["detail"].as_str().unwrap().contains("not recorded"), "{told}");
    app.get(&difference(&app, &across.replace("to=", "to=2&x=")))
        .await
        .refused(400, "INVALID_QUERY_PARAMETER");
    assert!(app.past.documents.lock().unwrap().is_empty() && app.past.differences.lock().unwrap().is_empty());
    // Versions are looked for on both sides of the gap.
    app.get(&versions(&app, "namespace=a.b&id=5")).await.expect(200);
    let asked = app.past.versions.lock().unwrap().pop().unwrap();
    let ranges: Vec<_> = asked.ranges.iter().map(|(_, range)| (range.from, range.to)).collect();
    assert_eq!(ranges, [(second(10, 2), second(600, 1)), (second(606, 1), second(610, 1))]);
    // What lies before the restore window is not shown, though it is there still.
    let day = ContinuousBackup { pit_enabled: true, restore_window_days: RestoreWindowDays::MIN };
    app.catalog.timelines().set_continuous_backup(app.cluster.id, day).await.unwrap();
    app.pass_seconds(86_400 - 300);
    let told =
        app.get(&document(&app, &asked_at(second(200, 0)))).await.refused(400, "INVALID_PIT_RESTORE_TIME");
    assert!(told["detail"].as_str().unwrap().contains("before the restore window"), "{told}");
    app.get(&document(&app, &asked_at(second(400, 0)))).await.expect(200);
    app.get(&versions(&app, "namespace=a.b&id=5")).await.expect(200);
    let asked = app.past.versions.lock().unwrap().pop().unwrap();
    assert_eq!(asked.ranges[0].1.from, second(310, 0));
    app.stop().await;
}

#[tokio::test]
async fn versions_are_told_with_what_was_searched_and_where_to_go_on() {
    let app = App::start().await;
    let (recorder, _) = recorded(&app).await;
    let shown = app.get(&versions(&app, "namespace=shop.items&id=5")).await.expect(200);
    assert_eq!(
        shown["searched"],
        json!([{
            "from": time(10, 2, "2025-11-22T00:00:10Z"), "timelineId": recorder.timeline().to_string(),
            "to": time(600, 1, "2025-11-22T00:10:00Z"),
        }])
    );
    assert_eq!(
        shown["versions"],
        json!([
            {"at": time(10, 9, "2025-11-22T00:00:10Z"), "exists": false, "operation": "delete",
             "wallTime": "2025-11-22T00:00:10Z"},
            {"at": time(10, 2, "2025-11-22T00:00:10Z"), "changedFields": ["z", "a"], "exists": true,
             "operation": "update"},
        ])
    );
    assert_eq!((&shown["hasMore"], shown.get("next")), (&json!(false), None));
    let asked = app.past.versions.lock().unwrap().pop().unwrap();
    assert_eq!((asked.limit, asked.documents, asked.deployment), (100, false, app.cluster.id));
    *app.past.more_until.lock().unwrap() = Some(second(20, 0));
    let query = format!(
        "namespace=a.b&id=5&limit=7&documents=true&from={}&to=2025-11-22T00:00:30Z",
        typed(second(20, 4))
    );
    let response = app.get(&versions(&app, &query)).await;
    assert!(response.text().contains(&format!(r#""document":{DOCUMENT}"#)), "{}", response.text());
    let shown = response.expect(200);
    // As `to` takes it.
    assert_eq!(
        (&shown["hasMore"], &shown["next"]),
        (&json!(true), &json!(second(20, 0).seconds.to_string()))
    );
    let asked = app.past.versions.lock().unwrap().pop().unwrap();
    assert_eq!((asked.limit, asked.documents), (7, true));
    assert_eq!((asked.ranges[0].1.from, asked.ranges[0].1.to), (second(20, 4), second(30, 0)));
    app.stop().await;
}

#[tokio::test]
async fn differences_are_counted_and_shown_with_both_sides() {
    let app = App::start().await;
    let (_, [first, _]) = recorded(&app).await;
    let times = format!("from={}&to={}", typed(second(50, 2)), typed(second(200, 0)));
    let response = app.get(&difference(&app, &format!("namespace=shop.same&{times}&limit=3"))).await;
    assert!(response.text().contains(&format!(r#""after":{DOCUMENT}"#)), "{}", response.text());
    let shown = response.expect(200);
    let documents = &shown["documents"];
    let counts = ["added", "removed", "changed"].map(|count| documents[count].clone());
    assert_eq!((counts, &documents["hasMore"]), ([json!(1), json!(1), json!(7)], &json!(true)));
    let kinds: Vec<_> =
        documents["shown"].as_array().unwrap().iter().map(|one| one["change"].clone()).collect();
    assert_eq!(kinds, ["added", "removed", "changed"]);
    assert!(documents["shown"][0].get("before").is_none() && documents["shown"][1].get("after").is_none());
    assert_eq!(shown["definition"][0]["change"], "indexAdded");
    assert_eq!(shown["from"], time(50, 2, "2025-11-22T00:00:50Z"));
    let asked = app.past.differences.lock().unwrap().pop().unwrap();
    assert_eq!((asked.from, asked.to, asked.limit), (second(50, 2), second(200, 0), 3));
    assert_eq!(asked.snapshot.id, first.id, "the snapshot before the earlier time");
    let other = app.get(&difference(&app, &format!("namespace=shop.other&{times}"))).await.expect(200);
    assert_eq!(other["definition"], json!([{"change": "renamed", "renamedTo": "shop.other"}]));
    assert_eq!(other.get("documents"), None);
    app.stop().await;
}

#[tokio::test]
async fn a_question_ends_with_whoever_asked_it() {
    let app = App::start().await;
    recorded(&app).await;
    let times = format!("from={}&to={}", typed(second(50, 2)), typed(second(200, 0)));
    let path = difference(&app, &format!("namespace=shop.same&{times}"));
    let asked = Request::new("GET", &path).header("Accept", ACCEPT);
    let mut connection = Connection::open(app.address).await;
    let challenge = connection.send(&asked).await;
    let authorization = http::answer(&app.owner, "GET", &path, &http::nonce(&challenge), 1);
    let (held, mut let_go) = oneshot::channel();
    *app.past.endless.lock().unwrap() = Some(held);
    connection.ask(&asked.header("Authorization", &authorization)).await;
    becomes("asked", || !app.past.differences.lock().unwrap().is_empty()).await;
    assert_eq!(let_go.try_recv(), Err(TryRecvError::Empty), "it is being answered");
    drop(connection);
    becomes("given up", || let_go.try_recv() == Err(TryRecvError::Closed)).await;
    app.stop().await;
}

/// Waits until something is so.
async fn becomes(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it was not {what} in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn whoever_may_download_may_look_and_nobody_else() {
    let app = App::start().await;
    recorded(&app).await;
    let times = format!("from={}&to={}", typed(second(50, 0)), typed(second(200, 0)));
    let paths = [
        document(&app, &format!("namespace=a.b&id=5&at={}", typed(second(200, 0)))),
        versions(&app, "namespace=a.b&id=5"),
        difference(&app, &format!("namespace=a.b&{times}")),
    ];
    for path in &paths {
        for role in
            Role::ALL.into_iter().filter(|role| role.reaches_projects() && !role.is_organization_wide())
        {
            let key = app.key(&[role]).await;
            let response = app.send(&key, Request::new("GET", path)).await;
            match role {
                Role::GroupOwner | Role::GroupBackupManager | Role::GroupBackupExportOperator => {
                    response.expect(200);
                }
                _ => {
                    response.refused(403, "ACCESS_FORBIDDEN");
                }
            }
        }
        app.plain(Request::new("GET", path)).await.expect(401);
        app.send(&app.owner, Request::new("POST", path)).await.refused(405, "METHOD_NOT_ALLOWED");
    }
    app.stop().await;
}
