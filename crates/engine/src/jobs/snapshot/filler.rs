//! Fills segments from one stream of documents.

use std::collections::VecDeque;

use vault::{Order, SegmentEntry};

use super::{collection::Reading, source::ReadError};
use crate::{
    lease::JobError,
    pipeline::{FullSegment, Pending, Segmenter},
};

/// Fills segments from one stream of documents and hands them over.
pub(super) struct Filler<'a> {
    reading: &'a Reading,
    as_of: model::ClusterTime,
    segmenter: Segmenter,
    pending: VecDeque<Pending>,
    entries: Vec<SegmentEntry>,
    /// What the keys of these take.
    key_bytes: usize,
    /// Not yet told to the progress counters.
    uncounted: (u64, u64),
}

/// The progress counters are told so many documents at a time.
const COUNT_AT_A_TIME: u64 = 256;

impl<'a> Filler<'a> {
    pub(super) fn new(reading: &'a Reading, order: Order, as_of: model::ClusterTime) -> Self {
        let segmenter = Segmenter::new(order, &reading.ctx.services().budget.buffers);
        Self {
            reading,
            as_of,
            segmenter,
            pending: VecDeque::new(),
            entries: vec![],
            key_bytes: 0,
            uncounted: (0, 0),
        }
    }

    /// Takes the next document. Tells whether a segment ended before it.
    pub(super) async fn offer(&mut self, key: &[u8], document: &[u8]) -> Result<bool, ReadError> {
        let full = self.segmenter.offer(key, document)?;
        let has_ended = full.is_some();
        if let Some(full) = full {
            self.submit(full).await?;
        }
        self.uncounted.0 += 1;
        self.uncounted.1 += document.len() as u64;
        if self.uncounted.0 >= COUNT_AT_A_TIME {
            self.count();
        }
        Ok(has_ended)
    }

    async fn submit(&mut self, full: vault::SegmentBuilder) -> Result<(), JobError> {
        let pending = self.reading.store.submit(full, self.as_of).await?;
        self.wait_for(pending).await
    }

    /// The same for one that has room on its way already.
    pub(super) async fn submit_full(&mut self, full: FullSegment) -> Result<(), JobError> {
        let pending = self.reading.store.submit_full(full, self.as_of);
        self.wait_for(pending).await
    }

    async fn wait_for(&mut self, pending: Pending) -> Result<(), JobError> {
        self.pending.push_back(pending);
        while self.pending.front().is_some_and(Pending::is_done) {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), JobError> {
        if let Some(pending) = self.pending.pop_front() {
            let entry = pending.entry().await?;
            self.key_bytes += entry.first_key.len() + entry.last_key.len();
            self.entries.push(entry);
        }
        Ok(())
    }

    fn count(&mut self) {
        let (documents, bytes) = std::mem::take(&mut self.uncounted);
        self.reading.ctx.progress().add(documents, bytes);
    }

    /// The entries of the segments that are durable by now.
    pub(super) fn take_entries(&mut self) -> Vec<SegmentEntry> {
        self.key_bytes = 0;
        std::mem::take(&mut self.entries)
    }

    /// The same, once all segments that have ended are durable. What has come since the last of them is not among them.
    pub(super) async fn settle(&mut self) -> Result<Vec<SegmentEntry>, JobError> {
        while !self.pending.is_empty() {
            self.settle_one().await?;
        }
        Ok(self.take_entries())
    }

    /// What the keys of the segments take that are durable and not taken yet.
    pub(super) fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// The entries of all segments not yet taken, once they are durable.
    pub(super) async fn finish(mut self) -> Result<Vec<SegmentEntry>, ReadError> {
        self.count();
        if let Some(last) = self.segmenter.finish() {
            self.submit(last).await?;
        }
        Ok(self.settle().await?)
    }
}
