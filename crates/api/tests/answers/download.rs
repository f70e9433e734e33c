//! The download link: whole, in parts, cut off, used up, expired, cancelled; and what is not one.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::sync::atomic::Ordering;

use common::{
    App, Request, Response,
    http::{Connection, once, sha256_hex},
};
use model::restore::RestoreState;
use serde_json::json;

/// More than the buffers of socket and server hold together.
const BYTES: usize = 24 * 1024 * 1024;

fn archive() -> Vec<u8> {
    (0..BYTES).map(|n| (n * 7 % 251) as u8).collect()
}

/// A ready download: the path of its link and the job.
async fn ready(app: &App, bytes: &[u8]) -> (String, catalog::RestoreJob) {
    let snapshot = app.snapshot().await;
    let body = json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()});
    app.post(&app.backup("/restoreJobs"), body).await.expect(200);
    let (job, _) = app.finish_download(bytes).await;
    let shown = app.get(&app.backup(&format!("/restoreJobs/{}", job.id))).await.expect(200);
    let url = shown["deliveryUrl"][0].as_str().unwrap().to_owned();
    (url.strip_prefix("http://api.test:8080").unwrap().to_owned(), job)
}

async fn get(app: &App, path: &str, range: Option<&str>) -> Response {
    let request = Request::new("GET", path);
    let request = match range {
        Some(range) => request.header("Range", range),
        None => request,
    };
    app.plain(request).await
}

