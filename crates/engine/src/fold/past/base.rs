//! Documents of the base, by key: out of the one block that has them, or out of a segment that several are asked of.

use bytes::Bytes;
use futures::TryStreamExt as _;
use history::{CollectionId, SortKey, key::push_document_key, raw};
use vault::{Order, SegmentEntry};

use super::{Past, PastError};
use crate::{
    fold::{base::Base, rewrite::Segments},
    lease::JobError,
};

/// Documents that are looked up in one segment, each in a block of its own, before the segment is read as a whole.
const LOOKUPS_MAX: u32 = 4;

/// Finds documents of one collection of the base; keys ascend.
pub(super) struct Lookup<'a> {
    past: &'a Past,
    segments: Segments,
    current: Option<SegmentEntry>,
    lookups: u32,
    /// The current segment, from the first document on that was not passed yet.
    read: Option<Bytes>,
}

impl<'a> Lookup<'a> {
    /// Of a collection, which the base may not have.
    pub(super) fn new(past: &'a Past, base: &Base, id: CollectionId) -> Self {
        let segments = match base.collections.get(&id) {
            Some(entry) => base.manifest.segments(entry),
            None => Box::pin(futures::stream::empty()),
        };
        Self { past, segments, current: None, lookups: 0, read: None }
    }

    /// The document with this key, which is not before the one asked for last.
    pub(super) async fn find(&mut self, key: &SortKey) -> Result<Option<Vec<u8>>, PastError> {
        let key = key.as_bytes();
        while self.current.as_ref().is_none_or(|segment| segment.last_key.as_slice() < key) {
            let next = match self.segments.try_next().await {
                Ok(next) => next,
                Err(error) => return Err(self.past.of_vault(error).await),
            };
            (self.lookups, self.read) = (0, None);
            match next {
                Some(next) if next.order == Order::Sorted => self.current = Some(next),
                Some(_) => return Err(JobError::failed("a bug in Ebbtide searches a list by key").into()),
                None => {
                    self.segments = Box::pin(futures::stream::empty());
                    self.current = None;
                    return Ok(None);
                }
            }
        }
        let Some(segment) = self.current.clone().filter(|segment| segment.first_key.as_slice() <= key) else {
            return Ok(None);
        };
        if self.read.is_none() && self.lookups < LOOKUPS_MAX {
            self.lookups += 1;
            return match self.past.services.vault.read_document(&segment, key).await {
                Ok(found) => Ok(found),
                Err(error) => Err(self.past.of_vault(error).await),
            };
        }
        if self.read.is_none() {
            match self.past.services.vault.read_segment(&segment).await {
                Ok(read) => self.read = Some(read.into_bytes()),
                Err(error) => return Err(self.past.of_vault(error).await),
            }
        }
        self.scan(key)
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
