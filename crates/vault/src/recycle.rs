//! Memory that is used again and again.
//!
//! Sealing a segment takes megabytes for its bytes and a megabyte for the compressor. Allocated and freed by turns on
//! many threads they leave holes in the allocator's arenas, which the process never gives back: measured, 110 MB.

use std::sync::Arc;

use bytes::Bytes;

use crate::pool::Pool;

/// So many buffers, and so many compressors, are kept.
const KEPT: usize = 6;
/// Allocations above 32 MiB are mappings of their own in glibc, whatever was allocated before. What is never touched
/// of them costs nothing.
const CAPACITY: usize = 33 << 20;
/// A buffer that one huge document made larger than this is not kept.
const CAPACITY_KEPT_MAX: usize = 64 << 20;

/// Buffers and compressors at rest. Clones are the same.
#[derive(Clone)]
pub(crate) struct Recycler(Arc<Rest>);

struct Rest {
    buffers: Pool<Vec<u8>>,
    compressors: Pool<zstd::bulk::Compressor<'static>>,
}

impl Default for Recycler {
    fn default() -> Self {
        Self(Arc::new(Rest { buffers: Pool::new(KEPT), compressors: Pool::new(KEPT) }))
    }
}

impl Recycler {
    /// An empty buffer.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.0.buffers.take().unwrap_or_else(|| Vec::with_capacity(CAPACITY))
    }

    /// Lets go of what was not needed since the last call.
    pub(crate) fn trim(&self) {
        self.0.buffers.trim();
        self.0.compressors.trim();
    }

    /// The bytes of a buffer, which comes back when the last copy of them is dropped.
    pub(crate) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, recycler: self.clone() })
    }

    /// A compressor at rest.
    pub(crate) fn compressor(&self) -> Option<zstd::bulk::Compressor<'static>> {
        self.0.compressors.take()
    }

    /// Takes a compressor back. All of them must have the same parameters.
    pub(crate) fn give_compressor(&self, compressor: zstd::bulk::Compressor<'static>) {
        self.0.compressors.give(compressor);
    }

    /// Takes a buffer back.
    pub(crate) fn give_buffer(&self, mut buffer: Vec<u8>) {
        if (CAPACITY..=CAPACITY_KEPT_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.0.buffers.give(buffer);
        }
    }
}

struct Lent {
    buffer: Vec<u8>,
    recycler: Recycler,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.recycler.give_buffer(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_copy_is_gone() {
        let recycler = Recycler::default();
        let mut buffer = recycler.buffer();
        buffer.extend_from_slice(b"sealed");
        let place = buffer.as_ptr();
        let bytes = recycler.lend(buffer);
        let copy = bytes.slice(1..3);
        drop(bytes);
        let another = recycler.buffer();
        assert_ne!(another.as_ptr(), place);
        assert_eq!(&copy[..], b"ea");
        drop(copy);
        let again = recycler.buffer();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), place);
    }
}
