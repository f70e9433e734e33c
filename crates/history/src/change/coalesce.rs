//! Many changes of one document become one.

use super::{Defect, Position, Reason, Write};
use crate::diff::{self, Fit};

/// What changes have made of a document that was in any state before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// It is this, whatever it was.
    Put(Vec<u8>),
    /// It is not there, whatever it was.
    Delete,
    /// It is what these diffs make of it, one after the other.
    Patches(Vec<(Position, Vec<u8>)>),
}

/// All changes of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coalesced {
    /// What they come to.
    pub pending: Pending,
    /// The last of them.
    pub last: Position,
    /// The first one that contradicts those before it. Later changes may have made the document right again; that the
    /// record or the base is wrong stays a fact.
    pub defect: Option<Defect>,
}

/// What is left of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The document that was appended to the output.
    Document,
    /// Nothing.
    Absent,
}

impl Coalesced {
    /// The first change.
    pub fn new(write: Write<'_>, position: Position) -> Self {
        let pending = match write {
            Write::Insert(document) | Write::Replace(document) => Pending::Put(document.into_owned()),
            Write::Patch(diff) => Pending::Patches(vec![(position, diff.into_owned())]),
            Write::Delete => Pending::Delete,
        };
        Self { pending, last: position, defect: None }
    }

    /// The next change. Positions ascend.
    pub fn then(&mut self, write: Write<'_>, position: Position) {
        self.last = position;
        match (write, &mut self.pending) {
            (Write::Insert(document) | Write::Replace(document), _) => {
                self.pending = Pending::Put(document.into_owned());
            }
            (Write::Delete, _) => self.pending = Pending::Delete,
            (Write::Patch(diff), Pending::Patches(patches)) => patches.push((position, diff.into_owned())),
            (Write::Patch(diff), Pending::Put(document)) => {
                let mut after = Vec::with_capacity(document.len() + diff.len());
                match patch(document, &diff, position, &mut after) {
                    Ok(()) => *document = after,
                    Err(defect) => self.note(defect),
                }
            }
            (Write::Patch(_), Pending::Delete) => {
                self.note(Defect { at: position, reason: Reason::MissingDocument });
            }
        }
    }

    /// Appends to `out` what the changes make of `base`.
    ///
    /// # Errors
    /// The first [`Defect`]; `out` is as before then.
    pub fn onto(&self, base: Option<&[u8]>, out: &mut Vec<u8>) -> Result<Outcome, Defect> {
        if let Some(defect) = &self.defect {
            return Err(defect.clone());
        }
        match &self.pending {
            Pending::Put(document) => {
                out.extend_from_slice(document);
                Ok(Outcome::Document)
            }
            Pending::Delete => Ok(Outcome::Absent),
            Pending::Patches(patches) => patch_all(base, patches, out),
        }
    }

    /// Bytes of documents and diffs that are kept.
    pub fn bytes(&self) -> usize {
        match &self.pending {
            Pending::Put(document) => document.len(),
            Pending::Delete => 0,
            Pending::Patches(patches) => patches.iter().map(|(_, diff)| diff.len()).sum(),
        }
    }

    fn note(&mut self, defect: Defect) {
        self.defect.get_or_insert(defect);
    }
}

fn patch_all(
    base: Option<&[u8]>,
    patches: &[(Position, Vec<u8>)],
    out: &mut Vec<u8>,
) -> Result<Outcome, Defect> {
    let missing = || Defect {
        at: patches.first().map(|patch| patch.0).unwrap_or_default(),
        reason: Reason::MissingDocument,
    };
    let mut before = base.ok_or_else(missing)?.to_vec();
    let mut after = Vec::with_capacity(before.len());
    for (position, diff) in patches {
        after.clear();
        patch(&before, diff, *position, &mut after)?;
        std::mem::swap(&mut before, &mut after);
    }
    out.extend_from_slice(&before);
    Ok(Outcome::Document)
}

fn patch(document: &[u8], diff: &[u8], at: Position, out: &mut Vec<u8>) -> Result<(), Defect> {
    match diff::apply(document, diff, out) {
        Ok(Fit::Exact) => Ok(()),
        Ok(Fit::Loose(mismatch)) => Err(Defect { at, reason: Reason::Misfit(mismatch) }),
        Err(error) => Err(Defect { at, reason: error.into() }),
    }
}
