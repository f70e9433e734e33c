//! From what a handler gives back to bytes: envelope, layout, and the headers that every answer carries.

use std::sync::atomic::Ordering;

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::{error::Problem, json, query::Query, server::Server, version::Selected};

/// `X-Error-Code`.
pub(crate) const X_ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const SERVICE_VERSION: HeaderName = HeaderName::from_static("x-mongodb-service-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// What a handler gives back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content: Content,
    /// Where to find what was made.
    pub(crate) location: Option<String>,
}

/// The body of a reply.
#[derive(Debug)]
pub(crate) enum Content {
    /// One thing: an envelope goes around it.
    Object(Value),
    /// The same, with documents in it.
    Tree(json::Tree),
    /// A list: an envelope's status goes into it.
    Page(Value),
    /// None.
    Empty,
}

impl Reply {
    pub(crate) fn object(value: Value) -> Self {
        Self::of(StatusCode::OK, Content::Object(value))
    }

    /// Something was made that can be looked at where its own link leads.
    pub(crate) fn created(value: Value) -> Self {
        let links = value["links"].as_array().into_iter().flatten();
        let own = links.filter(|link| link["rel"] == "self").find_map(|link| link["href"].as_str());
        let location = own.map(str::to_owned);
        Self { location, ..Self::of(StatusCode::CREATED, Content::Object(value)) }
    }

    /// The same, of what has no links.
    pub(crate) fn created_at(location: String, value: Value) -> Self {
        Self { location: Some(location), ..Self::created(value) }
    }

    pub(crate) fn tree(tree: json::Tree) -> Self {
        Self::of(StatusCode::OK, Content::Tree(tree))
    }

    pub(crate) fn page(value: Value) -> Self {
        Self::of(StatusCode::OK, Content::Page(value))
    }

    pub(crate) fn no_content() -> Self {
        Self::of(StatusCode::NO_CONTENT, Content::Empty)
    }

    fn of(status: StatusCode, content: Content) -> Self {
        Self { status, content, location: None }
    }
}

/// A success on the wire.
pub(crate) fn success(server: &Server, reply: Reply, query: &Query, selected: &Selected) -> Response {
    let layout = query.layout();
    let status = reply.status.as_u16();
    let body = match reply.content {
        Content::Empty => Vec::new(),
        Content::Object(value) if query.envelope() => json::write_envelope(status, &value, layout),
        Content::Object(value) => json::write(&value, layout),
        Content::Tree(tree) => json::write_tree(&tree, query.envelope().then_some(status)),
        Content::Page(mut value) => {
            if query.envelope() {
                value["status"] = status.into();
            }
            json::write(&value, layout)
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, selected.content_type());
    if let Some(version) = selected.version {
        let dates = [(DEPRECATION, version.deprecation), (SUNSET, version.sunset)];
        headers.extend(
            dates.into_iter().filter_map(|(name, date)| Some((name, HeaderValue::from_static(date?)))),
        );
    }
    if let Some(location) = reply.location.and_then(|href| HeaderValue::from_str(&href).ok()) {
        headers.insert(header::LOCATION, location);
    }
    let settings = &server.state.settings;
    let service = format!("gitHash={}; versionString={}", settings.git_hash, settings.server_version);
    if let Ok(value) = HeaderValue::from_str(&service) {
        headers.insert(SERVICE_VERSION, value);
    }
    response
}

/// An error on the wire.
pub(crate) fn failure(problem: &Problem, query: &Query) -> Response {
    let layout = query.layout();
    let body = if query.envelope() {
        json::write_envelope(problem.code().status(), &problem.body(), layout)
    } else {
        json::write(&problem.body(), layout)
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = problem.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_ERROR_CODE, HeaderValue::from_static(problem.code().as_str()));
    headers.extend(problem.headers().iter().cloned());
    response
}

/// The headers that every answer carries.
pub(crate) fn decorate(server: &Server, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("x-permitted-cross-domain-policies", HeaderValue::from_static("none"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin"));
    headers.insert(
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000; includeSubdomains;"),
    );
    headers.insert(header::SERVER, HeaderValue::from_static("ebbtide"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    let number = server.requests.fetch_add(1, Ordering::Relaxed);
    let started = server.now().seconds() as u32;
    if let Ok(value) = HeaderValue::from_str(&format!("{started:08x}{number:016x}")) {
        headers.insert(REQUEST_ID, value);
    }
}
