//! Slices made durable, one after the other: in the vault, or in the spool while that is away; durable first, then recorded.
//!
//! What takes time here (a processor, the vault, the catalog) does not hold up the reading of the oplog: that goes on until
//! another slice is full.

use std::{collections::VecDeque, time::Duration};

use catalog::CaptureLease;
use model::{ClusterTime, OplogPosition, id::TimelineId};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use vault::{ObjectName, SealedObject, Slice, SliceBuilder};

use super::{chain::Standing, error::CaptureError, spool::Spool};
use crate::{crash, engine::Services, lease::with_causes, pipeline::on_processors, timeline};

/// How long the vault is given to take a slice before it goes to the spool instead.
const PUT_PATIENCE: Duration = Duration::from_secs(10);
/// Wait before the vault is tried again when it did not take a slice.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Slices in memory: one that is filled, and one that is sealed.
const BUFFERS: usize = 2;
/// A buffer that is kept for the next slice may be so many times as large as its last one was.
const SPARE_MAX: usize = 4;
/// So large it may always be.
const SPARE_SMALL: usize = 1 << 20;

/// A slice that nothing is added to any more.
pub(super) struct Full {
    /// Its entries.
    pub(super) builder: SliceBuilder,
    /// From when on the record has to be read to know all transactions of the slice.
    pub(super) read_from: ClusterTime,
}

/// What has become of the slices so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// The last entry of the last slice that is recorded.
    pub(super) recorded: OplogPosition,
    /// Slices that wait for the vault.
    pub(super) waiting: usize,
    /// What is to be told while slices wait: how many, where, and why.
    pub(super) warning: Option<String>,
}

/// The other end: full slices go in, memory and news come out. The end of it is the end of the keeping.
pub(super) struct Line {
    /// Takes full slices. There are never more than [`BUFFERS`].
    pub(super) full: mpsc::UnboundedSender<Full>,
    /// Memory for the next ones; ends when the keeping has.
    pub(super) spare: mpsc::UnboundedReceiver<Vec<u8>>,
    /// What has become of them.
    pub(super) kept: watch::Receiver<Kept>,
}

/// See the head of this file.
pub(super) struct Keeping<'a> {
    services: &'a Services,
    lease: &'a CaptureLease,
    spool: Spool,
    timeline: TimelineId,
    /// Number of the next slice.
    sequence: u64,
    /// The last slice.
    previous: Option<ObjectName>,
    /// The last entry of it.
    recorded: OplogPosition,
    /// Slices that wait in the spool, oldest first.
    waiting: VecDeque<ObjectName>,
    try_again: Instant,
    /// Why the vault did not take the last slice that it was offered.
    refusal: Option<String>,
    full: mpsc::UnboundedReceiver<Full>,
    spare: mpsc::UnboundedSender<Vec<u8>>,
    kept: watch::Sender<Kept>,
}

impl<'a> Keeping<'a> {
    /// Goes on from there.
    pub(super) fn new(
        services: &'a Services,
        lease: &'a CaptureLease,
        spool: Spool,
        standing: &Standing,
    ) -> (Self, Line) {
        let (full_in, full) = mpsc::unbounded_channel();
        let (spare, spare_out) = mpsc::unbounded_channel();
        for _ in 0..BUFFERS {
            spare.send(Vec::new()).ok();
        }
        let recorded = standing.position;
        let (kept, news) = watch::channel(Kept { recorded, waiting: standing.waiting.len(), warning: None });
        let keeping = Self {
            services,
            lease,
            spool,
            timeline: standing.timeline,
            sequence: standing.sequence,
            previous: standing.previous,
            recorded,
            waiting: standing.waiting.clone(),
            try_again: Instant::now(),
            refusal: None,
            full,
            spare,
            kept,
        };
        (keeping, Line { full: full_in, spare: spare_out, kept: news })
    }

    /// Keeps what comes until nothing more does, and brings what waits into the vault meanwhile.
    ///
    /// # Errors
    /// The first slice that cannot be kept. It is not in the record, and none after it is.
    pub(super) async fn run(mut self) -> Result<(), CaptureError> {
        loop {
            let next = tokio::select! {
                biased;
                next = self.full.recv() => next,
                () = sleep_until(self.try_again), if !self.waiting.is_empty() => {
                    self.catch_up().await?;
                    self.tell();
                    continue;
                }
            };
            let Some(full) = next else { return Ok(()) };
            self.keep(full).await?;
            self.catch_up().await?;
            self.tell();
        }
    }

