//! How much has been written, counted while it is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts what the primary has acknowledged; shared by all loads of one job.
#[derive(Debug, Default)]
pub struct Written {
    documents: AtomicU64,
    bytes: AtomicU64,
}

impl Written {
    /// Counts documents, and their bytes.
    pub fn add(&self, documents: u64, bytes: u64) {
        self.documents.fetch_add(documents, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.documents.load(Relaxed)
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}
