//! A capped collection whose documents changed: its order is content, so all of it is read and listed anew.

use bytes::Bytes;
use futures::TryStreamExt as _;
use history::{
    capped::CappedChanges,
    fold::{Documents, FoldError},
    key::push_document_key,
    raw,
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use vault::{Order, SegmentList};

use super::{
    Counters, FoldFailure, Obstacle,
    failure::Ended,
    lister::{Lister, Listing},
    rewrite::Segments,
};
use crate::{
    lease::{JobContext, JobError},
    pipeline::{Giver, SegmentStore, Segmenter, handover},
};

/// Lists a capped collection that did not change: its pages tell its own time, and are written anew.
pub(super) async fn keep(
    store: &SegmentStore,
    mut segments: Segments,
    list: SegmentList,
    at: model::ClusterTime,
) -> Result<Listing, FoldFailure> {
    let ctx = store.ctx();
    let mut lister = Lister::new(store, at, list);
    loop {
        match ctx.or_stop(segments.try_next()).await? {
            Ok(Some(entry)) => lister.keep(entry).await?,
            Ok(None) => return Ok(lister.finish()),
            Err(error) => return Err(FoldFailure::of_base(ctx, error).await),
        }
    }
}

/// Folds the changes of one capped collection into its segments.
pub(super) async fn refold(
    store: &SegmentStore,
    segments: Segments,
    changes: CappedChanges,
    list: SegmentList,
    at: model::ClusterTime,
) -> Result<Listing, Ended> {
    let ctx = store.ctx();
    let _reader = ctx.reader().await?;
    let mut lister = Lister::new(store, at, list);
    let (documents, received) = mpsc::channel(1);
    let feeding = AbortOnDropHandle::new(tokio::spawn(feed(ctx.clone(), segments, documents)));
    let (giver, mut full) = handover(store);
    let segmenter = Segmenter::new(Order::Natural, &ctx.services().budget.buffers);
    // It waits for both channels, and for room: it must not hold a processor.
    let work = tokio::task::spawn_blocking(move || fold(received, &changes, segmenter, &giver));
    while let Some(full) = ctx.or_stop(full.recv()).await? {
        lister.submit_full(full).await?;
    }
    let bug = |e| JobError::failed_by("a bug in Ebbtide stopped a fold", e);
    let folded = work.await.map_err(bug)?;
    let fed = feeding.await.map_err(bug)?;
    // A feeder that fails also ends the fold; the cause is with the feeder.
    let bytes_read = fed?;
    match folded {
        Ok(()) => {}
        Err(FoldError::Source(error)) => return Err(error.into()),
        Err(FoldError::Defect { key, defect }) => {
            return Err(Ended::Obstacle(Obstacle::Document { key, defect }));
        }
        Err(error @ (FoldError::Malformed(_) | FoldError::Unsorted(_))) => {
            return Err(
                JobError::failed_by("a capped collection of the snapshot cannot be read", error).into()
            );
        }
    }
    lister.count(Counters { bytes_read, ..Counters::default() });
    Ok(lister.finish())
}

/// Reads the segments; tells how many bytes that were in the store.
async fn feed(
    ctx: JobContext,
    mut segments: Segments,
    documents: mpsc::Sender<Bytes>,
) -> Result<u64, FoldFailure> {
    let mut bytes_read = 0;
    loop {
        let entry = match segments.try_next().await {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(bytes_read),
            Err(error) => return Err(FoldFailure::of_base(&ctx, error).await),
        };
        bytes_read += entry.stored_bytes;
        let segment = match ctx.vault().read_segment(&entry).await {
            Ok(segment) => segment,
            Err(error) => return Err(FoldFailure::of_base(&ctx, error).await),
        };
        // Gone when the fold has ended, which then says why itself.
        if documents.send(segment.into_bytes()).await.is_err() {
            return Ok(bytes_read);
        }
    }
}

fn fold(
    received: mpsc::Receiver<Bytes>,
    changes: &CappedChanges,
    mut segmenter: Segmenter,
    giver: &Giver,
) -> Result<(), FoldError<JobError>> {
    let mut key = Vec::new();
    changes.fold(&mut Received { received, segment: Bytes::new(), at: 0 }, |folded| {
        let Some(document) = folded.after() else { return Ok(()) };
        key.clear();
        // The cutter draws by the key, whatever the order.
        push_document_key(&mut key, document)
            .map_err(|e| JobError::failed_by("a document of a capped collection has no _id", e))?;
        match segmenter.offer(&key, document) {
            Ok(Some(full)) => giver.give(full),
            Ok(None) => Ok(()),
            Err(error) => Err(JobError::failed_by("a bug in Ebbtide: a list is not sorted", error)),
        }
    })?;
    segmenter.finish().map_or(Ok(()), |last| giver.give(last).map_err(FoldError::Source))
}

/// The documents of segments that come through a channel.
struct Received {
    received: mpsc::Receiver<Bytes>,
    segment: Bytes,
    at: usize,
}

impl Documents for Received {
    type Error = JobError;

    fn next(&mut self) -> Result<Option<&[u8]>, JobError> {
        while self.at >= self.segment.len() {
            let Some(segment) = self.received.blocking_recv() else { return Ok(None) };
            (self.segment, self.at) = (segment, 0);
        }
        let rest = &self.segment[self.at..];
        let length = raw::document_length(rest)
            .map_err(|e| JobError::failed_by("a capped collection of the snapshot cannot be read", e))?;
        self.at += length;
        Ok(Some(&rest[..length]))
    }
}
