//! OAuth2 client credentials: `POST /api/oauth/token` and `/api/oauth/revoke`. Tokens are opaque random
//! numbers; the catalog holds their hashes, so they can be revoked and a stolen catalog opens nothing.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::{Request, State as Extract},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use catalog::{Credential, CredentialKind, NewToken};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use model::{WallTime, account::AccountSecrets, id::AccountSecretId};
use subtle::ConstantTimeEq;

use super::{PUBLIC_NAME_BYTES_MAX, issue, sha256_hex};
use crate::{
    error::Problem,
    gate,
    json::Layout,
    query::Query,
    rate::{Owner, Set},
    reply,
    serve::Peer,
    server::Server,
};

/// How long a token works.
const TOKEN_SECONDS: i64 = 3_600;
/// Longest bearer token looked at.
pub(super) const TOKEN_BYTES_MAX: usize = 256;

/// An answer of RFC 6749 section 5.2.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    const fn new(status: StatusCode, error: &'static str, description: &'static str) -> Self {
        Self { status, error, description: Cow::Borrowed(description), headers: Vec::new() }
    }

    /// A body that is too large, or did not arrive.
    fn unread(problem: &Problem) -> Self {
        let description = problem.detail().into();
        Self { description, ..Self::new(StatusCode::BAD_REQUEST, "invalid_request", "") }
    }

    /// Too many requests, as the limiter tells it.
    fn limited(problem: &Problem) -> Self {
        Self {
            status: problem.status(),
            error: "rate_limited",
            description: problem.detail().into(),
            headers: problem.headers().to_vec(),
        }
    }
}

const INVALID_CLIENT: Refusal =
    Refusal::new(StatusCode::UNAUTHORIZED, "invalid_client", "Invalid credentials provided.");
const NOT_A_FORM: Refusal = Refusal::new(
    StatusCode::BAD_REQUEST,
    "invalid_request",
    "The body must be application/x-www-form-urlencoded.",
);
const NO_GRANT_TYPE: Refusal =
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", "The parameter grant_type is required.");
const OTHER_GRANT: Refusal = Refusal::new(
    StatusCode::BAD_REQUEST,
    "unsupported_grant_type",
    "The grant type must be client_credentials.",
);
const NO_TOKEN: Refusal =
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", "The parameter token is required.");
const SERVER_ERROR: Refusal =
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "Unexpected error.");

/// `POST /api/oauth/token`.
pub(crate) async fn token(Extract(server): Extract<Arc<Server>>, request: Request) -> Response {
    let asker = asker(&request);
    let answer = grant(&server, request).await;
    finish(&server, strangers_limited(&server, asker, answer))
}

/// `POST /api/oauth/revoke`.
pub(crate) async fn revoke(Extract(server): Extract<Arc<Server>>, request: Request) -> Response {
    let asker = asker(&request);
    let answer = withdraw(&server, request).await;
    finish(&server, strangers_limited(&server, asker, answer))
}

/// Where a request comes from, and what it asks for.
fn asker(request: &Request) -> (IpAddr, String) {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    (peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), request.uri().path().to_owned())
}

/// Takes from the bucket of the address for whoever did not prove to be a client. Clients have buckets of their own, so
/// that nobody can use up the allowance of another one, not even from behind the same proxy.
fn strangers_limited(
    server: &Server,
    (address, path): (IpAddr, String),
    answer: Result<Response, Refusal>,
) -> Result<Response, Refusal> {
    match answer {
        Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
            take(server, Owner::Address(address), &path)?;
            Err(refusal)
        }
        other => other,
    }
}

fn take(server: &Server, owner: Owner, path: &str) -> Result<(), Refusal> {
    let Some(limiter) = &server.limiter else { return Ok(()) };
    limiter.take(Set::Tokens, owner, path, server.now()).map(drop).map_err(|e| Refusal::limited(&e))
}

