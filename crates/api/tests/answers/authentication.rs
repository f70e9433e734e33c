//! Who gets in, and how: digest and OAuth, on the wire.
#![allow(clippy::unwrap_used)]

use ebbtide_api as api;

use crate::common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{ACCEPT, App, Key, Request, http};
use model::role::Role;

#[tokio::test]
async fn d1_authentication_comes_before_everything_else() {
    let app = App::start().await;
    for request in [
        Request::new("GET", "/api/atlas/v2"),
        Request::new("GET", "/api/atlas/v2/nowhere"),
        Request::new("GET", "/api/atlas/v2/groups/not-an-id/clusters/c1"),
        Request::new("PUT", &app.backup("/restoreJobs")),
        Request::new("POST", &app.backup("/restoreJobs")).header("Accept", "text/html"),
        Request::new("POST", &app.backup("/restoreJobs")).body("application/json", "{not json"),
        Request::new("GET", &app.own("/clusters")),
        Request::new("GET", "/api/atlas/v2").header("Authorization", "Basic eDp5"),
        Request::new("GET", "/api/atlas/v2").header("Authorization", "Digest nonsense"),
        Request::new("GET", "/api/atlas/v2").header("Authorization", "Bearer nonsense"),
    ] {
        let response = app.plain(request.clone()).await;
        assert_eq!(response.status, 401, "{request:?}");
        http::challenge(&response);
    }
    app.stop().await;
}

#[tokio::test]
async fn d2_the_challenge_and_its_body_are_atlass_byte_for_byte() {
    let app = App::start().await;
    let response = app.plain(Request::new("GET", "/api/atlas/v2/groups")).await;
    let nonce = http::nonce(&response);
    assert_eq!(STANDARD.decode(&nonce).unwrap().len(), 24);
    assert_eq!(nonce.len(), 32);
    let expected = format!(
        "Digest realm=\"MMS Public API\", domain=\"\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\", stale=false"
    );
    let challenges: Vec<_> =
        response.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("www-authenticate")).collect();
    assert_eq!(challenges.len(), 1, "the Go client reads the first one only");
    assert_eq!(challenges[0].1, expected);
    assert_eq!(
        response.text(),
        "{\n  \"error\" : 401,\n  \"reason\" : \"Unauthorized\",\n  \"detail\" : \"You are not authorized for this resource.\",\n  \"errorCode\" : \"UNEXPECTED_ERROR\"\n}"
    );
    assert_eq!(response.body.len(), 142);
    assert_eq!(response.header("content-type"), Some("application/json"));
    app.stop().await;
}

#[tokio::test]
async fn curl_sends_an_empty_first_post_and_go_a_full_one() {
    let app = App::start().await;
    let path = app.backup("/snapshots");
    for first_body in ["", r#"{"description":"x","retentionInDays":1}"#] {
        let mut connection = http::Connection::open(app.address).await;
        let request =
            Request::new("POST", &path).header("Accept", ACCEPT).body("application/json", first_body);
        let first = connection.send(&request).await;
        assert_eq!(first.status, 401);
        let authorization = http::answer(&app.owner, "POST", &path, &http::nonce(&first), 1);
        let body = r#"{"description":"x","retentionInDays":1}"#;
        let second = Request::new("POST", &path)
            .header("Accept", ACCEPT)
            .header("Authorization", &authorization)
            .body("application/json", body);
        connection.send(&second).await.expect(200);
        app.complete_snapshot().await;
    }
    app.stop().await;
}

#[tokio::test]
async fn d3_a_nonce_is_used_again_with_a_rising_count() {
    let app = App::start().await;
    let mut connection = http::Connection::open(app.address).await;
    let target = "/api/atlas/v2";
    let first = connection.send(&Request::new("GET", target)).await;
    let nonce = http::nonce(&first);
    let with = |nc: u32| {
        let authorization = http::answer(&app.owner, "GET", target, &nonce, nc);
        Request::new("GET", target).header("Accept", ACCEPT).header("Authorization", &authorization)
    };
    for nc in [1, 2, 3, 9] {
        connection.send(&with(nc)).await.expect(200);
    }
    for replay in [9, 3] {
        let response = connection.send(&with(replay)).await;
        assert_eq!(response.status, 401);
        assert!(response.header("www-authenticate").unwrap().ends_with("stale=true"), "nc {replay}");
    }
    app.stop().await;
}

