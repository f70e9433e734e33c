//! Reading a collection whose order of storage is nearly that of its `_id`s: in the order of storage, which costs the
//! server least, and put right in a window.
//!
//! Nothing rests on the guess that the order is good: a document that is further out of place than the window notices
//! ends the reading, and the collection is read in another way.

use history::key::push_document_key;
use mongo::{
    CollectionInfo,
    read::{self, Batch, NaturalRange},
};
use vault::{Order, SegmentList, SegmentPages};

use super::{collection::Reading, filler::Filler, source::ReadError};
use crate::{connect::to_model, lease::JobError, sort::Window};

/// Reads the collection and lists its segments: the same ones that a sorted read gives.
pub(super) async fn read_windowed(
    reading: &Reading,
    info: &CollectionInfo,
    window_bytes: usize,
    mut list: SegmentList,
) -> Result<SegmentPages, ReadError> {
    let ctx = &reading.ctx;
    let _memory = ctx.sort_memory(Window::holds(window_bytes)).await?;
    let _reader = ctx.reader().await?;
    let source = &reading.source;
    let mut connection = ctx.or_stop(source.connection()).await??;
    let whole = NaturalRange::whole();
    let mut cursor = ctx.or_stop(read::natural(&mut connection, info, source.at, &whole)).await??;
    let mut filler = Filler::new(reading, Order::Sorted, to_model(source.at));
    let mut window = Window::new(window_bytes);
    let mut key = vec![];
    let mut seen = 0;
    while let Some(batch) = ctx.or_stop(cursor.next()).await?? {
        for document in batch.documents() {
            key.clear();
            push_document_key(&mut key, document)?;
            window.push(&key, batch.place_of(document));
        }
        seen += batch.len() as u64;
        let bytes = batch.memory();
        let mut due = window.hold(batch, bytes);
        while due {
            turn(&mut window, &mut filler).await?;
            due = window.is_full();
        }
        while let Some(spent) = window.take_spent() {
            cursor.recycle(spent);
        }
        for entry in filler.take_entries() {
            list.push(&entry).await.map_err(JobError::from)?;
        }
    }
    cursor.close().await?;
    source.give_back(connection);
    window.end();
    while turn(&mut window, &mut filler).await? {}
    for entry in filler.finish().await? {
        list.push(&entry).await.map_err(JobError::from)?;
    }
    let pages = list.finish().await.map_err(JobError::from)?;
    if pages.content.documents != seen {
        let given = pages.content.documents;
        let what =
            format!("a bug in Ebbtide: of {seen} documents of {} a window gave {given}", info.namespace);
        return Err(JobError::failed(what).into());
    }
    Ok(pages)
}

/// Hands over what one turn of the window gives; false when nothing is left in it.
async fn turn(window: &mut Window<Batch>, filler: &mut Filler<'_>) -> Result<bool, ReadError> {
    let any = window.turn()?;
    while let Some((key, document)) = window.take() {
        filler.offer(key, document).await?;
    }
    Ok(any)
}
