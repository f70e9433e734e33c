//! Knowing what has really left: a stream around the socket tells when everything handed to HTTP was written
//! to the kernel, so that a download counts bytes delivered and not bytes buffered.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::ledger::Progress;

/// A client that takes nothing for this long is given up, so that it cannot hold its connection for ever.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// What one response delivers of an archive.
pub(crate) struct Delivery {
    progress: Arc<Progress>,
    /// Up to where the bytes are known to have left.
    delivered: AtomicU64,
    /// Up to where the bytes were handed over.
    handed: AtomicU64,
    on_complete: Box<dyn Fn() + Send + Sync>,
}

impl Delivery {
    pub(crate) fn new(progress: Arc<Progress>, start: u64, on_complete: Box<dyn Fn() + Send + Sync>) -> Self {
        if progress.go_on(start) {
            on_complete();
        }
        Self { progress, delivered: AtomicU64::new(start), handed: AtomicU64::new(start), on_complete }
    }

    /// Bytes were handed over to be sent.
    pub(crate) fn hand(&self, bytes: u64) {
        self.handed.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Everything handed over has left.
    pub(crate) fn flushed(&self) {
        let to = self.handed.load(Ordering::Acquire);
        let from = self.delivered.swap(to, Ordering::AcqRel);
        if from < to && self.progress.cover(from, to) {
            (self.on_complete)();
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let (from, to) = (*self.delivered.get_mut(), *self.handed.get_mut());
        if from < to {
            self.progress.leave_open(from, to);
        }
    }
}

/// The delivery under way on a connection.
#[derive(Default)]
pub(crate) struct Flushes(Mutex<Option<Arc<Delivery>>>);

impl Flushes {
    /// From now on, flushes count for this delivery.
    pub(crate) fn begin(&self, delivery: Arc<Delivery>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(delivery);
    }

    fn flushed(&self) {
        let current = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some(delivery) = current {
            delivery.flushed();
        }
    }
}

/// A socket that reports its flushes and gives up on a reader that has stopped reading.
pub(crate) struct MeteredStream<S> {
    inner: S,
    flushes: Arc<Flushes>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> MeteredStream<S> {
    pub(crate) fn new(inner: S, flushes: Arc<Flushes>) -> Self {
        Self { inner, flushes, stalled: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_TIMEOUT)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// HTTP flushes only after all that it holds was written, so a flush says: everything handed over has left.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            self.flushes.flushed();
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
