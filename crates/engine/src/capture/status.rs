//! How a capture is, for whoever looks.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use model::{OplogPosition, WallTime};
use serde::Serialize;
use serde_json::Value;

/// What one capture shows of itself; the catalog keeps it beside the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    /// The last entry that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<OplogPosition>,
    /// When that entry was read, by this machine's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_at: Option<WallTime>,
    /// Slices that wait on local disk because the vault is away.
    pub(super) waiting_slices: usize,
    /// Seconds of operations that the deployment's oplog holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oplog_window_seconds: Option<u32>,
    /// Seconds of operations that are in the oplog and not captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) behind_seconds: Option<u32>,
    /// What may become a gap if nobody does anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// Part of the warning: how much of the oplog's window is used up.
    #[serde(skip)]
    pub(super) oplog_warning: Option<String>,
    /// Part of the warning: what waits for the vault, and why.
    #[serde(skip)]
    pub(super) vault_warning: Option<String>,
    /// Why nothing is captured at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// The error is that what was read could not be kept.
    #[serde(skip)]
    pub(super) is_unkept: bool,
}

/// The same, shared between the one who follows and the one who renews the lease.
#[derive(Debug, Default)]
pub(super) struct Status {
    shown: Mutex<Shown>,
    unwanted: AtomicBool,
}

impl Status {
    /// Changes what is shown.
    pub(super) fn update(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// For the catalog.
    pub(super) fn to_json(&self) -> Value {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let warnings: Vec<String> =
            shown.oplog_warning.take().into_iter().chain(shown.vault_warning.take()).collect();
        shown.warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        serde_json::to_value(shown).unwrap_or_default()
    }

    /// Continuous backup was switched off.
    pub(super) fn unwanted(&self) {
        self.unwanted.store(true, Ordering::SeqCst);
    }

    /// Whether it was.
    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::SeqCst)
    }
}

/// Half of the oplog window: behind by more, and there is reason to worry.
pub(super) fn warning(window_seconds: u32, behind_seconds: u32) -> Option<String> {
    (window_seconds > 0 && behind_seconds > window_seconds / 2).then(|| {
        format!(
            "capture is {behind_seconds} s behind, and the oplog holds {window_seconds} s: when it has rolled over what \
             was not captured, the timeline ends; find out what holds capture up, or make the oplog larger"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_oplog_window_is_the_time_to_warn() {
        assert_eq!(warning(100, 50), None);
        assert!(warning(100, 51).is_some());
        assert_eq!(warning(0, 0), None);
    }
}
