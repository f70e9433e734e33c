//! Reading a timeline out of the vault: its slices in order, none missing.

use std::time::Duration;

use bytes::Bytes;
use catalog::{NewSlice, Slice as SliceRow, SliceState, Snapshot, Timeline};
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use model::{ClusterTime, chain::SliceSpan};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use vault::{ObjectName, Slice, SliceHeader};

use crate::{
    damage,
    engine::Services,
    fold::Record,
    lease::{JobContext, JobError},
};

/// How long capture may make no headway before it is not waited for any more.
const STANDSTILL_MAX: Duration = Duration::from_secs(30);
/// How soon it is looked how far it is, and how often when that takes longer: it is told what is waited for, and mostly at once
/// there.
const LOOK_SOON: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Slices that are opened ahead of their turn: a header each.
const SLICES_AHEAD: usize = 2;
/// Blocks that are read and unsealed ahead of their turn: about 1 MiB each, and the largest entry at worst.
const BLOCKS_AHEAD: usize = 3;

/// What a fold from a snapshot needs of the timeline that it lies on, up to the end of what is in the vault.
///
/// # Errors
/// When the timeline no longer reaches back far enough.
pub(crate) async fn record(
    services: &Services,
    timeline: &Timeline,
    base: &Snapshot,
) -> Result<Record<'static>, JobError> {
    let needed = services.catalog.timelines().needed_from(timeline, base).await?;
    let from = needed.ok_or_else(|| {
        JobError::failed(format!(
            "the timeline {} no longer has the operations that follow the snapshot {}; choose a later time",
            timeline.id, base.id
        ))
    })?;
    read_from(services, timeline, from).await
}

/// What has to be known of the timeline by whoever knows the state at `time`; none when the timeline no longer reaches
/// back so far.
///
/// # Errors
/// When the catalog does not answer.
pub(crate) async fn record_since(
    services: &Services,
    timeline: &Timeline,
    time: ClusterTime,
) -> Result<Option<Record<'static>>, JobError> {
    match services.catalog.timelines().needed_after(timeline, time).await? {
        Some(from) => read_from(services, timeline, from).await.map(Some),
        None => Ok(None),
    }
}

async fn read_from(
    services: &Services,
    timeline: &Timeline,
    from: ClusterTime,
) -> Result<Record<'static>, JobError> {
    let slices = services.catalog.timelines().slices(timeline.id, from, timeline.durable.time).await?;
    let begins = slices.first().map_or(timeline.durable, |first| first.span.after);
    Ok(Record {
        from: fold_time(begins.time),
        to: fold_time(timeline.durable.time),
        blocks: blocks(services, slices),
    })
}

/// A part of a timeline, and how much it is.
pub(crate) struct Part {
    /// Bytes of its entries.
    pub(crate) bytes: u64,
    /// Blocks of whole entries, back to back; the last ones may be later than what was asked for, the first ones earlier.
    pub(crate) blocks: BoxStream<'static, Result<Bytes, JobError>>,
}

/// Everything that took effect after `after` and is written at or before `until`, with the beginnings of the transactions
/// among it. Nothing when the timeline no longer has all of that.
///
/// # Errors
/// When the catalog does not answer.
pub(crate) async fn record_between(
    services: &Services,
    timeline: &Timeline,
    after: ClusterTime,
    until: ClusterTime,
) -> Result<Option<Part>, JobError> {
    let timelines = services.catalog.timelines();
    let Some(from) = timelines.needed_after(timeline, after).await? else { return Ok(None) };
    let slices = timelines.slices(timeline.id, from, until).await?;
    let bytes = slices.iter().map(|slice| slice.bytes).sum();
    Ok(Some(Part { bytes, blocks: blocks(services, slices) }))
}

/// What the catalog keeps of a slice.
pub(crate) fn row(name: &ObjectName, header: &SliceHeader, stored_bytes: u64) -> NewSlice {
    NewSlice {
        name: name.to_string(),
        sequence: header.sequence,
        previous: header.previous.map(|name| name.to_string()),
        span: SliceSpan {
            after: header.after,
            first: header.first,
            last: header.last,
            read_from: header.read_from,
        },
        entries: header.entries,
        bytes: header.bytes,
        stored_bytes,
        created_at: header.created_at,
    }
}

