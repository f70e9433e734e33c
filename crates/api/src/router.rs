//! Paths to operations. The table of operations is in [`crate::ops`]; here it becomes an axum router, once
//! under `/api/atlas/v2` and once more under the older prefixes that mean a fixed version (D13).

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawPathParams, Request, State as Extract, rejection::RawPathParamsRejection},
    routing::{MethodFilter, get, on, post},
};

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
const ATLAS: [(&str, Rule); 3] = [
    ("/api/atlas/v2", Rule::Accept),
    ("/api/atlas/v1.0", Rule::Fixed(Date::new(2023, 1, 1))),
    ("/api/atlas/v1.5", Rule::Fixed(Date::new(2023, 2, 1))),
];
/// Prefix of what Atlas has no call for.
const OWN: &str = "/api/ebbtide/v1";

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
    prefix: &str,
    operation: &'static Operation,
    rule: Rule,
) -> Router<Arc<Server>> {
    let handler = move |Extract(server): Extract<Arc<Server>>,
                        params: Result<RawPathParams, RawPathParamsRejection>,
                        request: Request| async move {
        match params {
            Ok(params) => gate::run(server, operation, rule, Params::from(&params), request).await,
            Err(_) => {
                let problem = Problem::new(Code::ResourceNotFound).with(request.uri().path());
                gate::refuse(server, request, problem).await
            }
        }
    };
    let filter = MethodFilter::try_from(operation.method.clone()).unwrap_or(MethodFilter::TRACE);
    let router = router.route(&format!("{prefix}{}", operation.path), on(filter, handler));
    // The root is asked for with and without its slash.
    if operation.path.is_empty() { router.route(&format!("{prefix}/"), on(filter, handler)) } else { router }
}

async fn not_found(Extract(server): Extract<Arc<Server>>, request: Request) -> axum::response::Response {
    let problem = Problem::new(Code::ResourceNotFound).with(request.uri().path());
    gate::refuse(server, request, problem).await
}

async fn method_not_allowed(
    Extract(server): Extract<Arc<Server>>,
    request: Request,
) -> axum::response::Response {
    let problem =
        Problem::new(Code::MethodNotAllowed).with(request.method().as_str()).with(request.uri().path());
    gate::refuse(server, request, problem).await
}
