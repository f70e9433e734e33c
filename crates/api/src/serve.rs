//! A listener that stands up to the world: a bounded number of connections, time limits on slow readers and
//! slow writers, and a shutdown that lets answers under way finish.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::extract::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    download::meter::{Flushes, MeteredStream},
    router::router,
    state::State,
};

/// Connections at once; more wait in the kernel's queue. Each may hold a buffer and a body.
const CONNECTIONS_MAX: usize = 1_024;
/// How long a client may take to send the head of a request; also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, and the write buffer of a connection.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Most header lines.
const HEADERS_MAX: usize = 64;
/// How long answers under way may take after a shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the system has refused a connection, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listening socket broke.
    #[error("the listening socket cannot be used any more; check the address and start again")]
    Listener(#[source] std::io::Error),
}

/// Serves until `shutdown`, then until the answers under way are out (ten seconds at most).
///
/// # Errors
/// [`ServeError`] when the socket cannot be used.
pub async fn serve(
    listener: TcpListener,
    state: State,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    listener.local_addr().map_err(ServeError::Listener)?;
    let router = router(state);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = shutdown.cancelled() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    converse(stream, Peer(address.ip()), router, shutdown).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!("connections were cut off at shutdown");
    }
    Ok(())
}

/// The other end of a connection; goes with each of its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

async fn converse(stream: TcpStream, peer: Peer, router: axum::Router, shutdown: CancellationToken) {
    // A failure costs latency, nothing else.
    let _ = stream.set_nodelay(true);
    let flushes = Arc::new(Flushes::default());
    let io = TokioIo::new(MeteredStream::new(stream, Arc::clone(&flushes)));
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Arc::clone(&flushes));
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.max_headers(HEADERS_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
