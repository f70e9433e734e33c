//! The end of a timeline, as this process makes it longer.

use std::{collections::VecDeque, time::Duration};

use catalog::CaptureLease;
use history::{entry::Entry, transaction::OpenTransactions};
use model::{ClusterTime, OplogPosition, id::TimelineId};
use tokio::time::Instant;
use vault::{ObjectName, SealedObject, Slice, SliceBuilder, SliceLink, SliceSource};

use super::{due::Filling, error::CaptureError, spool::Spool};
use crate::{crash, engine::Services, lease::with_causes, pipeline::on_processor, timeline};

/// How long the vault is given to take a slice before it goes to the spool instead.
const PUT_PATIENCE: Duration = Duration::from_secs(10);
/// Wait before the vault is tried again when it did not take a slice.
const RETRY_AFTER: Duration = Duration::from_secs(2);

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

/// See the head of this file.
pub(super) struct Chain<'a> {
    services: &'a Services,
    lease: &'a CaptureLease,
    spool: Spool,
    standing: Standing,
    /// The last entry of the last slice that was closed.
    recorded: OplogPosition,
    filling: Option<(SliceBuilder, Instant)>,
    /// Memory of the slice before, for the next one.
    buffer: Vec<u8>,
    try_again: Instant,
    /// Why the vault did not take the last slice that it was offered.
    refusal: Option<String>,
}

impl<'a> Chain<'a> {
    /// Goes on from there.
    pub(super) fn new(
        services: &'a Services,
        lease: &'a CaptureLease,
        spool: Spool,
        standing: Standing,
    ) -> Self {
        let recorded = standing.position;
        Self {
            services,
            lease,
            spool,
            standing,
            recorded,
            filling: None,
            buffer: Vec::new(),
            try_again: Instant::now(),
            refusal: None,
        }
    }

    /// Which timeline.
    pub(super) fn timeline(&self) -> TimelineId {
        self.standing.timeline
    }

    /// The last entry that was taken.
    pub(super) fn position(&self) -> OplogPosition {
        self.standing.position
    }

    /// Slices that wait for the vault.
    pub(super) fn waiting(&self) -> usize {
        self.standing.waiting.len()
    }

    /// The last entry of the last slice that is recorded.
    pub(super) fn recorded(&self) -> OplogPosition {
        self.recorded
    }

    /// What is to be told while slices wait: how many, where, and why.
    pub(super) fn warning(&self) -> Option<String> {
        let (waiting, refusal) = (self.waiting(), self.refusal.as_deref());
        let because = refusal.map(|why| format!(" ({why})")).unwrap_or_default();
        (waiting > 0).then(|| {
            format!(
                "the vault does not take what is captured{because}: {waiting} slices wait at {}, and nothing after the \
                 durable end can be restored before they are in the vault",
                self.spool.place().display()
            )
        })
    }

    /// Whether a slice that waits can be brought into the vault now.
    pub(super) fn can_catch_up(&self) -> bool {
        !self.standing.waiting.is_empty() && Instant::now() >= self.try_again
    }

    /// Takes the next entry; closes the slice when it has no room for it.
    pub(super) async fn push(&mut self, position: OplogPosition, entry: &[u8]) -> Result<(), CaptureError> {
        if self.filling.as_ref().is_some_and(|(builder, _)| !builder.has_room_for(entry.len())) {
            self.close().await?;
        }
        let (standing, buffer) = (&mut self.standing, &mut self.buffer);
        let (builder, _) = self.filling.get_or_insert_with(|| {
            let link = SliceLink {
                sequence: standing.sequence,
                previous: standing.previous,
                after: standing.position,
            };
            let builder = SliceBuilder::with_buffer(standing.source.clone(), link, std::mem::take(buffer));
            (builder, Instant::now())
        });
        builder.push(position, entry).map_err(CaptureError::Vault)?;
        // What cannot be read is kept all the same; the fold says what it makes unknown.
        if let Ok(entry) = Entry::read(entry) {
            standing.open.feed(&entry);
        }
        standing.position = position;
        Ok(())
    }

    /// What the slice that is being filled is like; none when nothing came since the last one.
    pub(super) fn filling(&self) -> Option<Filling> {
        self.filling.as_ref().map(|(builder, since)| Filling {
            bytes: builder.bytes() as u64,
            age: since.elapsed(),
            after: self.recorded.time,
            last: self.standing.position.time,
        })
    }

