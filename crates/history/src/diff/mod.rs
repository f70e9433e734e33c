//! Applying the diffs of update entries (`o: {$v: 2, diff: {…}}`) to raw documents, byte for byte as servers do.
//!
//! A document diff has sections in this order: `d` deletes fields; `u` sets fields where they stand, and appends those
//! that are not there (time series log new fields so); `i` appends fields (a field of that name goes away first, so
//! that a diff can move it to the end); `s<name>` goes on inside a field. An array diff is told by `a: true` in front; `l` cuts the array to a length or fills it up with nulls,
//! `u<n>` sets an element, `s<n>` goes on inside one.
//!
//! Source: `document_diff_serialization` and `document_diff_applier` of the server, and a differential test against
//! servers of 5.0 and 6.0.

mod apply;
mod read;
#[cfg(test)]
mod tests;

pub use apply::apply;

use crate::Malformed;

/// Why a diff was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// The document or the diff is no BSON.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No diff that this version knows: of a newer server, perhaps.
    #[error("a diff that is not understood: {0}")]
    NotUnderstood(&'static str),
    /// The result would be larger than what a server stores.
    #[error("a diff makes the document too large")]
    TooLarge,
}

/// Whether a diff fitted the document that it was applied to.
///
/// A server applies a diff to documents that it was not made for too, because it may apply operations twice. A fold
/// does so never: there a diff that fits loosely tells that the base or the record of changes is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The diff can have been made from this document.
    Exact,
    /// The diff was made from another document, or what primary and secondary make of it differs. The result is what
    /// a server's oplog applier makes of it.
    Loose(Mismatch),
}

/// The first thing by which a diff did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// A field that is deleted, or a field or an element that is changed inside, is not there.
    Missing,
    /// What is changed inside is no document, or no array.
    WrongType,
    /// A field that is changed stands in the document more than once: primaries change the first one, appliers all.
    RepeatedName,
    /// The elements of an array that is changed inside have names that are not their positions: primaries keep them,
    /// appliers number the elements anew.
    OddArray,
}

impl Mismatch {
    /// What it is, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Missing => "a changed field is missing",
            Self::WrongType => "a changed field has another type",
            Self::RepeatedName => "a changed field stands in the document more than once",
            Self::OddArray => "the elements of a changed array are not numbered",
        }
    }
}