#[tokio::test]
async fn stale_is_said_only_to_those_who_know_the_secret() {
    let app = App::start().await;
    let target = "/api/atlas/v2";
    let nonce = http::nonce(&app.plain(Request::new("GET", target)).await);
    app.pass_seconds(3_600);
    let stale = |key: Key, nonce: String| {
        let request = Request::new("GET", target)
            .header("Accept", ACCEPT)
            .header("Authorization", &http::answer(&key, "GET", target, &nonce, 1));
        let app = &app;
        async move { app.plain(request).await.header("www-authenticate").unwrap().ends_with("stale=true") }
    };
    assert!(stale(app.owner.clone(), nonce.clone()).await, "an old nonce");
    assert!(stale(app.owner.clone(), STANDARD.encode([7; 24])).await, "a nonce of another process");
    let wrong = Key { private: "wrong".into(), ..app.owner.clone() };
    assert!(!stale(wrong, nonce.clone()).await, "a wrong secret");
    assert!(!stale(Key { public: "zzzzzzzz".into(), private: "x".into() }, nonce).await, "an unknown key");
    app.stop().await;
}

#[tokio::test]
async fn the_uri_and_the_method_are_part_of_the_proof() {
    let app = App::start().await;
    let nonce = http::nonce(&app.plain(Request::new("GET", "/api/atlas/v2")).await);
    let other = http::answer(&app.owner, "GET", "/api/atlas/v2/groups", &nonce, 1);
    let request =
        Request::new("GET", "/api/atlas/v2").header("Accept", ACCEPT).header("Authorization", &other);
    assert_eq!(app.plain(request).await.status, 401);
    let head = http::answer(&app.owner, "HEAD", "/api/atlas/v2", &nonce, 2);
    let request =
        Request::new("GET", "/api/atlas/v2").header("Accept", ACCEPT).header("Authorization", &head);
    assert_eq!(app.plain(request).await.status, 401);
    // The npm client ends its targets in a question mark.
    app.send(&app.owner, Request::new("GET", "/api/atlas/v2/groups?")).await.expect(200);
    app.send(&app.owner, Request::new("GET", "/api/atlas/v2/groups?a=%20%2f&b")).await.expect(200);
    app.stop().await;
}

fn basic(account: &Key) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", account.public, account.private)))
}

fn form(path: &str, body: &str) -> Request {
    Request::new("POST", path).body("application/x-www-form-urlencoded", body)
}

