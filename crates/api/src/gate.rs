//! The way of one request, in the order of the contract: who asks, may it ask now, in which version, are the
//! ids in the path well formed, may it do this here; then the handler (parent, body, meaning); then the answer.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request, response::Response};
use bytes::{Bytes, BytesMut};
use catalog::{Credential, Project};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::Authority};
use model::id::ProjectId;

use crate::{
    access::{self, Scope},
    audit::{self, Asked, Note},
    auth::{self, Denied},
    body::BODY_BYTES_MAX,
    error::{Answer, Code, Problem},
    ops::Operation,
    params::Params,
    query::Query,
    rate::{Allowance, Owner},
    reply::{self, Reply},
    serve::Peer,
    server::Server,
    version::{self, Rule, Selected},
};

/// How long a request body may take to arrive.
const BODY_SECONDS_MAX: u64 = 30;
/// How much of a body that is too large is read for nothing.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;

const JAVA_METHOD: HeaderName = HeaderName::from_static("x-java-method");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// A request that was let in, as a handler sees it.
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) credential: Arc<Credential>,
    /// The project of the path; absent for operations outside projects.
    pub(crate) project: Option<Arc<Project>>,
    pub(crate) params: Params,
    pub(crate) query: Query,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Scheme and authority for links.
    pub(crate) base: String,
    pub(crate) selected: Selected,
    /// What the handler says of the change that it made.
    pub(crate) note: Note,
}

impl Call {
    /// The project's id. Only for operations in a project.
    pub(crate) fn project_id(&self) -> Answer<ProjectId> {
        let project = self.project.as_ref().map(|project| project.id);
        project.ok_or_else(|| Problem::new(Code::ResourceNotFound).with(self.uri.path()))
    }

    /// An absolute link to a resource of the Atlas API.
    pub(crate) fn link(&self, path: &str) -> String {
        format!("{}/api/atlas/v2{path}", self.base)
    }
}

/// Runs one operation from its request to its response.
pub(crate) async fn run(
    server: Arc<Server>,
    operation: &'static Operation,
    rule: Rule,
    params: Params,
    request: Request,
) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body).await;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let mut told = Told::default();
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
    if audit::is_kept(operation) {
        told.asked = Some(Asked::new(&server, peer, &parts.uri, &parts.headers, &params));
    }
    let incoming = Incoming {
        peer,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        query: query.clone(),
        params,
    };
    let answer = admit(&server, operation, rule, incoming, body, &mut told).await;
    if let (Err(denied), Some(asked)) = (&answer, &told.asked) {
        audit::turned_away(&server, operation, asked, told.credential.as_deref(), denied).await;
    }
    let mut response = match answer {
        Ok((reply, selected)) => reply::success(&server, reply, &query, &selected),
        Err(Denied::Challenge { stale }) => auth::challenge(&server, stale),
        Err(Denied::Failed(problem)) => reply::failure(&problem, &query),
    };
    if let Some(allowance) = told.allowance {
        allowance.write(response.headers_mut());
    }
    finish(&server, operation.id, started, &mut response);
    response
}

/// The answer to a path that no operation has, or a method that the path lacks: also only for those who are known.
pub(crate) async fn refuse(server: Arc<Server>, request: Request, problem: Problem) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    // Whatever was sent is read, so that the connection can go on.
    let _ = read_body(&parts.headers, body).await;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let known = if parts.uri.path().starts_with("/api/") {
        auth::authenticate(&server, &parts.method, &parts.uri, &parts.headers).await.map(|_| ())
    } else {
        Ok(())
    };
    let mut response = match known {
        Ok(()) => reply::failure(&problem, &query),
        Err(Denied::Challenge { stale }) => auth::challenge(&server, stale),
        Err(Denied::Failed(problem)) => reply::failure(&problem, &query),
    };
    finish(&server, "none", started, &mut response);
    response
}

fn finish(server: &Server, operation: &'static str, started: Instant, response: &mut Response) {
    reply::decorate(server, response);
    let headers = response.headers_mut();
    headers.insert(JAVA_METHOD, HeaderValue::from_static(operation));
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert(SERVICE_TIME, HeaderValue::from(elapsed_ms));
    tracing::debug!(operation, status = response.status().as_u16(), elapsed_ms, "answered");
}

struct Incoming {
    /// Whoever has connected, if that is known.
    peer: Option<IpAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    query: Query,
    params: Params,
}

/// What is told even when the answer is an error.
#[derive(Default)]
struct Told {
    allowance: Option<Allowance>,
    credential: Option<Arc<Credential>>,
    /// What the audit log is to be told of, until it has a line.
    asked: Option<Asked>,
}

