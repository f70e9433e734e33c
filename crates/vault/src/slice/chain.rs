//! Whether one slice follows another.

use model::{OplogPosition, id::TimelineId};

use super::{Slice, SliceHeader, SliceLink};
use crate::ObjectName;

/// A slice is not the one behind another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{slice} does not follow {previous}: {fault}; what is recorded is unbroken up to {previous} only")]
pub struct BrokenLink {
    /// The slice that does not follow.
    pub slice: ObjectName,
    /// The one that it should have followed.
    pub previous: ObjectName,
    /// What keeps it from that.
    pub fault: LinkFault,
}

/// What keeps a slice from being the next one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// It is of something else.
    #[error("it is a slice of timeline {found}, not of {expected}")]
    Timeline {
        /// The timeline that it is of.
        found: TimelineId,
        /// The one before it.
        expected: TimelineId,
    },
    /// One between them is missing, or they are the wrong way round.
    #[error("it is number {found} of the timeline, and number {expected} is wanted")]
    Sequence {
        /// Its number.
        found: u64,
        /// What follows the number of the one before.
        expected: u64,
    },
    /// It was written behind another slice.
    #[error("it was written to follow {}", found.map_or_else(|| "none".to_owned(), |name| name.to_string()))]
    Previous {
        /// The slice that it says to follow.
        found: Option<ObjectName>,
    },
    /// It does not begin where the one before ends.
    #[error("it begins after the entry at {found}, and the one before it ends with that at {expected}")]
    After {
        /// The entry that it says to follow.
        found: OplogPosition,
        /// The last entry of the slice before.
        expected: OplogPosition,
    },
}

impl Slice {
    /// Checks that this is the slice behind another one.
    ///
    /// # Errors
    /// [`BrokenLink`] tells what keeps it from that.
    pub fn follows(&self, previous: &SliceHeader, previous_name: &ObjectName) -> Result<(), BrokenLink> {
        self.header().follows(&self.name(), previous, previous_name)
    }
}

impl SliceHeader {
    /// Checks that the slice `name`, whose header this is, is the one behind another.
    ///
    /// # Errors
    /// [`BrokenLink`] tells what keeps it from that.
    pub fn follows(
        &self,
        name: &ObjectName,
        previous: &Self,
        previous_name: &ObjectName,
    ) -> Result<(), BrokenLink> {
        let wanted = SliceLink::behind(previous, *previous_name);
        let fault = if self.timeline_id != previous.timeline_id {
            LinkFault::Timeline { found: self.timeline_id, expected: previous.timeline_id }
        } else if self.sequence != wanted.sequence {
            LinkFault::Sequence { found: self.sequence, expected: wanted.sequence }
        } else if self.previous != wanted.previous {
            LinkFault::Previous { found: self.previous }
        } else if self.after != wanted.after {
            LinkFault::After { found: self.after, expected: wanted.after }
        } else {
            return Ok(());
        };
        Err(BrokenLink { slice: *name, previous: *previous_name, fault })
    }
}
