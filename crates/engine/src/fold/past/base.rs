//! Documents of the base, by key: out of the one block that has them, or out of a segment that several are asked of, with what
//! the base keeps beside it.

use bytes::Bytes;
use futures::TryStreamExt as _;
use history::{CollectionId, SortKey, key::push_document_key, raw};
use vault::{Order, SegmentEntry};

use super::{Past, PastError};
use crate::{
    fold::{
        base::Base,
        rewrite::Segments,
        runs::{Beside, Pending, behind},
    },
    lease::JobError,
};

/// Documents that are looked up in one segment, each in a block of its own, before the segment is read as a whole.
const LOOKUPS_MAX: u32 = 4;

/// Finds documents of one collection of the base; keys ascend.
pub(super) struct Lookup<'a> {
    past: &'a Past,
    id: CollectionId,
    beside: Beside,
    segments: Segments,
    /// Between whose first key and that of the following one the last key was.
    current: Option<SegmentEntry>,
    following: Option<SegmentEntry>,
    lookups: u32,
    /// The current segment, from the first document on that was not passed yet.
    read: Option<Bytes>,
    /// All that is kept beside it.
    pending: Option<Pending>,
}

impl<'a> Lookup<'a> {
    /// Of a collection, which the base may not have.
    pub(super) async fn new(past: &'a Past, base: &Base, id: CollectionId) -> Result<Self, PastError> {
        let segments = match base.collections.get(&id) {
            Some(entry) => base.manifest.segments(entry),
            None => Box::pin(futures::stream::empty()),
        };
        let beside = match Beside::of(&past.services.vault, &base.manifest).await {
            Ok(beside) => beside,
            Err(error) => return Err(past.of_vault(error).await),
        };
        let mut lookup = Self {
            past,
            id,
            beside,
            segments,
            current: None,
            following: None,
            lookups: 0,
            read: None,
            pending: None,
        };
        lookup.current = lookup.next().await?;
        lookup.following = lookup.next().await?;
        Ok(lookup)
    }

    /// The document with this key, which is not before the one asked for last.
    pub(super) async fn find(&mut self, key: &SortKey) -> Result<Option<Vec<u8>>, PastError> {
        while self
            .following
            .as_ref()
            .is_some_and(|following| following.first_key.as_slice() <= key.as_bytes())
        {
            let next = self.next().await?;
            self.current = std::mem::replace(&mut self.following, next);
            (self.lookups, self.read, self.pending) = (0, None, None);
        }
        // Of an empty collection nothing is kept.
        let Some(segment) = self.current.clone() else { return Ok(None) };
        self.lookups += 1;
        let stored = self.stored(&segment, key.as_bytes()).await?;
        let Some(pending) = self.pending(&segment, key).await? else { return Ok(stored) };
        pending.onto(key.as_bytes(), stored).map_err(|defect| {
            PastError::Unknown(format!(
                "what the snapshot keeps of the document with the key {key:?} contradicts itself: {defect}; choose a time after \
                 a snapshot that reads the collection"
            ))
        })
    }

    async fn next(&mut self) -> Result<Option<SegmentEntry>, PastError> {
        match self.segments.try_next().await {
            Ok(Some(next)) if next.order == Order::Sorted => Ok(Some(next)),
            Ok(Some(_)) => Err(JobError::failed("a bug in Ebbtide searches a list by key").into()),
            Ok(None) => {
                self.segments = Box::pin(futures::stream::empty());
                Ok(None)
            }
            Err(error) => Err(self.past.of_vault(error).await),
        }
    }

    async fn stored(&mut self, segment: &SegmentEntry, key: &[u8]) -> Result<Option<Vec<u8>>, PastError> {
        if key < segment.first_key.as_slice() || segment.last_key.as_slice() < key {
            return Ok(None);
        }
        if self.read.is_none() && self.lookups <= LOOKUPS_MAX {
            return match self.past.services.vault.read_document(segment, key).await {
                Ok(found) => Ok(found),
                Err(error) => Err(self.past.of_vault(error).await),
            };
        }
        if self.read.is_none() {
            match self.past.services.vault.read_segment(segment).await {
                Ok(read) => self.read = Some(read.into_bytes()),
                Err(error) => return Err(self.past.of_vault(error).await),
            }
        }
        self.scan(key)
    }

    /// What is kept of the document, or of all in the segment.
    async fn pending(
        &mut self,
        segment: &SegmentEntry,
        key: &SortKey,
    ) -> Result<Option<&Pending>, PastError> {
        if self.lookups > LOOKUPS_MAX + 1 {
            return Ok(self.pending.as_ref());
        }
        let to = if self.lookups <= LOOKUPS_MAX {
            Some(behind(key))
        } else {
            self.following.as_ref().map(|following| following.first_key.clone())
        };
        let (from, to) = (key.as_bytes(), to.as_deref());
        self.pending = None;
        if self.beside.may_touch(self.id, from, to) {
            match self.beside.pending(self.id, from, to, segment.as_of).await {
                Ok(pending) => self.pending = Some(pending),
                Err(error) => return Err(self.past.of_vault(error).await),
            }
        }
        Ok(self.pending.as_ref())
    }

    /// Goes on in the segment that was read.
    fn scan(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, PastError> {
        let Some(rest) = self.read.as_mut() else { return Ok(None) };
        let malformed = |error| JobError::failed_by("a document of the snapshot cannot be read", error);
        let mut found = Vec::with_capacity(24);
        while !rest.is_empty() {
            let length = raw::document_length(rest).map_err(malformed)?;
            found.clear();
            push_document_key(&mut found, &rest[..length]).map_err(malformed)?;
            match found.as_slice().cmp(key) {
                std::cmp::Ordering::Less => drop(rest.split_to(length)),
                std::cmp::Ordering::Equal => return Ok(Some(rest[..length].to_vec())),
                std::cmp::Ordering::Greater => return Ok(None),
            }
        }
        Ok(None)
    }
}
