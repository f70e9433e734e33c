//! API keys by the calls of Atlas: made, shown without their secret, given roles and robbed of them, by those who may.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::{ACCEPT, App, Key, Request};
use model::role::Role;
use serde_json::{Value, json};

async fn organization(app: &App) -> (Key, String) {
    let owner = app.key_in(&[Role::OrgOwner], None).await;
    let orgs = app.send(&owner, Request::new("GET", "/api/atlas/v2/orgs")).await.expect(200);
    (owner, format!("/api/atlas/v2/orgs/{}/apiKeys", orgs["results"][0]["id"].as_str().unwrap()))
}

fn roles(key: &Value) -> Vec<&str> {
    let mut roles: Vec<_> =
        key["roles"].as_array().unwrap().iter().map(|role| role["roleName"].as_str().unwrap()).collect();
    roles.sort_unstable();
    roles
}

#[tokio::test]
async fn a_key_is_made_shown_changed_and_deleted() {
    let app = App::start().await;
    let (owner, all) = organization(&app).await;
    let send = async |method: &str, path: &str, body: Value| {
        app.send(&owner, Request::new(method, path).json(&body)).await
    };
    let made = send("POST", &all, json!({"desc": "pipeline", "roles": ["ORG_MEMBER", "ORG_MEMBER"]})).await;
    let made = made.expect(200);
    let one = format!("{all}/{}", made["id"].as_str().unwrap());
    let organization = all.split('/').nth(5).unwrap();
    assert_eq!(made["roles"], json!([{"orgId": organization, "roleName": "ORG_MEMBER"}]));
    assert_eq!(made["links"], json!([{"href": format!("http://api.test:8080{one}"), "rel": "self"}]));
    assert_eq!(made["privateKey"].as_str().unwrap().len(), 36);
    let mut shown = made.clone();
    shown["privateKey"] = "********-****-****-************".into();
    assert_eq!(app.send(&owner, Request::new("GET", &one)).await.expect(200), shown);
    let changed =
        send("PATCH", &one, json!({"desc": "another", "roles": ["ORG_READ_ONLY"]})).await.expect(200);
    assert_eq!((changed["desc"].as_str(), roles(&changed)), (Some("another"), vec!["ORG_READ_ONLY"]));
    let unchanged = send("PATCH", &one, json!({})).await.expect(200);
    assert_eq!(unchanged, changed);

    for (method, path, body, code) in [
        ("POST", &all, json!({"roles": ["ORG_MEMBER"]}), "MISSING_ATTRIBUTE"),
        ("POST", &all, json!({"desc": "x"}), "MISSING_ATTRIBUTE"),
        ("POST", &all, json!({"desc": "x", "roles": []}), "MISSING_ATTRIBUTE"),
        ("POST", &all, json!({"desc": "", "roles": ["ORG_MEMBER"]}), "INVALID_ATTRIBUTE"),
        ("POST", &all, json!({"desc": "x".repeat(251), "roles": ["ORG_MEMBER"]}), "INVALID_ATTRIBUTE"),
        ("POST", &all, json!({"desc": "x", "roles": ["GROUP_OWNER"]}), "INVALID_ENUM_VALUE"),
        ("PATCH", &one, json!({"roles": ["ORG_EMPEROR"]}), "INVALID_ENUM_VALUE"),
        ("PATCH", &one, json!({"roles": "ORG_MEMBER"}), "INVALID_JSON_ATTRIBUTE"),
        ("PATCH", &one, json!({"surprise": 1}), "INVALID_ATTRIBUTE"),
    ] {
        send(method, path, body).await.refused(400, code);
    }
    // Neither an owner of a project nor the id of a service account leads to one.
    app.get(&all).await.refused(403, "ACCESS_FORBIDDEN");
    app.get(&one).await.refused(403, "ACCESS_FORBIDDEN");
    app.service_account(&[Role::GroupReadOnly]).await;
    let accounts = app.get(&app.own("/credentials")).await.expect(200);
    let account = accounts["results"].as_array().unwrap().iter().find(|one| one["kind"] == "serviceAccount");
    let account = format!("{all}/{}", account.unwrap()["id"].as_str().unwrap());
    app.send(&owner, Request::new("GET", &account)).await.refused(404, "API_KEY_NOT_FOUND");

    app.send(&owner, Request::new("DELETE", &one)).await.expect(204);
    app.send(&owner, Request::new("DELETE", &one)).await.refused(404, "API_KEY_NOT_FOUND");
    let lines = app.changes().await;
    let told: Vec<_> =
        lines.iter().map(|line| line.action.as_str()).filter(|action| action.starts_with("cred")).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(
        !serde_json::to_string(&lines.iter().map(|line| &line.detail).collect::<Vec<_>>())
            .unwrap()
            .contains(made["privateKey"].as_str().unwrap())
    );
    app.stop().await;
}

