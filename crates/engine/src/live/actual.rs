//! What a deployment holds at the time of a check, in the order of the keys.

use std::{collections::VecDeque, ops::Range};

use history::key::push_document_key;
use mongo::read::{Batch, Cursor};

use super::Ended;
use crate::lease::{JobContext, JobError};

/// The documents of a collection from some key on; ranges are compared with it one after the other.
pub(super) struct Actual<'c> {
    ctx: JobContext,
    cursor: Cursor<'c>,
    batch: Option<Batch>,
    places: VecDeque<Range<usize>>,
    /// The key of the first place; empty when it was not looked at yet.
    key: Vec<u8>,
    last: Vec<u8>,
}

impl<'c> Actual<'c> {
    /// What the cursor gives.
    pub(super) fn new(ctx: &JobContext, cursor: Cursor<'c>) -> Self {
        let (batch, places) = (None, VecDeque::new());
        Self { ctx: ctx.clone(), cursor, batch, places, key: Vec::new(), last: Vec::new() }
    }

    /// The next document and its key, if its key is below `bound`. It stays the next one until [`Actual::pass`].
    pub(super) async fn peek(&mut self, bound: Option<&[u8]>) -> Result<Option<(&[u8], &[u8])>, Ended> {
        while self.places.is_empty() {
            if let Some(batch) = self.batch.take() {
                self.cursor.recycle(batch);
            }
            let Some(batch) = self.ctx.or_stop(self.cursor.next()).await?? else { return Ok(None) };
            self.places = batch.documents().map(|document| batch.place_of(document)).collect();
            self.batch = Some(batch);
        }
        let (Some(batch), Some(place)) = (&self.batch, self.places.front()) else { return Ok(None) };
        let document = batch.as_ref().get(place.clone()).unwrap_or_default();
        if self.key.is_empty() {
            push_document_key(&mut self.key, document).map_err(|error| {
                JobError::failed_by("the deployment gave a document that is no document", error)
            })?;
            if self.key <= self.last {
                return Err(Ended::Disordered);
            }
        }
        let is_within = bound.is_none_or(|bound| self.key.as_slice() < bound);
        Ok(is_within.then_some((self.key.as_slice(), document)))
    }

    /// Goes on to the document after the one that was looked at.
    pub(super) fn pass(&mut self) {
        self.places.pop_front();
        self.last = std::mem::take(&mut self.key);
    }

    /// Tells the server that no more is wanted.
    pub(super) async fn close(self) -> Result<(), Ended> {
        Ok(self.cursor.close().await?)
    }
}
