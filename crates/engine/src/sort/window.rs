//! Puts documents right that come nearly in order, in bounded memory and without a disk.

use std::{cmp::Ordering, collections::VecDeque, ops::Range};

use super::run::prefix;
use crate::pipeline::OutOfOrder;

/// So many sorted chunks wait for what may come before their last documents.
const CHUNKS: usize = 8;

/// Documents gather in a chunk, in the replies that brought them; full ones are sorted and wait. When there are too
/// many, the oldest is given, together with what belongs between its documents.
///
/// A document may come after a greater one by the window's bytes. One that comes later still is told of, never given in
/// the wrong place.
#[derive(Debug)]
pub struct Window<B> {
    bytes: usize,
    chunk_bytes: usize,
    filling: Chunk<B>,
    /// Sorted, the oldest first.
    waiting: VecDeque<Chunk<B>>,
    /// What these weigh together.
    waiting_weight: usize,
    /// The one that the present turn gives.
    oldest: Option<Chunk<B>>,
    /// Those of the waiting that have something to give between its documents.
    between: Vec<usize>,
    /// Replies of which everything was given.
    spent: Vec<B>,
    /// Memory for chunks to come.
    free: Vec<Chunk<B>>,
    /// Key of the last document given by the turns before.
    last: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Chunk<B> {
    replies: Vec<B>,
    keys: Vec<u8>,
    places: Vec<Place>,
    next: usize,
    sorted: bool,
    weight: usize,
}

/// Where one document and its key lie in a chunk. The first sixteen bytes of the key, which hold the whole of a number
/// or an `ObjectId`, settle most comparisons without a look at the key itself.
#[derive(Debug, Clone, Copy)]
struct Place {
    prefix: [u64; 2],
    key: (u32, u32),
    reply: u32,
    document: (u32, u32),
}

impl<B> Default for Chunk<B> {
    fn default() -> Self {
        Self { replies: vec![], keys: vec![], places: vec![], next: 0, sorted: true, weight: 0 }
    }
}

impl<B: AsRef<[u8]>> Chunk<B> {
    fn push(&mut self, key: &[u8], document: Range<usize>) {
        let at = self.keys.len();
        self.keys.extend_from_slice(key);
        let place = Place {
            prefix: prefix(key),
            key: (at as u32, self.keys.len() as u32),
            reply: self.replies.len() as u32,
            document: (document.start as u32, document.end as u32),
        };
        self.sorted = self.sorted && self.places.last().is_none_or(|last| self.cmp(last, &place).is_lt());
        self.places.push(place);
        self.weight += key.len() + size_of::<Place>();
    }

    fn cmp(&self, one: &Place, other: &Place) -> Ordering {
        one.prefix.cmp(&other.prefix).then_with(|| key_of(&self.keys, one).cmp(key_of(&self.keys, other)))
    }

    /// Sorts by key. Equal keys keep no particular order; `_id`s are unique.
    fn sort(&mut self) {
        if !self.sorted {
            let keys = &self.keys;
            self.places.sort_unstable_by(|a, b| {
                a.prefix.cmp(&b.prefix).then_with(|| key_of(keys, a).cmp(key_of(keys, b)))
            });
            self.sorted = true;
        }
    }

    /// Key of the sorted document at hand. `None` past the last.
    fn current(&self) -> Option<&[u8]> {
        self.places.get(self.next).map(|place| key_of(&self.keys, place))
    }

    fn last(&self) -> Option<&[u8]> {
        self.places.last().map(|place| key_of(&self.keys, place))
    }

    /// Compares the keys of the documents at hand; one that has none comes last.
    fn cmp_current(&self, other: &Self) -> Ordering {
        match (self.places.get(self.next), other.places.get(other.next)) {
            (Some(one), Some(two)) => one
                .prefix
                .cmp(&two.prefix)
                .then_with(|| key_of(&self.keys, one).cmp(key_of(&other.keys, two))),
            (one, two) => two.is_some().cmp(&one.is_some()),
        }
    }

    /// The sorted document at hand, and moves on.
    fn take(&mut self) -> Option<(&[u8], &[u8])> {
        let place = *self.places.get(self.next)?;
        self.next += 1;
        let reply = self.replies.get(place.reply as usize)?.as_ref();
        let document = reply.get(place.document.0 as usize..place.document.1 as usize)?;
        Some((key_of(&self.keys, &place), document))
    }
}

fn key_of<'a>(keys: &'a [u8], place: &Place) -> &'a [u8] {
    &keys[place.key.0 as usize..place.key.1 as usize]
}

impl Window<()> {
    /// What a window of so many bytes holds at most, huge replies apart.
    pub const fn holds(bytes: usize) -> usize {
        bytes + bytes.div_ceil(CHUNKS)
    }
}

