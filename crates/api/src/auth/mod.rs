//! Who is asking: API keys by HTTP digest, service accounts by bearer token. The first thing that is
//! decided about any request (D1), before its path, its version or its body are looked at.

pub(crate) mod digest;
pub(crate) mod issue;
pub(crate) mod nonce;
pub(crate) mod oauth;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest as hash};
use catalog::{Credential, CredentialKind, Proof};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header::AUTHORIZATION};
use model::WallTime;

use self::{digest::Credentials as DigestCredentials, nonce::Verdict};
use crate::{
    error::{Answer, Problem},
    server::Server,
    state::PURPOSE_HA1,
};

/// Longest public key or client id looked up; real ones have 8 and 34 characters.
const PUBLIC_NAME_BYTES_MAX: usize = 64;

/// An API key as it is kept in memory for a few seconds.
pub(crate) struct Key {
    credential: Arc<Credential>,
    ha1: zeroize::Zeroizing<[u8; 16]>,
}

/// Why a request is not let in.
#[derive(Debug)]
pub(crate) enum Denied {
    /// No credentials, or wrong ones: 401 with a challenge.
    Challenge {
        /// The credentials were right but the nonce has to be renewed.
        stale: bool,
    },
    /// The credentials could not be checked.
    Failed(Problem),
}

/// The 401 body of Atlas: pretty printed, with an order of keys of its own and without parameters.
pub(crate) const UNAUTHORIZED_BODY: &str = "{\n  \"error\" : 401,\n  \"reason\" : \"Unauthorized\",\n  \"detail\" : \"You are not authorized for this resource.\",\n  \"errorCode\" : \"UNEXPECTED_ERROR\"\n}";

/// Finds out who is asking.
pub(crate) async fn authenticate(
    server: &Server,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Arc<Credential>, Denied> {
    let unknown = || Denied::Challenge { stale: false };
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(unknown)?;
    let (scheme, rest) = header.split_once(' ').ok_or_else(unknown)?;
    if scheme.eq_ignore_ascii_case("digest") {
        let credentials = DigestCredentials::parse(rest).ok_or_else(unknown)?;
        by_digest(server, method, uri, credentials).await
    } else if scheme.eq_ignore_ascii_case("bearer") {
        by_token(server, rest.trim()).await.map_err(Denied::Failed)?.ok_or_else(unknown)
    } else {
        Err(unknown())
    }
}

/// Whose key was named by a request that did not prove to have it. None when there is no such key: what was written in the
/// place of a name may be a secret.
pub(crate) async fn claimed(server: &Server, headers: &HeaderMap) -> Option<String> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credentials = DigestCredentials::parse(rest).filter(|_| scheme.eq_ignore_ascii_case("digest"))?;
    let key = find_key(server, &credentials.username, server.now()).await.ok()??;
    Some(key.credential.public_name.clone())
}

async fn by_digest(
    server: &Server,
    method: &Method,
    uri: &Uri,
    credentials: DigestCredentials,
) -> Result<Arc<Credential>, Denied> {
    let now = server.now();
    let key = find_key(server, &credentials.username, now).await.map_err(Denied::Failed)?;
    // An unknown key costs the same hashing as a known one with a wrong secret.
    let ha1 = key.as_ref().map_or([0; 16], |key| *key.ha1);
    let proved = credentials.proves(method.as_str(), &ha1);
    let same_target = names_target(&credentials.uri, uri);
    let ours = server.nonces.is_ours(&credentials.nonce);
    let Some(key) = key.filter(|_| proved && same_target) else {
        return Err(Denied::Challenge { stale: false });
    };
    if !ours {
        // A nonce from before a restart: the secret was right, so let the client try again without asking people.
        return Err(Denied::Challenge { stale: true });
    }
    match server.nonces.spend(&credentials.nonce, credentials.nc, now) {
        Verdict::Fresh => Ok(key.credential.clone()),
        Verdict::Stale | Verdict::Foreign => Err(Denied::Challenge { stale: true }),
    }
}

