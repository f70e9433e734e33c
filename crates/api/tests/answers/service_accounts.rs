//! Service accounts by the calls of Atlas: made, shown without their secrets, given others, and used with each as long as it works.
#![allow(clippy::unwrap_used)]

use crate::common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{ACCEPT, App, Key, Request};
use model::role::Role;
use serde_json::{Value, json};

const ORG: &str = "/api/atlas/v2/orgs/5ebb71de0000000000000001";
const HOUR: i64 = 3_600;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

/// What asking for a token with a secret brings.
async fn ask_for_token(app: &App, client: &str, secret: &str) -> common::Response {
    let basic = STANDARD.encode(format!("{client}:{secret}"));
    let request = Request::new("POST", "/api/oauth/token")
        .header("Authorization", &format!("Basic {basic}"))
        .body("application/x-www-form-urlencoded", "grant_type=client_credentials");
    app.plain(request).await
}

async fn bearer(app: &App, token: &str, path: &str) -> common::Response {
    let asked = Request::new("GET", path).header("Accept", ACCEPT);
    app.plain(asked.header("Authorization", &format!("Bearer {token}"))).await
}

struct Owner<'a> {
    app: &'a App,
    key: Key,
}

impl<'a> Owner<'a> {
    async fn of(app: &'a App) -> Self {
        Self { app, key: app.key_in(&[Role::OrgOwner], None).await }
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> common::Response {
        let request = Request::new(method, path);
        let request = if body.is_null() { request } else { request.json(&body) };
        self.app.send(&self.key, request).await
    }
}

fn account(roles: &[&str]) -> Value {
    json!({"name": "pipeline", "description": "nightly", "roles": roles, "secretExpiresAfterHours": 24})
}

#[tokio::test]
async fn an_account_is_made_shown_changed_and_deleted() {
    let app = App::start().await;
    let owner = Owner::of(&app).await;
    let all = format!("{ORG}/serviceAccounts");
    let answer = owner.send("POST", &all, account(&["ORG_READ_ONLY"])).await;
    let location = answer.header("location").unwrap().to_owned();
    let made = answer.expect(201);
    let one = format!("{all}/{}", text(&made, "clientId"));
    assert_eq!(location, format!("http://api.test:8080{one}"));
    assert_eq!((text(&made, "name"), text(&made, "description")), ("pipeline", "nightly"));
    assert_eq!(made["roles"], json!(["ORG_READ_ONLY"]));
    let secret = text(&made["secrets"][0], "secret").to_owned();
    let masked = format!("************{}", &secret[secret.len() - 4..]);
    assert_eq!(text(&made["secrets"][0], "maskedSecretValue"), masked);
    let mut shown = made.clone();
    shown["secrets"][0].as_object_mut().unwrap().remove("secret");
    assert_eq!(owner.send("GET", &one, Value::Null).await.expect(200), shown);
    let listed = owner.send("GET", &all, Value::Null).await.expect(200);
    assert_eq!(listed["results"], json!([shown]), "and no API key");
    let changed =
        owner.send("PATCH", &one, json!({"name": "weekly", "roles": ["ORG_MEMBER"]})).await.expect(200);
    assert_eq!((text(&changed, "name"), text(&changed, "description")), ("weekly", "nightly"));
    assert_eq!(changed["roles"], json!(["ORG_MEMBER"]));
    assert_eq!(owner.send("PATCH", &one, json!({})).await.expect(200), changed);

    let without = |field: &str| {
        let mut body = account(&["ORG_MEMBER"]);
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let with = |field: &str, value: Value| {
        let mut body = account(&["ORG_MEMBER"]);
        body[field] = value;
        body
    };
    for field in ["name", "description", "roles", "secretExpiresAfterHours"] {
        owner.send("POST", &all, without(field)).await.refused(400, "MISSING_ATTRIBUTE");
    }
    for (field, value, code) in [
        ("secretExpiresAfterHours", json!(7), "INVALID_ATTRIBUTE"),
        ("secretExpiresAfterHours", json!(8_761), "INVALID_ATTRIBUTE"),
        ("secretExpiresAfterHours", json!("8"), "INVALID_JSON_ATTRIBUTE"),
        ("name", json!(""), "INVALID_ATTRIBUTE"),
        ("roles", json!(["GROUP_OWNER"]), "INVALID_ENUM_VALUE"),
        ("surprise", json!(1), "INVALID_ATTRIBUTE"),
    ] {
        owner.send("POST", &all, with(field, value)).await.refused(400, code);
    }
    app.get(&all).await.refused(403, "ACCESS_FORBIDDEN");
    app.get(&one).await.refused(403, "ACCESS_FORBIDDEN");
    let key = format!("{all}/{}", app.owner.public);
    owner.send("GET", &key, Value::Null).await.refused(404, "SERVICE_ACCOUNT_NOT_FOUND");
    owner.send("DELETE", &one, Value::Null).await.expect(204);
    owner.send("DELETE", &one, Value::Null).await.refused(404, "SERVICE_ACCOUNT_NOT_FOUND");
    let client = text(&made, "clientId");
    assert_eq!(ask_for_token(&app, client, &secret).await.expect(401)["error"], "invalid_client");
    let details: Vec<_> = app.changes().await.into_iter().map(|line| line.detail).collect();
    assert!(!serde_json::to_string(&details).unwrap().contains(&secret));
    app.stop().await;
}

#[tokio::test]
async fn a_secret_takes_the_place_of_another_without_a_gap() {
    let app = App::start().await;
    let owner = Owner::of(&app).await;
    let made =
        owner.send("POST", &format!("{ORG}/serviceAccounts"), account(&["ORG_OWNER"])).await.expect(201);
    let client = text(&made, "clientId").to_owned();
    let one = format!("{ORG}/serviceAccounts/{client}");
    let secrets = format!("{one}/secrets");
    let first = made["secrets"][0].clone();
    let answer = owner.send("POST", &secrets, json!({"secretExpiresAfterHours": 8_760})).await;
    let second = answer.expect(201);
    let full = owner.send("POST", &secrets, json!({"secretExpiresAfterHours": 8})).await;
    let told = full.refused(400, "VALIDATION_ERROR");
    assert!(text(&told, "detail").contains("has 2 secrets that work"), "{told}");
    for (body, code) in
        [(json!({}), "MISSING_ATTRIBUTE"), (json!({"secretExpiresAfterHours": 0}), "INVALID_ATTRIBUTE")]
    {
        owner.send("POST", &secrets, body).await.refused(400, code);
    }
    // Both work, and what was made with one ends with that one.
    let token = async |secret: &Value| {
        let given = ask_for_token(&app, &client, text(secret, "secret")).await.expect(200);
        text(&given, "access_token").to_owned()
    };
    let (of_first, of_second) = (token(&first).await, token(&second).await);
    for token in [&of_first, &of_second] {
        bearer(&app, token, "/api/atlas/v2").await.expect(200);
    }
    let shown = owner.send("GET", &one, Value::Null).await.expect(200);
    let shown = shown["secrets"].as_array().unwrap();
    assert!(shown.len() == 2 && shown.iter().all(|secret| secret["lastUsedAt"].is_string()), "{shown:?}");
    assert!(shown.iter().all(|secret| secret.get("secret").is_none()), "{shown:?}");
    let gone = format!("{secrets}/{}", text(&first, "id"));
    owner.send("DELETE", &gone, Value::Null).await.expect(204);
    owner.send("DELETE", &gone, Value::Null).await.refused(404, "SERVICE_ACCOUNT_SECRET_NOT_FOUND");
    let nonsense = format!("{secrets}/nonsense");
    owner.send("DELETE", &nonsense, Value::Null).await.refused(404, "SERVICE_ACCOUNT_SECRET_NOT_FOUND");
    bearer(&app, &of_first, "/api/atlas/v2").await.expect(401);
    bearer(&app, &of_second, "/api/atlas/v2").await.expect(200);
    ask_for_token(&app, &client, text(&first, "secret")).await.expect(401);

    // The second one has a week left from when a third one is made, and the third one its own day.
    let third = owner.send("POST", &secrets, json!({"secretExpiresAfterHours": 24})).await.expect(201);
    app.pass_seconds(24 * HOUR);
    ask_for_token(&app, &client, text(&third, "secret")).await.expect(401);
    app.pass_seconds(6 * 24 * HOUR - 1);
    token(&second).await;
    app.pass_seconds(1);
    ask_for_token(&app, &client, text(&second, "secret")).await.expect(401);
    app.stop().await;
}

#[tokio::test]
async fn owners_of_a_project_have_accounts_of_their_own() {
    let app = App::start().await;
    let owner = Owner::of(&app).await;
    let other = app.catalog.projects().create("elsewhere", app.now()).await.unwrap();
    let here = app.group("/serviceAccounts");
    let own = app.post(&here, account(&["GROUP_READ_ONLY", "GROUP_BACKUP_CREATOR"])).await.expect(201);
    let client = text(&own, "clientId").to_owned();
    let mine = format!("{here}/{client}");
    let given = ask_for_token(&app, &client, text(&own["secrets"][0], "secret")).await.expect(200);
    bearer(&app, text(&given, "access_token"), &app.group("")).await.expect(200);
    app.post(&here, account(&["ORG_OWNER"])).await.refused(400, "INVALID_ENUM_VALUE");
    let changed =
        app.patch(&mine, json!({"description": "mine", "roles": ["GROUP_READ_ONLY"]})).await.expect(200);
    assert_eq!((text(&changed, "description"), &changed["roles"]), ("mine", &json!(["GROUP_READ_ONLY"])));
    let secrets = format!("{mine}/secrets");
    let second = app.post(&secrets, json!({"secretExpiresAfterHours": 8})).await.expect(201);
    app.delete(&format!("{secrets}/{}", text(&second, "id"))).await.expect(204);
    let groups = format!("{ORG}/serviceAccounts/{client}/groups");
    let told = owner.send("GET", &groups, Value::Null).await.expect(200);
    assert_eq!(told["results"], json!([{"groupId": app.project.id.to_string()}]));

    // One of elsewhere is not there, until it is invited by whoever may.
    let elsewhere = format!("/api/atlas/v2/groups/{}/serviceAccounts", other.id);
    let theirs = owner.send("POST", &elsewhere, account(&["GROUP_OWNER"])).await.expect(201);
    let theirs = format!("{here}/{}", text(&theirs, "clientId"));
    let roles = json!({"roles": ["GROUP_READ_ONLY"]});
    app.get(&theirs).await.refused(404, "SERVICE_ACCOUNT_NOT_FOUND");
    app.patch(&theirs, roles.clone()).await.refused(404, "SERVICE_ACCOUNT_NOT_FOUND");
    let invite = format!("{theirs}:invite");
    app.post(&invite, roles.clone()).await.refused(404, "SERVICE_ACCOUNT_NOT_FOUND");
    let invited = owner.send("POST", &invite, roles.clone()).await.expect(200);
    assert_eq!(invited["roles"], json!(["GROUP_READ_ONLY"]), "and none of elsewhere");
    app.post(&invite, json!({})).await.refused(400, "MISSING_ATTRIBUTE");
    for path in [theirs.clone(), format!("{theirs}:banish")] {
        let refused = app.post(&path, roles.clone()).await;
        refused.refused(405, "METHOD_NOT_ALLOWED");
        assert_eq!(refused.header("allow"), Some("GET,HEAD,PATCH,DELETE"), "POST has a verb");
    }
    app.post(&format!("{theirs}%3Ainvite"), roles.clone()).await.expect(200);
    app.post(&format!("{here}/:invite"), roles.clone()).await.refused(404, "SERVICE_ACCOUNT_NOT_FOUND");
    // Of what it may do elsewhere nothing is told here.
    let told = app.get(&app.own("/credentials")).await.expect(200).to_string();
    assert!(
        told.contains(theirs.rsplit('/').next().unwrap()) && !told.contains(&other.id.to_string()),
        "{told}"
    );
    // Its roles here are ours to change; its name and its secrets, which count elsewhere, are not.
    app.patch(&theirs, json!({"roles": ["GROUP_BACKUP_MANAGER"]})).await.expect(200);
    app.patch(&theirs, json!({"name": "mine"})).await.refused(403, "ACCESS_FORBIDDEN");
    let hours = json!({"secretExpiresAfterHours": 8});
    app.post(&format!("{theirs}/secrets"), hours).await.refused(403, "ACCESS_FORBIDDEN");
    let listed = app.get(&here).await.expect(200);
    assert_eq!(listed["totalCount"], 2);
    app.delete(&theirs).await.expect(204);
    app.delete(&theirs).await.refused(404, "SERVICE_ACCOUNT_NOT_FOUND");
    // Nobody but owners.
    let manager = app.key(&[Role::GroupBackupManager]).await;
    app.send(&manager, Request::new("GET", &here)).await.refused(403, "ACCESS_FORBIDDEN");
    app.send(&manager, Request::new("POST", &invite).json(&roles)).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn a_secret_that_never_expires_says_so() {
    let app = App::start().await;
    let owner = Owner::of(&app).await;
    let made = app.service_account(&[Role::GroupReadOnly]).await;
    let one = format!("{ORG}/serviceAccounts/{}", made.public);
    let shown = owner.send("GET", &one, Value::Null).await.expect(200);
    assert_eq!(text(&shown["secrets"][0], "expiresAt"), "9999-12-31T23:59:59Z");
    assert_eq!((text(&shown, "name"), &shown["roles"]), ("test", &json!([])), "roles of the organization");
    app.pass_seconds(400 * 24 * HOUR);
    ask_for_token(&app, &made.public, &made.private).await.expect(200);
    app.stop().await;
}
