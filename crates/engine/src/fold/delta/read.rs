//! Reading entries before they are folded: what an entry does by itself does not depend on those before it, so a second thread
//! can read ahead.

use std::{
    iter,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use bytes::Bytes;
use history::{
    ClusterTime, Malformed,
    change::{Effect, interpret},
    entry::Entry,
    raw,
    skim::Wanted,
};
use vault::Hands;

use super::is_recorded;

/// Entries of one part. Fewer are read sooner than a thread begins.
const ENTRIES_OF_PART: usize = 256;

/// What is to be read of entries.
#[derive(Clone, Copy)]
pub(super) struct Reader<'w> {
    /// Only what takes effect after this time counts,
    pub(super) after: ClusterTime,
    /// and not after this one.
    pub(super) through: ClusterTime,
    /// Whose documents are kept.
    pub(super) wanted: &'w Wanted,
}

/// Some entries of a block, one after the other.
#[derive(Default)]
pub(super) struct Part<'a> {
    /// The entries, or why one cannot be read; whoever does not need it does not mind.
    pub(super) entries: Vec<Result<ReadEntry<'a>, Malformed>>,
    /// The effects of all of them, in their order. The documents are copies.
    pub(super) effects: Vec<Effect<'a>>,
}

/// An entry.
pub(super) struct ReadEntry<'a> {
    /// As it is.
    pub(super) entry: Entry<'a>,
    /// How many effects it has by itself: none where it belongs to a transaction, or does not count. Or why that cannot be told.
    pub(super) effects: Result<usize, Malformed>,
}

impl Reader<'_> {
    /// Reads all entries of some blocks, and shows them part by part, in their order, until there are no more or enough is seen:
    /// until `visit` gives `false` or an error.
    pub(super) fn read<'a, E>(
        self,
        blocks: &'a [Bytes],
        hands: Hands,
        mut visit: impl FnMut(Part<'a>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let raw: Vec<_> = blocks.iter().flat_map(|block| raw::documents(block)).collect();
        let parts: Vec<_> = raw.chunks(ENTRIES_OF_PART).collect();
        if hands == Hands::One || parts.len() < 2 {
            for part in parts {
                if !visit(self.read_part(part))? {
                    break;
                }
            }
            return Ok(());
        }
        let shared = Shared::of(parts.len());
        thread::scope(|scope| {
            // Where the system gives no thread, this one reads all.
            let _helper = thread::Builder::new().spawn_scoped(scope, || {
                // A panic must not leave the other thread waiting; it is told when the scope ends.
                let _ends = EndOfWork(&shared);
                while let Some(at) = shared.claim_next() {
                    shared.put(at, self.read_part(parts[at]));
                }
            });
            // Whoever stops to look wants no more of them.
            let _ends = EndOfWork(&shared);
            for (at, raw) in parts.iter().enumerate() {
                let part = if shared.claim(at) { Some(self.read_part(raw)) } else { shared.take(at) };
                // The other thread panicked.
                let Some(part) = part else { break };
                if !visit(part)? {
                    break;
                }
            }
            Ok(())
        })
    }

    fn read_part<'a>(self, raw: &[Result<&'a [u8], Malformed>]) -> Part<'a> {
        let mut part =
            Part { entries: Vec::with_capacity(raw.len()), effects: Vec::with_capacity(raw.len()) };
        for entry in raw {
            let read = entry.clone().and_then(Entry::read);
            let read =
                read.map(|entry| ReadEntry { effects: self.effects(&entry, &mut part.effects), entry });
            part.entries.push(read);
        }
        part
    }

    fn effects<'a>(self, entry: &Entry<'a>, into: &mut Vec<Effect<'a>>) -> Result<usize, Malformed> {
        let counts = self.after < entry.time && entry.time <= self.through;
        if !counts || entry.transaction().is_some() {
            return Ok(0);
        }
        let before = into.len();
        let found = interpret(&entry.operation, &is_recorded, &mut |effect| {
            into.push(self.own(effect, entry.separate))
        });
        if found.is_err() {
            into.truncate(before);
        }
        found.map(|()| into.len() - before)
    }

    /// Copies what is kept; the rest will be passed over. A batch of the server's own looks as a user's `applyOps` does, but for a
    /// field of the entry.
    fn own<'a>(self, effect: Effect<'a>, is_batch: bool) -> Effect<'a> {
        let Effect::Write { namespace, collection, key, mut write, by_user } = effect else { return effect };
        if self.wanted.includes(collection, &key) {
            write = write.into_owned();
        }
        Effect::Write { namespace, collection, key, write, by_user: by_user && !is_batch }
    }
}

/// Parts that two threads read: each part by one of them.
struct Shared<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
}

struct State<'a> {
    /// The first part that nobody has begun to read.
    next: usize,
    read: Vec<Option<Part<'a>>>,
    ended: bool,
}

impl<'a> Shared<'a> {
    fn of(parts: usize) -> Self {
        let read = iter::repeat_with(|| None).take(parts).collect();
        Self { state: Mutex::new(State { next: 0, read, ended: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller is to read this part, which is the next one or was begun before.
    fn claim(&self, at: usize) -> bool {
        let mut state = self.lock();
        let free = state.next == at;
        state.next += usize::from(free);
        free
    }

    /// The part that the caller is to read next.
    fn claim_next(&self) -> Option<usize> {
        let mut state = self.lock();
        let at = state.next;
        let free = !state.ended && at < state.read.len();
        state.next += usize::from(free);
        free.then_some(at)
    }

    fn put(&self, at: usize, part: Part<'a>) {
        self.lock().read[at] = Some(part);
        self.changed.notify_one();
    }

    /// Waits for a part that the other thread reads; none when that has ended without it.
    fn take(&self, at: usize) -> Option<Part<'a>> {
        let waiting = |state: &mut State<'a>| state.read[at].is_none() && !state.ended;
        let state = self.changed.wait_while(self.lock(), waiting);
        state.unwrap_or_else(PoisonError::into_inner).read[at].take()
    }
}

/// Tells the other thread that this one is through.
struct EndOfWork<'s, 'a>(&'s Shared<'a>);

impl Drop for EndOfWork<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_one();
    }
}
