//! Puts documents right that come nearly in order, in bounded memory and without a disk.

use std::collections::VecDeque;

use super::RunBuffer;
use crate::pipeline::OutOfOrder;

/// So many sorted chunks wait for what may come before their last documents.
const CHUNKS: usize = 8;
/// What the window itself keeps of a document.
const OVERHEAD_BYTES: usize = 32;

/// Documents gather in a chunk; full ones are sorted and wait. When there are too many, the oldest is given, together
/// with what belongs between its documents.
///
/// A document may come later than its place in the order by the window's bytes. One that comes later still is told of,
/// never given in the wrong place.
#[derive(Debug)]
pub struct Window {
    bytes: usize,
    chunk_bytes: usize,
    filling: Chunk,
    /// Sorted, the oldest first.
    waiting: VecDeque<Chunk>,
    /// What these weigh together.
    waiting_weight: usize,
    /// The one that the present turn gives.
    oldest: Option<Chunk>,
    /// Those of the waiting that have something to give between its documents.
    between: Vec<usize>,
    /// Memory for chunks to come.
    free: Vec<RunBuffer>,
    /// Key of the last document given by the turns before.
    last: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Chunk {
    documents: RunBuffer,
    weight: usize,
}

impl Window {
    /// A window of so many bytes. It holds at most an eighth more, or one document.
    pub fn new(bytes: usize) -> Self {
        let chunk_bytes = (bytes / CHUNKS).max(1);
        Self {
            bytes,
            chunk_bytes,
            filling: Chunk { documents: RunBuffer::new(chunk_bytes), weight: 0 },
            waiting: VecDeque::new(),
            waiting_weight: 0,
            oldest: None,
            between: Vec::new(),
            free: Vec::new(),
            last: None,
        }
    }

    /// What a window of so many bytes holds at most, huge documents apart.
    pub const fn holds(bytes: usize) -> usize {
        bytes + bytes.div_ceil(CHUNKS)
    }

    /// Takes a document. Tells whether it is time for a turn.
    pub fn push(&mut self, key: &[u8], document: &[u8]) -> bool {
        self.filling.documents.push(key, document);
        self.filling.weight += key.len() + document.len() + OVERHEAD_BYTES;
        if self.filling.weight < self.chunk_bytes {
            return false;
        }
        self.close_chunk();
        // Huge documents make few chunks heavy.
        self.waiting.len() > CHUNKS || self.waiting_weight > Self::holds(self.bytes)
    }

    fn close_chunk(&mut self) {
        let documents = self.free.pop().unwrap_or_else(|| RunBuffer::new(self.chunk_bytes));
        let mut full = std::mem::replace(&mut self.filling, Chunk { documents, weight: 0 });
        full.documents.sort();
        self.waiting_weight += full.weight;
        self.waiting.push_back(full);
    }

    /// Takes what is left: from now on nothing is pushed, and turns are made until there is none.
    pub fn end(&mut self) {
        if !self.filling.documents.is_empty() {
            self.close_chunk();
        }
    }

    /// Begins a turn, which takes the oldest chunk off the window: now [`Window::take`] until there is nothing. False
    /// when no chunk waits.
    ///
    /// # Errors
    /// [`OutOfOrder`] when a document came too late.
    pub fn turn(&mut self) -> Result<bool, OutOfOrder> {
        self.recycle();
        self.between.clear();
        let Some(oldest) = self.waiting.pop_front() else { return Ok(false) };
        self.waiting_weight -= oldest.weight;
        let oldest = self.oldest.insert(oldest);
        // It has nothing left when all of it lay between the documents of older chunks.
        if let (Some((first, _)), Some(bound)) = (oldest.documents.current(), oldest.documents.last()) {
            let too_late = |first: &[u8]| self.last.as_deref().is_some_and(|last| first <= last);
            if too_late(first) {
                return Err(OutOfOrder);
            }
            for (at, chunk) in self.waiting.iter().enumerate() {
                let Some((first, _)) = chunk.documents.current() else { continue };
                if too_late(first) {
                    return Err(OutOfOrder);
                }
                if first <= bound {
                    self.between.push(at);
                }
            }
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(bound);
        }
        Ok(true)
    }

    /// Keeps the memory of the chunk that was given, unless a huge document made it large.
    fn recycle(&mut self) {
        let given = self.oldest.take().filter(|chunk| chunk.weight <= 2 * self.chunk_bytes);
        if let Some(mut chunk) = given {
            chunk.documents.clear();
            self.free.push(chunk.documents);
        }
    }

