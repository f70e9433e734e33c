//! Reading a collection in the order of its storage: capped ones, whose order is content, and those that we sort.

use std::{path::PathBuf, sync::Arc};

use futures::future::try_join_all;
use history::key::push_document_key;
use model::ClusterTime;
use mongo::{
    CollectionInfo,
    read::{self, CappedRead, NaturalRange},
};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use vault::{Order, SegmentList, SegmentPages};

use super::{collection::Reading, filler::Filler, source::ReadError};
use crate::{
    connect::to_model,
    lease::JobError,
    pipeline::{Giver, Segmenter, handover, on_processor},
    sort::{Merge, RunBuffer, SORT_BUFFER_BYTES, Spill, SpilledRun},
};

/// Below this a collection is read by one reader, whatever its order.
const SPLIT_BYTES_MIN: u64 = 64 << 20;
/// Each reader fills one buffer while another of its own is sorted and spilled.
const BUFFERS_PER_READER: usize = 2;

/// What was read of a capped collection.
pub(super) struct CappedPages {
    /// Its own time.
    pub(super) as_of: ClusterTime,
    /// What was inserted, changed or removed since, and until then, may be in it already.
    pub(super) read_through: ClusterTime,
    pub(super) pages: SegmentPages,
}

/// Reads a capped collection. One whose writers overtake the reader is begun again, once for each list.
pub(super) async fn read_capped(
    reading: &Reading,
    info: &CollectionInfo,
    list: SegmentList,
    spare: Vec<SegmentList>,
) -> Result<CappedPages, ReadError> {
    let mut ended = read_capped_once(reading, info, list).await;
    for list in spare {
        // Overtaken: a matter of this collection alone, which has a time of its own anyway.
        if !matches!(ended, Err(ReadError::Mongo(mongo::Error::CursorLost { .. }))) {
            break;
        }
        ended = read_capped_once(reading, info, list).await;
    }
    ended
}

async fn read_capped_once(
    reading: &Reading,
    info: &CollectionInfo,
    mut list: SegmentList,
) -> Result<CappedPages, ReadError> {
    let ctx = &reading.ctx;
    let _reader = ctx.reader().await?;
    let mut connection = ctx.or_stop(reading.source.connection()).await??;
    let CappedRead { as_of, mut cursor } =
        ctx.or_stop(read::capped(&mut connection, info, reading.source.at)).await??;
    let as_of = to_model(as_of);
    let mut filler = Filler::new(reading, Order::Natural, as_of);
    let mut key = vec![];
    while let Some(batch) = ctx.or_stop(cursor.next()).await?? {
        for document in batch.documents() {
            key.clear();
            push_document_key(&mut key, document)?;
            filler.offer(&key, document).await?;
        }
        push_entries(&mut list, &mut filler).await?;
        cursor.recycle(batch);
    }
    cursor.close().await?;
    let read_through = to_model(ctx.or_stop(read::capped_seen(&mut connection, info)).await??);
    reading.source.give_back(connection);
    for entry in filler.finish().await? {
        list.push(&entry).await.map_err(JobError::from)?;
    }
    Ok(CappedPages { as_of, read_through, pages: list.finish().await.map_err(JobError::from)? })
}

async fn push_entries(list: &mut SegmentList, filler: &mut Filler<'_>) -> Result<(), JobError> {
    for entry in filler.take_entries() {
        list.push(&entry).await?;
    }
    Ok(())
}

/// Reads in storage order, sorts, and lists the segments: the same ones that a sorted read gives.
pub(super) async fn read_and_sort(
    reading: &Reading,
    info: &CollectionInfo,
    size: u64,
    mut list: SegmentList,
) -> Result<SegmentPages, ReadError> {
    let ctx = &reading.ctx;
    // A sort takes all the memory there is for sorting. Whoever waits here holds nothing that the other needs.
    let _memory = ctx.sort_memory(SORT_BUFFER_BYTES).await?;
    let (merge, seen) = gather(reading, info, size).await?;
    let (giver, mut full) = handover(&reading.store);
    let merging = spawn_merge(reading, merge, giver);
    let mut filler = Filler::new(reading, Order::Sorted, to_model(reading.source.at));
    while let Some(full) = ctx.or_stop(full.recv()).await? {
        filler.submit_full(full).await?;
        push_entries(&mut list, &mut filler).await?;
    }
    merging.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped a sort", e))??;
    for entry in filler.finish().await? {
        list.push(&entry).await.map_err(JobError::from)?;
    }
    let pages = list.finish().await.map_err(JobError::from)?;
    if pages.content.documents != seen {
        let given = pages.content.documents;
        let what = format!("a bug in Ebbtide: of {seen} documents of {} a sort gave {given}", info.namespace);
        return Err(JobError::failed(what).into());
    }
    Ok(pages)
}

/// Merges on a thread of its own, since a merge waits for nothing but the disk, room for a segment, and the receiver.
fn spawn_merge(reading: &Reading, merge: Merge, giver: Giver) -> JoinHandle<Result<(), ReadError>> {
    let buffers = Arc::clone(&reading.ctx.services().budget.buffers);
    tokio::task::spawn_blocking(move || {
        let mut segmenter = Segmenter::new(Order::Sorted, &buffers);
        merge.for_each(|key, document| match segmenter.offer(key, document)? {
            Some(full) => Ok::<_, ReadError>(giver.give(full)?),
            None => Ok(()),
        })?;
        segmenter.finish().map_or(Ok(()), |last| Ok(giver.give(last)?))
    })
}

