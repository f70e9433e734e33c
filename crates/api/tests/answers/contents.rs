//! What a snapshot holds: pages of names, one name, and what is said where there is nothing. The names are played.
#![allow(clippy::unwrap_used)]

use crate::common;

use api::ContentsError;
use common::{App, Request};
use ebbtide_api as api;
use model::role::Role;
use serde_json::{Value, json};

async fn shop() -> (App, String) {
    let app = App::start().await;
    app.contents.hold("bank", &["ledger"]);
    app.contents.hold("shop", &["a b/c%", "items", "orders"]);
    let snapshot = app.snapshot().await;
    let path = app.backup(&format!("/snapshots/{}/databases", snapshot.id));
    (app, path)
}

fn names(page: &Value) -> Vec<&str> {
    page["results"].as_array().unwrap().iter().map(|result| result["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn names_are_paged_and_each_links_to_itself() {
    let (app, databases) = shop().await;
    let page = app.get(&databases).await.json();
    assert_eq!((names(&page), &page["totalCount"]), (vec!["bank", "shop"], &json!(2)));
    let second = app.get(&format!("{databases}?itemsPerPage=1&pageNum=2")).await.json();
    assert_eq!(names(&second), ["shop"]);
    let collections = format!("{databases}/shop/collections");
    let page = app.get(&collections).await.json();
    assert_eq!(names(&page), ["a b/c%", "items", "orders"]);
    let uncounted = app.get(&format!("{collections}?includeCount=false&itemsPerPage=2")).await.json();
    assert_eq!(names(&uncounted), ["a b/c%", "items"]);
    assert!(uncounted.get("totalCount").is_none());
    // Whatever a name holds, its link leads to it.
    for (page, path) in [(&page, &collections), (&app.get(&databases).await.json(), &databases)] {
        for result in page["results"].as_array().unwrap() {
            let href = result["links"][0]["href"].as_str().unwrap();
            let target = &href[href.find("/api/").unwrap()..];
            assert!(target.starts_with(path.as_str()), "{href}");
            let one = app.get(target).await;
            assert_eq!((one.status, &one.json()), (200, result), "{href}");
        }
    }
    let asked = app.contents.asked.lock().unwrap().clone();
    assert!(asked.len() > 8 && asked.iter().all(|manifest| manifest == &asked[0]));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (app, databases) = shop().await;
    for (rest, code) in [
        ("/nothing", "DATABASE_NOT_FOUND"),
        ("/nothing/collections", "DATABASE_NOT_FOUND"),
        ("/nothing/collections/orders", "DATABASE_NOT_FOUND"),
        ("/shop/collections/nothing", "COLLECTION_NOT_FOUND"),
        ("/shop/collections/ledger", "COLLECTION_NOT_FOUND"),
    ] {
        app.get(&format!("{databases}{rest}")).await.refused(404, code);
    }
    app.contents.refusal.lock().unwrap().replace(ContentsError::Gone);
    app.get(&databases).await.refused(404, "SNAPSHOT_NOT_FOUND");
    let why = "an object of the snapshot is damaged in the vault; restore another snapshot";
    app.contents.refusal.lock().unwrap().replace(ContentsError::Damaged(why.to_owned()));
    let damaged = app.get(&databases).await;
    assert_eq!(damaged.status, 500);
    assert!(damaged.json()["detail"].as_str().unwrap().contains(why));
    app.contents.refusal.lock().unwrap().replace(ContentsError::Failed("the key of a bucket".into()));
    let failed = app.get(&databases).await;
    assert_eq!(failed.status, 500);
    assert!(!failed.text().contains("bucket"), "causes are for the log");
}

#[tokio::test]
async fn a_snapshot_that_is_not_completed_holds_nothing_yet() {
    let app = App::start().await;
    app.contents.hold("shop", &["orders"]);
    let body = json!({"description": "x", "retentionInDays": 1});
    let id = app.post(&app.backup("/snapshots"), body).await.json()["id"].as_str().unwrap().to_owned();
    let path = app.backup(&format!("/snapshots/{id}/databases"));
    let answer = app.get(&path).await.refused(404, "SNAPSHOT_NOT_FOUND");
    assert!(answer["detail"].as_str().unwrap().contains("not completed yet"));
    app.complete_snapshot().await;
    assert_eq!(app.get(&path).await.status, 200);
    app.delete(&app.backup(&format!("/snapshots/{id}"))).await;
    assert_eq!(app.get(&path).await.status, 404);
    let other = app.add("c2", model::DeploymentKind::ReplicaSet).await;
    let theirs = app.snapshot_of(&other).await;
    let mixed = app.get(&app.backup(&format!("/snapshots/{}/databases", theirs.id))).await;
    mixed.refused(404, "SNAPSHOT_NOT_FOUND");
}

#[tokio::test]
async fn names_are_for_those_who_restore_and_in_the_version_that_has_them() {
    let (app, databases) = shop().await;
    for (role, status) in [
        (Role::GroupBackupManager, 200),
        (Role::GroupBackupRecoveryOperator, 200),
        (Role::GroupReadOnly, 403),
        (Role::GroupBackupCreator, 403),
    ] {
        let key = app.key(&[role]).await;
        let answer = app.send(&key, Request::new("GET", &databases)).await;
        assert_eq!(answer.status, status, "{role:?}");
    }
    let older = Request::new("GET", &databases).header("Accept", "application/vnd.atlas.2025-02-19+json");
    app.send(&app.owner, older).await.refused(406, "INVALID_VERSION_DATE");
}
