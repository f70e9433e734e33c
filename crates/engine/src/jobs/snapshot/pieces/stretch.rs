//! One collection, read in the order of its `_id` at several times: its first segments as of one time, the next ones as of a
//! later one, and so on.
//!
//! A segment stands for all keys from its first document on up to that of the next segment. So what is read at a later time
//! has to begin with the very document that ended the last segment, of the length that it had then: where that one
//! has gone, keys between it and the next would be as of neither time, and where its length differs, the cut may not be one any
//! more. Then the last segment is given up, and reading goes on where that one began.

use std::collections::VecDeque;

use history::key::push_document_key;
use model::ClusterTime;
use mongo::{
    CollectionInfo,
    read::{self, DocumentId},
    wire::Connection,
};
use vault::{Order, SegmentEntry, SegmentList, SegmentPages};

use crate::{
    connect::to_model,
    jobs::snapshot::{
        collection::Reading,
        filler::Filler,
        guard::{Guard, Read},
        source::ReadError,
    },
    lease::{JobContext, JobError},
};

/// So many segments can be given up again; those before them are listed.
const TAIL_MAX: usize = 16;
/// And no more than have keys of so many bytes.
const TAIL_KEY_BYTES_MAX: usize = 1 << 20;

/// A document before which a segment ended.
#[derive(Debug, Clone)]
struct Boundary {
    id: DocumentId,
    key: Vec<u8>,
    bytes: usize,
}

impl Boundary {
    fn of(key: &[u8], document: &[u8]) -> Result<Self, ReadError> {
        Ok(Self { id: DocumentId::of(document)?, key: key.to_vec(), bytes: document.len() })
    }

    /// Whether a segment ends before this document as well.
    fn is_met_by(&self, key: &[u8], document: &[u8]) -> bool {
        self.key == key && self.bytes == document.len()
    }
}

/// The segments of a collection up to where reading has come. All of them are durable, and count.
pub(super) struct Stretch {
    list: SegmentList,
    listed: u64,
    tail: VecDeque<SegmentEntry>,
    /// Where to go on; none at the first document.
    next: Option<Boundary>,
    /// The time of the first segment.
    first: Option<ClusterTime>,
    /// Whether segments are as of different times.
    is_mixed: bool,
}

/// What was read at the end of a collection, where a collection that has gone ends too: it does not count before it is proven.
pub(super) struct Ending {
    /// The last segments.
    rest: Vec<SegmentEntry>,
    at: ClusterTime,
}

impl Stretch {
    /// Nothing yet.
    pub(super) fn new(list: SegmentList) -> Self {
        Self { list, listed: 0, tail: VecDeque::new(), next: None, first: None, is_mixed: false }
    }

    /// How many segments there are.
    pub(super) fn segments(&self) -> u64 {
        self.listed + self.tail.len() as u64
    }

    /// The time of the last segment, if there is one.
    pub(super) fn ends_at(&self) -> Option<ClusterTime> {
        self.tail.back().map(|last| last.as_of)
    }

    /// Reads on to the end of the collection, which is called `info` now. However that ends, the segments that have ended by then
    /// are kept. The spare list is for the case that all of them have to be given up.
    pub(super) async fn read_on(
        &mut self,
        reading: &Reading,
        info: &CollectionInfo,
        spare: SegmentList,
    ) -> Result<Ending, ReadError> {
        let ctx = &reading.ctx;
        let _reader = ctx.reader().await?;
        let source = &reading.source;
        let mut connection = ctx.or_stop(source.connection()).await??;
        let mut spare = Some(spare);
        loop {
            if let Some(ending) = self.read_from_next(reading, info, &mut connection).await? {
                source.give_back(connection);
                return Ok(ending);
            }
            // A collection that has gone reads back as if nothing had ever been in it.
            prove(reading, info).await?;
            self.go_back(ctx, info, &mut spare).await?;
        }
    }

