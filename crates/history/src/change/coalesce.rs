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
    Patches(Vec<Patch>),
}

/// A diff that waits for a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The change.
    pub at: Position,
    /// The diff.
    pub diff: Vec<u8>,
    /// The document that the diff is applied to if there is none; see [`Write::Reapply`]. None for a diff that has to
    /// fit.
    pub new: Option<Vec<u8>>,
}

/// All changes of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coalesced {
    /// What they come to.
    pub pending: Pending,
    /// Whether the document was not there before: the first of them brought it into being.
    pub is_new: bool,
    /// The first of them.
    pub first: Position,
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
        let is_new = matches!(write, Write::Insert(_));
        let pending = match write {
            Write::Insert(document) | Write::Replace(document) => Pending::Put(document.into_owned()),
            Write::Delete => Pending::Delete,
            Write::Patch(diff) => Pending::Patches(vec![Patch::new(position, &diff, None)]),
            Write::Reapply { new, diff } => Pending::Patches(vec![Patch::new(position, &diff, Some(&new))]),
        };
        Self { pending, is_new, first: position, last: position, defect: None }
    }

    /// The next change. Positions ascend.
    pub fn then(&mut self, write: Write<'_>, position: Position) {
        self.last = position;
        match write {
            Write::Insert(document) | Write::Replace(document) => {
                self.pending = Pending::Put(document.into_owned());
            }
            Write::Delete => self.pending = Pending::Delete,
            Write::Patch(diff) => self.patch(Patch::new(position, &diff, None)),
            Write::Reapply { new, diff } => self.patch(Patch::new(position, &diff, Some(&new))),
        }
    }

    fn patch(&mut self, patch: Patch) {
        let before = match &mut self.pending {
            Pending::Patches(patches) => return patches.push(patch),
            Pending::Put(document) => Some(document.as_slice()),
            Pending::Delete => None,
        };
        let mut after = Vec::with_capacity(before.map_or(0, <[u8]>::len) + patch.diff.len());
        match patch.apply(before, &mut after) {
            Ok(()) => self.pending = Pending::Put(after),
            Err(defect) => {
                self.defect.get_or_insert(defect);
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
            Pending::Put(document) => out.extend_from_slice(document),
            Pending::Delete => return Ok(Outcome::Absent),
            Pending::Patches(patches) => patch_all(base, patches, out)?,
        }
        Ok(Outcome::Document)
    }

    /// Bytes of documents and diffs that are kept.
    pub fn bytes(&self) -> usize {
        match &self.pending {
            Pending::Put(document) => document.len(),
            Pending::Delete => 0,
            Pending::Patches(patches) => patches.iter().map(Patch::bytes).sum(),
        }
    }
}

impl Patch {
    fn new(at: Position, diff: &[u8], new: Option<&[u8]>) -> Self {
        Self { at, diff: diff.to_vec(), new: new.map(<[u8]>::to_vec) }
    }

    fn apply(&self, before: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Defect> {
        let defect = |reason| Defect { at: self.at, reason };
        let before = before.or(self.new.as_deref()).ok_or_else(|| defect(Reason::MissingDocument))?;
        let start = out.len();
        match diff::apply(before, &self.diff, out) {
            Ok(Fit::Loose(mismatch)) if self.new.is_none() => {
                out.truncate(start);
                Err(defect(Reason::Misfit(mismatch)))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(defect(error.into())),
        }
    }

    fn bytes(&self) -> usize {
        self.diff.len() + self.new.as_ref().map_or(0, Vec::len)
    }
}

fn patch_all(base: Option<&[u8]>, patches: &[Patch], out: &mut Vec<u8>) -> Result<(), Defect> {
    let Some((last, earlier)) = patches.split_last() else { return Ok(()) };
    let (mut before, mut after): (Option<Vec<u8>>, Vec<u8>) = (None, Vec::new());
    for patch in earlier {
        after.clear();
        patch.apply(before.as_deref().or(base), &mut after)?;
        after = before.replace(after).unwrap_or_default();
    }
    last.apply(before.as_deref().or(base), out)
}
