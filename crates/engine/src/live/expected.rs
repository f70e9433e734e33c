//! What a range of keys should hold: the documents of the base, with what it keeps beside them and with the changes of the
//! record, in the order of the keys.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
};

use bytes::Bytes;
use history::{
    CollectionId, SortKey,
    change::{Coalesced, Outcome},
    key::push_document_key,
    raw,
};

use crate::{
    fold::{
        changed::{Changed, ChangedDocument},
        runs::Pending,
    },
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
    /// What is left of the segment of the base.
    rest: Bytes,
    stored: Option<Keyed>,
    /// What is left of what the base keeps beside it.
    beside: BTreeMap<Vec<u8>, Coalesced>,
    /// The next document that the base has.
    base: Option<Keyed>,
    changes: VecDeque<ChangedDocument>,
}

impl<'a> Expected<'a> {
    /// The documents of a segment and what is kept beside it, with the changes before `bound`. `changed` stands at the first of
    /// them.
    pub(super) fn new(
        changed: &'a mut Changed,
        id: CollectionId,
        documents: Bytes,
        beside: Pending,
        bound: Option<Vec<u8>>,
    ) -> Self {
        let (rest, beside) = (documents, beside.into_changes());
        Self { changed, id, bound, rest, stored: None, beside, base: None, changes: VecDeque::new() }
    }

    /// The next document.
    pub(super) async fn next(&mut self) -> Result<Next, JobError> {
        loop {
            if let Err((key, defect)) = self.load_base()? {
                return Ok(Next::Contradicted { key, defect });
            }
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

    /// Sees to it that the next document of the base is at hand, if there is one. The inner error is a contradiction in the
    /// base.
    fn load_base(&mut self) -> Result<Result<(), (SortKey, String)>, JobError> {
        while self.base.is_none() {
            self.load_stored()?;
            let beside = self.beside.first_key_value().map(|(key, _)| key.as_slice());
            let order = match (&self.stored, beside) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(stored), Some(beside)) => stored.key.as_slice().cmp(beside),
            };
            let stored = if order.is_le() { self.stored.take() } else { None };
            if order.is_lt() {
                self.base = stored;
                continue;
            }
            let Some((key, change)) = self.beside.pop_first() else { break };
            let mut document = Vec::new();
            match change.onto(stored.as_ref().map(|stored| &stored.document[..]), &mut document) {
                Ok(Outcome::Document) => self.base = Some(Keyed { key, document: document.into() }),
                Ok(Outcome::Absent) => {}
                Err(defect) => return Ok(Err((SortKey::from_bytes(key), defect.to_string()))),
            }
        }
        Ok(Ok(()))
    }

    fn load_stored(&mut self) -> Result<(), JobError> {
        if self.stored.is_some() || self.rest.is_empty() {
            return Ok(());
        }
        let malformed = |error| JobError::failed_by("a document of the snapshot cannot be read", error);
        let length = raw::document_length(&self.rest).map_err(malformed)?;
        let document = self.rest.split_to(length);
        let mut key = Vec::with_capacity(24);
        push_document_key(&mut key, &document).map_err(malformed)?;
        self.stored = Some(Keyed { key, document });
        Ok(())
    }
}
