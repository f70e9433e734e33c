//! What stops a capture, by what is done about it.

use model::timeline::TimelineEnd;

use super::spool::SpoolError;
use crate::lease::{JobError, with_causes};

/// Why the oplog is not followed at present.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaptureError {
    /// The record cannot go on: what comes is on another timeline.
    #[error("the timeline ends: {detail}")]
    Ends {
        /// Why.
        end: TimelineEnd,
        /// The same with what was seen.
        detail: String,
    },
    /// A slice that waited on local disk is gone. What it had is read from the deployment again.
    #[error("{slice} is not in the spool any more")]
    SpoolGone {
        /// Which one.
        slice: vault::ObjectName,
    },
    /// The lease is somebody else's.
    #[error("somebody else captures the deployment")]
    Lost,
    /// It is tried again, from the last entry that was read.
    #[error("the deployment cannot be followed")]
    Deployment(#[source] mongo::Error),
    /// It is tried again; what was read is kept.
    #[error("a slice cannot be stored")]
    Vault(#[source] vault::Error),
    /// As above.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// It is tried again.
    #[error("the catalog does not answer")]
    Catalog(#[source] catalog::Error),
    /// It is tried again.
    #[error(transparent)]
    Other(#[from] JobError),
}

impl CaptureError {
    /// Whether entries were read and could not be kept.
    pub(super) fn is_unkept(&self) -> bool {
        matches!(self, Self::Vault(_) | Self::Spool(_))
    }

    /// The message with all that it came from.
    pub(super) fn full_text(&self) -> String {
        with_causes(self)
    }
}

impl From<catalog::Error> for CaptureError {
    fn from(error: catalog::Error) -> Self {
        match error {
            catalog::Error::LeaseLost { .. } => Self::Lost,
            other => Self::Catalog(other),
        }
    }
}

impl From<mongo::Error> for CaptureError {
    fn from(error: mongo::Error) -> Self {
        let detail = error.to_string();
        match error {
            mongo::Error::RolledOver { .. } => Self::Ends { end: TimelineEnd::RolledOver, detail },
            mongo::Error::RolledBack { .. } => Self::Ends { end: TimelineEnd::RolledBack, detail },
            other => Self::Deployment(other),
        }
    }
}