/// Whether the `uri` of the header is the request target as it was sent, byte for byte.
fn names_target(named: &str, uri: &Uri) -> bool {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    named == target || (uri.scheme().is_some() && *uri == *named)
}

async fn find_key(server: &Server, public_key: &str, now: WallTime) -> Answer<Option<Arc<Key>>> {
    if public_key.len() > PUBLIC_NAME_BYTES_MAX {
        return Ok(None);
    }
    if let Some(known) = server.keys.get(public_key, now) {
        return Ok(known);
    }
    let before = server.keys.generation();
    let found = server
        .state
        .catalog
        .credentials()
        .by_public_name(CredentialKind::ApiKey, public_key)
        .await
        .map_err(|e| server.catalog_problem("look up an API key", e))?;
    let key = match found {
        Some(credential) => Some(Arc::new(open_key(server, credential)?)),
        None => None,
    };
    server.keys.put(public_key.to_owned(), key.clone(), before, now);
    Ok(key)
}

fn open_key(server: &Server, credential: Credential) -> Answer<Key> {
    let Proof::ApiKey(sealed) = &credential.proof else {
        let error = crate::state::SecretError("a service account has no HA1".to_owned());
        return Err(Problem::internal("open an API key", &error));
    };
    let opened = server.state.secrets.open(PURPOSE_HA1, &sealed.0);
    let secret = opened.map_err(|e| Problem::internal("open an API key", &e))?;
    let mut ha1 = zeroize::Zeroizing::new([0_u8; 16]);
    let bytes = secret.expose();
    let good = match bytes.len() {
        16 => {
            ha1.copy_from_slice(bytes);
            true
        }
        _ => hex::decode_to_slice(bytes, ha1.as_mut_slice()).is_ok(),
    };
    if !good {
        let error = crate::state::SecretError("an HA1 has 16 bytes".to_owned());
        return Err(Problem::internal("open an API key", &error));
    }
    Ok(Key { credential: Arc::new(credential), ha1 })
}

async fn by_token(server: &Server, token: &str) -> Answer<Option<Arc<Credential>>> {
    if token.is_empty() || token.len() > oauth::TOKEN_BYTES_MAX {
        return Ok(None);
    }
    let now = server.now();
    let name = sha256_hex(token.as_bytes());
    if let Some(known) = server.tokens.get(&name, now) {
        return Ok(known);
    }
    let before = server.tokens.generation();
    let found = server.state.catalog.tokens().credential(&name, now).await;
    let found = found.map_err(|e| server.catalog_problem("look up a token", e))?.map(Arc::new);
    server.tokens.put(name, found.clone(), before, now);
    Ok(found)
}

/// SHA-256 in hexadecimal: how tokens and client secrets are kept.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(hash(&SHA256, bytes))
}

/// The 401 that asks for digest credentials.
pub(crate) fn challenge(server: &Server, stale: bool) -> axum::response::Response {
    let text = digest::challenge(&server.nonces.issue(server.now()), stale);
    let mut response = axum::response::Response::new(axum::body::Body::from(UNAUTHORIZED_BODY));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(http::header::WWW_AUTHENTICATE, value);
    }
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(crate::reply::X_ERROR_CODE, HeaderValue::from_static("UNEXPECTED_ERROR"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_401_body_is_the_recorded_142_bytes() {
        assert_eq!(UNAUTHORIZED_BODY.len(), 142);
        assert!(serde_json::from_str::<serde_json::Value>(UNAUTHORIZED_BODY).is_ok());
    }

    #[test]
    fn the_uri_is_compared_as_sent() {
        let uri: Uri = "/api/atlas/v2/groups?a=%20b&c".parse().unwrap_or_default();
        assert!(names_target("/api/atlas/v2/groups?a=%20b&c", &uri));
        assert!(!names_target("/api/atlas/v2/groups?a=+b&c", &uri));
        assert!(!names_target("/api/atlas/v2/groups", &uri));
        let bare: Uri = "/p?".parse().unwrap_or_default();
        assert!(names_target("/p?", &bare) && !names_target("/p", &bare));
    }
}