    /// Nothing when the document to begin with is not what it was.
    async fn read_from_next(
        &mut self,
        reading: &Reading,
        info: &CollectionInfo,
        connection: &mut Connection,
    ) -> Result<Option<Ending>, ReadError> {
        let (ctx, at) = (&reading.ctx, reading.source.at);
        let mut expected = self.next.clone();
        let from = expected.as_ref().map(|boundary| &boundary.id);
        let mut cursor = ctx.or_stop(read::sorted(connection, info, at, from)).await??;
        let mut filler = Filler::new(reading, Order::Sorted, to_model(at));
        let mut keeping = Keeping { stretch: self, reading, info, behind: VecDeque::new(), is_proven: false };
        let mut key = vec![];
        loop {
            let batch = match ctx.or_stop(cursor.next()).await? {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    keeping.keep(filler.settle().await?).await?;
                    return Err(error.into());
                }
            };
            for document in batch.documents() {
                key.clear();
                push_document_key(&mut key, document)?;
                if expected.take().is_some_and(|expected| !expected.is_met_by(&key, document)) {
                    cursor.close().await?;
                    return Ok(None);
                }
                if filler.offer(&key, document).await? {
                    keeping.behind.push_back(Boundary::of(&key, document)?);
                }
            }
            keeping.keep(filler.take_entries()).await?;
            cursor.recycle(batch);
        }
        cursor.close().await?;
        if expected.is_some() {
            return Ok(None);
        }
        Ok(Some(Ending { rest: filler.finish().await?, at: to_model(at) }))
    }

    /// Gives up the last segment.
    async fn go_back(
        &mut self,
        ctx: &JobContext,
        info: &CollectionInfo,
        spare: &mut Option<SegmentList>,
    ) -> Result<(), ReadError> {
        let last = self.tail.pop_back();
        tracing::debug!(namespace = %info.namespace, segments = self.segments(), "the document behind the last segment of {} has changed; that segment is read again", info.namespace);
        if let Some(last) = last.filter(|_| self.segments() > 0) {
            let first = ctx.or_stop(ctx.vault().read_document(&last, &last.first_key)).await?;
            let first = first.map_err(JobError::from)?.ok_or_else(|| {
                JobError::failed(format!("{} lacks its first document; check the vault's storage", last.name))
            })?;
            self.next = Some(Boundary::of(&last.first_key, &first)?);
            return Ok(());
        }
        if self.listed > 0 {
            let list = spare.take().ok_or_else(|| JobError::failed("a bug in Ebbtide: no list is left"))?;
            *self = Self::new(list);
        }
        (self.next, self.first, self.is_mixed) = (None, None, false);
        Ok(())
    }

    async fn push(&mut self, entry: SegmentEntry) -> Result<(), ReadError> {
        if self.tail.back().is_some_and(|last| last.last_key >= entry.first_key) {
            return Err(ReadError::OutOfOrder);
        }
        let first = *self.first.get_or_insert(entry.as_of);
        self.is_mixed |= first != entry.as_of;
        self.tail.push_back(entry);
        while self.tail.len() > TAIL_MAX || (self.tail.len() > 1 && self.key_bytes() > TAIL_KEY_BYTES_MAX) {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.list.push(&oldest).await.map_err(JobError::from)?;
            self.listed += 1;
        }
        Ok(())
    }

    fn key_bytes(&self) -> usize {
        self.tail.iter().map(|entry| entry.first_key.len() + entry.last_key.len()).sum()
    }

    /// The whole of it, now that its end is proven; and the time that all of it is as of, if there is one.
    pub(super) async fn finish(
        mut self,
        ending: Ending,
    ) -> Result<(Option<ClusterTime>, SegmentPages), ReadError> {
        for entry in ending.rest {
            self.push(entry).await?;
        }
        for entry in &self.tail {
            self.list.push(entry).await.map_err(JobError::from)?;
        }
        let at = if self.is_mixed { None } else { Some(self.first.unwrap_or(ending.at)) };
        Ok((at, self.list.finish().await.map_err(JobError::from)?))
    }
}

/// Keeps what one cursor gives.
struct Keeping<'a> {
    stretch: &'a mut Stretch,
    reading: &'a Reading,
    info: &'a CollectionInfo,
    /// The documents before which the next segments ended.
    behind: VecDeque<Boundary>,
    /// Whether the cursor is known to be on the collection that is meant. It stays there or fails: a server ends a cursor whose
    /// collection is dropped or renamed.
    is_proven: bool,
}

impl Keeping<'_> {
    /// Keeps segments that have ended and are durable.
    async fn keep(&mut self, entries: Vec<SegmentEntry>) -> Result<(), ReadError> {
        if entries.is_empty() {
            return Ok(());
        }
        if !self.is_proven {
            prove(self.reading, self.info).await?;
            self.is_proven = true;
        }
        for entry in entries {
            let Some(next) = self.behind.pop_front() else {
                return Err(JobError::failed("a bug in Ebbtide: a segment ended before no document").into());
            };
            self.stretch.push(entry).await?;
            self.stretch.next = Some(next);
            let services = self.reading.ctx.services();
            services.probe("snapshot.segment-kept", &self.info.namespace.to_string()).await;
        }
        Ok(())
    }
}

/// Looks behind what was read of a collection until now.
async fn prove(reading: &Reading, info: &CollectionInfo) -> Result<(), ReadError> {
    let source = &reading.source;
    let mut guard = Guard::new(&source.deployment, source.term, source.at);
    let read = Read { namespace: info.namespace.clone(), uuid: info.uuid };
    let found = reading.ctx.or_stop(guard.judge(&[read])).await??;
    match found.into_iter().flatten().next() {
        None => Ok(()),
        Some(hit) => Err(ReadError::Falsified(hit)),
    }
}
