//! Merging sorted runs of changes, and coalescing what comes out.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    iter::Peekable,
};

use super::{Change, Coalesced};
use crate::{CollectionId, SortKey};

/// Merges runs, each sorted as [`Change`]s sort, into one. Stops after the first error.
pub fn merge<I, E>(runs: impl IntoIterator<Item = I>) -> MergedRuns<I, E>
where
    I: Iterator<Item = Result<Change<'static>, E>>,
{
    let mut merged = MergedRuns { heads: BinaryHeap::new(), runs: Vec::new(), failed: None };
    for run in runs {
        merged.runs.push(run);
        merged.pull(merged.runs.len() - 1);
    }
    merged
}

/// See [`merge`].
pub struct MergedRuns<I, E> {
    /// The next change of each run that has one.
    heads: BinaryHeap<Reverse<(Change<'static>, usize)>>,
    runs: Vec<I>,
    failed: Option<E>,
}

impl<I: Iterator<Item = Result<Change<'static>, E>>, E> MergedRuns<I, E> {
    fn pull(&mut self, run: usize) {
        match self.runs[run].next() {
            Some(Ok(change)) => self.heads.push(Reverse((change, run))),
            Some(Err(error)) => self.failed = self.failed.take().or(Some(error)),
            None => {}
        }
    }
}

impl<I: Iterator<Item = Result<Change<'static>, E>>, E> Iterator for MergedRuns<I, E> {
    type Item = Result<Change<'static>, E>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.heads.clear();
            return Some(Err(error));
        }
        let Reverse((change, run)) = PeekMut::pop(self.heads.peek_mut()?);
        self.pull(run);
        Some(Ok(change))
    }
}

/// Coalesces sorted changes: one for each document. Stops after the first error.
pub fn coalesce<I, E>(changes: I) -> CoalescedRuns<I>
where
    I: Iterator<Item = Result<Change<'static>, E>>,
{
    CoalescedRuns { changes: changes.peekable() }
}

/// See [`coalesce`].
pub struct CoalescedRuns<I: Iterator> {
    changes: Peekable<I>,
}

impl<I: Iterator<Item = Result<Change<'static>, E>>, E> Iterator for CoalescedRuns<I> {
    type Item = Result<(CollectionId, SortKey, Coalesced), E>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.changes.next()? {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let mut coalesced = Coalesced::new(first.write, first.position);
        let same = |next: &Result<Change<'_>, E>| {
            next.as_ref().is_ok_and(|next| next.collection == first.collection && next.key == first.key)
        };
        while let Some(Ok(next)) = self.changes.next_if(same) {
            coalesced.then(next.write, next.position);
        }
        Some(Ok((first.collection, first.key, coalesced)))
    }
}