async fn admit(
    server: &Arc<Server>,
    operation: &'static Operation,
    rule: Rule,
    incoming: Incoming,
    body: Answer<Bytes>,
    told: &mut Told,
) -> Result<(Reply, Selected), Denied> {
    let Incoming { peer, method, uri, headers, query, params } = incoming;
    let credential = auth::authenticate(server, &method, &uri, &headers).await?;
    told.credential = Some(Arc::clone(&credential));
    let steps = async {
        let is_required = server.state.settings.access_list_required;
        let from_here = access::require_address(&credential, peer, is_required);
        // Whoever has a key and may not use it here takes nothing from the project's allowance.
        let project = params.get("groupId").filter(|_| from_here.is_ok());
        told.allowance = limit(server, operation, &credential, project, uri.path())?;
        from_here?;
        let selected = version::select(rule, operation.versions, &headers, server.now())?;
        params.check()?;
        let project = authorize(server, operation, &credential, &params).await?;
        query.check()?;
        let base = base_url(server, &uri, &headers);
        let body = body?;
        let server = server.clone();
        let note = Note::default();
        let call =
            Call { server, credential, project, params, query, uri, headers, body, base, selected, note };
        let reply = match told.asked.take() {
            Some(asked) => audit::carry_out(operation, call, &asked).await?,
            None => (operation.run)(call).await?,
        };
        Ok((reply, selected))
    };
    steps.await.map_err(Denied::Failed)
}

fn limit(
    server: &Server,
    operation: &Operation,
    credential: &Credential,
    project: Option<&str>,
    path: &str,
) -> Answer<Option<Allowance>> {
    let Some(limiter) = &server.limiter else { return Ok(None) };
    let project = project.and_then(|text| text.parse::<ProjectId>().ok());
    let owner = match project.filter(|project| credential.is_member_of(*project)) {
        Some(project) => Owner::Project(project),
        None => Owner::Credential(credential.id),
    };
    limiter.take(operation.limit, owner, path, server.now()).map(Some)
}

async fn authorize(
    server: &Server,
    operation: &Operation,
    credential: &Credential,
    params: &Params,
) -> Answer<Option<Arc<Project>>> {
    let actions = match operation.scope {
        Scope::Known => return Ok(None),
        Scope::OrganizationOwner => return access::own_organization(credential).map(|()| None),
        Scope::Project(actions) => actions,
    };
    let project = server.project(params.project()?).await?;
    access::require(credential, project.id, actions)?;
    Ok(Some(project))
}

/// Scheme and authority of links: as configured, else as the client addressed us (D8).
pub(crate) fn base_url(server: &Server, uri: &Uri, headers: &HeaderMap) -> String {
    if let Some(url) = &server.state.settings.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // Only a host and a port: whatever else a client writes there does not come back in links.
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let host = host.or_else(|| uri.authority().cloned()).filter(|host| !host.as_str().contains('@'));
    format!("http://{}", host.as_ref().map_or("localhost", Authority::as_str))
}

/// Reads a body within its bounds of size and time.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body) -> Answer<Bytes> {
    use axum::body::HttpBody;
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // A client that waits for leave to send is refused before it has sent anything.
    let may_discard = if headers.contains_key(header::EXPECT) { 0 } else { DISCARDED_BYTES_MAX };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > BODY_BYTES_MAX + may_discard {
        return Err(too_large());
    }
    let reading = collect(body, may_discard);
    let timeout = Duration::from_secs(BODY_SECONDS_MAX);
    tokio::time::timeout(timeout, reading).await.unwrap_or_else(|_| Err(Problem::new(Code::RequestTimeout)))
}

/// Collects a body. What is past the bound is read and thrown away, up to a second bound: a connection that is closed on
/// a client which is still sending loses the answer on its way.
async fn collect(body: Body, may_discard: usize) -> Answer<Bytes> {
    let mut pieces = body.into_data_stream();
    let mut held = BytesMut::new();
    let mut size = 0_usize;
    while let Some(piece) = pieces.next().await {
        let piece = piece
            .map_err(|_| Problem::new(Code::MalformedRequest).with("its body is not what its head says"))?;
        size = size.saturating_add(piece.len());
        if size <= BODY_BYTES_MAX {
            held.extend_from_slice(&piece);
        } else if size > BODY_BYTES_MAX + may_discard {
            break;
        }
    }
    if size > BODY_BYTES_MAX { Err(too_large()) } else { Ok(held.freeze()) }
}

fn too_large() -> Problem {
    Problem::new(Code::PayloadTooLarge).with(BODY_BYTES_MAX as u64)
}
