//! Memory that is used again and again.
//!
//! Sealing a segment takes megabytes for its bytes and a megabyte for the compressor. Allocated and freed by turns on
//! many threads they leave holes in the allocator's arenas, which the process never gives back: measured, 110 MB.
//!
//! What a buffer once held stays resident, so there are buffers of two kinds: one that has held a plain segment is as large as
//! that wherever it serves, and what is sealed is half as large. Measured, 70 MB in a snapshot that is folded.

use std::sync::Arc;

use bytes::Bytes;

use crate::pool::Pool;

/// So many buffers of each kind, and so many compressors, are kept.
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
    plain: Pool<Vec<u8>>,
    sealed: Pool<Vec<u8>>,
    compressors: Pool<zstd::bulk::Compressor<'static>>,
}

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Content as it is.
    Plain,
    /// Content compressed, and sealed or about to be.
    Sealed,
}

impl Rest {
    const fn buffers(&self, holds: Holds) -> &Pool<Vec<u8>> {
        match holds {
            Holds::Plain => &self.plain,
            Holds::Sealed => &self.sealed,
        }
    }
}

impl Default for Recycler {
    fn default() -> Self {
        Self(Arc::new(Rest { plain: Pool::new(KEPT), sealed: Pool::new(KEPT), compressors: Pool::new(KEPT) }))
    }
}

impl Recycler {
    /// An empty buffer.
    pub(crate) fn buffer(&self, holds: Holds) -> Vec<u8> {
        self.0.buffers(holds).take().unwrap_or_else(|| Vec::with_capacity(CAPACITY))
    }

    /// Lets go of what was not needed since the last call.
    pub(crate) fn trim(&self) {
        self.0.plain.trim();
        self.0.sealed.trim();
        self.0.compressors.trim();
    }

    /// The bytes of a buffer, which comes back when the last copy of them is dropped.
    pub(crate) fn lend(&self, holds: Holds, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, holds, recycler: self.clone() })
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
    pub(crate) fn give_buffer(&self, holds: Holds, mut buffer: Vec<u8>) {
        if (CAPACITY..=CAPACITY_KEPT_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.0.buffers(holds).give(buffer);
        }
    }
}

struct Lent {
    buffer: Vec<u8>,
    holds: Holds,
    recycler: Recycler,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.recycler.give_buffer(self.holds, std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_copy_is_gone() {
        let recycler = Recycler::default();
        let mut buffer = recycler.buffer(Holds::Sealed);
        buffer.extend_from_slice(b"sealed");
        let place = buffer.as_ptr();
        let bytes = recycler.lend(Holds::Sealed, buffer);
        let copy = bytes.slice(1..3);
        drop(bytes);
        let another = recycler.buffer(Holds::Sealed);
        assert_ne!(another.as_ptr(), place);
        assert_eq!(&copy[..], b"ea");
        drop(copy);
        let again = recycler.buffer(Holds::Sealed);
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn what_has_held_plain_content_holds_nothing_sealed() {
        let recycler = Recycler::default();
        let plain = recycler.buffer(Holds::Plain);
        let place = plain.as_ptr();
        recycler.give_buffer(Holds::Plain, plain);
        let (sealed, again) = (recycler.buffer(Holds::Sealed), recycler.buffer(Holds::Plain));
        assert_ne!(sealed.as_ptr(), place);
        assert_eq!(again.as_ptr(), place);
    }
}
