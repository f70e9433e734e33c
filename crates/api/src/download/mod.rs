//! The download link: `GET /download/restore-<job>/<token>/restore-<snapshot>.tar.gz`. The token is the key, no other is
//! asked for. The link is resumable by `Range` and dies after as many complete deliveries as it is
//! good for (one, unless more were asked for), on cancel, or at its time.

pub(crate) mod ledger;
pub(crate) mod meter;
pub(crate) mod range;

use std::{ops::Range, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Request, State as Extract},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use catalog::RestoreJob;
use futures::{Stream, StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use model::{
    WallTime,
    id::RestoreJobId,
    restore::{DeliveryType, RestoreState},
};
use serde_json::Value;
use subtle::ConstantTimeEq;

use self::{
    meter::{Delivery, Flushes},
    range::Wanted,
};
use crate::{
    auth::sha256_hex,
    error::{Answer, Code, Problem},
    query::Query,
    reply,
    server::Server,
    state::{ArchiveError, PURPOSE_DOWNLOAD_TOKEN},
};

/// Longest token looked at; ours have 24 characters.
const TOKEN_BYTES_MAX: usize = 64;
/// How often the end of a link is written into the catalog before it is left to its expiry.
const CONSUME_ATTEMPTS: u32 = 5;

/// The link of a job whose archive can be fetched. None when its token was sealed with a master key that is no longer
/// in use: one link that cannot be shown must not take a whole list with it.
pub(crate) fn link(server: &Server, base: &str, job: &RestoreJob) -> Option<String> {
    let sealed = job.archive.as_ref()?.get("tokenSealed")?.as_str()?;
    match server.state.secrets.open(PURPOSE_DOWNLOAD_TOKEN, sealed) {
        Ok(token) => {
            let token = token.expose_text()?;
            Some(format!("{base}/download/restore-{}/{token}/{}", job.id, file_name(job)))
        }
        Err(error) => {
            tracing::warn!(restore_job = %job.id, %error, "the link of a download cannot be shown; cancel it and ask again");
            None
        }
    }
}

/// `restore-<snapshotId>.tar.gz`.
pub(crate) fn file_name(job: &RestoreJob) -> String {
    format!("restore-{}.tar.gz", job.snapshot_id)
}

/// Whether the archive can be fetched now.
pub(crate) fn is_open(server: &Server, job: &RestoreJob, now: WallTime) -> bool {
    job.state == RestoreState::Ready
        && job.downloads < u64::from(job.terms.downloads())
        && job.expires_at.is_none_or(|end| now < end)
        && !server.downloads.is_used_up(job.id)
}

/// `GET` and `HEAD` of a link.
pub(crate) async fn fetch(
    Extract(server): Extract<Arc<Server>>,
    path: Result<Path<(String, String, String)>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let answer = match path {
        Ok(Path((job, token, file))) => answer(&server, &job, &token, &file, &parts).await,
        Err(_) => Err(Problem::new(Code::ResourceNotFound).with("download")),
    };
    let mut response = answer.unwrap_or_else(|problem| reply::failure(&problem, &Query::default()));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply::decorate(&server, &mut response);
    response
}

async fn answer(
    server: &Arc<Server>,
    job: &str,
    token: &str,
    file: &str,
    request: &Parts,
) -> Answer<Response> {
    let job = find(server, job, token, file).await?;
    let gone = || Problem::new(Code::CannotDownloadExpiredJob).with(job.id.to_string());
    let now = server.now();
    if !is_open(server, &job, now) {
        return Err(gone());
    }
    let archive = Archive::of(&job)?;
    let etag = format!("\"{}\"", archive.sha256);
    let (status, part) = match range::wanted(&request.headers, archive.bytes, &etag) {
        Wanted::Whole => (StatusCode::OK, 0..archive.bytes),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Impossible(spec) => return Err(unsatisfiable(&spec, archive.bytes)),
    };
    let body = if request.method == Method::HEAD {
        Body::empty()
    } else {
        let name = sha256_hex(token.as_bytes());
        let begun = server.state.catalog.restores().begin_delivery(job.id, &name, now).await;
        begun.map_err(|e| server.catalog_problem("begin a delivery", e))?.ok_or_else(gone)?;
        let stream = server.state.archives.read_range(&archive.record, part.clone()).await;
        let stream = stream.map_err(|e| Problem::internal("open an archive", &e))?;
        let flushes = request.extensions.get::<Arc<Flushes>>().cloned();
        Body::from_stream(counted(server, &job, name, &archive, part.start, stream, flushes))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    describe(response.headers_mut(), &job, &archive, &etag, &part, status)?;
    Ok(response)
}

/// The job that the path names, if the token is its own.
async fn find(server: &Server, job: &str, token: &str, file: &str) -> Answer<RestoreJob> {
    let unknown = || Problem::new(Code::ResourceNotFound).with("download");
    let id: RestoreJobId = job.strip_prefix("restore-").and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(unknown());
    }
    let found = server.state.catalog.restores().get(id).await;
    let job = found.map_err(|e| server.catalog_problem("read a restore job", e))?.ok_or_else(unknown)?;
    let given = sha256_hex(token.as_bytes());
    let mine = match &job.url_token_sha256 {
        Some(kept) => bool::from(given.as_bytes().ct_eq(kept.as_bytes())),
        // The catalog may have forgotten the token of a job that is over: whoever knows the path is told so.
        None => job.state.is_final(),
    };
    if job.delivery != DeliveryType::Download || !mine || file != file_name(&job) {
        return Err(unknown());
    }
    Ok(job)
}

/// What the worker recorded of the archive.
pub(crate) struct Archive {
    pub(crate) record: Value,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) sha1: Option<String>,
}

