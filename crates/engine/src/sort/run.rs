//! One buffer full of documents, sorted in place and spilled.

use std::path::Path;

use crate::{
    pipeline::OWN_MAPPING_BYTES,
    spill::{Run, SpillError, SpillWriter},
};

/// A buffer that has come to hold this much is made as large as it may become.
const GROW_IN_ONE_STEP_BYTES: usize = 1 << 20;

/// Where one document lies in the buffer. The first sixteen bytes of the key, which hold the whole of a number or an
/// `ObjectId`, settle most comparisons without a look into the buffer.
#[derive(Debug, Clone, Copy)]
struct Place {
    prefix: [u64; 2],
    at: u32,
    key: u32,
    document: u32,
}

/// Documents gathered in any order, up to a number of bytes.
#[derive(Debug)]
pub struct RunBuffer {
    limit: usize,
    bytes: Vec<u8>,
    places: Vec<Place>,
    next: usize,
}

impl RunBuffer {
    /// A buffer that is full at `limit` bytes, index included. One document that is longer than that fits into
    /// an empty buffer all the same.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.min(u32::MAX as usize / 2), bytes: vec![], places: vec![], next: 0 }
    }

    /// Whether a document of so many bytes would overfill the buffer.
    pub fn is_full_for(&self, key: &[u8], document: &[u8]) -> bool {
        !self.places.is_empty()
            && self.bytes.len() + key.len() + document.len() + (self.places.len() + 1) * size_of::<Place>()
                > self.limit
    }

    /// Takes one document. Ask [`RunBuffer::is_full_for`] first.
    pub fn push(&mut self, key: &[u8], document: &[u8]) {
        self.places.push(Place {
            prefix: prefix(key),
            at: self.bytes.len() as u32,
            key: key.len() as u32,
            document: document.len() as u32,
        });
        let more = key.len() + document.len();
        if self.bytes.capacity() - self.bytes.len() < more && self.bytes.len() >= GROW_IN_ONE_STEP_BYTES {
            // Growing by doubling would overshoot the limit, and leave holes where the old buffer lay.
            let whole = self.limit.max(OWN_MAPPING_BYTES).max(self.bytes.len() + more);
            self.bytes.reserve_exact(whole - self.bytes.len());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(document);
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Sorts by key. Equal keys keep no particular order; `_id`s are unique.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        self.places.sort_unstable_by(|a, b| {
            a.prefix.cmp(&b.prefix).then_with(|| key_of(bytes, a).cmp(key_of(bytes, b)))
        });
        self.next = 0;
    }

    /// The sorted document at hand: key and bytes. `None` past the last.
    pub(crate) fn current(&self) -> Option<(&[u8], &[u8])> {
        let place = self.places.get(self.next)?;
        Some((key_of(&self.bytes, place), document_of(&self.bytes, place)))
    }

    /// Moves to the next sorted document.
    pub(crate) fn advance(&mut self) {
        self.next += 1;
    }

    /// Forgets all documents and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.next = 0;
    }
}

/// Where full buffers go: one file for all runs of one reader.
pub struct Spill(SpillWriter);

impl Spill {
    /// Opens a spill file in `dir`.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn create(dir: &Path) -> Result<Self, SpillError> {
        SpillWriter::create(dir).map(Self)
    }

    /// Sorts a buffer, writes it as one run and empties it.
    ///
    /// # Errors
    /// When the directory is full or broken.
    pub fn write(&mut self, buffer: &mut RunBuffer) -> Result<Run, SpillError> {
        buffer.sort();
        for place in &buffer.places {
            self.0.push(key_of(&buffer.bytes, place), document_of(&buffer.bytes, place))?;
        }
        buffer.clear();
        self.0.end_run()
    }
}

/// The first sixteen bytes of a key, as numbers that sort as they do.
pub(super) fn prefix(key: &[u8]) -> [u64; 2] {
    let mut first = [0; 16];
    let length = key.len().min(16);
    first[..length].copy_from_slice(&key[..length]);
    let whole = u128::from_be_bytes(first);
    [(whole >> 64) as u64, whole as u64]
}

fn key_of<'a>(bytes: &'a [u8], place: &Place) -> &'a [u8] {
    &bytes[place.at as usize..(place.at + place.key) as usize]
}

fn document_of<'a>(bytes: &'a [u8], place: &Place) -> &'a [u8] {
    let start = (place.at + place.key) as usize;
    &bytes[start..start + place.document as usize]
}
