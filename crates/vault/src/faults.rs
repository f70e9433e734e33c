//! A store where things go wrong on purpose, for tests of what comes above.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use bytes::Bytes;

/// What shall go wrong, shared with the test that decides it.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    put_fails: AtomicI64,
    put_torn: AtomicI64,
    get_fails: AtomicI64,
    puts: AtomicI64,
    full: AtomicBool,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            put_fails: AtomicI64::new(NEVER),
            put_torn: AtomicI64::new(NEVER),
            get_fails: AtomicI64::new(NEVER),
            puts: AtomicI64::new(0),
            full: AtomicBool::new(false),
        }
    }
}

const NEVER: i64 = i64::MAX;

impl Faults {
    /// Nothing goes wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `n`th put from now fails and stores nothing; 1 is the next.
    pub fn fail_put(&self, n: u32) {
        self.0.put_fails.store(n.into(), Ordering::SeqCst);
    }

    /// The `n`th put from now stores half of the object and fails.
    pub fn tear_put(&self, n: u32) {
        self.0.put_torn.store(n.into(), Ordering::SeqCst);
    }

    /// The `n`th read from now fails.
    pub fn fail_get(&self, n: u32) {
        self.0.get_fails.store(n.into(), Ordering::SeqCst);
    }

    /// From now on every put finds the disk full, or no longer.
    pub fn set_full(&self, full: bool) {
        self.0.full.store(full, Ordering::SeqCst);
    }

    /// How many puts there were.
    pub fn puts(&self) -> u64 {
        self.0.puts.load(Ordering::SeqCst).unsigned_abs()
    }

    /// Decides what becomes of a put: what is stored, and whether it then fails.
    pub(crate) fn on_put(&self, bytes: Bytes) -> (Option<Bytes>, Option<object_store::Error>) {
        self.0.puts.fetch_add(1, Ordering::SeqCst);
        if self.0.full.load(Ordering::SeqCst) {
            return (None, Some(failure(io::ErrorKind::StorageFull)));
        }
        if due(&self.0.put_fails) {
            return (None, Some(failure(io::ErrorKind::ConnectionReset)));
        }
        if due(&self.0.put_torn) {
            return (Some(bytes.slice(..bytes.len() / 2)), Some(failure(io::ErrorKind::ConnectionReset)));
        }
        (Some(bytes), None)
    }

    /// Decides what becomes of a read.
    pub(crate) fn on_get(&self) -> Result<(), object_store::Error> {
        if due(&self.0.get_fails) { Err(failure(io::ErrorKind::ConnectionReset)) } else { Ok(()) }
    }
}

/// Whether this call is the one that was counted down to.
fn due(counter: &AtomicI64) -> bool {
    counter.load(Ordering::SeqCst) != NEVER && counter.fetch_sub(1, Ordering::SeqCst) == 1
}

fn failure(kind: io::ErrorKind) -> object_store::Error {
    object_store::Error::Generic { store: "Faults", source: Box::new(io::Error::new(kind, "made to fail")) }
}