    fn tell(&self) {
        let (waiting, refusal) = (self.waiting.len(), self.refusal.as_deref());
        let because = refusal.map(|why| format!(" ({why})")).unwrap_or_default();
        let warning = (waiting > 0).then(|| {
            format!(
                "the vault does not take what is captured{because}: {waiting} slices wait at {}, and nothing after the \
                 durable end can be restored before they are in the vault",
                self.spool.place().display()
            )
        });
        self.kept.send_replace(Kept { recorded: self.recorded, waiting, warning });
    }

    /// Seals a slice, makes it durable and records it.
    async fn keep(&mut self, full: Full) -> Result<(), CaptureError> {
        let Full { mut builder, read_from } = full;
        let begun = Instant::now();
        builder.follow(self.sequence, self.previous);
        let (vault, now) = (self.services.vault.clone(), self.services.now());
        let sealing = on_processors(&self.services.budget.processors, move |hands| {
            let sealed = builder.seal_with(&vault, read_from, now, hands);
            (sealed, builder.into_buffer())
        });
        let (sealed, buffer) = sealing.await?;
        // Nobody may be there to fill it.
        self.spare.send(spare(buffer)).ok();
        let sealed = sealed.map_err(CaptureError::Vault)?;
        crash::point("capture.sealed");
        let stored_bytes = sealed.object.bytes.len() as u64;
        self.services.probe("capture.sealed", &self.timeline.to_string()).await;
        let (name, header) = (sealed.name, sealed.header);
        let sealed_after = begun.elapsed();
        let in_vault = self.store(sealed.object).await?;
        let durable_after = begun.elapsed();
        crash::point("capture.durable");
        let slice = timeline::row(&name, &header, stored_bytes);
        let timelines = self.services.catalog.timelines();
        timelines.append(self.lease, self.timeline, &slice).await?;
        crash::point("capture.recorded");
        self.sequence += 1;
        self.previous = Some(name);
        self.recorded = header.last;
        if in_vault {
            timelines.mark_stored(self.lease, &slice.name).await?;
        } else {
            self.waiting.push_back(name);
        }
        tracing::debug!(
            timeline.id = %self.timeline,
            slice = header.sequence,
            bytes = header.bytes,
            last = %header.last,
            sealed_after_ms = sealed_after.as_millis(),
            durable_after_ms = durable_after.as_millis(),
            recorded_after_ms = begun.elapsed().as_millis(),
            "a slice is recorded"
        );
        Ok(())
    }

    /// Makes a sealed slice durable: in the vault, or in the spool. Whether it is in the vault.
    async fn store(&mut self, object: SealedObject) -> Result<bool, CaptureError> {
        // A slice may not overtake those that wait.
        if self.waiting.is_empty() && self.offer(&object).await {
            return Ok(true);
        }
        let Err(refused) = self.spool.put(object.clone()).await else {
            self.try_again = Instant::now() + RETRY_AFTER;
            return Ok(false);
        };
        // A spool that is full has room again only when what is in it goes to the vault, which may be back by now.
        while !self.waiting.is_empty() {
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
    async fn catch_up(&mut self) -> Result<(), CaptureError> {
        let is_time = !self.waiting.is_empty() && Instant::now() >= self.try_again;
        if is_time && !self.bring_first().await? {
            self.try_again = Instant::now() + RETRY_AFTER;
        }
        Ok(())
    }

    /// Brings the slice that has waited longest into the vault; whether the vault took it.
    async fn bring_first(&mut self) -> Result<bool, CaptureError> {
        let Some(&name) = self.waiting.front() else { return Ok(true) };
        match bring(self.services, self.lease, &self.spool, name).await? {
            Brought::Stored => {}
            Brought::VaultIsAway(why) => {
                self.refusal = Some(why);
                return Ok(false);
            }
            Brought::Gone => return Err(CaptureError::SpoolGone { slice: name }),
        }
        self.waiting.pop_front();
        Ok(true)
    }
}

/// The memory of a slice for the next one. After a rush of writes there are small ones for a long time, and jobs want what the
/// large ones took.
fn spare(buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > SPARE_SMALL.max(buffer.len().saturating_mul(SPARE_MAX)) {
        Vec::new()
    } else {
        buffer
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_large_slice_took_is_let_go_after_a_small_one() {
        let filled = |capacity: usize, bytes: usize| {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.resize(bytes, 0);
            spare(buffer).capacity()
        };
        assert!(filled(16 << 20, 15 << 20) >= 16 << 20);
        assert!(filled(16 << 20, 4 << 20) >= 16 << 20);
        assert_eq!(filled(16 << 20, 3 << 20), 0);
        assert_eq!(filled(16 << 20, 0), 0);
        assert!(filled(1 << 10, 0) >= 1 << 10);
    }
}