#[tokio::test]
async fn owners_of_a_project_give_and_take_roles_in_it_and_nothing_else() {
    let app = App::start().await;
    let (owner, all) = organization(&app).await;
    let other = app.catalog.projects().create("elsewhere", app.now()).await.unwrap();
    let made = Request::new("POST", &all).json(&json!({"desc": "shared", "roles": ["ORG_MEMBER"]}));
    let made = app.send(&owner, made).await.expect(200);
    let id = made["id"].as_str().unwrap();
    let there = format!("/api/atlas/v2/groups/{}/apiKeys/{id}", other.id);
    let given = Request::new("POST", &there).json(&json!([{"roles": ["GROUP_OWNER"]}]));
    app.send(&owner, given).await.expect(200);

    let here = app.group("/apiKeys");
    let mine = format!("{here}/{id}");
    for (method, body) in [("PATCH", json!({"roles": ["GROUP_OWNER"]})), ("DELETE", Value::Null)] {
        let asked = Request::new(method, &mine);
        let asked = if body.is_null() { asked } else { asked.json(&body) };
        app.send(&app.owner, asked).await.refused(404, "API_KEY_NOT_FOUND");
    }
    let add = |body: Value| app.post(&mine, body);
    let given =
        add(json!([{"apiUserId": id, "roles": ["GROUP_READ_ONLY"]}, {"roles": ["GROUP_BACKUP_CREATOR"]}]))
            .await;
    let given = given.expect(200);
    assert_eq!(
        roles(&given),
        ["GROUP_BACKUP_CREATOR", "GROUP_READ_ONLY", "ORG_MEMBER"],
        "and none of elsewhere"
    );
    let again = add(json!([{"roles": ["GROUP_READ_ONLY"]}])).await.expect(200);
    assert_eq!(roles(&again), roles(&given));
    for (body, code) in [
        (json!([]), "MISSING_ATTRIBUTE"),
        (json!([{}]), "MISSING_ATTRIBUTE"),
        (json!([{"roles": ["ORG_OWNER"]}]), "INVALID_ENUM_VALUE"),
        (json!([{"apiUserId": "0123456789abcdef01234567", "roles": ["GROUP_OWNER"]}]), "INVALID_ATTRIBUTE"),
        (json!({"roles": ["GROUP_OWNER"]}), "MALFORMED_JSON"),
    ] {
        add(body).await.refused(400, code);
    }
    let set = app.patch(&mine, json!({"roles": ["GROUP_READ_ONLY"]})).await.expect(200);
    assert_eq!(roles(&set), ["GROUP_READ_ONLY", "ORG_MEMBER"]);
    app.patch(&mine, json!({"desc": "mine"})).await.refused(403, "ACCESS_FORBIDDEN");
    let listed = app.get(&here).await.expect(200);
    let ids: Vec<_> =
        listed["results"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&id), "{listed}");
    app.delete(&mine).await.expect(204);
    let left = app.send(&owner, Request::new("GET", &format!("{all}/{id}"))).await.expect(200);
    assert_eq!(roles(&left), ["GROUP_OWNER", "ORG_MEMBER"], "what it may do elsewhere stays");

    // A key of another project alone is none of ours.
    let alone = Request::new("POST", &format!("/api/atlas/v2/groups/{}/apiKeys", other.id));
    let alone = alone.json(&json!({"desc": "alone", "roles": ["GROUP_READ_ONLY"]}));
    let alone = app.send(&owner, alone).await.expect(200);
    let theirs = format!("{here}/{}", alone["id"].as_str().unwrap());
    let roles_here = json!([{"roles": ["GROUP_READ_ONLY"]}]);
    app.post(&theirs, roles_here.clone()).await.refused(404, "API_KEY_NOT_FOUND");
    app.send(&owner, Request::new("POST", &theirs).json(&roles_here)).await.expect(200);

    // One that was made here is called as it is called here.
    let own = app.post(&here, json!({"desc": "here", "roles": ["GROUP_READ_ONLY"]})).await.expect(200);
    let own = format!("{here}/{}", own["id"].as_str().unwrap());
    assert_eq!(app.patch(&own, json!({"desc": "mine"})).await.expect(200)["desc"], "mine");
    app.post(&here, json!({"desc": "x", "roles": ["ORG_OWNER"]})).await.refused(400, "INVALID_ENUM_VALUE");
    // Nobody but owners.
    let manager = app.key(&[Role::GroupBackupManager]).await;
    let asked = Request::new("GET", &here).header("Accept", ACCEPT);
    app.send(&manager, asked).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}
