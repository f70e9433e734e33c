//! What a range of keys should hold: the documents of the base with the changes of the record, in the order of the keys.

use std::{cmp::Ordering, collections::VecDeque};

use bytes::Bytes;
use history::{CollectionId, SortKey, change::Outcome, key::push_document_key, raw};

use crate::{
    fold::changed::{Changed, ChangedDocument},
    lease::JobError,
};

/// Changes that are held at a time.
const CHANGES_BYTES: usize = 1 << 20;

/// What comes next in a range.
pub(super) enum Next {
    /// A document that should be there.
    Document(Keyed),
    /// Nothing any more.
    End,
    /// The record contradicts the base, which is a difference of its own.
    Contradicted {
        /// The document.
        key: SortKey,
        /// The contradiction.
        defect: String,
    },
}

/// A document and its key.
pub(super) struct Keyed {
    pub(super) key: Vec<u8>,
    pub(super) document: Bytes,
}

/// The documents of one range.
pub(super) struct Expected<'a> {
    changed: &'a mut Changed,
    id: CollectionId,
    bound: Option<Vec<u8>>,
    /// What is left of the base.
    rest: Bytes,
    base: Option<Keyed>,
    changes: VecDeque<ChangedDocument>,
}

impl<'a> Expected<'a> {
    /// The documents of a segment, with the changes before `bound`. `changed` stands at the first of them.
    pub(super) fn new(
        changed: &'a mut Changed,
        id: CollectionId,
        documents: Bytes,
        bound: Option<Vec<u8>>,
    ) -> Self {
        Self { changed, id, bound, rest: documents, base: None, changes: VecDeque::new() }
    }

    /// The next document.
    pub(super) async fn next(&mut self) -> Result<Next, JobError> {
        loop {
            self.load_base()?;
            if self.changes.is_empty() {
                self.changes = self.changed.take(self.id, self.bound.clone(), CHANGES_BYTES).await?.into();
            }
            let order = match (&self.base, self.changes.front()) {
                (None, None) => return Ok(Next::End),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(base), Some(change)) => base.key.as_slice().cmp(change.key.as_bytes()),
            };
            let before = if order.is_le() { self.base.take() } else { None };
            if order.is_lt() {
                return Ok(before.map_or(Next::End, Next::Document));
            }
            let Some(change) = self.changes.pop_front() else { continue };
            match self.apply(&change, before.map(|base| base.document)).await? {
                Ok(None) => {}
                Ok(Some(document)) => {
                    let key = change.key.into_bytes();
                    return Ok(Next::Document(Keyed { key, document: document.into() }));
                }
                Err(defect) => return Ok(Next::Contradicted { key: change.key, defect }),
            }
        }
    }

    async fn apply(
        &mut self,
        change: &ChangedDocument,
        before: Option<Bytes>,
    ) -> Result<Result<Option<Vec<u8>>, String>, JobError> {
        let mut after = Vec::new();
        let now = match change.changes.onto(before.as_deref(), &mut after) {
            Ok(Outcome::Document) => Some(after),
            Ok(Outcome::Absent) => None,
            Err(defect) => return Ok(Err(defect.to_string())),
        };
        if change.more { self.changed.go_on(now).await } else { Ok(Ok(now)) }
    }

    fn load_base(&mut self) -> Result<(), JobError> {
        if self.base.is_some() || self.rest.is_empty() {
            return Ok(());
        }
        let malformed = |error| JobError::failed_by("a document of the snapshot cannot be read", error);
        let length = raw::document_length(&self.rest).map_err(malformed)?;
        let document = self.rest.split_to(length);
        let mut key = Vec::with_capacity(24);
        push_document_key(&mut key, &document).map_err(malformed)?;
        self.base = Some(Keyed { key, document });
        Ok(())
    }
}
