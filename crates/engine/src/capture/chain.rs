//! The end of a timeline, as this process makes it longer: entries are gathered into slices here, and [`super::keep`] makes
//! those durable while the next one is being filled.

use std::collections::VecDeque;

use history::transaction::OpenTransactions;
use model::{ClusterTime, OplogPosition, id::TimelineId};
use tokio::time::Instant;
use vault::{ObjectName, SliceBuilder, SliceLink, SliceSource};

use super::{
    due::Filling,
    error::CaptureError,
    keep::{Full, Kept, Line},
};
use crate::lease::JobError;

/// Where a timeline stands when it begins to be followed.
pub(super) struct Standing {
    /// Which one.
    pub(super) timeline: TimelineId,
    /// What its slices say of where they come from.
    pub(super) source: SliceSource,
    /// Number of the next slice.
    pub(super) sequence: u64,
    /// The last slice.
    pub(super) previous: Option<ObjectName>,
    /// The last entry that it has, or the entry after which the timeline begins.
    pub(super) position: OplogPosition,
    /// The transactions that are open there.
    pub(super) open: OpenTransactions,
    /// There may be others, which began at this time at the earliest.
    pub(super) open_since: Option<ClusterTime>,
    /// Slices that wait in the spool, oldest first.
    pub(super) waiting: VecDeque<ObjectName>,
}

/// See the head of this file. Dropped, it tells the one who keeps that nothing more comes.
pub(super) struct Chain {
    timeline: TimelineId,
    source: SliceSource,
    position: OplogPosition,
    open: OpenTransactions,
    open_since: Option<ClusterTime>,
    /// The last entry of the last slice that was closed.
    closed: OplogPosition,
    filling: Option<(SliceBuilder, Instant)>,
    line: Line,
}

impl Chain {
    /// Goes on from there; full slices go down the line.
    pub(super) fn new(standing: Standing, line: Line) -> Self {
        let Standing { timeline, source, position, open, open_since, .. } = standing;
        Self { timeline, source, position, open, open_since, closed: position, filling: None, line }
    }

    /// Which timeline.
    pub(super) fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Whether transactions may be open that are not known, because the vault could not be read.
    pub(super) fn is_unsure(&self) -> bool {
        self.open_since.is_some()
    }

    /// The last entry that was taken.
    pub(super) fn position(&self) -> OplogPosition {
        self.position
    }

    /// What has become of the slices.
    pub(super) fn kept(&self) -> Kept {
        self.line.kept.borrow().clone()
    }

    /// Takes the next entry; closes the slice when it has no room for it. Waits while the last two are not sealed: that is what
    /// bounds the memory.
    pub(super) async fn push(&mut self, position: OplogPosition, entry: &[u8]) -> Result<(), CaptureError> {
        if self.filling.as_ref().is_some_and(|(builder, _)| !builder.has_room_for(entry.len())) {
            self.close();
        }
        let (builder, _) = match &mut self.filling {
            Some(filling) => filling,
            none => {
                let buffer = self.line.spare.recv().await.ok_or_else(given_up)?;
                // Its place is told when the slice before it is sealed.
                let link = SliceLink::first(self.position);
                none.insert((SliceBuilder::with_buffer(self.source.clone(), link, buffer), Instant::now()))
            }
        };
        builder.push(position, entry).map_err(CaptureError::Vault)?;
        self.open.feed_raw(entry);
        self.position = position;
        Ok(())
    }

    /// What the slice that is being filled is like; none when nothing came since the last one.
    pub(super) fn filling(&self) -> Option<Filling> {
        self.filling.as_ref().map(|(builder, since)| Filling {
            bytes: builder.bytes() as u64,
            age: since.elapsed(),
            after: self.closed.time,
            last: self.position.time,
        })
    }

    /// Closes the slice and hands it over.
    pub(super) fn close(&mut self) {
        let Some((builder, _)) = self.filling.take() else { return };
        let oldest = self.open.oldest_start().map_or(builder.last().time, to_model);
        let read_from = self.open_since.map_or(oldest, |since| since.min(oldest));
        self.closed = builder.last();
        // Whoever keeps them has given up when nobody takes it, and says why himself.
        self.line.full.send(Full { builder, read_from }).ok();
    }
}

/// Said when the one who keeps has ended; he says why.
fn given_up() -> CaptureError {
    CaptureError::Other(JobError::failed("a slice could not be kept"))
}

/// The model's form of a time of the fold.
pub(super) fn to_model(time: history::ClusterTime) -> ClusterTime {
    ClusterTime { seconds: time.seconds, increment: time.increment }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;
    use futures::FutureExt as _;
    use model::id::{DeploymentId, ProjectId};
    use tokio::sync::{mpsc, watch};

    use super::*;

    fn position(n: u32) -> OplogPosition {
        OplogPosition { time: ClusterTime { seconds: n, increment: 1 }, term: 1 }
    }

    fn standing() -> Standing {
        let timeline: TimelineId = "5f4007f327a3bd7b6f4103c5".parse().unwrap();
        let source = SliceSource {
            timeline_id: timeline,
            project_id: "5f4007f327a3bd7b6f4103c6".parse::<ProjectId>().unwrap(),
            project_name: "project".to_owned(),
            deployment_id: "5f4007f327a3bd7b6f4103c7".parse::<DeploymentId>().unwrap(),
            deployment_name: "orders".to_owned(),
            replica_set_name: "rs0".to_owned(),
            ebbtide_version: "0.0.0".to_owned(),
        };
        Standing {
            timeline,
            source,
            sequence: 7,
            previous: None,
            position: position(1),
            open: OpenTransactions::new(),
            open_since: None,
            waiting: VecDeque::new(),
        }
    }

    /// The reading goes on while slices are kept, and not for ever.
    #[tokio::test]
    async fn a_slice_is_filled_while_those_before_it_are_kept_and_memory_bounds_it() {
        let (full, mut taken) = mpsc::unbounded_channel();
        let (give, spare) = mpsc::unbounded_channel();
        let (_news, kept) = watch::channel(Kept { recorded: position(1), waiting: 0, warning: None });
        for _ in 0..2 {
            give.send(Vec::new()).unwrap();
        }
        let mut chain = Chain::new(standing(), Line { full, spare, kept });
        let entry = rawdoc! { "op": "n" }.into_bytes();
        for n in 2..4 {
            chain.push(position(n), &entry).await.unwrap();
            let filling = chain.filling().unwrap();
            assert_eq!((filling.after, filling.last), (position(n - 1).time, position(n).time));
            chain.close();
            assert!(chain.filling().is_none());
        }
        // Nobody has kept anything so far, and there is no memory for a third one.
        assert!(chain.push(position(4), &entry).now_or_never().is_none());
        let first = taken.recv().await.unwrap();
        assert_eq!((first.builder.last(), first.read_from), (position(2), position(2).time));
        give.send(first.builder.into_buffer()).unwrap();
        chain.push(position(4), &entry).await.unwrap();
        assert_eq!(chain.position(), position(4));
        chain.close();
        let (second, third) = (taken.recv().await.unwrap(), taken.recv().await.unwrap());
        assert_eq!((second.builder.last(), third.builder.last()), (position(3), position(4)));
        // Whoever keeps them has ended.
        drop(give);
        assert!(chain.push(position(5), &entry).await.is_err());
    }
}
