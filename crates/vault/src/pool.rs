//! Things that are used again and again, and let go when they are not.

use std::sync::{Mutex, PoisonError};

/// Things at rest.
#[derive(Debug)]
pub struct Pool<T> {
    rest: Mutex<Rest<T>>,
    kept_max: usize,
}

#[derive(Debug)]
struct Rest<T> {
    free: Vec<T>,
    /// The fewest that were free at one time since the last trim: so many were not needed.
    idle: usize,
}

impl<T> Pool<T> {
    /// An empty one that keeps no more than so many.
    pub const fn new(kept_max: usize) -> Self {
        Self { rest: Mutex::new(Rest { free: Vec::new(), idle: 0 }), kept_max }
    }

    /// Takes one, if one is free.
    pub fn take(&self) -> Option<T> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = rest.free.pop();
        rest.idle = rest.idle.min(rest.free.len());
        taken
    }

    /// Takes one back, or drops it when there are enough.
    pub fn give(&self, thing: T) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if rest.free.len() < self.kept_max {
            rest.free.push(thing);
        }
    }

    /// Drops what was not needed since the last call.
    pub fn trim(&self) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = std::mem::take(&mut rest.idle);
        // Those at the front have rested longest.
        let dropped: Vec<T> = rest.free.drain(..idle).collect();
        rest.idle = rest.free.len();
        drop(rest);
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_used_again_up_to_a_number() {
        let pool = Pool::new(2);
        assert_eq!(pool.take(), None::<u8>);
        [1, 2, 3].into_iter().for_each(|n| pool.give(n));
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(2), Some(1), None]);
    }

    #[test]
    fn what_nobody_needs_is_let_go_and_what_is_in_use_is_kept() {
        let pool = Pool::new(5);
        (0..5).for_each(|n| pool.give(n));
        pool.trim();
        for _ in 0..3 {
            // Two are needed at a time.
            let taken = [pool.take(), pool.take()];
            taken.into_iter().flatten().for_each(|n| pool.give(n));
            pool.trim();
        }
        assert_eq!([pool.take(), pool.take(), pool.take()].map(|n| n.is_some()), [true, true, false]);
        pool.give(1);
        pool.trim();
        pool.trim();
        assert_eq!(pool.take(), None);
    }
}