    /// The next document of the turn, in order: key and bytes. `None` ends the turn.
    pub fn take(&mut self) -> Option<(&[u8], &[u8])> {
        let oldest = &mut self.oldest.as_mut()?.documents;
        oldest.current()?;
        let waiting = &mut self.waiting;
        let by_key =
            |one: &usize, other: &usize| waiting[*one].documents.cmp_current(&waiting[*other].documents);
        let lowest = self.between.iter().copied().min_by(by_key);
        match lowest.filter(|at| waiting[*at].documents.cmp_current(oldest).is_lt()) {
            Some(at) => waiting[at].documents.take(),
            None => oldest.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// What one document of these tests counts for.
    const ONE: usize = OVERHEAD_BYTES + 4;

    /// Drives a window of so many documents as a reader does; what it gave before it was done or out of order.
    fn through(documents: usize, keys: &[u16]) -> (Vec<u16>, bool) {
        let mut window = Window::new(documents * ONE);
        let mut given = vec![];
        let mut turn = |window: &mut Window| {
            let any = window.turn()?;
            while let Some((key, document)) = window.take() {
                assert_eq!(key, document);
                given.push(u16::from_be_bytes([key[0], key[1]]));
            }
            Ok::<_, OutOfOrder>(any)
        };
        let mut all = || {
            for key in keys {
                if window.push(&key.to_be_bytes(), &key.to_be_bytes()) {
                    turn(&mut window)?;
                }
            }
            window.end();
            while turn(&mut window)? {}
            Ok::<_, OutOfOrder>(())
        };
        let whole = all().is_ok();
        (given, whole)
    }

    #[test]
    fn gives_sorted_documents_as_they_came() {
        let keys: Vec<u16> = (0..1000).collect();
        assert_eq!(through(16, &keys), (keys, true));
        assert_eq!(through(16, &[]), (vec![], true));
        assert_eq!(through(16, &[3]), (vec![3], true));
    }

    #[test]
    fn forgets_nothing_when_a_late_chunk_is_given_before_its_turn() {
        // Two loaders out of step: every second chunk lies wholly between the documents of the one before it.
        let keys: Vec<u16> =
            (0..40).flat_map(|n| [n * 100, n * 100 + 90, n * 100 + 30, n * 100 + 40].into_iter()).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        for documents in 8..40 {
            assert_eq!(through(documents, &keys), (sorted.clone(), true), "a window of {documents}");
        }
    }

    #[test]
    fn huge_documents_do_not_make_it_larger() {
        const CHUNK: usize = 1 << 10;
        let mut window = Window::new(CHUNKS * CHUNK);
        let huge = vec![0; 5 * CHUNK];
        let mut given = 0;
        for n in 0_u16..50 {
            if window.push(&n.to_be_bytes(), &huge) {
                assert!(window.turn().unwrap());
                while window.take().is_some() {
                    given += 1;
                }
            }
            assert!(window.waiting_weight <= (CHUNKS + 1) * CHUNK + huge.len(), "{}", window.waiting_weight);
        }
        assert!(given > 40, "{given}");
    }

    #[test]
    fn tells_of_a_document_that_comes_too_late() {
        let mut keys: Vec<u16> = (1..1000).collect();
        keys.push(0);
        let (given, whole) = through(16, &keys);
        assert!(!whole);
        assert!(given.is_sorted());
    }

    proptest! {
        #[test]
        fn puts_right_what_is_late_by_less_than_the_window(
            late in 0_u16..200, noise in proptest::collection::vec(any::<u16>(), 0..400), spare in 0_usize..60,
        ) {
            // No key comes later than so many places after where it belongs.
            let documents = usize::from(late) + 1 + spare;
            let mut keys: Vec<(u16, u16)> = (0_u16..).zip(&noise).map(|(n, noise)| (n + noise % (late + 1), n)).collect();
            keys.sort_unstable();
            let keys: Vec<u16> = keys.into_iter().map(|(_, key)| key).collect();
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            prop_assert_eq!(through(documents, &keys), (sorted, true));
        }

        #[test]
        fn never_gives_anything_in_the_wrong_place(keys in proptest::collection::hash_set(any::<u16>(), 0..300), documents in 1_usize..80) {
            let keys: Vec<u16> = keys.into_iter().collect();
            let (given, whole) = through(documents, &keys);
            prop_assert!(given.is_sorted());
            let mut sorted = keys;
            sorted.sort_unstable();
            if whole {
                prop_assert_eq!(given, sorted);
            }
        }
    }
}