impl<B: AsRef<[u8]>> Window<B> {
    /// A window of so many bytes. It holds at most an eighth more, or one reply.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes,
            chunk_bytes: (bytes / CHUNKS).max(1),
            filling: Chunk::default(),
            waiting: VecDeque::new(),
            waiting_weight: 0,
            oldest: None,
            between: Vec::new(),
            spent: Vec::new(),
            free: Vec::new(),
            last: None,
        }
    }

    /// Takes note of a document and where it lies in the reply that [`Window::hold`] is given next.
    pub fn push(&mut self, key: &[u8], document: Range<usize>) {
        self.filling.push(key, document);
    }

    /// Takes the reply in which lies what was pushed since the last one; it takes `bytes` of memory. Tells whether it
    /// is time for a turn.
    pub fn hold(&mut self, reply: B, bytes: usize) -> bool {
        self.filling.replies.push(reply);
        self.filling.weight += bytes;
        if self.filling.weight < self.chunk_bytes {
            return false;
        }
        self.close_chunk();
        self.is_full()
    }

    /// Whether it is time for another turn.
    pub fn is_full(&self) -> bool {
        // Huge replies make few chunks heavy.
        self.waiting.len() > CHUNKS || self.waiting_weight > Window::holds(self.bytes)
    }

    fn close_chunk(&mut self) {
        let mut full = std::mem::replace(&mut self.filling, self.free.pop().unwrap_or_default());
        full.sort();
        self.waiting_weight += full.weight;
        self.waiting.push_back(full);
    }

    /// Takes what is left: from now on nothing is pushed, and turns are made until there is none.
    pub fn end(&mut self) {
        if !self.filling.replies.is_empty() {
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
        if let (Some(first), Some(bound)) = (oldest.current(), oldest.last()) {
            let too_late = |first: &[u8]| self.last.as_deref().is_some_and(|last| first <= last);
            if too_late(first) {
                return Err(OutOfOrder);
            }
            for (at, chunk) in self.waiting.iter().enumerate() {
                let Some(first) = chunk.current() else { continue };
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

    fn recycle(&mut self) {
        if let Some(mut chunk) = self.oldest.take() {
            self.spent.append(&mut chunk.replies);
            chunk.keys.clear();
            chunk.places.clear();
            self.free.push(Chunk { next: 0, sorted: true, weight: 0, ..chunk });
        }
    }

    /// A reply of which everything was given by the turns before, for its memory.
    pub fn take_spent(&mut self) -> Option<B> {
        self.spent.pop()
    }

    /// The next document of the turn, in order: key and bytes. `None` ends the turn.
    pub fn take(&mut self) -> Option<(&[u8], &[u8])> {
        let oldest = self.oldest.as_mut()?;
        oldest.current()?;
        let waiting = &mut self.waiting;
        let by_key = |one: &usize, other: &usize| waiting[*one].cmp_current(&waiting[*other]);
        let lowest = self.between.iter().copied().min_by(by_key);
        match lowest.filter(|at| waiting[*at].cmp_current(oldest).is_lt()) {
            Some(at) => waiting[at].take(),
            None => oldest.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// What one document of these tests counts for, each in a reply of its own: its key comes twice.
    const ONE: usize = size_of::<Place>() + 4;

    /// Lets one document in; whether it is time for a turn.
    fn push(window: &mut Window<Vec<u8>>, key: u16, document: &[u8]) -> bool {
        window.push(&key.to_be_bytes(), 0..document.len());
        window.hold(document.to_vec(), document.len())
    }

    /// Drives a window of so many documents as a reader does; what it gave before it was done or out of order.
    fn through(documents: usize, keys: &[u16]) -> (Vec<u16>, bool) {
        let mut window = Window::new(documents * ONE);
        let mut given = vec![];
        let mut turn = |window: &mut Window<Vec<u8>>| {
            let any = window.turn()?;
            while let Some((key, document)) = window.take() {
                assert_eq!(key, document);
                given.push(u16::from_be_bytes([key[0], key[1]]));
            }
            Ok::<_, OutOfOrder>(any)
        };
        let mut all = || {
            for key in keys {
                if push(&mut window, *key, &key.to_be_bytes()) {
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

    /// By how many places a key comes after a greater one, at most.
    fn latest(keys: &[u16]) -> usize {
        let after = |(at, key): (usize, &u16)| {
            keys[..at].iter().position(|before| before > key).map(|first| at - first)
        };
        keys.iter().enumerate().filter_map(after).max().unwrap_or(0)
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
            if push(&mut window, n, &huge) {
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
        fn puts_right_what_comes_after_a_greater_one_by_less_than_the_window(
            late in 0_u16..200, noise in proptest::collection::vec(any::<u16>(), 0..400), spare in 0_usize..60,
        ) {
            let mut keys: Vec<(u16, u16)> = (0_u16..).zip(&noise).map(|(n, noise)| (n + noise % (late + 1), n)).collect();
            keys.sort_unstable();
            let keys: Vec<u16> = keys.into_iter().map(|(_, key)| key).collect();
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            let documents = latest(&keys) + 1 + spare;
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
