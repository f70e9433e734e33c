//! The listener: many requests on one connection, bad HTTP, shutdown under load.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::{ACCEPT, App, Request, http};

#[tokio::test]
async fn a_connection_is_kept_across_errors() {
    let app = App::start().await;
    let mut connection = http::Connection::open(app.address).await;
    for target in ["/api/atlas/v2", "/nowhere", "/api/atlas/v2/groups/x"] {
        let response = connection.send(&Request::new("GET", target)).await;
        assert!(matches!(response.status, 401 | 404));
    }
    let post = Request::new("POST", "/api/nowhere").body("application/json", vec![b'x'; 10_000]);
    assert_eq!(connection.send(&post).await.status, 401);
    assert_eq!(connection.send(&Request::new("GET", "/api/atlas/v2")).await.status, 401);
    app.stop().await;
}

#[tokio::test]
async fn bad_http_is_answered_or_cut_off_and_the_server_lives() {
    let app = App::start().await;
    for bytes in [
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        [b"GET / HTTP/1.1\r\nHost: h\r\nX: ".as_slice(), &vec![b'x'; 300_000], b"\r\n\r\n"].concat(),
        [b"GET / HTTP/1.1\r\nHost: h\r\n".as_slice(), "A: b\r\n".repeat(200).as_bytes(), b"\r\n"].concat(),
        b"POST /api/atlas/v2 HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n".to_vec(),
    ] {
        let mut connection = http::Connection::open(app.address).await;
        connection.write_anyway(&bytes).await;
        // Whatever comes is an error, and then the end.
        while !connection.is_closed().await {}
    }
    app.get("/api/atlas/v2").await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn shutdown_lets_an_answer_under_way_finish() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let body = serde_json::json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()});
    app.post(&app.backup("/restoreJobs"), body).await.expect(200);
    let bytes = vec![5; 8 * 1024 * 1024];
    let (job, _) = app.finish_download(&bytes).await;
    let shown = app.get(&app.backup(&format!("/restoreJobs/{}", job.id))).await.expect(200);
    let url = shown["deliveryUrl"][0].as_str().unwrap().to_owned();
    let path = url.strip_prefix("http://api.test:8080").unwrap();
    let mut connection = http::Connection::open(app.address).await;
    connection.write(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await;
    connection.read_some(1_000).await;
    app.shutdown.cancel();
    let response = connection.read("GET").await;
    assert!(!response.cut && response.body == bytes);
    assert!(connection.is_closed().await);
    app.serving.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(app.address).await.is_err(), "nobody listens any more");
    app.catalog.close().await;
}

#[tokio::test]
async fn many_at_once_on_one_nonce_each() {
    let app = App::start().await;
    let requests = (0..64).map(|_| {
        let app = &app;
        async move {
            let mut connection = http::Connection::open(app.address).await;
            let nonce = http::nonce(&connection.send(&Request::new("GET", "/api/atlas/v2")).await);
            for nc in 1..=20 {
                let authorization = http::answer(&app.owner, "GET", "/api/atlas/v2", &nonce, nc);
                let request = Request::new("GET", "/api/atlas/v2").header("Accept", ACCEPT);
                connection.send(&request.header("Authorization", &authorization)).await.expect(200);
            }
        }
    });
    futures::future::join_all(requests).await;
    app.stop().await;
}
