//! Cuts one stream of documents into segments.

use std::sync::Arc;

use history::{Cut, Cutter, cut::SEGMENT_BYTES_MAX};
use vault::{Order, Pool, SegmentBuilder};

/// A document came that does not belong after the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server gave documents in another order than that of their _id")]
pub struct OutOfOrder;

/// Memory of segments that are durable, for the segments to come: large buffers that are allocated and freed by turns
/// would leave holes that the process never gives back.
#[derive(Debug)]
pub struct Buffers(Pool<Vec<u8>>);

/// Allocations above 32 MiB are mappings of their own in glibc, which go back to the system when they are freed.
/// Smaller ones may come to lie in an arena, where a small neighbour keeps their pages from being given back.
pub(crate) const OWN_MAPPING_BYTES: usize = 33 << 20;

/// So many free buffers are kept.
const BUFFERS_KEPT: usize = super::SEGMENTS_IN_FLIGHT + crate::engine::READERS;

impl Default for Buffers {
    fn default() -> Self {
        Self(Pool::new(BUFFERS_KEPT))
    }
}

impl Buffers {
    /// A free buffer, or a new one that a segment never outgrows. What is never touched of it costs nothing.
    pub fn take(&self) -> Vec<u8> {
        self.0.take().unwrap_or_else(|| Vec::with_capacity(OWN_MAPPING_BYTES.max(SEGMENT_BYTES_MAX)))
    }

    /// Takes a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= SEGMENT_BYTES_MAX {
            buffer.clear();
            self.0.give(buffer);
        }
    }

    /// Lets go of those that were not needed since the last call.
    pub fn trim(&self) {
        self.0.trim();
    }
}

/// Takes documents one by one and gives a full segment back now and then.
pub struct Segmenter {
    buffers: Arc<Buffers>,
    order: Order,
    cutter: Cutter,
    builder: SegmentBuilder,
    filled: bool,
}

impl Segmenter {
    /// A segmenter at the start of a collection, or at a strong cut.
    pub fn new(order: Order, buffers: &Arc<Buffers>) -> Self {
        let builder = SegmentBuilder::with_buffer(order, buffers.take());
        Self { buffers: Arc::clone(buffers), order, cutter: Cutter::new(), builder, filled: false }
    }

    /// Takes the next document. Gives back the segment that ended before it, if one did.
    ///
    /// # Errors
    /// [`OutOfOrder`] when a sorted stream is not sorted.
    pub fn offer(&mut self, key: &[u8], document: &[u8]) -> Result<Option<SegmentBuilder>, OutOfOrder> {
        let cut = self.cutter.offer(key, document.len()) != Cut::Stay;
        if !(cut && self.filled) {
            self.builder.push(key, document);
            self.filled = true;
            return if self.builder.is_in_order() { Ok(None) } else { Err(OutOfOrder) };
        }
        // Within a segment its builder looks at the order.
        if self.order == Order::Sorted && key <= self.builder.last_key() {
            return Err(OutOfOrder);
        }
        let fresh = SegmentBuilder::with_buffer(self.order, self.buffers.take());
        let full = std::mem::replace(&mut self.builder, fresh);
        self.builder.push(key, document);
        Ok(Some(full))
    }

    /// Whether no document has come yet.
    pub fn is_empty(&self) -> bool {
        !self.filled
    }

    /// Whether a document of this key and length would begin another segment.
    pub fn ends_before(&self, key: &[u8], document_bytes: usize) -> bool {
        self.filled && self.cutter.clone().offer(key, document_bytes) != Cut::Stay
    }

    /// The last segment, unless no document came at all.
    pub fn finish(&mut self) -> Option<SegmentBuilder> {
        let filled = std::mem::take(&mut self.filled);
        filled.then(|| std::mem::replace(&mut self.builder, SegmentBuilder::new(self.order)))
    }
}