impl Archive {
    /// The archive of a job whose worker has finished it, or nothing.
    pub(crate) fn of_ready(job: &RestoreJob) -> Option<Self> {
        let made = job.delivery == DeliveryType::Download && job.expires_at.is_some();
        Self::read(job.archive.as_ref().filter(|_| made)?)
    }

    fn read(record: &Value) -> Option<Self> {
        let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            bytes: record.get("bytes")?.as_u64()?,
            sha256: text("sha256")?,
            sha1: text("sha1"),
            record: record.clone(),
        })
    }

    fn of(job: &RestoreJob) -> Answer<Self> {
        job.archive.as_ref().and_then(Self::read).ok_or_else(|| {
            tracing::error!(restore_job = %job.id, "a ready download has no complete archive record");
            Problem::new(Code::UnexpectedError)
        })
    }
}

fn unsatisfiable(spec: &str, size: u64) -> Problem {
    let problem = Problem::new(Code::RangeNotSatisfiable).with(spec).with(size);
    match HeaderValue::from_str(&format!("bytes */{size}")) {
        Ok(value) => problem.header(header::CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

fn describe(
    headers: &mut HeaderMap,
    job: &RestoreJob,
    archive: &Archive,
    etag: &str,
    part: &Range<u64>,
    status: StatusCode,
) -> Answer<()> {
    let value =
        |text: String| HeaderValue::from_str(&text).map_err(|e| Problem::internal("describe an archive", &e));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    headers.insert(header::ETAG, value(etag.to_owned())?);
    headers
        .insert(header::CONTENT_DISPOSITION, value(format!("attachment; filename=\"{}\"", file_name(job)))?);
    headers.insert("x-ebbtide-sha256", value(archive.sha256.clone())?);
    if let Ok(digest) = hex::decode(&archive.sha256) {
        headers.insert("digest", value(format!("sha-256={}", STANDARD.encode(digest)))?);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{}", part.start, part.end.saturating_sub(1), archive.bytes);
        headers.insert(header::CONTENT_RANGE, value(text)?);
    }
    Ok(())
}

/// The archive's bytes, counted as they leave. Behind [`crate::serve`] a byte counts when it was written to the socket;
/// behind another server, when it was asked for and the stream has come to its end.
fn counted(
    server: &Arc<Server>,
    job: &RestoreJob,
    token_sha256: String,
    archive: &Archive,
    start: u64,
    stream: BoxStream<'static, Result<Bytes, ArchiveError>>,
    flushes: Option<Arc<Flushes>>,
) -> impl Stream<Item = Result<Bytes, ArchiveError>> + Send + 'static {
    let left = u64::from(job.terms.downloads()).saturating_sub(job.downloads);
    let progress = server.downloads.of(job.id, archive.bytes, left);
    let (server, id) = (Arc::clone(server), job.id);
    let on_complete = Box::new(move || {
        tokio::spawn(consume(Arc::clone(&server), id, token_sha256.clone()));
    });
    let delivery = Arc::new(Delivery::new(progress, start, on_complete));
    let own_count = flushes.is_none();
    if let Some(flushes) = flushes {
        flushes.begin(Arc::clone(&delivery));
    }
    let ended = Arc::clone(&delivery);
    let counted = stream.inspect(move |piece| {
        if let Ok(piece) = piece {
            delivery.hand(piece.len() as u64);
        }
    });
    let end = futures::stream::poll_fn(move |_| {
        if own_count {
            ended.flushed();
        }
        std::task::Poll::Ready(None)
    });
    counted.chain(end)
}

/// Writes down a complete download. In memory it is already.
async fn consume(server: Arc<Server>, id: RestoreJobId, token_sha256: String) {
    for attempt in 1..=CONSUME_ATTEMPTS {
        match server.state.catalog.restores().consume_download(id, &token_sha256, server.now()).await {
            Ok(_) => return,
            Err(error) if error.is_transient() && attempt < CONSUME_ATTEMPTS => {
                tokio::time::sleep(std::time::Duration::from_millis(100 << attempt)).await;
            }
            Err(error) => {
                tracing::error!(restore_job = %id, %error, "the end of a download could not be recorded");
                return;
            }
        }
    }
}