#[tokio::test]
async fn a_service_account_gets_a_token_uses_it_and_gives_it_back() {
    let app = App::start().await;
    let account = app.service_account(&[Role::GroupReadOnly]).await;
    let request =
        form("/api/oauth/token", "grant_type=client_credentials").header("Authorization", &basic(&account));
    let granted = app.plain(request).await;
    let body = granted.expect(200);
    let token = body["access_token"].as_str().unwrap().to_owned();
    assert_eq!(
        granted.text(),
        format!(r#"{{"access_token":"{token}","expires_in":3600,"token_type":"Bearer"}}"#)
    );
    assert_eq!(granted.header("cache-control"), Some("no-store"));
    let use_it = || {
        let path = app.group("");
        Request::new("GET", &path)
            .header("Accept", ACCEPT)
            .header("Authorization", &format!("Bearer {token}"))
    };
    app.plain(use_it()).await.expect(200);
    // A token of another account cannot be revoked, and to try is no error.
    let other = app.service_account(&[Role::GroupReadOnly]).await;
    let revoke = |by: &Key| {
        form("/api/oauth/revoke", &format!("token={token}&token_type_hint=access_token"))
            .header("Authorization", &basic(by))
    };
    assert_eq!(app.plain(revoke(&other)).await.status, 200);
    app.pass_seconds(6);
    app.plain(use_it()).await.expect(200);
    let revoked = app.plain(revoke(&account)).await;
    assert_eq!((revoked.status, revoked.body.len()), (200, 0));
    assert_eq!(app.plain(use_it()).await.status, 401, "revoked in this process at once");
    app.stop().await;
}

#[tokio::test]
async fn a_token_dies_after_its_hour() {
    let app = App::start().await;
    let account = app.service_account(&[Role::GroupReadOnly]).await;
    let request =
        form("/api/oauth/token", "grant_type=client_credentials").header("Authorization", &basic(&account));
    let token = app.plain(request).await.expect(200)["access_token"].as_str().unwrap().to_owned();
    app.pass_seconds(3_601);
    let request = Request::new("GET", "/api/atlas/v2")
        .header("Accept", ACCEPT)
        .header("Authorization", &format!("Bearer {token}"));
    assert_eq!(app.plain(request).await.status, 401);
    app.stop().await;
}

#[tokio::test]
async fn a_token_that_differs_in_one_place_is_none() {
    let app = App::start().await;
    let account = app.service_account(&[Role::GroupReadOnly]).await;
    let request =
        form("/api/oauth/token", "grant_type=client_credentials").header("Authorization", &basic(&account));
    let token = app.plain(request).await.expect(200)["access_token"].as_str().unwrap().to_owned();
    let used = |token: &str| {
        let request = Request::new("GET", "/api/atlas/v2").header("Accept", ACCEPT);
        app.plain(request.header("Authorization", &format!("Bearer {token}")))
    };
    let mut forged: Vec<String> = (0..token.len())
        .map(|at| {
            let other = if token.as_bytes()[at] == b'a' { "b" } else { "a" };
            format!("{}{other}{}", &token[..at], &token[at + 1..])
        })
        .collect();
    forged.extend([token[1..].to_owned(), format!("{token}a"), token.repeat(2), token.to_uppercase()]);
    for forged in forged.iter().filter(|forged| **forged != token) {
        assert_eq!(used(forged).await.status, 401, "{forged}");
    }
    used(&token).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn d15_client_credentials_in_the_header_or_in_the_body() {
    let app = App::start().await;
    let account = app.service_account(&[Role::GroupReadOnly]).await;
    let body = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        account.public, account.private
    );
    app.plain(form("/api/oauth/token", &body)).await.expect(200);
    // The Go SDK percent-encodes what it puts into the header.
    let escaped =
        Key { public: account.public.replace('_', "%5F"), private: account.private.replace('_', "%5F") };
    let request =
        form("/api/oauth/token", "grant_type=client_credentials").header("Authorization", &basic(&escaped));
    app.plain(request).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn requests_for_tokens_are_limited_per_account_and_per_stranger() {
    let limits = api::RateLimits { tokens: api::Bucket::per_minute(2, 1), ..api::RateLimits::default() };
    let app = App::start_with(|settings| settings.rate_limits = Some(limits)).await;
    let account = app.service_account(&[Role::GroupReadOnly]).await;
    let wrong = Key { private: "wrong".into(), ..account.clone() };
    let ask = |path: &str, key: &Key| {
        let body = "grant_type=client_credentials&token=x";
        let request = form(path, body).header("Authorization", &basic(key));
        let app = &app;
        async move { app.plain(request).await }
    };
    // Whoever is no account uses up what strangers have, and nothing of the account's own.
    for _ in 0..2 {
        assert_eq!(ask("/api/oauth/token", &wrong).await.status, 401);
    }
    assert_eq!(ask("/api/oauth/token", &wrong).await.status, 429);
    assert_eq!(ask("/api/oauth/revoke", &wrong).await.status, 429);
    ask("/api/oauth/token", &account).await.expect(200);
    assert_eq!(ask("/api/oauth/revoke", &account).await.status, 200);
    let refused = ask("/api/oauth/token", &account).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(
        refused.text(),
        r#"{"error_description":"Rate limit exceeded for api/oauth/token. Please retry after 60 seconds. Request capacity: 2. Refill rate: 1 per 60 seconds.","error":"rate_limited"}"#
    );
    let other = app.service_account(&[Role::GroupReadOnly]).await;
    ask("/api/oauth/token", &other).await.expect(200);
    app.pass_seconds(60);
    ask("/api/oauth/token", &account).await.expect(200);
    assert_eq!(ask("/api/oauth/token", &wrong).await.status, 401);
    app.stop().await;
}

#[tokio::test]
async fn oauth_errors_have_their_own_form() {
    let app = App::start().await;
    let account = app.service_account(&[Role::GroupReadOnly]).await;
    let wrong = Key { private: "wrong".into(), ..account.clone() };
    let unknown = Key { public: "mdb_sa_id_000000000000000000000000".into(), private: "x".into() };
    for key in [wrong, unknown] {
        let request =
            form("/api/oauth/token", "grant_type=client_credentials").header("Authorization", &basic(&key));
        let response = app.plain(request).await;
        assert_eq!(response.status, 401);
        assert_eq!(
            response.text(),
            r#"{"error_description":"Invalid credentials provided.","error":"invalid_client"}"#
        );
    }
    for (body, error) in [("grant_type=password", "unsupported_grant_type"), ("scope=x", "invalid_request")] {
        let request = form("/api/oauth/token", body).header("Authorization", &basic(&account));
        assert_eq!(app.plain(request).await.expect(400)["error"], error);
    }
    let json = Request::new("POST", "/api/oauth/token").body("application/json", "{}");
    assert_eq!(app.plain(json).await.expect(400)["error"], "invalid_request");
    let large = form("/api/oauth/token", &format!("grant_type={}", "x".repeat(200_000)));
    let refused = app.plain(large).await.expect(400);
    assert_eq!(refused["error"], "invalid_request");
    assert_eq!(refused["error_description"], "The request body exceeds 131072 bytes.");
    app.stop().await;
}

#[tokio::test]
async fn a_key_deleted_here_is_out_at_once_and_one_deleted_elsewhere_within_seconds() {
    let app = App::start().await;
    let made = app
        .post(&app.own("/credentials"), serde_json::json!({"roles": ["GROUP_READ_ONLY"]}))
        .await
        .expect(201);
    let key = Key {
        public: made["publicKey"].as_str().unwrap().into(),
        private: made["privateKey"].as_str().unwrap().into(),
    };
    let path = app.group("");
    app.send(&key, Request::new("GET", &path)).await.expect(200);
    let id = made["id"].as_str().unwrap();
    app.delete(&app.own(&format!("/credentials/{id}"))).await.expect(204);
    assert_eq!(app.send(&key, Request::new("GET", &path)).await.status, 401);

    let key = app.key(&[Role::GroupReadOnly]).await;
    app.send(&key, Request::new("GET", &path)).await.expect(200);
    let row =
        app.catalog.credentials().by_public_name(catalog::CredentialKind::ApiKey, &key.public).await.unwrap();
    app.catalog.credentials().delete(row.unwrap().id).await.unwrap();
    app.pass_seconds(5);
    assert_eq!(app.send(&key, Request::new("GET", &path)).await.status, 401);
    app.stop().await;
}

#[tokio::test]
async fn a_stolen_catalog_lets_nobody_in() {
    let app = App::start().await;
    let account = app.service_account(&[Role::GroupOwner]).await;
    let request =
        form("/api/oauth/token", "grant_type=client_credentials").header("Authorization", &basic(&account));
    let token = app.plain(request).await.expect(200)["access_token"].as_str().unwrap().to_owned();
    let snapshot = app.snapshot().await;
    let body = serde_json::json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()});
    app.post(&app.backup("/restoreJobs"), body).await.expect(200);
    let (job, _) = app.finish_download(b"archive").await;
    let shown = app.get(&app.backup(&format!("/restoreJobs/{}", job.id))).await.expect(200);
    let url = shown["deliveryUrl"][0].as_str().unwrap().to_owned();
    let link_token = url.split('/').nth_back(1).unwrap().to_owned();
    let ha1 = api::ha1(&app.owner.public, &app.owner.private);
    app.catalog.close().await;
    // What the thief has: the file with its side files, and nothing else.
    let mut stolen = Vec::new();
    for file in std::fs::read_dir(app.directory.path()).unwrap() {
        stolen.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(stolen.windows(8).any(|w| w == app.owner.public.as_bytes()), "the search itself works");
    let secrets: [&[u8]; 6] = [
        app.owner.private.as_bytes(),
        &ha1,
        hex::encode(ha1).leak().as_bytes(),
        account.private.as_bytes(),
        token.as_bytes(),
        link_token.as_bytes(),
    ];
    for (number, secret) in secrets.iter().enumerate() {
        assert!(!stolen.windows(secret.len()).any(|w| w == *secret), "secret {number} lies in the catalog");
    }
    app.shutdown.cancel();
    app.serving.await.unwrap().unwrap();
}