/// Reads all parts into sorted runs of so many documents.
async fn gather(reading: &Reading, info: &CollectionInfo, size: u64) -> Result<(Merge, u64), ReadError> {
    let readers = reading.ctx.services().settings.readers.max(1);
    let wanted = if size < SPLIT_BYTES_MIN.min(reading.split_bytes) { 1 } else { readers };
    let source = &reading.source;
    let mut connection = reading.ctx.or_stop(source.connection()).await??;
    let parts = reading.ctx.or_stop(read::natural_split(&mut connection, info, source.at, wanted)).await??;
    source.give_back(connection);
    let buffer_bytes = SORT_BUFFER_BYTES / (parts.len().max(1) * BUFFERS_PER_READER);
    let gathering = parts.into_iter().map(|part| {
        let (reading, info) = (reading.clone(), info.clone());
        async move {
            let reader = AbortOnDropHandle::new(tokio::spawn(async move {
                gather_part(&reading, &info, part, buffer_bytes).await
            }));
            reader
                .await
                .unwrap_or_else(|e| Err(JobError::failed_by("a bug in Ebbtide stopped a reader", e).into()))
        }
    });
    let mut merge = Merge::new(&reading.ctx.services().settings.spill_dir);
    let mut seen = 0;
    for gathered in try_join_all(gathering).await? {
        seen += gathered.seen;
        gathered.runs.into_iter().for_each(|run| merge.add_run(run));
        gathered.rest.into_iter().for_each(|buffer| merge.add_rest(buffer));
    }
    Ok((merge, seen))
}

/// What one reader has gathered.
struct Gathered {
    seen: u64,
    runs: Vec<SpilledRun>,
    /// Not spilled, because it is all there is.
    rest: Option<RunBuffer>,
}

async fn gather_part(
    reading: &Reading,
    info: &CollectionInfo,
    part: NaturalRange,
    buffer_bytes: usize,
) -> Result<Gathered, ReadError> {
    let ctx = &reading.ctx;
    let _reader = ctx.reader().await?;
    let source = &reading.source;
    let mut connection = ctx.or_stop(source.connection()).await??;
    let mut cursor = ctx.or_stop(read::natural(&mut connection, info, source.at, &part)).await??;
    let mut spilling = Spilling::new(reading, buffer_bytes);
    let mut buffer = RunBuffer::new(buffer_bytes);
    let (mut key, mut seen) = (vec![], 0);
    while let Some(batch) = ctx.or_stop(cursor.next()).await?? {
        let mut bytes = 0;
        let mut documents = 0;
        for document in batch.documents() {
            key.clear();
            push_document_key(&mut key, document)?;
            if buffer.is_full_for(&key, document) {
                buffer = spilling.swap(buffer).await?;
            }
            buffer.push(&key, document);
            documents += 1;
            bytes += document.len() as u64;
        }
        ctx.progress().add(documents, bytes);
        seen += documents;
        cursor.recycle(batch);
    }
    cursor.close().await?;
    source.give_back(connection);
    spilling.finish(buffer, seen).await
}

/// A buffer that was spilled and is empty again, where it was spilled to, and what became of it.
type Spilled = (RunBuffer, Spill, SpilledRun);

/// Sorts and spills one buffer while the reader fills the other.
struct Spilling<'a> {
    reading: &'a Reading,
    dir: PathBuf,
    buffer_bytes: usize,
    at_work: Option<JoinHandle<Result<Spilled, JobError>>>,
    spill: Option<Spill>,
    runs: Vec<SpilledRun>,
}

impl<'a> Spilling<'a> {
    fn new(reading: &'a Reading, buffer_bytes: usize) -> Self {
        let dir = reading.ctx.services().settings.spill_dir.clone();
        Self { reading, dir, buffer_bytes, at_work: None, spill: None, runs: vec![] }
    }

    /// Takes a full buffer and gives an empty one.
    async fn swap(&mut self, full: RunBuffer) -> Result<RunBuffer, JobError> {
        let empty = self.wait().await?.unwrap_or_else(|| RunBuffer::new(self.buffer_bytes));
        let processors = Arc::clone(&self.reading.ctx.services().budget.processors);
        let spill = match self.spill.take() {
            Some(spill) => spill,
            None => Spill::create(&self.dir)?,
        };
        self.at_work = Some(tokio::spawn(async move {
            let work = move || {
                let (mut full, mut spill) = (full, spill);
                let run = spill.write(&mut full)?;
                Ok::<_, JobError>((full, spill, run))
            };
            on_processor(&processors, work).await?
        }));
        Ok(empty)
    }

    /// Waits for the buffer at work, if any, and gives it back empty.
    async fn wait(&mut self) -> Result<Option<RunBuffer>, JobError> {
        let Some(at_work) = self.at_work.take() else { return Ok(None) };
        let ended = at_work.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped a sort", e))?;
        let (buffer, spill, run) = ended?;
        self.spill = Some(spill);
        self.runs.push(run);
        Ok(Some(buffer))
    }

    /// Spills the last buffer too, so that a merge has the memory; unless it is the only one.
    async fn finish(mut self, last: RunBuffer, seen: u64) -> Result<Gathered, ReadError> {
        if self.at_work.is_none() && self.runs.is_empty() {
            return Ok(Gathered { seen, runs: vec![], rest: Some(last) });
        }
        if !last.is_empty() {
            drop(self.swap(last).await?);
        }
        drop(self.wait().await?);
        Ok(Gathered { seen, runs: self.runs, rest: None })
    }
}
