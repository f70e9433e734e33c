//! API keys and service accounts, from their making to their end, and from where they may be used.

use serde_json::{Value, json};

use super::{
    client::{Account, Ask},
    life::{delete, get, patch, post},
    world::World,
};
use crate::support::text;

pub async fn of_an_organization(world: &World, way: &str) {
    api_keys(world, way).await;
    service_accounts(world, way).await;
    access_lists(world, way).await;
}

/// An API key from its making to its end, in the organization and in a project.
async fn api_keys(world: &World, way: &str) {
    let (owner, organization, checker) = (world.owner(way), world.organization(way), &world.checker);
    let organizations = checker.ok(organization, get("/api/atlas/v2/orgs"), 200).await;
    let all = format!("/api/atlas/v2/orgs/{}/apiKeys", text(&organizations["results"][0], "id"));
    let body = json!({"desc": "for a pipeline", "roles": ["ORG_MEMBER"]});
    let made = checker.ok(organization, post(&all, body), 200).await;
    let one = format!("{all}/{}", text(&made, "id"));
    let shown = checker.ok(organization, get(&one), 200).await;
    assert_eq!((&shown["desc"], &shown["publicKey"]), (&json!("for a pipeline"), &made["publicKey"]));
    assert!(text(&shown, "privateKey").starts_with("********-"), "{shown}");
    let listed = checker.ok(organization, get(&format!("{all}?itemsPerPage=500")), 200).await;
    assert!(listed["results"].as_array().unwrap().contains(&shown));
    let key = Account::key(&text(&made, "publicKey"), &text(&made, "privateKey"));
    checker.refused(&key, get(&world.group("")), 401, "USER_CANNOT_ACCESS_GROUP").await;

    let here = world.group("/apiKeys");
    let mine = format!("{here}/{}", text(&made, "id"));
    checker
        .refused(owner, patch(&mine, json!({"roles": ["GROUP_READ_ONLY"]})), 404, "API_KEY_NOT_FOUND")
        .await;
    let given = checker.ok(owner, post(&mine, json!([{"roles": ["GROUP_READ_ONLY"]}])), 200).await;
    assert_eq!(given["roles"].as_array().unwrap().len(), 2, "{given}");
    checker.ok(&key, get(&world.group("")), 200).await;
    let set = checker.ok(owner, patch(&mine, json!({"roles": ["GROUP_BACKUP_MANAGER"]})), 200).await;
    assert!(set["roles"].to_string().contains("GROUP_BACKUP_MANAGER"), "{set}");
    checker.refused(owner, patch(&mine, json!({"desc": "mine"})), 403, "ACCESS_FORBIDDEN").await;
    let listed = checker.ok(owner, get(&here), 200).await;
    assert!(listed["results"].to_string().contains(&text(&made, "id")));
    checker.ok(owner, delete(&mine), 204).await;
    checker.refused(owner, delete(&mine), 404, "API_KEY_NOT_FOUND").await;
    checker.refused(&key, get(&world.group("")), 401, "USER_CANNOT_ACCESS_GROUP").await;
    let body = json!({"desc": "made here", "roles": ["GROUP_READ_ONLY"]});
    let own = checker.ok(owner, post(&here, body), 200).await;
    let named = format!("{here}/{}", text(&own, "id"));
    assert_eq!(checker.ok(owner, patch(&named, json!({"desc": "mine"})), 200).await["desc"], "mine");

    let roles = json!({"desc": "a reader", "roles": ["ORG_READ_ONLY"]});
    let changed = checker.ok(organization, patch(&one, roles), 200).await;
    assert_eq!(changed["roles"][0]["roleName"], "ORG_READ_ONLY");
    checker.ok(&key, get(&world.group("")), 200).await;
    checker.follow_links(organization).await;
    checker.ok(organization, delete(&one), 204).await;
    checker.refused(organization, get(&one), 404, "API_KEY_NOT_FOUND").await;
    checker.refused(&key, get(&world.group("")), 401, "UNEXPECTED_ERROR").await;
}

/// From where credentials may be used: an entry from its making to its end.
async fn access_lists(world: &World, way: &str) {
    let (owner, organization, checker) = (world.owner(way), world.organization(way), &world.checker);
    let organizations = checker.ok(organization, get("/api/atlas/v2/orgs"), 200).await;
    let by_org = format!("/api/atlas/v2/orgs/{}", text(&organizations["results"][0], "id"));
    let credentials = world.own("/credentials");
    let make = async |kind: &str| {
        let body = json!({"kind": kind, "roles": ["GROUP_READ_ONLY"]});
        checker.ok(owner, post(&credentials, body), 201).await
    };
    let (key, account) = (make("apiKey").await, make("serviceAccount").await);
    let address = || json!([{"ipAddress": "192.0.2.7"}, {"cidrBlock": "2001:db8::/32"}]);
    let list = format!("{by_org}/apiKeys/{}/accessList", text(&key, "id"));
    checker.ok(organization, post(&list, address()), 200).await;
    let listed = checker.ok(organization, get(&list), 200).await;
    assert_eq!(listed["totalCount"], 2);
    let one = format!("{list}/192.0.2.7");
    let entry = checker.ok(organization, get(&one), 200).await;
    assert_eq!(entry, listed["results"][0]);
    checker.follow_links(organization).await;
    checker.ok(organization, delete(&one), 204).await;
    checker.refused(organization, delete(&one), 404, "ACCESS_LIST_ENTRY_NOT_FOUND").await;
    let client = text(&account, "clientId");
    for (who, list) in [
        (organization, format!("{by_org}/serviceAccounts/{client}/accessList")),
        (owner, world.group(&format!("/serviceAccounts/{client}/accessList"))),
    ] {
        checker.ok(who, post(&list, address()), 200).await;
        assert_eq!(checker.ok(who, get(&list), 200).await["totalCount"], 2);
        checker.ok(who, delete(&format!("{list}/192.0.2.7")), 204).await;
    }
    let one = format!("{credentials}/{}", text(&key, "id"));
    let set = checker.ok(owner, patch(&one, json!({"accessList": ["192.0.2.0/24"]})), 200).await;
    assert_eq!(set["accessList"], json!(["192.0.2.0/24"]));
    // Whoever asks with it now asks from elsewhere.
    let key = Account::key(&text(&key, "publicKey"), &text(&key, "privateKey"));
    checker.refused(&key, get("/api/atlas/v2/groups"), 403, "IP_ADDRESS_NOT_ON_ACCESS_LIST").await;
}