/// Waits until everything up to `at` is in the vault; the timeline then. Or why that will not be.
///
/// # Errors
/// When the job must stop, or the catalog does not answer.
pub(crate) async fn reach(
    ctx: &JobContext,
    current: &Timeline,
    at: ClusterTime,
) -> Result<Result<Timeline, String>, JobError> {
    ctx.services().waiters.want(current.deployment_id, at);
    let (mut reached, mut moved, mut look) = (current.durable, Instant::now(), LOOK_SOON);
    loop {
        ctx.check()?;
        let now = ctx.catalog().timelines().get(current.id).await?;
        let Some(now) = now else { return Ok(Err(format!("the timeline {} is gone", current.id))) };
        if now.durable.time >= at {
            return Ok(Ok(now));
        }
        if let Some(end) = &now.ended {
            return Ok(Err(format!("the timeline {} ended: {}", now.id, end.detail)));
        }
        if now.durable != reached {
            (reached, moved) = (now.durable, Instant::now());
        }
        if moved.elapsed() >= STANDSTILL_MAX {
            return Ok(Err(format!(
                "capture has stood still at {reached} for {} s; `ebbtide timeline show` tells what holds it up",
                STANDSTILL_MAX.as_secs()
            )));
        }
        ctx.or_stop(tokio::time::sleep(look)).await?;
        look = LOOK_EVERY.min(look * 2);
    }
}

/// The blocks of these slices, up to the first that is not in the vault. Some are read and unsealed while those before them
/// are being looked at.
fn blocks(services: &Services, slices: Vec<SliceRow>) -> BoxStream<'static, Result<Bytes, JobError>> {
    let (opening, reading) = (services.clone(), services.clone());
    let in_the_vault = |row: &SliceRow| row.state == SliceState::Stored;
    stream::iter(slices.into_iter().take_while(in_the_vault))
        .map(move |row| in_a_task(open(opening.clone(), row)))
        .buffered(SLICES_AHEAD)
        .map_ok(|slice| {
            let blocks = 0..slice.blocks().len();
            stream::iter(blocks.map(move |block| Ok::<_, JobError>((slice.clone(), block))))
        })
        .try_flatten()
        // What cannot be opened is told in its turn: everything before it may be all that is needed.
        .map(move |next| {
            let services = reading.clone();
            async move {
                let (slice, block) = next?;
                in_a_task(read(services, slice, block)).await
            }
        })
        .buffered(BLOCKS_AHEAD)
        .boxed()
}

/// Goes on while nobody waits for it.
async fn in_a_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, JobError>> + Send + 'static,
) -> Result<T, JobError> {
    let worked = AbortOnDropHandle::new(tokio::spawn(work)).await;
    worked.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the reading of a slice", e))?
}

async fn open(services: Services, row: SliceRow) -> Result<Slice, JobError> {
    let name: ObjectName =
        row.name.parse().map_err(|e| JobError::failed_by("the catalog names a slice that is none", e))?;
    let slice = match Slice::open(&services.vault, &name).await {
        Ok(slice) => slice,
        Err(error) => return Err(damage::noted(&services.catalog, error).await),
    };
    if slice.header().after != row.span.after || slice.header().last != row.span.last {
        return Err(JobError::failed(format!(
            "the slice {name} does not hold what the catalog says; run rebuild-catalog"
        )));
    }
    Ok(slice)
}

async fn read(services: Services, slice: Slice, block: usize) -> Result<Bytes, JobError> {
    match slice.read_block(block).await {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(error) => Err(damage::noted(&services.catalog, error).await),
    }
}

/// The time as the fold knows it.
const fn fold_time(time: ClusterTime) -> history::ClusterTime {
    history::ClusterTime { seconds: time.seconds, increment: time.increment }
}