/// The catalog learns of the end a moment after the last byte.
async fn state_becomes(app: &App, job: &catalog::RestoreJob, state: RestoreState) {
    loop {
        let found = app.catalog.restores().get(job.id).await.unwrap().unwrap();
        if found.state == state {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn assert_gone(response: &Response) {
    response.refused(410, "CANNOT_DOWNLOAD_EXPIRED_JOB");
}

#[tokio::test]
async fn one_complete_download_and_no_second() {
    let app = App::start().await;
    let bytes = archive();
    let (path, job) = ready(&app, &bytes).await;
    let response = get(&app, &path, None).await;
    assert_eq!(response.status, 200);
    assert!(response.body == bytes, "the bytes differ");
    let sha256 = sha256_hex(&bytes);
    assert_eq!(response.header("etag"), Some(format!("\"{sha256}\"").as_str()));
    assert_eq!(response.header("x-ebbtide-sha256"), Some(sha256.as_str()));
    assert!(response.header("digest").unwrap().starts_with("sha-256="));
    assert_eq!(response.header("accept-ranges"), Some("bytes"));
    assert_eq!(response.header("content-type"), Some("application/gzip"));
    let name = format!("attachment; filename=\"restore-{}.tar.gz\"", job.snapshot_id);
    assert_eq!(response.header("content-disposition"), Some(name.as_str()));
    assert_gone(&get(&app, &path, None).await);
    assert_gone(&get(&app, &path, Some("bytes=0-0")).await);
    app.delete(&app.backup(&format!("/restoreJobs/{}", job.id))).await.refused(400, "ALREADY_EXPIRED");
    state_becomes(&app, &job, RestoreState::Expired).await;
    let shown = app.get(&app.backup(&format!("/restoreJobs/{}", job.id))).await.expect(200);
    assert_eq!((&shown["expired"], &shown["deliveryUrl"]), (&json!(true), &json!([])));
    let legacy = app.get(&app.group("/clusters/c1/restoreJobs")).await.expect(200);
    assert_eq!(legacy["results"][0]["delivery"]["statusName"], "MAX_DOWNLOADS_EXCEEDED");
    app.stop().await;
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let app = App::start().await;
    let bytes = archive();
    let (path, job) = ready(&app, &bytes).await;
    *app.archives.break_after.lock().unwrap() = Some(BYTES / 2);
    let first = get(&app, &path, None).await;
    assert!(first.cut && first.body.len() < BYTES);
    *app.archives.break_after.lock().unwrap() = None;
    let etag = first.header("etag").unwrap().to_owned();
    let request = Request::new("GET", &path)
        .header("Range", &format!("bytes={}-", first.body.len()))
        .header("If-Range", &etag);
    let rest = app.plain(request).await;
    assert_eq!(rest.status, 206);
    let expected = format!("bytes {}-{}/{BYTES}", first.body.len(), BYTES - 1);
    assert_eq!(rest.header("content-range"), Some(expected.as_str()));
    let whole = [first.body, rest.body].concat();
    assert!(whole == bytes, "the pieces do not make the whole");
    assert_gone(&get(&app, &path, None).await);
    state_becomes(&app, &job, RestoreState::Expired).await;
    app.stop().await;
}

#[tokio::test]
async fn parts_in_any_order_make_a_whole_and_one_part_twice_does_not() {
    let app = App::start().await;
    let (path, job) = ready(&app, &archive()).await;
    let half = BYTES / 2;
    for _ in 0..3 {
        assert_eq!(get(&app, &path, Some(&format!("bytes={half}-"))).await.status, 206);
    }
    assert_eq!(get(&app, &path, Some(&format!("bytes=0-{}", half - 2))).await.body.len(), half - 1);
    let missing = get(&app, &path, Some(&format!("bytes={0}-{0}", half - 1))).await;
    assert_eq!((missing.status, missing.body.len()), (206, 1));
    assert_gone(&get(&app, &path, None).await);
    state_becomes(&app, &job, RestoreState::Expired).await;
    app.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_early_has_not_used_the_link_up() {
    let app = App::start().await;
    let bytes = archive();
    let (path, _) = ready(&app, &bytes).await;
    // The server may have produced much more than the client takes: only what was written counts.
    for _ in 0..4 {
        let mut connection = Connection::open(app.address).await;
        connection.write(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await;
        connection.read_some(100_000).await;
    }
    let response = get(&app, &path, None).await;
    assert!(response.body == bytes);
    assert_gone(&get(&app, &path, None).await);
    app.stop().await;
}

#[tokio::test]
async fn head_tells_and_uses_nothing_up() {
    let app = App::start().await;
    let (path, job) = ready(&app, b"tiny").await;
    for _ in 0..3 {
        let head = once(app.address, &Request::new("HEAD", &path)).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("4")));
        assert_eq!(head.header("x-ebbtide-sha256"), Some(sha256_hex(b"tiny").as_str()));
    }
    assert_eq!(app.archives.reads.load(Ordering::SeqCst), 0);
    assert_eq!(app.catalog.restores().get(job.id).await.unwrap().unwrap().deliveries, 0);
    let outside = get(&app, &path, Some("bytes=4-")).await;
    outside.refused(416, "RANGE_NOT_SATISFIABLE");
    assert_eq!(outside.header("content-range"), Some("bytes */4"));
    let other = Request::new("GET", &path).header("Range", "bytes=1-").header("If-Range", "\"other\"");
    let whole = app.plain(other).await;
    assert_eq!((whole.status, whole.body.as_slice()), (200, &b"tiny"[..]));
    app.stop().await;
}

#[tokio::test]
async fn the_link_dies_with_its_hour_and_with_a_cancel() {
    let app = App::start().await;
    let (path, _) = ready(&app, b"tiny").await;
    app.pass_seconds(3_599);
    assert_eq!(get(&app, &path, Some("bytes=0-0")).await.status, 206);
    app.pass_seconds(1);
    assert_gone(&get(&app, &path, None).await);
    app.catalog.restores().expire_due(app.now()).await.unwrap();
    assert_gone(&get(&app, &path, None).await);
    let (path, job) = ready(&app, b"tiny").await;
    app.delete(&app.backup(&format!("/restoreJobs/{}", job.id))).await.expect(204);
    assert_gone(&get(&app, &path, None).await);
    app.stop().await;
}

#[tokio::test]
async fn what_is_not_the_link_is_not_found() {
    let app = App::start().await;
    let (path, job) = ready(&app, b"tiny").await;
    let token = path.split('/').nth(3).unwrap();
    assert_eq!(token.len(), 24);
    for other in [
        path.replace(token, "AAAAAAAAAAAAAAAAAAAAAAAA"),
        path.replace(token, &"A".repeat(1000)),
        path.replace(&format!("restore-{}/", job.id), "restore-32b6e34b3d91647abb20e7b8/"),
        path.replace(&format!("restore-{}/", job.id), "x/"),
        path.replace(".tar.gz", ".tar"),
        format!("{path}/x"),
        "/download/a/b/c".to_owned(),
        "/download/%ff/%ff/%ff".to_owned(),
    ] {
        get(&app, &other, None).await.refused(404, "RESOURCE_NOT_FOUND");
    }
    assert_eq!(get(&app, &path, None).await.status, 200, "none of these has used it up");
    app.stop().await;
}
