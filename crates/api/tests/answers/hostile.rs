//! Clients that mean harm, or were written by somebody who did not read the RFC: whatever they send gets the right
//! answer or none, nobody else notices, and nothing of ours breaks.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::time::Duration;

use common::{ACCEPT, App, Request, Response, http, http::Connection};
use model::{DeploymentKind, role::Role};
use serde_json::json;

/// Largest body that is looked at, as the server says it.
const BODY_BYTES_MAX: usize = 128 * 1024;

/// A connection on which the owner's digest nonce is used again and again.
struct Session<'a> {
    app: &'a App,
    connection: Connection,
    nonce: String,
    nc: u32,
}

impl<'a> Session<'a> {
    async fn open(app: &'a App) -> Self {
        let mut connection = Connection::open(app.address).await;
        let nonce = http::nonce(&connection.send(&Request::new("GET", "/api/atlas/v2")).await);
        Self { app, connection, nonce, nc: 0 }
    }

    fn authorization(&mut self, method: &str, target: &str) -> String {
        self.nc += 1;
        http::answer(&self.app.owner, method, target, &self.nonce, self.nc)
    }

    /// A request head with everything but what the test is about.
    fn head(&mut self, method: &str, target: &str, more: &str) -> String {
        let authorization = self.authorization(method, target);
        format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nAccept: {ACCEPT}\r\nAuthorization: {authorization}\r\n{more}\r\n"
        )
    }

    async fn raw(&mut self, method: &str, target: &str, more: &str, body: &[u8]) -> Response {
        let head = self.head(method, target, more);
        self.connection.write(head.as_bytes()).await;
        self.connection.write_anyway(body).await;
        self.connection.read(method).await
    }

    /// The connection is in step and the server is well.
    async fn still_answers(&mut self) {
        self.raw("GET", "/api/atlas/v2", "", b"").await.expect(200);
    }
}

fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(format!("{:x};name=\"value\"\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    out
}

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_and_the_connection_goes_on() {
    let app = App::start().await;
    let target = app.backup("/restoreJobs");
    let mut session = Session::open(&app).await;
    for size in [BODY_BYTES_MAX + 1, 1 << 20, 10 << 20] {
        let body = vec![b' '; size];
        // Unread bodies of those who are not known must not be taken for the next request.
        let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n");
        session.connection.write(head.as_bytes()).await;
        session.connection.write(&body).await;
        assert_eq!(session.connection.read("POST").await.status, 401);
        let length = format!("{JSON}Content-Length: {size}\r\n");
        session.raw("POST", &target, &length, &body).await.refused(413, "PAYLOAD_TOO_LARGE");
        let pieces: Vec<&[u8]> = body.chunks(60_000).collect();
        let more = format!("{JSON}Transfer-Encoding: chunked\r\n");
        session.raw("POST", &target, &more, &chunked(&pieces)).await.refused(413, "PAYLOAD_TOO_LARGE");
        session.still_answers().await;
    }
    let exact = vec![b' '; BODY_BYTES_MAX];
    let length = format!("{JSON}Content-Length: {}\r\n", exact.len());
    session.raw("POST", &target, &length, &exact).await.refused(400, "MALFORMED_JSON");
    // What nobody would wait for is refused at once, without a byte of it.
    let length = format!("{JSON}Content-Length: {}\r\n", u64::MAX >> 1);
    session.raw("POST", &target, &length, b"").await.refused(413, "PAYLOAD_TOO_LARGE");
    assert!(session.connection.is_closed().await);
    app.stop().await;
}

#[tokio::test]
async fn who_waits_for_leave_to_send_gets_it_or_the_refusal() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let target = app.backup("/restoreJobs");
    let mut session = Session::open(&app).await;
    let body = json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()}).to_string();
    let more = format!("{JSON}Content-Length: {}\r\nExpect: 100-continue\r\n", body.len());
    let head = session.head("POST", &target, &more);
    session.connection.write(head.as_bytes()).await;
    assert_eq!(session.connection.read("HEAD").await.status, 100);
    session.connection.write(body.as_bytes()).await;
    session.connection.read("POST").await.expect(200);
    let more = format!("{JSON}Content-Length: {}\r\nExpect: 100-continue\r\n", 10 << 20);
    session.raw("POST", &target, &more, b"").await.refused(413, "PAYLOAD_TOO_LARGE");
    app.stop().await;
}