    /// Closes the slice: durable first, then recorded.
    pub(super) async fn close(&mut self) -> Result<(), CaptureError> {
        let Some((builder, _)) = self.filling.take() else { return Ok(()) };
        let standing = &mut self.standing;
        let oldest = standing.open.oldest_start().map_or(builder.last().time, to_model);
        let read_from = standing.open_since.map_or(oldest, |since| since.min(oldest));
        let (vault, now) = (self.services.vault.clone(), self.services.now());
        let sealing = on_processor(&self.services.budget.processors, move || {
            let sealed = builder.seal(&vault, read_from, now);
            (sealed, builder.into_buffer())
        });
        let (sealed, buffer) = sealing.await?;
        self.buffer = buffer;
        let sealed = sealed.map_err(CaptureError::Vault)?;
        crash::point("capture.sealed");
        let stored_bytes = sealed.object.bytes.len() as u64;
        self.services.probe("capture.sealed", &self.standing.timeline.to_string()).await;
        let name = sealed.name;
        let header = sealed.header;
        let in_vault = self.keep(sealed.object).await?;
        crash::point("capture.durable");
        let slice = timeline::row(&name, &header, stored_bytes);
        let timelines = self.services.catalog.timelines();
        timelines.append(self.lease, self.standing.timeline, &slice).await?;
        crash::point("capture.recorded");
        let standing = &mut self.standing;
        standing.sequence += 1;
        standing.previous = Some(name);
        self.recorded = header.last;
        if in_vault {
            timelines.mark_stored(self.lease, &slice.name).await?;
        } else {
            standing.waiting.push_back(name);
        }
        Ok(())
    }

    /// Makes a closed slice durable: in the vault, or in the spool. Whether it is in the vault.
    async fn keep(&mut self, object: SealedObject) -> Result<bool, CaptureError> {
        // A slice may not overtake those that wait.
        if self.standing.waiting.is_empty() && self.offer(&object).await {
            return Ok(true);
        }
        let Err(refused) = self.spool.put(object.clone()).await else {
            self.try_again = Instant::now() + RETRY_AFTER;
            return Ok(false);
        };
        // A spool that is full has room again only when what is in it goes to the vault, which may be back by now.
        while !self.standing.waiting.is_empty() {
            if !self.bring_first().await? {
                return Err(refused.into());
            }
        }
        if self.offer(&object).await { Ok(true) } else { Err(refused.into()) }
    }

    /// Whether the vault took it.
    async fn offer(&mut self, object: &SealedObject) -> bool {
        self.refusal = put(self.services, object).await.err();
        self.refusal.is_none()
    }

    /// Brings one slice that waits into the vault, if it is time to try.
    pub(super) async fn catch_up(&mut self) -> Result<(), CaptureError> {
        if self.can_catch_up() && !self.bring_first().await? {
            self.try_again = Instant::now() + RETRY_AFTER;
        }
        Ok(())
    }

    /// Brings the slice that has waited longest into the vault; whether the vault took it.
    async fn bring_first(&mut self) -> Result<bool, CaptureError> {
        let Some(&name) = self.standing.waiting.front() else { return Ok(true) };
        match bring(self.services, self.lease, &self.spool, name).await? {
            Brought::Stored => {}
            Brought::VaultIsAway(why) => {
                self.refusal = Some(why);
                return Ok(false);
            }
            Brought::Gone => return Err(CaptureError::SpoolGone { slice: name }),
        }
        self.standing.waiting.pop_front();
        Ok(true)
    }
}

/// What became of a slice that waited.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Brought {
    /// It is in the vault, and the catalog says so.
    Stored,
    /// The vault does not take it now, for this reason.
    VaultIsAway(String),
    /// It is neither in the spool nor in the vault.
    Gone,
}

/// Brings a slice that waits into the vault.
pub(super) async fn bring(
    services: &Services,
    lease: &CaptureLease,
    spool: &Spool,
    name: ObjectName,
) -> Result<Brought, CaptureError> {
    if let Some(object) = spool.get(name).await? {
        // What a disk has spoiled is not to become the only copy: the oplog may have it still.
        let slice = Slice::from_sealed(&services.vault, &name, object.bytes.clone());
        let checked = match slice {
            Ok(slice) => slice.verify().await,
            Err(error) => Err(error),
        };
        if let Err(error) = checked {
            tracing::error!(slice = %name, error = %error, "{name} is damaged in the spool: {error}");
            spool.remove(name).await?;
            return Ok(Brought::Gone);
        }
        if let Err(why) = put(services, &object).await {
            return Ok(Brought::VaultIsAway(why));
        }
    } else {
        // Put by an attempt that died before it could say so, or gone.
        match services.vault.contains(&name).await {
            Ok(true) => {}
            Ok(false) => return Ok(Brought::Gone),
            Err(error) => return Ok(Brought::VaultIsAway(with_causes(&error))),
        }
    }
    crash::point("capture.caught-up");
    services.catalog.timelines().mark_stored(lease, &name.to_string()).await?;
    spool.remove(name).await?;
    Ok(Brought::Stored)
}

/// Puts a slice into the vault, or tells why that does not take it.
async fn put(services: &Services, object: &SealedObject) -> Result<(), String> {
    let why = match tokio::time::timeout(PUT_PATIENCE, services.vault.put(object)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => with_causes(&error),
        Err(_) => format!("no answer in {} s", PUT_PATIENCE.as_secs()),
    };
    tracing::warn!(slice = %object.name, error = why, "the vault does not take {}: {why}; it waits in the spool", object.name);
    Err(why)
}

/// The model's form of a time of the fold.
pub(super) fn to_model(time: history::ClusterTime) -> ClusterTime {
    ClusterTime { seconds: time.seconds, increment: time.increment }
}
