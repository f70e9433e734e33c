//! Access lists: from where a credential may be used, who says so, and what those are told who are elsewhere.
#![allow(clippy::unwrap_used)]

use crate::common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{App, Key, Request};
use model::role::Role;
use serde_json::{Value, json};

const ORG: &str = "/api/atlas/v2/orgs/5ebb71de0000000000000001";

async fn id_of(app: &App, key: &Key) -> String {
    for kind in [catalog::CredentialKind::ApiKey, catalog::CredentialKind::ServiceAccount] {
        if let Some(found) = app.catalog.credentials().by_public_name(kind, &key.public).await.unwrap() {
            return found.id.to_string();
        }
    }
    panic!("it is not there")
}

async fn send(app: &App, key: &Key, method: &str, path: &str, body: Option<Value>) -> common::Response {
    let request = Request::new(method, path);
    app.send(key, body.map_or(request.clone(), |body| request.json(&body))).await
}

/// An access token, as OAuth gives it.
async fn token(app: &App, account: &Key) -> String {
    let basic = STANDARD.encode(format!("{}:{}", account.public, account.private));
    let request = Request::new("POST", "/api/oauth/token")
        .header("Authorization", &format!("Basic {basic}"))
        .body("application/x-www-form-urlencoded", "grant_type=client_credentials");
    app.plain(request).await.expect(200)["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_works_from_where_its_list_says() {
    let app = App::start().await;
    let org = app.key_in(&[Role::OrgOwner], None).await;
    let list = format!("{ORG}/apiKeys/{}/accessList", id_of(&app, &app.owner).await);
    let none = send(&app, &org, "GET", &list, None).await.expect(200);
    assert_eq!((&none["totalCount"], &none["results"]), (&json!(0), &json!([])));
    app.get(&app.group("")).await.expect(200);

    let elsewhere = json!([{"ipAddress": "192.0.2.7"}, {"cidrBlock": "10.1.2.3/8"}]);
    let added = send(&app, &org, "POST", &list, Some(elsewhere)).await.expect(200);
    assert_eq!(added["totalCount"], 2);
    assert_eq!(
        (&added["results"][0]["ipAddress"], &added["results"][0]["cidrBlock"]),
        (&json!("192.0.2.7"), &json!("192.0.2.7/32"))
    );
    assert_eq!(
        (added["results"][1].get("ipAddress"), &added["results"][1]["cidrBlock"]),
        (None, &json!("10.0.0.0/8"))
    );
    // At once, whatever is asked for, there or not; and only who has proved to be the owner is told.
    for path in
        [app.group(""), "/api/atlas/v2".to_owned(), app.own("/clusters"), app.group("/clusters/nobody")]
    {
        let told = app.get(&path).await.refused(403, "IP_ADDRESS_NOT_ON_ACCESS_LIST");
        assert_eq!(told["parameters"], json!(["127.0.0.1"]), "{path}");
    }
    let wrong = Key { private: "wrong".to_owned(), ..app.owner.clone() };
    app.send(&wrong, Request::new("GET", &app.group(""))).await.refused(401, "UNEXPECTED_ERROR");
    let lines = app.audit().await;
    app.delete(&app.group("")).await.refused(403, "IP_ADDRESS_NOT_ON_ACCESS_LIST");
    assert!(app.audit().await.len() > lines.len(), "the attempt is in the audit log");

    // Its own link leads to the entry, and so does the address alone.
    let entry = &added["results"][0];
    let href = entry["links"][0]["href"].as_str().unwrap();
    let path = href.split_once("/api/").map(|(_, rest)| format!("/api/{rest}")).unwrap();
    assert_eq!(&send(&app, &org, "GET", &path, None).await.expect(200), entry);
    assert_eq!(&send(&app, &org, "GET", &format!("{list}/192.0.2.7"), None).await.expect(200), entry);
    send(&app, &org, "GET", &format!("{list}/192.0.2.8"), None)
        .await
        .refused(404, "ACCESS_LIST_ENTRY_NOT_FOUND");
    send(&app, &org, "DELETE", &format!("{list}/192.0.2.8"), None)
        .await
        .refused(404, "ACCESS_LIST_ENTRY_NOT_FOUND");
    send(&app, &org, "POST", &list, Some(json!([{"cidrBlock": "127.0.0.0/8"}]))).await.expect(200);
    let shown = app.get("/api/atlas/v2").await.expect(200);
    let shown = &shown["apiKey"]["accessList"];
    assert_eq!(shown[1], json!({"cidrBlock": "10.0.0.0/8", "ipAddress": null}), "{shown}");
    assert_eq!(shown.as_array().unwrap().len(), 3);
    for gone in ["127.0.0.0%2F8", "10.0.0.0%2F8", "192.0.2.7"] {
        send(&app, &org, "DELETE", &format!("{list}/{gone}"), None).await.expect(204);
    }
    app.get(&app.group("")).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn a_service_account_gets_tokens_from_everywhere_and_uses_them_where_it_may() {
    let app = App::start().await;
    let account = app.service_account(&[Role::GroupReadOnly]).await;
    let list = app.group(&format!("/serviceAccounts/{}/accessList", account.public));
    let by_org = format!("{ORG}/serviceAccounts/{}/accessList", account.public);
    let ask = async |method: &str, path: &str, body: Option<Value>, key: &Key| {
        let request = Request::new(method, path).header("Accept", "application/vnd.atlas.2024-08-05+json");
        app.send(key, body.map_or(request.clone(), |body| request.json(&body))).await
    };
    let added = ask("POST", &list, Some(json!([{"ipAddress": "2001:db8::1"}])), &app.owner).await.expect(200);
    assert_eq!(added["results"][0]["cidrBlock"], "2001:db8:0:0:0:0:0:1/128");
    assert!(added["results"][0]["createdAt"].is_string(), "{added}");
    let token = token(&app, &account).await;
    let use_it = async || {
        let request = Request::new("GET", &app.group("")).header("Authorization", &format!("Bearer {token}"));
        app.plain(request.header("Accept", common::ACCEPT)).await
    };
    use_it().await.refused(403, "IP_ADDRESS_NOT_ON_ACCESS_LIST");
    let org = app.key_in(&[Role::OrgOwner], None).await;
    ask("POST", &by_org, Some(json!([{"ipAddress": "127.0.0.1"}])), &org).await.expect(200);
    use_it().await.expect(200);
    let listed = ask("GET", &list, None, &app.owner).await.expect(200);
    assert_eq!(listed["totalCount"], 2);
    assert_eq!(ask("GET", &by_org, None, &org).await.expect(200)["results"], listed["results"]);
    ask("DELETE", &format!("{list}/127.0.0.1"), None, &app.owner).await.expect(204);
    use_it().await.refused(403, "IP_ADDRESS_NOT_ON_ACCESS_LIST");
    ask("DELETE", &format!("{by_org}/2001:db8::1"), None, &org).await.expect(204);
    use_it().await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn owners_of_a_project_say_it_of_what_is_theirs_alone() {
    let app = App::start().await;
    let reader = app.key(&[Role::GroupReadOnly]).await;
    let one = app.own(&format!("/credentials/{}", id_of(&app, &reader).await));
    let set = app.patch(&one, json!({"accessList": ["192.0.2.0/24", "127.0.0.1"]})).await.expect(200);
    assert_eq!(set["accessList"], json!(["192.0.2.0/24", "127.0.0.1/32"]));
    send(&app, &reader, "GET", &app.group(""), None).await.expect(200);
    let set = app.patch(&one, json!({"accessList": ["192.0.2.0/24"]})).await.expect(200);
    assert_eq!(set["accessList"], json!(["192.0.2.0/24"]));
    send(&app, &reader, "GET", &app.group(""), None).await.refused(403, "IP_ADDRESS_NOT_ON_ACCESS_LIST");
    app.patch(&one, json!({"accessList": []})).await.expect(200);
    send(&app, &reader, "GET", &app.group(""), None).await.expect(200);

    // Of one that works elsewhere too, only owners of the organization.
    let lab = app.catalog.projects().create("lab", app.now()).await.unwrap();
    let shared = app.key(&[Role::GroupReadOnly]).await;
    let id = id_of(&app, &shared).await;
    let grant = catalog::Grant { role: Role::GroupReadOnly, project: Some(lab.id) };
    app.catalog.credentials().give(id.parse().unwrap(), &[grant]).await.unwrap();
    let path = app.own(&format!("/credentials/{id}"));
    app.patch(&path, json!({"accessList": ["192.0.2.0/24"]})).await.refused(403, "ACCESS_FORBIDDEN");
    let stranger = app.key_in(&[Role::GroupOwner], Some(&lab)).await;
    let path = app.own(&format!("/credentials/{}", id_of(&app, &stranger).await));
    app.patch(&path, json!({"accessList": []})).await.refused(404, "API_KEY_NOT_FOUND");
    let list = format!("{ORG}/apiKeys/{id}/accessList");
    app.get(&list).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn what_is_no_list_is_refused() {
    let app = App::start().await;
    let org = app.key_in(&[Role::OrgOwner], None).await;
    let id = id_of(&app, &app.owner).await;
    let list = format!("{ORG}/apiKeys/{id}/accessList");
    let many: Vec<_> = (0..201).map(|n| json!({"ipAddress": format!("10.0.0.{}", n % 256)})).collect();
    for (body, code) in [
        (json!({"ipAddress": "192.0.2.7"}), "MALFORMED_JSON"),
        (json!(["192.0.2.7"]), "MALFORMED_JSON"),
        (json!([{}]), "MISSING_ONE_OF_ATTRIBUTES"),
        (json!([{"ipAddress": "192.0.2.7", "cidrBlock": "192.0.2.0/24"}]), "MISSING_ONE_OF_ATTRIBUTES"),
        (json!([{"ipAddress": "192.0.2.0/24"}]), "INVALID_ATTRIBUTE"),
        (json!([{"ipAddress": "localhost"}]), "INVALID_ATTRIBUTE"),
        (json!([{"cidrBlock": "192.0.2.0/33"}]), "INVALID_ATTRIBUTE"),
        (json!([{"cidrBlock": 7}]), "INVALID_JSON_ATTRIBUTE"),
        (json!([{"address": "192.0.2.7"}]), "INVALID_ATTRIBUTE"),
        (json!(many), "VALIDATION_ERROR"),
    ] {
        send(&app, &org, "POST", &list, Some(body)).await.refused(400, code);
    }
    let none = send(&app, &org, "GET", &list, None).await.expect(200);
    assert_eq!(none["totalCount"], 0, "a refusal changes nothing");
    for (path, code) in [
        (format!("{ORG}/apiKeys/0123456789abcdef01234567/accessList"), "API_KEY_NOT_FOUND"),
        (format!("{ORG}/apiKeys/xyz/accessList"), "API_KEY_NOT_FOUND"),
        (format!("/api/atlas/v2/orgs/0123456789abcdef01234567/apiKeys/{id}/accessList"), "ORG_NOT_FOUND"),
        (format!("{list}/nowhere"), "ACCESS_LIST_ENTRY_NOT_FOUND"),
    ] {
        send(&app, &org, "GET", &path, None).await.refused(404, code);
    }
    let path = app.own(&format!("/credentials/{id}"));
    for (body, code) in [
        (json!({}), "MISSING_ATTRIBUTE"),
        (json!({"accessList": ["nowhere"]}), "INVALID_ATTRIBUTE"),
        (json!({"accessList": [7]}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"accessList": "192.0.2.7"}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"roles": []}), "INVALID_ATTRIBUTE"),
    ] {
        app.patch(&path, body).await.refused(400, code);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_server_may_ask_for_lists() {
    let app = App::start_with(|settings| settings.access_list_required = true).await;
    app.get(&app.group("")).await.refused(403, "RESOURCE_REQUIRES_ACCESS_LIST");
    let id = id_of(&app, &app.owner).await.parse().unwrap();
    let here = ["127.0.0.1".parse().unwrap()];
    app.catalog.credentials().change_access(id, &[], &here, app.now()).await.unwrap();
    app.pass_seconds(60);
    app.get(&app.group("")).await.expect(200);
    app.stop().await;
}
