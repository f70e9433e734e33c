//! The fold itself: sorted documents and sorted changes become sorted documents.

use crate::{
    Malformed, SortKey,
    change::{Coalesced, Defect, Outcome},
    key::push_document_key,
};

/// Documents of one collection in the order of their keys, each key once: segments, for one.
pub trait Documents {
    /// Why they cannot be had.
    type Error;

    /// The next document, raw.
    ///
    /// # Errors
    /// The source's.
    fn next(&mut self) -> Result<Option<&[u8]>, Self::Error>;
}

/// Coalesced changes of one collection in the order of their keys, each key once: merged runs, for one.
pub trait Changes {
    /// Why they cannot be had.
    type Error;

    /// The next change.
    ///
    /// # Errors
    /// The source's.
    fn next(&mut self) -> Result<Option<(SortKey, Coalesced)>, Self::Error>;
}

/// Any iterator over documents.
impl<I: Iterator<Item = Result<(SortKey, Coalesced), E>>, E> Changes for I {
    type Error = E;

    fn next(&mut self) -> Result<Option<(SortKey, Coalesced)>, E> {
        Iterator::next(self).transpose()
    }
}

/// What became of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded<'a> {
    /// It is as it was.
    Kept(&'a [u8]),
    /// It was changed; the bytes may be equal.
    Changed {
        /// As it was.
        before: &'a [u8],
        /// As it is.
        after: &'a [u8],
    },
    /// It was not there before.
    Added(&'a [u8]),
    /// It is there no more.
    Removed(&'a [u8]),
}

impl<'a> Folded<'a> {
    /// The document as it is after the fold.
    pub fn after(self) -> Option<&'a [u8]> {
        match self {
            Self::Kept(document) | Self::Added(document) | Self::Changed { after: document, .. } => {
                Some(document)
            }
            Self::Removed(_) => None,
        }
    }
}

/// Why a fold stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError<E> {
    /// A source or the visitor failed.
    #[error(transparent)]
    Source(E),
    /// A document of the base is no BSON.
    #[error(transparent)]
    Malformed(Malformed),
    /// The base or the changes are not sorted, or name a key twice.
    #[error("the {0} to be folded are not in order")]
    Unsorted(&'static str),
    /// A change contradicts the base: the collection cannot be folded.
    #[error("the document with the key {key:?}: {defect}")]
    Defect {
        /// The document.
        key: SortKey,
        /// The contradiction.
        defect: Defect,
    },
}

/// Shows to `visit` what the changes make of the base, in the order of the keys.
///
/// # Errors
/// [`FoldError`]; what was shown before stands.
pub fn fold<B, C, E>(
    base: &mut B,
    changes: &mut C,
    mut visit: impl FnMut(&[u8], Folded<'_>) -> Result<(), E>,
) -> Result<(), FoldError<E>>
where
    B: Documents<Error = E>,
    C: Changes<Error = E>,
{
    let mut changes = Ascending { changes, last: None };
    let mut change = changes.next()?;
    let (mut key, mut last, mut after) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(before) = base.next().map_err(FoldError::Source)? {
        std::mem::swap(&mut key, &mut last);
        key.clear();
        push_document_key(&mut key, before).map_err(FoldError::Malformed)?;
        if !last.is_empty() && last >= key {
            return Err(FoldError::Unsorted("documents"));
        }
        while let Some((earlier, coalesced)) = change.take_if(|(next, _)| next.as_bytes() < key.as_slice()) {
            add(earlier, &coalesced, &mut after, &mut visit)?;
            change = changes.next()?;
        }
        let Some((same, coalesced)) = change.take_if(|(next, _)| next.as_bytes() == key) else {
            visit(&key, Folded::Kept(before)).map_err(FoldError::Source)?;
            continue;
        };
        after.clear();
        let folded = match coalesced.onto(Some(before), &mut after) {
            Ok(Outcome::Document) => Folded::Changed { before, after: &after },
            Ok(Outcome::Absent) => Folded::Removed(before),
            Err(defect) => return Err(FoldError::Defect { key: same, defect }),
        };
        visit(&key, folded).map_err(FoldError::Source)?;
        change = changes.next()?;
    }
    while let Some((key, coalesced)) = change {
        add(key, &coalesced, &mut after, &mut visit)?;
        change = changes.next()?;
    }
    Ok(())
}

/// A change of a document that the base does not have.
fn add<E>(
    key: SortKey,
    coalesced: &Coalesced,
    after: &mut Vec<u8>,
    visit: &mut impl FnMut(&[u8], Folded<'_>) -> Result<(), E>,
) -> Result<(), FoldError<E>> {
    after.clear();
    match coalesced.onto(None, after) {
        Ok(Outcome::Document) => visit(key.as_bytes(), Folded::Added(after)).map_err(FoldError::Source),
        Ok(Outcome::Absent) => Ok(()),
        Err(defect) => Err(FoldError::Defect { key, defect }),
    }
}

/// Changes, of which it is checked that they ascend.
struct Ascending<'c, C> {
    changes: &'c mut C,
    last: Option<SortKey>,
}

impl<C: Changes> Ascending<'_, C> {
    fn next(&mut self) -> Result<Option<(SortKey, Coalesced)>, FoldError<C::Error>> {
        let Some((key, coalesced)) = self.changes.next().map_err(FoldError::Source)? else { return Ok(None) };
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(FoldError::Unsorted("changes"));
        }
        self.last = Some(key.clone());
        Ok(Some((key, coalesced)))
    }
}
