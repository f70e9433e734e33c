//! From a thread that makes segments to the task that stores them.

use tokio::{runtime::Handle, sync::mpsc};
use vault::SegmentBuilder;

use super::{SegmentStore, store::Room};
use crate::lease::JobError;

/// A full segment, and room for it on its way to the store.
pub(crate) struct FullSegment {
    pub(super) builder: SegmentBuilder,
    pub(super) room: Room,
}

/// The thread's end. Dropped, it tells that nothing more comes.
pub(crate) struct Giver {
    store: SegmentStore,
    runtime: Handle,
    sender: mpsc::Sender<FullSegment>,
}

/// Both ends. Called on the runtime.
pub(crate) fn handover(store: &SegmentStore) -> (Giver, mpsc::Receiver<FullSegment>) {
    let (sender, full) = mpsc::channel(1);
    (Giver { store: store.clone(), runtime: Handle::current(), sender }, full)
}

impl Giver {
    /// Hands a full segment over, on a thread that may wait. It waits for room first: a segment that nobody has room for is the one
    /// that the thread has at hand, and there is no other in between.
    ///
    /// # Errors
    /// When the job must stop; when the other end is gone it has stopped, and says why itself.
    pub(crate) fn give(&self, builder: SegmentBuilder) -> Result<(), JobError> {
        self.runtime.block_on(async {
            let room = tokio::select! {
                room = self.store.room() => room?,
                // Others may have all the room for long, and nobody waits for this one any more.
                () = self.sender.closed() => return Err(JobError::Shutdown),
            };
            let full = FullSegment { builder, room };
            self.sender.send(full).await.map_err(|_| JobError::Shutdown)
        })
    }
}