#[tokio::test]
async fn bodies_in_chunks_are_bodies_and_broken_ones_are_malformed() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let target = app.backup("/restoreJobs");
    let mut session = Session::open(&app).await;
    let body = json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()}).to_string();
    let more = format!("{JSON}Transfer-Encoding: chunked\r\n");
    let (first, rest) = body.as_bytes().split_at(7);
    session.raw("POST", &target, &more, &chunked(&[first, rest])).await.expect(200);
    session.still_answers().await;
    for broken in
        [b"zz\r\nabc\r\n0\r\n\r\n".as_slice(), b"ffffffffffffffffff\r\n", b"2\r\nabcdef\r\n0\r\n\r\n"]
    {
        let mut session = Session::open(&app).await;
        session.raw("POST", &target, &more, broken).await.refused(400, "MALFORMED_REQUEST");
    }
    app.stop().await;
}

#[tokio::test]
async fn json_made_to_break_parsers_is_malformed_or_wrong_and_nothing_worse() {
    let app = App::start().await;
    let target = app.backup("/restoreJobs");
    let mut session = Session::open(&app).await;
    let deep =
        |open: &str, close: &str| format!("{{\"links\":{}{}}}", open.repeat(9_000), close.repeat(9_000));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (deep("[", "]").into(), "MALFORMED_JSON"),
        (deep("{\"a\":", "}").into(), "MALFORMED_JSON"),
        ("[".repeat(BODY_BYTES_MAX).into(), "MALFORMED_JSON"),
        (b"\xef\xbb\xbf{}".to_vec(), "MALFORMED_JSON"),
        (b"{\"deliveryType\":\"\xff\xfe\"}".to_vec(), "MALFORMED_JSON"),
        (br#"{"deliveryType":"\ud800"}"#.to_vec(), "MALFORMED_JSON"),
        (b"{\"deliveryType\":\"down\0load\"}".to_vec(), "MALFORMED_JSON"),
        (br#"{"deliveryType":"down\u0000load"}"#.to_vec(), "INVALID_ENUM_VALUE"),
        (br#"{"oplogTs":1e999}"#.to_vec(), "MALFORMED_JSON"),
        (br#"{"oplogTs":99999999999999999999}"#.to_vec(), "FRACTIONAL_TIMESTAMP"),
        (br#"{"oplogTs":-0}"#.to_vec(), "FRACTIONAL_TIMESTAMP"),
        (br#"{"__proto__":{"x":1}}"#.to_vec(), "INVALID_ATTRIBUTE"),
        (br#"{"":1}"#.to_vec(), "INVALID_ATTRIBUTE"),
        (br#"{"deliveryType":{"$ne":null}}"#.to_vec(), "INVALID_JSON_ATTRIBUTE"),
        (format!("{{\"{}\":1}}", "k".repeat(60_000)).into(), "INVALID_ATTRIBUTE"),
        (format!("{{\"deliveryType\":\"{}\"}}", "%s".repeat(20_000)).into(), "INVALID_ENUM_VALUE"),
    ];
    for (body, code) in cases {
        let length = format!("{JSON}Content-Length: {}\r\n", body.len());
        let answer = session.raw("POST", &target, &length, &body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!(answer.header("x-error-code"), Some(code), "{shown}: {answer:?}");
        assert_eq!(answer.status, 400);
        assert!(answer.body.len() < 1_000, "{shown}: an error does not send back what it was sent");
    }
    app.stop().await;
}

#[tokio::test]
async fn errors_do_not_send_back_what_they_were_sent() {
    let app = App::start().await;
    let long = "k".repeat(20_000);
    let get = |path: String| Request::new("GET", &path);
    let post = |path: String, body: serde_json::Value| Request::new("POST", &path).json(&body);
    let past = |query: String| get(app.own(&format!("/clusters/c1/{query}")));
    for (request, code) in [
        (post(app.own("/clusters"), json!({"name": long, "uri": "mongodb://h"})), "CLUSTER_NAME_INVALID"),
        (
            post(app.own("/clusters"), json!({"name": "c9", "uri": "mongodb://h", "kind": long})),
            "INVALID_ENUM_VALUE",
        ),
        (post(app.own("/credentials"), json!({"kind": long, "roles": []})), "INVALID_ENUM_VALUE"),
        (post(app.own("/credentials"), json!({"roles": [long]})), "INVALID_ENUM_VALUE"),
        (get(format!("/api/atlas/v2/groups/byName/{long}")), "GROUP_NAME_NOT_FOUND"),
        (get(app.group(&format!("/backup/{long}/privateEndpoints"))), "RESOURCE_NOT_FOUND"),
        (get(app.group(&format!("/backup/exportBuckets/{long}"))), "EXPORT_BUCKET_NOT_FOUND"),
        (get(format!("/api/atlas/v2/orgs/{long}")), "INVALID_ORG_ID"),
        (get(format!("/api/atlas/v2/rateLimits/{long}")), "RESOURCE_NOT_FOUND"),
        (get(app.backup(&format!("/snapshots?pageNum={long}"))), "INVALID_QUERY_PARAMETER"),
        (past(format!("document?namespace=shop.{long}&id=1&at=1")), "INVALID_QUERY_PARAMETER"),
        (past(format!("document/versions?namespace=shop.{long}&id=1")), "INVALID_QUERY_PARAMETER"),
        (past(format!("diff?namespace=shop.{long}&from=1&to=1")), "INVALID_QUERY_PARAMETER"),
        (past(format!("document?namespace=shop.orders&id=1&at={long}")), "INVALID_QUERY_PARAMETER"),
    ] {
        let shown = request.target.chars().take(100).collect::<String>();
        let answer = app.send(&app.owner, request).await;
        assert_eq!(answer.header("x-error-code"), Some(code), "{shown}: {}", answer.text());
        assert!(answer.body.len() < 1_000, "{shown}: {} bytes", answer.body.len());
    }
    app.stop().await;
}

#[tokio::test]
async fn paths_that_try_to_be_another_path_are_not_found() {
    let app = App::start().await;
    let group = app.project.id;
    let mut session = Session::open(&app).await;
    for path in [
        format!("/api/atlas/v2/groups/{group}/clusters/c1%2fbackup%2fsnapshots"),
        format!("/api/atlas/v2/groups/{group}%2fclusters/c1"),
        format!("/api/atlas/v2/groups/{group}/clusters/.."),
        format!("/api/atlas/v2/groups/{group}/clusters/%2e%2e"),
        format!("/api/atlas/v2/groups/{group}/clusters/c1;jsessionid=1"),
        format!("/api/atlas/v2/groups/{group}/clusters/c1%00"),
        format!("/api/atlas/v2/groups/{group}/clusters/c1%ff"),
        format!("/api/atlas/v2/groups/{group}/clusters/c1%c0%af"),
        format!("/api/atlas/v2/groups/{group}/clusters/c1/"),
        format!("/api/atlas/v2/groups/{group}/clusters/'%20OR%201=1--"),
        format!("/api/atlas/v2/groups/{group}/clusters/{}", "c".repeat(30_000)),
        format!("/api/atlas/v2/../v2/groups/{group}"),
        format!("/api/atlas//v2/groups/{group}"),
        format!("/api/atlas/v2/groups/%{group}"),
        format!("/api/atlas/v2/groups/{}", group.to_string().to_uppercase().replace(char::is_numeric, "A")),
        "/api/atlas/v2/groups/byName/%00".to_owned(),
        "/api/atlas/v2/groups/byName/%ff".to_owned(),
        "/api/atlas/v2/groups/byName/..%2f..%2fetc%2fpasswd".to_owned(),
        "/api/ebbtide/v1/groups/..".to_owned(),
    ] {
        let answer = session.raw("GET", &path, "", b"").await;
        let shown = &path[..path.len().min(100)];
        assert_eq!(answer.status, 404, "{shown}: {}", answer.text());
        assert!(answer.header("x-error-code").is_some(), "{shown}");
        assert!(answer.body.len() < 1_000, "{shown}: {}", answer.body.len());
    }
    for path in ["/", "//api/atlas/v2", "/%61pi/atlas/v2", "/download/../api/atlas/v2", "/download/a/b/c"] {
        assert_eq!(app.plain(Request::new("GET", path)).await.status, 404, "{path}");
    }
    // Target forms that only proxies get.
    let absolute = "http://h/api/atlas/v2";
    session.raw("GET", absolute, "", b"").await.expect(200);
    assert_eq!(app.plain(Request::new("OPTIONS", "*")).await.status, 404);
    assert!(matches!(app.plain(Request::new("CONNECT", "h:443")).await.status, 400..500));
    assert_eq!(app.plain(Request::new("BREW", "/api/atlas/v2")).await.status, 401);
    session.raw("BREW", "/api/atlas/v2", "", b"").await.refused(405, "METHOD_NOT_ALLOWED");
    app.stop().await;
}

#[tokio::test]
async fn thousands_of_parameters_are_ignored() {
    let app = App::start().await;
    let mut session = Session::open(&app).await;
    let many = "a=%00&".repeat(3_000);
    let target = app.backup(&format!("/snapshots?{many}"));
    let page = session.raw("GET", &target, "", b"").await.expect(200);
    assert_eq!(page["totalCount"], 0);
    let target = app.backup("/snapshots?pageNum=99999999999999999999");
    session.raw("GET", &target, "", b"").await.refused(400, "INVALID_QUERY_PARAMETER");
    let target = app.backup("/snapshots?pageNum=2147483647&itemsPerPage=500");
    assert_eq!(session.raw("GET", &target, "", b"").await.expect(200)["results"], json!([]));
    let target = app.backup("/snapshots?pageNum=1&pageNum=x&pretty=%74rue&envelope=%00");
    session.raw("GET", &target, "", b"").await.refused(400, "INVALID_QUERY_PARAMETER");
    // A head beyond all measure is not read to its end.
    let endless = format!("GET /api/atlas/v2?{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(70_000));
    let mut connection = Connection::open(app.address).await;
    connection.write_anyway(endless.as_bytes()).await;
    assert!(matches!(connection.read("GET").await.status, 414 | 431));
    app.stop().await;
}

#[tokio::test]
async fn what_a_client_writes_into_host_does_not_come_back_in_links() {
    let app = App::start().await;
    let mut session = Session::open(&app).await;
    for (host, base) in [
        ("api.test:8080", "http://api.test:8080/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("good@evil.test", "http://localhost/"),
        ("evil.test/x?y#", "http://localhost/"),
        ("a\" b", "http://localhost/"),
        ("", "http://localhost/"),
    ] {
        let authorization = session.authorization("GET", "/api/atlas/v2");
        let head = format!(
            "GET /api/atlas/v2 HTTP/1.1\r\nHost: {host}\r\nAccept: {ACCEPT}\r\nAuthorization: {authorization}\r\n\r\n"
        );
        session.connection.write(head.as_bytes()).await;
        let answer = session.connection.read("GET").await.expect(200);
        let link = answer["links"][0]["href"].as_str().unwrap();
        assert!(link.starts_with(base), "{host:?}: {link}");
    }
    app.stop().await;
}

#[tokio::test]
async fn old_clients_and_hasty_ones_are_served() {
    let app = App::start().await;
    let mut session = Session::open(&app).await;
    // HTTP/1.0 without a host: answered, and the connection is over.
    let authorization = session.authorization("GET", "/api/atlas/v2");
    let mut old = Connection::open(app.address).await;
    let head =
        format!("GET /api/atlas/v2 HTTP/1.0\r\nAccept: {ACCEPT}\r\nAuthorization: {authorization}\r\n\r\n");
    old.write(head.as_bytes()).await;
    old.read("GET").await.expect(200);
    assert!(old.is_closed().await);
    // Several requests in one piece: answers in their order.
    let mut piece = String::new();
    for target in ["/api/atlas/v2", "/api/atlas/v2/groups/x", "/api/atlas/v2/nothing", "/api/atlas/v2/groups"]
    {
        piece.push_str(&session.head("GET", target, ""));
    }
    session.connection.write(piece.as_bytes()).await;
    session.connection.read("GET").await.expect(200);
    session.connection.read("GET").await.refused(404, "INVALID_GROUP_ID");
    session.connection.read("GET").await.refused(404, "RESOURCE_NOT_FOUND");
    session.connection.read("GET").await.expect(200);
    // A body where none belongs is read past.
    session.raw("GET", "/api/atlas/v2", "Content-Length: 5\r\n", b"GET /").await.expect(200);
    session.still_answers().await;
    app.stop().await;
}

#[tokio::test]
async fn a_digest_is_good_for_one_request_and_a_forged_one_for_none() {
    let app = App::start().await;
    let mut connection = Connection::open(app.address).await;
    let nonce = http::nonce(&connection.send(&Request::new("GET", "/api/atlas/v2")).await);
    let target = app.backup("/snapshots");
    let good = http::answer(&app.owner, "GET", &target, &nonce, 1);
    let with = |method: &str, target: &str, authorization: &str| {
        Request::new(method, target).header("Accept", ACCEPT).header("Authorization", authorization)
    };
    connection.send(&with("GET", &target, &good)).await.expect(200);
    let forged_nonce = "A".repeat(32);
    let mut refused = vec![
        ("GET", target.clone(), good.clone()),
        ("DELETE", target.clone(), good.clone()),
        ("GET", app.backup("/restoreJobs"), good.clone()),
        ("GET", target.clone(), http::answer(&app.owner, "GET", &target, &forged_nonce, 1)),
        ("GET", target.clone(), http::answer(&app.owner, "GET", &target, &nonce, 0)),
        ("GET", target.clone(), good.replace("nc=00000001", "nc=00000002")),
        ("GET", target.clone(), good.replace(&app.owner.public, "nobodyxx")),
        ("GET", target.clone(), format!("{good}, {good}")),
        ("GET", target.clone(), good.replace(", ", "")),
        ("GET", target.clone(), format!("Digest {}", "a=\"b\",".repeat(5_000))),
    ];
    let tokens = ["", " ", "null", "undefined", &"x".repeat(50_000), "' OR 1=1", &app.owner.private];
    refused.extend(tokens.iter().map(|token| ("GET", target.clone(), format!("Bearer {token}"))));
    for scheme in ["Basic Zm9vOmJhcg==", "Negotiate x", "Digest", "Bearer", "digest ", "\u{7f}"] {
        refused.push(("GET", target.clone(), scheme.to_owned()));
    }
    for (method, target, authorization) in refused {
        let mut connection = Connection::open(app.address).await;
        connection.write_anyway(
            format!("{method} {target} HTTP/1.1\r\nHost: h\r\nAccept: {ACCEPT}\r\nAuthorization: {authorization}\r\n\r\n")
                .as_bytes(),
        )
        .await;
        let answer = connection.read(method).await;
        let shown = &authorization[..authorization.len().min(80)];
        assert!(matches!(answer.status, 400 | 401), "{shown}: {answer:?}");
        assert!(!answer.text().contains("results"), "{shown}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_belongs_to_others_is_out_of_reach() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let body = json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()});
    let job = app.post(&app.backup("/restoreJobs"), body).await.expect(200);
    let job = job["id"].as_str().unwrap();
    // Another deployment of the same project does not lend its path.
    app.add("c2", DeploymentKind::ReplicaSet).await;
    let through_c2 = |rest: &str| app.group(&format!("/clusters/c2{rest}"));
    let id = snapshot.id.to_string();
    for (method, rest, code) in [
        ("GET", format!("/backup/restoreJobs/{job}"), "RESTORE_JOB_NOT_FOUND"),
        ("DELETE", format!("/backup/restoreJobs/{job}"), "RESTORE_JOB_NOT_FOUND"),
        ("GET", format!("/restoreJobs/{job}"), "RESTORE_JOB_NOT_FOUND"),
        ("GET", format!("/backup/snapshots/{id}"), "SNAPSHOT_NOT_FOUND"),
        ("DELETE", format!("/backup/snapshots/{id}"), "SNAPSHOT_NOT_FOUND"),
    ] {
        app.send(&app.owner, Request::new(method, &through_c2(&rest))).await.refused(404, code);
    }
    let body = json!({"deliveryType": "download", "snapshotId": id});
    app.post(&through_c2("/backup/restoreJobs"), body).await.refused(404, "SNAPSHOT_NOT_FOUND");
    // Nor does another project's owner get in, whatever the path.
    let other = app.catalog.projects().create("p2", app.now()).await.unwrap();
    let stranger = app.key_in(&[Role::GroupOwner], Some(&other)).await;
    for path in [
        app.group(""),
        app.backup(&format!("/restoreJobs/{job}")),
        app.backup(&format!("/snapshots/{id}")),
        app.own("/clusters/c1"),
        app.own("/credentials"),
    ] {
        app.send(&stranger, Request::new("GET", &path)).await.refused(401, "USER_CANNOT_ACCESS_GROUP");
    }
    let crossed = format!("/api/atlas/v2/groups/{}/clusters/c1/backup/restoreJobs/{job}", other.id);
    app.send(&stranger, Request::new("GET", &crossed)).await.refused(404, "CLUSTER_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn slow_and_silent_clients_hold_up_nobody_else() {
    let app = App::start().await;
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut connection = Connection::open(app.address).await;
        let begun: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /api/atlas/v2 HTTP/1.1\r\nHost: h\r\nX: ",
            2 => b"POST /api/atlas/v2 HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{",
            _ => b"POST /api/atlas/v2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{",
        };
        connection.write(begun).await;
        slow.push(connection);
    }
    for _ in 0..20 {
        app.get("/api/atlas/v2").await.expect(200);
    }
    drop(slow);
    app.get("/api/atlas/v2").await.expect(200);
    app.stop().await;
}

/// A byte now and then is no reason to wait longer.
#[tokio::test]
async fn who_never_comes_to_an_end_is_cut_off() {
    const DRIP: Duration = Duration::from_millis(500);
    const LONG: Duration = Duration::from_secs(120);
    let app = App::start().await;
    let target = app.backup("/restoreJobs");
    let mut session = Session::open(&app).await;
    let known = session.head("POST", &target, &format!("{JSON}Content-Length: 1000\r\n"));
    let unknown = format!("POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n");
    let head = "GET /api/atlas/v2 HTTP/1.1\r\nHost: h\r\nX: ".to_owned();
    let address = app.address;
    let dripping = [(known, 408), (unknown, 401), (head, 0)].map(|(begun, status)| async move {
        let mut connection = Connection::open(address).await;
        connection.write(begun.as_bytes()).await;
        loop {
            connection.write_anyway(b" ").await;
            match tokio::time::timeout(DRIP, connection.begins_to_answer()).await {
                Ok(true) => break (connection.read("POST").await.status, status),
                Ok(false) => break (0, status),
                Err(_) => {}
            }
        }
    });
    let ended = tokio::time::timeout(LONG, futures::future::join_all(dripping)).await.unwrap();
    for (answered, status) in ended {
        assert_eq!(answered, status, "0 is none at all");
    }
    Session::open(&app).await.still_answers().await;
    app.stop().await;
}

#[tokio::test]
async fn who_breaks_a_download_off_or_asks_for_absurd_ranges_uses_nothing_up() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let body = json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()});
    app.post(&app.backup("/restoreJobs"), body).await.expect(200);
    // More than the buffers of socket and server hold together.
    let bytes: Vec<u8> = (0..24 << 20).map(|n: u32| (n % 251) as u8).collect();
    let (job, _) = app.finish_download(&bytes).await;
    let shown = app.get(&app.backup(&format!("/restoreJobs/{}", job.id))).await.expect(200);
    let url = shown["deliveryUrl"][0].as_str().unwrap();
    let path = url.strip_prefix("http://api.test:8080").unwrap().to_owned();
    for read in [1, 1_000, 2 << 20] {
        let mut connection = Connection::open(app.address).await;
        connection.write(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await;
        connection.read_some(read).await;
    }
    let absurd = [
        ("bytes=0-0,-1", 200),
        ("bytes=-0", 416),
        ("bytes=18446744073709551616-", 416),
        ("bytes=--1", 200),
        ("bytes=1-0", 200),
        ("bytes=0-18446744073709551615", 206),
        ("lines=1-2", 200),
    ];
    for (range, status) in absurd {
        let head = Request::new("HEAD", &path).header("Range", range);
        assert_eq!(app.plain(head).await.status, status, "{range}");
    }
    let many = (0..500).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(",");
    let head = Request::new("HEAD", &path).header("Range", &format!("bytes={many}"));
    assert_eq!(app.plain(head).await.status, 200, "many ranges are the whole, not many parts");
    app.plain(Request::new("POST", &path)).await.refused(405, "METHOD_NOT_ALLOWED");
    let whole = app.plain(Request::new("GET", &path)).await;
    assert!(whole.status == 200 && whole.body == bytes, "it is all still there");
    app.plain(Request::new("GET", &path)).await.refused(410, "CANNOT_DOWNLOAD_EXPIRED_JOB");
    app.stop().await;
}

/// Good requests with bytes changed, cut out and doubled: never a fault of the server, never silence.
#[tokio::test]
async fn mutilated_requests_never_make_a_fault() {
    const ROUNDS: u64 = 600;
    let app = App::start().await;
    let target = app.backup("/restoreJobs?pretty=true&pageNum=1");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut session = Session::open(&app).await;
    for round in 0..ROUNDS {
        let body = r#"{"deliveryType":"automated","snapshotId":"32b6e34b3d91647abb20e7b8","targetClusterName":"c1"}"#;
        let length = format!("{JSON}Content-Length: {}\r\n", body.len());
        let mut bytes = session.head("POST", &target, &length).into_bytes();
        bytes.extend_from_slice(body.as_bytes());
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] = next(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[at]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut connection = Connection::open(app.address).await;
        connection.write_anyway(&bytes).await;
        let said = connection.read_to_end().await;
        let status = said.get(9..12).map(String::from_utf8_lossy);
        let fault = status.as_ref().is_some_and(|status| status.starts_with('5'));
        assert!(
            !fault,
            "round {round}: {}\n{}",
            String::from_utf8_lossy(&bytes),
            String::from_utf8_lossy(&said)
        );
    }
    Session::open(&app).await.still_answers().await;
    tokio::time::timeout(Duration::from_secs(60), app.stop()).await.unwrap();
}