async fn grant(server: &Server, request: Request) -> Result<Response, Refusal> {
    let path = request.uri().path().to_owned();
    let (headers, form) = read(request).await?;
    match form.get("grant_type") {
        None => return Err(NO_GRANT_TYPE),
        Some("client_credentials") => {}
        Some(_) => return Err(OTHER_GRANT),
    }
    let (account, secret_id) = client(server, &headers, &form, &path).await?;
    let now = server.now();
    let token = issue::access_token();
    let row = NewToken {
        sha256: sha256_hex(token.as_bytes()),
        credential_id: account.id,
        secret_id,
        expires_at: now.plus_ms(TOKEN_SECONDS * 1000),
    };
    server.state.catalog.tokens().insert(&row, now).await.map_err(|error| match error {
        // Deleted since it was looked at.
        catalog::Error::NotFound { .. } => INVALID_CLIENT,
        other => fault(&other),
    })?;
    warn_of_end(&account, secret_id, now);
    let body = crate::json::write_ordered(
        &[
            ("access_token", &token.into()),
            ("expires_in", &TOKEN_SECONDS.into()),
            ("token_type", &"Bearer".into()),
        ],
        Layout::Compact,
    );
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn withdraw(server: &Server, request: Request) -> Result<Response, Refusal> {
    let path = request.uri().path().to_owned();
    let (headers, form) = read(request).await?;
    let (account, _) = client(server, &headers, &form, &path).await?;
    let token = form.get("token").filter(|token| !token.is_empty()).ok_or(NO_TOKEN)?;
    let name = sha256_hex(token.as_bytes());
    // Revoking what is not there is a success, says RFC 7009.
    server.state.catalog.tokens().revoke(&name, account.id).await.map_err(|e| fault(&e))?;
    server.tokens.forget(&name);
    Ok(Response::new(Body::empty()))
}

/// Checks the client by its Basic header or, failing that, by the body (D15), and takes from its bucket.
async fn client(
    server: &Server,
    headers: &HeaderMap,
    form: &Query,
    path: &str,
) -> Result<(Credential, AccountSecretId), Refusal> {
    let (id, secret) = match headers.get(AUTHORIZATION) {
        Some(value) => basic(value).ok_or(INVALID_CLIENT)?,
        None => {
            let pair = form.get("client_id").zip(form.get("client_secret"));
            let (id, secret) = pair.ok_or(INVALID_CLIENT)?;
            (id.to_owned(), secret.to_owned())
        }
    };
    let found = if id.len() <= PUBLIC_NAME_BYTES_MAX {
        let credentials = server.state.catalog.credentials();
        credentials.by_public_name(CredentialKind::ServiceAccount, &id).await.map_err(|e| fault(&e))?
    } else {
        None
    };
    let secret = matching(found.as_ref(), &sha256_hex(secret.as_bytes()), server.now());
    let (account, secret) = found.zip(secret).ok_or(INVALID_CLIENT)?;
    take(server, Owner::Credential(account.id), path)?;
    Ok((account, secret))
}

/// The secret of an account, of those that work, that a client has given. An unknown client, and an account with one secret, cost as
/// many comparisons as an account with two.
fn matching(account: Option<&Credential>, given: &str, now: WallTime) -> Option<AccountSecretId> {
    let kept = account.and_then(Credential::secrets);
    let mut kept = kept.into_iter().flat_map(|secrets| secrets.working(now));
    let nobody = "0".repeat(given.len());
    let mut found = None;
    for _ in 0..AccountSecrets::MAX {
        let secret = kept.next();
        let hash = secret.map_or(nobody.as_str(), |secret| secret.sha256.0.as_str());
        let equal: bool = given.as_bytes().ct_eq(hash.as_bytes()).into();
        if equal {
            found = secret.map(|secret| secret.id);
        }
    }
    found
}

/// Says in the log that a secret in use ends soon: within a week, and within a quarter of its life.
fn warn_of_end(account: &Credential, id: AccountSecretId, now: WallTime) {
    let working = || account.secrets().into_iter().flat_map(|secrets| secrets.working(now));
    let Some((secret, expires_at)) =
        working().find(|secret| secret.id == id).and_then(|secret| Some((secret, secret.expires_at?)))
    else {
        return;
    };
    let (left, life) = (expires_at.0 - now.0, expires_at.0 - secret.created_at.0);
    if left > AccountSecrets::REPLACED_MS || left > life / 4 {
        return;
    }
    let (client, expires_at) = (account.public_name.as_str(), expires_at.to_rfc3339());
    let what_to_do = if working().any(|other| other.created_at > secret.created_at) {
        "have it use the newer one"
    } else {
        "make another one, and have it use that"
    };
    tracing::warn!(client, secret.id = %id, expires_at, "a client uses a secret that expires at {expires_at}: {what_to_do}");
}

/// Id and secret of a Basic header; the Go SDK percent-encodes both (RFC 6749 section 2.3.1).
pub(crate) fn basic(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((crate::query::decode(id), crate::query::decode(secret)))
}

async fn read(request: Request) -> Result<(HeaderMap, Query), Refusal> {
    let (parts, body) = request.into_parts();
    let body = gate::read_body(&parts.headers, body).await.map_err(|e| Refusal::unread(&e))?;
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let form = content_type.split(';').next().unwrap_or_default().trim();
    if !form.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(NOT_A_FORM);
    }
    let text = std::str::from_utf8(&body).map_err(|_| NOT_A_FORM)?;
    Ok((parts.headers, Query::parse(text)))
}

fn fault(error: &catalog::Error) -> Refusal {
    tracing::error!(%error, "an OAuth request failed");
    SERVER_ERROR
}

fn finish(server: &Server, answer: Result<Response, Refusal>) -> Response {
    let mut response = answer.unwrap_or_else(|refusal| {
        let Refusal { status, error, description, headers } = refusal;
        let pairs = [("error_description", &description.into()), ("error", &error.into())];
        let mut response = Response::new(Body::from(crate::json::write_ordered(&pairs, Layout::Compact)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("Basic realm=\"MMS Public API\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response.headers_mut().extend(headers);
        response
    });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply::decorate(server, &mut response);
    response
}
