//! Reading one collection, in the order that suits it.

use std::{collections::HashMap, sync::Arc};

use model::ClusterTime;
use mongo::{
    CollectionInfo, CollectionKind, Namespace,
    read::{self, Size},
};
use vault::{Order, SegmentList, SegmentPages};

use super::{
    natural::{self, CappedPages},
    sorted,
    source::{ReadError, Source},
    windowed,
};
use crate::{connect::to_model, lease::JobContext, pipeline::SegmentStore};

/// What is needed to read any collection of an attempt. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) ctx: JobContext,
    pub(super) source: Arc<Source>,
    pub(super) store: SegmentStore,
    /// Collections of fewer bytes are read in one range.
    pub(super) split_bytes: u64,
    /// Read in this order whatever the collection is like; for tests.
    pub(super) order: Option<read::Order>,
}

/// A collection whose segments are durable and listed.
pub(super) struct CollectionRead {
    pub(super) info: CollectionInfo,
    pub(super) as_of: ClusterTime,
    /// Until when it was read, where that was not at one time.
    pub(super) read_through: Option<ClusterTime>,
    pub(super) order: Order,
    pub(super) pages: SegmentPages,
}

impl CollectionRead {
    /// What has no documents of its own.
    pub(super) fn empty(info: CollectionInfo, as_of: ClusterTime) -> Self {
        Self { info, as_of, read_through: None, order: Order::Sorted, pages: SegmentPages::default() }
    }
}

/// So many spare lists [`read`] has use for: a capped collection may have to be begun again.
pub(super) const SPARE_LISTS: usize = 4;

/// Reads one collection of about `bytes` and stores its segments. The spare lists are for second readings.
pub(super) async fn read(
    reading: Reading,
    info: CollectionInfo,
    bytes: u64,
    list: SegmentList,
    mut spare: Vec<SegmentList>,
) -> Result<CollectionRead, ReadError> {
    let at = to_model(reading.source.at);
    let mut order = match reading.order {
        Some(forced) if info.kind != CollectionKind::Capped => forced,
        _ => choose(&reading, &info).await?,
    };
    let mut list = list;
    loop {
        let tried = match order {
            read::Order::Capped => {
                let capped = natural::read_capped(&reading, &info, list, spare).await?;
                let CappedPages { as_of, read_through, pages } = capped;
                let read_through = (read_through > as_of).then_some(read_through);
                return Ok(CollectionRead { info, as_of, read_through, order: Order::Natural, pages });
            }
            read::Order::NaturalNearlySorted { window_bytes } => {
                windowed::read_windowed(&reading, &info, window_bytes, list).await
            }
            read::Order::NaturalThenSort => natural::read_and_sort(&reading, &info, bytes, list).await,
            read::Order::SortedRanges | read::Order::StoredSorted => {
                sorted::read_sorted(&reading, &info, bytes, list).await
            }
        };
        let next = match &tried {
            Err(ReadError::OutOfOrder | ReadError::LongKeys) => order.instead(),
            _ => None,
        };
        let (Some(next), Some(another)) = (next, spare.pop()) else {
            let pages = tried?;
            return Ok(CollectionRead { info, as_of: at, read_through: None, order: Order::Sorted, pages });
        };
        tracing::info!(namespace = %info.namespace, "{} cannot be read as {order:?}: it was not given in the order of its _id, or has very long ones; reading it again as {next:?}", info.namespace);
        (order, list) = (next, another);
    }
}

async fn choose(reading: &Reading, info: &CollectionInfo) -> Result<read::Order, ReadError> {
    let source = &reading.source;
    let mut connection = reading.ctx.or_stop(source.connection()).await??;
    let (order, reason) =
        reading.ctx.or_stop(read::choose_order(&mut connection, info, source.cache_bytes)).await??;
    source.give_back(connection);
    tracing::debug!(namespace = %info.namespace, order = ?order, "reading {} as {order:?}: {reason}", info.namespace);
    Ok(order)
}

/// Asks how large collections are, as far as that is not known yet. A collection that cannot be asked about has size 0:
/// sizes only decide what is read first and what the progress bar shows.
pub(super) async fn learn_sizes(
    source: &Source,
    infos: &[CollectionInfo],
    known: &mut HashMap<Namespace, Size>,
) -> Result<(), mongo::Error> {
    let mut connection = source.connection().await?;
    for info in infos {
        if known.contains_key(&info.namespace) {
            continue;
        }
        match read::size(&mut connection, &info.namespace).await {
            Ok(size) => {
                known.insert(info.namespace.clone(), size);
            }
            Err(error @ (mongo::Error::Unreachable { .. } | mongo::Error::NotPrimary { .. })) => {
                return Err(error);
            }
            Err(error) => {
                tracing::debug!(namespace = %info.namespace, error = %error, "the size of {} cannot be told: {error}", info.namespace)
            }
        }
    }
    source.give_back(connection);
    Ok(())
}
