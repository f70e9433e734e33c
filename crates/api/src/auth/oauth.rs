//! OAuth2 client credentials: `POST /api/oauth/token` and `/api/oauth/revoke`. Tokens are opaque random
//! numbers; the catalog holds their hashes, so they can be revoked and a stolen catalog opens nothing.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State as Extract},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use catalog::{Credential, CredentialKind, NewToken};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use subtle::ConstantTimeEq;

use super::{PUBLIC_NAME_BYTES_MAX, issue, sha256_hex};
use crate::{gate, json::Layout, query::Query, reply, server::Server};

/// How long a token works.
const TOKEN_SECONDS: i64 = 3_600;
/// Longest bearer token looked at.
pub(super) const TOKEN_BYTES_MAX: usize = 256;

/// An answer of RFC 6749 section 5.2.
struct Refusal(StatusCode, &'static str, &'static str);

const INVALID_CLIENT: Refusal =
    Refusal(StatusCode::UNAUTHORIZED, "invalid_client", "Invalid credentials provided.");
const NOT_A_FORM: Refusal = Refusal(
    StatusCode::BAD_REQUEST,
    "invalid_request",
    "The body must be application/x-www-form-urlencoded.",
);
const NO_GRANT_TYPE: Refusal =
    Refusal(StatusCode::BAD_REQUEST, "invalid_request", "The parameter grant_type is required.");
const OTHER_GRANT: Refusal =
    Refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type", "The grant type must be client_credentials.");
const NO_TOKEN: Refusal =
    Refusal(StatusCode::BAD_REQUEST, "invalid_request", "The parameter token is required.");
const SERVER_ERROR: Refusal = Refusal(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "Unexpected error.");

/// `POST /api/oauth/token`.
pub(crate) async fn token(Extract(server): Extract<Arc<Server>>, request: Request) -> Response {
    finish(&server, grant(&server, request).await)
}

/// `POST /api/oauth/revoke`.
pub(crate) async fn revoke(Extract(server): Extract<Arc<Server>>, request: Request) -> Response {
    finish(&server, withdraw(&server, request).await)
}

async fn grant(server: &Server, request: Request) -> Result<Response, Refusal> {
    let (headers, form) = read(request).await?;
    match form.get("grant_type") {
        None => return Err(NO_GRANT_TYPE),
        Some("client_credentials") => {}
        Some(_) => return Err(OTHER_GRANT),
    }
    let account = client(server, &headers, &form).await?;
    let now = server.now();
    let token = issue::access_token();
    let row = NewToken {
        sha256: sha256_hex(token.as_bytes()),
        credential_id: account.id,
        expires_at: now.plus_ms(TOKEN_SECONDS * 1000),
    };
    server.state.catalog.tokens().insert(&row, now).await.map_err(|e| fault(&e))?;
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
    let (headers, form) = read(request).await?;
    let account = client(server, &headers, &form).await?;
    let token = form.get("token").filter(|token| !token.is_empty()).ok_or(NO_TOKEN)?;
    let name = sha256_hex(token.as_bytes());
    // Revoking what is not there is a success, says RFC 7009.
    server.state.catalog.tokens().revoke(&name, account.id).await.map_err(|e| fault(&e))?;
    server.tokens.forget(&name);
    Ok(Response::new(Body::empty()))
}

/// Checks the client by its Basic header or, failing that, by the body (D15).
async fn client(server: &Server, headers: &HeaderMap, form: &Query) -> Result<Credential, Refusal> {
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
    let given = sha256_hex(secret.as_bytes());
    // An unknown client costs the same comparison as a known one.
    let kept = found.as_ref().map_or_else(|| "0".repeat(64), |credential| credential.secret.0.clone());
    let equal: bool = given.as_bytes().ct_eq(kept.as_bytes()).into();
    found.filter(|_| equal).ok_or(INVALID_CLIENT)
}

/// Id and secret of a Basic header; the Go SDK percent-encodes both (RFC 6749 section 2.3.1).
fn basic(value: &HeaderValue) -> Option<(String, String)> {
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
    let body = gate::read_body(&parts.headers, body).await.map_err(|_| NOT_A_FORM)?;
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
    let mut response = answer.unwrap_or_else(|Refusal(status, error, description)| {
        let pairs = [("error_description", &description.into()), ("error", &error.into())];
        let mut response = Response::new(Body::from(crate::json::write_ordered(&pairs, Layout::Compact)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("Basic realm=\"MMS Public API\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply::decorate(server, &mut response);
    response
}