/// A service account from its making to its end, in the organization and in a project.
async fn service_accounts(world: &World, way: &str) {
    let (owner, organization, checker) = (world.owner(way), world.organization(way), &world.checker);
    let organizations = checker.ok(organization, get("/api/atlas/v2/orgs"), 200).await;
    let all = format!("/api/atlas/v2/orgs/{}/serviceAccounts", text(&organizations["results"][0], "id"));
    let body = |roles: Value| json!({"name": "pipeline", "description": "nightly", "roles": roles, "secretExpiresAfterHours": 24});
    let made = checker.ok(organization, post(&all, body(json!(["ORG_MEMBER"]))), 201).await;
    let one = format!("{all}/{}", text(&made, "clientId"));
    let shown = checker.ok(organization, get(&one), 200).await;
    assert_eq!((&shown["name"], &shown["secrets"][0]["id"]), (&made["name"], &made["secrets"][0]["id"]));
    let listed = checker.ok(organization, get(&format!("{all}?itemsPerPage=500")), 200).await;
    assert!(listed["results"].as_array().unwrap().contains(&shown));
    let named = checker.ok(organization, patch(&one, json!({"name": "weekly"})), 200).await;
    assert_eq!(named["name"], "weekly");
    let hours = json!({"secretExpiresAfterHours": 8});
    let second = checker.ok(organization, post(&format!("{one}/secrets"), hours.clone()), 201).await;
    let bearer = token(world, &text(&made, "clientId"), &text(&second, "secret")).await;
    checker.refused(&bearer, get(&world.group("")), 401, "USER_CANNOT_ACCESS_GROUP").await;

    let here = world.group("/serviceAccounts");
    let mine = format!("{here}/{}", text(&made, "clientId"));
    let roles = json!({"roles": ["GROUP_READ_ONLY"]});
    checker.refused(owner, patch(&mine, roles.clone()), 404, "SERVICE_ACCOUNT_NOT_FOUND").await;
    let invited = checker.ok(owner, post(&format!("{mine}:invite"), roles.clone()), 200).await;
    assert_eq!(invited["roles"], roles["roles"]);
    checker.ok(&bearer, get(&world.group("")), 200).await;
    assert_eq!(checker.ok(owner, get(&mine), 200).await["clientId"], made["clientId"]);
    let set = checker.ok(owner, patch(&mine, json!({"roles": ["GROUP_BACKUP_MANAGER"]})), 200).await;
    assert_eq!(set["roles"], json!(["GROUP_BACKUP_MANAGER"]));
    let listed = checker.ok(owner, get(&here), 200).await;
    assert!(listed["results"].to_string().contains(&text(&made, "clientId")));
    let groups = checker.ok(organization, get(&format!("{one}/groups")), 200).await;
    assert_eq!(groups["results"], json!([{"groupId": world.ebbtide.project}]));
    checker.ok(owner, delete(&mine), 204).await;
    checker.refused(owner, delete(&mine), 404, "SERVICE_ACCOUNT_NOT_FOUND").await;

    let own = checker.ok(owner, post(&here, body(json!(["GROUP_READ_ONLY"]))), 201).await;
    let secrets = format!("{here}/{}/secrets", text(&own, "clientId"));
    let added = checker.ok(owner, post(&secrets, hours), 201).await;
    checker.ok(owner, delete(&format!("{secrets}/{}", text(&added, "id"))), 204).await;

    checker.follow_links(organization).await;
    let gone = format!("{one}/secrets/{}", text(&second, "id"));
    checker.ok(organization, delete(&gone), 204).await;
    checker.refused(organization, delete(&gone), 404, "SERVICE_ACCOUNT_SECRET_NOT_FOUND").await;
    checker.refused(&bearer, get("/api/atlas/v2"), 401, "UNEXPECTED_ERROR").await;
    checker.ok(organization, delete(&one), 204).await;
    checker.refused(organization, get(&one), 404, "SERVICE_ACCOUNT_NOT_FOUND").await;
}

/// What a client is with a token of its own.
async fn token(world: &World, client: &str, secret: &str) -> Account {
    let form = format!("client_id={client}&client_secret={secret}&grant_type=client_credentials");
    let ask = Ask::new(reqwest::Method::POST, "/api/oauth/token");
    let given = world.checker.plain(&ask.text("application/x-www-form-urlencoded", &form)).await;
    Account::Bearer(text(&given.json(), "access_token"))
}
