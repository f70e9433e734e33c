//! Paths to operations. The table of operations is in [`crate::ops`]; here it becomes an axum router, once
//! under `/api/atlas/v2` and once more under the older prefixes that mean a fixed version (D13).

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawPathParams, Request, State as Extract, rejection::RawPathParamsRejection},
    routing::{MethodFilter, get, on, post},
};
use http::{HeaderValue, header::ALLOW};

use crate::{
    auth::oauth,
    download,
    error::{Code, Problem},
    gate,
    ops::{self, Operation},
    params::Params,
    server::Server,
    state::State,
    version::{Date, Rule},
};

/// Prefixes of the Atlas API and how each finds the version of a request.
pub(crate) const ATLAS: [(&str, Rule); 3] = [
    ("/api/atlas/v2", Rule::Accept),
    ("/api/atlas/v1.0", Rule::Fixed(Date::new(2023, 1, 1))),
    ("/api/atlas/v1.5", Rule::Fixed(Date::new(2023, 2, 1))),
];
/// Prefix of what Atlas has no call for.
pub(crate) const OWN: &str = "/api/ebbtide/v1";

/// Longest part of a path, and of a method, that an error shows back.
const PATH_CHARACTERS_SHOWN: usize = 256;
const METHOD_CHARACTERS_SHOWN: usize = 16;

/// An operation that is served, for whoever wants to know them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Its name in the specification; every answer to it says it in `X-Java-Method`.
    pub id: &'static str,
    /// Its method.
    pub method: http::Method,
    /// Its path, with parameters in braces.
    pub path: String,
}

/// Every operation, under its current prefix.
pub fn operations() -> impl Iterator<Item = Served> {
    let served = |prefix: &'static str| {
        move |operation: &'static Operation| Served {
            id: operation.id,
            method: operation.method.clone(),
            path: format!("{prefix}{}", operation.path),
        }
    };
    ops::atlas().map(served(ATLAS[0].0)).chain(ops::own().map(served(OWN)))
}

/// The whole API.
pub fn router(state: State) -> Router {
    let mut router = Router::new();
    for (prefix, rule) in ATLAS {
        for operation in ops::atlas() {
            router = route(router, prefix, operation, rule);
        }
    }
    for operation in ops::own() {
        router = route(router, OWN, operation, Rule::None);
    }
    router
        .route("/api/oauth/token", post(oauth::token))
        .route("/api/oauth/revoke", post(oauth::revoke))
        .route("/download/{restoreJob}/{token}/{file}", get(download::fetch))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(Server::new(state)))
}

fn route(
    router: Router<Arc<Server>>,
    prefix: &'static str,
    operation: &'static Operation,
    rule: Rule,
) -> Router<Arc<Server>> {
    let verb = operation.path.rsplit_once("}:").map(|(_, verb)| verb);
    // The router knows no parameter with something after it: the verb is taken off the last one.
    let path = verb.and_then(|verb| operation.path.strip_suffix(verb)?.strip_suffix(':'));
    let path = path.unwrap_or(operation.path);
    let handler = move |Extract(server): Extract<Arc<Server>>,
                        params: Result<RawPathParams, RawPathParamsRejection>,
                        request: Request| async move {
        match params.map(|params| Params::from(&params)) {
            Ok(mut params) => {
                if let Some(verb) = verb
                    && !params.take_verb(verb)
                {
                    let problem = without_verb(prefix, path, &request);
                    return gate::refuse(server, request, problem).await;
                }
                gate::run(server, operation, rule, params, request).await
            }
            Err(_) => {
                let problem = missing(&request);
                gate::refuse(server, request, problem).await
            }
        }
    };
    let filter = MethodFilter::try_from(operation.method.clone()).unwrap_or(MethodFilter::TRACE);
    let router = router.route(&format!("{prefix}{path}"), on(filter, handler));
    // The root is asked for with and without its slash.
    if operation.path.is_empty() { router.route(&format!("{prefix}/"), on(filter, handler)) } else { router }
}

/// The path of a request, as far as an error shows it.
fn shown(request: &Request) -> String {
    request.uri().path().chars().take(PATH_CHARACTERS_SHOWN).collect()
}

async fn not_found(Extract(server): Extract<Arc<Server>>, request: Request) -> axum::response::Response {
    let problem = missing(&request);
    gate::refuse(server, request, problem).await
}

fn missing(request: &Request) -> Problem {
    Problem::new(Code::ResourceNotFound).with(shown(request))
}

/// What a path answers that lacks the verb of the operation with its method: which methods it has without one, in the words of
/// the router; or that nothing is there, where it has none.
fn without_verb(prefix: &str, path: &str, request: &Request) -> Problem {
    let below = ops::atlas().filter(|_| prefix != OWN).chain(ops::own().filter(|_| prefix == OWN));
    let methods = below.filter(|other| other.path == path).map(|other| match other.method.as_str() {
        "GET" => "GET,HEAD",
        method => method,
    });
    let methods = methods.collect::<Vec<_>>().join(",");
    match HeaderValue::from_str(&methods) {
        Ok(allowed) if !allowed.is_empty() => not_allowed(request).header(ALLOW, allowed),
        _ => missing(request),
    }
}

fn not_allowed(request: &Request) -> Problem {
    let method: String = request.method().as_str().chars().take(METHOD_CHARACTERS_SHOWN).collect();
    Problem::new(Code::MethodNotAllowed).with(method).with(shown(request))
}

async fn method_not_allowed(
    Extract(server): Extract<Arc<Server>>,
    request: Request,
) -> axum::response::Response {
    let problem = not_allowed(&request);
    gate::refuse(server, request, problem).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_its_verb_tells_the_other_methods_that_it_has_or_is_not_there() {
        let path = "/groups/{groupId}/serviceAccounts/{clientId}";
        let request = Request::new(axum::body::Body::empty());
        let there = without_verb(ATLAS[0].0, path, &request);
        let told: Vec<_> =
            there.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(there.code(), Code::MethodNotAllowed);
        assert_eq!(told, [("allow", &b"GET,HEAD,PATCH,DELETE"[..])]);
        let nowhere = without_verb(OWN, path, &request);
        assert_eq!(nowhere.code(), Code::ResourceNotFound);
        assert!(nowhere.headers().is_empty());
    }
}
